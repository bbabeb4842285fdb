"""One way to score: a batch equals one by one. Also the tiny tokenizer and models of the trainers' tests."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from cai.core.records import Chat, Message
from cai.models.chat import TEXTS, encode, encoded
from cai.models.score import render_all_scored, render_scored, score

torch.set_num_threads(1)  # tiny matrices: a second thread only waits

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>"]  # ids 0 to 3
WORDS = ["\n", "system", "user", "assistant", "yes", "no", "hello", "stop", *(f"w{i}" for i in range(12))]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word a token; "yes" is 8, "no" 9, the end of a turn 2, a line break 4."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="<|unk|>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    )
    core.add_special_tokens(SPECIAL)
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=CHATML, **names)


def tiny_config(**options: object) -> LlamaConfig:
    vocabulary = len(SPECIAL + WORDS)
    return LlamaConfig(vocab_size=vocabulary, pad_token_id=0, bos_token_id=1, eos_token_id=2, **SIZES, **options)


def tiny_policy(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(tiny_config(tie_word_embeddings=True))


def tiny_reward_model(seed: int = 0) -> LlamaForSequenceClassification:
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(tiny_config(num_labels=1, initializer_range=0.5))


def chat(answer: str) -> Chat:
    return (Message("user", "hello"), Message("assistant", answer))


CHATS = [chat(text) for text in ("yes", "no " * 9 + "yes", "w1 w2 w3", "stop", "w4 " * 5, "no no")]


def test_the_last_token_scored_is_the_templates_last():
    assert render_scored(tiny_tokenizer(), chat("yes")) == [1, 6, 4, 10, 2, 4, 1, 7, 4, 8, 2, 4]


def test_a_conversation_without_an_answer_cannot_be_scored():
    with pytest.raises(AssertionError, match="assistant"):
        render_scored(tiny_tokenizer(), (Message("user", "hello"),))


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_a_batch_equals_one_by_one_in_the_order_given(batch_tokens):
    model, tokenizer = tiny_reward_model(), tiny_tokenizer()
    alone = [model.eval()(input_ids=torch.tensor([render_scored(tokenizer, one)])).logits.item() for one in CHATS]
    assert max(alone) - min(alone) > 0.1, "the rewards must differ for the order to be tested"
    assert score(model, tokenizer, CHATS, max_length=99, batch_tokens=batch_tokens) == pytest.approx(alone, abs=1e-4)


def test_no_batch_exceeds_the_tokens_allowed():
    model, sizes = tiny_reward_model(), []
    model.register_forward_pre_hook(lambda _, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True)
    # Lengths 12, 21, 14, 12, 16, 13: longest first, 2 x 21 = 42 is too many, 3 x 16 = 48 is too many.
    score(model, tiny_tokenizer(), CHATS, max_length=99, batch_tokens=40)
    assert sizes == [21, 32, 39]


def test_too_long_is_none_never_cut():
    model, tokenizer = tiny_reward_model(), tiny_tokenizer()
    # All but the answer is 11 tokens: answers of up to 3 fit into 14.
    rewards = score(model, tokenizer, CHATS, max_length=14, batch_tokens=100)
    assert [reward is None for reward in rewards] == [False, True, False, False, True, False]
    assert score(model, tokenizer, [], max_length=14, batch_tokens=100) == []


def test_progress_counts_every_scored_chat_and_the_mode_is_kept():
    model, steps = tiny_reward_model().train(), []
    score(model, tiny_tokenizer(), CHATS, max_length=99, batch_tokens=40, progress=steps.append)
    assert sum(steps) == 6 and len(steps) > 1
    assert model.training


def test_padding_with_the_end_of_turn_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(AssertionError, match="differ from eos"):
        score(tiny_reward_model(), tokenizer, CHATS, max_length=99, batch_tokens=100)


def test_the_models_own_idea_of_padding_does_not_matter():
    """A model whose config pads with another token reads the same position."""
    model, tokenizer = tiny_reward_model(), tiny_tokenizer()
    right = score(model, tokenizer, CHATS, max_length=99, batch_tokens=10_000)
    model.config.pad_token_id = 4  # the line break: every conversation ends with it
    assert score(model, tokenizer, CHATS, max_length=99, batch_tokens=10_000) == right


def test_many_conversations_are_tokenised_as_each_alone():
    """More than are tokenised at once, and one of which nothing is left."""
    tokenizer, texts = tiny_tokenizer(), [f"w{number % 7} no" * (number % 3) for number in range(2 * TEXTS + 1)]
    assert list(encoded(tokenizer, iter(texts))) == [encode(tokenizer, text) for text in texts]
    assert list(render_all_scored(tokenizer, CHATS)) == [render_scored(tokenizer, one) for one in CHATS]
