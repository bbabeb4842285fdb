"""What a reference to a model means: an embedded name, a local folder, a hub id, or what a stage trained.

Nothing here reads weights: that is cai/models/loading.py. Embedded models are made in cai/models/embedded.py.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cai.config.sections import Judge, Policy
from cai.config.serve import OwnServer, ServingEngine
from cai.config.served import Server
from cai.core.errors import UserError, suggest
from cai.core.hub import UNREACHABLE, adapter_folder, commit_of, hub_adapter, hub_digest
from cai.core.memo import remembered
from cai.core.shipped import at_home
from cai.core.store import Artifact, digest_file, digest_folder, digest_of
from cai.models.adapters import NAME, SETTINGS, adapter_digest, adapter_settings, is_adapter, noted_base
from cai.models.chat_templates import PLAIN, PLAIN_NAME, Choice
from cai.models.embedded import EMBEDDED, TAUGHT, TINY, build, tokenizer_folder

Dtype = Literal["float32", "bfloat16"]


# Of every `from_pretrained`: code that lies beside weights (`auto_map` in a config.json) is never run, and nobody is
# asked on the terminal whether it may be. Weights are safetensors: a pickle is a program.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
SAFE: dict[str, Any] = {**NO_CODE, "use_safetensors": True}

_met: dict[str, str] = {}  # digest -> the reference by which this process has last met that folder


# Raise it when a folder's or a hub's weights would now be read otherwise than before: it is part of their digests.
# 2: options and answers are tokenised as the template writes them, functional dropout is off, bases are in the digest.
READ_AS = 2


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Where weights are (a folder, or a hub id) and what they are: `digest` stands for them in every key.

    commit: of a hub id: the one that is loaded. template: which chat template, or what it is told (chat_templates.py).
    engine: the module of cai/models/engines that answers for it; never part of a key. server: where it is served.
    """

    name: str
    place: str
    digest: str
    commit: str | None = None
    template: Choice = field(default=None, compare=False)
    engine: str = field(default="transformers", compare=False)
    server: Server | None = field(default=None, compare=False)

    @property
    def hosted(self) -> bool:
        """Whether a chat API renders its prompts: then there is no tokenizer here, and no folder."""
        return self.server is not None and self.server.api == "chat"


def met(others: Mapping[str, str] | None = None) -> dict[str, str]:
    """The folders that this process has met. others: those of another process, which are then met here as well."""
    _met.update(others or {})
    return dict(_met)


def find(ref: str, template: Choice = None) -> ModelRef:
    """What `model: ref` means: an embedded model, a local folder, or a hub id; without fetching weights.

    Raises UserError when it is none of these. A hub that cannot be asked gives the commit UNREACHABLE: enough to plan
    with, and `check` in cai/experiment/checks.py refuses to run on it.
    """
    model = _find_plain(ref)
    if template is None:
        return model
    return replace(model, template=template, digest=digest_of([model.digest, _template_key(template)]))


def _template_key(template: Choice) -> Any:
    """What stands for a template in a key: of a file, or of ours, its contents."""
    if template == PLAIN_NAME:
        return PLAIN
    file = at_home(template) if isinstance(template, str) else None
    return digest_file(file) if file and file.suffix and file.is_file() else template


def model_of(chosen: Policy | Judge, pretrained: Artifact | None = None) -> ModelRef:
    """The model that a section of the config names, with the chat template that it gives. Raises UserError.

    pretrained: what `pretrain:` made, or will make: then that is the one, by its folder, as any other folder.
    """
    if pretrained:
        folder = pretrained.path / "model"
        return find(str(folder), chosen.template) if folder.is_dir() else trained(pretrained, chosen.model)
    server = chosen.server if isinstance(chosen, Judge) else None
    return find_served(chosen.model, server, chosen.template) if server else find(chosen.model, chosen.template)


