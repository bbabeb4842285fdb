"""Templates of our pages: what is put into them is text, and each is translated once in a process."""

import pytest
from jinja2 import Environment, UndefinedError

from cai.core.pages import page_templates


@pytest.fixture
def translated(monkeypatch):
    """The names of templates that were translated to Python, each time."""
    names: list[str] = []
    compile = Environment.compile

    def counted(self, source, name=None, *more, **others):
        names.append(name)
        return compile(self, source, name, *more, **others)

    monkeypatch.setattr(Environment, "compile", counted)
    return names


def test_a_template_is_translated_once_and_an_edited_one_anew(tmp_path, translated):
    (tmp_path / "a.jinja").write_text("{{ word }}!")

    def page():
        return page_templates(tmp_path).get_template("a.jinja").render(word="<b>")

    assert page() == page() == "&lt;b&gt;!" and translated == ["a.jinja"]
    (tmp_path / "a.jinja").write_text("{{ word }}?")
    assert page() == "&lt;b&gt;?" and translated == ["a.jinja"] * 2


def test_one_of_the_same_name_in_another_folder_is_another(tmp_path, translated):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        text = "{% macro say(it) %}" + folder + " {{ it }}{% endmacro %}{{ say(1) }}"
        (tmp_path / folder / "a.jinja").write_text(text)
    both = [page_templates(tmp_path / folder).get_template("a.jinja").render() for folder in ("one", "two", "one")]
    assert both == ["one 1", "two 1", "one 1"] and len(translated) == 2


def test_filters_and_globals_are_each_ones_own(tmp_path):
    (tmp_path / "a.jinja").write_text("{{ colour() }} {{ n | twice }}")
    for colour, factor in (("red", 2), ("blue", 3)):
        env = page_templates(tmp_path)
        env.filters["twice"] = lambda number, factor=factor: number * factor
        env.globals["colour"] = lambda colour=colour: colour
        assert env.get_template("a.jinja").render(n=2) == f"{colour} {2 * factor}"


def test_what_is_not_given_is_a_fault(tmp_path):
    (tmp_path / "a.jinja").write_text("{{ word }}")
    with pytest.raises(UndefinedError, match="word"):
        page_templates(tmp_path).get_template("a.jinja").render()
