"""The model that trainings start from: a language model, or an adapter that goes on learning."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.config.sections import Policy
from cai.core.errors import UserError
from cai.models.adapters import adapter_settings, is_adapter
from cai.models.architectures import HEAD, lora
from cai.models.loading import load_causal, load_reward, load_tokenizer
from cai.models.references import Dtype, ModelRef, base_of, local
from cai.models.slim.state import check_trainable
from cai.train.trainable import Trainable

if TYPE_CHECKING:
    from peft import LoraConfig


def load_to_train(start: Trainable, device: str, *, reward: bool = False) -> tuple[Any, "LoraConfig | None"]:
    """(a start model, the adapter that a trainer is to put on it): with `training: full`, or where it has one, None.

    A start model that is an adapter goes on learning as that adapter; with `training: full` it is merged into its base
    first. reward: with a head for rewards that is zero. Raises UserError (`check_adapter`).
    """
    source, policy, dtype = start.ref, start.policy, start.learning_dtype
    whole = policy.training == "full"
    check_trainable(source)
    if not is_adapter(Path(local(source))):
        fresh: Any = (load_reward if reward else load_causal)(source, dtype, device)
        return fresh, None if whole else lora(fresh, policy.lora_rank, policy.lora_layers, reward=reward)
    check_adapter(source, policy)
    network: Any = _with_head(source, dtype, device) if reward else load_causal(source, dtype, device, train=True)
    return network.merge_and_unload().requires_grad_(True) if whole else network, None


def _with_head(source: ModelRef, dtype: Dtype, device: str) -> Any:
    """A language model's adapter, ready to learn, on its base with a head for rewards in place of that for words."""
    from peft import LoraConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

    place = Path(local(source))
    network: Any = load_reward(base_of(place), dtype, device)
    config: Any = LoraConfig.from_pretrained(str(place))
    config.task_type, config.inference_mode = "SEQ_CLS", False
    others = [name for name in config.modules_to_save or () if name != "lm_head"]
    config.modules_to_save = [*others, HEAD]
    network = get_peft_model(network, config)
    weights = {name: weight for name, weight in load_peft_weights(str(place), device).items() if "lm_head" not in name}
    weights[f"base_model.model.{HEAD}.weight"] = network.get_parameter(
        f"base_model.model.{HEAD}.original_module.weight"
    )
    left = set_peft_model_state_dict(network, weights).unexpected_keys
    assert not left, f"the adapter has weights that its base has no place for: {left[:3]}"
    network.config.get_text_config().pad_token_id = load_tokenizer(source).pad_token_id
    return network


def check_adapter(source: ModelRef, policy: Policy) -> None:
    """Can a policy go on from this adapter as the config says? Raises UserError, at the key at fault."""
    settings = adapter_settings(Path(local(source)))
    kind, task, rank = settings["peft_type"], settings.get("task_type"), settings.get("r")
    if kind != "LORA" or task not in (None, "CAUSAL_LM"):
        what = f"an adapter of kind {kind}" if kind != "LORA" else f"an adapter for another task ({task})"
        raise UserError(
            f'"{source.name}" is {what}, and a policy goes on from a language model or from its LoRA',
            "policy.model",
            "merge it into its base model and give the folder of that",
        )
    if policy.training == "full":
        return
    if policy.lora_rank != rank:
        problem = f'"{source.name}" is an adapter of rank {rank}, and goes on learning as it is'
        raise UserError(problem, "policy.lora_rank", f"write lora_rank: {rank}, or training: full, which merges it")
    if policy.lora_layers is not None and len(settings.get("layers_to_transform") or ()) != policy.lora_layers:
        problem = f'"{source.name}" is an adapter, and goes on learning on the layers that it has'
        raise UserError(problem, "policy.lora_layers", "leave it out")
