"""Sweeps, label budgets and comparisons of finished runs: read from files, and run once on the tiny model."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from pyarrow.parquet import read_table
from test_experiment import run_in

from cai.compare.__main__ import main as compare
from cai.compare.facets import Facet, SweptDot, drawn, facets, span, titles
from cai.compare.figures import Axis
from cai.compare.runs import differences, experiment_of, read_run
from cai.compare.sweep import long_rows, shown, write_csv, write_parquet
from cai.config.load import read_experiment, read_sweep
from cai.config.sweep import size
from cai.core.errors import UserError
from cai.core.store import Store, digest_folder
from cai.experiment.command import main
from cai.models.references import find
from cai.models.workbench import Workbench
from cai.train.common import tracked
from cai.train.reward import train_reward
from cai.train.trainable import Labelled, Trainable

ROOT = Path(__file__).parents[2]
BASE = "constitution: constitutions/short.txt\ndata: {source: rated-answers}\n"
SHIPPED = sorted([*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "experiments").glob("s*/*.yaml")])


def grid(tmp_path, text, overrides=()):
    path = tmp_path / "mine.yaml"
    path.write_text(BASE + text)
    return read_sweep(path, overrides)


def fault(tmp_path, text, overrides=()):
    with pytest.raises(UserError) as error:
        grid(tmp_path, text, overrides)
    return str(error.value).replace(f"{tmp_path}/", "")


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_grid_has_a_point_for_each_combination_the_first_key_slowest(tmp_path):
    found = grid(tmp_path, "revise: {rounds: {sweep: [1, 2]}}\nrl:\n  kl_coef:\n    sweep: [0.0, 0.1, 1e-2]\n")
    assert [(one.arms["ai"].revise.rounds, one.arms["ai"].rl.kl_coef) for one in found] == [
        (1, 0), (1, 0.1), (1, 0.01), (2, 0), (2, 0.1), (2, 0.01),
    ]  # fmt: skip
    assert found[1].name == "mine/revise.rounds=1,rl.kl_coef=0.1" and found[1].sweep == "mine"
    assert found[1].point == {"revise.rounds": 1, "rl.kl_coef": 0.1}
    assert size([one.point for one in found]) == "6 runs: revise.rounds (2 values) x rl.kl_coef (3 values)"


def test_a_points_overrides_make_it_again(tmp_path):
    text = "judge: {sweep: [{method: rate}, {method: choice, principles: all}]}\nsft: {epochs: {sweep: [1, 2]}}\n"
    for one in grid(tmp_path, text):
        again = read_experiment(tmp_path / "mine.yaml", one.overrides)
        assert again.arms == one.arms and not again.point


def test_a_key_of_one_arm_can_be_swept_and_the_others_stay(tmp_path):
    text = "arms:\n  ai: {judge: {principles: {sweep: [1, all]}}}\n  human: {labels: human}\n"
    one, two = grid(tmp_path, text)
    assert [run.arms["ai"].judge.principles for run in (one, two)] == [1, "all"]
    assert one.arms["human"] == two.arms["human"]
    assert list(two.point) == ["arms.ai.judge.principles"]


def test_set_fixes_a_swept_key_or_sweeps_one(tmp_path):
    text = "rl: {kl_coef: {sweep: [0.1, 0.2]}}\njudge: {sweep: [{method: rate}, {method: score}]}\n"
    (one,) = grid(tmp_path, text, ["rl.kl_coef=0.3", 'judge={"method": "choice"}'])
    assert not one.point and one.arms["ai"].rl.kl_coef == 0.3 and one.arms["ai"].judge.method == "choice"
    assert len(grid(tmp_path, "", ["rl.kl_coef={sweep: [0.1, 0.2]}"])) == 2
    said = fault(tmp_path, text, ["judge.principles=2"])
    assert "--set judge.principles: judge is swept as a whole" in said and "--set judge=..." in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rl:\n  kl_coef: {sweep: []}\n", "mine.yaml:4: rl.kl_coef: sweep must be a list of values, not an empty list"),
        ("rl: {kl_coef: {sweep: 3}}\n", "mine.yaml:3: rl.kl_coef: sweep must be a list of values, not 3"),
        ("seeds: {sweep: [[0], [1]]}\n", "mine.yaml:3: seeds cannot be swept: every point of the grid has them all"),
        ("runtime: {threads: {sweep: [1, 2]}}\n", "runtime.threads cannot be swept: it changes no result"),
        ("arms: {sweep: [{}, {}]}\n", "arms cannot be swept: arms stand beside one another"),
        ("arms:\n  ai: {sweep: [{labels: ai}]}\n", "mine.yaml:4: arms.ai cannot be swept"),
        ("sweep: [1]\n", 'mine.yaml:3: "sweep" is no key of the file'),
        ("judge: {sweep: [{method: rate}], principles: 2}\n", 'judge is swept, and "principles" beside its values'),
        ("rl: {kl_coef: {sweep: [{sweep: [1]}]}}\n", "mine.yaml:3: a sweep within a sweep"),
        ("rl: {kl_coef: {sweep: [0.1, 0.1]}}\n", "two points of the sweep are both rl.kl_coef=0.1"),
        ("reward: {epochs: {sweep: [1, 2]}}\nlabel_budget: [9, 4]\n", "label_budget must be two or more growing"),
        ("label_budget: [4, 9]\n", "mine.yaml:3: label_budget holds people's labels against the judge's"),
        (
            "simulated: {pool: [{principles: {sweep: [1, 2]}}]}\n",
            "simulated.pool[0].principles cannot be swept: it is one item of a list",
        ),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_be(tmp_path, text, said):
    assert said in fault(tmp_path, text)


def test_each_wrong_value_is_named_with_its_own_line(tmp_path):
    text = "revise:\n  rounds:\n    sweep:\n      - 1\n      - two\n      - 0\n"
    assert fault(tmp_path, text).splitlines()[:2] == [
        'mine.yaml:7: revise.rounds must be a whole number of at least 1, not "two"',
        "mine.yaml:8: revise.rounds must be a whole number of at least 1, not 0",
    ]
    inside = "judge:\n  sweep:\n    - method: rate\n    - method: choicy\n"
    assert fault(tmp_path, inside).startswith("mine.yaml:6: judge.method must be")


def test_one_experiment_is_not_read_from_a_sweep(tmp_path):
    grid(tmp_path, "rl: {kl_coef: {sweep: [0.1, 0.2]}}\n")
    with pytest.raises(UserError, match=r"rl\.kl_coef: swept, and this takes one experiment"):
        read_experiment(tmp_path / "mine.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_experiment_plans_on_the_tiny_model(path, tiny, ratings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = path.read_text()
    models = ("judge", "evaluate.judge") if "\npretrain:" in text else ("policy", "judge", "evaluate.judge")
    every = [f"{key}.model=tiny-random" for key in models]
    fixed = [one for one in every if one.partition(".")[2].rpartition("=")[0] and not swept(text, one)]
    data = [] if "hh-rlhf" not in text else ["data.source=rated-answers"]
    assert main([str(path), "--plan", *(f"--set={one}" for one in [*fixed, *data, f"runtime.root={tmp_path}"])]) == 0
    assert "stages to run on cpu" in capsys.readouterr().out


def swept(text: str, override: str) -> bool:
    """Whether a section that an override reaches into is swept as a whole."""
    section = override.partition(".")[0]
    return f"{section}: {{sweep" in text or f"{section}:\n  sweep" in text


# --- the long table and its plots -------------------------------------------------------------------------------------


def est(value, low=None, high=None, n=10, clusters=5):
    return {"value": value, "low": low, "high": high, "n": n, "clusters": clusters}


RESULTS = {
    "point": {"rl.kl_coef": 0.1},
    "measures": [
        {
            "key": "wins", "unit": "%", "arms": {"ai": est(0.6, 0.5, 0.7), "sft": est(0.5)},
            "difference": {"of": ["ai", "human"], "estimate": est(0.1, -0.1, 0.3)},
        }
    ],
    "replicas": [{"seed": 3, "key": "wins", "unit": "%", "arms": {"ai": est(0.65, 0.4, 0.8)}}],
    "labels": [
        {"kind": "judge", "split": "train", "name": "x", "arm": "ai", "accuracy": est(0.1)},
        {"kind": "judge", "split": "test", "name": "AI judge (rate)", "arm": "ai", "seed": None,
         "accuracy": est(0.7, 0.6, 0.8), "balanced": None, "auc": None, "picks_shorter": None},
        {"kind": "reward", "split": "test", "name": "reward model ai/3", "arm": "ai", "seed": 3, "accuracy": None,
         "balanced": est(0.66), "auc": None, "picks_shorter": None},
    ],
    "judges": [{"arm": "ai", "labels": {"first_shown": est(0.9), "n": 12, "abstained": {}}}],
    "elo": [{"policy": "sft", "elo": est(1000.0), "arm": None, "seed": None},
            {"policy": "ai/3", "elo": est(1020.0), "arm": "ai", "seed": 3},
            {"policy": "ai/3 round 1", "elo": est(1010.0), "arm": "ai", "seed": 3}],
    "headline": None,
    "crossing": {
        "arms": ["ai", "human"], "n": 9, "clusters": 4, "at": {"labels": 31.5, "side": "within"},
        "low": {"labels": None, "side": "below"}, "high": {"labels": 80.0, "side": "within"},
    },
}  # fmt: skip


def test_every_number_is_a_row():
    rows = [tuple(row.values()) for row in long_rows(RESULTS)]
    assert rows == [
        ("ai", None, "wins", 0.6, 0.5, 0.7, 10, 5),
        ("sft", None, "wins", 0.5, None, None, 10, 5),
        ("ai - human", None, "wins_difference", 0.1, -0.1, 0.3, 10, 5),
        ("ai", 3, "wins", 0.65, 0.4, 0.8, 10, 5),
        ("ai", None, "labels_accuracy", 0.7, 0.6, 0.8, 10, 5),
        ("ai", 3, "reward_model_balanced", 0.66, None, None, 10, 5),
        ("ai", None, "judge_first_shown", 0.9, None, None, 10, 5),
        ("sft", None, "elo", 1000.0, None, None, 10, 5),
        ("ai", 3, "elo", 1020.0, None, None, 10, 5),
        ("ai vs human", None, "crossing_labels", 31.5, None, 80.0, 9, 4),
    ]


def test_the_table_as_csv_and_parquet(tmp_path):
    rows = [
        {**shown({"rl.kl_coef": value, "judge": what}), **row}
        for value, what in ((0, {"method": "rate"}), (0.5, "auto"))
        for row in list(long_rows(RESULTS))[:2]
    ]
    write_csv(tmp_path / "t.csv", ["rl.kl_coef", "judge"], rows)
    write_parquet(tmp_path / "t.parquet", ["rl.kl_coef", "judge"], rows)
    with (tmp_path / "t.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["rl.kl_coef", "judge", "arm", "seed", "measure", "value", "low", "high", "n", "clusters"]
    assert table[2] == ["0", '{"method": "rate"}', "sft", "", "wins", "0.5", "", "", "10", "5"]
    read = read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["rl.kl_coef"] for row in read] == [0.0, 0.0, 0.5, 0.5] and read[3]["judge"] == "auto"
    assert read[1]["low"] is None and read[1]["n"] == 10 and read[1]["seed"] is None


def test_a_plot_stands_where_the_numbers_are():
    rows = [
        {"kl": kl, "arm": "ai", "seed": seed, "measure": "wins", **est(value, low, high)}
        for kl, seed, value, low, high in ((1, None, 0.5, 0.4, 0.6), (2, None, 0.7, None, None), (1, 0, 0.45, 0.4, 0.5))
    ]
    (facet,) = facets(["kl"], rows)["wins"]
    assert facet == Facet({}, (SweptDot("ai", 1, rows[0], (0.45,)), SweptDot("ai", 2, rows[1], ())))
    y = span([facet])
    assert y.ends == pytest.approx((0.4 - 0.018, 0.7 + 0.018))
    plot = drawn(facet, "wins", y, Axis("kl", (-0.5, 1.5), ((0, "1"), (1, "2"))), [1, 2], ["sft", "ai"])
    line, seeds = plot.series
    assert line.colour == "--arm-1", "the colour is that of all arms of the page"
    assert [(p.x, p.y, p.up) for p in line.points] == [(0, 0.5, (0.4, 0.6)), (1, 0.7, None)]
    assert [plot.x.at(p.x) for p in line.points] == [25, 75]
    assert [(p.x, p.y) for p in seeds.points] == [(-0.06, 0.45)] and seeds.dash == ""
    assert plot.alt.startswith("wins by kl;") and line.points[0].text == "ai, kl 1\n0.500 [0.400, 0.600]"


def test_sections_are_named_by_what_differs():
    sections = ['{"method": "rate", "principles": 2}', '{"method": "choice", "principles": 2, "examples": {"a": 1}}']
    assert titles(sections) == ["rate", 'choice, examples {"a": 1}']
    assert titles([1, "auto"]) == ["1", "auto"]


def test_facets_split_by_the_other_swept_keys_and_leave_out_what_has_no_number():
    rows = [
        {"kl": kl, "by": by, "arm": "ai", "seed": None, "measure": measure, **est(value)}
        for kl in (1, 2)
        for by in ("x", "y")
        for measure, value in (("wins", 0.5), ("lost", None))
    ]
    found = facets(["kl", "by"], rows)
    assert list(found) == ["wins"] and [facet.others for facet in found["wins"]] == [{"by": "x"}, {"by": "y"}]
    assert [dot.at for dot in found["wins"][0].dots] == [1, 2]


# --- run once ---------------------------------------------------------------------------------------------------------

EXPERIMENT = """
constitution: law.txt
seeds: [0, 1]
label_budget: [2, 5]
arms:
  ai: {labels: ai}
  human: {labels: human}
