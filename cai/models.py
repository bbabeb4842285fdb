"""Models: what a reference in a config means, and how weights and tokenizers are loaded and saved.

The only place that knows peft and safetensors; embedded models are made in cai/embedded.py, how a chat becomes token
ids is in cai/chat.py, and what architectures have of their own in cai/architectures.py.
"""

import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai.adapters import NAME, SETTINGS, adapter_digest, adapter_settings, is_adapter, note_base, noted_base
from cai.architectures import HEAD, ensure_reward_head, lora, read_at_the_last_token
from cai.chat import answered, chat_ids, harmless, plain, with_system
from cai.chat_templates import PLAIN, PLAIN_NAME, Choice, settle, written_by
from cai.embedded import EMBEDDED, TAUGHT, TINY, build
from cai.errors import UserError, suggest
from cai.hub import UNREACHABLE, adapter_folder, commit_of, hub_adapter, hub_digest
from cai.memo import remembered
from cai.progress import quiet
from cai.settings import Judge, Policy
from cai.store import Artifact, digest_file, digest_folder, digest_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "UNREACHABLE", "Dtype", "Source", "answered", "chat_ids", "find", "harmless", "load_causal", "load_reward",
    "load_tokenizer", "local", "lora", "model_of", "pick_device", "pick_dtype", "plain", "save", "trained",
    "with_adapter", "with_system",
]  # fmt: skip
Dtype = Literal["float32", "bfloat16"]

_met: dict[str, str] = {}  # digest -> the reference by which this process has last met that folder

# Raise it when a folder's or a hub's weights would now be read otherwise than before: it is part of their digests.
# 2: options and answers are tokenised as the template writes them, functional dropout is off, bases are in the digest.
READ_AS = 2


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights are (a folder, or a hub id) and what they are: `digest` stands for them in every key.

    commit: of a hub id: the one that is loaded. template: which chat template, or what it is told (chat_templates.py).
    """

    name: str
    place: str
    digest: str
    commit: str | None = None
    template: Choice = field(default=None, compare=False)


def find(ref: str, template: Choice = None) -> Source:
    """What `model: ref` means: an embedded model, a local folder, or a hub id; without fetching weights.

    Raises UserError when it is none of these. A hub that cannot be asked gives the commit UNREACHABLE: enough to plan
    with, and `check` in cai/experiment.py refuses to run on it.
    """
    source = _found(ref)
    if template is None:
        return source
    return replace(source, template=template, digest=digest_of([source.digest, _said_by(template)]))


def _said_by(template: Choice) -> Any:
    """What stands for a template in a key: of a file, or of ours, its contents."""
    if template == PLAIN_NAME:
        return PLAIN
    file = Path(template).expanduser() if isinstance(template, str) else None
    return digest_file(file) if file and file.suffix and file.is_file() else template


def model_of(chosen: Policy | Judge) -> Source:
    """The model that a section of the config names, with the chat template that it gives. Raises UserError."""
    return find(chosen.model, chosen.template)


def _found(ref: str) -> Source:
    if ref in EMBEDDED:
        return Source(ref, "", digest_of([ref, EMBEDDED[ref][0].sha256, "safetensors-1"]))
    if ref == TINY:
        return Source(ref, "", digest_of([ref, "1"]))
    folder = TAUGHT.get(ref) or Path(ref).expanduser()
    if folder.is_dir():
        adapter = is_adapter(folder)
        if not (folder / "config.json").is_file() and not adapter:
            raise UserError("this folder holds no model", ref, "it needs a config.json or an adapter_config.json")
        base = [base_of(folder).digest] if adapter else []
        digest = digest_of([READ_AS, _folder_digest(folder, adapter), *base])
        _met[digest] = ref
        return Source(ref, str(folder), digest)
    if _is_hub_id(ref):
        return _of_hub(ref, commit_of(ref))
    raise UserError(
        f'there is no model "{ref}"',
        "model",
        "give a folder that exists, a hub id (owner/name), or an embedded name "
        f"({suggest(ref, [*EMBEDDED, *TAUGHT, TINY])})",
    )


def _of_hub(name: str, commit: str) -> Source:
    """A hub's model at a commit; the digest of an adapter is one of its base as well."""
    digest = hub_digest(name, commit, read_as=READ_AS)
    adapter = hub_adapter(name, commit)
    if adapter:
        digest = f"{digest} on {base_of(adapter).digest}"
    return Source(name, name, digest, None if commit == UNREACHABLE else commit)


