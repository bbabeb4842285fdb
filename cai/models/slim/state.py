"""Whether a model that is named is a slimmed one, and what may then be done with it."""

from pathlib import Path
from typing import Any

from cai.config.slim import Slim
from cai.core.errors import UserError
from cai.models.adapters import is_adapter
from cai.models.references import ModelRef, base_of, local
from cai.models.slim.folder import note_of
from cai.models.slim.quantised import BY_LIBRARY, check_quantising

READ_ONLY = (*BY_LIBRARY, "low-rank")


def slimmed(model: ModelRef) -> dict[str, Any] | None:
    """What was done to a model that is here, or to the base of an adapter; None where nothing was."""
    if not model.place or model.hosted:  # the embedded ones are as they come
        return None
    place = Path(local(model))
    return slimmed(base_of(place)) if is_adapter(place) else note_of(place)


def check_trainable(model: ModelRef) -> None:
    """Raises UserError for a model that can only be read."""
    note = slimmed(model)
    if note and note["how"]["how"] in READ_ONLY:
        raise UserError(
            f'"{model.name}" is slimmed ({note["how"]["how"]}): it can be asked, and not trained',
            "policy.model",
            "train the model that it was made of, and slim what comes out",
        )


def check_distilling(student: ModelRef) -> None:
    """Raises UserError for a model whose weights are of a kind that cannot learn."""
    note = slimmed(student)
    if note and note["how"]["how"] in BY_LIBRARY:
        problem = f'"{student.name}" is quantised ({note["how"]["how"]}): its weights cannot learn'
        raise UserError(problem, "slim.distil", "distil a model that was pruned or factorised")


def check_slimming(model: ModelRef, how: Slim, device: str) -> None:
    """Can this model be made smaller in this way, here? Raises UserError."""
    if model.server is not None:
        what = "is behind a chat API" if model.hosted else "is answered for by a server"
        remedy = "remove server: (slim: works on the weights here), or serve a quantised model under its own name"
        raise UserError(f'"{model.name}" {what}: its weights cannot be changed from here', "slim", remedy)
    if note := slimmed(model):
        problem = f'"{model.name}" is slimmed already ({note["how"]["how"]})'
        raise UserError(problem, "slim", "name the model that it was made of")
    if how.how in BY_LIBRARY:
        check_quantising(how.how, device)
