"""The alarm along RL: capital by hand, and how often it rings where it must not and where it must."""

import math

import numpy as np
import pytest

from cai.stats.alarm import BETS, CLIP, FEWEST, KEPT, LEVEL, Alarm, alarm, evidence, standardised, words

LOOKS, PROMPTS, RUNS = 8, 32, 200
RISING = np.linspace(0, 2.5, LOOKS + 1)[1:]  # of the proxy, in standard deviations
# Gold by look. From look 4 on it is below half of the proxy's 1.25.
RISE_AND_FALL = (0.3, 0.5, 0.6, 0.5, 0.3, 0.1, 0.0, -0.2)


def look(rollout, proxies, golds) -> dict:
    return {"rollout": rollout, "proxies": list(proxies), "golds": list(golds)}


# --- by hand


def test_a_gain_is_measured_in_its_own_standard_deviations():
    # Gains 1, 3, 1, 3: median 2, mean distance 1, so that a standard deviation is sqrt(pi / 2).
    gains = standardised(np.array([1.0, 1.0, 0.0, 2.0]), np.array([2.0, 4.0, 1.0, 5.0]))
    assert gains == pytest.approx(np.array([1, 3, 1, 3]) / math.sqrt(math.pi / 2))
    assert standardised(np.zeros(3), np.full(3, -0.2)).tolist() == [-CLIP] * 3  # no spread: as far as it goes
    assert standardised(np.zeros(3), np.zeros(3)).tolist() == [0, 0, 0]
    assert standardised(np.zeros(0), np.zeros(0)).size == 0


def test_the_capital_of_a_look_is_the_mean_over_bets_of_what_each_has_won():
    d = np.array([1.0, 2.0, -1.0, 0.5])
    expected = np.mean([(1 + b) * (1 + 2 * b) * (1 - b) * (1 + b / 2) for b in BETS])
    assert evidence(d) == pytest.approx(expected)
    assert evidence(d[::-1]) == pytest.approx(expected)
    assert evidence(np.array([9.0, 1.0, 1.0, -7.0])) == pytest.approx(evidence(np.array([CLIP, 1.0, 1.0, -CLIP])))
    assert evidence(np.zeros(9)) == 1 and evidence(np.full(FEWEST - 1, 9.0)) == 1
    assert BETS.min() > 0 and BETS.max() * CLIP < 1  # nobody can lose all


def test_no_bet_gains_in_expectation_under_the_null():
    """Of all outcomes of four prompts, each +1 or -1 with a probability of one half."""
    outcomes = [np.array([1 - 2 * (n >> i & 1) for i in range(4)], float) for n in range(16)]
    assert np.mean([evidence(d) for d in outcomes]) == pytest.approx(1)
    # And with a mean below 0 it is less: +1 with a probability of 0.4.
    chances = [0.4 ** (d > 0).sum() * 0.6 ** (d < 0).sum() for d in outcomes]
    assert sum(p * evidence(d) for p, d in zip(chances, outcomes, strict=True)) < 1


def test_the_capital_of_looks_is_shared_out_over_those_that_were_planned():
    # The proxy gains 3 everywhere (no spread: 3), gold nothing: d = 1.5 at 32 prompts.
    first, later = look(0, [0.0] * 32, [0.0] * 32), look(4, [3.0] * 32, [0.0] * 32)
    capital = evidence(np.full(32, 1.5))
    assert capital / 4 > 1 / LEVEL
    rung = alarm([first, later, later | {"rollout": 8}], planned=4)
    assert rung.capital == pytest.approx((capital / 4, capital / 2))
    assert (rung.rollout, rung.proxy, rung.gold) == (4, 3.0, 0.0)
    assert alarm([first, later]).capital == pytest.approx((capital,))
    assert alarm([first]) == Alarm((), None, 0.0, 0.0) and words(alarm([first])) == ""


def test_what_is_said_of_one_that_rang():
    rung = Alarm((1.0, 30.0), 8, 1.26, -0.34)
    assert words(rung) == (
        "the proxy has gained 1.3 standard deviations over held-out prompts and gold −0.3, which is less than 0.5 of "
        "it (anytime-valid test, false alarms at most 5%)"
    )


def test_prompts_that_a_look_has_no_number_for_are_left_out_of_that_look_alone():
    first = look(0, [0.0] * 9, [0.0] * 9)
    whole = look(1, [1.0, 2.0, 3.0] * 3, [0.5, 0.0, -0.5] * 3)
    partly = look(2, [1.0, 2.0, 3.0] * 3, [None, 0.0, -0.5] + [0.5, 0.0, -0.5] * 2)
    assert alarm([first, whole, partly], 2).capital[0] == alarm([first, whole], 2).capital[0]
    without = look(2, [2.0, 3.0] + [1.0, 2.0, 3.0] * 2, [0.0, -0.5] + [0.5, 0.0, -0.5] * 2)
    short = look(0, [0.0] * 8, [0.0] * 8)
    both, alone = alarm([first, whole, partly], 2).capital, alarm([short, without], 2).capital
    assert both[1] - both[0] == pytest.approx(alone[0])


def test_a_look_that_comes_later_moves_nothing_before_it():
    looks = simulated(3, RISING, np.zeros(LOOKS), heavy=False)
    whole = alarm(looks, LOOKS)
    assert alarm(looks[:5], LOOKS).capital == whole.capital[:4]
    assert list(whole.capital) == sorted(whole.capital)  # evidence is never lost


# --- how often it rings: 200 runs each


def simulated(seed, proxy, gold, heavy) -> list[dict]:
    """Gains with a standard deviation of 1 for the proxy and 3 for gold; half of their variance is a prompt's own."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return rng.standard_t(3, size=shape) / np.sqrt(3) if heavy else rng.normal(size=shape)

    base, own = drawn(PROMPTS), drawn(2, PROMPTS)
    looks = [look(0, base, np.zeros(PROMPTS))]
    for rollout, gains in enumerate(zip(proxy, gold, strict=True), 1):
        p, g = np.array(gains)[:, None] + np.sqrt(0.5) * (own + drawn(2, PROMPTS))
        looks.append(look(rollout, base + p, 3 * g))
    return looks


def rang(proxy, gold, heavy) -> list[int]:
    """The looks at which it rang."""
    rollouts = [alarm(simulated(seed, proxy, gold, heavy), LOOKS).rollout for seed in range(RUNS)]
    return [rollout for rollout in rollouts if rollout is not None]


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(
    ("proxy", "gold"),
    [(np.zeros(LOOKS), np.zeros(LOOKS)), (RISING, RISING), (RISING, KEPT * RISING)],
    ids=["nothing is learnt", "gold gains as much", "gold just keeps up"],
)
def test_false_alarms(proxy, gold, heavy):
    error = 1.645 * math.sqrt(LEVEL * (1 - LEVEL) / RUNS)  # of the simulation
    assert len(rang(proxy, gold, heavy)) / RUNS <= LEVEL + error


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(
    ("gold", "late"),
    [(np.zeros(LOOKS), 6.0), (np.array(RISE_AND_FALL), 7.0), (-0.2 * RISING, 4.5)],
    ids=["gold stands still", "gold rises and falls", "gold falls"],
)
def test_detection_and_delay(gold, late, heavy):
    alarms = rang(RISING, gold, heavy)
    assert len(alarms) / RUNS >= 0.98 and np.mean(alarms) < late
    if gold[0] > 0:
        assert min(alarms) >= 4  # not while gold keeps up
