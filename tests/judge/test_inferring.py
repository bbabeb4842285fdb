"""A constitution read back out of labels: the round trip on a made judge, whose votes are known functions of a text."""

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Judge
from cai.constitution import read_constitution
from cai.constitution.lint import warnings
from cai.constitution.negation import negate
from cai.core.errors import UserError
from cai.core.odds import sigmoid
from cai.core.records import Label, Message, Pair, Prompt
from cai.core.templates import load_template
from cai.data.annotated import annotated_pairs, key_of_pair, principle_votes
from cai.data.comparisons import read_comparisons
from cai.judge.asking import judge_pairs
from cai.judge.inferring.candidates import (
    BANK,
    DECOY,
    PROPOSED,
    Candidate,
    candidates,
    decoy_sentences,
    merged,
    plain_principle,
    shortened,
)
from cai.judge.inferring.command import AskedByAll, relabelled
from cai.judge.inferring.inference import Inference, infer
from cai.judge.inferring.labelled import from_file, labelled, sampled
from cai.judge.inferring.page import page, side_by_side
from cai.judge.inferring.proposing import propose, sentence, set_apart, wrongly_ranked
from cai.judge.inferring.voting import VoteTable, cast_votes
from cai.judge.inferring.written import read_back, written
from cai.models.engines import Question
from cai.stats.selection import select_voters

COLOURS = (
    "amber", "azure", "beige", "black", "bronze", "brown", "coral", "cream", "crimson", "cyan", "gold", "green", "grey",
    "indigo", "ivory", "jade", "khaki", "lilac", "lime", "maroon", "navy", "ochre", "olive", "orange",
)  # fmt: skip
JUDGE = Judge(principles="all", min_mass=0.0, method="channel")
PLANTED = ("azure", "coral", "jade")


def prefers(colour: str) -> str:
    return f"Choose the response that mentions {colour}."


def rows_of(colours: Sequence[str] = COLOURS) -> list[Candidate]:
    return [Candidate(plain_principle(prefers(colour)), "colours") for colour in colours]


def answer(rng: random.Random) -> str:
    return " ".join(["Well,", *(colour for colour in COLOURS if rng.random() < 0.5), *["so"] * rng.randrange(1, 8)])


def pairs_of(seed: int, prompts: int = 90, each: int = 2) -> list[Pair]:
    rng = random.Random(seed)
    made = []
    for n in range(prompts):
        prompt = Prompt(f"p{n}", (Message("user", f"Which colour, {n}?"),), "colours", "train" if n % 3 else "test")
        made += [Pair(f"{n} {k}", prompt, answer(rng), answer(rng)) for k in range(each)]
    return made


def reads(text: str, colour: str) -> float:
    """How much of a colour the made judge sees in an answer: whether it stands there, and a whim about the answer."""
    whim = random.Random(f"{text} {colour}").gauss(0, 0.5)
    return float(f" {colour} " in f" {text} ") + whim


def script(question: Question) -> tuple[float, ...]:
    """The made judge's log-probability of a principle (channel): it follows "mentions" and "does not mention"."""
    said = question.chat[-1].content.partition("Assistant: ")[2].partition("\n\nWhich instruction")[0]
    colour = re.search(r"mentions? (\w+)", question.options[0])
    if colour is None:
        return (-10.0,)
    sign = -1 if "does not" in question.options[0] else 1
    return (-10.0 + 2 * sign * reads(said, colour[1]),)


def votes_by(pairs: list[Pair], rows: list[Candidate]) -> VoteTable:
    """What `script` says, without asking: half the difference of both sides, of a less of b."""
    colours = [re.search(r"mentions (\w+)", row.principle.prefer)[1] for row in rows]  # pyrefly: ignore
    odds = {pair.id: tuple(2 * (reads(pair.a, c) - reads(pair.b, c)) for c in colours) for pair in pairs}
    return VoteTable(tuple(row.name for row in rows), odds, frozenset())


def planted_labels(pairs: list[Pair], seed: int) -> list[float]:
    """Drawn by the mean of three principles: about four of five labels are what the text says."""
    table = votes_by(pairs, rows_of(PLANTED))
    rng = random.Random(seed)
    return [float(rng.random() < sigmoid(2 * sum(table.odds[pair.id]) / 3)) for pair in pairs]


