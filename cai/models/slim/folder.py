"""The folder of a slimmed model: weights and tokenizer as of any model, and SLIM beside them, which says what was done.

What was pruned is a model like any other. What was factorised or quantised has layers that its architecture's config
does not know: it is read (it judges, revises, answers), and not trained.
"""

import json
from pathlib import Path
from typing import Any

from cai.core.errors import UserError
from cai.models.slim.quantised import BY_LIBRARY, check_quantising

SLIM = "slim.json"


def write_note(folder: Path, note: dict[str, Any]) -> None:
    """note: `how` (the settings), `of` (digest of the model it was made of), `ranks` (layer -> rank), counts of linear
    layers that were changed and that were left, of their weights and of those that are 0 now, and `reloaded`: by how
    much what was saved differs from what was in memory, in nats."""
    (folder / SLIM).write_text(json.dumps(note, indent=1, sort_keys=True))


def note_of(folder: Path) -> dict[str, Any] | None:
    """What was done to the model in this folder; None where nothing was. Raises UserError for a note that is none."""
    file = folder / SLIM
    if not file.is_file():
        return None
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(note["how"]["how"], str) or not isinstance(note["ranks"], dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError("this is not what was written of a slimmed model", str(file), "make it again") from None
    return note


def ranks_to_load(folder: Path, device: str, causal: bool) -> dict[str, int]:
    """layer -> rank, of those that are two thin matrices in this folder; none in any other model.

    Raises UserError for a slimmed model that cannot be read here, or not as what it is wanted as.
    """
    note = note_of(folder)
    if note is None:
        return {}
    if note["how"]["how"] in BY_LIBRARY:
        check_quantising(note["how"]["how"], device, str(folder))
    if note["ranks"] and not causal:
        remedy = "put a head for rewards on the model that it was made of"
        raise UserError("this model is factorised: it is a language model and no reward model", str(folder), remedy)
    return {str(name): int(rank) for name, rank in note["ranks"].items()}
