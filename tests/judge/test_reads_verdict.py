"""Who is believed to read, and what is said of the others."""

import math

import pytest

from cai.config.preflight import Preflight, Reads
from cai.core.records import Estimate
from cai.judge.reads.effect import Effect
from cai.judge.reads.verdict import in_words, standing, unread

NONE = Estimate(math.nan, math.nan, math.nan, 0, 0)


def est(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 32, 20)


GAIN, TURN, SHARE = est(0.1, -0.05, 0.25), est(-0.6, -0.9, -0.3), est(0.2, 0.1, 0.3)


def effect(gain: Estimate = GAIN, turn: Estimate = TURN, share: Estimate = SHARE) -> Effect:
    return Effect(gain, turn, share, est(1, 0.5, 1.5), est(0.3, 0.2, 0.4), {}, {}, ())


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (effect(), []),
        (effect(gain=NONE), []),  # nobody judged the pairs: turn and share will do
        (effect(turn=est(-0.4, -0.9, 0.1)), ["negated principles turn its verdicts by -0.40 [-0.90, 0.10]"]),
        (effect(turn=est(1.0, 0.9, 1.1), share=est(0.3, 0.2, 0.4)), ["+1 ignores it"]),
        (effect(turn=Estimate(math.nan, math.nan, math.nan, 32, 20)), ["no more than one placebo or another"]),
        (effect(share=est(0.04, 0.02, 0.06)), ["the text decides 4.0% [2, 6] of the variance"]),
        (effect(gain=est(-0.2, -0.3, -0.1)), ["no more than under placebos: -20.0 [-30.0, -10.0] points"]),
        (effect(turn=NONE, share=NONE), ["the constitution has nothing to negate"]),
        (effect(turn=NONE), ["no pair could be read under its text and its negation"]),
    ],
)
def test_who_reads(found: Effect, says: list[str]) -> None:
    faults = unread(found, Reads())
    assert len(faults) == len(says) and all(text in fault for text, fault in zip(says, faults, strict=True))
    assert unread(found, None) == ()


def test_thresholds_are_the_users() -> None:
    assert unread(effect(turn=est(0.2, 0.0, 0.4)), Reads(turn=0.5)) == ()
    assert len(unread(effect(), Reads(share=0.3))) == 1 and len(unread(effect(), Reads(gain=0.3))) == 1


def test_standing_is_the_mean_of_gain_and_turn_as_an_oracle_has_them() -> None:
    assert standing(effect(est(0.5, 0.4, 0.6), est(-1, -1, -1))) == 1
    assert standing(effect(est(0.1, 0, 0.2), est(-0.6, -1, 0))) == pytest.approx((0.2 + 0.6) / 2)
    assert standing(effect(NONE, est(-3, -5, -1))) == 1  # what it turns beyond -1 is no merit
    assert standing(effect(est(0.1, 0, 0.2), NONE)) == pytest.approx((0.2 + 0) / 2)


def test_in_words() -> None:
    assert in_words(effect()) == "gain +10.0 [-5.0, +25.0] points, turn -0.60 [-0.90, -0.30], share 20.0% [10, 30]"
    assert "turn undefined" in in_words(effect(turn=NONE))


@pytest.mark.parametrize("given", [False, None, "off"])
def test_off_is_what_yaml_makes_of_it(given: object) -> None:
    assert Preflight.model_validate({"reads": given}).reads is None


def test_on_and_thresholds() -> None:
    assert Preflight().reads == Preflight.model_validate({"reads": True}).reads == Reads()
    assert Preflight.model_validate({"reads": {"share": 0.2}}).reads == Reads(share=0.2)
    with pytest.raises(ValueError, match=r"judge\.preflight\.reads is off, or a section of thresholds, not 3"):
        Preflight.model_validate({"reads": 3})