# The round trip -------------------------------------------------------------------------------------------------------


def found(of: Inference) -> set[str]:
    return {each.name.removeprefix("Choose the response that mentions ").rstrip(".") for each in of.explains}


def selecting(pairs: list[Pair], labels: list[float], table: VoteTable) -> tuple[list, list, list]:
    """(votes, labels, prompts) of what is selected on."""
    on = [at for at, pair in enumerate(pairs) if pair.prompt.split == "train"]
    return table.rows([pairs[at] for at in on]), [labels[at] for at in on], [pairs[at].prompt.id for at in on]


def test_of_three_planted_principles_two_are_recovered_and_of_shuffled_labels_none() -> None:
    recovered, intruders, alarms = 0, 0, 0
    agreed: list[float] = []
    rows = rows_of()
    for seed in range(20):
        pairs = pairs_of(seed)
        table, labels = votes_by(pairs, rows), planted_labels(pairs, seed)
        planted = infer(labelled("planted", zip(pairs, labels, strict=True)), table, rows, seed=seed)
        recovered += len(found(planted) & set(PLANTED)) >= 2
        intruders += bool(found(planted) - set(PLANTED))
        assert not any(each.reversed for each in planted.explains if each.name in map(prefers, PLANTED))
        agreed.append(planted.agreement["selected"].value)
        for again in range(5):
            random.Random(f"{seed} {again}").shuffle(labels)
            alarms += bool(select_voters(*selecting(pairs, labels, table), flips=300, seed=again).voters)
    assert recovered >= 18 and intruders <= 3
    assert alarms <= 10  # of 100; 5 are expected (19 of 400 when this was written), more than 10 once in 90 times
    assert np.mean(agreed) > 0.68  # the labels themselves are a draw: the planted text agrees with 73% of them


def test_what_is_written_labels_as_the_planted_text_does(tmp_path: Path) -> None:
    """Through the judge: the planted file labels, the file that was read back labels anew."""
    judge = ScriptedJudge(script)
    file = tmp_path / "planted.txt"
    file.write_text("\n".join(f"- {prefers(colour)}" for colour in PLANTED))
    asked = asked_judge(JUDGE)
    pairs = pairs_of(0, each=1)
    verdicts = judge_pairs(judge, pairs, asked.under(read_constitution(file)), title="plant")
    labels = [verdict.p_a for verdict in verdicts if isinstance(verdict, Label)]
    rows = merged(rows_of(), [Candidate(plain_principle(text), DECOY) for text in decoy_sentences(pairs, 4, 0)])
    of = labelled("planted", zip(pairs, labels, strict=True))
    inference = infer(of, cast_votes(judge, pairs, asked, rows, "votes"), rows)
    assert found(inference) == set(PLANTED) and inference.decoys == ()
    text, unwritten = written(inference, rows, "a made judge")
    assert unwritten == []
    (again,) = relabelled(text, of, AskedByAll(judge, asked)).values()
    assert again.value > 0.95 and again.clusters == 30
    assert inference.agreement["selected"].value == pytest.approx(again.value)  # the fit says what the file says
    constitution = read_back(text, tmp_path / "read-back.txt")
    assert constitution.form == "full" and warnings(constitution) == []
    assert {p.prefer for p in constitution.principles} == set(map(prefers, PLANTED))
    assert max(p.weight for p in constitution.principles) == 1
    assert all(p.against == p.prefer.replace("mentions", "does not mention") for p in constitution.principles)


def test_votes_are_those_of_the_judges_method() -> None:
    rows, pairs = rows_of(["azure", "jade"]), pairs_of(1, prompts=3)
    asked = cast_votes(ScriptedJudge(script), pairs, asked_judge(JUDGE), rows, "votes")
    made = votes_by(pairs, rows)
    assert asked.names == made.names
    for pair in pairs:
        assert asked.odds[pair.id] == pytest.approx(made.odds[pair.id])


