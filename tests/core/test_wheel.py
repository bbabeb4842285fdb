"""The wheel, installed and run from an empty folder: it carries all that a clone has beside the package."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from cai.core.shipped import FOLDERS, HOME, locate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not find_spec("hatchling"):
        pytest.skip("hatchling is not installed: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return place


@pytest.fixture
def run(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a module of the installed package in an empty folder: (exit code, all that it printed)."""
    (tmp_path / "empty").mkdir()

    def one(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path / "empty",
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return one


def test_every_shipped_file_is_in_the_wheel(wheel: Path) -> None:
    carried = {name.removeprefix("cai/shipped/") for name in zipfile.ZipFile(wheel).namelist()}
    there = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()]
    files = [file for file in there if "__pycache__" not in file.parts]  # of a script that other tests import
    assert len(files) > 30
    assert {file.relative_to(ROOT).as_posix() for file in files} <= carried


def test_the_smoke_experiment_is_planned_from_an_empty_folder(run, installed: Path) -> None:
    code, text = run("cai.experiment", "experiments/smoke.yaml", "--plan", "--all")
    assert code == 0, text
    assert text.startswith("smoke: arms ai, human; seeds 0, 1") and "to run   load_items" in text
    assert str(ROOT) not in text
    # The same as in a clone: what is installed is no part of a key.
    here = subprocess.run(
        [
            sys.executable,
            "-m",
            "cai.experiment",
            "experiments/smoke.yaml",
            "--plan",
            "--all",
            "--set",
            "runtime.root=/nowhere",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert here.stdout == text


def test_constitutions_are_read_from_the_package_and_the_users_own_comes_first(run, tmp_path: Path) -> None:
    code, text = run("cai.constitution", "lint", "constitutions/harmless.txt")
    assert code == 0 and "harmless.txt" in text, text
    (tmp_path / "empty/constitutions").mkdir()
    (tmp_path / "empty/constitutions/harmless.txt").write_text("## mine\nPrefer: x.\n")
    code, text = run("cai.constitution", "lint", "constitutions/harmless.txt")
    assert code == 2 and "constitutions/harmless.txt:1" in text and "Critique" in text


def test_what_is_nowhere_is_said_to_be_missing_where_the_user_named_it(run) -> None:
    code, text = run("cai.experiment", "experiments/smok.yaml", "--plan")
    assert code == 2 and "error: experiments/smok.yaml" in text and "Traceback" not in text


def test_where_a_path_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert HOME == ROOT, "in a clone, what stands beside the package"
    assert locate("prompts/rate.jinja") == ROOT / "prompts/rate.jinja"
    (tmp_path / "prompts").mkdir()
    assert locate("prompts/rate.jinja") == ROOT / "prompts/rate.jinja"
    (tmp_path / "prompts/rate.jinja").touch()
    assert locate("prompts/rate.jinja") == Path("prompts/rate.jinja")
    for own in ("README.md", "tests/zoo.py", "constitutions/../README.md", "constitutions/none.txt", ""):
        assert locate(own) == Path(own)
    assert locate("~/prompts/rate.jinja") == tmp_path / "prompts/rate.jinja"
