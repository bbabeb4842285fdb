"""Models: what a reference in a config means, how weights are loaded and saved, and how a chat becomes token ids.

The only place that knows peft and safetensors; embedded models are made in cai/embedded.py. A chat is always rendered
by `chat_ids`: every message's text is stripped of the power to forge a role (`neutralise`), and the model's own default
system prompt is never let in unasked.
"""

import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai.embedded import EMBEDDED, TINY, build
from cai.errors import UserError, suggest
from cai.memo import remembered
from cai.progress import quiet
from cai.records import Chat, Message
from cai.store import Artifact, digest_folder, digest_of
from cai.templates import neutralise

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16"]

UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights are (a folder, or a hub id) and what they are: `digest` stands for them in every key."""

    name: str
    place: str
    digest: str


def find(ref: str) -> Source:
    """What `model: ref` means: an embedded model, a local folder, or a hub id; without fetching weights.

    Raises UserError when it is none of these. A hub that cannot be asked gives the commit UNREACHABLE: enough to plan
    with, and `check` in cai/experiment.py refuses to run on it.
    """
    if ref in EMBEDDED:
        return Source(ref, "", digest_of([ref, EMBEDDED[ref][0].sha256, "safetensors-1"]))
    if ref == TINY:
        return Source(ref, "", digest_of([ref, "1"]))
    folder = Path(ref).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
            raise UserError("this folder holds no model", ref, "it needs a config.json or an adapter_config.json")
        return Source(ref, str(folder), _folder_digest(folder))
    if ref.count("/") == 1 and not ref.startswith((".", "/", "~")):
        return Source(ref, ref, f"hub:{ref}@{_hub_commit(ref)}")
    raise UserError(
        f'there is no model "{ref}"',
        "model",
        f"give a folder that exists, a hub id (owner/name), or an embedded name ({suggest(ref, [*EMBEDDED, TINY])})",
    )


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
    from transformers import AutoTokenizer

    quiet()
    place = local(source)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the tokenizer: {_first_line(error)}", place, "check the model folder") from None
    if tokenizer.chat_template is None:
        raise UserError(
            f'the tokenizer of "{source.name}" has no chat template', place, "use an instruction-tuned model"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = _spare_token(tokenizer)
    return tokenizer


def _spare_token(tokenizer: Any) -> str:
    """A special token to pad with that does not end a turn."""
    spare = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
    better = [token for token in spare if "pad" in token.lower() or "endoftext" in token.lower()]
    if not spare:
        raise UserError(
            f'the tokenizer of "{tokenizer.name_or_path}" has no token to pad with but its end-of-turn token',
            "model",
            "add a pad token to the tokenizer: padding with the end-of-turn token hides where an answer ends",
        )
    return (better or spare)[0]


def load_causal(source: Source, dtype: Dtype, device: str, *, train: bool = False) -> "PreTrainedModel":
    """A language model. An adapter comes on the base that it was trained on; train: its weights go on learning."""
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, source, dtype, device, train)


def load_reward(source: Source, dtype: Dtype, device: str) -> "PreTrainedModel":
    """A reward model: one scalar for a sequence. A fresh one has a zero head, so that it begins without an opinion."""
    import torch
    from transformers import AutoModelForSequenceClassification

    fresh = not (Path(local(source)) / "adapter_config.json").is_file() and not _has_reward_head(local(source))
    model = _load(AutoModelForSequenceClassification, source, dtype, device, num_labels=1)
    if fresh:
        torch.nn.init.zeros_(model.score.weight)
    return model


def _has_reward_head(place: str) -> bool:
    config = Path(place) / "config.json"
    return config.is_file() and "SequenceClassification" in str(json.loads(config.read_text()).get("architectures"))


def _load(kind: Any, source: Source, dtype: Dtype, device: str, train: bool = False, **options: Any) -> Any:
    import torch
    from safetensors import SafetensorError

    quiet()
    place = Path(local(source))
    try:
        if (place / "adapter_config.json").is_file():
            base = json.loads((place / "adapter_config.json").read_text())["base_model_name_or_path"]
            model = with_adapter(
                kind.from_pretrained(base, dtype=getattr(torch, dtype), **options), place, dtype, train
            )
        else:
            model = kind.from_pretrained(str(place), dtype=getattr(torch, dtype), **options)
            _float32_head(model)
        model.config.pad_token_id = load_tokenizer(source).pad_token_id
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot load the model: {_first_line(error)}", str(place), "check the model folder") from None
    return model.to(device)


def with_adapter(base: Any, place: Path, dtype: str, train: bool = False) -> Any:
    """A model whose base is loaded, and the adapter that lies in the folder `place`."""
    import torch
    from peft import PeftModel

    _float32_head(base)
    model: Any = PeftModel.from_pretrained(base, str(place), is_trainable=train)
    for name, weight in model.named_parameters():
        if "lora_" in name and not train:  # peft keeps adapters in float32, which only training needs
            weight.data = weight.data.to(getattr(torch, dtype))
    return model


def _float32_head(model: Any) -> None:
    """Compute a reward in float32 whatever the body computes in: bfloat16 knows only 128 values between 1 and 2."""
    if hasattr(model, "score"):
        model.score.float().register_forward_pre_hook(_to_float32)


def _to_float32(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.float() for value in args)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Weights as safetensors and the tokenizer beside them. Of a model with an adapter, the adapter alone."""
    adapter = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, **adapter)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    config = folder / "adapter_config.json"
    if config.is_file():  # peft writes a set in the order of this process's hashes: another digest each time
        settings = json.loads(config.read_text())
        if isinstance(settings["target_modules"], list):
            settings["target_modules"].sort()
        config.write_text(json.dumps(settings, indent=2, sort_keys=True))


