"""A byte-level BPE tokenizer as GGUF has it: tokens and merges in order, what kind each token is, and a name for how
texts are split before they are merged.

A GGUF file holds no regular expression: readers know some two hundred ways to split by name. What has none of the names
below is refused. So are SentencePiece tokenizers: GGUF merges them by the scores of tokens, and a tokenizer.json has
ranks of pairs, which are not the same.
"""

import json
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

from cai.core.errors import UserError

# Of those names that split alike, the one that llama.cpp's own converter writes.
NAMES = ("llama-bpe", "qwen2", "tekken", "gpt-4o")
REMEDY = "serve the folder by another engine (python -m cai.models serve --engine vllm)"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """tokens, kinds: of every row of the embedding, in its order. merges: pairs with a space between, the first first.

    split: llama.cpp's name of the pre-tokenizer. ids: of those of bos, eos, pad and unk that there are. adds: whether
    bos and eos are put around a text. normalises: whether texts are normalised first (NFC), which GGUF cannot say.
    """

    tokens: tuple[str, ...]
    kinds: tuple[TokenType, ...]
    merges: tuple[str, ...]
    split: str
    ids: dict[str, int]
    adds: dict[str, bool]
    normalises: bool


def vocabulary_of(tokenizer: Any, size: int) -> Vocabulary:
    """size: rows of the model's embedding. Rows without a token get a name that no text has. Raises UserError for a
    tokenizer that GGUF cannot say."""
    where = str(tokenizer.name_or_path)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError("this tokenizer has no tokenizer.json", where, REMEDY)
    parts = json.loads(backend.to_str())
    model = parts["model"]
    split = split_of(parts["pre_tokenizer"])
    if model["type"] != "BPE" or model.get("byte_fallback") or split is None:
        kind = "SentencePiece" if model["type"] == "Unigram" or model.get("byte_fallback") else model["type"]
        problem = f"only byte-level BPE that splits texts in a way with a name can be written, not this {kind}"
        raise UserError(problem, where, REMEDY)
    normaliser = parts["normalizer"]
    if normaliser and normaliser["type"] != "NFC":
        problem = f"this tokenizer changes texts before it reads them ({normaliser['type']}), which GGUF cannot say"
        raise UserError(problem, where, REMEDY)
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    if max(by_id) >= size:
        problem = f"the tokenizer has the token {max(by_id)}, and the model knows {size}"
        raise UserError(problem, where, "resize the model's embedding to its tokenizer")
    added = tokenizer.added_tokens_decoder
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    named = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk")}
    if named["pad"] not in added:  # of ours (`loading._spare_token`): an ordinary token that nothing writes
        named["pad"] = None
    return Vocabulary(
        tokens=tuple(by_id.get(index, f"[PAD{index}]") for index in range(size)),
        kinds=tuple(_kind(index, by_id, added) for index in range(size)),
        merges=tuple(merges), split=split,
        ids={name: index for name, index in named.items() if index is not None},
        adds=_adds(tokenizer), normalises=bool(normaliser),
    )  # fmt: skip


def split_of(pre_tokenizer: Any) -> str | None:
    """llama.cpp's name for what a tokenizer.json says of splitting; None where it has none.

    gpt-2: by the expression that is part of ByteLevel. smollm: the same, with each digit apart. The others: by an
    expression of their own.
    """
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer and "pretokenizers" in pre_tokenizer else [pre_tokenizer]
    *before, last = steps
    if not last or last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if last["use_regex"]:
        digits = [{"type": "Digits", "individual_digits": True}]
        return "gpt-2" if not before else "smollm" if before == digits else None
    if len(before) != 1 or before[0]["type"] != "Split" or before[0]["behavior"] != "Isolated" or before[0]["invert"]:
        return None
    pattern = before[0]["pattern"].get("Regex")
    return next((name for name in NAMES if GGUF_PRE_TOKENIZER_SPLITS[name] == pattern), None)


def _kind(index: int, by_id: dict[int, str], added: Any) -> TokenType:
    if index not in by_id:
        return TokenType.UNUSED
    if index not in added:
        return TokenType.NORMAL
    return TokenType.CONTROL if added[index].special else TokenType.USER_DEFINED


def _adds(tokenizer: Any) -> dict[str, bool]:
    """Which of bos and eos a text is put between, where nobody says that it should not be."""
    bare, whole = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    start = whole.index(bare[0]) if bare else 0
    before, after = whole[:start], whole[start + len(bare) :]
    return {"bos": tokenizer.bos_token_id in before, "eos": tokenizer.eos_token_id in after}