policy: {model: tiny-random, lora_rank: 4}
data: {source: pairs.jsonl, test: 0.4}
helpful: null
revise: {prompts: 4, rounds: 1, max_new_tokens: 4}
sft: {batch_size: 4}
judge: {model: tiny-random, min_mass: 0.0, preflight: null}
reward: {batch_size: 4}
rl: {method: best_of_n, best_of: {sweep: [2, 3]}}
evaluate:
  prompts: 4
  transcripts: 0
  max_new_tokens: 4
  constitution: law.txt
  judge: {model: tiny-random, principles: 1, min_mass: 0.0}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """A folder in which a sweep of two points has run."""
    folder = tmp_path_factory.mktemp("sweep")
    rows = [
        {"prompt": f"Question number {n}?", "a": f"A long answer to {n}.", "b": f"No {n}.", "human": n % 2}
        for n in range(16)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "law.txt").write_text("- Choose the response that is good.\n")
    (folder / "mine.yaml").write_text(EXPERIMENT)
    run_in(folder)
    return folder


POINTS = ("rl.best_of=2", "rl.best_of=3")


def test_points_are_runs_that_share_what_they_can(finished):
    for point in POINTS:
        assert json.loads((finished / f"runs/mine/{point}/results.json").read_text())["point"] == {
            "rl.best_of": int(point[-1])
        }
    made = [folder.name.rpartition("-")[0] for folder in (finished / "runs/store").iterdir()]
    assert made.count("train_sft") == made.count("label_by_judge") == 1
    assert made.count("train_reward") == 2 * 2 + 2 * 2  # arms x seeds + budgets x seeds
    assert made.count("draw_labels") == 4


