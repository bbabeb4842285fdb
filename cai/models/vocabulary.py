"""A tokenizer of one's own: byte-level BPE, trained on the text that a model is then pretrained on (`pretrain:`).

Every byte is a token, so any text is read and comes back as it was. The four special tokens stand for what no text is:
filling, the end of a document, the opening and the end of a turn. Each has a number of its own, so that to mask the
filling masks no end; and a text that spells one of them out is read as letters (`document_ids`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cai.core.errors import UserError
from cai.models.chat_templates import CHATML

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, DOCUMENT_END, TURN, TURN_END = "<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (PAD, DOCUMENT_END, TURN, TURN_END)


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> "PreTrainedTokenizerFast":
    """A tokenizer of exactly so many tokens, the special ones first; for a model that reads `context` of them.

    Pairs that stand but once are not merged. Raises UserError where the texts give fewer tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core: Any = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    if (made := core.get_vocab_size()) < vocabulary:
        problem = f"the training text gives {made} tokens, and {vocabulary} are asked for"
        raise UserError(problem, "pretrain.vocabulary", f"write {made} or less, or give more text")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=TURN_END, pad_token=PAD, model_max_length=context,
        additional_special_tokens=[DOCUMENT_END, TURN],
    )  # fmt: skip
    tokenizer.chat_template = CHATML
    return tokenizer


def document_ids(tokenizer: Any, text: str) -> list[int]:
    """A document as it is learnt: its tokens, and the one that ends it. No text in it is read as a special token."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, truncation=False, verbose=False)
    return [*ids["input_ids"], tokenizer.convert_tokens_to_ids(DOCUMENT_END)]
