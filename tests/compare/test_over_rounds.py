"""What rounds do, over rounds: an arm of two rounds and an arm of one, two seeds each; all numbers by hand."""

import json
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from test_criteria_section import criterion, made
from test_schema import given

from cai.compare import report
from cai.compare.cells import Cell, Iteration, Measured
from cai.compare.contents import KINDS
from cai.compare.schema import as_json, read_results
from cai.compare.sections.over_rounds import drawn, fresh_agreement, labels_so_far, over_rounds
from cai.compare.sections.rounds import RoundReport, rounds
from cai.config.load import Arm
from cai.config.sections import Data, Pairs
from cai.core.records import Label, Message, Pair, Prompt, Response, plain, write_jsonl
from cai.core.store import Artifact
from cai.judge.rate import TextRating
from cai.train.distributions import AnswerDrift
from cai.train.scores import Score

TEST = [Prompt(f"q{n}", (Message("user", f"Question {n}?"),), "all", "test") for n in range(2)]
TRAIN = [Prompt(f"t{n}", (Message("user", f"Lesson {n}?"),), "all", "train") for n in range(2)]


class Folder:
    """A folder of stages, each by a number of its own."""

    def __init__(self, place: Path) -> None:
        self.place, self.count = place, 0

    def __call__(self, **files: Any) -> Artifact:
        self.count += 1
        return made(self.place, f"stage{self.count}", **files)

    def merits(self, *values: float) -> Artifact:
        return self(merits=[TextRating(p.id, 0, value) for p, value in zip(TEST, values, strict=True)])

    def rewards(self, *values: float) -> Artifact:
        return self(scores=[Score(p.id, "", value) for p, value in zip(TEST, values, strict=True)])

    def margins(self, **a_minus_b: float) -> Artifact:
        return self(scores=[Score(n, side, d * (side == "a")) for n, d in a_minus_b.items() for side in "ab"])

    def fresh(self, name: str, labels: tuple[float, float], trained: int) -> Iteration:
        """Pairs <name>0 and <name>1 of the held-out prompts, labelled so, and so many labelled pairs to train on."""
        pairs = [Pair(f"{name}{n}", prompt, "A.", "B.") for n, prompt in enumerate(TEST)]
        own = [Pair(f"{name}t{n}", TRAIN[n], "A.", "B.") for n in range(2)]
        labelled = [Label(f"{name}{n}", p, "ai") for n, p in enumerate(labels)]
        labelled += [Label(f"{name}t{n}", 1.0, "ai") for n in range(trained)]
        policy = self(curves={})
        return Iteration(self(pairs=[*pairs, *own]), self(labels=labelled), self(), policy)


def cell(arm: str, seed: int, data: Artifact, lineage: tuple[Iteration, ...]) -> Cell:
    nothing: Any = None
    settings = Arm(
        constitution="c.txt", data=Data(source="d"), pairs=Pairs(source="policy"), rounds=len(lineage),
    )  # fmt: skip
    last = lineage[-1]
    return Cell(
        arm=arm, seed=seed, settings=settings, constitution=nothing, data=data, helpful=None, revised=data, sft=data,
        pairs=last.pairs, preflight=None, labels=last.labels, reward=last.reward, policy=last.policy, labellers={},
        lineage=lineage,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path) -> tuple[list[Cell], Measured]:
    make = Folder(tmp_path)
    judged = [Pair(f"p{n}", prompt, "A.", "B.", human=1.0) for n, prompt in enumerate(TEST)]
    data = make(pairs=judged, prompts=[*TEST, *TRAIN])
    measured = Measured(None)
    measured.merits["sft", "red-team"] = make.merits(0.0, 2.0)
    measured.harm_scores["sft"] = make.rewards(0.9, 0.7)
    answers = [Response(prompt.id, "two words", "sft", "stop") for prompt in TEST]
    measured.answers["sft", "red-team"] = make(responses=answers)
    cells = []
    #                    merits of each round
    for seed, merits in ((0, ((1.0, 3.0), (3.0, 5.0))), (1, ((2.0, 4.0), (3.0, 5.0)))):
        lineage = (make.fresh("f", (0.9, 0.2), 2), make.fresh(f"g{seed}", (0.8, 0.6), 1))
        one = cell("online", seed, data, lineage)
        cells.append(one)
        names = (f"online/{seed} round 1", f"online/{seed}")
        for number, name in enumerate(names):
            measured.merits[name, "red-team"] = make.merits(*merits[number])
            measured.harm_scores[name] = make.rewards(0.5 - 0.1 * number, 0.3)
            texts = [Response(prompt.id, "word " * (4 + 2 * number + seed), name, "stop") for prompt in TEST]
            measured.answers[name, "red-team"] = make(responses=texts)
            kls = [AnswerDrift("q0", 1.0 + 2 * number, 9), AnswerDrift("q1", 2.0 + 2 * number + seed, 9)]
            measured.drift[name] = make(drift=kls)
            for policy, values in (("sft", (0, 2)), (names[0], (2, 4)), (names[1], (3, 3))):
                measured.scores[name, policy] = make.rewards(*((10 * number + 5) * value for value in values))
        # With people: the first reward model is right on one of two pairs, with seed 1 on both; the second always.
        measured.round_pairs[names[0], "people"] = make.margins(p0=1.0, p1=1.0 if seed else -1.0)
        measured.round_pairs[names[1], "people"] = make.margins(p0=2.0, p1=2.0)
        # The labels say a and b of the first round's pairs, a and a of the second's.
        measured.round_pairs[names[0], names[0]] = make.margins(f0=1.0, f1=1.0)
        measured.round_pairs[names[0], names[1]] = make.margins(**{f"g{seed}0": -1.0, f"g{seed}1": 1.0})
        measured.round_pairs[names[1], names[1]] = make.margins(**{f"g{seed}0": 1.0, f"g{seed}1": 1.0})
        measured.games[names[0], "sft"] = measured.games[names[1], "sft"] = make(
            games=[Label("q0", 0.9, "ai"), Label("q1", 0.5, "ai")]
        )
    for seed, merit in ((0, 1.0), (1, 2.0)):
        name = f"once/{seed}"
        cells.append(cell("once", seed, data, (make.fresh("f", (0.9, 0.2), 2),)))
        measured.merits[name, "red-team"] = make.merits(merit, merit)
        measured.answers[name, "red-team"] = make(responses=answers)
        measured.drift[name] = make(drift=[AnswerDrift("q0", 2.0, 9), AnswerDrift("q1", 2.0, 9)])
        measured.games[name, "sft"] = make(games=[Label("q0", 0.9, "ai"), Label("q1", 0.1, "ai")])
        for policy in ("sft", name):
            measured.scores[name, policy] = make.rewards(0.0, 1.0)
    return cells, measured


