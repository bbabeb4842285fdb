"""Fuzzed: every reader of rows. Data of any form, label files, label logs, feedback logs."""

import gzip
import json
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (pip install -e '.[dev]')")

from hypothesis import strategies as st
from strategies import as_json, kept_or_refused, mutated_bytes, nested, run, scalars, values

from cai.config.sections import Data
from cai.core.records import Message, Pair, Prompt
from cai.data.annotated import principle_votes
from cai.data.comparisons import read_comparisons
from cai.data.demonstrations import read_demonstrations
from cai.data.feedback import AnswerChoice, Feedback, FeedbackLog, ShownAnswer
from cai.data.label_log import LabelLog, make_row
from cai.data.labels import read_labels
from cai.data.rows.files import read_raw
from cai.data.rows.reader import FileContents, read, read_file
from cai.data.texts import read_corpus
from cai.data.xstest import read_xstest

FOLDER = Path(tempfile.mkdtemp(prefix="cai-fuzz-"))
BOTH = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])
CASES = sorted((Path(__file__).parents[1] / "cases/data").iterdir())
ROWS: list[dict[str, Any]] = [
    {"prompt": "p", "a": "x", "b": "y", "human": 1, "votes": [1, 0.5], "raters": ["u", "v"]},
    {"prompt": "p", "a": "x", "b": "y", "human": 0.5, "subset": "s", "split": "test", "id": "i"},
    {"prompt": "p", "chosen": "x", "rejected": "y", "rater": "u", "score_chosen": 2, "score_rejected": 1},
    {"chosen": "\n\nHuman: p\n\nAssistant: x", "rejected": "\n\nHuman: p\n\nAssistant: y"},
    {"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}],
     "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "y"}]},
    {"prompt": "p", "answers": ["x", "y", "z"], "ranking": {"u": [1, 2, 3], "v": [2, 2, 1]}},
    {"prompt": "p", "answers": ["x", "y"], "ratings": [[1, 2], [3, None]], "scale": [1, 5]},
    {"prompt": "p", "answers": ["x", "y"], "thumbs": ["up", "down"], "rater": "u"},
    {"instruction": "p", "completions": [{"response": "x", "overall_score": 1}, {"response": "y", "overall_score": 2}]},
    {"prompt": "p", "completion": "x", "label": True},
    {"prompt": "p", "response": "x", "helpfulness": 3, "correctness": 2},
    {"prompt": "p", "response_0": "x", "response_1": "y", "better_response_id": 1, "is_response_0_safe": True},
    {"instruction": "p", "output_1": "x", "output_2": "y", "preference": 1.5, "annotator": "u"},
    {"context": "p", "response1": "x", "response2": "y", "overall_preference": -2,
     "individual_preference": [{"score": -2}, {"score": 1}]},
    {"history": "p", "human_ref_A": "x", "human_ref_B": "y", "labels": 1},
    {"prompt": "p", "text_a": "x", "text_b": "y", "preferred_text": "text_b"},
    {"prompt": "p", "response_a": {"text": "x"}, "response_b": {"text": "y"}, "annotations": {"1": {"pref": "a"}},
     "_icai": {"annotators": {"1": {"name": "u", "type": "human"}}, "metadata": {"default_annotator": "1"}}},
    {"prompt": "p (A) x (B) y", "corrects": ["(A)"], "incorrects": ["(B)"]},
    {"prompt": "p\n\nOptions:\n(A) x\n(B) y\n\nAnswer:", "corrects": [" (A)"], "incorrects": [" (B)"]},
    {"Question": "p", "Correct Answers": "x; z", "Incorrect Answers": "y", "Category": "c"},
    {"question": "p", "mc1_targets": {"choices": ["x", "y"], "labels": [1, 0]}},
    {"message_tree_id": "t", "prompt": {"role": "prompter", "text": "p", "replies": [
        {"role": "assistant", "text": "x", "rank": 0, "replies": []}, {"role": "assistant", "text": "y", "rank": 1}]}},
    {"message_id": "1", "parent_id": None, "role": "prompter", "text": "p"},
    {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "x", "rank": 0},
    {"prompt": "p", "id": "i", "subset": "helpful"},
    {"messages": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "x"}, {"from": "human", "value": "q"}]},
    {"instruction": "p", "input": "more", "output": "x", "system": "s", "history": [["q", "r"]]},
    {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "x"}]},
    {"question": "p", "answer": "x", "context": "c"},
    {"text": "a document"},
]  # fmt: skip
NAMES = sorted(
    {name for row in ROWS for name in row} | {"judge", "winner", "images", "tools", "deleted", "scores", "row"}
)
# Forms whose rows are put together, and of which what was taken back is no row (OASST's messages).
JOINED = ("message_id", "message_tree_id")


