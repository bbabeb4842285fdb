"""The hub: a name there is resolved to one commit, and that commit is what is loaded and what stands in keys.

`main` moves, so a key made of it would cover what it does not name. What is in the local cache (huggingface_hub's)
comes first: a run that was begun goes on with the same weights and rows, online or not.
"""

import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from cai.core.errors import UserError

Kind = Literal["model", "dataset"]
UNREACHABLE = "unreachable"  # stands for a commit that cannot be known now: enough to plan with, not to run
WORDS: dict[Kind, tuple[str, str]] = {"model": ("model", "model"), "dataset": ("data set", "data.source")}
# What an adapter's repository may hold that is needed: its weights and settings, a tokenizer, a chat template.
ADAPTER = ["adapter_*", "*token*", "*vocab*", "merges.txt", "*.model", "*.jinja", "*.json"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


@cache
def commit_of(name: str, kind: Kind = "model", revision: str = "main") -> str:
    """The commit that a branch or tag names: in the local cache, else on the hub; one for the whole process.

    Out of the hub's reach it is the newest commit in the local cache, or else UNREACHABLE. Raises UserError for a name
    or a revision that the hub does not have.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if _COMMIT.fullmatch(revision):
        return revision
    home = _home(name, kind)
    known = home / "refs" / revision
    if known.is_file() and (commit := known.read_text().strip()):
        return commit
    what, where = WORDS[kind]
    info_of = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        commit = info_of(name, revision=revision, timeout=10).sha
    except RevisionNotFoundError:
        raise UserError(f'{name} has no revision "{revision}" on the hub', where, "check the name") from None
    except RepositoryNotFoundError:
        remedy = "check the name, or log in if it is gated"
        raise UserError(f'the hub has no {what} "{name}"', where, remedy) from None
    except Exception:  # offline in any of its many forms
        commit = None
    if commit:
        return commit
    cached = [folder for folder in (home / "snapshots").glob("*") if _COMMIT.fullmatch(folder.name)]
    newest = max(cached, key=lambda folder: (folder.stat().st_mtime, folder.name), default=None)
    return newest.name if newest and revision == "main" else UNREACHABLE


def hub_digest(name: str, commit: str, kind: Kind = "model", read_as: int = 1) -> str:
    """What stands for a repository at a commit in every key. read_as: raise it when it would be read otherwise."""
    return f"hub:{'' if kind == 'model' else 'datasets/'}{name}@{commit}#{read_as}"


def is_unreachable(digest: str) -> bool:
    return f"@{UNREACHABLE}#" in digest


def data_digest(name: str, where: str) -> str:
    """What stands for a data set in every key: its commit. Raises UserError, at `where`, where the hub has no such."""
    try:
        return hub_digest(name, commit_of(name, "dataset"), "dataset")
    except UserError as error:
        raise UserError(error.problem, where, error.remedy) from None


def data_file(name: str, commit: str, pattern: str, where: str = "data.source") -> Path:
    """The one file of a data set, at a commit, whose path fits the pattern: from the local cache, else fetched.

    where: the key of the config that names it. Raises UserError where it cannot be had.
    """
    from huggingface_hub import HfApi, hf_hub_download

    snapshot = _home(name, "dataset") / "snapshots" / commit
    cached = sorted(path for path in snapshot.glob(pattern) if path.is_file())
    if cached:
        return cached[0]
    problem, remedy = f"cannot load {name} ({pattern}) from the hub", "check the network, or give a local file"
    if commit == UNREACHABLE:
        raise UserError(f"{problem}: it cannot be reached, and the local cache has none", where, remedy)
    try:
        listed = sorted(HfApi().list_repo_files(name, revision=commit, repo_type="dataset"))
        fits = [file for file in listed if fnmatch(file, pattern)]
        if fits:
            return Path(hf_hub_download(name, fits[0], repo_type="dataset", revision=commit))
    except Exception as error:  # offline in any of its many forms
        raise UserError(f"{problem}: {type(error).__name__}", where, remedy) from None
    alike = [file for file in map(PurePosixPath, listed) if fnmatch(file.name, PurePosixPath(pattern).name)]
    folders = sorted({str(file.parent) for file in alike if file.parent.name})
    hint = f"it has {', '.join(folders)}" if folders else "give a local file"
    raise UserError(f"{name} has no {pattern} at commit {commit[:12]}", where, hint)


@cache
def hub_adapter(name: str, commit: str) -> Path | None:
    """The folder with the settings of a hub's adapter; None where it is none, or nothing can be known of it now."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if commit == UNREACHABLE:
        return None
    cached = try_to_load_from_cache(name, "adapter_config.json", revision=commit)
    if cached is not None:
        return Path(cached).parent if isinstance(cached, str) else None
    try:
        return Path(hf_hub_download(name, "adapter_config.json", revision=commit)).parent
    except Exception:  # it has none; or it is out of reach, and loading will say so
        return None


def adapter_folder(name: str, commit: str) -> Path:
    """An adapter of the hub as a folder, fetched if it is not there. Raises UserError."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=ADAPTER))
    except Exception as error:
        problem = f"cannot load {name} from the hub: {type(error).__name__}"
        raise UserError(problem, "model", "check the network, or give a local folder") from None


def _home(name: str, kind: Kind) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
