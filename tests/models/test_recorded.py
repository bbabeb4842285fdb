"""Sampling by steps in tensors that stay where they are, as a card plays them: on the CPU, the same draws as
`generate`'s, and the same scores as whole forwards."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from cai.models.engines import Sampling
from cai.models.engines.prefix import read_prefix
from cai.models.engines.recorded import Steps, drawn, play, reads_alike, records, takes_places
from cai.models.engines.sampling import SeededSampler, left_padded, sample_ids, up_to_stop

PAD, STOPS = 0, {5, 9}
ROWS = [[7, 8, 11, 3], [20, 4, 6, 6, 17, 30, 2], [12], [13, 14, 15, 16, 18]]
SEEDS = [3, 1, 4, 1]


def network(seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, **more,
        )
    ).eval()  # fmt: skip


def played(model: Any, rows: list[list[int]], sampling: Sampling, past: Any = None, stops: set[int] = STOPS) -> Any:
    inputs = left_padded(rows, PAD, "cpu", past)
    if sampling.temperature > 0:
        draw = SeededSampler(SEEDS[: len(rows)], inputs["input_ids"].shape[1], sampling).draw
    else:
        draw = lambda scores, _: scores.argmax(-1, keepdim=True)  # noqa: E731
    with torch.no_grad():
        steps = Steps(model, inputs, draw, sampling.max_new_tokens, PAD, stops)
        play(steps, sampling.max_new_tokens - 1)
    return up_to_stop(steps.answers.tolist(), stops)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(24, temperature=0), Sampling(24), Sampling(24, temperature=0.7, top_p=0.8), Sampling(4, temperature=3.0)],
)
def test_the_same_is_drawn_as_by_generate(sampling: Sampling) -> None:
    model = network()
    with torch.no_grad():
        usual = sample_ids(model, ROWS, SEEDS, sampling, PAD, STOPS)
    assert played(model, ROWS, sampling) == usual
    if sampling.temperature == 1:
        assert any(row[-1] in STOPS for row in usual) and len({len(row) for row in usual}) > 1


def test_what_ended_goes_on_as_padding_and_moves_no_other_row() -> None:
    model, sampling = network(1), Sampling(40)
    together = played(model, ROWS, sampling)
    for k, row in enumerate(ROWS):
        inputs = left_padded([row], PAD, "cpu")
        draw = SeededSampler([SEEDS[k]], len(row), sampling).draw
        with torch.no_grad():
            steps = Steps(model, inputs, draw, 40, PAD, STOPS)
            play(steps, 39)
        ids = steps.answers[0].tolist()
        assert up_to_stop([ids], STOPS)[0] == together[k]
        assert set(ids[len(together[k]) :]) <= {PAD}


def test_a_beginning_that_was_read_before_is_gone_on_from() -> None:
    model, start = network(2), [(3 * k) % 61 + 1 for k in range(70)]
    rows = [start + row for row in ROWS]
    with torch.no_grad():
        past, again = (read_prefix(model, rows, PAD, 20) for _ in range(2))
        assert past is not None and past.count == 70
        usual = sample_ids(model, rows, SEEDS, Sampling(20), PAD, STOPS, past)
    assert played(model, rows, Sampling(20), again) == usual


def test_a_model_is_tried_before_it_is_trusted() -> None:
    assert reads_alike(network(), PAD)
    assert takes_places(network())
    windows = MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=16,
    )  # fmt: skip
    assert not records(MistralForCausalLM(windows).eval(), 40, PAD)
    learning = network()
    learning.gradient_checkpointing_enable()
    assert not records(learning, 40, PAD)
    absolute = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=128)).eval()
    assert reads_alike(absolute, PAD)  # its positions are given to it


def test_one_that_reads_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    forward = model.forward

    def without_mask(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        if attention_mask is not None and attention_mask.dim() == 4:
            attention_mask = torch.zeros_like(attention_mask)  # what is padding, and what is not there yet, is seen
        return forward(*args, attention_mask=attention_mask, **kwargs)

    without_mask.__signature__ = __import__("inspect").signature(forward)  # pyrefly: ignore
    monkeypatch.setattr(model, "forward", without_mask)
    assert not records(model, 40, PAD)
    assert records(network(), 40, PAD)


def test_on_a_cpu_nothing_is_played() -> None:
    model = network()
    assert drawn(model, left_padded(ROWS, PAD, "cpu"), lambda s, _: s.argmax(-1, keepdim=True), 8, PAD, STOPS) is None
