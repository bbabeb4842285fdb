"""`without: each` in the pipeline: what the arm with all principles has made is hit, and only the rest is new."""

import contextlib

from test_keys import ROOT

from cai.config.load import read_experiment
from cai.constitution.each import expanded
from cai.experiment.command import plan
from cai.models.workbench import Workbench


def stages(root: str, *changed: str) -> list[str]:
    fixed = [f"runtime.root={root}", "runtime.device=cpu", "dtype=float32", "seeds=[0, 1]"]
    with contextlib.chdir(ROOT):
        experiment = expanded(read_experiment(ROOT / "experiments" / "smoke.yaml", [*fixed, *changed]))
        ledger, _ = plan([experiment], Workbench.open(experiment.runtime))
    return list(dict.fromkeys(f"{one.stage}-{one.key}" for one in ledger))


def test_an_arm_keeps_its_keys_when_others_leave_principles_out(tmp_path) -> None:
    arm = "arms={ai: {labels: ai}}"
    alone = stages(str(tmp_path), arm)
    more = stages(str(tmp_path), "arms={ai: {labels: ai, without: each}}")
    assert set(alone) <= set(more)
    count = {of: sum(name.startswith(f"{of}-") for name in more) for of in ("label_by_judge", "train_reward")}
    assert count == {
        "label_by_judge": 1 + 8,
        "train_reward": 2 * (1 + 8),
    }  # short.txt: eight principles


def test_of_editing_files_by_hand_it_is_the_same(tmp_path) -> None:
    """The arm without a principle has the keys of an arm whose constitution was copied without it."""
    text = (ROOT / "constitutions" / "quickstart.txt").read_text()
    copy = tmp_path / "copy.txt"
    copy.write_text(text[: text.index("## no crime")] + text[text.index("## no hate") :])
    base = ("arms={ai: {labels: ai}}", "judge.preflight=null")
    by_hand = stages(str(tmp_path), *base, f"constitution={copy}")
    assert stages(str(tmp_path), *base, "constitution=constitutions/quickstart.txt", "without=no crime") == by_hand
    assert stages(str(tmp_path), *base, "constitution=constitutions/quickstart.txt") != by_hand
