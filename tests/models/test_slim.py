"""Slimming by hand-made matrices, and every way of it on the tiny model: it loads again, and says the same."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cai.config.served import Server
from cai.config.slim import Slim
from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.models.loading import load_causal, load_reward, load_tokenizer
from cai.models.references import find, find_served
from cai.models.resident import Resident
from cai.models.slim import make
from cai.models.slim.blocks import LayerInputs, block_by_block, blocks_of
from cai.models.slim.folder import SLIM, note_of
from cai.models.slim.low_rank import directions, factorised, rank_for, saves
from cai.models.slim.make import slim
from cai.models.slim.masks import magnitude, two_of_four, wanda
from cai.models.slim.sparse_gpt import sparse_gpt
from cai.models.slim.state import check_trainable

TEXTS: list[Chat] = [
    (Message("user", text), Message("assistant", "Take a pan, and some water."))
    for text in ("How do I boil an egg?", "What is red?", "Tell me of a lazy dog, and of a fox that is not.")
]
W = torch.tensor([[4.0, -1.0, 3.0, 2.0], [0.5, -6.0, 1.5, 0.1]])


# 1. Masks, by hand ----------------------------------------------------------------------------------------------------


def test_magnitude_keeps_the_largest_half_of_the_whole_matrix():
    # In order: 0.1, 0.5, 1, 1.5 go; 2, 3, 4, 6 stay.
    assert magnitude(W, 0.5).tolist() == [[True, False, True, True], [False, True, False, False]]


def test_wanda_weighs_by_its_inputs_and_compares_within_a_row():
    # Scores: 4, 10, 3, 4 and 0.5, 60, 1.5, 0.2. The two lowest of each row go; of the two equal ones, the first.
    norms = torch.tensor([1.0, 10.0, 1.0, 2.0])
    assert wanda(W, norms, 0.5).tolist() == [[False, True, False, True], [False, True, True, False]]


def test_two_of_four_neighbours_stay():
    row = torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0, 8.0, 7.0, 6.0]])
    assert two_of_four(row).tolist() == [[False, False, True, True, True, True, False, False]]
    # Of a whole matrix at 50% the four largest would be 9, 8, 7 and 6.
    assert magnitude(row, 0.5).tolist() == [[False] * 4 + [True] * 4]
    assert magnitude(W, "2:4").tolist() == [[True, False, True, False], [False, True, True, False]]


def test_a_quarter_of_four_is_one_and_equal_ones_go_in_order():
    assert wanda(torch.ones(1, 4), torch.ones(4), 0.25).tolist() == [[False, True, True, True]]


def test_rows_that_are_no_fours_are_refused():
    with pytest.raises(ValueError, match="6 inputs cannot be divided into groups of 4"):
        two_of_four(torch.ones(2, 6))


def test_what_stays_makes_up_for_what_goes():
    """Weights (1, 2), inputs of unit norm that go together by a half. The inverse of H is 4/3 (1, -1/2; -1/2, 1), so U
    is (2/sqrt 3, -1/sqrt 3; 0, 1), the scores 3/4 and 4: the first goes, and the second becomes 2 + 1/2."""
    h = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert sparse_gpt(torch.tensor([[1.0, 2.0]]), h, 0.5, damp=0.0).tolist() == [[0.0, pytest.approx(2.5)]]
    # Inputs that do not go together can make up for nothing: the largest halves of the matrix stay as they are.
    alone = sparse_gpt(W, torch.eye(4), 0.5, damp=0.0)
    assert torch.allclose(alone, W * magnitude(W, 0.5))
    assert torch.allclose(sparse_gpt(W, torch.eye(4), "2:4", damp=0.0), W * magnitude(W, "2:4"))
    # An input that is always 0 says nothing of its weight.
    silent = torch.diag(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert sparse_gpt(W, silent, 0.25, damp=0.0)[:, 1].tolist() == [0.0, 0.0]


def test_over_blocks_of_columns_it_loses_less_than_wanda():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(400, 300, generator=draws) @ torch.randn(300, 300, generator=draws)
    weight, gram = torch.randn(20, 300, generator=draws), x.T @ x
    made = sparse_gpt(weight, gram, 0.5)
    assert float((made == 0).float().mean()) == pytest.approx(0.5, abs=0.001)
    by_wanda = weight * wanda(weight, x.norm(dim=0), 0.5)
    lost = [float((x @ (weight - other).T).square().sum()) for other in (made, by_wanda)]
    assert lost[0] < 0.6 * lost[1]


# 2. Low rank, by hand -------------------------------------------------------------------------------------------------


def test_what_a_rank_loses_are_the_singular_values_that_it_drops():
    layer = nn.Linear(2, 2, bias=True)
    layer.weight.data, layer.bias.data = torch.diag(torch.tensor([3.0, 4.0])), torch.tensor([1.0, 2.0])
    values, vectors = directions(layer.weight.data)
    assert values.tolist() == pytest.approx([16.0, 9.0])  # squared singular values
    made = factorised(layer, vectors, 1)
    product = made.up.weight @ made.down.weight
    assert product.flatten().tolist() == pytest.approx([0.0, 0.0, 0.0, 4.0])
    assert float((layer.weight - product).detach().square().sum()) == pytest.approx(9.0)
    assert made(torch.tensor([1.0, 1.0])).tolist() == pytest.approx([1.0, 6.0])


def test_the_inputs_decide_which_direction_is_dropped():
    """Inputs (10, 0) and (0, 1): the layer gives (30, 0) and (0, 4), so rank 1 keeps the 3 and loses 4^2."""
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.diag(torch.tensor([3.0, 4.0]))
    inputs = torch.tensor([[10.0, 0.0], [0.0, 1.0]])
    values, vectors = directions(layer.weight.data, inputs.T @ inputs)
    assert values.tolist() == pytest.approx([900.0, 16.0])
    made = factorised(layer, vectors, 1)
    with torch.no_grad():
        assert float((layer(inputs) - made(inputs)).square().sum()) == pytest.approx(16.0)


def test_the_rank_is_the_least_that_leaves_the_energy():
    values = torch.tensor([6.0, 3.0, 1.0])
    assert [rank_for(values, energy) for energy in (0.5, 0.6, 0.61, 0.9, 0.95)] == [1, 1, 2, 2, 3]
    assert rank_for(torch.zeros(3), 0.9) == 1
    # 4 x 8: rank 2 has 24 weights of 32, rank 3 has 36.
    assert saves(4, 8, 2) and not saves(4, 8, 3)


# 3. Block by block ----------------------------------------------------------------------------------------------------


def test_each_layer_is_seen_with_what_it_is_given_after_those_below_were_changed(tiny):
    """The second block's inputs are those of a model whose first block has been changed already."""
    rows = [[5, 6, 7, 8], [9, 10, 11]]
    network: Any = load_causal(tiny, "float32", "cpu").eval()
    seen: dict[str, LayerInputs] = {}

    def silence(layers, inputs) -> None:
        seen.update(inputs)
        for layer in layers.values():
            layer.weight.data.zero_()

    block_by_block(network, rows, silence, gram=True)
    layers = blocks_of(network)
    assert len(layers) == 2 and all(len(own) == 7 for _, own in layers)
    assert {inputs.tokens for inputs in seen.values()} == {7}
    # With a first block that adds nothing, the second is given the embeddings as the first was: normed, they are of
    # the same norms (the two norms have the same weights, ones).
    first, second = (seen[f"model.layers.{n}.self_attn.q_proj"] for n in (0, 1))
    assert torch.allclose(first.norms, second.norms, atol=1e-5)
    assert first.gram is not None and torch.allclose(first.gram.diagonal(), first.squares, atol=1e-4)
    states = network.model.layers[0].input_layernorm(network.model.embed_tokens(torch.tensor([*rows[0], *rows[1]])))
    assert torch.allclose(first.squares, states.square().sum(0), atol=1e-4)