def test_labels_that_go_against_a_principle_are_written_turned_round() -> None:
    pairs, rows = pairs_of(3), rows_of()
    labels = [1 - p for p in planted_labels(pairs, 3)]
    inference = infer(labelled("turned", zip(pairs, labels, strict=True)), votes_by(pairs, rows), rows)
    assert found(inference) & set(PLANTED) and all(each.reversed for each in inference.explains)
    assert all(each.sides.value > 0.5 and each.weight > 0 for each in inference.explains)
    text, _ = written(inference, rows, "a made judge")
    principles = read_back(text, Path("x.txt")).principles
    assert all(p.prefer.startswith("Choose the response that does not mention") for p in principles)
    assert all(p.name.startswith("not: mentions ") for p in principles)
    assert any(line.startswith("AGAINST: mentions") for line in page(inference))
    assert any(line.startswith("colours, whole, all pairs") for line in page(inference))


def test_what_cannot_be_turned_round_is_named_and_not_written() -> None:
    pairs = pairs_of(3)
    rows = [Candidate(plain_principle("Blue."), "mine")]
    table = VoteTable(("Blue.",), {pair.id: (2 * random.Random(pair.id).gauss(0, 1),) for pair in pairs}, frozenset())
    labels = [float(table.odds[pair.id][0] < 0) for pair in pairs]
    inference = infer(labelled("blue", zip(pairs, labels, strict=True)), table, rows)
    assert inference.explains[0].reversed and rows[0].opposite is None
    assert written(inference, rows, "nobody") == ("", ["Blue."])


def test_a_liking_for_length_is_told_from_what_a_principle_says() -> None:
    """Labels by length alone: a principle whose votes go with length is selected, and adds nothing beyond it."""
    pairs = pairs_of(4, prompts=120)
    names = ("Choose the response that is longer.", prefers("jade"))
    rows = [Candidate(plain_principle(name), "mine") for name in names]
    longer = {pair.id: math.log((1 + len(pair.a.split())) / (1 + len(pair.b.split()))) for pair in pairs}
    odds = {pair.id: (5 * longer[pair.id] + random.Random(pair.id).gauss(0, 0.3), 0.1) for pair in pairs}
    labels = [float(longer[pair.id] > 0) if longer[pair.id] else 0.5 for pair in pairs]
    inference = infer(labelled("by length", zip(pairs, labels, strict=True)), VoteTable(names, odds, frozenset()), rows)
    (only,) = inference.explains
    assert only.name == names[0] and only.beyond_length > 0.05
    assert inference.agreement["the longer answer"].value == 1.0 and inference.over_length.value <= 0


def test_an_answer_without_words_is_no_evidence_for_a_principle() -> None:
    pairs, rows = pairs_of(5, prompts=30), rows_of(["jade"])
    empty = Pair("empty", pairs[0].prompt, "", "jade")
    table = cast_votes(ScriptedJudge(script), [*pairs, empty], asked_judge(JUDGE), rows, "votes")
    assert table.undecided == {"empty"} and math.isnan(table.odds["empty"][0])
    of = labelled("x", [*((pair, 1.0) for pair in pairs), (empty, 0.0)])
    inference = infer(of, table, rows)
    assert inference.selected_on[0] + inference.held_out[0] == len(pairs)


# Candidates -----------------------------------------------------------------------------------------------------------


def test_the_bank_has_forty_principles_or_more_each_with_an_opposite() -> None:
    bank = read_constitution(BANK)
    assert len(bank.principles) >= 40 and bank.title and bank.notes and warnings(bank) == []
    assert [p.name for p in bank.principles if negate(p.prefer) is None] == []
    assert max(len(p.prefer.split()) for p in bank.principles) <= 16


