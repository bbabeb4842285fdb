"""Thirteen rooms in one order: imports point up the list, none goes round in a room, and nothing heavy is imported
early."""

import ast
import re
import runpy
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cai"
# A room imports from itself and from the rooms before it.
ROOMS = (
    "core", "config", "constitution", "models", "data", "stats", "judge", "train", "compare", "experiment", "annotate",
    "bench", "chat",
)  # fmt: skip
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}
NAMED = ("id", "arg", "attr", "name")  # fields of a tree's nodes that are names
# `python -m cai.ROOM`: nothing imports a program, so it may ask every room.
PROGRAMS = sorted(name for name in FILES if name.endswith("__main__"))


@dataclass(frozen=True)
class ModuleFacts:
    """What the tests of the house ask of a module; its tree is let go of."""

    imports: frozenset[str]  # modules of `cai`, anywhere in it, also inside functions
    functions: tuple[tuple[str, int], ...]  # and the parameters that a caller may give, what collects the rest aside
    classes: tuple[str, ...]
    names: Counter[str]  # of variables, parameters, attributes, functions and classes


@cache
def facts(name: str) -> ModuleFacts:
    found, functions, classes, names = set(), [], [], Counter()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        names.update(word for field in NAMED if isinstance(word := getattr(node, field, None), str))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by dots"
            found |= {one if one.removeprefix("cai.") in FILES else node.module or ""
                      for one in (f"{node.module}.{alias.name}" for alias in node.names)}  # fmt: skip
        elif isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            functions.append((node.name, len([arg for arg in given if arg.arg not in ("self", "cls")])))
        elif isinstance(node, ast.ClassDef):
            classes.append(node.name)
    imports = {one.removeprefix("cai.") for one in found if one.split(".")[0] == "cai"} - {name}
    return ModuleFacts(frozenset(imports), tuple(functions), tuple(classes), names)


@cache
def graph() -> dict[str, frozenset[str]]:
    """Module -> those of `cai` that it imports. It takes a second, which no collection of tests needs."""
    return {name: facts(name).imports for name in FILES}


def room(name: str) -> str:
    return name.split(".")[0]


def test_thirteen_rooms_and_no_loose_module():
    places = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")} - {"__init__.py", "__main__.py"}
    assert places == set(ROOMS)
    assert [name for name in ROOMS if not (PACKAGE / name / "__init__.py").is_file()] == []


def test_what_is_imported_is_there():
    assert sorted(one for names in graph().values() for one in names if one not in FILES) == []


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_rooms_above(name):
    above = ROOMS[: ROOMS.index(name) + 1]
    modules = [one for one in FILES if room(one) == name and one not in PROGRAMS]
    assert {one: up for one in modules if (up := [o for o in graph()[one] if room(o) not in above])} == {}


def test_every_program_is_named_by_the_package_itself(capsys):
    runpy.run_module("cai", run_name="__main__")
    named = re.findall(r"^  python -m cai\.(\w+)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(named) == [room(name) for name in PROGRAMS if name != "__main__"]


def test_nothing_imports_a_program():
    assert {name: hit for name, names in graph().items() if (hit := names & set(PROGRAMS))} == {}


@pytest.mark.parametrize("name", ROOMS)
def test_no_import_goes_round_in_a_room(name):
    left = {one: {o for o in graph()[one] if room(o) == name} for one in FILES if room(one) == name}
    while free := [one for one, names in left.items() if not names & left.keys()]:
        for one in free:
            del left[one]
    assert left == {}


def test_stages_never_import_one_another():
    """A stage is a function marked with its version; what two of them share stands in a third file."""
    stages = {name for name, path in FILES.items() if "\n@version(" in path.read_text()}
    assert len(stages) > 10
    assert {name: hit for name in stages if (hit := graph()[name] & stages)} == {}


EARLY = [*PROGRAMS, "experiment.plan", "data.label_log"]


def test_nothing_heavy_is_imported_early():
    """One after another in a process: of each, what was not there before it."""
    heavy = ("torch", "transformers", "trl", "peft", "datasets", "numpy", "sklearn")
    code = f"""
import importlib, sys
there = set()
for module in {EARLY!r}:
    importlib.import_module(f"cai.{{module}}")
    print(module, sorted({{name for name in {heavy!r} if name in sys.modules}} - there))
    there |= sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{module} []" for module in EARLY]


def test_what_scores_names_transformers_in_its_types_alone():
    """It would speak when it is imported: of libraries beside it that it cannot load. Loading a model silences it."""
    code = "import sys, cai.models.score; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
