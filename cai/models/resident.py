"""One base in memory, whatever is read on it: to switch adapters is to load a small file, never the base again.

Policies of arms x seeds, their reward models and a taught judge are LoRA adapters on one base. The base's tensors are
loaded once; over them stand networks of modules:

    plain      the language model itself, and the same with a head for rewards in place of that for words
    adapted    one for each form of adapter (its task, rank, layers, ...), into which the adapter's tensors are copied

Departures from PEFT's own way, several adapters in one network: the reward model has another head than the language
model, so a network for each is needed anyway; and tensors that are copied into their place build no modules, leave none
to be collected (SmolLM2-135M, LoRA on six layers: 0.03 s a switch, 0.16 s to put a second adapter on, 0.5 s to collect
one) and keep their addresses. So what was handed out is right until the next model is asked for, and not after.

An adapter that is more than LoRA beside an unchanged base (`stands_beside`), whole weights with a head for rewards, and
an architecture whose head is not over the same tensors are loaded by themselves, as ever.
"""

import copy
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cai.core.store import digest_of
from cai.models.adapters import NAME, adapter_settings, is_adapter
from cai.models.architectures import HEAD, ensure_reward_head
from cai.models.loading import load_causal, load_reward, loading_from, pad_as, with_adapter
from cai.models.references import NO_CODE, Dtype, ModelRef, base_of, local

Task = Literal["CAUSAL_LM", "SEQ_CLS"]  # as PEFT calls them

# LoRA that starts in one of these ways leaves the base as it was; others (PiSSA, OLoRA) take a part out of it.
INNOCENT = (True, False, "gaussian")
# Settings by which an adapter changes more than it adds, or changes which layers there are.
INVASIVE = ("layer_replication", "target_parameters", "trainable_token_indices")


def stands_beside(settings: Mapping[str, Any], task: Task) -> bool:
    """Whether an adapter of these settings leaves every tensor of its base as it is, and was trained for this task."""
    return (
        settings["peft_type"] == "LORA"
        and settings.get("task_type") == task
        and settings.get("init_lora_weights", True) in INNOCENT
        and settings.get("bias", "none") == "none"
        and not any(settings.get(name) for name in INVASIVE)
    )


class Resident:
    """The models of one process that are read and not trained. What it gives is in eval mode, on the device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._base: tuple[Any, ...] = ()  # which base, and in which dtype
        self._plain: dict[Task, Any] = {}
        self._adapted: dict[str, tuple[Any, dict[str, Any]]] = {}  # form -> network, shapes of the adapter's tensors
        self._probed: dict[tuple[str, Dtype, Task], dict[str, Any]] = {}

    def causal(self, ref: ModelRef, dtype: Dtype) -> Any:
        """The language model, as `load_causal` gives it; valid until another is asked for. Raises UserError."""
        return self._network(ref, dtype, "CAUSAL_LM")

    def reward(self, ref: ModelRef, dtype: Dtype) -> Any:
        """The reward model, as `load_reward` gives it; valid until another is asked for. Raises UserError."""
        return self._network(ref, dtype, "SEQ_CLS")

    def release(self) -> None:
        """Let go of base and networks, before something else needs the room."""
        self._base = ()
        self._plain.clear()
        self._adapted.clear()
        gc.collect()
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()  # so that another process may have the room: a server of this run

    def _network(self, ref: ModelRef, dtype: Dtype, task: Task) -> Any:
        place = Path(local(ref))
        settings = adapter_settings(place) if is_adapter(place) else None
        network = None
        if settings is None:
            # Whole weights with a head for rewards are nobody else's base.
            network = self._over(ref, dtype, task) if task == "CAUSAL_LM" else None
        elif stands_beside(settings, task) and self._over(base_of(place), dtype, task) is not None:
            network = self._adapt(place, settings, dtype, task)
        if network is None:
            self.release()
            return (load_causal if task == "CAUSAL_LM" else load_reward)(ref, dtype, self.device).eval()
        pad_as(network, ref)
        # What was tried on it before (`cai.models.architectures.probed`), under these weights and no others.
        inner: Any = getattr(network, "get_base_model", lambda: network)()
        inner.probed = self._probed.setdefault((ref.digest, dtype, task), {})
        return network

    # 1. The base ------------------------------------------------------------------------------------------------------

    def _over(self, base: ModelRef, dtype: Dtype, task: Task) -> Any:
        """The network over the base's tensors, which are loaded where they are not; None where there can be none."""
        wanted = (*_stamp(base), dtype)
        if self._base != wanted:
            self.release()
            if task == "SEQ_CLS" and not _is_causal(base):
                return None
            self._plain["CAUSAL_LM"] = load_causal(base, dtype, self.device).eval()
            self._base = wanted
        if task not in self._plain:
            self._plain[task] = with_reward_head(self._plain["CAUSAL_LM"])
        return self._plain[task]

    # 2. The adapters --------------------------------------------------------------------------------------------------

    def _adapt(self, place: Path, settings: Mapping[str, Any], dtype: Dtype, task: Task) -> Any:
        """The network of this form of adapter, with this adapter's tensors in it."""
        from peft import load_peft_weights, set_peft_model_state_dict

        form = digest_of([task, {**settings, NAME: None, "revision": None, "inference_mode": None}])
        with loading_from(place):
            weights = load_peft_weights(str(place), self.device)
            shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
            network, before = self._adapted.get(form, (None, {}))
            if shapes == before:  # all that the last one brought is overwritten
                set_peft_model_state_dict(network, weights)
                return network
            network = with_adapter(_twin(self._plain[task]), place, dtype).to(self.device).eval()
        self._adapted[form] = network, shapes
        return network


def _stamp(base: ModelRef) -> tuple[Any, ...]:
    """Which weights `load_causal` would read: the files as they are now, or a hub's commit."""
    folder = Path(local(base))
    if not folder.is_dir():
        return base.place, base.commit
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return folder.resolve(), *((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _is_causal(base: ModelRef) -> bool:
    """Whether the checkpoint is a language model's: of a classifier's, there is no head for words to load."""
    from transformers import AutoConfig

    place = local(base)
    with loading_from(Path(place)):
        return "SequenceClassification" not in str(
            AutoConfig.from_pretrained(place, revision=base.commit, **NO_CODE).architectures
        )


def _tensors(network: Any) -> dict[str, Any]:
    return dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))


def _twin(network: Any) -> Any:
    """Modules of its own over the same tensors: what PEFT puts between the modules of one is not in the other."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in _tensors(network).values()})


def with_reward_head(causal: Any) -> Any:
    """A network over the language model's tensors, with a head of zeros for rewards. None where it is not over those
    tensors alone."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForSequenceClassification

    kind: Any = AutoModelForSequenceClassification
    config = copy.deepcopy(causal.config)
    ensure_reward_head(config)
    config.num_labels = 1
    with init_empty_weights():
        network = kind.from_config(config, dtype=causal.dtype).eval()
    known = _tensors(causal)
    for name, tensor in _tensors(network).items():
        holder, _, leaf = name.rpartition(".")
        module = network.get_submodule(holder)
        if holder == HEAD:
            fresh = torch.nn.Parameter(torch.zeros(tensor.shape, dtype=tensor.dtype, device=causal.device))
        elif name in known and known[name].shape == tensor.shape:
            fresh = known[name]
        else:
            return None
        (module._parameters if leaf in module._parameters else module._buffers)[leaf] = fresh
    for name in ("name_or_path", "base_commit", "base_digest"):  # what loading.py notes of a base
        setattr(network, name, getattr(causal, name))
    return network
