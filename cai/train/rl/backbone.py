"""One backbone: a reward model that is an adapter reads the policy's own base weights instead of a second copy of them.

With LoRA the base weights stand still, whatever the policy learns. The reward model's network is then built without
weights, and the tensors of the policy's base are put into it: two networks over one storage, each with its adapter. The
critic is a head of the policy (critic.py) and the reference is the policy with its first adapter (ppo.py), so policy,
reference, critic and reward model hold the base once.

Departure from switching adapters inside one network, which is the usual way: nothing is switched, so nothing has to be
switched back. The policy is saved, synchronised between processes and given gradients as if there were no reward model,
and `score` (cai/models/score.py) is given a reward model like any other.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils.hub import cached_file

from cai.models.architectures import ensure_reward_head
from cai.models.loading import load_reward, load_tokenizer, with_adapter
from cai.models.references import Dtype, ModelRef, base_of, local
from cai.models.resident import INNOCENT


def load_reward_on(policy: PreTrainedModel | PeftModel | None, source: ModelRef, dtype: Dtype, device: str) -> Any:
    """The reward model, over the policy's base weights where that is possible, else with weights of its own.

    It is possible where the reward model is a LoRA adapter on the base from which the policy was loaded, and the policy
    trains none of that base and still holds it as it is on disk. The reward model then computes in the policy's dtype,
    its head in float32; `dtype` is that of weights of its own. The policy must be on its device already.
    """
    place = Path(local(source))
    if policy is None or not belongs(place, policy):
        return load_reward(source, dtype, device)
    kind: Any = AutoModelForSequenceClassification
    ensure_reward_head(policy.config)
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    with init_empty_weights(include_buffers=False):
        model = kind.from_config(config, dtype=policy.dtype)
    head = {name: weight for name, weight in model.named_parameters() if name.startswith("score.")}
    base = base_weights(policy)
    shared = {name: base.get(name) for name, _ in model.named_parameters() if name not in head}
    if not as_on_disk(shared, _place(policy.config.name_or_path), _commit(policy)):
        return load_reward(source, dtype, device)
    # The head is zero until the adapter brings its own.
    weights = shared | {name: torch.zeros_like(weight, device=policy.device) for name, weight in head.items()}
    model.load_state_dict(weights, strict=False, assign=True)
    try:
        model = with_adapter(model.requires_grad_(False), place, str(policy.dtype).removeprefix("torch."))
        model.config.pad_token_id = load_tokenizer(source).pad_token_id
    except (OSError, ValueError, SafetensorError):
        return load_reward(source, dtype, device)  # which says what is wrong with it
    return model.to(policy.device)


def belongs(reward: Path, policy: PreTrainedModel | PeftModel) -> bool:
    """Is the reward model in this folder an adapter on the base that the policy was loaded from?"""
    if not (reward / "adapter_config.json").is_file():
        return False
    settings = json.loads((reward / "adapter_config.json").read_text())
    innocent = settings["peft_type"] == "LORA" and settings.get("init_lora_weights", True) in INNOCENT
    base, place = base_of(reward), _place(policy.config.name_or_path)
    return innocent and _place(local(base)) == place and (isinstance(place, Path) or base.commit == _commit(policy))


def base_weights(policy: PreTrainedModel | PeftModel) -> dict[str, Tensor]:
    """The policy's frozen weights by the names that they have in a model without adapters."""
    network: Any = getattr(policy, "get_base_model", lambda: policy)()
    return {
        # PEFT calls a module's own weights so where an adapter, or a copy that is trained, stands beside them.
        name.replace(".base_layer", "").replace(".original_module", ""): weight.detach()
        for name, weight in network.named_parameters()
        if not weight.requires_grad
    }


def _place(base: str | None) -> Path | str:
    """A folder under its one name, or a hub id; "" where a model was loaded from nowhere."""
    base = base or ""
    return Path(base).resolve() if base and Path(base).is_dir() else base


def _commit(policy: PreTrainedModel | PeftModel) -> str | None:
    """The hub's commit that cai/models/loading.py loaded a model at; None of one from a folder, or that another
    loaded."""
    network: Any = getattr(policy, "get_base_model", lambda: policy)()
    return getattr(network, "base_commit", None)


def as_on_disk(weights: Mapping[str, Tensor | None], place: Path | str, commit: str | None = None) -> bool:
    """Does the base's folder, or the hub's in the cache at this commit, hold just these? One tensor of it is in memory
    at a time."""
    folder = place if isinstance(place, Path) else Path(cached_file(place, "config.json", revision=commit) or "").parent
    same = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as stored:
            for name in weights.keys() & set(stored.keys()):
                weight = weights[name]
                if weight is None or not torch.equal(stored.get_tensor(name).to(weight.device, weight.dtype), weight):
                    return False
                same.add(name)
    return same == weights.keys()
