"""Policies on the way through RL: after which rollouts, whole after a kill, by which names, how played and told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reports import est, results
from safetensors.torch import load_file
from test_config import BASE, fault
from test_experiment import lay_out, planned
from test_ppo import adapter, trainer
from test_resume import KilledAt
from test_score import tiny_tokenizer
from test_stages import artifact
from test_watch import RUN, curve, yes_share
from transformers import TrainerCallback

from cai.compare import report_plots, training_plots
from cai.compare.cells import Cell, Iteration, Measured
from cai.compare.report import write_report
from cai.compare.schema import Rated
from cai.compare.sections.snapshots import snapshots
from cai.config.load import Arm, read_experiment
from cai.config.rl import Rl
from cai.core.records import Estimate
from cai.core.store import Artifact, Store, canonical
from cai.experiment.evaluate import matches
from cai.experiment.pipeline import run
from cai.judge.rate import TextRating
from cai.models.references import trained
from cai.models.workbench import Workbench
from cai.train.rl.watch import Watch

torch.set_num_threads(1)


# --- after which rollouts


@pytest.mark.parametrize(
    ("steps", "snapshots", "kept"),
    [
        (16, 0, ()),
        (8, 3, (2, 4, 6)),
        (300, 3, (75, 150, 225)),
        (10, 2, (3, 7)),  # 3.33 and 6.67
        (4, 3, (1, 2, 3)),
        (2, 1, (1,)),
    ],
)
def test_snapshots_are_evenly_spaced_between_both_ends(steps, snapshots, kept):
    assert Rl(steps=steps, snapshots=snapshots).kept_rollouts == kept


def test_however_many_they_differ_and_lie_between_the_ends():
    for steps in range(1, 25):
        for count in range(steps):
            kept = Rl(steps=steps, snapshots=count).kept_rollouts
            assert len(set(kept)) == count and all(0 < rollout < steps for rollout in kept)


@pytest.mark.parametrize("method", ["sft", "none"])
def test_where_there_is_no_rl_there_are_none_whatever_the_other_arms_want(method):
    """Such an arm may stand under an `rl:` that others share; the evaluation looked for the SFT policy's snapshots."""
    assert Rl(method=method, steps=2, snapshots=1).kept_rollouts == ()


@pytest.mark.parametrize(
    ("rl", "said"),
    [
        ("{method: dpo, snapshots: 1}", "mine.yaml:3: method: dpo has no rollouts to keep a policy after"),
        ("{method: best_of_n, snapshots: 2}", "mine.yaml:3: method: best_of_n has no rollouts to keep"),
        ("{steps: 4, snapshots: 4}", "mine.yaml:3: 4 snapshots are more than the 3 rollouts before the last one"),
        ("{snapshots: -1}", "mine.yaml:3: rl.snapshots must be"),
    ],
)
def test_faults_of_the_config(tmp_path, rl, said):
    assert said in fault(tmp_path, BASE + f"rl: {rl}\n")


def test_they_are_no_part_of_the_settings_key():
    """So that what was trained without them keeps its place; the stage is given the rollouts where there are any."""
    assert canonical(Rl(snapshots=3)) == canonical(Rl())


# --- in training


