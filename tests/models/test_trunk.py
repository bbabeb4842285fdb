"""What lies below LoRA is read once, and everything above it comes out as if it were read anew."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import ask
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from cai.config.runtime import Runtime
from cai.core.records import Chat, Message
from cai.models.architectures import lora
from cai.models.loading import load_causal, load_reward, load_tokenizer, save
from cai.models.references import Dtype, ModelRef, find
from cai.models.score import score
from cai.models.trunk import States, Trunk, read_once, rows_alone
from cai.models.workbench import Workbench

CHATS: list[Chat] = [
    (*ask(question), Message("assistant", text)) for question in ("Hi", "What is red?") for text in ("No.", "A cherry.")
]
ROWS = [[5, 6, 7, 8, 9], [10, 11, 12], [5, 6, 7]]


def network(
    base: ModelRef, *, reward: bool = False, layers: int | None = 1, dtype: Dtype = "float32", seed: int = 0
) -> Any:
    model: Any = (load_reward if reward else load_causal)(base, dtype, "cpu")
    model = get_peft_model(model, lora(model, 2, layers, reward=reward))
    draws = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = (torch.randn(weight.shape, generator=draws) * 0.3).to(weight.dtype)
    return model


def batch(rows: list[list[int]], side: str = "right") -> dict[str, Any]:
    width = max(map(len, rows))
    pads = [[0] * (width - len(row)) for row in rows]
    ids = [row + pad if side == "right" else pad + row for row, pad in zip(rows, pads, strict=True)]
    ones = [[1] * len(row) for row in rows]
    mask = [one + pad if side == "right" else pad + one for one, pad in zip(ones, pads, strict=True)]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "use_cache": False}


def shared(model: Any, states: States, base: str = "base") -> Trunk:
    trunk = read_once(model, base, states)
    assert trunk is not None
    return trunk


def loss_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    mask = inputs["attention_mask"].bool()
    loss = model(**inputs).logits.float()[mask].log_softmax(-1)[:, 3].mean()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("side", ["right", "left"])
def test_loss_and_gradients_are_those_of_the_whole_model(sharp: ModelRef, side: str) -> None:
    whole, once = network(sharp), network(sharp)
    inputs, states = batch(ROWS, side), States()
    if side == "left":
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    trunk = shared(once, states)
    expected, gradients = loss_and_gradients(whole, inputs)
    for _ in range(2):  # computed, and then kept
        loss, own = loss_and_gradients(once, inputs)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
        assert own.keys() == gradients.keys() and gradients
        for name, gradient in gradients.items():
            assert torch.allclose(own[name], gradient, atol=1e-6), name
    assert trunk.sound and trunk.height == 1 and states.computed == 3


def test_rows_are_read_once_for_all_models_on_a_base(sharp: ModelRef) -> None:
    states = States()
    policy, rewards = network(sharp), [network(sharp, reward=True, seed=seed) for seed in (1, 2)]
    for model in (policy, *rewards):
        shared(model, states)
        for rows in (ROWS, ROWS[:2]):
            model(**batch(rows))
    assert states.computed == 3
    other = network(sharp)
    shared(other, states, "another base")
    other(**batch(ROWS))
    assert states.computed == 6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_do_not_depend_on_what_was_kept(sharp: ModelRef, dtype: Dtype) -> None:
    """Nothing, all, or rows that stood beside others: the same to the bit, so a run that goes on gives its numbers."""
    outcomes = []
    for before in ([], [ROWS], [ROWS[1:], [ROWS[0]]]):
        states = States()
        model = network(sharp, dtype=dtype)
        shared(model, states)
        for rows in before:
            model(**batch(rows))
        outcomes.append(model(**batch(ROWS)).logits)
    assert torch.equal(outcomes[0], outcomes[1]) and torch.equal(outcomes[0], outcomes[2])


def test_generation_and_what_needs_a_cache_runs_as_ever(sharp: ModelRef) -> None:
    whole, once, states = network(sharp).eval(), network(sharp).eval(), States()
    shared(once, states)
    inputs = batch(ROWS, "left")
    del inputs["use_cache"]
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(once.generate(**inputs, **settings), whole.generate(**inputs, **settings))
    assert states.computed == 0


def test_an_adapter_whose_weights_are_replaced_keeps_what_is_below(sharp: ModelRef) -> None:
    states, model = States(), network(sharp)
    shared(model, states)
    first = model(**batch(ROWS)).logits
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = weight.data * -2
    fresh = network(sharp)
    fresh.load_state_dict(model.state_dict())
    assert not torch.allclose(model(**batch(ROWS)).logits, first)
    real = batch(ROWS)["attention_mask"].bool()
    assert torch.allclose(model(**batch(ROWS)).logits[real], fresh(**batch(ROWS)).logits[real], atol=1e-5)
    assert states.computed == 3


def test_where_there_is_nothing_below_all_is_read_as_ever(sharp: ModelRef) -> None:
    states = States()
    assert read_once(network(sharp, layers=None), "base", states) is None  # LoRA on every block
    assert read_once(load_causal(sharp, "float32", "cpu"), "base", states) is None  # no LoRA
    learns = network(sharp)
    learns.get_input_embeddings().weight.requires_grad_(True)
    assert read_once(learns, "base", states) is None


def test_of_a_trunk_that_does_not_come_out_the_same_nothing_is_used(sharp: ModelRef) -> None:
    """A first block that drops out at random."""
    model, states = network(sharp).train(), States()
    body: Any = model.get_base_model().model
    body.layers[0].mlp = nn.Sequential(body.layers[0].mlp, nn.Dropout(0.5))
    trunk = shared(model, states)
    model(**batch(ROWS))
    assert trunk.sound is False and states.computed == 1


def test_what_a_trunk_that_drops_out_gave_is_kept_for_nobody(sharp: ModelRef) -> None:
    random, states = network(sharp).train(), States()
    body: Any = random.get_base_model().model
    body.layers[0].mlp = nn.Sequential(body.layers[0].mlp, nn.Dropout(0.5))
    shared(random, states)
    random(**batch(ROWS))
    model, rows = network(sharp, seed=1), [ROWS[1], ROWS[0]]
    trunk = shared(model, states)
    inputs = batch(rows)
    outcome, expected = model(**inputs).logits, network(sharp, seed=1)(**inputs).logits
    real = inputs["attention_mask"].bool()
    assert trunk.sound and torch.allclose(outcome[real], expected[real], atol=1e-5)


@pytest.mark.parametrize("change", [{"modules_to_save": ["embed_tokens"]}, {"modules_to_save": ["input_layernorm"]}])
def test_an_adapter_that_brought_modules_of_its_own_shares_nothing_below(sharp: ModelRef, change: Any) -> None:
    """Read and not trained, nothing in it learns, and yet its embeddings are not the base's."""
    base: Any = load_causal(sharp, "float32", "cpu")
    settings = lora(base, 2, 1)
    for name, value in change.items():
        setattr(settings, name, value)
    model: Any = get_peft_model(base, settings)
    for name, weight in model.named_parameters():
        if "modules_to_save" in name:
            weight.data += 0.5
    model.requires_grad_(False)
    plain, states, inputs = network(sharp), States(), batch([ROWS[0], ROWS[1]])
    shared(plain, states)
    plain(**batch([ROWS[1]]))
    expected = model(**inputs).logits
    trunk = read_once(model, "base", states)
    assert torch.allclose(model(**inputs).logits, expected) and (trunk is None or trunk.height == 0)


