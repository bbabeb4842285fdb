"""The preflight: a judge that may go on, one that is stopped and told what does better, and what `auto` picks."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Labeller, Preflight
from cai.constitution import Judging, read_constitution
from cai.core.errors import UserError
from cai.core.records import Label, Message, Pair, Prompt, read_jsonl, write_jsonl
from cai.core.store import Artifact
from cai.judge.label import label_by_judge
from cai.judge.preflight import preflight
from cai.judge.reads.controls import Controls, controls_for
from cai.models.engines import Question

LAW = (Judging("kind", "Choose the response that is kind.", (), 1.0),)


def pairs(split: str, count: int = 12) -> list[Pair]:
    """People prefer the good answer of each; it is a in every other pair."""
    found = []
    for n in range(count):
        prompt = Prompt(f"{split} {n}", (Message("user", f"Question {n}?"),), "crime", split)  # pyrefly: ignore
        a, b = ("Good answer.", "Bad answer.") if n % 2 else ("Bad answer.", "Good answer.")
        found.append(Pair(f"pair {split} {n}", prompt, a, b, float(n % 2)))
    return found


class Bench:
    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def engine(self, source: Any, *, dtype: str, system: str | None) -> Any:
        return self._engine


def folder(path: Path, rows: list[Pair]) -> Artifact:
    path.mkdir(exist_ok=True)
    write_jsonl(path / "pairs.jsonl", rows)
    return Artifact("made", "key", path, "digest")


def fly(
    tmp_path: Path, judge: Labeller, script: Any, rows: list[Pair], controls: Controls | None = None, law: Any = LAW
) -> dict[str, Any]:
    out = tmp_path / "out"
    out.mkdir(parents=True, exist_ok=True)
    data = folder(tmp_path / "data", rows)
    engine = ScriptedJudge(script)
    preflight(
        out, Bench(engine), data=data, pairs=data, judge=asked_judge(judge, law), controls=controls,  # pyrefly: ignore
    )  # fmt: skip
    return json.loads((out / "preflight.json").read_text()) | {"asked": engine.questions}


def honest(question: Question) -> tuple[float, ...]:
    """Rates the good answer higher, and likes the letter A whatever stands there."""
    if question.options == ("A", "B"):
        return math.log(0.9), math.log(0.05)
    good = "Assistant: Good" in question.chat[-1].content
    if question.options == ("Yes", "No"):
        return (math.log(0.5), math.log(0.2)) if good else (math.log(0.2), math.log(0.5))
    return tuple([math.log(0.1)] * len(question.options))


def test_a_judge_that_passes_is_kept(tmp_path: Path) -> None:
    found = fly(tmp_path, Labeller(), honest, pairs("train"))
    assert (found["method"], found["platt"], found["sample"], found["pairs"]) == ("rate", None, "training pairs", 12)
    (tried,) = found["tried"]
    assert tried["faults"] == [] and tried["found"]["accuracy"]["value"] == 1.0
    assert tried["found"]["mass"] == pytest.approx(0.7)


def test_a_judge_that_likes_a_letter_is_stopped_and_told_what_does_better(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        fly(tmp_path, Labeller(method="choice"), honest, pairs("train"))
    said = str(error.value)
    assert said.startswith("judge.method: the judge did not pass its preflight on 12 pairs (training pairs)")
    assert '"choice": both orders of a question name the same answer in 0%' in said
    assert "these methods pass on the same sample: rate (agrees with people on 100%" in said
    assert not (tmp_path / "out/preflight.json").exists()


def follows(question: Question) -> tuple[float, ...]:
    """A model that answers as it is told, and by nothing else: only contrast can use it, and only its own opposites."""
    if len(question.options) != 2 or not question.options[0].endswith("answer."):
        return tuple([math.log(0.4)] * len(question.options))
    told = question.chat[0].content
    against = "Give a bad response." in told or "Do the opposite" in told
    return tuple(-1.0 if option.startswith("Good") != against else -9.0 for option in question.options)


@pytest.mark.parametrize("against", ["Give a bad response.", ""])
def test_contrast_is_advised_where_the_constitution_has_what_it_reads(tmp_path: Path, against: str) -> None:
    law = tuple(replace(one, against=against) for one in LAW)
    limits = Preflight(consistency=0.0, accuracy=0.9)
    with pytest.raises(UserError) as error:
        fly(tmp_path, Labeller(method="rate", preflight=limits), follows, pairs("train"), law=law)
    remedy = error.value.remedy
    if against:
        assert remedy.startswith("these methods pass on the same sample: contrast (agrees with people on 100%")
    else:
        assert remedy.startswith("contrast alone passes on the same sample (agrees with people on 100%")
        assert 'Write an `Against:` for "kind", and set judge.method: contrast' in remedy


def test_other_methods_read_no_opposite(tmp_path: Path) -> None:
    law = tuple(replace(one, against="Never to be read.") for one in LAW)
    found = fly(tmp_path, Labeller(), honest, pairs("train"), law=law)
    assert found["asked"] == fly(tmp_path / "again", Labeller(), honest, pairs("train"))["asked"]


def test_thresholds_are_the_users(tmp_path: Path) -> None:
    judge = Labeller(method="choice", preflight=Preflight(consistency=0.0))
    assert fly(tmp_path, judge, honest, pairs("train"))["method"] == "choice"
    with pytest.raises(UserError, match=r"the options hold 70\.0% of the probability \(median; at least 80% wanted\)"):
        fly(tmp_path, Labeller(preflight=Preflight(mass=0.8)), honest, pairs("train"))


def test_a_judge_against_people_is_stopped(tmp_path: Path) -> None:
    def contrary(question: Question) -> tuple[float, ...]:
        return tuple(reversed(honest(question)))

    with pytest.raises(UserError, match=r"it agrees with people on 0% \[0%, 24%\] of 12 \(at least 50% wanted\)"):
        fly(tmp_path, Labeller(), contrary, pairs("train"))


def test_a_judge_that_cannot_be_read_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        fly(tmp_path, Labeller(), lambda q: tuple([math.log(1e-4)] * len(q.options)), pairs("train"))
    said = str(error.value)
    assert "not one pair could be judged (too little probability on the options: 12)" in said
    assert "name a larger one under judge.model" in said or "these methods pass" in said


def test_auto_picks_the_best_on_the_calibration_split_alone(tmp_path: Path) -> None:
    found = fly(tmp_path, Labeller(method="auto"), honest, pairs("train") + pairs("calibration") + pairs("test"))
    assert (found["method"], found["auto"], found["sample"]) == ("rate", True, "calibration split")
    assert [trial["method"] for trial in found["tried"]] == ["rate", "choice", "score", "contrast", "reason", "channel"]
    assert found["pairs"] == 12
    assert all("Good answer." in q.chat[-1].content or len(q.chat) > 1 for q in found["asked"])
    with pytest.raises(UserError, match="the calibration split is empty"):
        fly(tmp_path, Labeller(method="auto"), honest, pairs("train"))


def test_calibration_sharpens_a_timid_judge_and_the_labels_use_it(tmp_path: Path) -> None:
    rows = [*pairs("calibration", 16), *pairs("test", 2)]
    judge = Labeller(calibrate=True)

    def mostly(question: Question) -> tuple[float, ...]:
        """Right on 12 of 16 by odds of 5 / 2 squared."""
        wrong = any(f"Question {n}?" in question.chat[-1].content for n in (2, 3, 6, 7))
        yes, no = honest(question)
        return (no, yes) if wrong else (yes, no)

    found = fly(tmp_path, judge, mostly, rows)
    slope, bias = found["platt"]
    odds = 2 * math.log(2.5)
    # 12 of 16 right. Each pair counts both ways round, so Platt's targets are those of 16 and 16: 17/18 and 1/18
    assert 1 / (1 + math.exp(-slope * odds)) == pytest.approx(3 / 4 * 17 / 18 + 1 / 4 / 18, abs=1e-4)
    assert bias == pytest.approx(0, abs=1e-6)
    labels = tmp_path / "labels"
    labels.mkdir()
    made = Artifact("preflight", "key", tmp_path / "out", "digest")
    label_by_judge(
        labels, Bench(ScriptedJudge(mostly)), pairs=folder(tmp_path / "data", rows), rule=None, preflight=made,
        judge=asked_judge(judge, LAW),  # pyrefly: ignore
    )  # fmt: skip
    found_labels = read_jsonl(labels / "labels.jsonl", Label)
    assert [label.pair_id for label in found_labels] == ["pair test 0", "pair test 1"]
    assert found_labels[1].p_a == pytest.approx(1 / (1 + math.exp(-slope * odds - bias)))


def test_a_judge_without_information_cannot_be_calibrated(tmp_path: Path) -> None:
    judge = Labeller(calibrate=True, preflight=Preflight(accuracy=0))

    def contrary(question: Question) -> tuple[float, ...]:
        return tuple(reversed(honest(question)))

    with pytest.raises(UserError, match=r"no better than a coin \(slope -"):
        fly(tmp_path, judge, contrary, pairs("calibration", 16))


def test_how_the_answers_are_named_gives_no_bias(tmp_path: Path) -> None:
    rows = [pair for pair in pairs("calibration", 16) if pair.human == 1.0]  # the better answer is always a

    def mostly(question: Question) -> tuple[float, ...]:
        yes, no = honest(question)
        return (no, yes) if "Question 3?" in question.chat[-1].content else (yes, no)

    slope, bias = fly(tmp_path, Labeller(calibrate=True), mostly, rows)["platt"]
    assert slope > 0 and bias == pytest.approx(0, abs=1e-6)


# Whether it reads ----------------------------------------------------------------------------------------------------


def controls(tmp_path: Path, text: str = "- Choose the response that is kind.\n") -> Controls:
    """What the constitution of `LAW` is held against; the principle is named as there."""
    file = tmp_path / "law.txt"
    file.write_text(text)
    found = controls_for(read_constitution(file))
    return replace(found, opposites=tuple(replace(one, name="kind") for one in found.opposites))


def reading(question: Question) -> tuple[float, ...]:
    """`rate`: follows the principle where it speaks of kindness. Elsewhere, and by other methods, it has no opinion."""
    if question.options != ("Yes", "No"):
        return tuple([math.log(0.1)] * len(question.options))
    text = question.chat[-1].content
    good = "Assistant: Good" in text
    if "is not kind" in text:
        good = not good
    elif "is kind" not in text:
        return math.log(0.3), math.log(0.3)
    return (math.log(0.5), math.log(0.2)) if good else (math.log(0.2), math.log(0.5))


def test_a_judge_that_reads_goes_on_with_its_figures(tmp_path: Path) -> None:
    found = fly(tmp_path, Labeller(), reading, pairs("train"), controls(tmp_path))
    (trial,) = found["tried"]
    assert trial["faults"] == trial["unread"] == []
    effect = trial["effect"]
    assert (effect["gain"]["value"], effect["turn"]["value"], effect["share"]["value"]) == (0.5, -1.0, 1.0)
    assert effect["agreement"]["negated"]["value"] == 0.0
    assert found["reads"]["asked"] and found["reads"]["placebos"] == ["bicycles", "pottery", "seasons", "vegetables"]
    asked = {q.chat[-1].content.split("Instruction to the judge: ")[1].split("\n")[0] for q in found["asked"]}
    assert len(asked) == 2 + 4  # the principle, its negation, and a sentence of its length from each placebo


def test_a_judge_that_does_not_read_is_stopped_with_its_figures_and_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        fly(tmp_path, Labeller(), honest, pairs("train"), controls(tmp_path))
    said = str(error.value)
    assert '"rate": it does not read: its text moves the log-odds no more than one placebo or another does' in said
    assert "the text decides 0.0% [0, 0] of the variance of its log-odds (at least 5% wanted)" in said
    assert "no method was seen to read with this model" in said and "judge.preflight.reads: off" in said


def test_one_key_goes_on_and_the_figures_are_kept(tmp_path: Path) -> None:
    judge = Labeller(preflight=Preflight(reads=False))  # pyrefly: ignore: as YAML gives `off`
    found = fly(tmp_path, judge, honest, pairs("train"), controls(tmp_path))
    assert found["reads"]["asked"] is False and found["tried"][0]["faults"] == []
    assert found["tried"][0]["unread"] and found["tried"][0]["effect"]["share"]["value"] == 0.0


def test_auto_picks_a_method_that_reads_over_one_that_agrees_better(tmp_path: Path) -> None:
    def both(question: Question) -> tuple[float, ...]:
        """`score` is always right and never reads; `rate` reads, and is right on three of four."""
        if question.options == ("Yes", "No"):
            yes, no = reading(question)
            return (no, yes) if any(f"Question {n}?" in question.chat[-1].content for n in (0, 5, 9)) else (yes, no)
        if len(question.options) == 10:
            good = "Assistant: Good" in question.chat[-1].content
            return tuple(math.log(0.5 if n == (9 if good else 0) else 0.01) for n in range(10))
        return tuple([math.log(0.1)] * len(question.options))

    rows = pairs("calibration")
    assert fly(tmp_path, Labeller(method="auto"), both, rows, controls(tmp_path))["method"] == "rate"
    off = Labeller(method="auto", preflight=Preflight(reads=None))
    assert fly(tmp_path, off, both, rows, controls(tmp_path))["method"] == "score"


def test_a_constitution_without_anything_to_negate_is_named(tmp_path: Path) -> None:
    bare = replace(controls(tmp_path), opposites=(), missing=("kind",))
    with pytest.raises(UserError, match="the constitution has nothing to negate"):
        fly(tmp_path, Labeller(), reading, pairs("train"), bare)
    off = Labeller(preflight=Preflight(reads=None))
    noted = fly(tmp_path, off, reading, pairs("train"), bare)["reads"]["noted"]
    assert noted == ['"kind" has no negation: write its `Against:`']
