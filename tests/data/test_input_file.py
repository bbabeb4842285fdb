"""A file as the input of a stage: a key has its contents, and its name only where what is left names it."""

import hashlib

import pytest

from cai.core.errors import UserError
from cai.core.store import canonical, keyed
from cai.data.comparisons import comparisons_file
from cai.data.labels import label_file

SHA = hashlib.sha256(b"rows\n").hexdigest()


def test_what_a_key_has_of_a_file(tmp_path):
    (tmp_path / "mine").write_text("rows\n")
    path = str(tmp_path / "mine")
    assert canonical(keyed({"file": label_file(path), "seed": 3})) == {"file": {"digest": SHA}, "seed": 3}
    assert canonical(keyed({"file": comparisons_file(path)})) == {"file": path, "contents": SHA}
    assert canonical({"log": label_file(path), "weight": 1.0}) == {"log": {"digest": SHA}, "weight": 1.0}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match='there is no file of labels "none"') as caught:
        label_file("none")
    assert (caught.value.where, caught.value.remedy) == ("labels", "python -m cai.annotate makes one")