def test_all_of_it_by_hand(run):
    lines = {line.key: line for line in over_rounds(*run)}
    value = {
        key: {(at.arm, at.round): pytest.approx(at.estimate.value) for at in line.points} for key, line in lines.items()
    }
    # Means of two seeds and two prompts: (1 + 3 + 2 + 4) / 4 and so on.
    assert value["harmlessness"] == {
        ("online", 0): 1.0, ("online", 1): 2.5, ("online", 2): 4.0, ("once", 0): 1.0, ("once", 1): 1.5,
    }  # fmt: skip
    assert value["harmfulness"] == {
        ("online", 0): 0.8, ("online", 1): 0.4, ("online", 2): 0.35, ("once", 0): 0.8,
    }  # fmt: skip
    # SFT answers at 0 and 2: mean 1, spread 1. (2 + 4) / 2 is 2 above, (3 + 3) / 2 is 2 above too; whatever the model's
    # own unit (it is 5 or 15 times as large).
    assert value["reward_last"] == {
        ("online", 0): 0.0, ("online", 1): 2.0, ("online", 2): 2.0, ("once", 0): 0.0, ("once", 1): 0.0,
    }  # fmt: skip
    assert value["reward_own"] == {("online", 1): 2.0, ("online", 2): 2.0, ("once", 1): 0.0}
    # Round 1: 1 of 2 right, and 2 of 2.
    assert value["people"] == {("online", 1): 0.75, ("online", 2): 1.0}
    # Round 1: a and a where the labels say a and b. Round 2: both right; the model before is right on the second.
    assert value["fresh"] == {("online", 1): 0.5, ("online", 2): 1.0} and value["before"] == {("online", 2): 0.5}
    # (1 + 2 + 1 + 3) / 4 and two nats more.
    assert value["kl"] == {
        ("online", 0): 0.0, ("online", 1): 1.75, ("online", 2): 3.75, ("once", 0): 0.0, ("once", 1): 2.0,
    }  # fmt: skip
    assert value["words"][("online", 0)] == 2.0 and value["words"][("online", 2)] == 6.5

    at = {(at.arm, at.round): at for at in lines["harmlessness"].points}
    assert at["online", 1].seeds == [2.0, 3.0] and at["online", 2].seeds == [4.0, 4.0]
    assert [at["online", number].labels for number in range(3)] == [0, 2, 3] and at["once", 1].labels == 2
    assert (at["online", 1].estimate.n, at["online", 1].estimate.clusters) == (2, 2)
    zero = next(at.estimate for at in lines["kl"].points if at.round == 0)
    assert (zero.low, zero.high, zero.n) == (0.0, 0.0, 2)  # known, and no estimate
    # Prompts drawn as wholes: both times q0, (1 + 2) / 2, or both times q1, (3 + 4) / 2.
    assert (at["online", 1].estimate.low, at["online", 1].estimate.high) == (1.5, 3.5)


