"""Files of human labels with every kind of bad row, who labels which pair, and the records that all sources leave."""

import json
from dataclasses import replace

import pytest
from fakes import ScriptedJudge, asked_judge
from test_stages import ITS_OWN, Bench, artifact, prompt

from cai.config.labels import Sources
from cai.config.sections import Judge
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import Abstained, Label, Pair, Prompt, RaterVote, SetAside, read_jsonl
from cai.core.store import digest_of
from cai.data.label_log import sha
from cai.data.labels import check_rule, label_file, labeller_of, read_labels, spend
from cai.judge.label import (
    Simulation,
    label_by_coin,
    label_by_length,
    label_by_people,
    label_by_simulation,
    mix_labels,
)

PAIRS = [Pair(f"p{n}", prompt(f"q{n}"), f"a{n}", f"b{n}") for n in range(4)]
KIND = (Judging("n", "Choose the response that is good.", (), 1.0),)


def labels(tmp_path, *rows, end="\n", raters=()):
    """What is read of a file: (pair -> rater -> P(a better)), [(line, reason)]."""
    path = tmp_path / "labels.jsonl"
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text + end)
    said, aside = read_labels(path, PAIRS, raters)
    people = {pair: {one.rater: one.p_a for one in some} for pair, some in said.items()}
    return people, [(int(one.where.rpartition(":")[2]), one.reason) for one in aside]


def row(pair="p0", choice="a", rater="ann", **more):
    return {"pair_id": pair, "choice": choice, "rater": rater, **more}


GOOD = row("p3", "tie", "zoe")


def test_choices_and_probabilities_of_several_raters(tmp_path):
    people, aside = labels(
        tmp_path, row(), row(choice="b", rater="bob"), row("p1", "tie"), {"pair_id": "p2", "p_a": 0.25}
    )
    assert people == {"p0": {"ann": 1.0, "bob": 0.0}, "p1": {"ann": 0.5}, "p2": {"unnamed": 0.25}}
    assert aside == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("p9"), "there is no such pair"),
        (row(choice="c"), "choice must be a, b, tie, skip or undo"),
        ({"pair_id": "p0", "p_a": 1.5}, "p_a out of range: it is P(a better), from 0 to 1"),
        ({"pair_id": "p0", "p_a": "high"}, "p_a out of range: it is P(a better), from 0 to 1"),
        ({"pair_id": "p0"}, "neither choice nor p_a"),
        (row(p_a=0.0), "p_a is not what the choice says"),
        (row(seconds=-1), "seconds out of range"),
        ({"choice": "a"}, "a row that is no label: it has no pair_id"),
        ("[1, 2]", "a row that is no label: it has no pair_id"),
        ('{"pair_id": "p0", "cho', "a half-written line"),
        (row(choice="undo"), "an undo with nothing to undo"),
        (row(a_sha=sha("another answer")), "the pair has other answers than the rater saw"),
    ],
)
def test_a_bad_row_is_named_and_costs_no_other(tmp_path, bad, reason):
    assert labels(tmp_path, bad, GOOD) == ({"p3": {"zoe": 0.5}}, [(1, reason)])


def test_numbers_are_read_as_in_every_other_file(tmp_path):
    people, aside = labels(tmp_path, *({"pair_id": f"p{n}", "p_a": p_a} for n, p_a in enumerate((True, "0.25", 1.0))))
    assert (people, aside) == ({"p0": {"unnamed": 1.0}, "p1": {"unnamed": 0.25}, "p2": {"unnamed": 1.0}}, [])


def test_half_a_character_is_named(tmp_path):
    bad = '{"pair_id": "p0", "choice": "a", "note": "\\ud83d"}'
    assert labels(tmp_path, bad, GOOD) == ({"p3": {"zoe": 0.5}}, [(1, "a \\u escape that is half of a character")])


def test_a_half_written_last_line(tmp_path):
    assert labels(tmp_path, GOOD, '{"pair_id": "p0", "cho', end="") == (
        {"p3": {"zoe": 0.5}}, [(2, "a half-written last line")],
    )  # fmt: skip


def test_unknown_raters_where_the_known_are_named(tmp_path):
    people, aside = labels(tmp_path, GOOD, row(rater="an"), row(rater="quentin"), raters=("ann", "zoe"))
    assert people == {"p3": {"zoe": 0.5}}
    assert aside == [(2, 'unknown rater "an" (did you mean "ann"?)'), (3, 'unknown rater "quentin"')]


def test_the_last_word_counts_and_the_others_are_named(tmp_path):
    people, aside = labels(tmp_path, row(), row(choice="b"), row("p1"), row("p1"))
    assert people == {"p0": {"ann": 0.0}, "p1": {"ann": 1.0}}
    assert aside == [(1, "contradicted by the same rater further down"), (3, "said twice by one rater")]


