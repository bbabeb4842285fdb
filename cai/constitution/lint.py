"""What looks unwise in a constitution that parses, as far as its text alone can tell; cai/judge/trial.py asks a
judge as well."""

import re
from collections.abc import Callable, Iterable
from itertools import combinations

from cai.constitution.records import Constitution
from cai.core.textstats import words

Warnings = list[tuple[int, str]]  # (line, what looks unwise)

# Words above which a field is called long. A judge reads the standards beside a conversation and an answer.
WORDS = {"critique": 120, "revise": 120, "prefer": 60, "against": 60, "never": 60}
ALIKE = 0.8  # share of common words (Jaccard) above which two standards say almost the same


def warnings(constitution: Constitution, *, by_words: bool = True) -> Warnings:
    """Everything that the text alone shows. by_words: judge lengths by words, for want of a tokenizer."""
    noted: Warnings = []
    for p in constitution.principles:
        for field, most in WORDS.items() if by_words else ():
            if (count := words(getattr(p, field))) > most:
                advice = "models read short principles better"
                if field in ("prefer", "against", "never"):
                    advice = "a small model reads only short standards well"
                noted.append((p.line, f'"{p.name}": {field} has {count} words; {advice}'))
        if constitution.form == "full" and p.prefer and not p.prefer.startswith("Choose"):
            noted.append((p.line, f'"{p.name}": Prefer does not begin with "Choose", as the judging prompts expect'))
    for p, q in combinations(constitution.principles, 2):
        if max(_jaccard(p.prefer, q.prefer), _jaccard(p.never, q.never)) > ALIKE:
            noted.append((q.line, f'"{q.name}" says almost the same as "{p.name}" (line {p.line})'))
    return sorted(noted + _without_against(constitution) + _without_order(constitution))


def _without_order(constitution: Constitution) -> Warnings:
    """Priorities that say nothing, and limits that are no limits."""
    ranked = [p for p in constitution.principles if p.priority is not None]
    noted = [
        (
            p.line,
            f'"{p.name}": Never says what an answer must not do, as "Give instructions for a weapon"; this negates it',
        )
        for p in constitution.principles
        if re.match(r"(?:do not|don't|never|no)\b", p.never, re.IGNORECASE)
    ]
    if ranked and not constitution.order.levels:
        noted.append((ranked[0].line, "every principle has the same Priority: it orders nothing"))
    return noted


def _without_against(constitution: Constitution) -> Warnings:
    asked = [p for p in constitution.principles if p.prefer]
    without = [p for p in asked if not p.against]
    if not 0 < len(without) < len(asked):
        return []
    names = ", ".join(f'"{p.name}"' for p in without)
    return [(without[0].line, f'no "Against:" for {names}, but for the others: the method contrast treats them unlike')]


def long_for_model(constitution: Constitution, count: Callable[[str], int], room: int) -> Warnings:
    """Fields that leave too little of `room` (tokens of one question) to the conversation and the answer.

    count: the number of tokens of a text.
    """
    return [
        (p.line, f'"{p.name}": {field} takes {tokens} of the {room} tokens that a question may have, over a quarter')
        for p in constitution.principles
        for field in WORDS
        if (text := getattr(p, field)) and (tokens := count(text)) > room / 4
    ]


def unknown_subsets(constitution: Constitution, subsets: Iterable[str]) -> Warnings:
    """Names in `Applies to:` that none of the data's `subsets` has: a slip of the pen switches a principle off."""
    known = sorted(set(subsets))
    return [
        (p.line, f'"{p.name}" applies to "{name}", which no pair belongs to (the pairs have: {", ".join(known)})')
        for p in constitution.principles
        for name in p.applies_to
        if name not in known
    ]


def _jaccard(a: str, b: str) -> float:
    left, right = (set(re.findall(r"\w+", text.casefold())) for text in (a, b))
    return len(left & right) / max(1, len(left | right))


def describe(constitution: Constitution) -> str:
    """What the parser understood, for a person to check."""
    columns = ("critique", "revise", "prefer", "against", "why")
    width = max(9, *(min(40, len(p.name)) for p in constitution.principles))
    rows = [f"{'principle':{width}}  weight  {'  '.join(columns)}  applies to"]
    for p in constitution.principles:
        counts = "  ".join(f"{words(getattr(p, c)) or '-':>{len(c)}}" for c in columns)
        checked = f"; checked by a program: {p.check}" if p.check else ""
        checked += f"; priority {p.priority}" if p.priority else f"; a limit: {p.never}" if p.never else ""
        rows.append(
            f"{short(p.name):{width}}  {p.weight:6g}  {counts}  {', '.join(p.applies_to) or 'everything'}{checked}"
        )
    count = len(constitution.principles)
    head = [
        constitution.title or "(no title)",
        f"{constitution.path}: {constitution.form} form, {count} principle{'s' * (count != 1)}",
        "",
    ]
    return "\n".join([*head, "(words in each field)", *rows])


def short(name: str) -> str:
    """A name cut to the width of a table's column: in the short form it is a whole sentence."""
    return name if len(name) <= 40 else name[:37] + "..."