def test_each_text_is_a_candidate_once_and_names_do_not_collide(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    full = "## kind\n\nCritique: c\n\nRevise: r\n\nPrefer: Choose the response that is {}.\n"
    one.write_text(full.format("kind") + "\n" + full.format("true").replace("## kind", "## true"))
    two.write_text(full.format("gentle") + "\n" + full.format("true").replace("## kind", "## also true"))
    rows = candidates([str(one), str(two)], ["Choose the response that oils the chain."])
    assert [(row.name, row.origin) for row in rows] == [
        ("kind", "one"), ("true", "one"), ("kind (two)", "two"), ("Choose the response that oils the chain.", DECOY),
    ]  # fmt: skip
    with pytest.raises(UserError, match="there is no candidate"):
        candidates([])


def test_decoys_speak_of_nothing_in_the_prompts() -> None:
    prompt = Prompt("p", (Message("user", "How do I oil the chain of a bicycle before a tour?"),), "", "train")
    texts = decoy_sentences([Pair("x", prompt, "a", "b")], 6, 0)
    assert len(set(texts)) == 6 and not any("chain" in text for text in texts)
    assert decoy_sentences([], 0, 0) == []
    with pytest.raises(UserError, match="lower it to"):
        decoy_sentences([], 1000, 0)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Choose the response that is shorter.", "is shorter"),
        ("Blue.", "Blue"),
        ("Choose the reply.", "Choose the reply"),
    ],
)
def test_a_principle_is_called_by_what_is_its_own(text: str, short: str) -> None:
    assert shortened(text) == short and len(shortened(text * 20)) == 60


# Proposals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ('Choose the response that is kinder to the person. It says "sorry".', "is kinder to the person"),
        ("Sure! **Choose the response that gives a reason**", "gives a reason"),
        ("The preferred answer gives a clear reason, politely.", "gives a clear reason, politely"),
        ("choose the answer that\nsays less.", "says less"),
        ("I do not know.", ""),
        ("Choose the response that is better than the other answer.", ""),
        ("Choose the response that " + "very " * 30 + "long.", ""),
        ("Choose the response that helps", ""),
        ("", ""),
    ],
)
def test_a_proposal_is_one_sentence_about_any_answer(reply: str, text: str) -> None:
    assert sentence(reply) == (f"Choose the response that {text}." if text else "")


def test_what_is_proposed_comes_from_wrong_pairs_of_prompts_that_take_no_part_in_the_selection() -> None:
    pairs = pairs_of(6)
    labels = planted_labels(pairs, 6)
    rows = rows_of(["amber", "azure"])  # two of the planted three are in no bank
    of = labelled("planted", zip(pairs, labels, strict=True))
    table = votes_by(pairs, rows)
    apart, others = set_apart(of, 0)
    assert 0.2 < len(apart) / 120 < 0.5 and not any(of.held_out[at] for at in apart)
    assert {of.clusters[at] for at in apart}.isdisjoint(of.clusters[at] for at in others)
    on = sorted(apart)
    chosen = select_voters(
        table.rows([pairs[at] for at in on]), [labels[at] for at in on], [of.clusters[at] for at in on]
    )
    wrong = wrongly_ranked(of, apart, table, chosen.weights)
    assert set(wrong) <= apart and 0 < len(wrong) < len(apart)

    def says(request, number: int) -> str:
        better = request.chat[-1].content.partition("Preferred answer: ")[2].partition("\n\n")[0]
        worse = request.chat[-1].content.partition("Other answer: ")[2].partition("\n\n")[0]
        more = [c for c in ("coral", "jade") if c in better.split() and c not in worse.split()]
        return prefers(more[0]) if more else "No idea."

    judge = ScriptedJudge(lambda question: (0.0,), says)
    shown = [(pairs[at], labels[at]) for at in wrong]
    new, unread = propose(judge, load_template("propose"), shown, rows, count=4, seed=0)
    assert {row.name for row in new} == {prefers("coral"), prefers("jade")} and unread > 0
    assert all(row.origin == PROPOSED for row in new)


# Sets of labels -------------------------------------------------------------------------------------------------------


def lines_of(tmp_path: Path, count: int = 40) -> Path:
    rng = random.Random(0)
    file = tmp_path / "pairs.jsonl"
    rows = ({"prompt": f"Which, {n}?", "a": answer(rng), "b": answer(rng), "human": n % 2} for n in range(count))
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_a_file_of_judged_pairs_is_split_by_prompt_and_sampled_by_prompt(tmp_path: Path) -> None:
    of, faults = from_file(str(lines_of(tmp_path)), 0.3)
    assert len(of.pairs) == 40 and faults == () and 0 < sum(of.held_out) < 40
    few = sampled(of, 24, 0)
    assert len(few.pairs) == 24 and set(few.pairs) < set(of.pairs) and sampled(of, 999, 0) is of
    kept = {pair.id: out for pair, out in zip(of.pairs, of.held_out, strict=True)}
    assert all(kept[pair.id] == out for pair, out in zip(few.pairs, few.held_out, strict=True))


