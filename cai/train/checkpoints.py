"""Checkpoints of transformers' Trainer that say of themselves whether they are whole.

A checkpoint is complete once it holds `rollouts.json`, which is written last, when all else is on the disk, and has
the size and the sum of every file: a run that is killed while it saves leaves a folder that is passed over, as is one
that was damaged since. Then the one before it is gone on from.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from cai.core.durable import sync, sync_tree, write_whole
from cai.core.owned import unfinished
from cai.core.store import digest_file
from cai.models.loading import without_card

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
        with without_card(self.model):
            super()._save_checkpoint(model, trial)  # pyrefly: ignore
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if self.accelerator.is_local_main_process:
            sync_tree(folder)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            # Contents, then what says that they are complete, then the name by which they are found.
            write_whole(folder / COMPLETE, json.dumps({"state": self.own_state(), "files": _contents(folder)}))
            sync(folder.parent)
            sync(folder.parent.parent)


@contextmanager
def checkpoints_of(out: Path) -> Iterator[Path]:
    """As `unfinished`; one folder for all processes that train together, which the first holds."""
    from cai.models.sharded import everyones, writes  # heavy

    with unfinished(out) if writes() else nullcontext(out) as folder:
        yield everyones([folder])[0]


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a trainer's output folder."""
    numbered = {int(path.name[11:]): path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()}
    newest_first = (numbered[number] for number in sorted(numbered, reverse=True))
    return next((path for path in newest_first if state_of(path) is not None), None)


def state_of(checkpoint: Path) -> dict[str, Any] | None:
    """What `own_state` said when the checkpoint was made; None where it is not complete. All of it is read."""
    try:
        content = json.loads((checkpoint / COMPLETE).read_bytes())
        files, now = content.get("files"), _sizes(checkpoint)
        if files is None:  # the oldest version's holds the state alone
            return content
        if all(isinstance(size, int) for size in files.values()):  # an older version's has no sums
            return content["state"] if files == now else None
        if {name: size for name, (size, _) in files.items()} != now or files != _contents(checkpoint):
            return None
        return content["state"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in checkpoint.rglob("*") if path.is_file() and path != checkpoint / COMPLETE)
    return {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}


def _contents(checkpoint: Path) -> dict[str, list[int | str]]:
    return {name: [size, digest_file(checkpoint / name)] for name, size in _sizes(checkpoint).items()}