def _is_hub_id(ref: str) -> bool:
    return ref.count("/") == 1 and not ref.startswith((".", "/", "~"))


def base_of(folder: Path) -> Source:
    """The model on which the adapter in this folder was trained, by the name that `save` or PEFT wrote.

    Where `save` wrote its digest as well, and that name leads to another model or to none, it is looked for among the
    folders that this process has met: bases are moved. Raises UserError where it is not to be had.
    """
    settings = adapter_settings(folder)
    name, revision, wanted = settings[NAME], settings.get("revision"), noted_base(folder)
    if is_adapter(Path(name).expanduser()):
        problem = "the base of this adapter is an adapter itself"
        raise UserError(problem, str(folder), "merge that one into its own base first (PEFT: merge_and_unload)")
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


@cache
def _warn_of_other_base(name: str, folder: str) -> None:
    print(f"note: {folder}: its base, {name}, is no longer the model that it was trained on", file=sys.stderr)


def trained(artifact: Artifact, name: str, rollout: int | None = None) -> Source:
    """The weights that a training stage left in its folder; with a rollout, the snapshot after it (`rl.snapshots`)."""
    if rollout is None:
        return Source(name, str(artifact.path / "model"), artifact.digest)
    return Source(name, str(artifact.path / "snapshots" / str(rollout)), f"{artifact.digest}@{rollout}")


def _folder_digest(folder: Path, adapter: bool) -> str:
    """Contents, remembered for files whose size and time stand still: hashing 16 GB for every `--plan` is no joke."""
    files = sorted(path for path in folder.absolute().rglob("*") if path.is_file())
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return _digest_once(digest_of(["adapter" if adapter else "model", stamps]), folder, adapter)


@cache
def _digest_once(stamp: str, folder: Path, adapter: bool) -> str:
    return remembered(stamp, lambda: (adapter_digest if adapter else digest_folder)(folder))


def local(source: Source) -> str:
    """The folder (or hub id) to load from; embedded models are fetched and converted once, a hub's adapters fetched."""
    if source.name in (*EMBEDDED, TINY):
        return str(build(source.name))
    if source.commit and hub_adapter(source.place, source.commit):
        return str(adapter_folder(source.place, source.commit))
    return source.place


def pick_device(device: str) -> str:
    if device != "auto":
        return device
    if _plain_linux():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(dtype: str, device: str) -> Dtype:
    """auto: bfloat16 where the device multiplies it natively, else float32 (emulated bfloat16 is slower than both)."""
    if dtype != "auto":
        return dtype  # pyrefly: ignore
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device == "cpu" and sys.platform == "linux":
        flags = Path("/proc/cpuinfo").read_text()
        return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"
    return "float32"


def _plain_linux() -> bool:
    """No accelerator's device file: then torch need not be imported to know it, and `--plan` answers at once."""
    return sys.platform == "linux" and not any(
        Path(file).exists() for file in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    )


def load_tokenizer(source: Source) -> "PreTrainedTokenizerBase":
    """The tokenizer, with one chat template and a token to pad with that ends no turn. An adapter without one has its
    base's. Raises UserError."""
    from transformers import AutoTokenizer

    quiet()
    place = Path(local(source))
    if is_adapter(place) and not list(place.glob("*token*")):
        return load_tokenizer(replace(base_of(place), template=source.template))
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(place), revision=source.commit)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load the tokenizer: {_first_line(error)}", str(place), "check the model folder"
        ) from None
    settle(tokenizer, source.template, source.name)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = _spare_token(tokenizer)
    return tokenizer


def _spare_token(tokenizer: Any) -> str:
    """A token to pad with that ends no turn: padding with one that does would hide where an answer ends.

    A special token with a name, else one without that no template writes, else one that no text can hold (a byte that
    UTF-8 never uses), else the last of the vocabulary. What is padded is masked wherever it is read.
    """
    named = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    others = [token for token in special if token not in (*tokenizer.all_special_tokens, *written_by(tokenizer))]
    for spare in (named, others):
        better = [token for token in spare if any(word in token.lower() for word in ("pad", "endoftext"))]
        if spare:
            return (better or spare)[0]
    vocabulary = tokenizer.get_vocab()
    free = [token for token in ("ÿ", "<0xFF>") if token in vocabulary]
    return free[0] if free else max(vocabulary, key=vocabulary.__getitem__)


