"""Checkpoints of transformers' Trainer that say of themselves whether they are whole.

A checkpoint is complete once it holds `rollouts.json`, which is written last, when all else is on the disk, and names
every file with its size: a run that is killed while it saves leaves a folder that is passed over, as is one that has
lost something since.
"""

import json
from pathlib import Path
from typing import Any

from cai.core.durable import sync, sync_tree, write_whole

COMPLETE = "rollouts.json"


class Sealing:
    """For trainers on transformers' Trainer: the checkpoints that they write are sealed."""

    def own_state(self) -> dict[str, Any]:
        """What else decides how the run goes on, as JSON."""
        return {}

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:  # an older one of this number is no longer complete from here on
            (folder / COMPLETE).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)  # pyrefly: ignore
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if self.accelerator.is_local_main_process:
            sync_tree(folder)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            # Contents, then what says that they are complete, then the name by which they are found.
            write_whole(folder / COMPLETE, json.dumps({"state": self.own_state(), "files": _sizes(folder)}))
            sync(folder.parent)
            sync(folder.parent.parent)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a trainer's output folder."""
    made = [path for path in folder.glob("checkpoint-*") if state_of(path) is not None]
    return max(made, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def state_of(checkpoint: Path) -> dict[str, Any] | None:
    """What `own_state` said when the checkpoint was made; None where it is not complete."""
    try:
        content = json.loads((checkpoint / COMPLETE).read_bytes())
        files = content.get("files")
        if files is None:  # an older version's holds the state alone
            return content
        return content["state"] if files == _sizes(checkpoint) else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in checkpoint.rglob("*") if path.is_file() and path != checkpoint / COMPLETE)
    return {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
