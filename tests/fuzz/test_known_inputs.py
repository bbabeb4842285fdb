"""What once gave a traceback, hung, or was dropped without a word: each reader, each of the inputs, by name."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai.annotate.server import answering
from cai.compare.human_ratings import read_ratings
from cai.config.load import read_experiment, read_sweep
from cai.config.processes import read_accelerate
from cai.config.sections import Data
from cai.config.tree import load_tree
from cai.constitution.paper import import_paper
from cai.constitution.parse import read_constitution
from cai.core.errors import UserError, run_main
from cai.core.records import Label, Message, Pair, Prompt, read_jsonl
from cai.core.shipped import locate
from cai.core.store import MANIFEST, Damage, Store, read_stage, version
from cai.core.templates import load_template
from cai.data.annotated import principle_votes
from cai.data.comparisons import read_comparisons
from cai.data.demonstrations import read_demonstrations
from cai.data.feedback import FeedbackLog
from cai.data.label_log import LabelLog
from cai.data.labels import read_labels
from cai.data.publics import groups_in
from cai.data.rows.files import read_raw, read_text
from cai.data.rows.reader import read_file
from cai.data.rubrics import read_rubrics
from cai.data.xstest import read_xstest
from cai.judge.attack.exploits import read_exploits
from cai.judge.moderation import read_words
from cai.judge.sampled import named_in
from cai.models.engines.faults import Malformed
from cai.models.engines.transport import Call, read_by, tokens_of
from cai.models.references import find

BASE = "constitution: constitutions/short.txt\ndata: {source: rated-answers}\n"
PAIR = Pair("id", Prompt("p", (Message("user", "q"),), "all", "train"), "x", "y")
DEEP, DIGITS = "[" * 30_000, "9" * 5000

READERS: dict[str, Callable[[Path], Any]] = {
    "experiment": read_sweep, "accelerate": lambda path: read_accelerate(str(path)), "constitution": read_constitution,
    "paper": lambda path: import_paper([path]), "template": load_template, "exploits": read_exploits,
    "words": lambda path: read_words(str(path)), "xstest": lambda path: read_xstest(str(path)),
    "rows": lambda path: read_file(path, Data(source=str(path)), 0), "raw": lambda path: list(read_raw(path)),
    "text": read_text, "comparisons": read_comparisons, "labels": lambda path: read_labels(path, [PAIR]),
    "demonstrations": lambda path: read_demonstrations(path, str(path), ()), "label log": LabelLog,
    "feedback log": FeedbackLog, "groups": groups_in, "rubrics": read_rubrics, "annotated": principle_votes,
    "ratings": lambda path: read_ratings(path, ()),
}  # fmt: skip


def refused(action: Callable[[], Any]) -> str:
    """What is said, within a moment."""
    start = time.monotonic()
    with pytest.raises((UserError, ValueError)) as error:
        action()
    assert time.monotonic() - start < 20
    assert not isinstance(error.value, UnicodeError)
    return str(error.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_not_waited_on(reader: str, tmp_path: Path) -> None:
    """Nobody writes to it: whoever opens it waits for ever."""
    pipe = tmp_path / "mine.jinja"
    os.mkfifo(pipe)
    said = refused(lambda: READERS[reader](pipe))
    assert "this is a pipe, not a file" in said or "no such template" in said


def test_devices_and_sockets_are_no_files(tmp_path: Path) -> None:
    assert "this is a device" in refused(lambda: read_sweep(Path("/dev/zero")))
    assert "this is a device" in refused(lambda: list(read_raw(Path("/dev/random"))))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert "this is a socket" in refused(lambda: read_constitution(tmp_path / "s"))


@pytest.mark.parametrize("name", ["a\0b", "half \ud83d of a character"])
@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_no_file_can_have(reader: str, name: str) -> None:
    said = refused(lambda: READERS[reader](Path(name)))
    assert "no file can have this name" in said or "no such template" in said


@pytest.mark.parametrize("reader", ["experiment", "constitution", "xstest", "comparisons", "words"])
def test_nobody_is_called_so(reader: str) -> None:
    """`~name` where there is no such user."""
    refused(lambda: READERS[reader](locate("~nobody-is-called-so/mine.yaml")))
    assert "there is no model" in refused(lambda: find("~nobody-is-called-so/model"))


def test_bombs_in_yaml_end_soon(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]  # 9 ** 9 = 387,420,489 values
    file.write_text("\n".join(lines))
    assert len(file.read_bytes()) < 500
    said = refused(lambda: read_experiment(file))
    assert "mine.yaml:1: more than 100,000 values" in said and "write fewer aliases" in said
    file.write_text("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 1000 + "]\n")
    assert "4,000,000 letters" in refused(lambda: read_experiment(file))
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9))]
    file.write_text("\n".join(lines))
    assert "more than 100,000 values" in refused(lambda: read_experiment(file))
    file.write_text(BASE + "a: " + DEEP)
    assert "nested too deeply" in refused(lambda: read_experiment(file))
    file.write_text(BASE + "a: " + "{b: " * 100 + "1" + "}" * 100)
    assert "mine.yaml:3: nested too deeply" in refused(lambda: read_experiment(file))
    file.write_bytes(b"#" * 3_000_000)
    assert "3,000,000 bytes are no experiment" in refused(lambda: read_experiment(file))
    many = ", ".join(map(str, range(1, 101)))
    keys = ("rl.steps", "rl.batch_size", "rl.epochs", "sft.batch_size")
    file.write_text(BASE)
    swept = [f"{key}={{sweep: [{many}]}}" for key in keys]
    assert "100 x 100 x 100 x 100 = 100,000,000 experiments" in refused(lambda: read_sweep(file, swept))


@pytest.mark.parametrize("number", [DIGITS, "-" + DIGITS, "0x" + "f" * 5000, "0o" + "7" * 5000, "1" + "0" * 400])
def test_whole_numbers_without_end(number: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{BASE}seed: {number}\nname: {number}\n")
    said = refused(lambda: read_experiment(file))
    assert "mine.yaml:3: a whole number with more digits" in said and "mine.yaml:4: a whole number" in said
    assert "--set seed: a whole number with more" in refused(lambda: read_experiment(file, [f"seed={number}"]))


@pytest.mark.parametrize(
    ("text", "said"),
    [('name: "a\\0b"', "NUL"), ('"a\\0b": 1', "NUL"), ('name: "a\\ud83d"', "half of a character"),
     ('arms: {"\\udc00": {}}', "half of a character"), ('data: {source: "\\ud83d"}', "half of a character")],
)  # fmt: skip
def test_texts_that_no_file_can_hold(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{BASE.splitlines()[0]}\n{text}\n")
    assert f"mine.yaml:2: a {said}" in refused(lambda: read_experiment(file)).replace("\\u escape that is ", "")
    tree = load_tree(file)
    assert tree.faults


@pytest.mark.parametrize(
    "value", [DEEP, DIGITS, '"\\ud83d"', '{"a": 1, "a": 2}'], ids=["deep", "digits", "half", "twice"]
)
def test_a_row_of_json_that_cannot_be_read_costs_itself_alone(value: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    good = '{"prompt": "p", "a": "x", "b": "y", "human": 1}'
    file.write_text(f'{{"prompt": {value}}}\n{good}\n')
    reading = read_file(file, Data(source=str(file)), 0)
    assert (reading.rows, len(reading.pairs), [row.where for row in reading.aside]) == (2, 1, [f"{file}:1"])
    file.write_text(f'{{"pair_id": "id", "choice": "a", "note": {value}}}\n{{"pair_id": "id", "choice": "b"}}\n')
    people, aside = read_labels(file, [PAIR])
    assert [vote.p_a for vote in people["id"]] == [0.0] and [row.where for row in aside] == [f"{file}:1"]
    assert [place for place, _ in LabelLog(file).faults] == [f"{file}:1", f"{file}:2"]
    file.write_text(f'{{"pair_id": "id", "p_a": {value}}}\n')
    if value != '{"a": 1, "a": 2}':
        assert f"{file}:1" in refused(lambda: read_jsonl(file, Label))
    table = tmp_path / "rows.csv"
    table.write_text(f'prompt,a,b,human\np,x,y,1\nq,"[{DIGITS}]",z,1\n')
    assert len(read_file(table, Data(source=str(table)), 0).pairs) == 2
    array = tmp_path / "rows.json"
    array.write_text(f'[{good}, {{"prompt": {value}}}]')
    reading = read_file(array, Data(source=str(array)), 0)
    assert len(reading.pairs) == 1 and len(reading.aside) == 1


@pytest.mark.parametrize("odd", [[], ["a"], {}, {"a": 1}, 0, True, 1e400])
@pytest.mark.parametrize("name", ["choice", "principle", "rater", "note", "seconds", "a_sha", "pair_id", "p_a"])
def test_a_label_with_a_value_of_another_kind(name: str, odd: Any, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    right = {"pair_id": "id", "rater": "u", "choice": "b"}
    file.write_text(f"{json.dumps(right | {'rater': 'v'})}\n{json.dumps(right | {name: odd})}\n")
    people, aside = read_labels(file, [PAIR])
    assert people["id"] and len(people["id"]) + len(aside) == 2


def test_rated_answers_and_messages_that_stand_alone_are_set_aside(tmp_path: Path) -> None:
    """Once they were dropped without a word: what one rater said of one answer alone, beside another's two; a second
    message of one id."""
    file = tmp_path / "rows.jsonl"
    said = [("u", "x", 1), ("u", "y", 2), ("v", "z", 3)]
    rows = [{"prompt": "p", "response": answer, "score": score, "rater": rater} for rater, answer, score in said]
    file.write_text("\n".join(map(json.dumps, rows)))
    reading = read_file(file, Data(source=str(file)), 0)
    assert len(reading.pairs) == 1
    assert [(row.where, row.reason) for row in reading.aside] == [
        (f"{file}:3", "a rated answer with no other to compare it with")
    ]
    message = {"message_id": "1", "parent_id": None, "role": "prompter", "text": "p"}
    file.write_text(f"{json.dumps(message)}\n{json.dumps(message | {'text': 'q'})}\n")
    reading = read_file(file, Data(source=str(file)), 0)
    assert [(row.where, row.reason) for row in reading.aside] == [
        (f"{file}:2", f'another message has the id "1": {file}:1')
    ]


@pytest.mark.parametrize("icai", ["text", [1], {"annotators": [1], "metadata": "x"}, {"annotators": {"1": "x"}}])
def test_annotations_of_another_shape(icai: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    row = {"prompt": "p", "text_a": "x", "text_b": "y", "preferred_text": "text_a", "annotations": {"1": "b"}}
    file.write_text(json.dumps(row | {"_icai": icai}))
    assert read_file(file, Data(source=str(file)), 0).rows == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [("{{ 9**9**9 }}", r"\*\* would give more"), ("{{ 'x' * 10**10 }}", "would give more than a prompt can hold"),
     ("{{ [1]*10**9 }}", "would give more"), ("{{ " + "9" * 5000 + " }}", "a whole number with more digits"),
     ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply")],
)  # fmt: skip
def test_a_template_that_would_reckon_for_ever(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(f"## user\n\n{text}\n")
    with pytest.raises(UserError, match=said) as error:
        load_template(file).render()
    assert f"{file}:3" in str(error.value) or f"{file}:1" in str(error.value)


def test_what_is_reckoned_in_templates_still_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("## user\n{{ 2 ** 10 }} {{ '-' * 3 }} {{ 6 * n }}\n")
    assert load_template(file).render(n=7)[0].content == "1024 --- 42"


@pytest.mark.parametrize("text", [DEEP, DIGITS, '{"answer": ' + DEEP, '{"answer": []}', '["Yes"]'])
def test_a_judges_reply_of_another_shape_names_nothing(text: str) -> None:
    assert named_in(text, ("A", "B")) is None


def test_a_servers_answer_of_another_shape_is_malformed() -> None:
    for answer in ({"choices": "x"}, {"choices": [{"logprobs": [1]}]}, {"choices": [[]]}):
        with pytest.raises(Malformed):
            read_by(Call("x", {}, lambda answer: answer["choices"][0]["logprobs"]["content"].pop(0)), answer)
    assert [tokens_of(usage, "n") for usage in ({"n": 3}, {"n": "3"}, {"n": True}, {"n": -1}, [], "x", None)] == [
        3, None, None, None, None, None, None,
    ]  # fmt: skip


@version(1)
def some_rows(out: Path, runtime: Any) -> None:
    (out / "rows").write_text("rows")


@pytest.mark.parametrize(
    "files", ['{"rows": [Infinity, 1]}', '{"rows": [1]}', '{"rows": 1}', "[1]", '"x"', "{}", DIGITS]
)
def test_a_manifest_with_other_files_is_damage(files: str, tmp_path: Path) -> None:
    made = Store(tmp_path).stage(some_rows).path / MANIFEST
    manifest = json.loads(made.read_text())
    made.write_text(json.dumps(manifest | {"files": "here"}).replace('"here"', files))
    with pytest.raises(Damage):
        read_stage(made.parent)


def test_a_request_of_thirty_thousand_brackets_is_a_400() -> None:
    import asyncio

    class Sent:
        async def body(self) -> bytes:
            return DEEP.encode()

    answer = asyncio.run(answering(lambda body: body)(Sent()))  # pyrefly: ignore
    assert answer.status_code == 400 and b"reload the page" in answer.body


def test_a_message_never_fills_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(BASE + "x" * 900 + ": 1\n")
    long = "y" * 1_000_000
    assert run_main(lambda argv: read_sweep(file, [long]) and 0, []) == 2
    said = capsys.readouterr().err
    assert len(said) < 20_000 and "is not an override" in said
