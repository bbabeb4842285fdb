"""ICAI's annotated pairs (version 2.0), as Feedback Forensics shows them: pairs, who preferred which answer, and which
one each principle prefers. Reading them as pairs that people judged is cai/data/rows/versus.py.

    {"metadata": {"version", "default_annotator", ...},
     "annotators": {id: {"name", "description", "type": "unknown" | "human" | "principle" | ...}},
     "comparisons": [{"id", "prompt", "response_a": {"text"}, "response_b": {"text"},
                      "annotations": {annotator: {"pref": "a" | "b" | null}}}]}

A conversation of several turns is written as a transcript, for a prompt is one text there; of one turn, as it is.
"""

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from cai.core.errors import UserError
from cai.core.odds import side
from cai.core.records import Chat, Pair, SetAside
from cai.core.templates import transcript
from cai.data.rows.files import read_raw
from cai.data.rows.values import mapping
from cai.data.votes import why_so_few

VERSION = "2.0"
PRINCIPLE = "principle"


def annotated_pairs(
    name: str, pairs: Sequence[Pair], p_a: Sequence[float], votes: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """name: of the data, and of who labelled it. p_a: P(a better). votes: a principle's text -> its log-odds of each
    pair; 0 and NaN are written as no preference."""
    default = annotator_id(f"labels of {name}")
    annotators = {default: {"name": name, "description": f"the labels of {name}", "type": "unknown"}}
    annotators |= {annotator_id(text): {"description": text, "type": PRINCIPLE} for text in votes}
    comparisons = [
        {
            "id": pair.id,
            "prompt": _prompt(pair.prompt.messages),
            "response_a": {"text": pair.a},
            "response_b": {"text": pair.b},
            "annotations": {default: _preferred(side(p, 0.5))}
            | {annotator_id(text): _preferred(side(odds[at])) for text, odds in votes.items()},
        }
        for at, (pair, p) in enumerate(zip(pairs, p_a, strict=True))
    ]
    metadata = {"version": VERSION, "dataset_name": name, "default_annotator": default}
    metadata["description"] = "Pairs with the votes of principles, by cai"
    return {"metadata": metadata, "annotators": annotators, "comparisons": comparisons}


def annotator_id(text: str) -> str:
    """A name of eight hex digits, as the format has them; by another hash than ICAI's own, whose names are no key."""
    return sha256(text.encode()).hexdigest()[:8]


def principle_votes(path: Path) -> tuple[list[str], dict[str, dict[str, float]]]:
    """(the principles that annotate a file, comparison -> principle -> 1 for a, -1 for b, 0 for neither). A comparison
    is known by its prompt and answers, which are all that a pair keeps of it: `comparison_key`.

    Raises UserError for a file that is none of these, or that no principle annotates."""
    read = list(read_raw(path))
    rows = [raw.value for raw in read if isinstance(raw.value, dict) and "_icai" in raw.value]
    known = mapping(mapping(rows[0]["_icai"]).get("annotators")) if rows else {}
    texts = {
        name: str(who.get("description") or who.get("name") or name)
        for name, who in known.items()
        if isinstance(who, dict) and who.get("type") == PRINCIPLE
    }
    if not texts:
        remedy = "give annotated pairs (JSON with `annotators` and `comparisons`), or leave --annotated-votes out"
        aside = [SetAside(raw.where, raw.fault, raw.text) for raw in read if raw.fault]
        problem = "no principle annotates the comparisons of this file" + why_so_few(aside)
        raise UserError(problem, str(path), remedy)
    votes = {}
    for row in rows:
        given = mapping(row.get("annotations"))
        words = {text: _word(given.get(name)) for name, text in texts.items()}
        texts_of = [_text(row, end) for end in "ab"]
        votes[comparison_key(str(row.get("prompt")), *texts_of)] = {t: _side(word) for t, word in words.items()}
        votes[comparison_key(str(row.get("prompt")), *reversed(texts_of))] = {t: -_side(w) for t, w in words.items()}
    return list(dict.fromkeys(texts.values())), votes


def comparison_key(prompt: str, a: str, b: str) -> str:
    return json.dumps([" ".join(text.split()) for text in (prompt, a, b)])


def key_of_pair(pair: Pair) -> str:
    """As `comparison_key` of the row that the pair was read from."""
    return comparison_key(_prompt(pair.prompt.messages), pair.a, pair.b)


def _prompt(messages: Chat) -> str:
    return messages[0].content if len(messages) == 1 else transcript(messages)


def _text(row: Mapping[str, Any], end: str) -> str:
    answer = row.get(f"response_{end}", row.get(f"text_{end}"))
    return str(answer.get("text") if isinstance(answer, Mapping) else answer)


def _word(annotation: Any) -> str:
    word = annotation.get("pref") if isinstance(annotation, Mapping) else annotation
    return str(word or "").lower().removeprefix("text_")


def _side(word: str) -> float:
    return {"a": 1.0, "b": -1.0}.get(word, 0.0)


def _preferred(which: int) -> dict[str, Any]:
    if which == 0 or math.isnan(which):
        return {"pref": None, "no_pref_reason": "not_applicable"}
    return {"pref": "a" if which > 0 else "b"}
