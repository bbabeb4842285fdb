"""What architectures have of their own: how long a row they read, where LoRA goes, how wide the head's input is, and a
head for rewards where transformers has none.

Every question is put to the model or its config, not to a list of names, so that it also has an answer for an
architecture that came out yesterday.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cai.core.errors import UserError

if TYPE_CHECKING:
    from peft import LoraConfig

UNLIMITED = 2**31
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "context_length")  # how configs call their limit
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
HEAD = "score"  # what the reward head is called


# 1. Length -----------------------------------------------------------------------------------------------------------


def length_limit(config: Any) -> int:
    """How many tokens a row may have and still be read as a shorter one is; UNLIMITED where there is no such limit.

    A model whose rotary positions switch to other factors beyond a length (long-RoPE) reads every token of a longer row
    otherwise, and with it whatever shares its batch: there the switch is the limit. A log-probability then never
    depends on the company in which it was computed.
    """
    text = config.get_text_config()
    limits = [getattr(text, name, None) for name in POSITIONS]
    limits += [_switch(text, rope) for rope in _ropes(getattr(text, "rope_parameters", None))]
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=UNLIMITED)


def _ropes(rope: Any) -> Iterator[Mapping[str, Any]]:
    """The parameters of rotary positions; some configs have them for each kind of layer."""
    if isinstance(rope, Mapping):
        if "rope_type" in rope or "type" in rope:
            yield rope
        for inner in rope.values():
            yield from _ropes(inner)


def _switch(text: Any, rope: Mapping[str, Any]) -> int | None:
    if rope.get("rope_type", rope.get("type")) != "longrope":
        return None
    return rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)


def attention_window(config: Any) -> int:
    """How many tokens back the model sees: a large number where there is no limit, 0 where that is not how it reads."""
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        return 0
    if kinds == {"full_attention"}:
        return UNLIMITED
    if "local" in (getattr(config, "attention_layers", None) or ()):  # GPT-Neo's name for it
        return config.window_size
    return getattr(config, "sliding_window", None) or UNLIMITED


def check_reads_on(config: Any, name: str) -> None:
    """Is this a model that reads a text and goes on with it? Raises UserError.

    transformers makes one of BERT too, which sees what comes after a word, and of BART, without what reads for it.
    """
    trained_as = [str(kind) for kind in getattr(config, "architectures", None) or ()]
    if getattr(config, "is_encoder_decoder", False):
        problem = f"this model ({config.model_type}) has one part that reads and another that writes"
    elif any("MaskedLM" in kind or "ForPreTraining" in kind for kind in trained_as):
        problem = f"this model ({config.model_type}) was trained to fill gaps, and sees what comes after them"
    else:
        return
    raise UserError(problem, name, "give a model that goes on with a text (a causal language model)")


def probed(model: Any) -> dict[str, Any]:
    """What was tried on this model, under the weights that it has now: whoever gives it others gives it another."""
    network: Any = getattr(model, "get_base_model", lambda: model)()
    if not hasattr(network, "probed"):
        network.probed = {}
    return network.probed


# 2. LoRA -------------------------------------------------------------------------------------------------------------


def lora(model: Any, rank: int, last_layers: int | None, *, reward: bool = False) -> "LoraConfig":
    """LoRA on every linear layer of the last `last_layers` blocks (None: all); a reward head is trained whole.

    Left out are heads, the routers of experts (whose few outputs choose: a low rank is no saving there, and a moved
    router sends tokens elsewhere), and what does not belong to the language model (a vision tower).
    """
    from peft import LoraConfig

    blocks = model.config.get_text_config().num_hidden_layers
    targets, others = lora_targets(model)
    names = {name.rpartition(".")[2] for name in targets}
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=sorted(names),
        # Those that bear the name of a target and are none.
        exclude_modules=sorted(name for name in others if name.rpartition(".")[2] in names) or None,
        layers_to_transform=None if last_layers is None else list(range(max(0, blocks - last_layers), blocks)),
        # Without this task type the head is wrapped in nothing, stays random, and is never trained (TRL 1.16).
        task_type="SEQ_CLS" if reward else "CAUSAL_LM",
        modules_to_save=[HEAD] if reward else None,
    )


def lora_targets(model: Any) -> tuple[list[str], list[str]]:
    """(names of the layers that LoRA is put on, names of the other linear layers). Raises UserError for none."""
    import torch
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    linear = {name: module for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))}
    within = _language_model(model)
    targets = [
        name
        for name, layer in linear.items()
        if id(layer) in within and not _decides(layer, model.config) and _allowed(name, model.config)
    ]
    if not targets:
        kind = model.config.model_type
        raise UserError(f"LoRA finds no linear layer in this {kind} model", "policy.training", "set it to full")
    return targets, [name for name in linear if name not in set(targets)]


def _language_model(model: Any) -> set[int]:
    """Ids of the modules between embeddings and head."""
    base = model.base_model
    decoder = getattr(base, "language_model", base)
    head = model.get_output_embeddings() if hasattr(model, "lm_head") or not hasattr(model, HEAD) else None
    outside = {id(head), *(id(getattr(model, name, None)) for name in (HEAD, "classifier", "lm_head"))}
    return {id(module) for module in decoder.modules()} - outside


def _decides(layer: Any, config: Any) -> bool:
    """Whether a layer only chooses among experts, or says yes or no to one."""
    text = config.get_text_config()
    experts = {getattr(text, name, None) for name in EXPERTS}
    return getattr(layer, "out_features", None) in {1, *(number for number in experts if isinstance(number, int))}


def _allowed(name: str, config: Any) -> bool:
    """Whether peft puts LoRA there: state-space models compute with some weights of their layers themselves."""
    state_space = config.model_type in ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
    return not (state_space and name.rpartition(".")[2] in ("out_proj", "conv1d"))


# 3. Heads ------------------------------------------------------------------------------------------------------------


def head_width(model: Any) -> int:
    """How wide the states are that the head reads: not always the config's hidden size (OPT-350m's are projected)."""
    return model.get_output_embeddings().weight.shape[-1]


def ensure_reward_head(config: Any) -> None:
    """See to it that AutoModelForSequenceClassification knows this architecture: where transformers has none, a linear
    head without bias on the base model's last hidden states, as its own are.

    Raises UserError where there is no language model to put it on.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if type(config) in AutoModelForSequenceClassification._model_mapping:
        return
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise UserError(f"{config.model_type} is no language model", "model", "give another model")
    causal: Any = AutoModelForCausalLM._model_mapping[type(config)]
    # exist_ok: else transformers passes over its own configs without a word.
    AutoModelForSequenceClassification.register(type(config), _with_reward_head(causal), exist_ok=True)


