"""`template:` in the sections that name a model: which chat template renders its conversations."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cai.config.tree import show
from cai.config.validation import Fault


def _template(given: Any) -> Any:
    """A name, a file or arguments, as far as it can be checked without the model."""
    remedy = "write plain, the name of one that the model brings, a .jinja file, or {enable_thinking: false}"
    if given is None or (isinstance(given, str) and given.strip()):
        return given
    if not isinstance(given, dict) or not given:
        raise Fault(f"a chat template is named, or told its arguments; this is {show(given)}", remedy)
    for name, each in given.items():
        if not name.isidentifier() or isinstance(each, dict | list):
            raise Fault(f"a chat template cannot be told {name}: {show(each)}", "give names with plain values", name)
    return given


# Which chat template a model's conversations are rendered by; null: its own. One of
#     plain              "### Human:" and "### Assistant:", for base models that have none (GPT-2, Pythia)
#     a name             of one of several that the model brings
#     a .jinja file      of your own
#     arguments          {enable_thinking: false}: what the model's own template is told
# No part of a key by itself: it is part of the model's identity (`find` in cai/models/loading.py), a file by its
# contents.
ChatTemplate = Annotated[Any, BeforeValidator(_template), Field(exclude=True)]