def test_the_sweep_leaves_one_long_table_and_a_page(finished):
    with (finished / "runs/mine/sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["rl.best_of"] for row in rows} == {"2", "3"}
    assert {row["seed"] for row in rows} == {"", "0", "1"}
    assert {"reward_accuracy", "win_rate_vs_sft", "labels_accuracy", "elo"} <= {row["measure"] for row in rows}
    results = json.loads((finished / "runs/mine/rl.best_of=3/results.json").read_text())
    (line,) = [line for line in results["measures"] if line["key"] == "reward_accuracy"]
    (row,) = [
        row for row in rows
        if (row["rl.best_of"], row["arm"], row["seed"], row["measure"]) == ("3", "ai", "", "reward_accuracy")
    ]  # fmt: skip
    assert float(row["value"]) == line["arms"]["ai"]["value"]
    page = (finished / "runs/mine/sweep.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert 'href="rl.best_of%3D2/report.html"' in page and "reward_accuracy" in page


def test_budgets_are_nested_draws_and_cross_or_not(finished):
    results = json.loads((finished / "runs/mine/rl.best_of=2/results.json").read_text())
    found = results["crossing"]
    assert [row["labels"] for row in found["budgets"]] == [2, 5] and found["seeds"] == 2
    assert found["at"]["side"] in ("within", "below", "above") and "human" in found["sentence"]
    assert found["sentence"] in (finished / "runs/mine/rl.best_of=2/report.html").read_text().replace("&#39;", "'")
    drawn_ = {}
    for folder in (finished / "runs/store").glob("draw_labels-*"):
        inputs = json.loads((folder / "manifest.json").read_text())["inputs"]
        ids = {json.loads(line)["pair_id"] for line in (folder / "labels.jsonl").read_text().splitlines()}
        drawn_[inputs["seed"], inputs["count"]] = ids
    for seed in (0, 1):
        assert len(drawn_[seed, 2]) == 2 and len(drawn_[seed, 5]) == 5 and drawn_[seed, 2] < drawn_[seed, 5]
    assert drawn_[0, 5] != drawn_[1, 5]


def test_a_budget_beyond_the_labels_is_refused_before_anything_is_trained(place):
    shutil.rmtree("runs")
    with pytest.raises(UserError, match=r"a budget of 99 labels, and there are 1?[0-9] training pairs"):
        main(["mine.yaml", "--set", "label_budget=[2, 99]", "--set", "rl.best_of=2"])
    assert not list(Path("runs/store").glob("train_*"))


def test_a_plan_says_what_each_point_adds(place, capsys):
    assert main(["mine.yaml", "--plan", "--set", "rl.best_of={sweep: [3, 4]}"]) == 0
    out = capsys.readouterr().out
    assert "mine: 2 runs: rl.best_of (2 values)" in out
    assert "mine/rl.best_of=3: 0 stages to run beside those of the points above, about 0 s" in out
    assert "mine/rl.best_of=4: " in out and "mine/rl.best_of=4: 0 stages" not in out


# --- finished runs ----------------------------------------------------------------------------------------------------


def test_runs_are_compared_and_their_differences_listed(place, capsys):
    for point in POINTS:  # as if each had been run with the one arm and seed, which keeps this short
        config = Path("runs/mine", point, "config.yaml")
        text = config.read_text().replace("seeds: [0, 1]", "seeds: [0]").replace("label_budget: [2, 5]\n", "")
        config.write_text(text.replace("  human: {labels: human}\n", ""))
    assert compare([f"runs/mine/{point}" for point in POINTS]) == 0
    one, two = (f"mine.{point}" for point in POINTS)
    differs = [line for line in capsys.readouterr().err.splitlines() if line.startswith("differs")]
    assert differs == [f"differs: rl.best_of: 2 in {one}, 3 in {two}"]
    results = json.loads(Path(f"runs/compare-{one}-{two}/results.json").read_text())
    assert results["arms"] == results["headline"]["arms"] == [one, two]
    assert results["warnings"][0] == differs[0].removeprefix("differs: ")
    before = json.loads(Path(f"runs/mine/{POINTS[0]}/results.json").read_text())
    (seed,) = [row for row in before["replicas"] if row["key"] == "reward_accuracy" and row["seed"] == 0]
    (now,) = [line for line in results["measures"] if line["key"] == "reward_accuracy"]
    assert now["arms"][one] == seed["arms"]["ai"], "the very reward model that the run left"


def refused(*runs: str) -> str:
    with pytest.raises(UserError) as error:
        compare(list(runs))
    return str(error.value)


def test_runs_that_are_none_or_unfinished_or_elsewhere(place):
    one, two = (f"runs/mine/{point}" for point in POINTS)
    assert "runs/nope: no such run" in refused(one, "runs/nope")
    assert "runs/store: this folder is no run: it holds no results.json" in refused(one, "runs/store")
    assert "a run is named twice" in refused(one, one)
    shutil.copytree("runs", "elsewhere")
    twin = f"elsewhere/mine/{POINTS[0]}"
    told = refused(one, twin)
    assert told.startswith(f"{one}: {twin} is called ") and told.endswith(" as well\n  -> rename the folder of one")
    assert "this run is in another store than" in refused(one, f"elsewhere/mine/{POINTS[1]}")
    Path(two, "results.json").write_text("")
    assert f"{two}: results.json or links.json is cut off" in refused(one, two)
    shutil.copy(f"elsewhere/mine/{POINTS[1]}/results.json", two)
    Path(one, "results.json").unlink()
    assert f"{one}: this run is not finished" in refused(two, one)


def test_runs_with_other_held_out_prompts_are_refused(place):
    one, two = (f"runs/mine/{point}" for point in POINTS)
    links = json.loads(Path(two, "links.json").read_text())
    other = Path("runs/store/load_data-0123456789abcdef")
    shutil.copytree(Path(links["ai/0"]["data"]), other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "prompts.jsonl").write_text("")
    manifest |= {"key": "0123456789abcdef", "files": None, "digest": digest_folder(other, ["manifest.json"])}
    (other / "manifest.json").write_text(json.dumps(manifest))
    text = Path(two, "links.json").read_text().replace(links["ai/0"]["data"], str(other))
    Path(two, "links.json").write_text(text)
    assert "its held-out prompts are not those of" in refused(one, two)
    (other / "counts.json").write_text("{}")
    assert "load_data-0123456789abcdef is damaged: its contents are not" in refused(one, two)
    shutil.rmtree(other)
    assert "the store has lost load_data-0123456789abcdef" in refused(one, two)


def test_seeds_and_packages_that_differ_are_said(place):
    one, two = (f"runs/mine/{point}" for point in POINTS)
    config = Path(two, "config.yaml")
    config.write_text(config.read_text().replace("seeds: [0, 1]", "seeds: [1, 7]"))
    results = json.loads(Path(two, "results.json").read_text())
    results["provenance"]["versions"]["torch"] = "1.0"
    Path(two, "results.json").write_text(json.dumps(results))
    runs = [read_run(Path(one)), read_run(Path(two))]
    said = differences(runs)
    assert "seeds: 0, 1 in mine.rl.best_of=2, 1, 7 in mine.rl.best_of=3; compared on 1" in said
    assert any(line.startswith("torch (package): ") and line.endswith(", 1.0 in mine.rl.best_of=3") for line in said)
    experiment, cells = experiment_of(runs)
    assert experiment.seeds == (1,) and {cell.seed for cell in cells} == {1} and len(cells) == 4
    config.write_text(config.read_text().replace("seeds: [1, 7]", "seeds: [7]"))
    assert "no seed is in both runs: 7 here, 0, 1 in" in refused(one, two)


# --- trackers ---------------------------------------------------------------------------------------------------------


def test_a_training_is_reported_where_the_config_says_so(place, monkeypatch):
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    logged = []

    class Fake(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            logged.append((args.run_name, "loss" in logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Fake)
    experiment = read_experiment(Path("mine.yaml"), ["rl.best_of=2", "runtime.report_to=[tensorboard]"])
    (_, cells) = experiment_of([read_run(Path("runs/mine", POINTS[0]))])
    cell, arm = cells[0], experiment.arms["ai"]
    store = Store(Path("runs"))
    made = store.stage(
        train_reward, runtime=Workbench.open(experiment.runtime), labelled=Labelled((cell.pairs,), (cell.labels,)),
        start=Trainable(find("tiny-random"), arm.policy, "float32"), settings=arm.reward, seed=9,
    )  # fmt: skip
    assert {name for name, _ in logged} == {made.path.name} and any(has_loss for _, has_loss in logged)
    assert os.environ.pop("TENSORBOARD_LOGGING_DIR") == str(Path("runs/trackers").resolve() / made.path.name)
    assert not list(made.path.rglob("*tfevents*"))


def test_a_tracker_that_is_missing_is_said_before_anything_runs(place):
    said = r"runtime\.report_to: the package trackio is not installed"
    with pytest.raises(UserError, match=said):
        main(["mine.yaml", "--set", "runtime.report_to=[trackio]", "--set", "rl.best_of=2"])


def test_nothing_is_reported_by_default(tmp_path):
    experiment = grid(tmp_path, "")[0]
    assert tracked(Workbench.open(experiment.runtime), tmp_path / "train_sft-1.2.partial") == {"report_to": "none"}
