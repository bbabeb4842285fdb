"""Questions with answers that are known to be true and answers that are known to be false, as TruthfulQA has them
(Lin et al. 2022, https://github.com/sylinrl/TruthfulQA): each true answer is better than each false one.

    the CSV                  Category, Question, Best Answer, Correct Answers and Incorrect Answers (parted by "; ")
    the hub's generation     category, question, best_answer, correct_answers, incorrect_answers (lists)
    the hub's mc             question, mc1_targets, mc2_targets: {choices: [...], labels: [1, 0, ...]}
    mc_task.json             question, mc1_targets, mc2_targets: {answer: 1, answer: 0, ...}

The best answer comes first; mc1 is part of mc2, and its pairs are counted once. A prompt's subset is its category.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cai.core.errors import UserError
from cai.core.records import RaterVote
from cai.data.rows.prompts import about, asked_of
from cai.data.rows.records import FileRow, Judged
from cai.data.rows.values import MEND, given, number

_LISTS = ("correct_answers", "incorrect_answers")
_TARGETS = ("mc1_targets", "mc2_targets")


def _named(row: Mapping) -> dict[str, Any]:
    """The row with the CSV's names spelt as the hub spells them."""
    return {str(name).strip().lower().replace(" ", "_"): value for name, value in row.items()}


def reads(row: Mapping) -> bool:
    names = _named(row).keys()
    return names >= {*_LISTS} or bool(names & {*_TARGETS})


def read(row: Mapping) -> FileRow:
    """All true answers against all false ones. Raises UserError where one kind is missing, or a label is none."""
    row = _named(row)
    if any(name in row for name in _LISTS):
        best = [row["best_answer"]] if given(row.get("best_answer")) else []
        right, wrong = _texts([*best, *_listed(row, _LISTS[0])]), _texts(_listed(row, _LISTS[1]))
    else:
        marked = [answer for name in _TARGETS if given(row.get(name)) for answer in _targets(row[name], name)]
        right, wrong = (_texts(text for text, label in marked if label == wanted) for wanted in (1, 0))
    both = [text for text in right if text in wrong]
    right, wrong = ([text for text in texts if text not in both] for texts in (right, wrong))
    for texts, kind in ((right, "true"), (wrong, "false")):
        if not texts:
            raise UserError(f"no answer that is {kind} alone", "", MEND)
    named = about(row, named=False)
    category = row.get("category")
    if isinstance(category, str) and category.strip() and named["subset"] == "all":
        named["subset"] = category.strip()
    return FileRow(
        form="TruthfulQA",
        messages=asked_of(row),
        judged=tuple(Judged(a=a, b=b, votes=(RaterVote("", 1.0),)) for a in right for b in wrong),
        aside=tuple(f'"{text}" stands among the true and the false answers' for text in both),
        **named,
    )


def _listed(row: Mapping, name: str) -> list[Any]:
    """A list, or texts in one cell, parted by semicolons."""
    value = row.get(name)
    if isinstance(value, str):
        return value.split(";")
    if not isinstance(value, list):
        raise UserError(f"`{name}` must be a list of texts, or texts parted by semicolons", "", MEND)
    return value


def _targets(value: Any, name: str) -> Iterator[tuple[Any, int]]:
    """(answer, 1 for a true one and 0 for a false one)."""
    if isinstance(value, Mapping) and isinstance(value.get("choices"), list) and isinstance(value.get("labels"), list):
        choices, labels = value["choices"], value["labels"]
    elif isinstance(value, Mapping):
        choices, labels = list(value), list(value.values())
    else:
        raise UserError(f"`{name}` must have `choices` and `labels`, or a label for each answer", "", MEND)
    if len(choices) != len(labels):
        raise UserError(f"`{name}` has {len(choices)} choices and {len(labels)} labels", "", MEND)
    for choice, label in zip(choices, labels, strict=True):
        read = number(label)
        if read not in (0, 1):
            raise UserError(f"each label of `{name}` must be 1 (true) or 0", "", MEND)
        yield choice, int(read)


def _texts(values: Iterable[Any]) -> list[str]:
    """Each once, in their order, without white space around it."""
    texts = []
    for value in values:
        if not isinstance(value, str):
            raise UserError("each answer must be a text", "", MEND)
        texts.append(value.strip())
    return list(dict.fromkeys(text for text in texts if text))
