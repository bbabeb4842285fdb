"""What an edit of `Check:` makes anew: labels and what follows from them, and no revision, SFT or human label."""

import contextlib
from pathlib import Path

import pytest

from cai.config.load import read_sweep
from cai.core.errors import UserError, UserErrors
from cai.experiment.checks import check
from cai.experiment.command import plan
from cai.models.workbench import Workbench

ROOT = Path(__file__).parents[2]
LAW = """\
## right
Critique: Say what is wrong.
Revise: Make it right.
Prefer: Choose the response that is right.

## kind
Critique: Say what is unkind.
Revise: Make it kind.
Prefer: Choose the response that is kind.
"""


def keys(tmp_path: Path, law: str, *changed: str) -> set[tuple[str, str]]:
    """(stage, key) of everything that the smoke experiment would run by this constitution."""
    file = tmp_path / "law.txt"
    file.write_text(law)
    fixed = [f"constitution={file}", f"runtime.root={tmp_path / 'runs'}", "runtime.device=cpu", "dtype=float32"]
    with contextlib.chdir(ROOT):
        grid = read_sweep(Path("experiments/smoke.yaml"), [*fixed, *changed])
        ledger, _ = plan(grid, Workbench.open(grid[0].runtime))
    return {(made.stage, made.key) for made in ledger}


def test_a_check_moves_labels_and_what_follows_alone(tmp_path):
    plain = keys(tmp_path, LAW)
    checked = keys(tmp_path, LAW.replace("is right.\n\n## kind", "is right.\nCheck: arithmetic\n\n## kind"))
    exact = keys(tmp_path, LAW.replace("is right.\n\n## kind", "is right.\nCheck: exact arithmetic\n\n## kind"))
    for before, after in ((plain, checked), (checked, exact)):
        moved = {stage for stage, _ in before - after}
        assert moved == {stage for stage, _ in after - before} and {"label_by_judge", "train_reward"} <= moved
        stay = {"load_data", "load_helpful", "revise", "train_sft", "label_by_people"}
        assert not moved & stay and stay <= {stage for stage, _ in before}


def test_what_runs_something_is_refused_at_the_constitution_before_anything_is_done(tmp_path):
    law = LAW + "\n## code\nCheck: python code runs\n"
    with pytest.raises((UserError, UserErrors), match="nothing allows that") as caught:
        keys(tmp_path, law)
    assert "law.txt" in str(caught.value) and "checkers: ['code']" in str(caught.value)
    allowed = "judge.checkers=['unconfined code']"
    assert ("revise", dict(keys(tmp_path, LAW))["revise"]) in keys(tmp_path, law, allowed)


def test_the_shipped_experiment_is_ready(tmp_path):
    with contextlib.chdir(ROOT):
        grid = read_sweep(Path("experiments/arithmetic.yaml"), [f"runtime.root={tmp_path}", "policy.model=tiny-random",
                          "judge.model=tiny-random", "evaluate.judge.model=tiny-random"])  # fmt: skip
        check(*grid)