@st.composite
def rows(draw: st.DrawFn) -> list[Any]:
    made: list[Any] = []
    for number, row in enumerate(draw(st.lists(st.sampled_from(ROWS), min_size=1, max_size=4))):
        row = json.loads(json.dumps(row).replace('"p', f'"p{number} ' if draw(st.booleans()) else '"p'))
        for _ in range(draw(st.integers(0, 2))):
            change, name = draw(st.integers(0, 4)), draw(st.sampled_from([*row, *NAMES]))
            if change == 0:
                row.pop(name, None)
            elif change == 4 and isinstance(row.get(name), dict | list) and row[name]:
                inner = row[name]
                key = (
                    draw(st.sampled_from(list(inner)))
                    if isinstance(inner, dict)
                    else draw(st.integers(0, len(inner) - 1))
                )
                inner[key] = draw(st.one_of(values, scalars))
            else:
                row[name] = draw(st.one_of(scalars, values, nested(st.sampled_from(NAMES)), st.just(row.get(name))))
        made.append(draw(values) if draw(st.integers(0, 19)) == 0 else row)
    return made


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """(name, contents) of a file of rows, in some format; whole, or with bytes that are not."""
    if draw(st.integers(0, 4)) == 0:
        case = draw(st.sampled_from(CASES))
        return case.name, mutated_bytes(draw, case.read_bytes())
    made = draw(rows())
    kind = draw(st.sampled_from(["jsonl", "json", "csv", "jsonl.gz", "data.json"]))
    if kind == "csv":
        made = [row for row in made if isinstance(row, dict)] or [{"prompt": "p"}]
        names = list(made[0])
        lines = [names, *([row.get(name) for name in names] for row in made)]
        cell = lambda value: value if isinstance(value, str) else "" if value is None else as_json(value)  # noqa: E731
        text = "\n".join(",".join('"' + cell(value).replace('"', '""') + '"' for value in line) for line in lines)
    elif kind == "json":
        text = "[" + ", ".join(map(as_json, made)) + "]"
    elif kind == "data.json":
        text = as_json({draw(st.sampled_from(["data", "comparisons", "rows", "x"])): made, "metadata": draw(values)})
    else:
        text = "\n".join(map(as_json, made))
    raw = text.encode("utf-8", "surrogatepass")
    raw = gzip.compress(raw, mtime=0) if kind.endswith("gz") else raw
    return f"rows.{kind}", mutated_bytes(draw, raw) if draw(st.booleans()) else raw


def accounted(path: Path, reading: FileContents) -> None:
    """Rows in = rows kept + rows set aside: each row stands in a pair, in a prompt, or among those set aside."""
    raws = list(read_raw(path))
    assert reading.rows == len(raws)
    named = Counter(raw.where for raw in raws)
    assert max(named.values(), default=1) == 1
    known = {placed.where for placed in reading.placed} | {where for where, _ in reading.bare}
    known |= {row.where for row in reading.aside}
    for raw in raws:
        if raw.where in known or (isinstance(raw.value, dict) and {*JOINED} & {*raw.value}):
            continue
        # It is not named: then what it says by itself must stand in a pair that another row has named.
        alone = read([raw], str(path), Data(source=str(path)), 0)
        both = {pair.id for pair in alone.pairs.values()} | set(alone.prompts)
        assert both and both <= {*reading.pairs, *reading.prompts}, (raw, alone.aside)


