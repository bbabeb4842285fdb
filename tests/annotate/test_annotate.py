"""The label log, the order of tasks, the export, and who may talk to the server."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cai.annotate.__main__ import _of_these, main
from cai.annotate.desk import Decision, Desk, left_of
from cai.annotate.export import export
from cai.annotate.guard import Guard
from cai.annotate.sheet import PairsToLabel, agreement, find_pairs, tasks
from cai.config.sections import Data
from cai.constitution.parse import parse
from cai.core.errors import UserError
from cai.core.records import Label, Message, Pair, Prompt, write_jsonl
from cai.core.store import Store, version
from cai.data.label_log import LabelLog, LabelRow, make_row, p_for
from cai.data.sources import load_data, source_digest
from cai.judge.label import label_by_people
from cai.train.scores import Score


def read_log(path: Path) -> tuple[list[LabelRow], Counter[str]]:
    """(rows in force, how often each kind of fault occurs)."""
    log = LabelLog(path)
    return log.in_force(), Counter(why for _, why in log.faults + log.repeated())


def pair(name: str, subset: str = "all") -> Pair:
    prompt = Prompt(f"p-{name}", (Message("user", f"Question {name}?"),), subset, "train")
    return Pair(name, prompt, f"{name} first", f"{name} second")


PAIRS = tuple(pair(f"n{i}") for i in range(4))


def desk_on(path, pairs=PAIRS, order="given", law=None, raters=(), **found) -> Desk:
    held = PairsToLabel(pairs, **found)
    return Desk("pairs", tasks(held, order, law), held, LabelLog(path), order, raters)


def decision(rater, name, choice, seconds=1.0, note="", principle=None, again=0) -> Decision:
    return Decision(rater, name, principle, choice, note, seconds, again)


# The log --------------------------------------------------------------------------------------------------------------


def test_a_row_is_what_the_interface_says(tmp_path):
    LabelLog(tmp_path / "l").append(make_row(PAIRS[0], "ana", "tie", "b", "no harm", "hm", 2.5))
    row = json.loads((tmp_path / "l").read_text())
    assert row.pop("at").startswith("20")
    assert row.pop("a_sha") == "fe7910eae32d"  # printf 'n0 first' | sha256sum | head -c 12
    assert row == {
        "pair_id": "n0", "rater": "ana", "choice": "tie", "p_a": 0.5, "left": "b", "principle": "no harm",
        "note": "hm", "seconds": 2.5,
    }  # fmt: skip


def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom cai.data.label_log import LabelLog, LabelRow\n"
        "log = LabelLog(Path(sys.argv[1]))\n"
        "for i in range(150):\n"
        "    log.append(LabelRow(f'n{i}', sys.argv[2], 'a', 1.0, 'a', None, 'x' * 3000, 1.0, ''))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "l"), name]) for name in ("ana", "ben")]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    rows, faults = read_log(tmp_path / "l")
    assert not faults
    assert {(row.rater, row.pair_id) for row in rows} == {
        (name, f"n{i}") for name in ("ana", "ben") for i in range(150)
    }


def test_a_torn_row_is_named_and_swallows_nothing(tmp_path):
    path = tmp_path / "l"
    LabelLog(path).append(make_row(PAIRS[0], "ana", "a", "a"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])  # killed in the middle of the second row
    log = LabelLog(path)
    assert log.faults == [(f"{path}:2", "a half-written line")]
    log.append(make_row(PAIRS[1], "ana", "b", "a"))
    assert [row.pair_id for row in log.in_force()] == ["n0", "n1"]
    assert path.read_bytes().startswith(whole + whole[:40] + b"\n")  # kept, and closed off
    rows, faults = read_log(path)
    assert ([row.p_a for row in rows], faults) == ([1.0, 0.0], {"a half-written line": 1})


def test_a_last_row_that_lacks_only_its_line_end_counts(tmp_path):
    path = tmp_path / "l"
    LabelLog(path).append(make_row(PAIRS[0], "ana", "a", "a"))
    path.write_bytes(path.read_bytes().rstrip())
    log = LabelLog(path)
    log.append(make_row(PAIRS[1], "ana", "a", "a"))
    assert read_log(path) == (log.in_force(), {})
    assert len(log.in_force()) == 2


def test_undo_cancels_one_row_of_that_rater_pair_and_principle(tmp_path):
    log = LabelLog(tmp_path / "l")
    for choice, rater, principle in (
        ("skip", "ana", None), ("a", "ana", None), ("b", "ana", "kind"), ("b", "ben", None), ("undo", "ana", None),
        ("undo", "cem", None),
    ):  # fmt: skip
        log.append(make_row(PAIRS[0], rater, choice, "a", principle))
    rows, faults = read_log(tmp_path / "l")
    assert [(row.rater, row.choice, row.principle) for row in rows] == [
        ("ana", "skip", None),  # the row before the one that was undone stands again
        ("ana", "b", "kind"),
        ("ben", "b", None),
    ]
    assert faults == {"an undo with nothing to undo": 1}


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_read(tmp_path):
    good = asdict(make_row(PAIRS[0], "ana", "a", "a"))
    rows = [good, good | {"p_a": 7}, good | {"choice": "maybe"}, good | {"rater": " "}, good | {"seconds": -1}, [1]]
    rows += [good, good | {"choice": "b", "p_a": 0}]
    (tmp_path / "l").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    held, faults = read_log(tmp_path / "l")
    assert [row.p_a for row in held] == [0.0]  # the last of three by ana
    assert faults == {
        "p_a is not what the choice says": 1, "a row that is no label": 2, "a row without rater or pair": 1,
        "seconds out of range": 1, "a half-written line": 1, "two labels by one rater: the later one counts": 2,
    }  # fmt: skip


def test_a_log_that_another_process_grew_or_replaced_is_read_anew(tmp_path):
    mine, other = LabelLog(tmp_path / "l"), LabelLog(tmp_path / "l")
    other.append(make_row(PAIRS[0], "ben", "a", "a"))
    mine.refresh()
    assert [row.rater for row in mine.in_force()] == ["ben"]
    (tmp_path / "l").write_text("")
    mine.refresh()
    assert mine.in_force() == []


def test_a_label_follows_its_answers(tmp_path):
    row = make_row(PAIRS[0], "ana", "a", "a")
    assert p_for(row, PAIRS[0]) == 1
    assert p_for(row, replace(PAIRS[0], a=PAIRS[0].b, b=PAIRS[0].a)) == 0
    with pytest.raises(UserError, match="other answers"):
        p_for(row, replace(PAIRS[0], a="edited"))


# The desk -------------------------------------------------------------------------------------------------------------


def test_the_side_is_drawn_for_each_rater_and_pair_and_the_choice_named_by_answer(tmp_path):
    sides = [left_of("ana", f"n{i}") for i in range(400)]
    assert 150 < sides.count("a") < 250
    assert sides != [left_of("ben", f"n{i}") for i in range(400)]
    desk = desk_on(tmp_path / "l")
    for one in PAIRS:
        shown = desk.state("ana")["task"]
        assert shown["left"] == (one.a if left_of("ana", one.id) == "a" else one.b)
        desk.label(decision("ana", one.id, "left"))
    assert [row.choice for row in desk.log.in_force()] == [left_of("ana", one.id) for one in PAIRS]
    assert desk.state("ana")["task"] is None


def test_what_is_shown_tells_nothing_of_judge_or_author(tmp_path):
    judged = (replace(PAIRS[0], human=0.9, votes=(0.9,), prompted=1.0),)
    desk = desk_on(tmp_path / "l", judged, judge={"n0": 0.8}, margins={"n0": 2.0})
    assert set(desk.state("ana")["task"]) == {"pair_id", "principle", "messages", "left", "right", "note"}
    with pytest.raises(UserError, match="first say"):
        desk.reveal("ana", "n0", None)
    desk.label(decision("ana", "n0", "left"))
    of_left = 0.8 if left_of("ana", "n0") == "a" else 1 - 0.8
    assert desk.reveal("ana", "n0", None)["judge"] == pytest.approx(of_left)
    with pytest.raises(UserError, match="this choice stands"):
        desk.undo("ana")


def test_undo_shows_the_pair_again_and_skips_come_again_on_request(tmp_path):
    desk = desk_on(tmp_path / "l")
    desk.label(decision("ana", "n0", "skip"))
    desk.label(decision("ana", "n1", "right", note="close"))
    back = desk.undo("ana")["task"]
    assert (back["pair_id"], back["before"], back["note"]) == ("n1", "right", "close")
    for name in ("n1", "n2", "n3"):
        state = desk.label(decision("ana", name, "tie"))
    assert state["task"] is None
    again = state["progress"]["line"]
    assert desk.state("ana", again)["task"]["pair_id"] == "n0"
    state = desk.label(decision("ana", "n0", "skip", seconds=2.0, again=again))
    assert state["task"] is None  # skipped twice: let it rest


def test_a_choice_sent_twice_is_written_once(tmp_path):
    desk = desk_on(tmp_path / "l")
    desk.label(decision("ana", "n0", "left", seconds=1.234))
    desk.label(decision("ana", "n0", "left", seconds=1.234))
    assert desk.log.rows == 1
    desk.label(decision("ana", "n0", "right", seconds=2.0))
    assert desk.log.rows == 2


def test_pace_is_the_median_of_the_raters_own(tmp_path):
    desk = desk_on(tmp_path / "l", tuple(pair(f"n{i}") for i in range(10)))
    for i, seconds in enumerate((2.0, 4.0, 600.0)):
        desk.label(decision("ben", f"n{i}", "tie", seconds=100))
        state = desk.label(decision("ana", f"n{i}", "tie", seconds=seconds))
    assert state["progress"]["seconds_left"] == 4.0 * 7


def test_raters_are_those_that_were_named(tmp_path):
    desk = desk_on(tmp_path / "l", raters=("ana", "ben"))
    with pytest.raises(UserError, match='did you mean "ana"'):
        desk.state("anna")
    for name in ("", "  ", "x" * 41, "a\u202eb"):
        with pytest.raises(UserError, match="letters"):
            desk_on(tmp_path / "l").state(name)


def test_one_principle_at_a_time_and_only_where_it_applies(tmp_path):
    text = "# T\n\n## {}\nCritique: c.\nRevise: r.\nPrefer: Choose {}.\n{}\n"
    law = parse(
        text.format("kind", "kind", "") + text.format("safe", "safe", "Applies to: harm\n").removeprefix("# T\n"),
        tmp_path / "c.txt",
    )
    desk = desk_on(tmp_path / "l", (pair("n0"), pair("n1", "harm")), law=law)
    assert [task.key for task in desk.tasks] == [("n0", "kind"), ("n1", "kind"), ("n1", "safe")]
    assert desk.state("ana")["task"]["principle"] == {"name": "kind", "prefer": "Choose kind."}
    desk.label(decision("ana", "n0", "left", principle="kind"))
    assert desk.log.in_force()[0].principle == "kind"


# Order ----------------------------------------------------------------------------------------------------------------


def test_uncertain_puts_disagreement_first_then_doubt(tmp_path):
    # q = .9, r = sigmoid(-ln 9) = .1: .9 x .1 + .1 x .9 = .18. q = .5: .5. q = .9, r = .9: .81 + .01 = .82.
    found = PairsToLabel(PAIRS, {"n0": 0.9, "n1": 0.5, "n2": 0.9}, {"n0": 2.1972246, "n1": 5.0, "n2": -2.1972246})
    assert [agreement(f"n{i}", found) for i in range(4)] == pytest.approx([0.82, 0.5, 0.18, 0.5], abs=1e-6)
    order = [task.pair.id for task in tasks(found, "uncertain")]
    assert (order[0], order[3], set(order[1:3])) == ("n2", "n0", {"n1", "n3"})  # n3: the judge could not read it
    alone = PairsToLabel(PAIRS[:3], {"n0": 0.9, "n1": 0.45, "n2": 0.3})
    assert [task.pair.id for task in tasks(alone, "uncertain")] == ["n1", "n2", "n0"]
    with pytest.raises(UserError, match="--labels or --scores"):
        tasks(PairsToLabel(PAIRS), "uncertain")


def test_what_somebody_labelled_comes_last_in_uncertain(tmp_path):
    desk = desk_on(tmp_path / "l", PAIRS[:3], "uncertain", judge={"n0": 0.9, "n1": 0.45, "n2": 0.3})
    desk.label(decision("ben", "n1", "left"))
    assert desk.state("ana")["task"]["pair_id"] == "n2"


def test_ones_own_labels_do_not_part_the_principles_of_a_pair(tmp_path):
    law = parse("One principle.\nAnother one.\n", tmp_path / "c.txt")
    desk = desk_on(tmp_path / "l", PAIRS[:2], "uncertain", law, judge={"n0": 0.5, "n1": 0.9})
    state = desk.label(decision("ana", "n0", "left", principle="One principle."))
    assert (state["task"]["pair_id"], state["task"]["principle"]["name"]) == ("n0", "Another one.")


def test_random_is_one_order_for_all_and_not_the_files(tmp_path):
    pairs = tuple(pair(f"n{i}") for i in range(30))
    order = tasks(PairsToLabel(pairs), "random")
    assert [task.pair for task in order] != list(pairs)
    assert order == tasks(PairsToLabel(pairs[::-1]), "random")


# Where pairs come from, and where labels go ---------------------------------------------------------------------------


@version(1)
def rows_of(out, runtime, *, file, rows) -> None:
    write_jsonl(out / file, rows)


def a_run(root, cells: dict[str, dict[str, list]]) -> tuple[Path, dict[str, dict[str, str]]]:
    """runs/mine of an experiment whose cells left these rows, and its links. Of a stage that gave none: no link."""
    store, home = Store(root), root / "mine"
    files = {"pairs": "pairs.jsonl", "labels": "labels.jsonl", "scores": "scores.jsonl"}
    links = {
        cell: {
            stage: f"elsewhere/{store.stage(rows_of, file=files[stage], rows=rows).path.name}"
            for stage, rows in stages.items()
        }
        | {"said": {}}
        for cell, stages in cells.items()
    }
    home.mkdir(parents=True)
    (home / "links.json").write_text(json.dumps(links))
    return home, links


def scores(reward: float) -> list[Score]:
    return [Score("n0", "a", reward), Score("n0", "b", 0.5), Score("n1", "a", 1.0), Score("n1", "b", None)]


AI = {"pairs": list(PAIRS), "labels": [Label("n0", 0.7, "ai")]}
HUMAN = {"pairs": list(PAIRS), "labels": [Label("n0", 1.0, "human")]}


def test_a_run_brings_pairs_judge_and_rewards(tmp_path):
    cells = {
        f"{arm}/{seed}": of | {"scores": scores(reward)}
        for arm, of in (("human", HUMAN), ("ai", AI))
        for seed, reward in ((0, 3.0), (1, 1.0))
    }
    home, links = a_run(tmp_path, cells)
    assert find_pairs(home) == PairsToLabel(
        PAIRS, {"n0": 0.7}, {"n0": 1.5}
    )  # (2.5 + 0.5) / 2; n1 has one that is too long
    assert find_pairs(tmp_path / "store" / Path(links["ai/0"]["pairs"]).name) == PairsToLabel(PAIRS)
    with pytest.raises(UserError, match=r"links\.json"):
        find_pairs(tmp_path)


def test_an_arm_without_labels_is_passed_over(tmp_path):
    # `direct` asks the judge about the policy's own answers: it has no labels, and may be the first arm, or the only.
    home, _ = a_run(tmp_path / "several", {"direct/0": {"pairs": list(PAIRS)}, "ai/0": AI | {"scores": scores(3.0)}})
    assert find_pairs(home) == PairsToLabel(PAIRS, {"n0": 0.7}, {"n0": 2.5})
    home, _ = a_run(tmp_path / "bare", {"direct/0": {}, "ai/0": AI})
    assert find_pairs(home) == PairsToLabel(PAIRS, {"n0": 0.7})
    home, _ = a_run(tmp_path / "one", {"direct/0": {"pairs": list(PAIRS)}})
    assert find_pairs(home) == PairsToLabel(PAIRS)
    home, _ = a_run(tmp_path / "none", {"direct/0": {}})
    with pytest.raises(UserError, match="no arm of this run has pairs"):
        find_pairs(home)


def test_nobody_labels_pairs_of_a_damaged_stage(tmp_path):
    home, links = a_run(tmp_path, {"ai/0": AI})
    stage = tmp_path / "store" / Path(links["ai/0"]["pairs"]).name
    file = stage / "pairs.jsonl"
    file.write_text(file.read_text().replace("Question n0", "Question n9"))
    for place, name in ((home, "its contents"), (stage, "this stage is damaged: its contents")):
        with pytest.raises(UserError, match=name):
            find_pairs(place)
    file.unlink()
    with pytest.raises(UserError, match=r"pairs\.jsonl is gone"):
        find_pairs(home)
    stage.rename(tmp_path / "aside")
    with pytest.raises(UserError, match=f"the store has lost {stage.name}"):
        find_pairs(home)
    (home / "links.json").write_text('{"ai/0": {"pairs"')
    with pytest.raises(UserError, match=r"links\.json is cut off"):
        find_pairs(home)


def test_export_gives_the_share_of_raters_and_trains_like_any_data(tmp_path):
    rows = [
        {"id": "n0", "prompt": "One?", "a": "x", "b": "y", "split": "train", "human": 0.0},
        {"id": "n1", "prompt": "Two?", "a": "x", "b": "y"},
        {"id": "n2", "prompt": "Three?", "a": "x", "b": "y"},
    ]
    source, out = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = find_pairs(source)
    log = LabelLog(tmp_path / "l")
    by_id = {one.id: one for one in found.pairs}
    for name, rater, choice, principle in (
        ("n0", "ana", "a", None), ("n0", "ben", "tie", None), ("n0", "cem", "skip", None), ("n0", "ben", "b", "kind"),
        ("n1", "ana", "a", "kind"), ("n1", "ana", "b", "safe"), ("n1", "ben", "a", "kind"),
    ):  # fmt: skip
        log.append(make_row(by_id[name], rater, choice, "a", principle))
    log.append(make_row(PAIRS[3], "ana", "a", "a"))
    counts = export(found, log, out)
    assert counts == {
        "pairs written": 2, "pairs that nobody labelled": 1, "labels left out: there is no such pair": 1
    }  # fmt: skip
    made = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert (made["n0"]["human"], made["n0"]["votes"]) == (0.75, [1.0, 0.5])  # ben's verdict on the whole counts
    assert (made["n1"]["human"], made["n1"]["votes"]) == (0.75, [0.5, 1.0])
    assert [row["prompt"].get("split") for row in made.values()] == ["train", None]

    data = Data(source=str(out), test=1.0)  # n1, whose split was left open, goes where the experiment says
    store = Store(tmp_path / "runs")
    loaded = store.stage(load_data, data=data, contents=source_digest(data), seed=0)
    labels = store.stage(label_by_people, pairs=loaded, rule=None, file=None, raters=(), seed=0)
    held = [json.loads(line) for line in (loaded / "pairs.jsonl").read_text().splitlines()]
    assert {row["id"]: row["prompt"]["split"] for row in held} == {"n0": "train", "n1": "test"}
    assert {json.loads(line)["p_a"] for line in (labels / "labels.jsonl").read_text().splitlines()} == {0.75}


def test_the_command_line_refuses_what_would_do_harm(tmp_path):
    source = tmp_path / "pairs.jsonl"
    source.write_text('{"id": "n0", "prompt": "One?", "a": "x", "b": "y"}\n')
    with pytest.raises(UserError, match="not a label log"):
        main([str(source), "--out", str(source)])
    with pytest.raises(UserError, match="no such label log"):
        main([str(source), "--export", str(tmp_path / "l"), "--out", str(tmp_path / "o")])
    LabelLog(tmp_path / "l").append(make_row(PAIRS[0], "ana", "a", "a"))
    with pytest.raises(UserError, match="overwrite"):
        main([str(source), "--export", str(tmp_path / "l"), "--out", str(source)])


def test_labels_and_rewards_of_other_pairs_are_refused_and_of_some_counted(tmp_path, capsys):
    source, labels = tmp_path / "pairs.jsonl", tmp_path / "judge.jsonl"
    rows = [{"id": f"n{i}", "prompt": f"Question {i}?", "a": "x", "b": "y"} for i in range(3)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = find_pairs(source)
    write_jsonl(labels, [Label("another", 0.5, "ai")])
    with pytest.raises(UserError, match="nothing in it is of one of the 3 pairs"):
        main([str(source), "--out", str(tmp_path / "l"), "--labels", str(labels)])
    with pytest.raises(UserError, match="nothing in it"):
        _of_these({"another": 1.0}, place, labels)
    assert _of_these({"n1": 1.0, "another": 0.0}, place, labels) == {"n1": 1.0, "another": 0.0}
    assert "nothing about 2 of the 3 pairs" in capsys.readouterr().err


# The guard ------------------------------------------------------------------------------------------------------------


def ask(method="GET", path="/", query="", **headers) -> tuple[int, dict[str, str]]:
    """(status, headers) of one request to a guarded app that always answers 200."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["nonce"].encode()})

    sent = []

    async def send(message):
        sent.append(message)

    given = {"host": "127.0.0.1:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    asyncio.run(Guard(app, "secret", "cai-8000")(scope, None, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


POST = {
    "method": "POST", "path": "/api/label", "cookie": "cai-8000=secret", "origin": "http://127.0.0.1:8000",
    "content_type": "application/json", "content_length": "2",
}  # fmt: skip


def test_the_token_is_needed_and_moves_into_a_cookie():
    assert ask()[0] == 403
    assert ask(query="token=wrong")[0] == 403
    status, headers = ask(query="token=secret")
    assert status == 200
    assert headers["set-cookie"] == "cai-8000=secret; Path=/; HttpOnly; SameSite=Strict"
    assert ask(cookie="cai-8000=secret")[0] == 200
    assert ask(cookie="cai-9000=secret")[0] == 403  # the cookie of a server on another port
    assert ask(path="/api/label", query="token=secret")[0] == 403  # in the address it opens the page and nothing else


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example:8000", ""])
def test_a_rebound_name_is_refused(host):
    assert ask(cookie="cai-8000=secret", host=host)[0] == 421


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"host": "localhost:9000", "origin": "http://localhost:9000"}, 200),  # through an SSH tunnel
        ({"origin": "http://127.0.0.1:3000"}, 403),  # another program's page on this machine
        ({"origin": "null"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_length": "65537"}, 413),
        ({"cookie": "x=y"}, 403),
    ],
)
def test_only_the_page_itself_may_post(change, status):
    assert ask(**POST | change)[0] == status


def test_nothing_but_the_pages_own_script_may_run():
    policy = ask(cookie="cai-8000=secret")[1]["content-security-policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].startswith("'nonce-") and " " not in rules["script-src"]
    assert (rules["require-trusted-types-for"], rules["trusted-types"]) == ("'script'", "'none'")
    assert policy != ask(cookie="cai-8000=secret")[1]["content-security-policy"]  # a nonce is used once