# 4. Folders -----------------------------------------------------------------------------------------------------------

WAYS = [
    Slim(how="magnitude"),
    Slim(how="magnitude", sparsity="2:4"),
    Slim(how="wanda"),
    Slim(how="wanda", sparsity="2:4"),
    Slim(how="sparsegpt"),
    Slim(how="sparsegpt", sparsity="2:4"),
    Slim(how="low-rank", rank=5),
    Slim(how="low-rank", energy=0.8),
]


@pytest.mark.parametrize("how", WAYS, ids=lambda how: how.name)
def test_what_is_slimmed_loads_as_any_model_does(sharp, tmp_path, how):
    folder = tmp_path / "slim"
    assert slim(sharp, how, TEXTS, "cpu", folder) <= 1e-5
    note = note_of(folder)
    assert note and note["of"] == sharp.digest and note["how"]["how"] == how.how
    made = find(str(folder))
    assert made.digest != sharp.digest
    model = Resident("cpu").causal(made, "float32")
    assert str(tmp_path) not in "".join(file.read_text() for file in folder.glob("*.json"))
    weights = {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    if how.how == "low-rank":
        assert note["ranks"] and all(weights[f"{name}.up"].shape[1] == r for name, r in note["ranks"].items())
        before, after = (
            sum(p.numel() for p in net.parameters()) for net in (load_causal(sharp, "float32", "cpu"), model)
        )
        assert after < before
    else:
        assert note["zeros"] / note["weights"] == pytest.approx(0.5, abs=0.01)
        assert all((weight == 0).float().mean() == 0.5 for name, weight in weights.items() if "proj" in name)
    # It goes on by itself, as a judge or a reviser does.
    ids = load_tokenizer(made)("An egg", return_tensors="pt")["input_ids"]  # pyrefly: ignore
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] == ids.shape[1] + 3


