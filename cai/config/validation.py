"""A `Tree` (cai/config/tree.py) -> one frozen pydantic model; every fault at once, with its place and a remedy.

Pydantic finds what is wrong; here its errors become plain words at the line of the key. Types are strict, as in JSON:
"2" in quotes is no number.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from cai.config.renamed import RENAMED
from cai.config.tree import Key, Tree, load_tree, name_of, show
from cai.core.errors import UserError, UserErrors, suggest

Model = TypeVar("Model", bound=BaseModel)


class Fault(ValueError):
    """For a model's own validators: a ValueError with a remedy and the key at fault, dotted from its section."""

    def __init__(self, problem: str, remedy: str = "", key: str = "") -> None:
        super().__init__(problem)
        self.remedy, self.key = remedy, tuple(key.split(".")) if key else ()


def load(path: Path, kind: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file as a `kind`. overrides: what --set gave. Raises UserError, or UserErrors for several faults."""
    return validate(load_tree(path, overrides), kind)


def validate(tree: Tree, kind: type[Model]) -> Model:
    """The tree as a `kind`. Raises UserError, or UserErrors for several faults."""
    try:
        model = _check(kind, tree.data)
    except ValidationError as error:
        raise_all([*tree.faults, *_explain(tree, kind, (), error)])
        raise AssertionError("a ValidationError without a fault") from error
    raise_all(tree.faults)
    return model


def raise_all(errors: Iterable[UserError]) -> None:
    """Raise the distinct faults sorted by place: one as it is, several as UserErrors, none not at all."""
    flat = [error for given in errors for error in (given.errors if isinstance(given, UserErrors) else (given,))]
    distinct = sorted({str(error): error for error in flat}.values(), key=_order)
    if distinct:
        raise distinct[0] if len(distinct) == 1 else UserErrors(distinct)


def _order(error: UserError) -> tuple[str, int]:
    source, _, line = error.where.rpartition(":")
    return (source, int(line)) if line.isdecimal() else (error.where, 0)


def _check(kind: Any, data: Any) -> Any:
    # Through JSON, because strict JSON mode is what YAML's types mean: "2" is no number, a list may fill a tuple.
    return TypeAdapter(kind).validate_json(json.dumps(data), strict=True)


@dataclass(frozen=True)
class _Spec:
    """A type taken apart. members: its union members less None; limits: ge, min_length, discriminator, ..."""

    members: tuple[Any, ...]
    limits: Mapping[str, Any]
    nullable: bool = False


def _spec(kind: Any) -> _Spec:
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        notes += [note for wrapped in notes for note in getattr(wrapped, "metadata", ())]
        given = {name: getattr(note, name, None) for note in notes for name in _LIMITS if hasattr(note, name)}
        inner = _spec(kind)
        limits = {name: limit for name, limit in given.items() if limit is not None}
        return replace(inner, limits={**inner.limits, **limits})
    if get_origin(kind) in (Union, UnionType):
        members = tuple(member for member in get_args(kind) if member is not NoneType)
        inner = _spec(members[0]) if len(members) == 1 else _Spec(members, {})
        return replace(inner, nullable=len(members) < len(get_args(kind)))
    return _Spec((kind,), {})


_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "discriminator")


def _fields(kind: Any) -> dict[str, Any]:
    """The keys of a section, as the file spells them, and their types."""
    fields = getattr(_spec(kind).members[0], "model_fields", {})
    return {field.alias or name: Annotated[field.annotation, field] for name, field in fields.items()}


def _child(kind: Any, part: str | int) -> Any:
    """The type of one key or item of a container type."""
    inner = [member for member in get_args(kind) if member is not Ellipsis]
    if not inner:
        return _fields(kind).get(str(part), Any)
    return inner[part] if isinstance(part, int) and part < len(inner) and get_origin(kind) is tuple else inner[-1]


def _follow(kind: Any, loc: Key) -> tuple[Key, _Spec, bool]:
    """Walk a type along pydantic's loc: (key path, the type there, whether a union stopped the walk).

    Within a union the loc goes on with pydantic's name of a member, which is no key of the file.
    """
    spec = _spec(kind)
    for n, part in enumerate(loc):
        if len(spec.members) > 1:
            return loc[:n], spec, True
        spec = _spec(_child(spec.members[0], part))
    return loc, spec, False


def _explain(tree: Tree, kind: Any, start: Key, error: ValidationError) -> Iterator[UserError]:
    """One UserError for each fault. kind: the type that the value at `start` should have."""
    faults = error.errors(include_url=False)
    misspelt = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
    for fault in faults:
        loc, about = fault["loc"], fault["type"]
        path, spec, stopped = _follow(kind, loc[: loc.index("[key]")] if "[key]" in loc else loc)
        path = start + path
        if "[key]" in loc and not stopped:
            message = fault.get("ctx", {}).get("error") or fault["msg"].replace("String should", "it should")
            yield UserError(f'"{path[-1]}" cannot be a key of {name_of(path[:-1])}: {message}', tree.where(path))
        elif about.startswith("union_tag"):
            tag = str(spec.limits.get("discriminator"))
            choices = _Spec(tuple(_fields(member).get(tag, Any) for member in spec.members), {})
            wrong = _missing_key if about == "union_tag_not_found" else _wrong_value
            yield wrong(tree, (*path, tag), choices)
        elif stopped:  # pydantic tells the faults of every member: `raise_all` drops the repeats
            yield from _explain_union(tree, path, spec)
        elif about == "extra_forbidden":
            yield _unknown_key(tree, path, known=list(_fields(_follow(kind, loc[:-1])[1].members[0])))
        elif about == "missing":
            known, near = list(_fields(_follow(kind, loc[:-1])[1].members[0])), f'did you mean "{loc[-1]}"?'
            if all(other[:-1] != loc[:-1] or suggest(str(other[-1]), known) != near for other in misspelt):
                yield _missing_key(tree, path, spec)  # else that fault says it all
        elif about == "too_short" and len(tree.get(path)) >= fault["ctx"]["min_length"]:
            continue  # pydantic does not count the items at fault
        elif about in ("value_error", "assertion_error"):
            message = fault["ctx"]["error"]
            remedy, key = (message.remedy, message.key) if isinstance(message, Fault) else ("", ())
            yield UserError(str(message), tree.where(path + key), remedy)
        elif about.startswith(("path_not", "path_exists", "finite")) or not _expected(spec):
            problem = f"{name_of(path)}: {fault['msg']}: {show(tree.get(path))}"
            yield UserError(problem.replace(": Input should be", " must be"), tree.where(path))
        else:
            yield _wrong_value(tree, path, spec)


def _explain_union(tree: Tree, path: Key, spec: _Spec) -> Iterator[UserError]:
    """The faults of the one member that the value was meant for; without one, a single fault that names them all."""
    value, members = tree.get(path), spec.members
    tries: list[list[UserError]] = []
    if isinstance(value, dict) and "discriminator" in spec.limits:
        tag = spec.limits["discriminator"]
        members = [member for member in members if value.get(tag) in _choices(_spec(_fields(member).get(tag)))]
    for member in members:
        try:
            _check(member, value)
        except ValidationError as error:
            of_its_own = any(fault["type"] == "value_error" for fault in error.errors())
            if of_its_own or _shape(_spec(member).members[0]) is type(value):
                tries.append(list(_explain(tree, member, path, error)))
    yield from min(tries, key=len, default=[_wrong_value(tree, path, spec)])


def _unknown_key(tree: Tree, path: Key, known: list[str]) -> UserError:
    now, more = RENAMED.get(name_of(path), ("", ""))
    if now in known:
        remedy = f"write {now}: ..." + (f" ({more})" if more else "")
        return UserError(f"{name_of(path)} is now {name_of((*path[:-1], now))}", tree.where(path), remedy)
    return UserError(f'unknown key "{path[-1]}"{_inside(path)}', tree.where(path), suggest(str(path[-1]), known))


def _missing_key(tree: Tree, path: Key, spec: _Spec) -> UserError:
    remedy = f'add "{path[-1]}: ..."' + (f" ({_expected(spec)})" if _expected(spec) else "")
    return UserError(f'missing key "{path[-1]}"{_inside(path)}', tree.where(path[:-1]), remedy)


def _wrong_value(tree: Tree, path: Key, spec: _Spec) -> UserError:
    """`rounds must be a whole number of at least 1, not "two"`."""
    value, remedy = tree.get(path), ""
    inner = [_spec(member) for member in spec.members]
    kinds = [member.members[0] for member in inner]
    choices = [str(choice) for member in inner for choice in _choices(member)]
    near = suggest(value, choices) if isinstance(value, str) and choices else ""
    if near.startswith("did you mean"):
        remedy = near
    elif value is None:
        remedy = "leave the key out, or give it a value"
    elif str in kinds and isinstance(value, bool | int | float):
        remedy = f"put it in quotes: {json.dumps(show(value))}"
    elif bool in kinds and value in ("yes", "on", "no", "off"):
        remedy = f"write {show(value in ('yes', 'on'))}"
    elif int in kinds and isinstance(value, float) and value.is_integer():
        remedy = f"write {int(value)}"
    elif any(_shape(kind) is list for kind in kinds) and isinstance(value, str | int | float):
        remedy = f"write [{value}]"
    return UserError(f"{name_of(path)} must be {_expected(spec)}, not {show(value)}", tree.where(path), remedy)


def _shape(kind: Any) -> type | None:
    kind = get_origin(kind) or kind
    if not isinstance(kind, type) or issubclass(kind, str):
        return None
    if issubclass(kind, BaseModel | Mapping):
        return dict
    return list if issubclass(kind, Sequence | Set) else None


def _expected(spec: _Spec) -> str:
    """A type in plain words; empty for a type that there are none for."""
    inner = [_spec(member) for member in spec.members]
    words = [_words(member.members[0], {**spec.limits, **member.limits}) for member in inner if not _choices(member)]
    choices = [show(choice) for member in inner for choice in _choices(member)]
    if choices:
        words.append(choices[0] if len(choices) == 1 else "one of " + ", ".join(choices))
    return " or ".join([*dict.fromkeys(words), *["null"] * spec.nullable]) if all(words) else ""


def _choices(spec: _Spec) -> list[Any]:
    return [choice for kind in spec.members if get_origin(kind) is Literal for choice in get_args(kind)]


def _words(kind: Any, limits: Mapping[str, Any]) -> str:
    if _shape(kind):
        word, unit = ("a section of keys", "key") if _shape(kind) is dict else ("a list", "item")
        word = f"{short} or {word}" if (short := getattr(kind, "SHORT", "")) else word
        sides = (("least", limits.get("min_length")), ("most", limits.get("max_length")))
        bounds = [f"at {side} {n} {unit}{'s' * (n != 1)}" for side, n in sides if n]
        return f"{word} with {' and '.join(bounds)}" if bounds else word
    word = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}.get(kind, "")
    if limits.get("min_length") == 1:
        word += " that is not empty"
    if "ge" in limits and "le" in limits:
        return f"{word} from {limits['ge']} to {limits['le']}"
    bounds = [phrase.format(limits[name]) for name, phrase in _BOUNDS.items() if name in limits]
    return " ".join([word, " and ".join(bounds)][: 1 + bool(bounds)]) if word else ""


_BOUNDS = {
    "gt": "above {}",
    "ge": "of at least {}",
    "lt": "below {}",
    "le": "of at most {}",
    "multiple_of": "divisible by {}",
    "pattern": "that matches {}",
}


def _inside(path: Key) -> str:
    return f" in {name_of(path[:-1])}" if len(path) > 1 else ""
