"""A YAML file -> plain data that knows on which line each key stands; cai/config/validation.py turns it into models.

`load_tree` reads the file and the `key=value` of --set; `merge` lays one tree over another (an arm over its base), and
places follow the winning value.

Scalars follow the YAML 1.2 core schema, not PyYAML's 1.1: `1e-5` is a number, `yes`, `on` and dates are text. Types are
strict, as in JSON: "2" in quotes is no number. Keys are always text, so `1:` and `yes:` are the keys "1" and "yes".
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from cai.core.errors import DIGITS, UserError, input_bytes, suggest

Key = tuple[str | int, ...]
# What a file may hold: aliases unfold (`&a [*b, *b]`), and a few lines of them would fill the memory.
LARGEST_FILE, LETTERS, VALUES, DEPTH = 2_000_000, 4_000_000, 100_000, 60
LARGEST_WHOLE, DOUBLE = 2**1023, 250  # of whole numbers, as of all; it has more signs, written in any way
SWEEP = "sweep"  # a mapping with this key stands for several values in turn (cai/config/sweep.py)


@dataclass(frozen=True)
class Tree:
    """Plain data that knows where it came from.

    places: key path -> `file:line` or `--set key`. The path of `seeds: [0, 1]`'s last item is ("seeds", 1).
    faults: what was found while reading; `validate` reports it together with its own.
    """

    data: Any
    places: Mapping[Key, str]
    file: str
    faults: tuple[UserError, ...] = ()

    def get(self, path: Key) -> Any:
        """The value at a key path, None where there is none."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def where(self, path: Key = ()) -> str:
        """The place of a key path, or of the closest section around it."""
        return next((self.places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.places), self.file)

    def at(self, *path: str | int) -> "Tree":
        """The subtree at a key path; its own faults stay with the whole."""
        n = len(path)
        places = {key[n:]: place for key, place in self.places.items() if key[:n] == path}
        return Tree(self.get(path), {(): self.where(path), **places}, self.file)

    def without(self, *keys: str) -> "Tree":
        """The same mapping less some of its keys."""
        return replace(self, data={key: value for key, value in self.data.items() if key not in keys})


def load_tree(path: Path, overrides: Sequence[str] = ()) -> Tree:
    """Read a YAML file whose top level is a mapping. Raises UserError where the file cannot be read as YAML at all."""
    name = str(path)
    reader = _Reader(name)
    data = reader.read(_text(path))
    if not isinstance(data, dict):
        problem = "the file is empty" if data is None else f"the file must hold keys, not {show(data)}"
        raise UserError(problem, name, 'write lines of the form "key: value"')
    tree = Tree(data, reader.places, name, tuple(reader.faults))
    for override in overrides:
        tree = _set(tree, override)
    return tree


def merge(base: Tree, override: Tree) -> Tree:
    """Lay `override` over `base`: mappings merge, anything else is replaced. An empty override changes nothing."""
    if override.data is None:
        return base
    faults = base.faults + override.faults
    return Tree(_merged(base.data, override.data), {**base.places, **override.places}, base.file, faults)


def _merged(base: Any, override: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(override, dict)) or SWEEP in base or SWEEP in override:
        return override
    return base | {key: _merged(base.get(key), value) for key, value in override.items()}


def _set(tree: Tree, override: str) -> Tree:
    """Apply one `key.sub=value`. The value takes the place of what stood there, also where both are mappings."""
    name, equals, text = override.partition("=")
    path, where = tuple(name.strip().split(".")), f"--set {name.strip()}"
    reader = _Reader(where)
    try:
        if not equals or not all(path):
            raise UserError(f'"{override}" is not an override', where, "write it as key=value or section.key=value")
        for n in range(1, len(path)):
            if not isinstance(tree.get(path[:n]), dict | NoneType):
                around, shown = name_of(path[:n]), show(tree.get(path[:n]))
                raise UserError(f"{around} is {shown}: it has no keys", where, f"set all of it: --set {around}=...")
            if SWEEP in (tree.get(path[:n]) or ()):
                raise UserError(
                    f"{name_of(path[:n])} is swept as a whole", where, f"set all of it: --set {name_of(path[:n])}=..."
                )
        value = reader.read(text)
    except UserError as error:
        return replace(tree, faults=(*tree.faults, error))
    places = {path + key: where for key in reader.places}
    tree = replace(tree, data=_emptied(tree.data, path))
    for n in range(1, len(path) + 1):  # a section that the file has keeps its line in the file
        value = {path[-n]: value}
        if tree.get(path[:-n]) is None:
            places[path[:-n]] = where
    return merge(tree, Tree(value, places, where, tuple(reader.faults)))


