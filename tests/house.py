"""How the house stands:   python tests/house.py

Lines and modules by room, files, functions and READMEs beyond their limits, upward imports and cycles, floors, class
names used twice, words of a dialect as names, and how many places an addition touches. Nothing of `cai` is imported.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from test_layers import FILES, PACKAGE, PROGRAMS, ROOMS, facts, graph, room

ROOT = PACKAGE.parent
FILE, PARAMETERS = 350, 7  # at most so many lines, and parameters
WORDS = {"README.md": 1000}  # of all others:
WORDS_OF_A_ROOM = 900
DIALECT = ("law", "told", "said", "found", "held", "ask", "one", "merit", "opinion")


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions() -> Iterator[tuple[str, int]]:
    """(module:function, parameters that a caller may give) of all; `self`, `cls` and what collects the rest aside."""
    for name in FILES:
        yield from ((f"{name}:{function}", count) for function, count in facts(name).functions)


def long_functions() -> dict[str, int]:
    return {name: count for name, count in functions() if count > PARAMETERS}


def long_files() -> dict[str, int]:
    return {name: count for name, path in FILES.items() if (count := lines(path)) > FILE}


def upward() -> list[str]:
    above = {name: ROOMS[: ROOMS.index(name) + 1] for name in ROOMS}
    pairs = [(name, other) for name in FILES if name not in PROGRAMS for other in graph()[name]]
    return [f"{name} -> {other}" for name, other in sorted(pairs) if room(other) not in above[room(name)]]


def floors() -> tuple[int, set[str]]:
    """(how many modules stand on one another at most, those whose imports go round)."""
    left, depth = {name: graph()[name] & FILES.keys() for name in FILES}, 0
    while free := [name for name, below in left.items() if not below & left.keys()]:
        depth += 1
        for name in free:
            del left[name]
    return depth, set(left)


def classes_twice() -> dict[str, int]:
    names = Counter(one for name in FILES for one in facts(name).classes)
    return {name: count for name, count in sorted(names.items()) if count > 1}


def dialect(*rooms: str) -> Counter:
    """How often each word is the name of a variable, parameter, attribute, function or class, in these rooms."""
    names: Counter = Counter()
    for name in FILES:
        if room(name) in (rooms or ROOMS):
            for word, count in facts(name).names.items():
                names.update({word.lower(): count} if word.lower() in DIALECT else {})
    return names


def readmes() -> dict[str, tuple[int, int]]:
    """README -> its words and its limit."""
    files = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("README.md"))]
    counts = {file: len((ROOT / file).read_text(encoding="utf-8").split()) for file in files if "/." not in f"/{file}"}
    return {file: (count, WORDS.get(file, WORDS_OF_A_ROOM)) for file, count in counts.items()}


def additions() -> dict[str, int]:
    """What to add -> how many places its row in cai/README.md names: files to open, and names to write it down in."""
    section = (PACKAGE / "README.md").read_text(encoding="utf-8").partition("## To add X")[2].partition("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| ")][1:]
    places = re.compile(r"[\w/]+\.(?:py|jinja|html\.jinja|toml|yaml)")
    return {row[0]: max(1, len({file for cell in row[1:] for file in places.findall(cell)})) for row in rows}


def main() -> None:
    for name in ROOMS:
        files = [path for module, path in FILES.items() if room(module) == name]
        print(f"{name:<14} {len(files):4} modules {sum(map(lines, files)):7,} lines")
    print(f"{'all':<14} {len(FILES):4} modules {sum(map(lines, FILES.values())):7,} lines\n")
    depth, round_about = floors()
    print(f"upward imports {len(upward())}; modules in a cycle {len(round_about)}; floors {depth}")
    print(f"files over {FILE} lines: {long_files() or 'none'}")
    many = long_functions()
    print(f"functions over {PARAMETERS} parameters: {len(many)}, at most {max(many.values(), default=PARAMETERS)}")
    print("".join(f"  {count:2} {name}\n" for name, count in sorted(many.items(), key=lambda item: -item[1])), end="")
    print(f"class names used twice: {classes_twice() or 'none'}")
    print(f"dialect: {sum(dialect().values())} names: {dict(dialect().most_common())}\n")
    for file, (count, limit) in readmes().items():
        print(f"{file:<28} {count:5} of {limit} words{'  OVER' * (count > limit)}")
    print("\n" + "\n".join(f"to add {what}: {count} files" for what, count in additions().items()))


if __name__ == "__main__":
    main()
