"""Reward models of several criteria as one reward: scales and sums by hand, planted principles, real reward models."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rl_stage
from fakes import ScriptedJudge, asked_judge
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from cai.config.criteria import Criterion
from cai.config.load import Arm
from cai.config.runtime import Runtime
from cai.config.sections import Data, Judge, Policy
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import Label, Message, Pair, Prompt, Revision, read_jsonl
from cai.core.store import Artifact, canonical, keyed
from cai.experiment.criteria import weighed
from cai.judge.asking import judge_pairs
from cai.models.references import ModelRef, find
from cai.models.score import score
from cai.models.workbench import Workbench
from cai.train.criteria import (
    CriterionReward,
    RewardScale,
    WeighedRewards,
    reference_answers,
    rewards_by,
    scale_of,
    summed,
    tells_apart,
)
from cai.train.respond import Picker
from cai.train.rl.given import RewardModel
from cai.train.rl.rewards import normalised_reward
from cai.train.scores import scale_reward
from cai.train.trainable import Scorer, Trainable

FAULT = UserError("nothing", "", "")


def criterion(folder: Path, name: str, outputs: Sequence[float | None], share: float) -> CriterionReward:
    """A criterion whose reward model said this of the answers that the SFT policy was trained on."""
    scale, place = scale_of(outputs, FAULT), folder / name
    place.mkdir(parents=True)
    (place / "scale.json").write_text(json.dumps({"mean": scale.mean, "spread": scale.spread, "outputs": outputs}))
    return CriterionReward(name, ModelRef(name, "", name), Artifact("scale_reward", name, place, name), share)


# 1. Numbers by hand ---------------------------------------------------------------------------------------------------


def test_a_scale_is_the_mean_and_spread_of_what_could_be_read():
    scale = scale_of([2.0, None, 4.0, 6.0], FAULT)
    assert (scale.mean, scale.spread) == (4.0, pytest.approx((8 / 3) ** 0.5))
    assert RewardScale(4.0, 2.0).of([5.0, None, 0.0]) == [0.5, None, -2.0]
    with pytest.raises(UserError, match="nothing"):
        scale_of([None, 3.0], FAULT)


def test_what_one_criterion_cannot_read_has_no_reward():
    assert summed([[1.0, None, 2.0], [3.0, 1.0, -2.0]], [0.25, 0.75]) == [2.5, None, -1.0]


LENGTHS = [2.0, 4.0, 6.0]  # words of the three answers that the SFT policy was trained on: mean 4, spread sqrt(8/3)


@pytest.mark.parametrize(
    ("weight", "longer_wins", "gap"),
    [
        # The reward of six words less that of two. Each criterion alone: (6 - 2) / 1.63299 = 2.44949, one way or other.
        (1.0, True, 2.44949),
        (0.75, True, 1.22474),  # (0.75 - 0.25) * 2.44949
        (0.6, True, 0.48990),
        (0.5, None, 0.0),
        (0.25, False, -1.22474),
        (0.0, False, -2.44949),
    ],
)
def test_two_opposing_principles_are_paid_by_their_weights_however_loud(tmp_path, weight, longer_wins, gap):
    """Planted: one reward model likes words, the other dislikes them a hundred times as loudly."""
    longer = criterion(tmp_path, "longer", LENGTHS, weight)
    shorter = criterion(tmp_path, "shorter", [7 - 100 * length for length in LENGTHS], 1 - weight)
    total = WeighedRewards((longer, shorter))
    long, short = total.of({"longer": [6.0, 2.0], "shorter": [7 - 600.0, 7 - 200.0]})
    assert long is not None and short is not None and long - short == pytest.approx(gap, abs=1e-5)
    assert (None if abs(long - short) < 1e-9 else long > short) == longer_wins
    # On the very answers the sum has |2 w - 1| of the spread of each: indifference is not blown up.
    assert total.spread() == pytest.approx(abs(2 * weight - 1), abs=1e-9)


def test_a_planted_word_against_brevity(tmp_path):
    """Two principles that do not simply oppose each other: which answer is best turns at the weight worked out here."""
    # Of four answers, two have the word "please": mean 0.5, spread 0.5. Lengths 2, 2, 6, 6: mean 4, spread 2; its
    # reward model says minus a tenth of the length. "Please, all of it" (6 words) has z = (+1, -1); "No" (2 words) has
    # (-1, +1); plain six words (-1, -1).
    for share, best in ((0.7, "please"), (0.5, "tie"), (0.3, "brief")):
        kind = criterion(tmp_path / best, "kind", [1.0, 0.0, 1.0, 0.0], share)
        brief = criterion(tmp_path / best, "brief", [-0.2, -0.2, -0.6, -0.6], 1 - share)
        please, no, plain = WeighedRewards((kind, brief)).of({"kind": [1.0, 0.0, 0.0], "brief": [-0.6, -0.2, -0.6]})
        assert please == pytest.approx(2 * share - 1) and no == pytest.approx(1 - 2 * share)
        assert plain == pytest.approx(-1.0), "bad by both"
        winner = "tie" if please == pytest.approx(no) else "please" if please > no else "brief"  # pyrefly: ignore
        assert winner == best


def planted(question: Any) -> tuple[float, float]:
    """A judge that counts words: 0.3 nats a word for the principle of length, and -0.9 for the one of brevity."""
    text = question.chat[-1].content
    words = len(re.findall(r"\bword\b", text))
    return ((0.3 if "is long." in text else -0.9) * words, 0.0)


@pytest.mark.parametrize(("weight", "gap"), [(0.8, 1.2), (0.5, 0.0), (0.2, -1.2)])
def test_two_planted_judges_from_their_labels_to_the_reward(tmp_path, weight, gap):
    """Judged under two opposed principles, learnt from the labels alone, scaled and weighed."""
    asked = Prompt("q", (Message("user", "Say it."),), "all", "train")
    texts = {count: " ".join(["word"] * count) for count in (1, 2, 3, 5)}
    pairs = [Pair(f"{a}{b}", asked, texts[a], texts[b]) for a in texts for b in texts if a < b]
    slopes = {}
    for name, text in (("long", "Choose the response that is long."), ("brief", "Choose the response that is brief.")):
        judge = asked_judge(Judge(method="rate", principles="all", min_mass=0.0), [Judging(name, text, (), 1.0)])
        labels = judge_pairs(ScriptedJudge(planted), pairs, judge, title="")
        # Bradley-Terry on words alone: the slope by which log-odds are differences of rewards.
        gaps = [
            (math.log(label.p_a / (1 - label.p_a)), len(pair.a.split()) - len(pair.b.split()))
            for label, pair in zip(labels, pairs, strict=True) if isinstance(label, Label)
        ]  # fmt: skip
        assert len(gaps) == 6
        slopes[name] = sum(odds * words for odds, words in gaps) / sum(words**2 for _, words in gaps)
    assert slopes == pytest.approx({"long": 0.3, "brief": -0.9}), "one judge is three times as sure as the other"
    # Of SFT answers of 2 and 4 words the spread is one word, of either: two words more are worth 2 (2 w - 1).
    parts = tuple(
        criterion(tmp_path, name, [slopes[name] * words for words in (2, 4)], share)
        for name, share in (("long", weight), ("brief", 1 - weight))
    )
    longer, shorter = WeighedRewards(parts).of({name: [5 * slope, 3 * slope] for name, slope in slopes.items()})
    assert longer - shorter == pytest.approx(gap)  # pyrefly: ignore


@pytest.mark.parametrize("times", [100.0, 0.01])
def test_a_louder_reward_model_changes_nothing(tmp_path, times):
    other = criterion(tmp_path, "other", [0.3, -0.1, 0.2], 0.5)
    sums = []
    for name, factor in (("plain", 1.0), ("loud", times)):
        mine = criterion(tmp_path, name, [factor * value + (factor - 1) for value in (1.0, 2.0, 4.0)], 0.5)
        raw = {name: [factor * value + (factor - 1) for value in (3.0, -1.0)], "other": [0.0, 0.5]}
        sums.append(WeighedRewards((mine, other)).of(raw))
    assert sums[0] == pytest.approx(sums[1])


def test_the_order_of_criteria_is_no_part_of_the_reward_or_its_key(tmp_path):
    parts = [criterion(tmp_path, name, [x, 2 * x, 5 * x], 1 / 3) for name, x in (("a", 0.1), ("b", 0.7), ("c", -0.3))]
    outputs = {"a": [0.3], "b": [0.123], "c": [0.77]}
    there, back = WeighedRewards(tuple(parts)), WeighedRewards(tuple(parts[::-1]))
    assert there.of(outputs) == back.of(outputs)
    assert canonical(there.keyed()) == canonical(back.keyed())


def test_a_reward_model_that_tells_nothing_apart_is_known_whatever_its_size():
    assert not tells_apart([3.0, 3.0, None, 3.0]) and not tells_apart([0.0, 0.0])
    assert not tells_apart([1e6, 1e6 + 0.1]), "rounding of a loud one"
    assert tells_apart([1e-9, 2e-9]), "a quiet one"


def test_the_best_of_several_is_picked_by_the_weighed_sum(tmp_path):
    parts = (criterion(tmp_path, "a", [0.0, 2.0], 0.75), criterion(tmp_path, "b", [0.0, 20.0], 0.25))
    said = {"a": [1.0, 2.0, 0.0], "b": [20.0, 10.0, 0.0]}  # z of a: 0, 1, -1; of b: 1, 0, -1
    assert rewards_by(WeighedRewards(parts), lambda ref: said[ref.name]) == pytest.approx([0.25, 0.75, -1.0])
    assert rewards_by(parts[0].ref, lambda ref: said[ref.name]) == said["a"], "one reward model, as it is"


# 2. Weights and keys --------------------------------------------------------------------------------------------------


def arm(**weights: float) -> Arm:
    criteria = {name: Criterion(constitution=f"{name}.txt", weight=weight) for name, weight in weights.items()}
    return Arm(constitution="c.txt", data=Data(source="d"), criteria=criteria)


def sum_of(given: Arm) -> WeighedRewards:
    def stage(function: Any, **inputs: Any) -> Artifact:
        assert function is scale_reward and inputs["scorer"].reward.role == "reward"
        name = inputs["scorer"].reward.ref.name
        return Artifact("scale_reward", name, Path(name), name)

    models = {name: Artifact("train_reward", name, Path(name), name) for name in given.criteria}
    data = Artifact("revise", "r", Path("r"), "r")
    made = weighed(stage, given, models, data, Trainable(ModelRef("m", "", "m"), Policy(), "float32"))
    assert made is not None
    return made


def test_shares_are_weights_over_their_sum_and_their_ratios_are_the_key():
    made = sum_of(arm(a=1, b=3))
    assert {part.name: part.share for part in made.parts} == {"a": 0.25, "b": 0.75} and made.name == "0.25 a + 0.75 b"
    keys = [canonical(keyed({"reward": RewardModel(sum_of(given), 9)})) for given in (arm(a=2, b=6), arm(b=1.5, a=0.5))]
    assert (
        keys[0]
        == keys[1]
        == canonical(keyed({"reward": RewardModel(made, 9)}))
        != canonical(keyed({"reward": RewardModel(sum_of(arm(a=1, b=2)), 9)}))
    )
    assert set(RewardModel(made, 9).keyed()) == {"criteria", "reward_max_length"}
    assert set(Picker(made, 4, 9).keyed()) == {"criteria", "n", "max_length"}
    assert [part.share for part in sum_of(arm(a=0, b=2)).parts] == [0.0, 1.0], "measured, and not paid by"


def test_an_arm_without_criteria_has_no_sum():
    nothing: Any = None
    assert weighed(nothing, arm(), {"": nothing}, nothing, nothing) is None


# 3. Real reward models ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base with two reward models, `reward` and `gold`; `loud`, whose head is 100 times that of `reward`; `dead`,
    whose head is 0; and answers of the SFT policy."""
    folder = tmp_path_factory.mktemp("weighed")
    rl_stage.prepare(folder)
    for name, factor in (("loud", 100.0), ("dead", 0.0)):
        (folder / name).mkdir()
        for file in (folder / "reward").iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())
        weights = load_file(folder / "reward" / "adapter_model.safetensors")
        heads = [key for key in weights if "score" in key]
        assert heads
        weights |= {key: weights[key] * factor for key in heads}
        save_file(weights, folder / name / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def scaled(models: Path, out: Path, name: str) -> Artifact:
    work = Workbench.open(Runtime(root=str(out), device="cpu"))
    reads = Trainable(replace(find(str(models / name)), name=name), Policy(system=None), "float32", role="reward")
    (out / name).mkdir(parents=True)
    revisions = Artifact("revise", "r", models / "data", "r")
    scale_reward(out / name, work, revisions=revisions, scorer=Scorer(reads, 99))
    return Artifact("scale_reward", name, out / name, name)


def reward_by(models: Path, reward: Any) -> Any:
    work = Workbench.open(Runtime(root=str(models / "runs"), device="cpu", batch_tokens=99))
    network = LlamaForCausalLM.from_pretrained(str(models / "base"))
    start = SimpleNamespace(policy=Policy(system=None), dtype="float32")
    run: Any = SimpleNamespace(start=start, revisions=models / "data")
    return normalised_reward(work, network, run, RewardModel(reward, 99))


ASKED = [[{"role": "user", "content": "hello"}], [{"role": "user", "content": "hello w1"}]]
ANSWERED = [[{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "w3 w3 no"}]]


def test_a_weighed_sum_is_what_its_reward_models_say_on_their_scales(models, tmp_path):
    parts = tuple(
        CriterionReward(name, find(str(models / name)), scaled(models, tmp_path, name), share)
        for name, share in (("reward", 0.25), ("gold", 0.75))
    )
    total = reward_by(models, WeighedRewards(parts))
    given, by_hand = total.function(ASKED, ANSWERED), [0.0, 0.0]
    means = {}
    for part in parts:
        alone = reward_by(models, part.ref)
        values = alone.function(ASKED, ANSWERED)
        by_hand = [so_far + part.share * value for so_far, value in zip(by_hand, values, strict=True)]
        means[f"criterion {part.name}"] = sum(values) / 2
        assert alone.paid() == {}, "of one reward model there is nothing to tell apart"
        (lonely,) = [WeighedRewards((replace(part, share=1.0),))]
        assert reward_by(models, lonely).function(ASKED, ANSWERED) == pytest.approx(values), "one criterion: as without"
    assert given == pytest.approx(by_hand, abs=1e-5) and total.paid() == pytest.approx(means, abs=1e-5)
    revisions = read_jsonl(models / "data" / "revisions.jsonl", Revision)
    assert len(parts[0].read()["outputs"]) == len(revisions)
    assert total.counts["reward mean on the SFT answers, gold"] == round(parts[1].read()["mean"], 4)
    assert total.counts["reward spread on the SFT answers, of the sum"] == round(WeighedRewards(parts).spread(), 4)


def test_one_loud_reward_model_changes_nothing(models, tmp_path):
    gold = CriterionReward("gold", find(str(models / "gold")), scaled(models, tmp_path, "gold"), 0.5)
    sums = []
    for name in ("reward", "loud"):
        mine = CriterionReward("mine", find(str(models / name)), scaled(models, tmp_path, name), 0.5)
        sums.append(reward_by(models, WeighedRewards((mine, gold))).function(ASKED, ANSWERED))
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
    spreads = [json.loads((tmp_path / name / "scale.json").read_text())["spread"] for name in ("reward", "loud")]
    assert spreads[1] == pytest.approx(100 * spreads[0], rel=1e-4)


def test_a_criterion_that_tells_nothing_apart_is_named_before_rl(models, tmp_path):
    with pytest.raises(UserError) as caught:
        scaled(models, tmp_path, "dead")
    assert "criterion dead gives all 18 answers of the SFT policy the same reward, 0" in caught.value.problem
    assert caught.value.where == "criteria.dead" and "labels" in caught.value.remedy
    assert not (tmp_path / "dead" / "scale.json").exists()


def test_the_scale_is_of_the_answers_that_the_sft_policy_was_trained_on(models, tmp_path):
    made = scaled(models, tmp_path, "reward")
    work = Workbench.open(Runtime(root=str(tmp_path), device="cpu"))
    ref = find(str(models / "reward"))
    from cai.models.loading import shared_tokenizer

    chats = reference_answers(Artifact("revise", "r", models / "data", "r"), Policy(system=None))
    outputs = score(work.reward_model(ref, "float32"), shared_tokenizer(ref), chats, max_length=99, batch_tokens=4096)
    assert json.loads((made / "scale.json").read_text())["outputs"] == pytest.approx(outputs)