def a_file_of_rows(given: tuple[str, bytes]) -> None:
    name, raw = given
    path = FOLDER / name
    path.write_bytes(raw)
    where, written = str(path), Data(source=str(path))
    reading = kept_or_refused(lambda: read_file(path, written, 0), where)
    if reading is not None:
        accounted(path, reading)
        for pair in reading.pairs.values():
            assert pair.a.strip() and pair.b.strip() and (pair.human is None or 0 <= pair.human <= 1)
            json.dumps(asdict(pair), ensure_ascii=False).encode()
        assert all(row.reason for row in reading.aside)
    learnt = kept_or_refused(lambda: read_demonstrations(path, where, ()))
    if learnt is not None:
        assert len(learnt.answers) + len(learnt.aside) == learnt.rows
    compared = kept_or_refused(lambda: read_comparisons(path), where)
    assert compared is None or compared.items
    kept_or_refused(lambda: principle_votes(path), where)
    kept_or_refused(lambda: read_xstest(where), where)
    kept_or_refused(lambda: read_corpus([where], 0.5, 0))


@BOTH
def test_rows_in_are_rows_kept_and_rows_set_aside(many: bool) -> None:
    run(a_file_of_rows, files(), "rows", many)


# A file as its writer meant it ----------------------------------------------------------------------------------------

wordy = st.text('AZaz"{}[],:éß\\ \n\t', max_size=12).map(lambda text: text + "z")
pairs_to_write = st.lists(st.tuples(wordy, wordy, wordy, st.sampled_from([0, 1, 0.5, None])), min_size=1, max_size=5)


def pairs_as_written(made: list[tuple[str, str, str, float | None]]) -> None:
    written = {}
    for number, (prompt, a, b, human) in enumerate(made):
        written[f"{number} {prompt}"] = {"prompt": f"{number} {prompt}", "a": f"a{a}", "b": f"b{b}", "human": human}
    names = list(next(iter(written.values())))
    cell = lambda value: "" if value is None else '"' + str(value).replace('"', '""') + '"'  # noqa: E731
    formats = {
        "w.jsonl": "\n".join(map(json.dumps, written.values())),
        "w.json": json.dumps(list(written.values()), ensure_ascii=False),
        "w.csv": "\r\n".join(
            ",".join(line) for line in [names, *([cell(row[n]) for n in names] for row in written.values())]
        ),
    }
    for name, text in formats.items():
        path = FOLDER / name
        path.write_bytes(text.encode())
        reading = read_file(path, Data(source=str(path)), 0)
        assert not reading.aside, (name, reading.aside)
        got = {pair.prompt.messages[0].content: (pair.a, pair.b, pair.human) for pair in reading.pairs.values()}
        assert got == {name: (row["a"], row["b"], row["human"]) for name, row in written.items()}, name


@BOTH
def test_pairs_come_back_as_they_were_written_in_three_formats(many: bool) -> None:
    run(pairs_as_written, pairs_to_write, "pairs", many)


# Labels ---------------------------------------------------------------------------------------------------------------

PAIRS = [
    Pair(f"id{n}", Prompt(f"p{n}", (Message("user", f"q{n}"),), "all", "train"), f"a{n}", f"b{n}") for n in range(3)
]
LABEL = {
    "pair_id": "id0",
    "choice": "a",
    "p_a": 1,
    "rater": "u",
    "note": "",
    "seconds": 1.5,
    "principle": None,
    "a_sha": "",
}


