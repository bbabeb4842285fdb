"""A digest is remembered, and what is no digest is not taken for one."""

import pytest

from cai.core.memo import remembered
from cai.core.packages import cache_folder
from cai.models.references import _digest_once, find

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("CAI_CACHE", str(tmp_path / "cache"))


def test_it_is_computed_once():
    asked = []
    assert [remembered("stamp", lambda: asked.append(1) or DIGEST) for _ in range(2)] == [DIGEST] * 2
    assert len(asked) == 1 and [file.name for file in (cache_folder() / "digests").iterdir()] == ["stamp"]


@pytest.mark.parametrize("left", [b"", b"0123", DIGEST.encode() + b"0", b"\0" * 64, b"\xff" * 64])
def test_what_a_full_disk_left_is_no_digest(left):
    remembered("stamp", lambda: DIGEST)
    (cache_folder() / "digests" / "stamp").write_bytes(left)
    assert remembered("stamp", lambda: DIGEST) == DIGEST
    assert (cache_folder() / "digests" / "stamp").read_text() == DIGEST


def test_two_models_have_two_digests_also_on_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cai.core.memo.write_whole", full)
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"name": "{name}"}}')
        for _ in range(2):  # as in two processes
            _digest_once.cache_clear()
            found.append(find(str(tmp_path / name)).digest)
    assert found[0] == found[1] != found[2] == found[3] and all(len(digest) == 64 for digest in found)
