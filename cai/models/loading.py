"""How weights and tokenizers are loaded and saved, on which device and in which precision.

The only place that knows peft and safetensors. What a name means is in references.py; embedded models are made in
embedded.py, how a chat becomes token ids is in chat.py, and what architectures have of their own in architectures.py.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.core.errors import UserError
from cai.core.progress import quiet
from cai.core.store import digest_file, digest_of
from cai.models.adapters import BASE, SETTINGS, adapter_settings, check_settings, is_adapter, note_base
from cai.models.architectures import HEAD, check_reads_on, ensure_reward_head, read_at_the_last_token
from cai.models.chat_templates import settle, written_by
from cai.models.references import (
    NO_CODE,
    SAFE,
    Dtype,
    ModelRef,
    _find_plain,
    _template_key,
    base_of,
    beneath,
    local,
    nested,
)
from cai.models.slim.folder import ranks_to_load

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CARD = "create_or_update_model_card"  # PEFT's


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
    if device.startswith("cuda"):
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


def load_tokenizer(ref: ModelRef) -> "PreTrainedTokenizerBase":
    """The tokenizer, with one chat template and a token to pad with that ends no turn. An adapter without one has its
    base's. Raises UserError."""
    from transformers import AutoTokenizer

    quiet()
    place = Path(local(ref))
    if is_adapter(place) and not list(place.glob("*token*")):
        return load_tokenizer(replace(base_of(place), template=ref.template))
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(place), revision=ref.commit, **NO_CODE)
    except (OSError, ValueError) as error:
        problem, remedy = f"cannot load the tokenizer: {_first_line(error)}", "check the model folder"
        if place.is_dir() and not any(path for name in TOKENS for path in place.glob(name)):
            problem = "this folder has no tokenizer"
            remedy = f"save it there: tokenizer.save_pretrained({str(place)!r})"
        raise UserError(problem, str(place), remedy) from None
    except (TypeError, AttributeError, KeyError):
        check_settings(place)
        raise
    settle(tokenizer, ref.template, ref.name)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = _spare_token(tokenizer)
    return tokenizer


_TOKENIZERS: dict[str, Any] = {}  # digest of what they were made from -> the last few
TOKENS = ("*token*", "*.model", "vocab*", "merges*")  # files that make one
NO_TOKENS = (".safetensors", ".bin", ".pt", ".gguf", ".md")  # files that no tokenizer reads


def shared_tokenizer(ref: ModelRef) -> "PreTrainedTokenizerBase":
    """`load_tokenizer`, and one for all whose files and template are alike: what is trained carries its base's, and to
    read SmolLM2's takes longer (0.18 s) than to read its weights. To read with alone: whoever changes or saves a
    tokenizer loads one of his own."""
    place = Path(local(ref))
    if not place.is_dir():
        made_of: Any = [ref.place, ref.commit]
    elif is_adapter(place) and not list(place.glob("*token*")):
        return shared_tokenizer(replace(base_of(place), template=ref.template))
    else:
        files = (path for folder in (place, place / "additional_chat_templates") for path in sorted(folder.glob("*")))
        made_of = [
            [path.name, _digest_at(path, path.stat().st_mtime_ns, path.stat().st_size)]
            for path in files
            if path.is_file() and path.suffix not in NO_TOKENS and path.name not in (SETTINGS, BASE)
        ]
    key = digest_of([made_of, None if ref.template is None else _template_key(ref.template)])
    if key not in _TOKENIZERS:
        while len(_TOKENIZERS) > 4:
            _TOKENIZERS.pop(next(iter(_TOKENIZERS)))
        _TOKENIZERS[key] = load_tokenizer(ref)
    return _TOKENIZERS[key]


@lru_cache(maxsize=1024)
def _digest_at(path: Path, time: int, size: int) -> str:
    return digest_file(path)


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


def load_causal(ref: ModelRef, dtype: Dtype, device: str, *, train: bool = False) -> "PreTrainedModel":
    """A language model. An adapter comes on the base that it was trained on; train: its weights go on learning."""
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, ref, dtype, device, train)


