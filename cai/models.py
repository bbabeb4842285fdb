"""Models: what a reference in a config means, and how weights and tokenizers are loaded and saved.

The only place that knows peft and safetensors; embedded models are made in cai/embedded.py, how a chat becomes token
ids is in cai/chat.py, and what architectures have of their own in cai/architectures.py.
"""

import json
import sys
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai.architectures import HEAD, ensure_reward_head, lora, read_at_the_last_token
from cai.chat import answered, chat_ids, harmless, plain, with_system
from cai.chat_templates import PLAIN, PLAIN_NAME, Choice, settle, written_by
from cai.embedded import EMBEDDED, TINY, build
from cai.errors import UserError, suggest
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

UNREACHABLE = "unreachable"


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
    folder = Path(ref).expanduser()
    if folder.is_dir():
        adapter = is_adapter(folder)
        if not (folder / "config.json").is_file() and not adapter:
            raise UserError("this folder holds no model", ref, "it needs a config.json or an adapter_config.json")
        base = [base_of(folder).digest] if adapter else []
        return Source(ref, str(folder), digest_of([READ_AS, _folder_digest(folder), *base]))
    if ref.count("/") == 1 and not ref.startswith((".", "/", "~")):
        commit = _hub_commit(ref)
        return Source(ref, ref, f"hub:{ref}@{commit}", None if commit == UNREACHABLE else commit)
    raise UserError(
        f'there is no model "{ref}"',
        "model",
        f"give a folder that exists, a hub id (owner/name), or an embedded name ({suggest(ref, [*EMBEDDED, TINY])})",
    )


def base_of(folder: Path) -> Source:
    """The model on which the adapter in this folder was trained, by the name that `save` wrote. Raises UserError."""
    settings = adapter_settings(folder)
    name, commit = settings["base_model_name_or_path"], settings.get("revision")
    if commit and not Path(name).expanduser().is_dir():
        return Source(name, name, f"hub:{name}@{commit}", commit)
    try:
        return find(name)
    except UserError:
        raise UserError(
            f'the base of this adapter, "{name}", is not here',
            str(folder),
            "put the base model where that name leads, or name it in adapter_config.json (base_model_name_or_path)",
        ) from None


def trained(artifact: Artifact, name: str, rollout: int | None = None) -> Source:
    """The weights that a training stage left in its folder; with a rollout, the snapshot after it (`rl.snapshots`)."""
    if rollout is None:
        return Source(name, str(artifact.path / "model"), artifact.digest)
    return Source(name, str(artifact.path / "snapshots" / str(rollout)), f"{artifact.digest}@{rollout}")


@cache
def _folder_digest(folder: Path) -> str:
    """Contents, remembered for files whose size and time stand still: hashing 16 GB for every `--plan` is no joke."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stamp = digest_of([[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files])
    return remembered(stamp, lambda: digest_folder(folder))


@cache
def _hub_commit(ref: str) -> str:
    """The commit that the hub's `main` names now, or the newest one in the local cache when the hub is out of reach."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    refs = Path(constants.HF_HUB_CACHE) / f"models--{ref.replace('/', '--')}" / "refs" / "main"
    if refs.is_file():
        return refs.read_text().strip()
    try:
        return HfApi().model_info(ref, timeout=10).sha or "main"
    except RepositoryNotFoundError:
        raise UserError(f'the hub has no model "{ref}"', "model", "check the name, or log in if it is gated") from None
    except Exception:  # offline in any of its many forms
        return UNREACHABLE


def local(source: Source) -> str:
    """The folder (or hub id) to load from; embedded models are fetched and converted once."""
    return str(build(source.name)) if source.name in (*EMBEDDED, TINY) else source.place


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


def is_adapter(place: Path) -> bool:
    """Whether an adapter lies in this folder, and not a whole model."""
    return (place / "adapter_config.json").is_file()


def adapter_settings(place: Path) -> dict[str, Any]:
    """What peft wrote about the adapter in this folder."""
    return json.loads((place / "adapter_config.json").read_text())


def _load(kind: Any, source: Source, dtype: Dtype, device: str, train: bool = False, **options: Any) -> Any:
    import torch
    from safetensors import SafetensorError

    quiet()
    place = Path(local(source))
    adapter = is_adapter(place)
    base = base_of(place) if adapter else source
    try:
        model = kind.from_pretrained(local(base), dtype=getattr(torch, dtype), revision=base.commit, **options)
        if getattr(model, "_hf_peft_config_loaded", False):  # transformers has put an adapter on some base by itself
            raise UserError(
                f'"{base.name}" is an adapter' + (", and the base of another" if adapter else " on the hub"),
                str(place),
                "merge it into its base model first" if adapter else "download it, and give its folder",
            )
        # PEFT writes this into an adapter: a name means the same on another machine, a place does not.
        model.name_or_path = base.name
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

    An adapter names its base as `find` knows it (see `_load`), and of a hub its commit.
    """
    adapter = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, **adapter)
    _save_tokenizer(tokenizer, folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    config = folder / "adapter_config.json"
    if config.is_file():  # peft writes a set in the order of this process's hashes: another digest each time
        settings = json.loads(config.read_text())
        if isinstance(settings["target_modules"], list):
            settings["target_modules"].sort()
        settings["revision"] = getattr(model.config, "_commit_hash", None)
        config.write_text(json.dumps(settings, indent=2, sort_keys=True))


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Without a padding token that is an ordinary one (`_spare_token`): read back, it would be cut out of texts."""
    pad = tokenizer.pad_token
    ordinary = tokenizer.pad_token_id not in tokenizer.added_tokens_decoder
    tokenizer.pad_token = None if ordinary else pad
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.pad_token = pad
