"""Batches that are read without padding, and prompts that are read once, come out as padded ones, with their gradients;
and LoRA's own layers as PEFT's."""

from typing import Any

import pytest
import torch
import zoo
from peft import get_peft_model
from peft.tuners.lora import Linear
from transformers import LlamaConfig, LlamaForCausalLM

from cai.models.architectures import lora
from cai.models.engines import Sampling
from cai.models.engines.sampling import sample_ids
from cai.models.trunk import States, read_once
from cai.train import quick_lora
from cai.train.live.reward import states_of
from cai.train.quick_lora import quicken
from cai.train.rl.critic import add_critic
from cai.train.rl.forwards import answer_states
from cai.train.rl.ppo_math import logprobs_and_entropy
from cai.train.still import without_dropout
from cai.train.thrift import thrifty
from cai.train.unpadded import PackedRows, read_unpadded, trie

PROMPT = [5, 6, 7, 8, 9, 10]
ROWS = [[*PROMPT, 11, 12, 13, 14, 15], [*PROMPT, 11, 9], [20, 21, 22], [*PROMPT, 30], [20, 21, 23, 24]]
# Those whose attention goes through transformers' interface, with places that they are given, and sees whole rows.
PACKED = {
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3", "gemma3-multimodal", "mixtral", "qwen2-moe", "phi",
    "phi3-longrope", "stablelm", "starcoder2", "olmo2", "cohere", "gpt2", "gpt-neox", "gpt-bigcode", "gptj", "codegen",
    "opt", "opt-350m", "biogpt",
}  # fmt: skip


def network(name: str, layers: int | None = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    plain: Any = zoo.network_of(name, zoo.tokenizer_of("chatml"))
    without_dropout(plain)
    wrapped: Any = get_peft_model(plain, lora(plain, 2, layers))
    draws = torch.Generator().manual_seed(seed)
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=draws) * 0.1
    return wrapped


