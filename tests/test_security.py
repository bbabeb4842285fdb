"""cai/SECURITY.md: every boundary that it names is held by a test that is there."""

import ast
import re

import pytest
from test_layers import PACKAGE

TABLE = (PACKAGE / "SECURITY.md").read_text()
ROWS = re.findall(r"^\| (?!Boundary|---)(.+) \| `(tests/[\w/]+\.py)::(\w+)` \|$", TABLE, re.M)


def test_the_table_is_read_whole():
    lines = [line for line in TABLE.splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(lines) - 1 > 20  # less its head
    assert "SECURITY.md" in (PACKAGE / "README.md").read_text()


@pytest.mark.parametrize(("boundary", "file", "test"), ROWS, ids=[row[2] for row in ROWS])
def test_each_boundary_has_its_test(boundary, file, test):
    tree = ast.parse((PACKAGE.parent / file).read_text())
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, boundary
