"""Next-token pretraining of a small Llama from random weights, by transformers' Trainer (Radford et al. 2019).

1. Texts are cut into documents, of which a share is held out (cai/data/texts.py), and a tokenizer is trained on the
   others (cai/models/vocabulary.py).
2. Documents, in an order drawn by hash, are packed into blocks of `context` tokens (packing.py).
3. AdamW, a linear warmup, then a cosine to a tenth of the rate (Hoffmann et al. 2022); as in GPT-2 the weights start
   normal with deviation 0.02, and embeddings are tied.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.config.load import Arm
from cai.config.pretrain import Pretrain
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.owned import unfinished
from cai.core.progress import quiet
from cai.core.records import write_jsonl
from cai.core.store import Artifact, version
from cai.data.texts import read_corpus, text_digest
from cai.models.loading import save
from cai.models.references import Dtype
from cai.models.vocabulary import DOCUMENT_END, train_tokenizer
from cai.models.workbench import Workbench
from cai.train.packing import learnt_tokens, packed
from cai.train.shares import split

if TYPE_CHECKING:
    from transformers import LlamaConfig

LOOKS = 8  # times in a training that held-out text is read, and a checkpoint written


def pretrained(stage: Callable[..., Artifact], arm: Arm, dtype: Dtype) -> Artifact | None:
    """The start model of an arm, where it is made here. Raises UserError for a text that is not there."""
    settings = arm.pretrain
    if settings is None:
        return None
    contents = [text_digest(text) for text in settings.text]
    return stage(pretrain, settings=settings, contents=contents, dtype=dtype, seed=arm.seed)


@version(1)
def pretrain(
    out: Path, work: Workbench, *, settings: Pretrain, contents: Sequence[str], dtype: Dtype, seed: int
) -> None:  # fmt: skip
    """model/ (whole weights, float32), curves.json, counts.json and held_out.jsonl, the documents of it.

    contents: the digest of each text, so that an edited file is read anew. dtype: in which is computed. A killed run
    goes on from its last checkpoint, to the same weights on CPU. Raises UserError as `read_corpus` and
    `train_tokenizer` do, and where the text does not fill one block.
    """
    import torch
    from transformers import LlamaForCausalLM

    quiet()
    work.release()
    corpus = read_corpus(settings.text, settings.held_out, seed)
    documents = sorted(corpus.train, key=lambda document: uniform("pack", seed, document.id))
    tokenizer = train_tokenizer((document.text for document in documents), settings.vocabulary, settings.context)
    blocks, held_out = (packed(tokenizer, side, settings.context) for side in (documents, corpus.held_out))
    if (learnt := learnt_tokens(blocks)) < settings.context - 1:
        problem = f"a block is {settings.context} tokens, and the text to learn from has {learnt + 1}"
        raise UserError(problem, "pretrain.context", "lower it, or give more text")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LlamaForCausalLM(architecture(settings, tokenizer))
    network.generation_config.eos_token_id = network.config.eos_token_id
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    counts = {
        **corpus.counts, "documents held out": len(corpus.held_out), "tokens learnt from, an epoch": learnt,
        "tokens held out": learnt_tokens(held_out), "blocks": len(blocks), "parameters": network.num_parameters(),
    }  # fmt: skip
    history = fit(
        out, network, blocks, held_out, training_arguments(work, out, settings, len(blocks), dtype, seed)
    )  # fmt: skip
    (out / "curves.json").write_text(json.dumps(_curves(history)))
    (out / "counts.json").write_text(json.dumps(counts, indent=1))
    write_jsonl(out / "held_out.jsonl", corpus.held_out)
    save(network, tokenizer, out / "model")


def architecture(settings: Pretrain, tokenizer: Any) -> "LlamaConfig":
    """A Llama (Touvron et al. 2023) whose MLP is as wide as has the weights of one of 4 x width without a gate."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=settings.vocabulary, hidden_size=settings.width, num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads, num_key_value_heads=settings.heads, tie_word_embeddings=True,
        intermediate_size=inner(settings.width), max_position_embeddings=settings.context,
        bos_token_id=None, eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(DOCUMENT_END)],
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def inner(width: int) -> int:
    """8/3 of the width (Shazeer 2020), in whole eights."""
    return 8 * math.ceil(width / 3)


# Training -------------------------------------------------------------------------------------------------------------


def training_arguments(
    work: Workbench, out: Path, settings: Pretrain, blocks: int, dtype: Dtype, seed: int
) -> dict[str, Any]:  # fmt: skip
    """For `TrainingArguments`: all but the folder of the checkpoints. blocks: how many there are to learn from."""
    from cai.train.common import trainer_arguments

    rows, times = split(settings.batch_size, work.runtime, "pretrain.batch_size", 1)
    steps = max(1, math.ceil(blocks / settings.batch_size * settings.epochs))
    between = max(1, steps // LOOKS)
    return trainer_arguments(work, out, dtype, seed) | {
        "max_steps": steps,
        "per_device_train_batch_size": rows,
        "per_device_eval_batch_size": rows,
        "gradient_accumulation_steps": times,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "adam_beta2": 0.95,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "warmup_steps": math.ceil(steps * settings.warmup),
        "gradient_checkpointing": work.runtime.checkpointing,
        "prediction_loss_only": True,
        "eval_strategy": "steps",
        "eval_steps": between,
        "save_strategy": "steps",
        "save_steps": between,
        "save_total_limit": 2,  # the last may be half written when the run is killed
    }


def fit(out: Path, network: Any, blocks: Any, held_out: Any, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Train the network in place, from the last checkpoint if there is one. Returns the trainer's log."""
    from transformers import TrainingArguments, default_data_collator

    from cai.train.checkpoints import last_checkpoint
    from cai.train.common import quiet as on_our_bar
    from cai.train.sealed_trainer import SealedTrainer

    with unfinished(out) as folder:
        checkpoint = last_checkpoint(folder)
        given = TrainingArguments(**arguments, output_dir=str(folder), eval_on_start=checkpoint is None)
        trainer = SealedTrainer(
            model=network, args=given, data_collator=default_data_collator, train_dataset=blocks, eval_dataset=held_out
        )
        on_our_bar(trainer, "pretrain", section="pretrain").train(str(checkpoint) if checkpoint else None)
    return trainer.state.log_history


def _curves(history: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Two tables, for held-out text is read less often: "learnt" and "held_out", of losses in nats a token."""
    from cai.train.common import curves

    return {
        "learnt": curves(list(history), {"loss": "loss", "learning_rate": "learning_rate"}),
        "held_out": curves(list(history), {"eval_loss": "loss"}),
    }
