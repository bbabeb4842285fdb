"""What each principle buys: made judges, in which one principle is what people follow and another does nothing."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_schema import given as results

from cai.compare.measures import HeldOutPairs
from cai.compare.report import write_report
from cai.compare.schema import as_json
from cai.compare.sections import principles as section
from cai.config.load import Arm
from cai.core.records import Message, Pair, Prompt

NAMES = ("planted", "decoy", "other")
SETTINGS = {
    "constitution": "rules.txt",
    "data": {"source": "rated-answers"},
    "labels": "ai",
    "judge": {"principles": "all"},
}
BLANK: Any = SimpleNamespace(merits={})


def arms(
    labels: dict[str, dict[str, float]], margins: dict[str, dict[str, float]] | None = None, seeds: int = 1
) -> Any:
    """labels: name of the principle that is left out, "" for none -> its labels."""
    cells = []
    for name in labels:
        settings = Arm.model_validate(SETTINGS | {"without": name or None})
        arm = f"ai-without-{name}" if name else "ai"
        kept = SimpleNamespace(principles=[of for of in NAMES if of != name])
        cells += [
            SimpleNamespace(
                arm=arm, seed=seed, name=f"{arm}/{seed}", settings=settings, constitution=kept,
                reward=margins and "model", policy=None,
            )
            for seed in range(seeds)
        ]  # fmt: skip
    return cells


def held_out(human: dict[str, float], labels: dict[str, dict[str, float]], margins: dict | None = None) -> HeldOutPairs:
    """Row `p3.1` is the second pair of prompt p3."""
    made = HeldOutPairs.__new__(HeldOutPairs)
    prompts = {row: Prompt(row.partition(".")[0], (Message("user", "?"),), "harm", "test") for row in human}
    made.pairs = {row: Pair(row, prompts[row], "yes", "no", human[row]) for row in human}
    made.human, made.margins = human, margins or {}
    made.labels = {f"ai-without-{name}" if name else "ai": of for name, of in labels.items()}
    return made


def made_judge(rng: np.random.Generator, prompts: int = 40, pairs: int = 3):
    """People follow the planted standard, with noise. The judge averages its principles' log-odds: the planted one is
    what people follow, the decoy is nearly indifferent, the other one is about something else."""
    rows = [f"p{prompt}.{pair}" for prompt in range(prompts) for pair in range(pairs)]
    good = np.repeat(rng.normal(0, 0.5, prompts), pairs) + rng.normal(size=len(rows))
    odds = {
        "planted": good, "decoy": rng.normal(0, 0.05, len(rows)), "other": rng.normal(size=len(rows)),
    }  # fmt: skip
    human = dict(zip(rows, (good + rng.normal(0, 0.4, len(rows)) > 0).astype(float), strict=True))
    labels = {
        out: dict(zip(rows, 1 / (1 + np.exp(-sum(odds[name] for name in NAMES if name != out))), strict=True))
        for out in ("", *NAMES)
    }
    return human, labels


def effects(found: Any, key: str) -> dict[str, Any]:
    (measure,) = [one for one in found.measures if one.key == key]
    return {effect.principle: effect for effect in measure.effects}


def test_a_planted_principle_is_seen_and_a_decoy_is_not() -> None:
    rng, seen, covered, called = np.random.default_rng(0), 0, 0, 0
    for _ in range(40):
        human, labels = made_judge(rng)
        (found,) = section.principles(arms(labels), BLANK, held_out(human, labels))
        of = effects(found, "labels")
        seen += of["planted"].estimate.low > 0 and of["planted"].shown
        covered += of["decoy"].estimate.low <= 0 <= of["decoy"].estimate.high
        called += of["decoy"].shown
        assert found.turned["decoy"].value < 0.1 < found.turned["planted"].value
    assert (seen, covered >= 37, called <= 1) == (40, True, True)


def test_reward_models_over_prompts_and_seeds() -> None:
    """Without the decoy reward models are the arm's own but for the noise of seeds; without the planted one a coin."""
    rng, seen, covered = np.random.default_rng(1), 0, 0
    for _ in range(40):
        human, labels = made_judge(rng)
        sides = {row: np.sign(p - 0.5) for row, p in human.items()}
        margins = {}
        for name in labels:
            for seed in range(4):
                strength, shift = (0.0 if name == "planted" else 1.0), rng.normal(0, 0.1)
                margins[f"ai-without-{name}/{seed}" if name else f"ai/{seed}"] = {
                    row: 1 / (1 + np.exp(-(side * (strength + shift) + rng.normal()))) for row, side in sides.items()
                }
        (found,) = section.principles(arms(labels, margins, 4), BLANK, held_out(human, labels, margins))
        of = effects(found, "reward_accuracy")
        assert of["planted"].seeds == 4 and of["planted"].noise > 0
        seen += of["planted"].estimate.low > 0
        covered += of["decoy"].estimate.low <= 0 <= of["decoy"].estimate.high
    assert seen >= 38 and covered >= 37


def test_by_hand_and_in_the_report(tmp_path) -> None:
    """Of four prompts the planted principle is right on all, and without it half are: +50 points; the decoy turns
    nothing, and says so with Wilson's interval. Holm: two principles."""
    human = {f"p{n}.0": 1.0 for n in range(4)}
    labels = {
        "": dict.fromkeys(human, 0.9),
        "planted": dict(zip(human, (0.9, 0.9, 0.1, 0.1), strict=True)),
        "decoy": dict.fromkeys(human, 0.6),
    }
    (found,) = section.principles(arms(labels), BLANK, held_out(human, labels))
    of = effects(found, "labels")
    assert of["planted"].estimate.value == 0.5 and found.turned["planted"].value == 0.5
    assert of["decoy"].estimate.value == 0 and of["decoy"].p == 1 and found.turned["decoy"].value == 0
    assert of["planted"].p_holm == pytest.approx(2 * of["planted"].p) and not of["planted"].shown
    assert found.sentence.startswith("By labels agree with people, no principle is shown to do anything; what any of")
    assert (found.arm, found.principles, found.drawn) == ("ai", 3, None)
    write_report(as_json(results(principles=[found])), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "What does each principle buy?" in page and "+50.0 pts" in page


def test_an_arm_that_differs_in_more_is_none_of_these() -> None:
    labels = {"": {"p.0": 0.9}, "decoy": {"p.0": 0.9}}
    cells = arms(labels)
    cells[1].settings = cells[1].settings.model_copy(update={"seed": 5})
    assert section.principles(cells, BLANK, held_out({"p.0": 1.0}, labels)) == []
