"""Fuzzed: what people write by hand. YAML, `--set`, constitutions, templates."""

import json
import re
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (pip install -e '.[dev]')")

from hypothesis import strategies as st
from strategies import ODD, as_json, kept_or_refused, letters, mutated, mutated_bytes, nested, run, texts

from cai.config.load import read_sweep
from cai.config.tree import load_tree
from cai.constitution.parse import FIELDS, escape, parse, read_constitution
from cai.core.records import Message
from cai.core.templates import load_template

ROOT = Path(__file__).parents[2]
FOLDER = Path(tempfile.mkdtemp(prefix="cai-fuzz-"))
BOTH = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])
SHIPPED = [(ROOT / "experiments" / name).read_text() for name in ("smoke.yaml", "quickstart.yaml")]
KEYS = [
    "constitution",
    "data",
    "source",
    "labels",
    "arms",
    "seeds",
    "rl",
    "method",
    "judge",
    "name",
    "sweep",
    "<<",
    "a",
    "b",
]


def file_of(raw: str | bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))
    return path


# YAML -----------------------------------------------------------------------------------------------------------------


@st.composite
def experiments(draw: st.DrawFn) -> str | bytes:
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return mutated(draw, draw(st.sampled_from(SHIPPED)))
    if kind == 1:
        return mutated_bytes(draw, draw(st.sampled_from(SHIPPED)).encode())
    if kind == 2:
        return draw(texts)
    own = draw(nested(st.one_of(st.sampled_from(KEYS), texts)))
    base = {"constitution": "constitutions/short.txt", "data": {"source": "rated-answers"}}
    return as_json({**base, **own} if isinstance(own, dict) and kind == 3 else own)


def an_experiment(raw: str | bytes) -> None:
    path = file_of(raw, "mine.yaml")
    for experiment in kept_or_refused(lambda: read_sweep(path), str(path)) or ():
        assert experiment.arms and experiment.text == path.read_text()
        json.dumps(experiment.model_dump(mode="json"))


@BOTH
def test_an_experiment_is_read_or_refused(many: bool) -> None:
    run(an_experiment, experiments(), "yaml", many)


printable = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=20)
plain = nested(
    printable,
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), printable),
)


@st.composite
def overrides(draw: st.DrawFn) -> tuple[str, Any]:
    """(an override, the value that it must give; `...` where it is any text)."""
    key = ".".join(draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)))
    if draw(st.booleans()):
        value = draw(plain)
        return f"{key}={json.dumps(value)}", value
    return draw(st.sampled_from([f"{key}={draw(texts)}", draw(texts)])), ...


def an_override(given: tuple[str, Any]) -> None:
    text, value = given
    path = file_of("constitution: a\ndata: {source: b}\n", "base.yaml")
    tree = load_tree(path, [text])
    key = tuple(text.partition("=")[0].strip().split("."))
    if value is not ... and not tree.faults:
        assert tree.get(key) == value
    kept_or_refused(lambda: read_sweep(path, [text]))


@BOTH
def test_what_is_set_is_what_was_written_or_is_refused(many: bool) -> None:
    run(an_override, overrides(), "set", many)


# Constitutions --------------------------------------------------------------------------------------------------------

words = st.lists(st.text("abcdefgxyz", min_size=1, max_size=8), min_size=1, max_size=6).map(" ".join)
prose = st.one_of(words, letters, st.sampled_from([one for one in ODD if len(one) < 400]))


@st.composite
def constitutions(draw: st.DrawFn) -> str | bytes:
    kind = draw(st.integers(0, 3))
    shipped = st.sampled_from(sorted((ROOT / "constitutions").glob("*.txt"))).map(lambda path: path.read_text())
    if kind == 0:
        return mutated(draw, draw(shipped))
    if kind == 1:
        return mutated_bytes(draw, draw(shipped).encode())
    if kind == 2:
        return "\n".join(draw(st.lists(prose, max_size=8)))
    line = st.tuples(st.sampled_from([f"{name}: " for name in FIELDS] + ["## ", "- ", "# ", "", "  "]), prose).map(
        "".join
    )
    return "\n".join(draw(st.lists(line, max_size=10)))