def test_the_same_again_is_the_same_model(sharp, tmp_path):
    for name in ("one", "two"):
        slim(sharp, Slim(how="wanda"), TEXTS, "cpu", tmp_path / name)
    assert find(str(tmp_path / "one")).digest == find(str(tmp_path / "two")).digest


def test_weights_are_stored_as_they_were(sharp, tmp_path):
    """In bfloat16, where they were: else what is half zeros would be twice as large on the disk."""
    model: Any = load_causal(sharp, "bfloat16", "cpu")
    model.save_pretrained(tmp_path / "half")
    load_tokenizer(sharp).save_pretrained(tmp_path / "half")
    for how in (Slim(how="wanda"), Slim(how="low-rank", rank=4)):
        folder = tmp_path / how.how
        slim(find(str(tmp_path / "half")), how, TEXTS, "cpu", folder)
        sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", how.how)]
        assert sizes[1] <= sizes[0] + 2000


def test_a_save_that_comes_back_as_something_else_is_removed(sharp, tmp_path, monkeypatch):
    real = make.save

    def corrupt(model: Any, tokenizer: Any, folder: Path) -> None:
        real(model, tokenizer, folder)
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        name = "model.layers.1.mlp.up_proj.weight"
        save_file(state | {name: state[name] * 1.5}, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(make, "save", corrupt)
    with pytest.raises(UserError, match="what was saved is not what was in memory: log-probabilities differ by up to"):
        slim(sharp, Slim(how="magnitude"), TEXTS, "cpu", tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


def test_a_save_of_no_numbers_is_removed_as_well(sharp, tmp_path, monkeypatch):
    monkeypatch.setattr(make, "_apart", lambda *_: math.nan)
    with pytest.raises(UserError, match="differ by up to nan"):
        slim(sharp, Slim(how="magnitude"), TEXTS, "cpu", tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


# 5. Refusals ----------------------------------------------------------------------------------------------------------


def test_what_is_slimmed_is_not_slimmed_again(sharp, tmp_path):
    slim(sharp, Slim(how="magnitude"), TEXTS, "cpu", tmp_path / "slim")
    with pytest.raises(UserError, match=r"is slimmed already \(magnitude\)"):
        slim(find(str(tmp_path / "slim")), Slim(how="wanda"), TEXTS, "cpu", tmp_path / "again")


def test_what_can_only_be_read_is_not_trained_and_what_was_pruned_may_be(sharp, tmp_path):
    slim(sharp, Slim(how="low-rank", rank=4), TEXTS, "cpu", tmp_path / "thin")
    slim(sharp, Slim(how="magnitude"), TEXTS, "cpu", tmp_path / "pruned")
    with pytest.raises(UserError, match=r"is slimmed \(low-rank\): it can be asked, and not trained"):
        check_trainable(find(str(tmp_path / "thin")))
    with pytest.raises(UserError, match="a language model and no reward model"):
        load_reward(find(str(tmp_path / "thin")), "float32", "cpu")
    check_trainable(find(str(tmp_path / "pruned")))
    assert load_reward(find(str(tmp_path / "pruned")), "float32", "cpu").config.num_labels == 1


def test_what_a_server_has_is_out_of_reach(sharp, tmp_path):
    there = find_served(sharp.name, Server(url=("http://127.0.0.1:1/v1",)))
    hosted = find_served("gpt-x", Server(url=("http://127.0.0.1:1/v1",), api="chat"))
    for model, why in ((there, "is answered for by a server"), (hosted, "is behind a chat API")):
        with pytest.raises(UserError, match=why):
            slim(model, Slim(how="magnitude"), TEXTS, "cpu", tmp_path / "slim")


def test_a_way_that_looks_at_inputs_needs_texts(sharp, tmp_path):
    with pytest.raises(UserError, match="wanda looks at what layers are given for texts, and there is none"):
        slim(sharp, Slim(how="wanda"), [], "cpu", tmp_path / "slim")


def test_a_library_that_is_not_there_is_named(sharp, tmp_path, monkeypatch):
    monkeypatch.setattr("cai.models.slim.quantised.find_spec", lambda name: None)
    with pytest.raises(UserError, match="int8 is done by torchao, which is not installed") as caught:
        slim(sharp, Slim(how="int8"), TEXTS, "cpu", tmp_path / "slim")
    assert "pip install -e '.[slim]'" in caught.value.remedy


def test_int4_needs_a_gpu(sharp, tmp_path, monkeypatch):
    monkeypatch.setattr("cai.models.slim.quantised.find_spec", lambda name: True)
    with pytest.raises(UserError, match="int4 is multiplied by kernels for NVIDIA's GPUs, and this runs on cpu"):
        slim(sharp, Slim(how="int4"), TEXTS, "cpu", tmp_path / "slim")


def test_a_note_that_is_none_is_named(sharp, tmp_path):
    slim(sharp, Slim(how="magnitude"), TEXTS, "cpu", tmp_path / "slim")
    (tmp_path / "slim" / SLIM).write_text("{}")
    with pytest.raises(UserError, match="not what was written of a slimmed model"):
        load_causal(find(str(tmp_path / "slim")), "float32", "cpu")


def test_a_factorised_model_without_its_note_is_not_read_as_noise(sharp, tmp_path):
    """As from a hub, which gives config and weights alone: transformers makes the layers that it misses at random."""
    slim(sharp, Slim(how="low-rank", rank=4), TEXTS, "cpu", tmp_path / "slim")
    (tmp_path / "slim" / SLIM).unlink()
    with pytest.raises(UserError, match="what says which of its layers are is not beside its weights"):
        load_causal(find(str(tmp_path / "slim")), "float32", "cpu")


# 6. Fewer bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["int8", "int8-dynamic"])
def test_eight_bits_a_weight_round_by_at_most_half_a_step(sharp, tmp_path, how):
    pytest.importorskip("torchao")
    folder = tmp_path / "slim"
    assert slim(sharp, Slim(how=how), TEXTS, "cpu", folder) <= 1e-5
    before, after = load_causal(sharp, "float32", "cpu"), Resident("cpu").causal(find(str(folder)), "float32")
    rounded = dict(after.named_modules())
    for name, layer in before.named_modules():
        if isinstance(layer, nn.Linear) and "proj" in name:
            weight = layer.weight.detach()
            steps = weight.abs().amax(1, keepdim=True) / 127
            off = (weight - rounded[name].weight.dequantize()).abs()
            assert bool((off <= 0.51 * steps + 1e-6).all()) and float(off.max()) > 0
    assert (folder / "model.safetensors").stat().st_size < 0.7 * Path(sharp.place, "model.safetensors").stat().st_size
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == "torchao"
    with pytest.raises(UserError, match="it can be asked, and not trained"):
        check_trainable(find(str(folder)))


def test_a_quantised_folder_without_the_library_is_a_message(sharp, tmp_path, monkeypatch):
    slim(sharp, Slim(how="magnitude"), TEXTS, "cpu", tmp_path / "slim")
    note = json.loads((tmp_path / "slim" / SLIM).read_text())
    note["how"]["how"] = "int8"
    (tmp_path / "slim" / SLIM).write_text(json.dumps(note))
    monkeypatch.setattr("cai.models.slim.quantised.find_spec", lambda name: None)
    with pytest.raises(UserError, match="torchao, which is not installed"):
        load_causal(find(str(tmp_path / "slim")), "float32", "cpu")