def load_reward(ref: ModelRef, dtype: Dtype, device: str) -> "PreTrainedModel":
    """A reward model: one scalar for a sequence. A fresh one has a head of zeros: it gives every text the reward 0."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    place = Path(local(ref))
    adapter = is_adapter(place)
    base = beneath(ref)
    if adapter and adapter_settings(place)["task_type"] != "SEQ_CLS":
        raise UserError("this adapter is of a language model: it has no head for rewards", str(place), "give another")
    with loading_from(place):
        config = AutoConfig.from_pretrained(local(base), revision=base.commit, **NO_CODE)
        ensure_reward_head(config)
    fresh = not adapter and "SequenceClassification" not in str(config.architectures)
    model = _load(AutoModelForSequenceClassification, ref, dtype, device, num_labels=1)
    if fresh:
        torch.nn.init.zeros_(model.score.weight)
    return model


def _load(kind: Any, ref: ModelRef, dtype: Dtype, device: str, train: bool = False, **options: Any) -> Any:
    import torch
    from transformers import AutoConfig

    from cai.models.slim.low_rank import RANKS, load_factorised

    quiet()
    place = Path(local(ref))
    adapter = is_adapter(place)
    base = beneath(ref)
    with loading_from(place):
        check_reads_on(AutoConfig.from_pretrained(local(base), revision=base.commit, **NO_CODE), base.name)
        ranks = ranks_to_load(Path(local(base)), device, causal=not options)
        if ranks:
            model = load_factorised(kind, Path(local(base)), ranks, getattr(torch, dtype))
        else:
            model = kind.from_pretrained(
                local(base), dtype=getattr(torch, dtype), revision=base.commit, **SAFE, **options
            )
            if hasattr(model.config, RANKS):  # its layers were made at random, for none has their weights
                problem = "this model is factorised, and what says which of its layers are is not beside its weights"
                raise UserError(problem, base.name, "get the whole folder, with its slim.json, and name that")
        # PEFT writes this into an adapter: a name means the same on another machine, a place does not.
        model.name_or_path = base.name
        if getattr(model, "_hf_peft_config_loaded", False):  # transformers has put an adapter on some base by itself
            if adapter:
                raise nested(base.name, place)
            raise UserError("this is an adapter, and its base is not known", base.name, "run the same command again")
        in_folder = base.place and str(Path(base.name).expanduser()) == base.place
        # What `save` writes beside that name; transformers keeps no record of the commit.
        model.base_commit, model.base_digest = base.commit, _find_plain(base.name).digest if in_folder else ""
        model = with_adapter(model, place, dtype, train) if adapter else _ready(model)
        pad_as(model, ref)
    return model.to(device)


@contextmanager
def loading_from(place: Path) -> Iterator[None]:
    """Within: what libraries raise about the files in this folder becomes a UserError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot load the model: {_first_line(error)}", str(place), "check the model folder") from None
    except (TypeError, AttributeError, KeyError):
        check_settings(place)
        raise


def pad_as(model: Any, ref: ModelRef) -> None:
    """Let the model pad with the token with which its tokenizer does."""
    model.config.get_text_config().pad_token_id = shared_tokenizer(ref).pad_token_id


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
    Of several processes all call, which a model in parts needs (sharded.py), and the first writes.
    """
    from cai.models.sharded import whole_state, writes

    state = whole_state(model)
    if not writes():
        return
    adapter = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
    with without_card(model):
        model.save_pretrained(folder, state_dict=state, **adapter)
    _save_tokenizer(tokenizer, folder)
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


@contextmanager
def without_card(model: Any) -> Iterator[None]:
    """Within: PEFT writes no empty model card beside an adapter, which takes longer than a small adapter's weights."""
    if hasattr(model, CARD):
        vars(model)[CARD] = lambda folder: None
    try:
        yield
    finally:
        vars(model).pop(CARD, None)


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Without a padding token that is an ordinary one (`_spare_token`): read back, it would be cut out of texts."""
    pad = tokenizer.pad_token
    ordinary = tokenizer.pad_token_id not in tokenizer.added_tokens_decoder
    tokenizer.pad_token = None if ordinary else pad
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.pad_token = pad
