from math import isnan, log10, nan
from typing import Any

import numpy as np
import pytest

from cai.stats.games import POINTS, elo, length_controlled, length_design


def games(one: str, two: str, outcomes: list[float]) -> list[tuple[str, str, str, float]]:
    return [(one, two, f"p{i}", outcome) for i, outcome in enumerate(outcomes)]


def test_elo_of_two_by_hand() -> None:
    # Three wins and one game drawn for caution: 3.5 to 0.5, odds of 7.
    found = elo(games("rl", "sft", [1, 1, 1]))
    assert found["rl"].value == pytest.approx(1000 + 400 * log10(7))
    assert (found["sft"].value, found["sft"].low, found["sft"].high) == (1000, 1000, 1000)
    assert (found["rl"].n, found["rl"].clusters) == (3, 3)
    # 64 of 100 points and one draw: 64.5 to 36.5, whoever is named first.
    outcomes = [1.0] * 60 + [0.5] * 8 + [0.0] * 32
    assert elo(games("rl", "sft", outcomes))["rl"].value == pytest.approx(1000 + 400 * log10(64.5 / 36.5))
    backwards = elo(games("sft", "rl", [1 - outcome for outcome in outcomes]))
    assert backwards["rl"].value == pytest.approx(elo(games("rl", "sft", outcomes))["rl"].value)
    assert backwards["rl"].low < backwards["rl"].value < backwards["rl"].high


def test_elo_of_a_chain_adds_up() -> None:
    found = elo(games("b", "sft", [1, 1, 0, 1]) + games("a", "b", [1, 1, 1]))
    assert found["b"].value == pytest.approx(1000 + 400 * log10(3.5 / 1.5))
    assert found["a"].value == pytest.approx(found["b"].value + 400 * log10(3.5 / 0.5))


def test_elo_without_a_chain_to_the_anchor() -> None:
    found = elo([*games("a", "sft", [1, 0]), *games("x", "y", [1, 1]), ("a", "sft", "p9", nan)])
    assert isnan(found["x"].value) and isnan(found["y"].value) and found["a"].value == pytest.approx(1000)
    assert found["a"].n == 2 and elo([]) == {} and isnan(elo(games("x", "y", [1]))["x"].value)
    one = elo(games("a", "sft", [1]))["a"]
    assert one.value == pytest.approx(1000 + 400 * log10(3)) and isnan(one.low)


def tournament(seed: int = 0, count: int = 120) -> list[tuple[str, str, str, float]]:
    rng = np.random.default_rng(seed)
    truth = {"start": -0.8, "sft": 0.0, "ai/0": 0.5, "human/0": 0.9}
    pairs = [("sft", "start"), ("ai/0", "sft"), ("human/0", "sft"), ("ai/0", "human/0"), ("human/0", "start")]
    found = []
    for i in range(count):
        for one, two in pairs:
            chance = 1 / (1 + np.exp(truth[two] - truth[one]))
            found.append((one, two, f"p{i}", 0.5 if rng.random() < 0.1 else float(rng.random() < chance)))
    return found


def test_elo_agrees_with_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    played = tournament()
    met = sorted({game[:2] for game in played})
    names = ["ai/0", "human/0", "start"]
    rows = [(game[:2], game[3]) for game in played] + [(pair, 0.5) for pair in met]
    design = np.array([[(name == pair[0]) - (name == pair[1]) for name in names] for pair, _ in rows], float)
    fit = api.GLM([outcome for _, outcome in rows], design, family=api.families.Binomial()).fit()
    mine = elo(played)
    assert [mine[name].value for name in names] == pytest.approx(list(1000 + POINTS * fit.params), abs=1e-4)


def test_more_games_a_prompt_do_not_narrow_a_rating() -> None:
    once = games("rl", "sft", [1.0, 1, 0, 1, 0.5, 1, 0, 1] * 6)
    found, again = elo(once)["rl"], elo(once * 5)["rl"]
    assert again.clusters == found.clusters == 48 and again.n == 5 * found.n
    assert (again.high - again.low) / (found.high - found.low) == pytest.approx(1, abs=0.05)  # the one draw weighs less