def batch(side: str = "right", rows: list[list[int]] = ROWS) -> dict[str, Any]:
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[place, where], mask[place, where] = torch.tensor(row), 1
    given = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    return given if side == "right" else given | {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def results(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of what is shown, and the gradients of a loss in which every place has another weight."""
    model.zero_grad()
    shown = inputs["attention_mask"].bool()
    logprobs = model(**inputs).logits.float()[shown].log_softmax(-1)
    weights = torch.arange(logprobs.numel()).view_as(logprobs).cos()
    (logprobs * weights).mean().backward()
    return logprobs.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_alike(one: Any, other: Any, within: float = 2e-5) -> None:
    assert torch.allclose(one[0], other[0], atol=5 * within), (one[0] - other[0]).abs().max()
    assert one[1].keys() == other[1].keys() and one[1]
    for name, gradient in one[1].items():
        scale = other[1][name].abs().max().clamp(min=1e-3)
        assert (gradient - other[1][name]).abs().max() <= within * 10 * scale, name


def test_what_rows_begin_with_by_hand() -> None:
    assert trie([[1, 2, 3], [1, 2, 4], [5], [1, 2, 4, 6], [1, 2, 3]]) == ([0, 0, 2, 1, 0], [0, 2, 0, 3, 3])


def test_where_tokens_are_by_hand() -> None:
    layout = PackedRows([[1, 2, 3], [1, 2, 4, 5]], torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]))
    assert layout.ids.tolist() == [[1, 2, 3, 4, 5]] and layout.positions.tolist() == [[0, 1, 2, 2, 3]]
    assert layout.place_R.tolist() == [0, 1, 2, 0, 0, 1, 3, 4] and layout.caller_BT.tolist()[0] == [0, 0, 1, 2]
    rows = layout.rows(torch.tensor([[10.0], [20.0], [30.0], [40.0], [50.0]]))
    assert rows.squeeze(-1).tolist() == [[10, 20, 30, 10], [10, 20, 40, 50]]
    assert layout.packed(rows).squeeze(-1).tolist() == [10, 20, 30, 40, 50]
    # Of the caller's places of a token the first counts, whatever stands at the others.
    given = torch.tensor([[[0.0], [1.0], [2.0], [3.0]], [[7.0], [8.0], [4.0], [5.0]]])
    assert layout.pack(given).squeeze(-1).tolist() == [[1, 2, 3, 4, 5]]
    # A token's gradient is the sum over the rows that have it; what only fills up has none.
    gradient = layout.gradient(torch.tensor([[[1.0], [2.0], [3.0], [99.0]], [[10.0], [20.0], [30.0], [40.0]]]))
    assert gradient.squeeze(-1).tolist() == [11, 22, 3, 30, 40]


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_every_architecture_comes_out_the_same(name: str) -> None:
    if name in ("rwkv",):
        pytest.skip("LoRA is not put on it")
    model = network(name)
    for side in ("right", "left"):
        inputs = batch(side)
        expected = results(model, inputs)
        unpadded = read_unpadded(model)
        own = results(model, inputs)
        assert (unpadded is not None) == (name in PACKED)
        if unpadded is not None:
            assert unpadded.read == (name != "gemma3-multimodal")  # whose body is given embeddings
            assert_alike(own, expected)
            unpadded.on = False


def test_a_body_without_settings_is_left_alone() -> None:
    """As CPM-Ant's, whose blocks are in a module that knows no config."""

    class Blocks(torch.nn.Module):
        def __init__(self, layers: torch.nn.ModuleList) -> None:
            super().__init__()
            self.layers = layers

    plain: Any = zoo.network_of("llama", zoo.tokenizer_of("chatml"))
    plain.model = Blocks(plain.model.layers)
    assert read_unpadded(plain) is None


def test_with_what_lies_below_lora_read_once() -> None:
    inputs = batch()
    expected = results(network("llama", 1), inputs)
    model = network("llama", 1)
    unpadded, trunk = read_unpadded(model), read_once(model, "base", States())
    assert unpadded and trunk
    for _ in range(2):
        assert_alike(results(model, inputs), expected)
    assert trunk.sound and unpadded.read == 2


def test_what_reads_rows_packed_stands_beneath_what_was_read_once_before() -> None:
    inputs = batch()
    expected = results(network("llama", 1), inputs)
    model = network("llama", 1)
    states = States()
    trunk, unpadded = read_once(model, "base", states), read_unpadded(model)
    assert unpadded and trunk
    for _ in range(2):
        assert_alike(results(model, inputs), expected)
    assert trunk.sound and unpadded.read == 2
    assert states.computed == len(ROWS)


def test_who_looks_on_between_blocks_sees_all_rows_at_that_height() -> None:
    """Live feedback reads below the third of four blocks, and LoRA is on the last."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    plain = LlamaForCausalLM(LlamaConfig(vocab_size=40, num_hidden_layers=4, **sizes))
    model: Any = get_peft_model(plain, lora(plain, 2, 1))
    rows = [([5, 6, 7, 8], [9, 10, 11]), ([5, 6, 7, 8], [12, 13, 14])]
    expected = states_of(model, rows, 0, 100)
    trunk, unpadded = read_once(model, "base", States()), read_unpadded(model)
    assert trunk and trunk.height == 3 and unpadded
    for states_TD, other in zip(states_of(model, rows, 0, 100), expected, strict=True):
        assert (states_TD == other).all()


def test_a_batch_without_padding_is_left_alone() -> None:
    model = network("llama")
    unpadded = read_unpadded(model)
    assert unpadded
    results(model, batch(rows=[[1, 2, 3], [4, 5, 6]]))
    assert unpadded.read == 0
    longer = [[*range(2, 60)] * 2, [3]]
    unpadded.window = 64
    results(model, batch(rows=longer))
    assert unpadded.read == 0


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_loras_layers_come_out_as_pefts(name: str) -> None:
    if name in ("rwkv",):
        pytest.skip("LoRA is not put on it")
    model, inputs = network(name), batch()
    expected = results(model, inputs)
    count = quicken(model)
    assert count or name in ("gpt2", "gpt-bigcode", "mpt", "mamba", "gpt-neo", "falcon")
    assert_alike(results(model, inputs), expected)
    with model.disable_adapter():
        off = model(**inputs).logits
    assert not torch.allclose(off, model(**inputs).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("few", [0, 56])
def test_without_gradients_loras_layers_give_pefts_own_bits_and_ask_the_base_layer(
    few: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 55 places, by our way and by PEFT's."""
    monkeypatch.setattr(quick_lora, "FEW", few)
    added: list[int] = []
    own = quick_lora._add
    monkeypatch.setattr(quick_lora, "_add", lambda *args: added.append(1) or own(*args))
    plain = network("llama").to(dtype)
    for weight in plain.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # as PEFT holds adapters
    inputs = batch()
    with torch.no_grad():
        expected = plain(**inputs).logits
    layers = quicken(plain)
    asked = []
    for name, layer in plain.named_modules():
        if name.endswith("base_layer"):
            layer.register_forward_hook(lambda module, args, output: asked.append(module))
    with torch.no_grad():
        assert torch.equal(plain(**inputs).logits, expected)
    assert len(set(asked)) == len(asked) == layers > 0
    assert len(added) == (0 if few else layers)


@pytest.mark.parametrize("name", sorted(PACKED - {"gpt2", "gpt-bigcode"}))  # in which LoRA is not on linear layers
def test_a_policy_samples_the_same_without_pefts_calls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(name).eval()
    rows, sampling = [[5, 6, 7, 8], [9, 10], [20, 21, 22]], Sampling(8, 1.0)

    def sampled() -> list[list[int]]:
        with torch.no_grad():
            return sample_ids(model, rows, [1, 2, 3], sampling, 0, set())

    expected = sampled()
    with model.disable_adapter():
        off = sampled()
    own, lengths = Linear.forward, set()

    def heard(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        lengths.add(x.shape[-2])
        return own(layer, x, *args, **kwargs)

    monkeypatch.setattr(Linear, "forward", heard)
    assert quicken(model) and expected != off
    assert sampled() == expected and 1 not in lengths, "the prompts alone are PEFT's: few rows of several tokens"
    with model.disable_adapter():
        assert sampled() == off and 1 in lengths


@pytest.mark.parametrize("scale", [2.0, 0.3])
def test_a_token_of_each_answer_comes_out_as_pefts(scale: float) -> None:
    model = network("llama").eval()
    layer = next(module for module in model.modules() if type(module) is Linear)
    layer.scaling["default"], x = scale, torch.randn(3, 1, layer.in_features)
    with torch.no_grad():
        expected, plain = layer(x), layer.base_layer(x)
        quicken(model)
        assert torch.allclose(layer(x), expected, atol=1e-6) and not torch.allclose(expected, plain, atol=1e-3)


def test_what_ppo_makes_of_answers_is_the_same_to_rounding() -> None:
    """Two prompts of unlike length, two answers to each; log-probabilities, values, and the gradients of both."""
    prompts, answers = [[5, 6, 7, 8], [5, 6, 7, 8], [9, 3], [9, 3]], [[11, 12], [13], [14, 15, 16], [11, 12, 4]]
    rollout = {}
    for name, rows, width, side in (("prompt", prompts, 4, 1), ("completion", answers, 3, 0)):
        padding = [[0] * (width - len(row)) for row in rows]
        ids = [p + r if side else r + p for p, r in zip(padding, rows, strict=True)]
        mask = [p + [1] * len(r) if side else [1] * len(r) + p for p, r in zip(padding, rows, strict=True)]
        rollout |= {f"{name}_ids": torch.tensor(ids), f"{name}_mask": torch.tensor(mask)}
    shown = rollout["completion_mask"].bool()

    def outcome(model: Any) -> Any:
        model.zero_grad()
        output = answer_states(model, rollout, pads_left=True, with_values=True)
        logprobs, _ = logprobs_and_entropy(output["logits"], rollout["completion_ids"], 0.7)
        both = torch.stack([logprobs[shown], output["values"][shown]])
        (both * torch.arange(both.numel()).view_as(both).cos()).sum().backward()
        return both.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model = network("llama")
    torch.nn.init.normal_(add_critic(model.get_base_model()).linear.weight, std=0.1)
    body, seen = model.get_base_model().model, []
    expected = outcome(model)
    thrifty(model)
    body.embed_tokens.register_forward_hook(lambda module, args, output: seen.append(args[0].tolist()))
    assert_alike(outcome(model), expected)
    # Each prompt once, then what its answers do not have in common: nothing is padding.
    assert seen == [[[5, 6, 7, 8, 11, 12, 13, 9, 3, 14, 15, 16, 11, 12, 4]]]


def test_what_a_quick_layer_gives_may_be_changed_in_place() -> None:
    """As Llama 4's experts do: of a view that a function of its own returns, torch would refuse it."""
    model = network("llama")
    quicken(model)
    layer = next(module for module in model.modules() if "forward" in vars(module) and hasattr(module, "lora_A"))
    states = torch.randn(2, 3, layer.in_features, requires_grad=True)
    plain = layer(states)
    changed = layer(states)
    changed += 1
    changed.sum().backward()
    assert torch.equal(changed, plain + 1) and states.grad is not None
