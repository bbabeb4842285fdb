"""The statistics of reading, on judges made for it: every expectation is worked out by hand."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from cai.judge.reads.effect import expanded, measure, ratio

PROMPTS = ("w", "x", "y", "z")
HUMAN = (1.0, 0.0, 1.0, 0.0)
KNOWN = np.array([2.0, -1.0, -1.0, 3.0])  # what a judge knows without any text: right, right, wrong, wrong
SENSE = np.array([3.0, -3.0, 3.0, -3.0])  # what the text says of the answers, always people's side
NOTHING = np.zeros((4, 2))


def both(odds: np.ndarray) -> np.ndarray:
    """Two placebos under which a judge says the same."""
    return np.stack([odds, odds], axis=1)


def test_a_judge_that_ignores_the_text() -> None:
    found = measure(KNOWN, both(KNOWN), PROMPTS, negated=KNOWN, human=HUMAN)
    assert found.gain.value == 0 and found.gain.low < 0 < found.gain.high and found.gain.n == 4
    assert found.share.value == 0 and found.flips.value == 0
    assert math.isnan(found.turn.value) and math.isnan(found.turn.low) and found.turn.n == 4
    assert (found.moved.value, found.moved.low) == (0, 0)
    assert {name: one.value for name, one in found.agreement.items()} == {"text": 0.5, "placebo": 0.5, "negated": 0.5}


def test_an_oracle() -> None:
    found = measure(SENSE, NOTHING, PROMPTS, negated=-SENSE, human=HUMAN)
    assert found.gain.value == 0.5  # 100% under the text, a coin's half under a placebo that says nothing
    assert found.turn.value == found.turn.low == found.turn.high == -1
    assert found.share.value == 1 and found.flips.value == 1
    assert found.moved.value == 9
    assert found.agreement["negated"].value == 0 and found.against["negated"].value == -1
    assert [one.value for one in found.placebos] == [0.5, 0.5]


def test_a_judge_that_sees_subjects_and_not_their_sense() -> None:
    found = measure(SENSE, NOTHING, PROMPTS, negated=SENSE, human=HUMAN)
    assert found.gain.value == 0.5 and found.turn.value == 1 and found.flips.value == 0
    # Of each pair 9, 9 and 0: the mean is 2, its square 4, and the mean of the squares 6: (6 - 4) / 6
    assert found.share.value == pytest.approx(1 / 3)
    assert found.agreement["negated"].value == 1


def test_one_in_between() -> None:
    """It knows something, adds what the text says, and takes a third of that away under the negation."""
    found = measure(KNOWN + SENSE, both(KNOWN), PROMPTS, negated=KNOWN - SENSE / 3, human=HUMAN)
    # text 5, -4, 2, 0; placebo 2, -1, -1, 3; negated 1, 0, -2, 4
    assert found.agreement["text"].value == 3.5 / 4 and found.agreement["placebo"].value == 2 / 4
    assert found.agreement["negated"].value == (1 + 0.5 + 0 + 0) / 4
    assert found.gain.value == pytest.approx(1.5 / 4)
    assert found.turn.value == pytest.approx(-1 / 3)
    # squares: 25 + 4 + 1, 16 + 1 + 0, 4 + 1 + 4, 0 + 9 + 16 = 81; sums 8, -5, -1, 7, squared 139, over 3
    assert found.share.value == pytest.approx((81 - 139 / 3) / 81)
    # flips: 5 and 1 no; -4 and 0 half; 2 and -2 yes; 0 and 4 half
    assert found.flips.value == pytest.approx(2 / 4)


def test_placebos_are_crossed_so_that_their_own_noise_is_no_turn() -> None:
    # One pair, t 1, n 1, placebos 3 and -1: (1 - 3)(1 + 1) both ways, of text and text, and of text and negation.
    found = measure([1, 1], [[3, -1], [3, -1]], ["x", "y"], negated=[1, -1])
    assert found.moved.value == -4 and math.isnan(found.turn.value)
    # The text does nothing but wobble as placebos do: 2000 pairs, all drawn alike. Crossed there is no turn; with one
    # placebo in both it would be 1/2, with the mean of two 1/3.
    rng = np.random.default_rng(0)
    t, n, p, q = rng.standard_normal((4, 2000))
    found = measure(t, np.stack([p, q], axis=1), np.arange(2000), negated=n)
    assert found.turn.low < 0 < found.turn.high and abs(found.turn.value) < 0.1


def test_a_pair_counts_where_it_can_be_read() -> None:
    text, human = [1, 1, math.nan, 1], [1, 1, 1, 0.5]
    placebos = [[1, math.nan, -1], [-1, -1, math.nan], [1, 1, 1], [1, 1, 1]]
    found = measure(text, placebos, PROMPTS, negated=[math.nan, -1, -1, -1], human=human, more={"none": [-1, 1, 1, 1]})
    assert (found.agreement["text"].n, found.agreement["negated"].n, found.agreement["none"].n) == (2, 2, 3)
    assert found.agreement["placebo"].value == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert found.gain.value == pytest.approx((1 / 2 + 1) / 2) and found.gain.n == 2
    assert [one.n for one in found.placebos] == [3, 2, 2]
    assert (found.turn.n, found.share.n) == (2, 2)
    assert found.against["none"].value == pytest.approx((-1 + 0) / 2)


def test_what_needs_people_or_a_negation_is_empty_without() -> None:
    found = measure(SENSE, NOTHING, PROMPTS)
    assert (found.gain.n, found.turn.n, found.share.n, found.flips.n) == (0, 0, 0, 0)
    assert math.isnan(found.gain.value) and math.isnan(found.turn.value) and math.isnan(found.share.value)
    assert found.moved.value == 9
    one = measure(SENSE, NOTHING[:, :1], PROMPTS, negated=-SENSE)
    assert one.turn.n == 0 and one.share.value == 1  # a turn needs two placebos


def test_which_answer_is_called_a_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    t, n, p, q = rng.standard_normal((4, 60)) + rng.standard_normal(60)
    human, turned = rng.random(60), rng.choice([-1.0, 1.0], 60)
    prompts = np.arange(60) // 2
    one = measure(t, np.stack([p, q], axis=1), prompts, negated=n, human=human)
    other = measure(
        turned * t, np.stack([turned * p, turned * q], axis=1), prompts, negated=turned * n,
        human=0.5 + turned * (human - 0.5),
    )  # fmt: skip
    for name in ("gain", "turn", "share", "moved", "flips"):
        assert getattr(one, name).value == pytest.approx(getattr(other, name).value)
        assert getattr(one, name).low == pytest.approx(getattr(other, name).low)


def test_the_tail_of_an_expanded_interval() -> None:
    # Student's t at 97.5%: 2.2622 with 9 degrees of freedom, 1.9842 with 99 (from tables)
    for k, t in ((10, 2.2622), (100, 1.9842)):
        assert expanded(k) == pytest.approx(NormalDist().cdf(-t * math.sqrt(k / (k - 1))), rel=2e-3)
    assert expanded(10**6) == pytest.approx(0.025, rel=1e-4)


def test_a_ratio_without_data_or_below_nothing() -> None:
    assert ratio(np.array([math.nan]), np.array([1.0]), ["x"]).n == 0
    assert math.isnan(ratio(np.array([1.0, 1.0]), np.array([1.0, -1.0]), ["x", "y"]).value)
    one = ratio(np.array([1.0, 2.0]), np.array([2.0, 4.0]), ["x", "x"])
    assert one.value == 0.5 and math.isnan(one.low)


# Coverage -------------------------------------------------------------------------------------------------------------


def simulated(rng: np.random.Generator, prompts: int, turn: float, sd: float, wobble: float) -> dict:
    """Pairs two to a prompt, half of all variance between prompts. Log-odds: what is known (sd 1), what the text says
    (sd), and a wobble of each text by itself. People prefer what a sum of both and their own taste says."""

    def normal(scale: float) -> np.ndarray:
        each = np.sqrt(0.5) * (np.repeat(rng.standard_normal(prompts), 2) + rng.standard_normal(2 * prompts))
        return scale * each

    known, sense = normal(1.0), normal(sd)
    text, negated = known + sense + normal(wobble), known + turn * sense + normal(wobble)
    placebos = np.stack([known + normal(wobble), known + normal(wobble)], axis=1)
    human = (known + sense + normal(1.0) > 0).astype(float)
    where = np.repeat(np.arange(prompts), 2)
    return {"text": text, "placebos": placebos, "prompts": where, "negated": negated, "human": human}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turn", "sd", "wobble"), [(-1.0, 1.0, 0.3), (0.0, 1.0, 0.5), (1.0, 1.0, 0.3), (0.0, 0.0, 0.5)]
)
def test_intervals_cover(turn: float, sd: float, wobble: float) -> None:
    """Of 400 experiments with 32 prompts about 95% of the intervals hold the truth: between 92% and 98%.

    The truth: what 400,000 pairs say. Where the text only wobbles, some experiments find that it moves nothing.
    """
    rng = np.random.default_rng(0)
    many = simulated(rng, 200_000, turn, sd, wobble)
    large = measure(**(many | {"prompts": many["prompts"] % 100}))  # few clusters: resamples that do not take minutes
    found = [measure(**simulated(rng, 32, turn, sd, wobble), seed=number) for number in range(400)]
    for name in ("gain", "turn", "share"):
        truth = getattr(large, name).value
        known = [one for one in (getattr(each, name) for each in found) if not math.isnan(one.value)]
        assert len(known) >= (400 if sd else 360)
        covered = sum(one.low <= truth <= one.high for one in known) / len(known)
        assert 0.92 <= covered <= 0.98, (name, truth, covered)