@st.composite
def lines(draw: st.DrawFn, right: list[dict[str, Any]]) -> bytes:
    """Rows of a log: right ones, some with another value, some cut."""
    made = []
    for row in draw(st.lists(st.sampled_from(right), max_size=6)):
        row = dict(row)
        for _ in range(draw(st.integers(0, 2))):
            row[draw(st.sampled_from([*row]))] = draw(
                st.one_of(
                    values, st.sampled_from(["id1", "undo", "skip", "a", "b", 0.5, 0, 1, [], ["a"], {}, "u", None])
                )
            )
        made.append(as_json(row))
    raw = "\n".join(made).encode("utf-8", "surrogatepass") + draw(st.sampled_from([b"", b"\n"]))
    return mutated_bytes(draw, raw) if draw(st.booleans()) else raw


def a_label_file(raw: bytes) -> None:
    path = FOLDER / "labels.jsonl"
    path.write_bytes(raw)
    count = kept_or_refused(lambda: len(list(read_raw(path))), str(path))
    read_ones = kept_or_refused(lambda: read_labels(path, PAIRS), str(path))
    if read_ones is not None and count is not None:
        people, aside = read_ones
        assert sum(map(len, people.values())) + len(aside) <= count  # an undo takes one back, and a skip says nothing
        assert all(0 <= vote.p_a <= 1 for votes in people.values() for vote in votes)


@BOTH
def test_a_label_file_is_read_or_refused(many: bool) -> None:
    run(
        a_label_file,
        lines([LABEL, {"pair_id": "id1", "p_a": 0.25}, LABEL | {"choice": "undo", "p_a": None}]),
        "labels",
        many,
    )


ROW = asdict(make_row(PAIRS[0], "u", "a", "a"))


def a_label_log(raw: bytes) -> None:
    path = FOLDER / "log.jsonl"
    path.write_bytes(raw)
    log = LabelLog(path)
    assert log.rows + len(log.faults) == sum(bool(line.strip()) for line in raw.split(b"\n"))
    before = len(log.in_force())
    log.append(make_row(PAIRS[2], "w", "b", "b"))  # a torn row swallows none that comes after it
    assert len(log.in_force()) == before + 1 or log.get(("w", "id2", None))
    again = LabelLog(path)
    assert [asdict(row) for row in again.in_force()] == [asdict(row) for row in log.in_force()]


@BOTH
def test_a_label_log_counts_every_line(many: bool) -> None:
    run(a_label_log, lines([ROW, ROW | {"choice": "undo", "p_a": None}, ROW | {"rater": "v"}]), "log", many)


SHOWN = asdict(ShownAnswer(
    id="x", rater="u", policy="0", prompt_id="p", messages=(Message("user", "q"),), tokens=(1, 2), pieces=("a", "b"),
    candidates=1, predicted=None, error=None, at="",
))  # fmt: skip
PRESS = asdict(Feedback("x", "u", 1.0, 2.0, (0.0, 1.0), None, ""))
CHOICE = asdict(AnswerChoice("x", "y", "x", "u", 1.0, ""))


def a_feedback_log(raw: bytes) -> None:
    path = FOLDER / "feedback.jsonl"
    path.write_bytes(raw)
    log = FeedbackLog(path)
    kept = len(log.answers) + sum(map(len, log.given.values()))
    # Of several choices between two answers the last stands: those before it are the only rows that are not counted.
    lines_here = sum(bool(line.strip()) for line in raw.split(b"\n"))
    assert kept + len(log.choices) + len(log.faults) <= lines_here
    assert bool(log.choices) or kept + len(log.faults) == lines_here
    assert all(place.startswith(str(path)) and why for place, why in log.faults)


@BOTH
def test_a_feedback_log_counts_every_line(many: bool) -> None:
    right = [SHOWN, SHOWN | {"id": "y"}, PRESS, CHOICE]
    run(a_feedback_log, lines([json.loads(json.dumps(row)) for row in right]), "feedback", many)
