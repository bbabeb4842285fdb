"""Where a result came from: versions, code, models, data, constitutions and how it was run."""

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from cai.compare.cells import Cell
from cai.config.load import Experiment
from cai.config.sections import Judge, Policy
from cai.core.shipped import HOME
from cai.core.store import Artifact, digest_file, digest_of
from cai.core.usage import most_memory
from cai.models.references import model_of
from cai.models.workbench import Workbench

PACKAGES = ("cai", "torch", "transformers", "trl", "peft", "datasets", "accelerate")
DIGEST = "sha256 of the package"
CODE = Path(__file__).parents[2]  # the whole package: a judge's code decides a result as well as a report's


@dataclass(frozen=True, slots=True)
class Began:
    """When a run began (seconds since 1970), and the code as it was then: both are recorded as they were read."""

    at: float
    code: Mapping[str, Any]


def begin() -> Began:
    return Began(time.time(), code_of(CODE, HOME / "prompts"))


def provenance(
    experiment: Experiment, cells: Sequence[Cell], work: Workbench, began: Began, ledger: Sequence[Artifact]
) -> dict[str, Any]:
    """All that is needed to tell whether another run was the same one. ledger: the stages of this run."""
    arms = {cell.arm: cell for cell in cells}
    chosen = [
        (one, made)
        for cell in arms.values()
        for one, made in (
            (cell.settings.policy, cell.pretrained),
            *((judge, None) for judge in cell.settings.judge.asked.values()),
            (cell.settings.evaluate.judge, None),
        )
    ]
    texts = {arm: cell.constitution.text for arm, cell in arms.items()}
    most = max([most_memory() or 0, *(made.used.get("memory", 0) for made in ledger if not made.cached)])
    others = {path: one.text for path, one in work.constitutions.items() if one.text not in texts.values()}
    return {
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "code": dict(began.code),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": work.device,
        "dtype": work.dtype(cells[0].settings),
        "wall time, s": round(time.time() - began.at, 1),
        "memory at most, MB": round(most / 1e6) or None,  # of one process, the one that leads or a worker
        "model calls": work.counts(),
        "settings changed on the command line": list(experiment.overrides),
        "digests": {
            **{f"model {_named(one)}": model_of(one, made).digest for one, made in chosen},
            **{f"data of arm {arm}": cell.data.digest for arm, cell in arms.items()},
            **{f"constitution of arm {arm}": _sha256(text) for arm, text in texts.items()},
            **{f"constitution {path}": _sha256(text) for path, text in others.items()},
            "config": _sha256(experiment.text),
        },
        "config": experiment.text,
        "constitution": texts,
        "other constitutions": others,  # by which policies were judged and rated
    }


def _named(one: Policy | Judge) -> str:
    return one.model if one.template is None else f"{one.model} (template: {json.dumps(one.template)})"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def code_of(package: Path, *more: Path) -> dict[str, Any]:
    """Git commit of a package, whether anything in it (or in `more`, beside it) was changed since, and its digest.

    The digest is over the .py and .jinja files, and tells two states of the code apart where there is no repository, or
    where the repository around it is that of somebody else's project.
    """
    return {**_commit(package, *more), DIGEST: digest_of_code(package)}


def digest_of_code(package: Path = CODE) -> str:
    files = sorted(file for file in package.rglob("*") if file.suffix in (".py", ".jinja"))
    return digest_of([[file.relative_to(package).as_posix(), digest_file(file)] for file in files])


def _commit(package: Path, *more: Path) -> dict[str, Any]:
    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20)
        return done.stdout.strip("\n") if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD") if git("ls-files", "--", "*.py") else ""  # else it is another project's
        lines = git("status", "--porcelain", "--untracked-files=all", "--", ".", *map(str, filter(Path.is_dir, more)))
    except (OSError, subprocess.TimeoutExpired):
        head = lines = ""
    if not head:
        return {"git commit": "not known"}
    changed = [line[3:] for line in lines.splitlines()]
    return {"git commit": head, "changed since": ", ".join(changed) or "no"}