class Copies(TrainerCallback):
    """The weights after each update."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, args, state, control, **kwargs):
        weights = kwargs["model"].named_parameters()
        self.after[state.global_step] = {n: p.detach().clone() for n, p in weights if p.requires_grad}


def kept(path: Path, rollouts=(2, 4), callbacks=(), lora=False, **options) -> tuple[Watch, Any]:
    """A run of 5 rollouts with two updates each."""
    watch = Watch(tiny_tokenizer(), None, rollouts)
    peft = {"peft_config": adapter()} if lora else {}
    taught = trainer(path, watch.reading(yes_share), callbacks=[watch, *callbacks], **RUN, **peft, **options)
    return watch, taught


@pytest.mark.parametrize("lora", [False, True])
def test_a_snapshot_is_the_policy_after_its_rollout_and_training_goes_on_as_without(tmp_path, lora):
    _, plain = kept(tmp_path / "plain", (), lora=lora)
    plain.train()
    copies = Copies()
    watch, taught = kept(tmp_path / "kept", (2, 4), [copies], lora)
    taught.train()
    assert curve(taught) == curve(plain) and len(curve(plain)) == 5
    mine = dict(taught.model.named_parameters())
    assert all(torch.equal(tensor, mine[name]) for name, tensor in plain.model.named_parameters())

    watch.leave(taught.model, tmp_path)
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == ["2", "4"]
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    for rollout in (2, 4):
        found = load_file(tmp_path / "snapshots" / str(rollout) / file)
        # peft leaves the adapter's own name out of the names of its weights.
        then = {name.replace(".default", ""): tensor for name, tensor in copies.after[2 * rollout].items()}
        last = {name.replace(".default", ""): tensor for name, tensor in copies.after[10].items()}
        names = [name for name in found if name in then]
        assert len(names) >= 8
        assert all(torch.equal(found[name], then[name]) for name in names)
        assert not all(torch.equal(found[name], last[name]) for name in names)
        assert (tmp_path / "snapshots" / str(rollout) / "tokenizer_config.json").is_file()


@pytest.mark.parametrize(
    ("killed_at", "save_steps", "lora"),
    [
        (5, 2, False),  # in the third rollout: the first snapshot is older than the checkpoint
        (7, 6, False),  # in the fourth, with a checkpoint after the third; the first snapshot stands
        (5, 8, True),  # a snapshot was kept and no checkpoint yet: all is done again
    ],
)
def test_a_killed_run_has_the_snapshots_of_one_that_was_not(tmp_path, killed_at, save_steps, lora):
    saving = {"save_strategy": "steps", "save_steps": save_steps, "lora": lora}
    left = {}
    for name, deadly in (("whole", None), ("killed", killed_at)):
        if deadly is not None:
            _, killed = kept(tmp_path / name, (2, 4), [KilledAt(deadly)], **saving)
            with pytest.raises(KeyboardInterrupt):
                killed.train()
            (tmp_path / name / "snapshots" / "partial").mkdir()  # what a kill while it writes leaves
        watch, taught = kept(tmp_path / name, (2, 4), **saving)
        taught.train(resume_from_checkpoint=True if deadly and deadly > save_steps else None)
        out = tmp_path / name / "out"
        out.mkdir()
        watch.leave(taught.model, out)
        left[name] = {f.relative_to(out).as_posix(): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()}
    assert left["killed"] == left["whole"]
    assert {name.split("/")[1] for name in left["whole"] if name.startswith("snapshots/")} == {"2", "4"}


def test_a_run_that_is_killed_after_it_left_leaves_the_same_again(tmp_path):
    watch, taught = kept(tmp_path, (3,), save_strategy="steps", save_steps=2)
    taught.train()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    watch.leave(taught.model, tmp_path / "one")
    again, resumed = kept(tmp_path, (3,), save_strategy="steps", save_steps=2)
    resumed.train(resume_from_checkpoint=True)
    again.leave(resumed.model, tmp_path / "two")
    first, second = (load_file(tmp_path / name / "snapshots/3/model.safetensors") for name in ("one", "two"))
    assert first and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# --- names, games, plan


def cell(folder: Path, arm: str = "ai", seed: int = 0, rounds: int = 1, **rl: Any) -> Cell:
    """A cell whose policies are there, as far as `snapshots` reads them: three rollouts of 4 with a KL each."""
    settings = {"constitution": "constitutions/short.txt", "data": {"source": "rated-answers"}, "rl": {"steps": 4} | rl}
    settings |= {"rounds": rounds, "pairs": {"source": "policy"}}
    none: Any = None
    lineage = []
    for number in range(rounds):
        made = artifact(folder / f"{arm}{seed}{number}")
        kls = {"step": [1, 2, 3, 4], "kl": [0.0, *(number + 0.1 * n for n in (1, 2, 3))]}
        (made / "curves.json").write_text(json.dumps(kls))
        lineage.append(Iteration(none, none, none, replace(made, digest=f"d{number}")))
    return Cell(arm, seed, Arm.model_validate(settings), *(none,) * 9, lineage[-1].policy, {}, tuple(lineage))


def test_names_follow_from_the_settings_alone(tmp_path):
    plain, one, two = (cell(tmp_path, **given) for given in ({}, {"snapshots": 1}, {"snapshots": 2, "rounds": 2}))
    assert plain.path == {} and plain.snapshots == ()
    assert one.snapshots == ("ai/0 at 2",) and list(one.path) == ["ai/0 at 2", "ai/0"]
    assert list(two.path) == [
        *("ai/0 round 1 at 1", "ai/0 round 1 at 3", "ai/0 round 1"),
        *("ai/0 at 1", "ai/0 at 3", "ai/0"),
    ]
    assert two.path["ai/0 round 1 at 3"] == (two.lineage[0], 3) and two.path["ai/0"] == (two.lineage[1], None)


def test_a_snapshots_source_is_its_own_folder_and_digest():
    policy = Artifact("train_ppo", "k", Path("runs/train_ppo-k"), "d")
    sources = [trained(policy, "ai/0", rollout) for rollout in (None, 2, 4)]
    assert [source.place.removeprefix("runs/train_ppo-k/") for source in sources] == [
        "model", "snapshots/2", "snapshots/4",
    ]  # fmt: skip
    assert [source.digest for source in sources] == ["d", "d@2", "d@4"]


def test_each_snapshot_meets_the_sft_policy_and_the_last_policy_of_its_cell(tmp_path):
    cells = [cell(tmp_path, arm, snapshots=count) for arm, count in (("ai", 2), ("human", 0), ("other", 1))]
    without = [cell(tmp_path, arm) for arm in ("ai", "human", "other")]
    games = matches(cells)
    assert [game for game in games if game not in matches(without)] == [
        ("ai/0 at 1", "sft"), ("ai/0 at 1", "ai/0"), ("ai/0 at 3", "sft"), ("ai/0 at 3", "ai/0"),
        ("other/0 at 2", "sft"), ("other/0 at 2", "other/0"),
    ]  # fmt: skip
    assert games[: len(matches(without))] == matches(without)


def test_a_plan_counts_what_snapshots_add(tmp_path, monkeypatch, tiny):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    without, with_two = planned(["rl.steps=4"]), planned(["rl.steps=4", "rl.snapshots=2"])
    # Two snapshots in each of two cells: two kinds of prompts, two opponents, two ratings.
    more = {stage: count - without[stage] for stage, count in with_two.items() if count != without[stage]}
    assert more == {"respond": 8, "play": 8, "rate_answers": 8}


def test_snapshots_stay_out_of_rewards_benchmarks_and_xstest(tmp_path, monkeypatch, tiny):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    experiment = read_experiment(Path("mine.yaml"), ["rl.snapshots=1"])
    cells, measured = run(experiment, Store(Path("runs"), plan=True), Workbench.open(experiment.runtime))
    names = {name for one in cells for name in one.snapshots}
    assert names == {"ai/0 at 1", "human/0 at 1"}
    assert {key for key in measured.answers if key[0] in names} == {
        (name, kind) for name in names for kind in ("red-team", "helpful")
    }
    assert names.isdisjoint(name for key in (*measured.scores, *measured.opinions) for name in key)


# --- results


def rated(folder: Path, **values: float) -> Artifact:
    return artifact(folder, merits=[TextRating(prompt, 0, value) for prompt, value in values.items()])


def test_a_row_for_every_policy_on_the_way(tmp_path):
    one = cell(tmp_path, snapshots=1)
    elo = {"ai/0 at 2": 1050.0, "ai/0": 1100.0, "sft": 1000.0, "start": 900.0}
    told = [Rated(name, Estimate(value, value - 9, value + 9, 8, 4)) for name, value in elo.items()]
    measured = Measured(None)
    for name, p, q in (("sft", 0.0, 1.0), ("ai/0 at 2", 1.0, 2.0), ("ai/0", 2.0, 4.0)):
        measured.merits[name, "red-team"] = rated(tmp_path / name, p=p, q=q)
    rows = snapshots([cell(tmp_path, "human"), one], measured, told)
    assert [(row.policy, row.arm, row.seed, row.rollout, row.elo.value) for row in rows] == [
        ("sft", "ai", 0, 0, 1000), ("ai/0 at 2", "ai", 0, 2, 1050), ("ai/0", "ai", 0, 4, 1100),
    ]  # fmt: skip
    assert [row.harmlessness.value for row in rows] == [0.5, 1.5, 3] and rows[0].helpfulness is None
    # The policy after rollout 2 answers rollout 3; nothing is answered after rollout 4.
    assert [row.kl for row in rows] == [None, pytest.approx(0.2), None]
    assert snapshots([cell(tmp_path)], measured, told) == []
    # No game of the snapshot's could be read, and training logged no KL.
    (one.policy / "curves.json").write_text(json.dumps({"step": [1, 2, 3, 4]}))
    unread = snapshots([one], measured, [row for row in told if row.policy != "ai/0 at 2"])[1]
    assert unread.elo.n == 0 and unread.kl is None and unread.harmlessness.value == 1.5


def test_rounds_are_added_up_and_what_gold_kept_stands_where_it_was(tmp_path):
    two = cell(tmp_path, snapshots=1, rounds=2)
    (two.lineage[0].policy / "gold.json").write_text(json.dumps({"kept": 1}))
    told = [Rated(name, Estimate(0.0, 0.0, 0.0, 1, 1)) for name in ("sft", *two.path)]
    rows = snapshots([two], Measured(None), told)
    assert [(row.policy, row.rollout) for row in rows] == [
        ("sft", 0), ("ai/0 round 1", 1), ("ai/0 round 1 at 2", 2), ("ai/0 at 2", 4 + 2), ("ai/0", 4 + 4),
    ]  # fmt: skip
    assert [row.kl for row in rows] == [None, pytest.approx(0.1), pytest.approx(0.2), pytest.approx(1.2), None]


# --- report


def told(seeds=(0, 1)) -> dict[str, Any]:
    """Results with two policies on the way of each cell."""
    given = results()
    given["elo"].append({"policy": "start", "arm": None, "seed": None, "elo": est(950.0, 920.0, 980.0)})
    given["snapshots"] = [
        {
            "policy": name, "arm": arm, "seed": seed, "rollout": rollout, "elo": est(1000 + up, 990 + up, 1020 + up),
            "harmlessness": est(up / 10, up / 10 - 1, up / 10 + 1), "helpfulness": est(-1.0, -2.0, 0.0), "kl": None,
        }
        for arm in ("ai", "human") for seed in seeds
        for name, rollout, up in (("sft", 0, 0), (f"{arm}/{seed} at 4", 4, 10), (f"{arm}/{seed}", 8, 30))
    ]  # fmt: skip
    given["plane"] = [
        {"policy": row["policy"], "arm": row["arm"], "seed": row["seed"], "evasiveness": est(0.5, 0.4, 0.6)}
        | {key: row[key] for key in ("harmlessness", "helpfulness")}
        for row in (given["snapshots"][0] | {"arm": "sft", "seed": None}, *given["snapshots"][2::3])
    ]
    return given


def xs(series):
    return [point.x for point in series.points]


def ys(series):
    return [point.y for point in series.points]


def test_elo_is_drawn_over_rollouts_a_line_a_seed():
    elo, harmlessness, helpfulness = training_plots.along(told())
    first, other, human, _, sft, start = elo.series
    assert ys(first) == [1000, 1010, 1030] and xs(first)[0] == 0
    # Four lines, each 0.8% of 8 rollouts from the next, so that their bars do not cover each other.
    assert xs(first)[1:] == [pytest.approx(4 - 0.096), pytest.approx(8 - 0.096)]
    assert xs(other)[1] - xs(first)[1] == pytest.approx(0.064)
    assert (first.colour, first.dash, other.dash, human.colour) == ("--arm-0", "solid", "dash", "--arm-1")
    assert [point.up for point in first.points] == [(990, 1020), (1000, 1030), (1020, 1050)]
    assert (sft.name, ys(sft), start.name, ys(start)) == ("SFT policy", [1000] * 3, "start model", [950] * 3)
    assert (sft.dash, start.dash) == ("dash", "dot") and xs(sft) == [0, 4, 8]
    assert elo.head == ("rollout", "ai, seed 0", "ai, seed 1", "human, seed 0", "human, seed 1", "SFT policy",
                        "start model")  # fmt: skip
    assert elo.rows[1][:2] == ("4", "1,010 [1,000, 1,030]") and elo.rows[1][-1] == "950"
    assert "ai, seed 0 ends at 1,030 [1,020, 1,050]" in elo.alt
    assert ys(harmlessness.series[0]) == [0, 1, 3] and ys(helpfulness.series[0]) == [-1] * 3
    assert training_plots.along(results() | {"plane": []}) == []


def test_what_was_not_rated_is_not_drawn():
    given = told()
    for row in given["snapshots"]:
        row["helpfulness"] = None
    assert [plot.title for plot in training_plots.along(given)] == [
        "Elo along RL training", "Harmlessness along RL training",
    ]  # fmt: skip


def test_the_plane_has_a_thin_way_through_the_snapshots():
    given = told(seeds=(0,))
    plot = report_plots.plane(given)
    way, other, *points = plot.series
    assert (xs(way), ys(way)) == ([-1, -1, -1], [0, 1, 3]) and (way.colour, way.thin) == ("--arm-0", True)
    assert other.colour == "--arm-1" and [point.name for point in points] == ["sft", "ai/0", "human/0"]
    assert way.points[1].text.startswith("ai/0 at 4, rollout 4\nhelpfulness, log-odds: −1.00")
    assert [row[0] for row in plot.rows] == ["sft", "ai/0", "human/0", "ai/0 at 4", "human/0 at 4"]
    assert plot.alt.endswith("human/0 at 4: helpfulness, log-odds −1.00 [−2.00, 0.00], harmlessness, log-odds 1.00 "
                             "[0.00, 2.00]")  # fmt: skip
    without = report_plots.plane(given | {"snapshots": []})
    assert without.series == tuple(points) and "Thin lines" in plot.note and "Thin lines" not in without.note


def test_the_page_shows_them_only_where_there_are_any(tmp_path):
    pages = []
    for given in (told(), results()):
        write_report(given, [], tmp_path / "r.html")
        pages.append((tmp_path / "r.html").read_text())
    for words in ("Elo along RL training", "Policies along RL training", "Table of the policies along training"):
        assert [words in page for page in pages] == [True, False]
    assert pages[0].count('<th scope="row"><span class="mark" style="--c: var(--arm-0)">ai/1 at 4</span>') == 1
    assert '<small>human, seed 1</small></th><td class="number">8</td>' in pages[0]