def _emptied(data: Any, path: Sequence[str]) -> Any:
    """The mapping with nothing at the key path; the order of its keys stays."""
    key, *rest = path
    if not isinstance(data, dict) or key not in data:
        return data
    return data | {key: _emptied(data[key], rest) if rest else None}


# -- The file as plain data --------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        raw = input_bytes(path)
        if len(raw) > LARGEST_FILE:
            problem = f"{len(raw):,} bytes are no experiment: at most {LARGEST_FILE:,} are read"
            raise UserError(problem, str(path), "name the YAML file; data stand in files of their own")
        return raw.decode("utf-8")
    except FileNotFoundError:
        folder = path.parent
        if not folder.is_dir():
            raise UserError("no such file", str(path), f"the folder {folder} does not exist") from None
        files = sorted(file.name for file in folder.iterdir() if file.suffix in (".yaml", ".yml"))
        remedy = suggest(path.name, files) if files else f"there is no YAML file in {folder}"
        raise UserError("no such file", str(path), remedy) from None
    except IsADirectoryError:
        raise UserError("this is a folder", str(path), "name a YAML file in it") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError("not UTF-8 text", f"{path}:{line}", "save the file as UTF-8") from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UserError(f"cannot be read: {reason}", str(path), "check the path and its permissions") from None