def test_undo_and_skip(tmp_path):
    rows = [row(), row(choice="b"), row(choice="undo"), row("p1"), row("p1", "skip"), row("p2", "skip"), row("p2")]
    people, aside = labels(tmp_path, *rows)
    assert people == {"p0": {"ann": 1.0}, "p2": {"ann": 1.0}}  # back to the first word; a skip is no label
    assert aside == [(4, "contradicted by the same rater further down")]


def test_answers_that_changed_places_turn_the_label_round(tmp_path):
    people, _ = labels(tmp_path, row(a_sha=sha("b0")), row("p1", a_sha=sha("a1")))
    assert people == {"p0": {"ann": 0.0}, "p1": {"ann": 1.0}}


def test_who_judged_by_principles_counts_with_their_mean_unless_they_judged_the_whole(tmp_path):
    people, _ = labels(
        tmp_path, row(principle="kind"), row(choice="b", principle="safe"), row("p1", principle="kind"), row("p1", "b")
    )
    assert people == {"p0": {"ann": 0.5}, "p1": {"ann": 0.0}}


def test_a_file_about_other_pairs_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none of its rows is a label .*there is no such pair: .*labels.jsonl:1"):
        labels(tmp_path, row("p9"))


def test_a_file_is_known_by_its_contents(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(json.dumps(GOOD))
    one, two = (label_file(str(tmp_path / name)) for name in ("one", "two"))
    assert digest_of({"file": one}) == digest_of({"file": two})
    (tmp_path / "two").write_text(json.dumps(row()))
    assert digest_of({"file": one}) != digest_of({"file": label_file(str(tmp_path / "two"))})
    with pytest.raises(UserError, match="there is no file of labels"):
        label_file(str(tmp_path / "three"))


# --- who labels which pair --------------------------------------------------------------------------------------------


def test_shares_are_drawn_by_hash_and_seeded():
    pairs = [Pair(f"x{n}", prompt("q"), "a", "b") for n in range(2000)]
    rule, turned = Sources(shares={"ai": 0.9, "human": 0.1}), Sources(shares={"human": 0.1, "ai": 0.9})
    drawn = [labeller_of(pair, rule, 0) for pair in pairs]
    assert 160 <= drawn.count("human") <= 240  # 200 give or take three standard deviations
    assert drawn == [labeller_of(pair, turned, 0) for pair in pairs] != [labeller_of(pair, rule, 1) for pair in pairs]


def test_subsets():
    rule = Sources(subsets={"crime": "human"}, default="ai")
    other = Pair("x", Prompt("q", (), "helpful", "train"), "a", "b")
    assert (labeller_of(PAIRS[0], rule, 0), labeller_of(other, rule, 0)) == ("human", "ai")
    with pytest.raises(UserError, match='nobody labels pairs of subset "helpful"'):
        labeller_of(other, Sources(subsets={"crime": "human"}), 0)


def test_a_share_that_gives_somebody_no_pair_is_a_fault(tmp_path):
    """Then the arm would be that of the others alone, under another name."""
    few = [Pair(f"x{n}", prompt("q"), "a", "b", human=1.0) for n in range(4)]
    rule = Sources(shares={"ai": 0.99, "human": 0.01})
    assert [labeller_of(pair, rule, 0) for pair in few] == ["ai"] * 4
    said = r"labels\.human: a share of 0\.01 gives people none of the 4 training pairs"
    with pytest.raises(UserError, match=said):
        check_rule(few, rule, 0)
    given = ITS_OWN | {"pairs": artifact(tmp_path / "pairs", pairs=few), "rule": rule}
    with pytest.raises(UserError, match=said):
        label_by_people(tmp_path / "out", None, **given)
    check_rule(few, Sources(shares={"ai": 0.5, "human": 0.5}), 0)
    # Held-out pairs alone do not make a share: the reward model learns from none of them.
    held_out = [
        replace(pair, id=f"y{n}", prompt=replace(pair.prompt, split="test")) for n, pair in enumerate(few * 300)
    ]
    assert "human" in {labeller_of(pair, rule, 0) for pair in held_out}
    with pytest.raises(UserError, match="none of the 4 training pairs"):
        check_rule([*few, *(replace(one, id=f"{one.id}-{n}") for n, one in enumerate(held_out))], rule, 0)


def test_a_budget_of_labels_that_nobody_gave_is_a_fault():
    judged = {pair.id: Label(pair.id, 0.9, "ai") for pair in PAIRS}
    with pytest.raises(UserError, match="people have labelled none of the training pairs, and are to label 2 of them"):
        spend(PAIRS, Sources(default="ai", budget=2), {"p99": Label("p99", 1.0, "human")}, judged, 0)


def test_a_budget_goes_where_the_judge_is_least_sure():
    people = {f"p{n}": Label(f"p{n}", 1.0, "human") for n in (0, 1, 2)}  # nobody labelled p3
    judged = {"p0": Label("p0", 0.9, "ai"), "p1": Label("p1", 0.45, "ai"), "p2": Abstained("p2", "unread")}
    judged["p3"] = Label("p3", 0.5, "ai")
    rule = Sources(default="ai", budget=2, order="uncertain")
    assert spend(PAIRS, rule, people, judged, 0) == {"p1", "p2"}
    assert spend(PAIRS, rule.model_copy(update={"budget": 9}), people, judged, 0) == {"p0", "p1", "p2"}
    drawn = {frozenset(spend(PAIRS, rule.model_copy(update={"order": "random"}), people, judged, n)) for n in range(20)}
    assert drawn == {frozenset(two) for two in (("p0", "p1"), ("p0", "p2"), ("p1", "p2"))}


# --- the stages -------------------------------------------------------------------------------------------------------


def made(folder):
    """What a stage of labels left: labels by pair, abstentions by pair, counts."""
    found = {label.pair_id: label for label in read_jsonl(folder / "labels.jsonl", Label)}
    abstained = {row.pair_id: row.reason for row in read_jsonl(folder / "abstained.jsonl", Abstained)}
    return found, abstained, json.loads((folder / "counts.json").read_text())


def test_people_of_a_file_leave_labels_votes_and_what_was_set_aside(tmp_path, capsys):
    path, out = tmp_path / "labels.jsonl", tmp_path / "out"
    rows = [row(note="hm", seconds=2.5), row(choice="b", rater="bob"), row("p9"), row("p8")]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    out.mkdir()
    given = ITS_OWN | {"file": label_file(str(path))}
    label_by_people(out, None, pairs=artifact(tmp_path / "pairs", pairs=PAIRS), **given)
    found, abstained, counts = made(out)
    assert found == {
        "p0": Label("p0", 0.5, "human file", said=(RaterVote("ann", 1.0, "hm", 2.5), RaterVote("bob", 0.0)))
    }
    assert set(abstained) == {"p1", "p2", "p3"}
    assert counts["labelled by human file"] == 1 and counts["rows set aside: there is no such pair"] == 2
    aside = read_jsonl(out / "set_aside.jsonl", SetAside)
    assert [json.loads(one.row)["pair_id"] for one in aside] == ["p9", "p8"]
    assert f"there is no such pair: {path}:3, {path}:4" in capsys.readouterr().err


def test_simulated_people_name_one_answer_and_some_are_turned_round(tmp_path):
    pairs = [Pair(f"x{n}", prompt(f"q{n}"), "good", "bad") for n in range(300)]
    script = ScriptedJudge(lambda q: (-0.1, -2.0) if "Assistant: good" in q.chat[-1].content else (-2.0, -0.2))
    people = Simulation((asked_judge(Judge(), KIND),) * 2, flip=0.25, seed=0)
    out = tmp_path / "out"
    out.mkdir()
    label_by_simulation(
        out, Bench(script), pairs=artifact(tmp_path / "pairs", pairs=pairs), rule=None, people=people,
    )  # fmt: skip
    found, _, counts = made(out)
    assert {label.source for label in found.values()} == {"simulated"}
    assert {label.p_a for label in found.values()} == {0.0, 1.0} and all(label.votes for label in found.values())
    turned = [label for label in found.values() if label.said[0].note == "turned round"]
    assert all((label.p_a == 0) == (label in turned) for label in found.values())
    assert 52 <= len(turned) <= 98 and counts["simulated choices turned round"] == len(turned)  # 75 give or take 3 s.d.
    raters = [label.said[0].rater for label in found.values()]
    assert 124 <= raters.count("simulated 1") <= 176 and len(set(raters)) == 2


def ruled(stage, tmp_path, pairs, rule=None, **given):
    out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
    out.mkdir()
    stage(out, None, pairs=artifact(out / "pairs", pairs=pairs), rule=rule, seed=0, **given)
    return made(out)


def test_a_coin_is_tossed_for_each_pair_and_seed(tmp_path):
    """`printf '["coin",0,"p4"]' | sha256sum` begins with "a", p5 to p7 with "3", "1" and "1": below "8" is for a."""
    four = [Pair(f"p{n}", prompt(f"q{n}"), f"a{n}", f"b{n}", human=1.0) for n in range(4, 8)]
    found, abstained, counts = ruled(label_by_coin, tmp_path, four, replica=0)
    by_hand = {"p4": 0.0, "p5": 1.0, "p6": 1.0, "p7": 1.0}
    assert found == {name: Label(name, p_a, "shuffled") for name, p_a in by_hand.items()}
    assert (abstained, counts) == ({}, {"labelled": 4, "labelled by shuffled": 4})
    many = [Pair(f"x{n}", prompt(f"q{n}"), "a", "b") for n in range(400)]
    first, _, _ = ruled(label_by_coin, tmp_path, many, replica=0)
    fewer, _, _ = ruled(label_by_coin, tmp_path, many[100:], replica=0)
    again, _, _ = ruled(label_by_coin, tmp_path, many, replica=1)
    assert all(first[name] == label for name, label in fewer.items())  # a pair more or less moves no other's label
    assert 170 <= sum(label.p_a for label in first.values()) <= 230  # 200 give or take three standard deviations
    assert 170 <= sum(first[name].p_a == again[name].p_a for name in first) <= 230  # another seed, another coin


def test_the_shorter_answer_is_better_and_one_length_is_no_label(tmp_path):
    pairs = [
        Pair("p0", prompt("q"), "one two", "one two three"),  # 2 words against 3: a
        Pair("p1", prompt("q"), "a longer answer", "no"),  # 3 against 1: b
        Pair("p2", prompt("q"), "two words", "other  words"),  # 2 against 2: nobody labels it
        Pair("p3", prompt("q"), "incomprehensibilities", "a b"),  # 1 against 2: words count, not letters
        Pair("p4", replace(prompt("q"), split="calibration"), "a", "b c"),  # nobody learns from it
    ]
    found, abstained, counts = ruled(label_by_length, tmp_path, pairs)
    assert found == {name: Label(name, p_a, "shorter") for name, p_a in (("p0", 1.0), ("p1", 0.0), ("p3", 1.0))}
    assert abstained == {"p2": "answers of one length"}
    assert counts == {"abstained: answers of one length": 1, "labelled": 3, "labelled by shorter": 3}


def test_a_coin_and_length_label_their_own_pairs_of_a_mix(tmp_path):
    """Noise of a known share: who labels a pair is drawn as for every other mix."""
    many = [Pair(f"x{n}", prompt(f"q{n}"), "a", "b c") for n in range(400)]
    rule = Sources(shares={"shorter": 0.75, "shuffled": 0.25})
    coin, _, _ = ruled(label_by_coin, tmp_path, many, rule, replica=0)
    length, _, _ = ruled(label_by_length, tmp_path, many, rule)
    assert not coin.keys() & length.keys() and len(coin) + len(length) == 400
    assert 74 <= len(coin) <= 126  # 100 give or take three standard deviations
    assert {name for name in coin if coin[name].p_a not in (0.0, 1.0)} == set()


def mixed(tmp_path, rule, pairs=PAIRS):
    ai = artifact(tmp_path / "ai", labels=[Label(f"p{n}", 0.6 + n / 10, "ai") for n in range(4)], abstained=[])
    human = artifact(
        tmp_path / "human", labels=[Label("p0", 0.0, "human"), Label("p1", 0.0, "human")],
        abstained=[Abstained("p2", "no human judged this pair"), Abstained("p3", "no human judged this pair")],
    )  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    parts = {"ai": ai, "human": human}
    mix_labels(out, None, pairs=artifact(tmp_path / "pairs", pairs=pairs), rule=rule, parts=parts, seed=0)
    return made(out)


def test_a_mix_takes_each_label_from_its_source_and_nobody_steps_in(tmp_path):
    """Subset of p0 and p2: people's; they did not judge p2."""
    pairs = [Pair(p.id, Prompt(p.id, (), "own" if p.id in ("p0", "p2") else "other", "train"), "a", "b") for p in PAIRS]
    found, abstained, counts = mixed(tmp_path, Sources(subsets={"own": "human"}, default="ai"), pairs)
    assert {name: (label.p_a, label.source) for name, label in found.items()} == {
        "p0": (0.0, "human"), "p1": (0.7, "ai"), "p3": (pytest.approx(0.9), "ai"),
    }  # fmt: skip
    assert abstained == {"p2": "no human judged this pair"}
    assert (counts["labelled by ai"], counts["labelled by human"], counts["labelled"]) == (2, 1, 3)


def test_a_budget_that_people_could_not_spend_is_counted(tmp_path):
    found, _, counts = mixed(tmp_path, Sources(default="ai", budget=3, order="uncertain"))
    assert [label.source for label in found.values()] == ["human", "human", "ai", "ai"]
    assert counts["budget of human labels"] == 3 and counts["budget spent"] == 2


def test_a_subset_that_no_pair_has_is_a_slip_of_the_pen(tmp_path):
    with pytest.raises(UserError, match='no pair is of subset "crimes"') as error:
        label_by_people(
            tmp_path, None, pairs=artifact(tmp_path / "pairs", pairs=PAIRS),
            **ITS_OWN | {"rule": Sources(subsets={"crimes": "human"}, default="ai")},
        )  # fmt: skip
    assert error.value.remedy == 'did you mean "crime"?'