def load_causal(source: Source, dtype: Dtype, device: str, *, train: bool = False) -> "PreTrainedModel":
    """A language model. An adapter comes on the base that it was trained on; train: its weights go on learning."""
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, source, dtype, device, train)


def load_reward(source: Source, dtype: Dtype, device: str) -> "PreTrainedModel":
    """A reward model: one scalar for a sequence. A fresh one has a zero head, so that it begins without an opinion."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    place = Path(local(source))
    adapter = is_adapter(place)
    base = base_of(place) if adapter else source
    if adapter and adapter_settings(place)["task_type"] != "SEQ_CLS":
        raise UserError("this adapter is of a language model: it has no head for rewards", str(place), "give another")
    try:
        config = AutoConfig.from_pretrained(local(base), revision=base.commit)
        ensure_reward_head(config)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the model: {_first_line(error)}", str(place), "check the model folder") from None
    fresh = not adapter and "SequenceClassification" not in str(config.architectures)
    model = _load(AutoModelForSequenceClassification, source, dtype, device, num_labels=1)
    if fresh:
        torch.nn.init.zeros_(model.score.weight)
    return model


def _load(kind: Any, source: Source, dtype: Dtype, device: str, train: bool = False, **options: Any) -> Any:
    import torch
    from safetensors import SafetensorError

    quiet()
    place = Path(local(source))
    adapter = is_adapter(place)
    base = base_of(place) if adapter else source
    try:
        model = kind.from_pretrained(local(base), dtype=getattr(torch, dtype), revision=base.commit, **options)
        # PEFT writes this into an adapter: a name means the same on another machine, a place does not.
        model.name_or_path = base.name
        if getattr(model, "_hf_peft_config_loaded", False):  # transformers has put an adapter on some base by itself
            if adapter:
                problem = f'"{base.name}" is an adapter, and the base of another'
                raise UserError(problem, str(place), "merge it into its base model first")
            raise UserError("this is an adapter, and its base is not known", base.name, "run the same command again")
        in_folder = base.place and str(Path(base.name).expanduser()) == base.place
        # What `save` writes beside that name; transformers keeps no record of the commit.
        model.base_commit, model.base_digest = base.commit, _found(base.name).digest if in_folder else ""
        model = with_adapter(model, place, dtype, train) if adapter else _ready(model)
        model.config.get_text_config().pad_token_id = load_tokenizer(source).pad_token_id
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot load the model: {_first_line(error)}", str(place), "check the model folder") from None
    return model.to(device)


def with_adapter(base: Any, place: Path, dtype: str, train: bool = False) -> Any:
    """A model whose base is loaded, and the adapter that lies in the folder `place`."""
    import torch
    from peft import PeftModel

    model: Any = PeftModel.from_pretrained(_ready(base), str(place), is_trainable=train)
    for name, weight in model.named_parameters():
        if "lora_" in name and not train:  # peft keeps adapters in float32, which only training needs
            weight.data = weight.data.to(getattr(torch, dtype))
    return model


def _ready(model: Any) -> Any:
    """A reward model reads its score at the last token, and in float32 whatever the body computes in: bfloat16 knows
    only 128 values between 1 and 2."""
    if hasattr(model, HEAD):
        model.score.float().register_forward_pre_hook(_to_float32)
        read_at_the_last_token(model)
    return model


def _to_float32(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.float() for value in args)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Weights as safetensors and the tokenizer beside them. Of a model with an adapter, the adapter alone.

    An adapter names its base as `find` knows it (see `_load`), and of a hub its commit, of a folder its digest.
    """
    adapter = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, **adapter)
    _save_tokenizer(tokenizer, folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    config = folder / SETTINGS
    if config.is_file():  # peft writes a set in the order of this process's hashes: another digest each time
        settings = json.loads(config.read_text())
        if isinstance(settings["target_modules"], list):
            settings["target_modules"].sort()
        base = model.get_base_model()
        settings["revision"] = getattr(base, "base_commit", None)
        config.write_text(json.dumps(settings, indent=2, sort_keys=True))
        if digest := getattr(base, "base_digest", ""):
            note_base(folder, digest)


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Without a padding token that is an ordinary one (`_spare_token`): read back, it would be cut out of texts."""
    pad = tokenizer.pad_token
    ordinary = tokenizer.pad_token_id not in tokenizer.added_tokens_decoder
    tokenizer.pad_token = None if ordinary else pad
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.pad_token = pad
