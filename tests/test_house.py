"""What the house has reached, it keeps (tests/house.py prints all of it); the lists of what is left only shrink."""

import pytest
from house import FILE, PARAMETERS, additions, classes_twice, floors, long_files, long_functions, main, readmes, upward


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


def test_additions_are_found_in_the_map():
    assert {"a judge method", "a label source", "an RL method", "a data source", "an engine"} <= additions().keys()
    assert max(additions().values()) <= 5


def test_anybody_can_run_it(capsys):
    main()
    assert "functions over 7 parameters" in capsys.readouterr().out
