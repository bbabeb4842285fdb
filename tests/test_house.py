"""What the house has reached, it keeps (tests/house.py prints all of it); the lists of what is left only shrink."""

import re

import pytest
from house import (
    FILE,
    PARAMETERS,
    ROOT,
    additions,
    classes_twice,
    floors,
    long_files,
    long_functions,
    main,
    readmes,
    upward,
)


def test_imports_point_up_the_list_and_never_go_round():
    assert upward() == []
    depth, round_about = floors()
    assert round_about == set() and depth <= 23


def test_files_and_functions_do_not_grow():
    assert long_files() == {}, f"over {FILE} lines"
    assert long_functions() == {}, f"over {PARAMETERS} parameters"


def test_a_class_name_is_not_used_again():
    assert classes_twice() == {}


@pytest.mark.parametrize("file", readmes())
def test_a_readme_can_be_read(file):
    count, limit = readmes()[file]
    assert count <= limit


@pytest.mark.parametrize("file", readmes())
def test_its_links_lead_somewhere(file):
    """Also to a heading of another page, by the name that GitHub gives it."""
    text = re.sub(r"```.*?```", "", (ROOT / file).read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [link.partition("#") for link in links if "://" not in link]
    assert [path for path, _, _ in local if path and not (ROOT / file).parent.joinpath(path).exists()] == []
    for path, _, heading in local:
        if heading:
            page = (ROOT / file).parent / path if path else ROOT / file
            known = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in known]


def test_additions_are_found_in_the_map():
    assert {"a judge method", "a label source", "an RL method", "a data source", "an engine"} <= additions().keys()
    assert max(additions().values()) <= 5


def test_anybody_can_run_it(capsys):
    main()
    assert "functions over 7 parameters" in capsys.readouterr().out