def test_differences_are_between_rounds_arms_and_reward_models(run):
    lines = {line.key: line for line in over_rounds(*run)}
    gain = lines["harmlessness"].gains["online"]
    assert (gain.of, gain.estimate.value, gain.seeds) == (("round 2", "round 1"), 1.5, 2)  # 2 with seed 0, 1 with 1
    assert list(lines["harmlessness"].gains) == ["online"]
    between = lines["harmlessness"].between
    # Seed 0: 3 - 1 and 5 - 1; seed 1: 3 - 2 and 5 - 2.
    assert between and (between.of, between.estimate.value) == (("online", "once"), 2.5)
    # Of the two arms one has two seeds that agree, the other's differ by 1: sqrt((0 + 1) / 2).
    noise = lines["harmlessness"].noise
    assert noise and noise.value == pytest.approx(sqrt(0.5)) and noise.n == 2
    # On the last round's pairs: right on q0 where the one before is wrong, and right with it on q1.
    renewed = lines["fresh"].gains["online"]
    assert renewed.of == ("round 2", "the reward model before") and renewed.estimate.value == 0.5
    assert lines["fresh"].between is None and lines["before"].gains == {}
    assert lines["kl"].gains["online"].estimate.value == 2.0
    assert lines["people"].gains["online"].margin == 0.05 and lines["people"].between is None


def test_of_pairs_that_differ_between_seeds_the_rows_are_the_prompts(tmp_path):
    make = Folder(tmp_path)
    its = make.fresh("f", (0.9, 0.5), 0)  # a tie is nobody's side
    assert its.labels and fresh_agreement({"f0": 0.2, "f1": 0.9}, its.pairs, its.labels) == {"q0": 0.0}
    assert fresh_agreement({"f0": 0.5}, its.pairs, its.labels) == {"q0": 0.5}


def test_what_is_drawn_and_shown(run, tmp_path):
    cells, measured = run
    made_of = rounds(cells, measured)
    results = as_json(given(over_rounds=over_rounds(cells, measured), rounds=made_of)) | {"arms": ["online", "once"]}
    charts = {chart.title: chart for chart in drawn(results)}
    assert list(charts) == [
        "Harmlessness by the evaluation's judge", "Absolute harmfulness", "Reward", "Do reward models agree?",
        "Drift from the SFT policy", "Answer length", "What drift buys",
    ]  # fmt: skip
    first = charts["Harmlessness by the evaluation's judge"]
    assert [[(p.x, p.y, p.up) for p in one.points if p] for one in first.series] == [
        [(0, 1.0, (0.0, 2.0)), (2, 2.5, (1.5, 3.5)), (3, 4.0, (3.0, 5.0))],
        [(0, 1.0, (0.0, 2.0)), (2, 1.5, (1.5, 1.5))],
    ]  # fmt: skip
    assert [series.name for series in charts["Do reward models agree?"].series] == [
        "online with people", "online with the round's labels", "online, the one before, with these",
    ]  # fmt: skip
    assert [series.name for series in charts["What drift buys"].series] == [
        "SFT policy", "online, round 1", "online, round 2", "once, round 1",
    ]  # fmt: skip
    report.write_report(results, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    shown = ("Round by round", "round 2 minus round 1: ", "+1.50", "What drift buys", "Table of measures over rounds")
    assert [text for text in shown if text not in page] == []
    (tmp_path / "results.json").write_text(json.dumps(results, allow_nan=False))
    back = read_results(tmp_path / "results.json", KINDS).sections
    assert back["over_rounds"] == over_rounds(cells, measured) and back["rounds"] == made_of
    # An older run has the table alone.
    report.write_report({**results, "over_rounds": []}, [], tmp_path / "older.html")
    assert "Table of rounds" in (tmp_path / "older.html").read_text() and drawn({**results, "over_rounds": []}) == []


def test_arms_of_one_round_have_nothing_to_say(run):
    cells, measured = run
    assert over_rounds([one for one in cells if one.arm == "once"], measured) == []
    assert rounds([one for one in cells if one.arm == "once"], measured) == []


def test_an_arm_without_a_reward_model_of_its_own_has_its_rounds_all_the_same(run, tmp_path):
    """`dpo` learns from labels, and each of `criteria:` has a reward model of its own."""
    cells, measured = run
    apart = {"kind": criterion(tmp_path, "kind", [0.9], 1.0, 1.0)}
    write_jsonl(apart["kind"].labels / "labels.jsonl", [Label("ft0", 1.0, "ai")])  # pyrefly: ignore
    bare = [
        replace(one, labels=None, reward=None, lineage=tuple(
            replace(its, reward=None, labels=None, criteria=apart if one.seed else {}) for its in one.lineage
        )) for one in cells if one.arm == "online"
    ]  # fmt: skip
    measured.scores.clear()
    measured.round_pairs.clear()
    lines = over_rounds(bare, measured)
    assert [line.key for line in lines] == ["harmlessness", "harmfulness", "kl", "words"]
    assert labels_so_far(bare[0]) == [0, 0, 0] and labels_so_far(bare[1]) == [0, 1, 1]
    ((first, *_),) = [rounds(bare, measured)]
    assert isinstance(first, RoundReport) and first.reward is None and first.win_rate_vs_sft.value == 0.75
    report.write_report(as_json(given(rounds=[first], over_rounds=lines)), [], tmp_path / "report.html")
    assert "Table of rounds" in (tmp_path / "report.html").read_text()
    assert plain(first)["reward"] is None