def a_constitution(raw: str | bytes) -> None:
    path = file_of(raw, "mine.txt")
    known = kept_or_refused(lambda: read_constitution(path), str(path))
    if known is None:
        return
    assert known.principles and all(principle.name for principle in known.principles)
    # Nothing that was written is lost: each word stands in some field.
    said = " ".join([known.title, known.notes, *(str(value) for p in known.principles for value in astuple(p))]).split()
    left = {word for line in known.text.split("\n") if not re.match(r"\s*(Weight|Priority)\s?:", line)
            for word in re.findall(r"[^\W\d_]{3,}", line)}  # fmt: skip
    names = {word for name in FIELDS for word in name.split()}
    kept = set(re.findall(r"[^\W\d_]{3,}", " ".join(said)))
    assert left - names <= kept, left - names - kept


@BOTH
def test_no_word_of_a_constitution_is_lost(many: bool) -> None:
    run(a_constitution, constitutions(), "constitution", many)


@st.composite
def principles(draw: st.DrawFn) -> list[dict[str, str]]:
    names = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    text = st.tuples(words, st.sampled_from(["", " Prefer: so", " Weight : 3", " Critique\\: x", " # y"])).map("".join)
    return [{"name": name, "Critique": draw(text), "Revise": draw(text), "Prefer": draw(text)} for name in names]


def principles_as_written(rows: list[dict[str, str]]) -> None:
    text = "# T\n\n" + "\n\n".join(
        "\n".join([f"## {row['name']}", *(f"{name}: {escape(row[name])}" for name in ("Critique", "Revise", "Prefer"))])
        for row in rows
    )
    read = parse(text, Path("mine.txt")).principles
    assert [(p.name, p.critique, p.revise, p.prefer) for p in read] == [tuple(row.values()) for row in rows]


@BOTH
def test_a_constitution_comes_back_as_it_was_written(many: bool) -> None:
    run(principles_as_written, principles(), "principles", many)


# Templates ------------------------------------------------------------------------------------------------------------

JINJA = (
    "{{ a }}", "{{ b }}", "{{ a|transcript }}", "{% for x in a %}{{ x }}{% endfor %}", "{% if b %}x{% endif %}",
    "{{ 9**9**9 }}", "{{ 'x' * 10**10 }}", "{{ a.__class__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% include 'x' %}", "{{ " + "(" * 300 + "1" + ")" * 300 + " }}", "{{ " + "9" * 5000 + " }}", "{{ 1/0 }}",
    "{{ [1]*10**9 }}", "{% set a = b %}", "{{ cycler.__init__.__globals__ }}", "{{ range(10**9)|list }}",
    "{{ a|nofilter }}", "{% raw %}{{ x }}{% endraw %}",
)  # fmt: skip


@st.composite
def templates(draw: st.DrawFn) -> tuple[str, str]:
    """(a template, a text to put into it)."""
    if draw(st.booleans()):
        shipped = draw(st.sampled_from(sorted((ROOT / "prompts").glob("*.jinja")))).read_text()
        return mutated(draw, shipped), draw(texts)
    head = st.sampled_from(["## system", "## user", "## assistant", "## messages", "## nobody", "", "##user"])
    line = st.one_of(head, st.sampled_from(JINJA), texts)
    return "\n".join(draw(st.lists(line, max_size=8))), draw(texts)


def a_template(given: tuple[str, str]) -> None:
    source, text = given
    path = file_of(source, "mine.jinja")
    template = kept_or_refused(lambda: load_template(path), str(path))
    if template is None:
        return
    chat = (Message("user", text),)
    known = dict.fromkeys(template.variables, text) | {"messages": chat}
    rendered = kept_or_refused(lambda: template.render(**known), str(path))
    for message in rendered or ():
        assert isinstance(message.content, str) and message.role in ("system", "user", "assistant")


@BOTH
def test_a_template_is_read_or_refused(many: bool) -> None:
    run(a_template, templates(), "template", many)


def a_value(text: str) -> None:
    path = file_of("## user\nSay: {{ a }}\n", "value.jinja")
    assert load_template(path).render(a=text) == (Message("user", f"Say: {text}".strip()),)


@BOTH
def test_what_is_put_into_a_template_is_text_and_nothing_else(many: bool) -> None:
    run(a_value, texts, "value", many)


def any_tree(value: Any) -> None:
    """What JSON can hold and print in ASCII comes back from a file as it is: YAML reads JSON."""
    path = file_of(json.dumps({"top": value}), "tree.yaml")
    tree = load_tree(path)
    assert tree.faults or tree.data == {"top": value}


@BOTH
def test_a_tree_comes_back_as_it_was_written(many: bool) -> None:
    run(any_tree, plain, "tree", many)
