"""How far an edit raises a score: numbers by hand, and how often an edit is called raising that is not."""

import math

import numpy as np
import pytest

from cai.stats.headroom import LEVEL, EditedScores, Headroom, corrected, fewest, headroom, raised, unit
from cai.stats.intervals import EMPTY

PROMPTS, EDITS = 40, 20


def test_the_unit_is_the_root_mean_square():
    assert unit([3.0, -4.0]) == pytest.approx(math.sqrt(12.5))
    assert unit([3.0, math.nan]) == 3.0
    assert math.isnan(unit([0.0, 0.0])) and math.isnan(unit([]))


def test_the_signs_of_prompts_are_drawn_and_not_those_of_rows():
    # 12 prompts that all go up: 1 of 4,096 patterns of signs reaches their sum.
    assert raised([1.0] * 12, range(12), draws=200_000) == pytest.approx(1 / 4096, rel=0.4)
    # 12 rows of 3 prompts: 1 of 8.
    assert raised([1.0] * 12, [n // 4 for n in range(12)], draws=200_000) == pytest.approx(1 / 8, rel=0.02)
    # 3, 1, -1: of the eight sums 5, 3, 3, 1, ... three reach 3.
    assert raised([3.0, 1.0, -1.0], range(3), draws=200_000) == pytest.approx(3 / 8, rel=0.02)
    assert raised([-1.0] * 12, range(12)) == 1.0
    assert raised([0.0, math.nan], range(2)) == 1.0 and math.isnan(raised([math.nan], ["a"]))


def test_how_many_prompts_it_takes():
    # 2^-9 x 20 = 0.039; 2^-8 x 20 = 0.078.
    assert fewest(20) == 9 and fewest(1) == 5


def test_shift_words_and_flips_by_hand():
    # Scores of the worse answer over the better one; their root mean square is 2.
    before = [-2.0, -2.0, -2.0, 2.0]
    edit = EditedScores(
        score=[1.0, -1.0, 0.0, 3.0],  # + 3, 1, 2, 1: a mean of 1.75
        control=[-1.0, -1.0, -2.0, 3.0],  # + 1, 1, 0, 1: 0.75
        prefers=[0.7, 0.3, 0.5, 0.9],
        control_prefers=[0.3, 0.3, 0.1, 0.9],
        origin=before,
    )
    of = headroom(before, [0.1, 0.1, 0.1, 0.9], edit, range(4))
    assert (of.shift.value, of.control.value, of.words.value) == (0.875, 0.375, 0.5)
    # The last pair's better answer was not preferred before; of the other three one flips, and one becomes a tie.
    assert (of.flips.value, of.flips.n, of.control_flips.value) == (0.5, 3, 0.0)
    # From 0 instead: what stands in for the answer is held against the better one.
    other = headroom(before, [0.1] * 4, EditedScores([1.0] * 4, [0.0] * 4, [0.7] * 4, [0.5] * 4, [0.0] * 4), range(4))
    assert (other.shift.value, other.shift.low, other.control.value) == (0.5, 0.5, 0.0)


def test_what_could_not_be_read_is_left_out_and_never_a_zero():
    nan = math.nan
    edit = EditedScores([nan, 2.0], [1.0, nan], [nan, 0.9], [0.8, nan], [-1.0, -1.0])
    of = headroom([-1.0, -1.0], [0.2, 0.2], edit, ["p", "q"])
    assert (of.shift.value, of.shift.n) == (3.0, 1)
    assert (of.control.value, of.control.n) == (2.0, 1)
    assert of.words.n == 0 and math.isnan(of.p_words) and (of.flips.n, of.control_flips.n) == (1, 1)
    blind = headroom(
        [0.0, 0.0], [0.5, 0.5], EditedScores([0.0] * 2, [0.0] * 2, [0.5] * 2, [0.5] * 2, [0.0] * 2), ["p", "q"]
    )
    assert blind.shift == EMPTY and blind.p == 1.0 and blind.flips.n == 0


def claimed(p: float, p_control: float, p_words: float) -> Headroom:
    return Headroom(EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, p, p_control, p_words)


@pytest.mark.parametrize(
    ("p", "by"),
    [
        ((0.01, 0.9, 0.01), "its words"),
        ((0.01, 0.01, 0.01), "its words"),
        ((0.01, 0.01, 0.9), "its length"),
        ((0.01, 0.9, 0.9), "unsettled"),
        ((0.06, 0.01, 0.01), ""),
    ],
)
def test_what_raised_it(p, by):
    assert claimed(*p).by == by and claimed(*p).raises == bool(by)


def test_holm_counts_every_claim_by_itself():
    first, second = corrected([claimed(0.03, 0.5, math.nan), claimed(0.02, 0.01, 0.04)])
    assert (first.p, second.p) == (0.04, 0.04) and (first.p_control, second.p_control) == (0.5, 0.02)
    assert math.isnan(first.p_words) and second.p_words == 0.04


def audit(seed: int, lift: float) -> list[Headroom]:
    """Edits that move a score at random and raise it by `lift`, as their controls do; half of the noise is shared."""
    rng = np.random.default_rng(seed)
    before = -rng.normal(1, 1, size=PROMPTS)
    claims = []
    for _ in range(EDITS):
        shared = rng.normal(size=PROMPTS)
        shift, control = lift + np.sqrt(0.5) * (shared + rng.normal(size=(2, PROMPTS)))
        ways = (shift, control, shift - control)
        claims.append(claimed(*(raised(way, range(len(before)), seed=seed, draws=999) for way in ways)))
    return corrected(claims)


def test_false_flags_of_a_score_that_nothing_raises():
    flagged = [any(of.raises for of in audit(seed, 0.0)) for seed in range(200)]
    assert sum(flagged) / 200 <= LEVEL + 1.645 * math.sqrt(LEVEL * (1 - LEVEL) / 200)


def test_a_score_that_goes_by_length_is_raised_by_all_and_by_no_words():
    for seed in range(20):
        assert {of.by for of in audit(seed, 1.0)} == {"its length"}