def _with_reward_head(causal: Any) -> Any:
    """A sequence-classification class beside a causal one. Its weights bear the causal one's names."""
    import torch
    from transformers import AutoModel
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    pretrained: Any = next(base for base in causal.__mro__ if base.__name__.endswith("PreTrainedModel"))

    class Scored(pretrained):
        base_model_prefix = causal.base_model_prefix
        config_class = causal.config_class

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.num_labels = config.num_labels
            setattr(self, self.base_model_prefix, AutoModel.from_config(config))
            self.score = torch.nn.Linear(config.get_text_config().hidden_size, self.num_labels, bias=False)
            self.post_init()

        def forward(self, input_ids: Any = None, attention_mask: Any = None, **_: Any) -> Any:
            """The logits at the last token that the mask shows."""
            base = getattr(self, self.base_model_prefix)
            states_BTD = base(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
            mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            last_B = (mask_BT * torch.arange(mask_BT.shape[-1], device=mask_BT.device)).argmax(-1)
            logits_BTL = self.score(states_BTD)
            logits_BL = logits_BTL[torch.arange(len(last_B), device=last_B.device), last_B]
            return SequenceClassifierOutputWithPast(logits=logits_BL)  # pyrefly: ignore

    Scored.__name__ = f"{causal.__name__.partition('For')[0].removesuffix('LMHeadModel')}ForSequenceClassification"
    return Scored


def read_at_the_last_token(model: Any) -> Any:
    """The same sequence-classification model, whose forward reads the score at the last token that the mask shows.

    transformers' own reads it at the last one that is not the padding token, which is another where a text ends with
    that ("!" pads for some tokenizers). There the masked places are filled with a token that no row ends with.
    """
    inner = model.forward

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        ids_BT, mask_BT = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if ids_BT is None or mask_BT is None or mask_BT.dim() != 2:
            return inner(*args, **kwargs)
        config = model.config.get_text_config()
        last_B = (mask_BT * mask_BT.cumsum(1)).argmax(-1)
        ends = set(ids_BT.gather(1, last_B[:, None]).flatten().tolist())
        if config.pad_token_id not in ends:
            return inner(*args, **kwargs)
        own, filler = config.pad_token_id, next(token for token in range(config.vocab_size) if token not in ends)
        config.pad_token_id = filler
        try:
            return inner(*args, **kwargs | {"input_ids": ids_BT.masked_fill(mask_BT == 0, filler)})
        finally:
            config.pad_token_id = own

    model.forward = forward
    return model