def test_a_sample_takes_every_prompt_once_before_any_twice_and_holds_out_as_many() -> None:
    of = labelled("x", ((pair, 1.0) for pair in pairs_of(0, prompts=200)), 0.3)
    few = sampled(of, 100, 0)
    assert len(set(few.clusters)) == 100 and 18 <= sum(few.held_out) <= 42  # 30 are expected, 4.6 about it
    assert len(set(sampled(of, 300, 0).clusters)) == 200


@pytest.mark.parametrize(
    ("source", "problem"),
    [("no/such.jsonl", "no such file or run"), ("nonsense", 'no data source "nonsense"')],
)
def test_what_is_no_labels_is_said(source: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        from_file(source, 0.3)


def test_too_few_prompts_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="prompts to select on, and 8 are needed"):
        from_file(str(lines_of(tmp_path, 6)), 0.3)
    rows = [(pair, 1.0) for pair in pairs_of(0, prompts=20) if pair.prompt.split == "train"]
    with pytest.raises(UserError, match="0 prompts held out, and 2 are needed"):
        labelled("x", rows)


def test_side_by_side_says_which_written_principles_each_set_follows() -> None:
    pairs, rows = pairs_of(7), rows_of()
    rows = [*(Candidate(row.principle, "text") for row in rows[:7]), *rows[7:]]  # amber to coral are written
    table, labels = votes_by(pairs, rows), planted_labels(pairs, 7)
    split = [float(n % 2) for n in range(len(pairs))]
    sets = [labelled("labels", zip(pairs, labels, strict=True)), labelled("a coin", zip(pairs, split, strict=True))]
    lines = side_by_side([infer(each, table, rows) for each in sets], rows, "text")
    assert lines[0].split() == ["sides", "with", "labels", "a", "coin"]
    (azure,) = (line for line in lines if line.startswith("  mentions azure"))
    assert "+*" in azure and azure.count("%") == 2
    assert "labels: follows 2 and goes against 0 of 7 written principles" in lines[-2]
    assert lines[-1].startswith("a coin: follows 0 and goes against 0 of 7")


# ICAI's annotated pairs -----------------------------------------------------------------------------------------------


def test_annotated_pairs_are_written_and_read_back_with_labels_and_votes(tmp_path: Path) -> None:
    pairs, rows = pairs_of(8, prompts=12, each=1), rows_of(["azure", "jade"])
    table = votes_by(pairs, rows)
    votes = {row.principle.prefer: [table.odds[pair.id][k] for pair in pairs] for k, row in enumerate(rows)}
    votes[prefers("jade")][0] = math.nan
    labels = [float(n % 2) for n in range(12)]
    held = annotated_pairs("colours", pairs, labels, votes)
    assert held["metadata"]["version"] == "2.0" and len(held["annotators"]) == 3
    first = held["comparisons"][0]
    assert set(first) == {"id", "prompt", "response_a", "response_b", "annotations"}
    assert first["annotations"][held["metadata"]["default_annotator"]] == {"pref": "b"}
    assert {"pref": None, "no_pref_reason": "not_applicable"} in first["annotations"].values()

    file = tmp_path / "annotated.json"
    file.write_text(json.dumps(held, indent=1))
    read = read_comparisons(file)
    texts, again = principle_votes(file)
    assert texts == [prefers("azure"), prefers("jade")] and len(read.pairs) == 12
    before = {(pair.prompt.messages, pair.a): n for n, pair in enumerate(pairs)}
    for pair in read.pairs:
        n = before.get((pair.prompt.messages, pair.a))
        turned = n is None
        n = before[pair.prompt.messages, pair.b] if n is None else n
        assert pair.human == (1 - labels[n] if turned else labels[n])
        mine = again[key_of_pair(pair)]
        for text in texts:
            value = votes[text][n]
            expected = 0 if math.isnan(value) else np.sign(value)
            assert mine[text] == (-expected if turned else expected)


def test_a_file_that_no_principle_annotates_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no principle annotates"):
        principle_votes(lines_of(tmp_path))