def test_an_adapter_that_changed_biases_or_blocks_of_its_base_shares_nothing(sharp: ModelRef) -> None:
    for name, value in {"bias": "all", "layer_replication": [(0, 1), (0, 2)]}.items():
        model = network(sharp)
        setattr(model.peft_config["default"], name, value)
        assert read_once(model, "base", States()) is None


def test_a_model_whose_blocks_hand_more_on_than_their_states_is_read_as_ever(sharp: ModelRef) -> None:
    """As Gemma 4's last blocks do, which attend to the keys and values of earlier ones: without those, it raised."""
    handed: dict[str, Tensor] = {}

    class First(nn.Module):
        def __init__(self, own: nn.Module) -> None:
            super().__init__()
            self.own = own

        def forward(self, states_BTD: Tensor, *args: Any, **kwargs: Any) -> Any:
            handed["states"] = states_BTD
            return self.own(states_BTD, *args, **kwargs)

    class Second(First):
        def forward(self, states_BTD: Tensor, *args: Any, **kwargs: Any) -> Any:
            return self.own(states_BTD + handed.pop("states"), *args, **kwargs)

    def made() -> Any:
        model = network(sharp)
        body: Any = model.get_base_model().model
        body.layers[0], body.layers[1] = First(body.layers[0]), Second(body.layers[1])
        body.embed_tokens.register_forward_pre_hook(lambda *_: handed.clear())  # each pass begins anew
        return model

    expected, model, states = made()(**batch(ROWS)).logits, made(), States()
    trunk = shared(model, states)
    assert torch.equal(model(**batch(ROWS)).logits, expected)
    assert trunk.sound is False and states.bytes == 0


def test_masks_with_holes_and_positions_of_their_own_are_read_as_ever(sharp: ModelRef) -> None:
    model, states = network(sharp), States()
    shared(model, states)
    holed = batch([ROWS[0]])
    holed["attention_mask"][0, 2] = 0
    model(**holed)
    model(**batch([ROWS[0]]), position_ids=torch.tensor([[0, 1, 2, 0, 1]]))
    assert rows_alone(batch([ROWS[0]])) == [tuple(ROWS[0])]
    assert rows_alone(batch([ROWS[0]]) | {"token_type_ids": torch.ones(1, 5, dtype=torch.long)}) is None
    assert states.computed == 0


def test_no_more_is_kept_than_fits() -> None:
    """4 bytes a token and room for 5 tokens: rows of 3 and 2 fit. With one more, the first has to go; asked for again,
    it drives out the one that was asked for longest ago."""
    states, made = States(limit=20), []

    def compute(row: tuple[int, ...]) -> Tensor:
        made.append(row)
        return torch.zeros(len(row), 1)

    for row in ((1, 2, 3), (4, 5), (6,), (4, 5), (1, 2, 3), (4, 5), (6,)):
        states.of("trunk", row, compute)
    assert made == [(1, 2, 3), (4, 5), (6,), (1, 2, 3), (6,)]
    assert states.bytes == 12


def test_a_workbench_scores_two_reward_models_by_one_reading(sharp: ModelRef, tmp_path: Path) -> None:
    places = []
    for seed in (1, 2):
        save(network(sharp, reward=True, seed=seed), load_tokenizer(sharp), tmp_path / str(seed))
        places.append(find(str(tmp_path / str(seed))))
    work, tokenizer = Workbench.open(Runtime(root=str(tmp_path / "runs"))), load_tokenizer(sharp)
    for place in places:
        model = work.reward_model(place, "float32")
        assert isinstance(model, PeftModel)
        own = score(model, tokenizer, CHATS, max_length=100, batch_tokens=200)
        alone = score(load_reward(place, "float32", "cpu").eval(), tokenizer, CHATS, max_length=100, batch_tokens=200)
        assert own == pytest.approx(alone, abs=1e-5)
    assert work._states.computed == len(CHATS)
