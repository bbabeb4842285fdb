"""`Check:` in plain words -> which checker, and with what: how a principle says that a program decides.

    Check: arithmetic                    Check: json with keys name, age      Check: language English
    Check: units                         Check: at most 60 words              Check: python code runs
    Check: mymodule:function             (of the user's own: only where `judge.checkers` names it)

What each of them looks at stands in cai/judge/checkers/, one file a checker. This file runs nothing: a constitution is
text that may come from strangers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cai.core.errors import suggest

LANGUAGES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "sv": "Swedish", "pl": "Polish", "tr": "Turkish", "ru": "Russian", "el": "Greek", "ar": "Arabic",
    "he": "Hebrew", "hi": "Hindi", "th": "Thai", "ko": "Korean", "ja": "Japanese", "zh": "Chinese",
}  # fmt: skip
FUNCTION = "function"  # the checker's name where the user gives a function

_COUNTED = r"(?P<unit>word|sentence|character)s?"
_FORMS = (
    ("arithmetic", r"(?P<exact>exact )?arithmetic"),
    ("units", r"units"),
    ("json", r"(?:valid )?json(?: with (?:the )?keys? (?P<keys>.+))?"),
    ("length", rf"at most (?P<most>\d+) {_COUNTED}"),
    ("length", rf"at least (?P<least>\d+) {_COUNTED}"),
    ("length", rf"between (?P<least>\d+) and (?P<most>\d+) {_COUNTED}"),
    ("language", r"language (?P<language>\w+)"),
    ("code", r"python code (?:runs|prints (?P<prints>.+))"),
    (FUNCTION, r"(?P<module>[a-z_]\w*(?:\.[a-z_]\w*)*):(?P<function>[a-z_]\w*)"),
)
EXAMPLES = (
    "arithmetic", "exact arithmetic", "units", "json", "json with keys name, age", "at most 60 words",
    "at least 2 sentences", "between 20 and 60 words", "language English", "python code runs", "python code prints 42",
    "mymodule:function",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """checker: the file in cai/judge/checkers/, or "function". arguments: by name, those that were given.

    runs: what must be allowed by name before it runs something (`judge.checkers`): "code", "mymodule:function"; "" for
    a checker that only reads.
    """

    text: str
    checker: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> str:
        return self.text if self.checker == FUNCTION else "code" if self.checker == "code" else ""


def parse_check(text: str) -> Check | tuple[str, str]:
    """The check that a text asks for; (problem, remedy) where it is none."""
    text = text.strip().removesuffix(".")
    for checker, form in _FORMS:
        if not (match := re.fullmatch(form, text, re.IGNORECASE | re.ASCII)):
            continue
        arguments = {name: value for name, value in match.groupdict().items() if value}
        if fault := _FAULTS.get(checker, lambda arguments: None)(arguments):
            return fault
        return Check(text, checker, arguments)
    near = suggest(text.casefold(), EXAMPLES)
    if not near.startswith("did you mean"):
        first = text.casefold().split()[0] if text.split() else ""
        near = next((f'did you mean "{form}"?' for form in EXAMPLES if first in form.split()), near)
    known = "known: " + ", ".join(EXAMPLES)
    return f'unknown check "{text}"', f"{near} ({known})" if near.startswith("did you mean") else known


def language_of(name: str) -> str | None:
    """The code of a language by its code or its English name."""
    names = {**{code: code for code in LANGUAGES}, **{word.casefold(): code for code, word in LANGUAGES.items()}}
    return names.get(name.casefold())


def keys_of(text: str) -> tuple[str, ...]:
    """`name, age and town` -> its three keys; a key with a comma or " and " in it cannot be asked for."""
    return tuple(key.strip().strip("\"'") for key in re.split(r",\s*(?:and\s+)?|\s+and\s+", text) if key.strip())


def _length_fault(arguments: Mapping[str, str]) -> tuple[str, str] | None:
    least, most = int(arguments.get("least", 1)), int(arguments.get("most", 10**6))
    if 1 <= least <= most <= 10**6:
        return None
    return "a length that no answer can have", "write a range from 1 on, such as at most 60 words"


def _language_fault(arguments: Mapping[str, str]) -> tuple[str, str] | None:
    if language_of(given := arguments["language"]):
        return None
    near = suggest(given.casefold(), [word.casefold() for word in LANGUAGES.values()])
    known = "known: " + ", ".join(f"{code} ({word})" for code, word in LANGUAGES.items())
    return f'unknown language "{given}"', f"{near} ({known})" if near.startswith("did you") else known


def _keys_fault(arguments: Mapping[str, str]) -> tuple[str, str] | None:
    if "keys" not in arguments or keys_of(arguments["keys"]):
        return None
    return "json with keys, and no key", "write json with keys name, age"


_FAULTS = {"length": _length_fault, "language": _language_fault, "json": _keys_fault}
