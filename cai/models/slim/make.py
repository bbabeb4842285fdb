"""A slimmed model: load, change, save, load again, compare.

    pruned       zeros in matrices of the same shape: the same size on the disk, and dense kernels take as long over a 0
    factorised   two thin matrices a layer: fewer weights, where the rank is low enough
    quantised    fewer bits a weight

Nothing is taken on trust: what was saved is loaded again as anybody would load it, and must say what the model in
memory says. A save that does not is removed (nf4 saved after it had run on a CPU comes back as noise).
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cai.config.slim import Slim
from cai.core.errors import UserError
from cai.core.progress import progress
from cai.core.records import Chat, Message
from cai.core.store import canonical
from cai.models.chat import chat_ids
from cai.models.loading import load_causal, load_tokenizer, save
from cai.models.references import NO_CODE, Dtype, ModelRef, beneath, local
from cai.models.slim.blocks import LayerInputs, block_by_block, blocks_of
from cai.models.slim.folder import write_note
from cai.models.slim.low_rank import RANKS, directions, factorised, rank_for, replace_layer, saves
from cai.models.slim.masks import magnitude, wanda
from cai.models.slim.quantised import BY_LIBRARY, quantise
from cai.models.slim.sparse_gpt import sparse_gpt
from cai.models.slim.state import check_slimming

# The same operations on the same numbers: they differ by nothing, or by how a library orders sums.
TOLERANCE = 1e-3  # nats, of any token's log-probability
COMPARED = 4  # texts
TEXT = Message("user", "The quick brown fox jumps over the lazy dog. Which answer is better, and why?")


@dataclass(slots=True)
class Changed:
    """layers, weights: how many linear layers were changed, and the weights of them before. zeros: weights that are 0
    now. ranks: layer -> rank. left: layers that could not be made smaller, and stay as they are."""

    layers: int = 0
    weights: int = 0
    zeros: int = 0
    ranks: dict[str, int] | None = None
    left: int = 0


def slim(model: ModelRef, how: Slim, texts: Sequence[Chat], device: str, out: Path) -> float:
    """Leaves a folder at `out` that loads wherever a model's folder does. Returns the largest difference between any
    log-probability of the model in memory and of what was loaded again, in nats.

    texts: conversations, of which those methods that look at inputs read `how.texts`. An adapter is merged into its
    base first. Raises UserError for what `check_slimming` refuses, and for a save that does not come back.
    """
    check_slimming(model, how, device)
    tokenizer, stored = load_tokenizer(model), stored_dtype(model)
    rows = [row for chat in texts if len(row := chat_ids(tokenizer, chat, answer=False)[: how.max_length]) > 1]
    if how.reads_texts and not rows:
        raise UserError(f"{how.how} looks at what layers are given for texts, and there is none", "slim", "give texts")
    network = whole(model, device)
    changed = Changed()
    if how.how in BY_LIBRARY:
        for _, layers in blocks_of(network):
            changed.layers += len(layers)
            changed.weights += sum(layer.weight.numel() for layer in layers.values())
        with tempfile.TemporaryDirectory(dir=out.parent) as aside:
            save(in_dtype(network, stored), tokenizer, Path(aside) / "dense")
            network = quantise(Path(aside) / "dense", how.how, stored, device)
        compared_in: Any = str(stored).removeprefix("torch.")
    else:
        changed = change(network, how, rows[: how.texts])
        in_dtype(network, stored)
        compared_in = "float32"
        if changed.ranks:
            setattr(network.config, RANKS, changed.ranks)
    save(network, tokenizer, out)
    note = {"how": canonical(how), "of": model.digest, "ranks": changed.ranks or {}, "layers": changed.layers}
    note |= {"left": changed.left, "weights": changed.weights, "zeros": changed.zeros}
    write_note(out, note)
    if compared_in == "float32":
        network = in_dtype(network, torch.float32)
    own = chat_ids(tokenizer, (TEXT,), answer=False)
    apart = check_saved(network, out, compared_in, device, [own, *rows[: COMPARED - 1]])
    write_note(out, note | {"reloaded": round(apart, 6)})
    return apart


def whole(model: ModelRef, device: str) -> Any:
    """The weights in float32 where they are changed on a CPU, an adapter merged into its base."""
    network: Any = load_causal(model, "float32", device)
    if hasattr(network, "merge_and_unload"):
        network = network.merge_and_unload()
    return network.eval()


def stored_dtype(model: ModelRef) -> Any:
    """What the weights are stored in, which what is made of them keeps; float32 where nobody says."""
    from transformers import AutoConfig

    base = beneath(model)
    return AutoConfig.from_pretrained(local(base), revision=base.commit, **NO_CODE).dtype or torch.float32


def in_dtype(network: Any, dtype: Any) -> Any:
    """The same network with its parameters in this dtype; buffers (of rotary positions) stay what they are."""
    for weight in network.parameters():
        weight.data = weight.data.to(dtype)
    network.config.dtype = dtype
    return network


# 1. What is changed ---------------------------------------------------------------------------------------------------


def change(network: Any, how: Slim, rows: Sequence[list[int]]) -> Changed:
    """Prunes or factorises every linear layer of the blocks, in place. Raises UserError for one that cannot be."""
    changed = Changed(ranks={})
    blocks = blocks_of(network)

    def of_block(layers: Mapping[str, nn.Linear], inputs: Mapping[str, LayerInputs | None]) -> None:
        for name, layer in layers.items():
            given = inputs.get(name)
            if given is None and how.reads_texts:  # an expert that no text went to
                changed.left += 1
            elif how.how == "low-rank":
                _factorise(network, name, layer, given, how, changed)
            else:
                _prune(name, layer, given, how, changed)

    with progress(f"slim: {how.name}", len(blocks)) as step, torch.no_grad():
        if how.reads_texts:
            block_by_block(network, rows, of_block, gram=how.how in ("low-rank", "sparsegpt"), progress=step)
        else:
            for _, layers in blocks:
                of_block(layers, dict.fromkeys(layers))
                step(1)
    return changed


def _prune(name: str, layer: nn.Linear, given: LayerInputs | None, how: Slim, changed: Changed) -> None:
    weight: Tensor = layer.weight.data
    try:
        if given is None:
            weight.mul_(magnitude(weight, how.sparsity))
        elif given.gram is None:
            weight.mul_(wanda(weight, given.norms, how.sparsity))
        else:
            weight.copy_(sparse_gpt(weight, given.gram, how.sparsity))
    except ValueError as error:
        raise UserError(f"{name}: {error}", "slim.sparsity", "write a share, such as 0.5") from None
    changed.layers += 1
    changed.weights += weight.numel()
    changed.zeros += int((weight == 0).sum())


def _factorise(
    network: Any, name: str, layer: nn.Linear, given: LayerInputs | None, how: Slim, changed: Changed
) -> None:
    assert given is not None and given.gram is not None and changed.ranks is not None
    values, vectors = directions(layer.weight.data, given.gram)
    rank = min(how.rank or rank_for(values, how.energy), len(values))
    if not saves(layer.in_features, layer.out_features, rank):
        changed.left += 1
        return
    replace_layer(network, name, factorised(layer, vectors, rank))
    changed.ranks[name] = rank
    changed.layers += 1
    changed.weights += layer.weight.numel()


# 2. Whether it comes back ---------------------------------------------------------------------------------------------


def check_saved(network: Any, folder: Path, dtype: Dtype, device: str, rows: Sequence[list[int]]) -> float:
    """Loads the folder as anybody would, and compares every log-probability of these texts with the model in memory.

    Raises UserError, and removes the folder, where they differ by more than TOLERANCE or are no numbers.
    """
    try:
        again = load_causal(ModelRef("what was saved", str(folder), ""), dtype, device).eval()
        apart = max(_apart(network, again, row) for row in rows)
    except UserError as error:
        shutil.rmtree(folder)
        raise UserError(
            f"what was saved cannot be loaded: {error.problem}", str(folder), "slim it another way"
        ) from None
    if not apart <= TOLERANCE:  # nor is a NaN
        shutil.rmtree(folder)
        problem = f"what was saved is not what was in memory: log-probabilities differ by up to {apart:.3g} nats"
        raise UserError(problem, str(folder), "it was removed; slim it another way")
    return apart


@torch.no_grad()
def _apart(first: Any, second: Any, row: list[int]) -> float:
    ids = torch.tensor([row])
    one, other = (net(input_ids=ids.to(net.device)).logits.float().log_softmax(-1) for net in (first, second))
    return float((one.to(other.device) - other).abs().max())
