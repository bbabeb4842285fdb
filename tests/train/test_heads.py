"""Where TRL's head is not the model's own nothing is trained: the log-probabilities would be another model's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import zoo
from datasets import Dataset
from transformers import ModernBertDecoderConfig, ModernBertDecoderForCausalLM
from trl import SFTConfig
from trl.trainer.utils import add_fused_lm_head

from cai.core.errors import UserError
from cai.train.heads import check_head
from cai.train.sft_trainer import AnswerTrainer


def fused(network: Any, of_head: float = 1.0, **args: Any) -> Any:
    add_fused_lm_head(network, temperature=of_head)
    return SimpleNamespace(
        model=network, args=SimpleNamespace(**args), is_fsdp_enabled=False, is_deepspeed_enabled=False
    )


def llama() -> Any:
    return zoo.network_of("llama", zoo.tokenizer_of("chatml"))


def modernbert() -> Any:
    """Whose head has a dense layer and a norm before the vocabulary."""
    torch.manual_seed(0)
    return ModernBertDecoderForCausalLM(
        ModernBertDecoderConfig(
            vocab_size=len(zoo.tokenizer_of("chatml")), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def test_heads_that_agree_are_let_pass_with_their_temperature() -> None:
    check_head(fused(llama()))
    check_head(fused(zoo.network_of("cohere", zoo.tokenizer_of("chatml"))))  # its logits are scaled
    check_head(fused(llama(), 0.7, temperature=0.7))
    with pytest.raises(UserError, match="nats a token"):
        check_head(fused(llama(), 0.7))


def test_a_head_that_does_more_is_refused_and_a_references_as_well() -> None:
    with pytest.raises(UserError, match="are not this model's") as refused:
        check_head(fused(modernbert()))
    assert refused.value.where == "policy.model"
    trainer = fused(llama())
    trainer.ref_model = fused(modernbert()).model
    with pytest.raises(UserError, match="are not this model's"):
        check_head(trainer)


def test_no_answers_are_learnt_by_such_a_head(tmp_path: Path) -> None:
    config = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_length=None)
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]}])
    tokenizer: Any = zoo.tokenizer_of("chatml")
    with pytest.raises(UserError, match="are not this model's"):
        AnswerTrainer(model=modernbert(), args=config, train_dataset=rows, processing_class=tokenizer)
    AnswerTrainer(model=llama(), args=config, train_dataset=rows, processing_class=tokenizer)
