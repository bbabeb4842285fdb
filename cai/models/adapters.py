"""The folder of a LoRA adapter: its settings, its contents, and the base model that it was trained on.

PEFT writes down the base's name alone, and another model may later have that name. So `save` (cai/models/loading.py)
also writes the digest of a base that is a folder, into BASE.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from cai.core.errors import UserError, input_text
from cai.core.store import digest_file, digest_of

SETTINGS = "adapter_config.json"
BASE = "base.json"
NAME = "base_model_name_or_path"
WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"


def settings_in(file: Path) -> dict[str, Any]:
    """What a JSON file in a model's folder says. Raises UserError where it is cut off, or no object."""
    try:
        settings = json.loads(input_text(file))
    except (OSError, ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise UserError("this file of a model is cut off, or is no JSON object", str(file), "get the model again")
    return settings


def check_settings(place: Path) -> None:
    """Raises UserError for the first JSON file in a model's folder that is none: libraries trust that it is one."""
    for file in sorted(place.glob("*.json")):
        settings_in(file)


def is_adapter(folder: Path) -> bool:
    return (folder / SETTINGS).is_file()


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What PEFT wrote of an adapter. Raises UserError where it is no such thing, or names no base."""
    file, remedy = folder / SETTINGS, "get the adapter again"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problem = f"not the settings of an adapter: {(str(error) or type(error).__name__).splitlines()[0]}"
        raise UserError(problem, str(file), remedy) from None
    if not isinstance(settings, dict) or not isinstance(settings.get("peft_type"), str):
        raise UserError("not the settings of an adapter: it has no peft_type", str(file), remedy)
    if (folder / PICKLED).is_file() and not (folder / WEIGHTS).is_file():
        remedy = "get it as safetensors; who trusts it may convert it (peft: save_pretrained)"
        raise UserError(
            "the weights of this adapter are a pickle, which may run anything", str(folder / PICKLED), remedy
        )
    if not isinstance(settings.get(NAME), str) or not settings[NAME]:
        raise UserError("this adapter names no base", str(file), f"write the name of its base there, as {NAME}")
    return settings


def adapter_digest(folder: Path) -> str:
    """Digest of an adapter's contents without its base's name, which is a place: the base has a digest of its own."""
    settings = adapter_settings(folder) | {NAME: None, "revision": None}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (SETTINGS, BASE))
    return digest_of([settings, [[path.relative_to(folder).as_posix(), digest_file(path)] for path in files]])


def note_base(folder: Path, digest: str) -> None:
    (folder / BASE).write_text(json.dumps({"digest": digest}))


def noted_base(folder: Path) -> str:
    """The digest of the base that an adapter was trained on; "" where nobody wrote it down."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return str(json.loads((folder / BASE).read_text(encoding="utf-8"))["digest"])
    return ""
