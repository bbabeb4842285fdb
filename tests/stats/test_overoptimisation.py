"""Proxy against gold: numbers by hand, and what the report says of them."""

import numpy as np
import pytest
from test_report import results

from cai.compare.report import write_report
from cai.stats.overoptimisation import best_look, judge_run, lead, plots, sentence


def look(rollout, golds, proxies=None, kl=0.0) -> dict:
    return {"rollout": rollout, "kl": kl, "golds": golds, "proxies": proxies or [0.0] * len(golds)}


def test_the_best_look_is_the_one_with_the_highest_mean_and_of_equals_the_first():
    assert best_look([look(0, [0, 0]), look(2, [1, 2]), look(4, [2, 1]), look(6, [0, 1])]) == 1
    assert best_look([look(0, [0, 0]), look(2, [-1, 0.5])]) == 0


def test_the_best_look_is_found_on_prompts_that_both_have():
    # On the second prompt alone, which both have, the later look is worse, however good it is on the first.
    assert best_look([look(0, [None, 1.0]), look(1, [9.0, 0.5])]) == 0
    assert best_look([look(0, [None, 1.0]), look(1, [None, 1.5]), look(2, [5.0, None])]) == 1


def test_a_later_look_never_brings_back_weights_that_are_gone():
    # 1 beats 0 on two prompts. Look 2 cannot read the second prompt: on the first alone 0 would beat 1.
    looks = [look(0, [0.5, 0.0]), look(1, [0.0, 2.0]), look(2, [-1.0, None])]
    assert best_look(looks) == 1


def test_the_lead_by_hand():
    # Against the last look, prompt by prompt: 2 each time; without spread there is nothing to be unsure of.
    golds = np.array([[0.0, 0.0, 0.0], [3.0, 2.0, 4.0], [1.0, 0.0, 2.0]])
    estimate = lead(golds, 1)
    assert (estimate.value, estimate.n, estimate.clusters) == (2.0, 3, 3)
    # The best look moves by nothing, look 0 by up to 1 either way (-1, 0, -2 around -1).
    assert (estimate.low, estimate.high) == (1.0, 3.0)
    assert lead(golds[1:], 0).low == lead(golds[1:], 0).high == 2.0  # of two looks, its own spread alone
    assert lead(golds, 2).value == 0


def test_the_more_looks_there_were_to_choose_from_the_less_a_lead_says():
    """Gold is noise: chosen as the best of 20, a look leads; its interval must not believe it more than 1 in 20."""
    rng = np.random.default_rng(0)
    believed = naive = 0
    for run in range(100):
        golds = rng.normal(size=(20, 30))
        place = int(golds[:-1].mean(axis=1).argmax())
        believed += lead(golds, place, seed=run).low > 0
        naive += lead(golds[[place, -1]], 0, seed=run).low > 0
    assert believed <= 8 and naive >= 15


RISEN = ([0.0] * 6, [1.0, 1.2, 0.9, 1.1, 1.0, 0.8], [2.0, 2.1, 2.2, 1.9, 2.0, 1.8])  # proxy
FALLEN = ([0.0] * 6, [1.0, 0.9, 1.1, 1.2, 0.8, 1.0], [0.1, 0.0, 0.2, 0.1, -0.1, 0.1])  # gold


def run_of(golds, proxies) -> list[dict]:
    rows = zip((0, 4, 8), golds, proxies, (0.0, 4.0, 9.0), strict=True)
    return [look(rollout, g, p, kl) for rollout, g, p, kl in rows]


@pytest.mark.parametrize(
    ("golds", "proxies", "verdict", "said"),
    [
        (FALLEN, RISEN, "over-optimised", "from rollout 4 to 8 gold fell by 0.93 ["),
        (RISEN, RISEN, "no fall", "highest at the end"),
        (FALLEN, ([0.0] * 6, [1.0] * 6, [0.5] * 6), "worse", "training went wrong"),
        (([0.0] * 6, [1, -1, 2, -2, 1, 0], [0, 1, -1, 2, -2, 0]), RISEN, "not shown", "may be luck"),
        (([None] * 6,) * 3, RISEN, "no data", "no prompt"),
    ],
)
def test_what_may_be_said_of_a_run(golds, proxies, verdict, said):
    run = judge_run(run_of(golds, proxies))
    assert run["verdict"] == verdict and said in sentence(run)


def test_the_fall_and_the_rise_by_hand():
    run = judge_run(run_of(FALLEN, RISEN))
    assert (run["best"], run["last"]) == (4, 8)
    assert run["fell"].value == pytest.approx(1.0 - 0.4 / 6)  # mean 6/6 to 0.4/6
    assert run["rose"].value == pytest.approx(1.0) and run["rose"].low > 0  # 6/6 to 12/6


def test_curves_are_gains_on_the_sft_policy_over_the_root_of_the_kl():
    looks = [look(0, [0.0, 0.0], [1.0, 3.0], 0.0), look(4, [1.0, 0.0], [2.0, 3.0], 2.25)]
    (plot,) = plots([{"arm": "ai", "seed": 1, "by": "a rule", "kept": 4, "looks": looks}])
    (line,) = plot["lines"]
    assert (line["root_kl"], line["proxy"], line["gold"]) == ([0.0, 1.5], [0.0, 0.5], [0.0, 0.5])
    assert (plot["arm"], line["seed"], line["kept"]) == ("ai", 1, 4)
    assert (line["alarm"]["rollout"], line["alarm"]["text"]) == (None, "")  # two prompts say nothing


def test_the_report_draws_an_arm_a_plot_and_says_what_is_shown(tmp_path):
    from dataclasses import asdict

    from cai.compare.report import BLANK
    from cai.compare.training_plots import gold

    runs = [
        {"arm": arm, "seed": seed, "by": "judge <b>", "kept": 4, "looks": run_of(golds, RISEN)}
        for arm, golds in (("ai", FALLEN), ("human", RISEN))
        for seed in (0, 1)
    ]
    drawn = plots(runs)
    for plot in drawn:
        for line in plot["lines"]:
            line |= {name: asdict(line[name]) for name in ("fell", "rose")}
    write_report(results() | {"overoptimisation": drawn}, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert [plot["arm"] for plot, _ in gold(BLANK | results() | {"overoptimisation": drawn})] == ["ai", "human"]
    assert "√KL to the SFT policy" in page and page.count("Seed 0, 3 looks: over-optimised") == 1
    assert "judge &lt;b&gt;" in page and "Kept: after rollout 4" in page
    write_report(results() | {"overoptimisation": drawn}, [], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page
