"""Plain counts of a text: refusal, repetition, length; what trivial baselines and collapse checks are made of."""

import re

# Openings by which assistants decline. A phrase list over-counts stories about refusals and misses polite detours; it
# is a baseline and a warning light, not a judge.
_REFUSAL = re.compile(
    r"\b(i(?:'|’)?m (?:really |very |so )?sorry,? (?:but|i)|i am (?:really |very |so )?sorry,? (?:but|i)"
    r"|(?:sorry|unfortunately),? (?:but )?i (?:can(?:no|')t|can’t|cannot|am unable|won(?:'|’)t)"
    r"|i (?:can(?:'|’)t|cannot|can not|won(?:'|’)t|will not|am not able to|(?:'|’)m not able to|am unable to)"
    r" (?:help|assist|provide|do that|do this|answer|support|create|write|generate|give|fulfil|comply|engage|discuss)"
    r"|i(?:'|’)m (?:unable|not able) to|i (?:must|have to) (?:decline|refuse)"
    r"|not (?:appropriate|able) to (?:provide|help|assist)"
    r"|against my (?:guidelines|programming|principles)|as an ai(?: language model)?,? i (?:can|do|am|must))",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether the text's first 300 characters hold a phrase of refusal."""
    return bool(_REFUSAL.search(text[:300]))


def words(text: str) -> int:
    return len(text.split())


def repetition(text: str, n: int = 4) -> float:
    """Share of word n-grams that repeat an earlier one: 0 for varied text, near 1 for a loop."""
    tokens = text.lower().split()
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