class _Core(yaml.SafeLoader):
    """PyYAML's parser with the scalars of the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (the name that PyYAML looks up)


_TAG = "tag:yaml.org,2002:"
for _tag, _pattern in {
    "null": r"|~|null|Null|NULL",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}.items():
    _Core.add_implicit_resolver(_TAG + _tag, re.compile(rf"(?:{_pattern})\Z"), None)

_SCALARS = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    "float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    "str": str,
    "merge": str,
}

# What PyYAML says -> (what is wrong, what to do about it). The first that fits.
_SYNTAX = (
    (r"character '\\t'", "a tab stands where YAML wants spaces", "use spaces instead of tabs"),
    (r"character '(.)' that cannot start", 'a value cannot begin with "{}"', "put the value in quotes"),
    (r"scanning a quoted scalar", "a quote is opened here and not closed", "close the quote"),
    (r"parsing a flow .*but got '([{[])'", 'a "{}" stands inside a value without quotes, or behind no comma',
     "put the value in quotes (variables like ${NAME} are not filled in: use --set KEY=VALUE), or add the comma"),
    (r"parsing a flow .*?'([]}])'", 'a bracket is opened here and not closed with "{}"',
     "close it, or put a comma between its items"),
    (r"mapping values are not allowed", 'a second ": " in one line, or a line indented too far',
     "put the text in quotes, or mend the indentation"),
    (r"sequence entries are not allowed", 'a "- item" stands where none can', "begin the list on a line of its own"),
    (r"could not find expected ':'", "this line is neither a key nor part of a value",
     'write "key: value", with a space after the colon'),
    (r"expected <block end>", "this line does not line up with the ones before it",
     "indent the keys of a section alike, and check quotes and brackets above"),
    (r"undefined alias '?([^']*)", 'no anchor "&{}" is defined above', 'put a text that begins with "*" in quotes'),
    (r"but found another document", 'a second document begins here ("---")', "keep one document in a file"),
    (r"unknown escape character", 'an unknown "\\" escape in double quotes', "use single quotes around backslashes"),
)  # fmt: skip


def _syntax_error(error: yaml.MarkedYAMLError) -> tuple[str, int, str]:
    """(problem, line, remedy) in plain words."""
    message = f"{error.context or ''}: {error.problem or ''}"
    inside = "but got '{'" in message or "but got '['" in message  # then what was opened before is not at fault
    opened = ("quoted scalar" in message or "flow" in message or "simple key" in message) and not inside
    opened = opened or error.problem_mark is None
    mark = (error.context_mark if opened else None) or error.problem_mark
    line = mark.line + 1 if mark else 1
    for pattern, problem, remedy in _SYNTAX:
        if match := re.search(pattern, message, re.DOTALL):
            return problem.format(*match.groups()), line, remedy
    return f"not valid YAML: {error.problem}", line, "mend this line or the one above"


class _Reader:
    """One YAML text -> plain data, with the places and faults found on the way. source: a file, or `--set key`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[Key, str] = {}
        self.faults: list[UserError] = []
        self.open: list[yaml.Node] = []  # around the present one: an alias to one of these would never end
        self.values, self.letters = 0, 0  # so far, with what aliases stand for

    def read(self, text: str) -> Any:
        try:
            node = _Core(text).get_single_node()
            return None if node is None else self.value(node, (), node.start_mark.line)
        except yaml.MarkedYAMLError as error:
            problem, line, remedy = _syntax_error(error)
            raise UserError(problem, self.place(line - 1), remedy) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position)
            problem = f"a character that YAML does not allow: {chr(int(error.character))!a}"
            raise UserError(problem, self.place(line), "remove it") from None
        except RecursionError:
            raise UserError("nested too deeply", self.source, "flatten it") from None

    def place(self, line: int) -> str:
        return self.source if self.source.startswith("--set") else f"{self.source}:{line + 1}"

    def fault(self, problem: str, line: int, remedy: str) -> None:
        self.faults.append(UserError(problem, self.place(line), remedy))

    def value(self, node: yaml.Node, path: Key, line: int) -> Any:
        self.places[path] = self.place(line)
        self.count(node, line)
        tag = node.tag.removeprefix(_TAG)
        if node in self.open:
            self.fault("this alias contains itself", line, "write the value out")
        elif isinstance(node, yaml.ScalarNode) and tag in _SCALARS:
            return self.scalar(node, tag, line)
        elif tag not in ("map", "seq"):
            self.fault(f'unknown tag "{node.tag}"', line, 'drop the tag, or put a text that begins with "!" in quotes')
        else:
            self.open.append(node)
            items = self.mapping(node, path) if isinstance(node, yaml.MappingNode) else self.sequence(node, path)
            self.open.pop()
            self.places[path] = self.place(line)  # again: a merge key read another mapping at this path
            return items
        return None

    def count(self, node: yaml.Node, line: int) -> None:
        """Raises UserError for a text that unfolds into more than an experiment can hold."""
        self.values += 1
        self.letters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if len(self.open) > DEPTH:
            raise UserError("nested too deeply", self.place(line), "flatten it")
        if self.values > VALUES or self.letters > LETTERS:
            problem = f"more than {VALUES:,} values, or {LETTERS:,} letters, with what its aliases stand for"
            raise UserError(problem, self.place(line), "write fewer aliases (*name)")

    def scalar(self, node: yaml.ScalarNode, tag: str, line: int) -> Any:
        try:
            value = _SCALARS[tag](node.value)
        except (ValueError, KeyError):
            value = None
        whole = value if isinstance(value, int) else 0
        if tag == "int" and (value is None or abs(whole) > LARGEST_WHOLE) and len(node.value) > DOUBLE:
            self.fault(DIGITS[0], line, DIGITS[1])
            return None
        if value is None and tag != "null":
            self.fault(f"{show(node.value)} is not of the type !!{tag}", line, "drop the tag")
        return self.whole(value, line) if isinstance(value, str) else value

    def whole(self, text: str, line: int) -> str:
        """The text itself. A fault where it holds what no file and no name of one can hold."""
        if "\0" in text:
            self.fault("a NUL character stands in this text", line, "remove it")
        elif any("\ud800" <= letter <= "\udfff" for letter in text):
            self.fault("a \\u escape that is half of a character", line, "write the character itself")
            return ""
        return text

    def sequence(self, node: yaml.Node, path: Key) -> list[Any]:
        return [self.value(item, (*path, i), item.start_mark.line) for i, item in enumerate(node.value)]

    def mapping(self, node: yaml.Node, path: Key) -> dict[str, Any]:
        """Keys as text; merge keys (`<<: *base`) fill in what the mapping does not say itself."""
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in sorted(node.value, key=lambda pair: pair[0].tag != _TAG + "merge"):
            line = key.start_mark.line
            if key.tag == _TAG + "merge":
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):  # the first named wins
                    merged = self.value(source, path, line)
                    if isinstance(merged, dict):
                        data.update(merged)
                    else:
                        self.fault('"<<" takes a section of keys', line, "name an anchor: <<: *name")
            elif not isinstance(key, yaml.ScalarNode):
                self.fault("a key must be plain text", line, 'put a text that begins with "[" or "{" in quotes')
            elif key.value in lines:
                first = lines[key.value] + 1
                problem = f'the key "{key.value}" is given twice, on lines {first} and {line + 1}'
                self.fault(problem, line, "remove one of them")
            else:
                lines[key.value] = line
                name = self.whole(key.value, line)
                data[name] = self.value(value, (*path, name), line)
        return data


# -- Words about keys and values ---------------------------------------------------------------------------------------


def name_of(path: Key) -> str:
    """sft.epochs, seeds[1]"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "the file"


def show(value: Any) -> str:
    """A value as a message names it."""
    match value:
        case None:
            return "empty"
        case dict():
            return "a section of keys"
        case list():
            return f"a list of {len(value)} item{'s' * (len(value) != 1)}" if value else "an empty list"
        case str():
            return json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=False)
    return json.dumps(value)