def lora(model: Any, rank: int, last_layers: int | None, *, reward: bool = False) -> "LoraConfig":
    """LoRA on every linear layer of the last `last_layers` blocks (None: all); a reward head is trained whole."""
    import torch
    from peft import LoraConfig

    blocks = model.config.num_hidden_layers
    heads = {"lm_head", "score", "embed_out"}
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=sorted(linear - heads),
        layers_to_transform=None if last_layers is None else list(range(max(0, blocks - last_layers), blocks)),
        # Without this task type the head is wrapped in nothing, stays random, and is never trained (FACTS: TRL 1.16).
        task_type="SEQ_CLS" if reward else "CAUSAL_LM",
        modules_to_save=["score"] if reward else None,
    )


def with_system(chat: Chat, system: str | None) -> Chat:
    """Put the system prompt first, unless the chat has its own. None leaves the model's template to itself."""
    if system is None or (chat and chat[0].role == "system"):
        return chat
    return (Message("system", system), *chat)


def answered(chat: Chat, answer: str, system: str | None) -> Chat:
    """A conversation and an answer to it: what a reward model scores."""
    return (*with_system(chat, system), Message("assistant", answer))


def plain(tokenizer: "PreTrainedTokenizerBase", chat: Chat) -> list[dict[str, str]]:
    """The chat as the libraries want it, with no text that the tokenizer would read as a control token."""
    return [{"role": message.role, "content": harmless(tokenizer, message.content)} for message in chat]


def harmless(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """The text without anything that this tokenizer would read as a control token."""
    # `all_special_tokens` knows the named ones alone; Llama 3's <|start_header_id|>, for one, has no name.
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return neutralise(text, [*tokenizer.all_special_tokens, *added])


def chat_ids(tokenizer: "PreTrainedTokenizerBase", chat: Chat, *, answer: bool) -> list[int]:
    """Token ids of a chat. answer: end with the opening of an assistant turn, for the model to go on."""
    try:
        encoded: Any = tokenizer.apply_chat_template(
            plain(tokenizer, chat), add_generation_prompt=answer, return_dict=True, tokenize=True
        )
        return list(encoded["input_ids"])
    except Exception as error:
        if type(error).__module__.split(".")[0] != "jinja2":
            raise
        raise UserError(
            f"the model's chat template refuses the conversation: {_first_line(error)}",
            tokenizer.name_or_path,
            "a template that knows no system role needs `system: null` in the config",
        ) from None
