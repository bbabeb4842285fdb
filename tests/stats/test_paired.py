from itertools import product
from math import isnan, nan

import numpy as np
import pytest

from cai.stats.paired import holm, mcnemar


def test_holm_by_hand() -> None:
    # In order 0.01, 0.02, 0.03, 0.9: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.9.
    assert holm([0.03, 0.9, 0.01, 0.02]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])  # 0.021 must not end up below 0.04
    assert holm([0.8, 0.7]) == [1, 1] and holm([]) == []
    adjusted = holm([0.01, nan])
    assert adjusted[0] == 0.01 and isnan(adjusted[1])


def test_holm_agrees_with_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = list(np.random.default_rng(0).uniform(size=20) ** 3)
    assert holm(p) == pytest.approx(list(multitest.multipletests(p, method="holm")[1]))


def test_mcnemar_by_hand() -> None:
    # Only a is right on 5 rows, only b on 1, both on 3: P(0, 1, 5 or 6 heads of 6) = (1 + 6 + 6 + 1) / 64.
    a, b = [1] * 5 + [0] + [1] * 3, [0] * 5 + [1] + [1] * 3
    assert mcnemar(a, b, range(9)) == pytest.approx(14 / 64)
    assert mcnemar([1, 0], [1, 0], range(2)) == 1 and isnan(mcnemar([nan], [1], ["x"]))
    assert mcnemar([1, 0.5], [0.5, 0], range(2)) == 0.5  # half a point each, two signs: +1, 0, 0, -1
    with pytest.raises(ValueError, match=r"1, 0 or 0\.5"):
        mcnemar([0.3], [1], ["x"])


def test_mcnemar_agrees_with_statsmodels() -> None:
    table = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(1)
    a, b = (rng.uniform(size=(2, 60)) < [[0.7], [0.5]]).astype(int)
    counts = [[int(np.sum((a == i) & (b == j))) for j in (1, 0)] for i in (1, 0)]
    assert mcnemar(a, b, range(60)) == pytest.approx(table.mcnemar(counts, exact=True).pvalue)


def test_mcnemar_draws_the_sign_of_a_prompt_not_of_a_row() -> None:
    a, b, prompts = [1, 1, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0], list("xxxyyz")  # sums 3, 0 and 1
    by_hand = np.mean([abs(3 * s + t) >= 4 for s, t in product((1, -1), repeat=2)])
    assert mcnemar(a, b, prompts) == by_hand == 0.5
    assert mcnemar(a, b, range(6)) == pytest.approx(14 / 64)  # as if six prompts had been asked


@pytest.mark.slow
def test_mcnemar_keeps_its_level_where_pairs_share_prompts_and_the_unclustered_test_does_not() -> None:
    rng = np.random.default_rng(2)
    prompts = np.repeat(range(40), 5)
    clustered = pretending = 0
    for _ in range(500):
        leaning = np.repeat(rng.normal(size=(2, 40)), 5, axis=1)
        a, b = (rng.normal(size=(2, 200)) < leaning).astype(int)
        clustered += mcnemar(a, b, prompts) < 0.05
        pretending += mcnemar(a, b, range(200)) < 0.05
    assert 0.03 <= clustered / 500 <= 0.071  # exact, so at most 5% but for chance of the simulation
    assert pretending / 500 > 0.12