def find_served(ref: str, server: Server, template: Choice = None) -> ModelRef:
    """A model that a server answers for. ref: whose tokenizer renders its prompts; of a chat API, its name there.

    Weights behind an address cannot be hashed. What stands for them in keys: the name by which the server knows them,
    the user's `revision`, the API, and what is here of the model (its folder or commit, its template). Where it is, on
    what hardware, and by how many it is asked is in no key. With `same`, it is the model that is here. A server that
    the run would start itself is left out where its engine cannot serve the model.

    An adapter without a name there is looked for under the name of its base, to which the server adds it.
    """
    if isinstance(server, OwnServer):
        if not servable(ref, server.serve.engine):
            return find(ref, template)
        # Of a folder its own name: where it lies is in no key.
        server = server.model_copy(update={"name": Path(ref).name if at_home(ref).is_dir() else ref})
    name = server.name or ref
    if server.api == "chat":
        thinking = [server.thinking] if server.thinking else []
        digest = digest_of(["served", "chat", name, server.revision, *thinking])
        return ModelRef(name=ref, place="", digest=digest, engine="server", server=server)
    here = find(ref, template)
    there = server if server.name or not server.adapters else server.model_copy(update={"name": _name_there(here)})
    return _behind(here, server, there, name)


def _behind(here: ModelRef, server: Server, there: Server, name: str) -> ModelRef:
    digest = here.digest if server.same else digest_of(["served", "completions", name, server.revision, here.digest])
    return replace(here, digest=digest, engine="server", server=there)


def _name_there(model: ModelRef) -> str:
    """Of an adapter, the name of its base; of any other model its own."""
    folder = hub_adapter(model.place, model.commit) if model.commit else Path(model.place)
    return base_of(folder).name if model.place and folder and is_adapter(folder) else model.name


def drafting(policy: Policy, pretrained: Artifact | None = None) -> ModelRef:
    """The start model where it only writes: drafts, critiques, revisions and everyday answers, by `policy.server`."""
    if policy.server and not pretrained:
        return find_served(policy.model, policy.server, policy.template)
    return model_of(policy, pretrained)


def answering(policy: Policy, ref: ModelRef) -> ModelRef:
    """A policy of the run where it only answers: for fresh pairs, and for the evaluation, where all policies answer in
    one way. ref: its weights here, the start model's or an adapter that was trained on them.

    Behind `policy.server`, if that takes adapters; else in process.
    """
    server = policy.server
    if server is None or not server.adapters:
        return ref
    return _behind(ref, server, drafting(policy).server or server, server.name or policy.model)


def servable(ref: str, engine: ServingEngine) -> bool:
    """llama.cpp: the models that are here as GGUF. vLLM: these, folders and hub ids; no adapters, no tiny model."""
    if ref in EMBEDDED:
        return True
    folder = at_home(ref)
    if engine == "llama.cpp" or ref == TINY or ref in TAUGHT or is_adapter(folder):
        return False
    return folder.is_dir() or (_is_hub_id(ref) and not hub_adapter(ref, commit_of(ref)))


def _find_plain(ref: str) -> ModelRef:
    if ref in EMBEDDED:
        return ModelRef(name=ref, place="", digest=digest_of([ref, EMBEDDED[ref].carrier.sha256, "safetensors-1"]))
    if ref == TINY:
        return ModelRef(name=ref, place="", digest=digest_of([ref, "1"]))
    folder = TAUGHT.get(ref) or at_home(ref)
    if folder.is_dir():
        adapter = is_adapter(folder)
        if not (folder / "config.json").is_file() and not adapter:
            raise UserError("this folder holds no model", ref, "it needs a config.json or an adapter_config.json")
        base = [base_of(folder).digest] if adapter else []
        digest = digest_of([READ_AS, _folder_digest(folder, adapter), *base])
        _met[digest] = ref
        return ModelRef(name=ref, place=str(folder), digest=digest)
    if _is_hub_id(ref):
        return _of_hub(ref, commit_of(ref))
    raise UserError(
        f'there is no model "{ref}"',
        "model",
        "give a folder that exists, a hub id (owner/name), or an embedded name "
        f"({suggest(ref, [*EMBEDDED, *TAUGHT, TINY])})",
    )


