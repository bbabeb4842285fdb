"""Packed weights give what plain ones give to the bit, never those of before, and only where that was tried."""

from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from peft import LoraConfig, get_peft_model

from cai.core.records import Message
from cai.models.engines import Request, Sampling, packed
from cai.models.engines.packed import layers_of
from cai.models.engines.sampling import sample_ids
from cai.models.engines.transformers import TransformersEngine
from cai.models.loading import load_causal
from cai.models.references import ModelRef, find

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU does not multiply in bfloat16"
)
ARCHITECTURES = (
    "llama",
    "qwen2",
    "gemma2",
    "mixtral",
    "opt",
    "gpt-neox",
    "bloom",
    "qwen3",
    "mamba",
    "gemma3-multimodal",
)
TEXTS = ("Hi", "Tell me at some length about the many kinds of bread.", "How do I boil an egg?")
ROWS = [[7, 8, 11, 3], [20, 4, 6, 6, 17, 30, 2], [12, 9]]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers and calls of any size are packed."""
    for name in ("LEAST_WEIGHTS", "LEAST_STEPS"):
        monkeypatch.setattr(packed, name, 0)
    monkeypatch.setattr(packed, "CHECKS", 1)  # these layers have few numbers
    monkeypatch.setattr(packed, "_left", {})


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A 1 for each product by packed weights; none where a test packs nothing after all."""
    counts: list[int] = []
    own = torch.ops.mkldnn._linear_pointwise

    def counted(*args: Any) -> Any:
        counts.append(1)
        return own(*args)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return counts


