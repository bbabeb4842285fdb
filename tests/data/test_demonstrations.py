"""What SFT learns that nobody revised: demonstrations in every form of file, and answers that people preferred."""

import json
from pathlib import Path

import pytest

from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt, Revision, SetAside, read_jsonl, write_jsonl
from cai.core.store import Artifact
from cai.data.demonstrations import (
    demonstrations_file,
    load_demonstrations,
    preferred,
    read_demonstrations,
    take_preferred,
)
from cai.data.rows.answered import read_answered

USER, SYSTEM = Message("user", "Why?"), Message("system", "Be brief.")


def folder(at: Path, **files) -> Artifact:
    at.mkdir()
    for name, records in files.items():
        write_jsonl(at / f"{name}.jsonl", records)
    return Artifact("made", "key", at, "digest")


def written(at: Path, *rows) -> Path:
    at.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return at


# 1. Rows --------------------------------------------------------------------------------------------------------------

ROWS = [
    ({"prompt": "Why?", "completion": " Because. "}, (USER,), "Because."),
    ({"prompt": "Why?", "response": "Because."}, (USER,), "Because."),
    ({"question": "Why?", "answer": "Because."}, (USER,), "Because."),
    ({"instruction": "Why?", "input": "", "output": "Because."}, (USER,), "Because."),
    ({"instruction": "Sort.", "input": "2 1", "output": "1 2"}, (Message("user", "Sort.\n\n2 1"),), "1 2"),
    (  # Dolly
        {"instruction": "Who?", "context": "Ann ran.", "response": "Ann.", "category": "qa"},
        (Message("user", "Who?\n\nAnn ran."),), "Ann.",
    ),
    ({"instruction": "Why?", "context": "", "response": "Because."}, (USER,), "Because."),
    ({"system": "Be brief.", "prompt": "Why?", "response": "Because."}, (SYSTEM, USER), "Because."),
    (  # TRL's conversational form
        {"prompt": [{"role": "user", "content": "Why?"}], "completion": [{"role": "assistant", "content": "So."}]},
        (USER,), "So.",
    ),
    (
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"},
                      {"role": "assistant", "content": "Because."}]},
        (SYSTEM, USER), "Because.",
    ),
    (  # ShareGPT, of two turns: the last answer is learnt
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."},
                           {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        (Message("user", "Hi"), Message("assistant", "Hello."), USER), "Because.",
    ),
    (  # UltraChat: the prompt again as the first turn
        {"prompt": "Why?", "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
        (USER,), "So.",
    ),
    ({"prompt": "\n\nHuman: Why?\n\nAssistant:", "completion": " So."}, (USER,), "So."),
]  # fmt: skip


@pytest.mark.parametrize(("row", "asked", "answer"), ROWS)
def test_every_way_to_write_a_demonstration(row, asked, answer):
    read = read_answered(row)
    assert (read.messages, read.answer) == (asked, answer)


FAULTS = [
    ("text", "a row must be a JSON object"),
    ({"prompt": "Why?"}, "no answer: its fields are prompt"),
    ({"prompt": "Why?", "completion": " "}, "an answer without words"),
    ({"messages": [{"role": "user", "content": "Why?"}]}, "a conversation that does not end with an answer"),
    ({"messages": [{"role": "assistant", "content": "Hi."}]}, "does not begin with, or answer, a person"),
    ({"prompt": "Why?", "chosen": "Because.", "rejected": "No."}, "answers that somebody compared or rated"),
    ({"prompt": "Why?", "response": "Because.", "helpfulness": 3}, "answers that somebody compared or rated"),
    ({"prompt": "Why?", "a": "Because.", "b": "No.", "human": 1}, "answers that somebody compared or rated"),
    ({"prompt": "Why?", "answers": ["x", "y"], "ranking": [1, 2]}, "answers that somebody compared or rated"),
    ({"prompt": "Why?", "completion": "So.", "images": ["x.png"]}, "a row with `images`"),
    ({"prompt": "Why?", "completion": [{"role": "user", "content": "So."}]}, "`completion` does not end with an ans"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "problem"), FAULTS)
def test_what_is_no_demonstration_is_said(row, problem):
    with pytest.raises(UserError) as caught:
        read_answered(row)
    assert caught.value.problem.startswith(problem) and caught.value.remedy


# 2. Files -------------------------------------------------------------------------------------------------------------


def test_what_is_learnt_and_what_is_set_aside_by_place(tmp_path, capsys):
    data = folder(
        tmp_path / "data",
        prompts=[
            Prompt("t", (Message("user", "How do I pick a lock?"),), "crime", "test"),
            Prompt("c", (Message("user", "How do I forge a note?"),), "crime", "calibration"),
            Prompt("l", (Message("user", "How do I lie?"),), "crime", "train"),
        ],
    )
    kind = folder(tmp_path / "helpful", prompts=[Prompt("h", (Message("user", "Bake bread?"),), "all", "test")])
    file = written(
        tmp_path / "mine.jsonl",
        {"prompt": "How do I lie?", "completion": "Do not."},
        {"prompt": "how do I  pick a LOCK?", "completion": "With a pick."},  # held out, in other clothes
        {"prompt": "How do I forge a note?", "completion": "With a pen."},
        {"prompt": "Bake bread?", "completion": "Yes."},
        {"prompt": "Why?", "completion": "So.", "split": "test"},
        {"prompt": "Why?", "completion": "Because.", "id": "why", "subset": "odd"},
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": "Why?", "completion": "For no reason.", "id": "why"},
        '{"prompt": "Why',
    )
    out = tmp_path / "out"
    out.mkdir()
    load_demonstrations(out, None, file=demonstrations_file(str(file)), prompts=data, helpful=kind)
    learnt = {row.prompt.id: row for row in read_jsonl(out / "revisions.jsonl", Revision)}
    assert sorted(row.final for row in learnt.values()) == ["Because.", "Do not.", "For no reason."]
    assert learnt["why"].final == "Because." and learnt["why"].prompt.subset == "odd"
    assert learnt["why#2"].final == "For no reason." and all(row.rounds == () for row in learnt.values())
    assert {row.prompt.split for row in learnt.values()} == {"train"}
    aside = [(row.where, row.reason) for row in read_jsonl(out / "set_aside.jsonl", SetAside)]
    held = [(f"{file}:{line}", "its prompt is held out") for line in (2, 3, 4, 5)]
    assert aside == [
        *held, (f"{file}:7", "the same prompt and answer as another row"), (f"{file}:9", "a half-written line")
    ]  # fmt: skip
    assert json.loads((out / "counts.json").read_text()) == {
        "rows read": 9, "rows set aside: its prompt is held out": 4,
        "rows set aside: the same prompt and answer as another row": 1,
        "rows set aside: a half-written line": 1, "demonstrations": 3,
    }  # fmt: skip
    assert f"demonstrations set aside: its prompt is held out: {file}:2" in capsys.readouterr().err


def test_tables_and_arrays_are_read_as_lines_are(tmp_path):
    import pyarrow as arrow
    from pyarrow import parquet

    rows = [{"instruction": "Why?", "output": "Because."}, {"instruction": "Who?", "output": "Ann."}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text('instruction,output\nWhy?,Because.\n"Who?",Ann.\n')
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.json", "a.csv", "a.parquet"):
        read = read_demonstrations(tmp_path / name, name, ()).answers
        assert {(row.prompt.messages[0].content, row.final) for row in read} == {("Why?", "Because."), ("Who?", "Ann.")}


def test_the_order_is_not_that_of_the_file_and_always_the_same(tmp_path):
    rows = [{"prompt": f"Number {n}?", "completion": f"{n}."} for n in range(20)]
    ways = [
        [row.final for row in read_demonstrations(written(tmp_path / "f.jsonl", *some), "f", ()).answers]
        for some in (rows, rows[::-1])
    ]
    assert ways[0] == ways[1] and ways[0] != [f"{n}." for n in range(20)]


@pytest.mark.parametrize(
    ("name", "text", "problem", "remedy"),
    [
        ("none", "", 'no demonstration in "none": it holds no row', "prompt + completion"),
        (
            "pairs",
            '{"prompt": "Why?", "chosen": "a", "rejected": "b"}\n',
            "answers that somebody compared",
            "preferred",
        ),
        ("bare", '{"prompt": "Why?"}\n', "no answer: its fields are prompt (", "messages that end with the answer"),
    ],
)
def test_a_file_without_a_demonstration_says_why(tmp_path, name, text, problem, remedy):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_demonstrations(tmp_path / name, name, ())
    assert problem in caught.value.problem and remedy in caught.value.remedy and caught.value.where == "sft.learns"


def test_a_slip_of_a_word_is_no_file():
    with pytest.raises(UserError, match='there is no file of demonstrations "prefered"') as caught:
        demonstrations_file("prefered")
    assert caught.value.remedy == 'did you mean "preferred"?' and caught.value.where == "sft.learns"
    with pytest.raises(UserError) as caught:
        demonstrations_file("gone.jsonl")
    assert caught.value.remedy == "write revisions, drafts, preferred, nothing, or a file that exists"


# 3. What people preferred ---------------------------------------------------------------------------------------------


def pair(name: str, prompt: str, a: str, b: str, human: float | None, split: str = "train") -> Pair:
    of = Prompt(prompt, (Message("user", f"{prompt}?"),), "all", split)  # pyrefly: ignore
    return Pair(name, of, a, b, human, ())


def test_the_answers_that_nobody_preferred_another_to():
    pairs = [
        pair("1", "p", "best", "good", 0.9),
        pair("2", "p", "bad", "good", 0.0),  # good: beaten by best
        pair("3", "p", "best", "bad", 1.0),  # best again: once
        pair("4", "q", "x", "y", 0.5),
        pair("5", "q", "x", "z", None),
        pair("6", "r", "one", "two", 0.51),
        pair("7", "r", "three", "four", 0.2),  # two that nobody compared
    ]
    answers, counts = preferred(pairs)
    assert {(row.prompt.id, row.final) for row in answers} == {("p", "best"), ("r", "one"), ("r#2", "four")}
    assert {row.prompt.messages[0].content for row in answers} == {"p?", "r?"}
    assert counts == {
        "training pairs": 7, "pairs that people call a tie": 1, "pairs that nobody judged": 1,
        "preferred to one answer, and not to another": 1, "preferred answers": 3,
    }  # fmt: skip


def test_only_pairs_to_train_on_are_learnt(tmp_path):
    pairs = folder(
        tmp_path / "data", pairs=[pair("1", "p", "yes", "no", 1.0), pair("2", "t", "yes", "no", 1.0, "test")]
    )
    out = tmp_path / "out"
    out.mkdir()
    take_preferred(out, None, pairs=pairs)
    assert [row.prompt.id for row in read_jsonl(out / "revisions.jsonl", Revision)] == ["p"]
    assert json.loads((out / "counts.json").read_text())["preferred answers"] == 1


def test_without_a_preference_there_is_nothing_to_learn():
    with pytest.raises(UserError, match="people preferred no answer in the 2 training pairs") as caught:
        preferred([pair("1", "p", "yes", "no", None), pair("2", "q", "yes", "no", 0.5)])
    assert caught.value.where == "sft.learns" and "learns: revisions" in caught.value.remedy
