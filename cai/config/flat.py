"""An arm's settings as dotted keys, as `--set` takes them, and in what two arms differ."""

from collections.abc import Iterator, Mapping
from typing import Any


def flat(arm: Any) -> dict[str, Any]:
    """An arm's settings by dotted key, those that no stage's key holds (`rl.method`) included."""

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if hasattr(type(value), "model_fields"):
            parts = {name: getattr(value, name) for name in type(value).model_fields}
        elif isinstance(value, dict) and any(hasattr(type(part), "model_fields") for part in value.values()):
            parts = value
        elif isinstance(value, tuple) and any(hasattr(type(part), "model_fields") for part in value):
            parts = {str(place): part for place, part in enumerate(value)}  # `judge.panel.judges.0`
        else:
            yield path, value
            return
        for name, part in parts.items():
            yield from walk(part, f"{path}.{name}".lstrip("."))

    return dict(walk(arm, ""))


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys of two flat settings that differ; a section that one does without stands for all the other has in it."""
    both = dict.fromkeys([*one, *other])

    def within(key: str) -> bool:
        parts = key.split(".")
        return any(".".join(parts[:depth]) in both for depth in range(1, len(parts)))

    alike = {key for key in one.keys() & other.keys() if one[key] == other[key]}  # null is not the same as nothing
    return [key for key in both if key not in alike and not within(key)]


def part_of(settings: Mapping[str, Any], key: str) -> str:
    """How flat settings that do not have a key are shown at it."""
    return "{…}" if any(each.startswith(f"{key}.") for each in settings) else "–"
