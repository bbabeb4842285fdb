"""How large a model is and of what it is made: from its config.json alone, without weights and without transformers.

Memory (memory.py) and time (cai/experiment/cards.py) are reckoned from it before anything is loaded. Where no config is
at hand, the size in the model's name stands for it ("7B"), and those who print say so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cai.core.shipped import at_home
from cai.models.adapters import NAME, SETTINGS, settings_in
from cai.models.embedded import TAUGHT

UNGATED = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "opt", "bloom", "falcon", "phi", "xglm", "biogpt")
# Of models whose name says their size and no more: what most of them are made of.
VOCABULARY, HEAD, WIDENING = 128_000, 128, 3.5


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder. inner: how wide its MLP is, of a mixture of experts that of one expert; gated: of three matrices.

    active: how many experts read a token, of so many experts in all. assumed: whether it was only guessed from a name.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool = False
    gated: bool = True
    experts: int = 1
    active: int = 1
    assumed: bool = False

    @property
    def attention(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the four linear layers of a block's attention."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        return ((self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden))

    @property
    def mlp(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers of a block's MLP, of one expert."""
        up = ((self.hidden, self.inner),) * (2 if self.gated else 1)
        return (*up, (self.inner, self.hidden))

    def block(self, experts: int | None = None) -> int:
        """Weights of a block with so many of its experts (None: all)."""
        count = self.experts if experts is None else experts
        return _weights(self.attention) + count * _weights(self.mlp) + 2 * self.hidden

    @property
    def embedding(self) -> int:
        """Weights of embedding and head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.layers * self.block() + self.embedding

    @property
    def read(self) -> int:
        """Weights that a token is multiplied with: of the experts that read it, and the head."""
        return self.layers * self.block(self.active) + self.vocabulary * self.hidden

    def lora(self, rank: int, layers: int | None) -> int:
        """Weights of LoRA on every linear layer of the last `layers` blocks (cai/models/architectures.py)."""
        blocks = self.layers if layers is None else min(layers, self.layers)
        wide = sum(a + b for a, b in self.attention) + self.experts * sum(a + b for a, b in self.mlp)
        return blocks * rank * wide


# Of models that experiments/ names, so that they are planned where the hub is out of reach; from their config.json.
KNOWN = {
    "smollm2-135m": Shape(30, 576, 1536, 9, 3, 64, 49_152, tied=True),
    "qwen2.5-coder-0.5b": Shape(24, 896, 4864, 14, 2, 64, 151_936, tied=True),
    "qwen2.5-coder-1.5b": Shape(28, 1536, 8960, 12, 2, 128, 151_936, tied=True),
    "tiny-random": Shape(2, 32, 64, 2, 1, 16, 262, tied=True),
    "Qwen/Qwen2.5-7B-Instruct": Shape(28, 3584, 18_944, 28, 4, 128, 152_064),
    "allenai/OLMo-2-1124-7B-Instruct": Shape(32, 4096, 11_008, 32, 32, 128, 100_352),
}


def _weights(linear: tuple[tuple[int, int], ...]) -> int:
    return sum(inputs * outputs for inputs, outputs in linear)


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Of a config.json, by any of the names that architectures have for a number."""
    config = {**config, **(config.get("text_config") or {})}

    def first(*names: str, default: int) -> int:
        return next((int(config[name]) for name in names if isinstance(config.get(name), (int, float))), default)

    hidden = first("hidden_size", "n_embd", "d_model", default=1024)
    heads = first("num_attention_heads", "n_head", default=max(1, hidden // 64))
    experts = first("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", default=1)
    inner = first("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    if experts > 1:
        inner = first("moe_intermediate_size", default=inner)
    return Shape(
        layers=first("num_hidden_layers", "n_layer", default=12),
        hidden=hidden,
        inner=inner,
        heads=heads,
        kv_heads=first("num_key_value_heads", default=heads),
        head=first("head_dim", default=hidden // heads),
        vocabulary=first("vocab_size", default=50_000),
        tied=bool(config.get("tie_word_embeddings", config.get("model_type") in ("gpt2", "opt"))),
        gated=config.get("model_type") not in UNGATED,
        experts=max(1, experts),
        active=first("num_experts_per_tok", "moe_top_k", default=1) if experts > 1 else 1,
    )


@cache
def shape_named(model: str) -> Shape | None:
    """Of what `model:` names; None where neither a config nor the name says it. Nothing is fetched."""
    name = base_named(model)
    config = config_of(name)
    if config is not None:
        return shape_of(config)
    size = size_named(name)
    return KNOWN.get(name) or (_of_size(size) if size else None)


def base_named(model: str) -> str:
    """The model that an adapter in a folder was put on; of any other model, its own name."""
    settings = (TAUGHT.get(model) or at_home(model)) / SETTINGS
    return settings_in(settings).get(NAME) or model if model and settings.is_file() else model


def config_of(model: str) -> Mapping[str, Any] | None:
    """config.json of a folder, or of the hub's local cache."""
    file = at_home(model) / "config.json"
    if model and file.is_file():
        return settings_in(file)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, "config.json")
        if isinstance(cached, str):
            return settings_in(Path(cached))
    return None


def size_named(model: str) -> float | None:
    """The "7B" or "135m" in a model's name, in weights; None where there is none."""
    named = re.search(r"(\d+(?:\.\d+)?)\s*([BM])\b", model.rpartition("/")[2], re.IGNORECASE)
    return float(named[1]) * (1e9 if named[2].upper() == "B" else 1e6) if named else None


def _of_size(size: float) -> Shape:
    """A dense decoder of about so many weights, as most are made: 128 times as wide as it is deep, heads of 128, and
    eight for keys and values (or fewer)."""

    def of_depth(layers: int) -> Shape:
        hidden = max(HEAD, 128 * layers)
        heads = hidden // HEAD
        return Shape(
            layers, hidden, round(WIDENING * hidden), heads, min(8, heads), HEAD, VOCABULARY,
            tied=size < 3e9, assumed=True,
        )  # fmt: skip

    return min((of_depth(layers) for layers in range(1, 200)), key=lambda shape: abs(shape.parameters - size))
