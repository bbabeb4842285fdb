"""Plain counts of a text: preamble, repetition, length; what baselines and collapse checks are made of."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

# What a model says about its revising instead of, or before, the revision: an answer that says so was never meant for
# the person who asked. A phrase list again: "Here is an improved version" may also answer a request to improve a text.
_NEW = r"(?:new|revised|rewritten|re-?written|improved|updated|corrected|modified|reworded|rephrased|edited|better)"
_TEXT = r"(?:response|reply|answer|version|draft|message)"
_ASSENT = (
    r"(?:sure(?: thing)?|certainly|of course|absolutely|ok(?:ay)?|got it|no problem|understood"
    r"|thank(?:s| you)[^.!?\n]*)"
)
_ANNOUNCES = re.compile(
    rf"^\W*(?:{_ASSENT}[!,.:]\W*)*(?:"
    r"here(?:'s| is) (?:a|an|the|my|one) (?:rewrite|rewriting|revision|re-?write|response|reply)\b"
    rf"|(?:(?:the|my|a) )?{_NEW} {_TEXT}\W*(?::|\bis\b|\bcould be\b|\bwould be\b)"
    rf"|(?:{_TEXT}|assistant|revision|rewrite)\W{{0,3}}:"
    r")"
    rf"|\bhere(?:'s| is) (?:(?:a|an|the|my|one|your) )?(?:\w+,? ){{0,4}}?{_NEW},? (?:\w+,? ){{0,3}}?{_TEXT}\b"
    r"|\bi(?:'ve| have|'ll| will| would|'d)? (?:re-?(?:written|wrote|write)|revised?|re(?:phrased?|worded?))"
    r" (?:the|my|this|it)\b"
    r"|\b(?:rewrite|revision|criticism|critique|draft):|\bmake (?:this|my) response\b"
    r"|\b(?:this|the|your) (?:critique|criticism|reviewer|feedback)\b"
    r"|\b(?:my|the|assistant's) (?:previous|last|earlier|original|first|drafted|revised)"
    r" (?:response|reply|answer|draft)\b",
    re.IGNORECASE,
)
_ASSENTS = re.compile(rf"^\W*{_ASSENT}[!,.:]", re.IGNORECASE)
_AS_AN_AI = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:just |only |merely )?an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    re.IGNORECASE,
)
PREAMBLES = {"announces": _ANNOUNCES, "assents": _ASSENTS, "as_an_ai": _AS_AN_AI}


def preambles(text: str) -> tuple[str, ...]:
    """Which of PREAMBLES the text's first 300 characters hold.

    announces: talk of the revising itself ("Here is a revised response:", "the criticism", "my previous answer").
    assents:   "Sure!", "Certainly," as an opening. as_an_ai: "As an AI ...".
    """
    opening = " ".join(text[:300].replace("’", "'").replace("*", "").split())
    return tuple(name for name, pattern in PREAMBLES.items() if pattern.search(opening))


# Scripts that write no space between words. Of Chinese characters and kana each is counted as a word, as word
# processors do; of the letters of Thai, Lao, Khmer and Burmese about four make one. Korean has spaces.
_EACH = re.compile(r"([\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
_RUN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]{1,4}")
_SPACELESS = re.compile(f"{_EACH.pattern}|{_RUN.pattern}")
_MARKS = re.compile(r"[\u3001-\u3003\u3008-\u301f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\u2026]+")


def tokens(text: str) -> list[str]:
    """The words of a text: what stands between spaces and, in scripts that write none, about as many as there are."""
    if not _SPACELESS.search(text):
        return text.split()
    return _RUN.sub(r" \g<0> ", _EACH.sub(r" \1 ", _MARKS.sub(" ", text))).split()


def similarity(first: str, second: str) -> float:
    """Share of words that two texts have in common in the same order: 2 M / T of Ratcliff & Obershelp (1988), 0 to 1.

    M: words in matching blocks, longest block first; T: words of both. 1 for the same words.
    """
    return SequenceMatcher(None, tokens(first), tokens(second), autojunk=False).ratio()


def wordless(text: str) -> bool:
    """Whether an answer says nothing at all: what a policy gives that ends its turn at once."""
    return not text.strip()


def words(text: str) -> int:
    """How many words a text has, in any script."""
    return len(tokens(text))


def repetition(text: str, n: int = 4) -> float:
    """Share of word n-grams that repeat an earlier one: 0 for varied text, near 1 for a loop."""
    spoken = tokens(text.lower())
    grams = [tuple(spoken[i : i + n]) for i in range(len(spoken) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Distinct word n-grams of all texts together as a share of all their n-grams (Li et al. 2016, distinct-n).

    It falls with the amount of text, so compare like with like: as many answers, to the same prompts. 0 for no n-gram.
    """
    rows = [tokens(text.lower()) for text in texts]
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def whole_sentences(text: str) -> str:
    """A text that was cut off, up to the end of its last whole sentence or line; as it is where it has neither.

    A model that is fine-tuned on half a sentence learns to stop in the middle of one.
    """
    ends = [match.end() for match in re.finditer(r"(?<!\n\d)[.!?][\"'”’)*]*(?=\s)|[^\s:,;](?=\n)", text)]
    return text[: ends[-1]].strip() if ends else text