def _of_hub(name: str, commit: str) -> ModelRef:
    """A hub's model at a commit; the digest of an adapter is one of its base as well."""
    digest = hub_digest(name, commit, read_as=READ_AS)
    adapter = hub_adapter(name, commit)
    if adapter:
        digest = f"{digest} on {base_of(adapter).digest}"
    return ModelRef(name=name, place=name, digest=digest, commit=None if commit == UNREACHABLE else commit)


def _is_hub_id(ref: str) -> bool:
    return ref.count("/") == 1 and not ref.startswith((".", "/", "~"))


def base_of(folder: Path) -> ModelRef:
    """The model on which the adapter in this folder was trained, by the name that `save` or PEFT wrote.

    Where `save` wrote its digest as well, and that name leads to another model or to none, it is looked for among the
    folders that this process has met: bases are moved. Raises UserError where it is not to be had.
    """
    settings = adapter_settings(folder)
    name, revision, wanted = settings[NAME], settings.get("revision"), noted_base(folder)
    if is_adapter(TAUGHT.get(name) or at_home(name)):
        raise nested(name, folder)
    if revision and _is_hub_id(name) and not Path(name).is_dir():
        return _of_hub(name, commit_of(name, revision=str(revision)))
    base = None
    with suppress(UserError):
        base = find(name)
    if wanted and (base is None or base.digest != wanted) and wanted in _met:
        moved = find(_met[wanted])
        if base is None or moved.digest == wanted:
            return moved
    if base is None:
        raise UserError(
            f'the base of this adapter, "{name}", is not here',
            str(folder),
            f"put the base model where that name leads, or name it in {SETTINGS} ({NAME})",
        )
    if wanted and base.digest != wanted:
        _warn_of_other_base(name, str(folder))
    return base


def beneath(ref: ModelRef) -> ModelRef:
    """Of an adapter, the model on which it was trained; of any other model itself."""
    place = Path(local(ref))
    return base_of(place) if is_adapter(place) else ref


def nested(name: str, folder: Path) -> UserError:
    """name: the base of the adapter in the folder, and an adapter like it."""
    problem = f'the base of this adapter, "{name}", is an adapter itself'
    return UserError(problem, str(folder), "merge that one into its own base first (PEFT: merge_and_unload)")


@cache
def _warn_of_other_base(name: str, folder: str) -> None:
    print(f"note: {folder}: its base, {name}, is no longer the model that it was trained on", file=sys.stderr)


def trained(artifact: Artifact, name: str, rollout: int | None = None) -> ModelRef:
    """The weights that a training stage left in its folder; with a rollout, the snapshot after it (`rl.snapshots`)."""
    if rollout is None:
        return ModelRef(name=name, place=str(artifact.path / "model"), digest=artifact.digest)
    return ModelRef(
        name=name, place=str(artifact.path / "snapshots" / str(rollout)), digest=f"{artifact.digest}@{rollout}"
    )


def _folder_digest(folder: Path, adapter: bool) -> str:
    """Contents, remembered for files whose size and time stand still: hashing 16 GB for every `--plan` is no joke."""
    files = sorted(path for path in folder.absolute().rglob("*") if path.is_file())
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return _digest_once(digest_of(["adapter" if adapter else "model", stamps]), folder, adapter)


@cache
def _digest_once(stamp: str, folder: Path, adapter: bool) -> str:
    return remembered(stamp, lambda: (adapter_digest if adapter else digest_folder)(folder))


def local(model: ModelRef) -> str:
    """The folder (or hub id) to load from; embedded models are fetched and converted once, a hub's adapters fetched.

    Of an embedded model that a server answers for, only the tokenizer is made.
    """
    if model.name in (*EMBEDDED, TINY):
        return str(tokenizer_folder(model.name) if model.server else build(model.name))
    if model.commit and hub_adapter(model.place, model.commit):
        return str(adapter_folder(model.place, model.commit))
    return model.place