def plainly(monkeypatch: pytest.MonkeyPatch, compute: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(packed, "layers_of", lambda network: {})
        return compute()


def llama(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return zoo.network_of("llama", zoo.tokenizer_of("chatml")).to(torch.bfloat16).eval()


def drawn(model: Any) -> Any:
    with torch.no_grad():
        return sample_ids(model, ROWS, [1, 2, 3], Sampling(12), 0, set())


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad(), packed.packed(model, 9).in_use():
        return model(input_ids=torch.tensor(ROWS[:1])).logits


def answers(folder: Path) -> Any:
    engine = TransformersEngine(find(str(folder)), dtype="bfloat16", device="cpu", system=None, batch_tokens=256)
    chats = [(Message("user", text),) for text in TEXTS]
    requests = [Request(chat, seed=k) for k, chat in enumerate(chats)]
    return list(engine.generate(requests, Sampling(12))), list(engine.generate(requests[:2], Sampling(9, 0.0)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_answers_alike(
    architecture: str, tmp_path: Path, used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = zoo.make(tmp_path / "model", architecture, "chatml")
    quick = answers(folder)
    assert sum(used) > 50, "nothing was packed"
    assert quick == plainly(monkeypatch, lambda: answers(folder))


def test_long_rows_are_read_plainly(used: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    quick = packed.packed(model, 9)
    monkeypatch.setattr(packed, "MOST_ROWS", 8)
    used.clear()
    with torch.no_grad(), quick.in_use():
        model(input_ids=torch.tensor([[1] * 9]))
        assert not used
        model(input_ids=torch.tensor([[1] * 8]))
    assert len(used) == 15  # seven layers in each of two blocks, and the head


# Weights that change ------------------------------------------------------------------------------------------------


@pytest.fixture
def adapted() -> Any:
    model: Any = get_peft_model(
        llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def test_adapters_on_off_swapped_and_merged(adapted: Any, used: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT merges into `weight.data`, which torch does not count as a change."""

    def swap() -> None:
        for name, weight in adapted.named_parameters():
            if "lora_A" in name:
                weight.data.mul_(-1)

    outcomes = []
    for change in (None, swap, adapted.merge_adapter, adapted.unmerge_adapter):
        if change is not None:
            change()
        before = len(used)
        outcome = logits(adapted)
        assert sum(used[before:]) >= 15
        assert torch.equal(outcome, plainly(monkeypatch, lambda: logits(adapted)))
        outcomes.append(outcome)
    adapted.merge_adapter()
    with adapted.disable_adapter():  # which takes it out of the weights during the next forward pass
        assert torch.equal(logits(adapted), plainly(monkeypatch, lambda: logits(adapted)))
    assert not torch.equal(outcomes[0], outcomes[1]) and not torch.equal(outcomes[1], outcomes[2])


@pytest.mark.parametrize("how", ["optimizer", "data", "whole"])
def test_what_a_step_of_training_changed_is_what_is_sampled_with(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    seen = []
    for _ in range(3):
        assert drawn(model) == plainly(monkeypatch, lambda: drawn(model))
        seen.append(logits(model))
        assert torch.equal(seen[-1], plainly(monkeypatch, lambda: logits(model)))
        model(input_ids=torch.tensor(ROWS[:1]), labels=torch.tensor(ROWS[:1])).loss.backward()
        if how == "optimizer":
            optimizer.step()
        for weight in model.parameters():
            if how == "data":
                weight.data -= weight.grad
            elif how == "whole":
                weight.data = weight.data - weight.grad
        optimizer.zero_grad()
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_weights_that_change_between_two_batches_of_a_call_are_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    ids = torch.tensor(ROWS[:1])
    with torch.no_grad():
        quick = packed.packed(model, 9)
        with quick.in_use():
            before = model(input_ids=ids).logits
        model.model.layers[0].mlp.up_proj.weight.mul_(2)
        with quick.in_use():
            after = model(input_ids=ids).logits
        assert not torch.equal(before, after) and torch.equal(after, model(input_ids=ids).logits)


def test_what_needs_gradients_is_computed_plainly(used: list[int]) -> None:
    model = llama()
    ids = torch.tensor(ROWS[:1])
    quick = packed.packed(model, 9)
    used.clear()
    with quick.in_use():
        model(input_ids=ids, labels=ids).loss.backward()
    assert not used and all(weight.grad is not None for weight in model.parameters())


# Where it is not used -----------------------------------------------------------------------------------------------


def test_layers_are_as_before_whatever_happens() -> None:
    model = llama()
    quick = packed.packed(model, 9)
    with pytest.raises(ValueError), quick.in_use():
        with packed.packed(model, 9).in_use():  # within another call: nothing more to do
            pass
        assert all("forward" in vars(some.layer) for some in quick.layers)
        raise ValueError
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_combination_that_differs_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    quick = packed.packed(model, 9)
    wanted = plainly(monkeypatch, lambda: logits(model))
    for some in quick.layers:
        some.weight = torch.ops.mkldnn._reorder_linear_weight(some.layer.weight.detach() * 2, packed.ROWS)
    packed._left.clear()
    with torch.no_grad(), quick.in_use():
        assert torch.equal(model(input_ids=torch.tensor(ROWS[:1])).logits, wanted)
    assert set(packed._left.values()) == {packed.DIFFERS}


def test_a_network_that_comes_out_otherwise_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moody(torch.nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return input * self.calls

    model = llama()
    model.model.norm = Moody()
    assert packed.packed(model, 9).layers == []


@pytest.mark.parametrize("reason", ["float32", "no room", "little to do", "no operator", "cpu"])
def test_it_is_left_out(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    if reason == "float32":
        model = model.float()
    elif reason == "no room":
        monkeypatch.setattr(packed, "free_memory", lambda: 1000.0)
    elif reason == "little to do":
        monkeypatch.setattr(packed, "LEAST_STEPS", 10)
    elif reason == "no operator":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    else:
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert packed.packed(model, 9).layers == []


def test_the_copies_go_with_the_call() -> None:
    import gc
    import weakref

    model = llama()
    quick = packed.packed(model, 9)
    copy = weakref.ref(quick.layers[0].weight)
    with torch.no_grad(), quick.in_use():
        model(input_ids=torch.tensor(ROWS[:1]))
    del quick
    gc.collect()
    assert copy() is None


@pytest.mark.real
def test_the_real_model_writes_and_reads_alike(real: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 2**15)
    model: Any = load_causal(real, "bfloat16", "cpu").eval()
    assert len(layers_of(model)) == 211
    rows = [[(13 * k * k + 7 * row) % 4000 for k in range(1, 40 + 9 * row)] for row in range(5)]

    def compute() -> Any:
        with torch.inference_mode(), packed.packed(model, 99).in_use():
            read = [model(input_ids=torch.tensor([row])).logits for row in rows]
        return sample_ids(model, rows, [1, 2, 3, 4, 5], Sampling(12), 0, set()), read

    (quick, read), (plain, wanted) = torch.no_grad()(compute)(), plainly(monkeypatch, torch.no_grad()(compute))
    assert quick == plain and all(map(torch.equal, read, wanted))
    assert packed.DIFFERS not in packed._left.values() or torch.get_num_threads() > 1
