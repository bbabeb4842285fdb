"""Where a result came from: versions, code, models, data and how it was run."""

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from cai.cells import Cell
from cai.config import Experiment
from cai.models import find
from cai.workbench import Workbench

PACKAGES = ("cai", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "plotly")


def provenance(experiment: Experiment, cells: Sequence[Cell], work: Workbench, seconds: float) -> dict[str, Any]:
    """All that is needed to tell whether another run was the same one."""
    arms = {cell.arm: cell for cell in cells}
    models = dict.fromkeys(
        ref
        for cell in arms.values()
        for ref in (cell.settings.policy.model, cell.settings.judge.model, cell.settings.evaluate.judge.model)
    )
    laws = {arm: cell.law.path.read_text(encoding="utf-8") for arm, cell in arms.items()}
    return {
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "code": commit(Path(__file__).parent),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": work.device,
        "dtype": work.dtype(cells[0].settings),
        "wall time, s": round(seconds, 1),
        "model calls": work.counts(),
        "settings changed on the command line": list(experiment.overrides),
        "digests": {
            **{f"model {ref}": find(ref).digest for ref in models},
            **{f"data of arm {arm}": cell.data.digest for arm, cell in arms.items()},
            **{f"constitution of arm {arm}": hashlib.sha256(law.encode()).hexdigest() for arm, law in laws.items()},
            "config": hashlib.sha256(experiment.text.encode()).hexdigest(),
        },
        "config": experiment.text,
        "constitution": laws,
    }


def commit(folder: Path) -> dict[str, Any]:
    """Git commit of the code in `folder`, and whether it was changed since; says so where there is no repository."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", str(folder))
    except (OSError, subprocess.TimeoutExpired):
        head = changed = ""
    return {"git commit": head, "changed since": "yes" if changed else "no"} if head else {"git commit": "not known"}