def repeated(wins: list[float], lengths: list[float], times: int) -> tuple[Any, Any, Any]:
    return np.tile(wins, times)[:, None], np.tile(lengths, times)[:, None], range(len(wins) * times)


def test_length_controlled_by_hand() -> None:
    # Longer in 60 games of 80, and then wins 45; shorter in 20, and then wins 5: odds of 3 for the longer answer,
    # whichever it is. So 62.5% are won, and at equal length it would be 50%.
    wins = [1.0] * 45 + [0] * 15 + [1] * 5 + [0] * 15
    found = length_controlled(*repeated(wins, [50] * 60 + [-50] * 20, 20))
    assert found.value == pytest.approx(0.5, abs=0.002) and found.n == 1600
    # Longer in half: wins 3 of 4 then and 1 of 2 else: log-odds of 1.0986 and 0, half-way 0.5493: 63.4%.
    found = length_controlled(*repeated([1.0, 1, 1, 0, 1, 1, 0, 0], [50] * 4 + [-50] * 4, 200))
    assert found.value == pytest.approx(0.634, abs=0.002)
    assert length_design([50, -50, 50, -50])[:, 1] == pytest.approx(np.tanh([1, -1, 1, -1]))


def test_length_controlled_is_the_win_rate_where_length_says_nothing() -> None:
    found = length_controlled(*repeated([1.0, 1, 1, 0], [0] * 4, 30))
    assert found.value == pytest.approx((90 + 1) / 122)  # with two drawn games
    won = length_controlled(*repeated([1.0] * 2, [5, -5], 5))
    assert (won.value, won.low, won.high) == (1, pytest.approx(0.7225, abs=5e-4), 1)  # Wilson's: 10 / (10 + 3.8415)
    assert length_controlled(np.zeros((0, 1)), np.zeros((0, 1)), []).n == 0
    assert length_controlled([[nan], [1], [0]], [[1], [2], [3]], list("xyz")).n == 2


def test_length_controlled_agrees_with_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(1)
    prompts, lengths = np.repeat(range(100), 4), rng.normal(20, 60, size=400)
    wins = (rng.random(400) < 1 / (1 + np.exp(-0.3 - 0.8 * np.tanh(lengths / 60)))).astype(float)
    mine = length_controlled(wins[:, None], lengths[:, None], prompts)
    x, y = np.concatenate([length_design(lengths), [[1, 1], [1, -1]]]), np.concatenate([wins, [0.5, 0.5]])
    model = api.GLM(y, x, family=api.families.Binomial())
    assert mine.value == pytest.approx(1 / (1 + np.exp(-model.fit().params[0])), abs=1e-6)
    groups = np.concatenate([prompts, [100, 101]])  # two prompts more: a little narrower
    low, high = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True).conf_int()[0]
    width = np.log(mine.high / (1 - mine.high)) - np.log(mine.low / (1 - mine.low))
    assert width == pytest.approx(high - low, rel=0.02)


@pytest.mark.slow
def test_intervals_of_ratings_and_of_length_controlled_wins_cover_the_truth() -> None:
    truth = {"start": -0.8, "ai/0": 0.5, "human/0": 0.9}
    inside = dict.fromkeys(truth, 0)
    for seed in range(300):
        found = elo(tournament(seed, 60), resamples=300)
        for name, strength in truth.items():
            shrunk = 1000 + POINTS * 0.9 * strength  # about: one game in ten is a draw
            inside[name] += found[name].low <= shrunk <= found[name].high
    assert all(0.90 <= hits / 300 <= 0.985 for hits in inside.values())
    rng, hits = np.random.default_rng(7), 0
    for _ in range(500):
        lengths = rng.normal(30, 60, size=(80, 3))
        score = 0.8 * np.tanh(lengths / 60) + rng.normal(size=(80, 1)) * 0.7 + rng.normal(size=3) * 0.4
        found = length_controlled(rng.random((80, 3)) < 1 / (1 + np.exp(-score)), lengths, range(80))
        hits += found.low <= 0.5 <= found.high  # at equal length the sides are even
    assert 0.93 <= hits / 500 <= 0.975
