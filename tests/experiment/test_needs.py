"""What a plan says of memory, of cards that nobody has run on, and of served judges: by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cai.config.load import read_experiment
from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.core.store import Artifact, canonical
from cai.experiment.cards import CARDS, card_called, seconds_on, tokens_of
from cai.experiment.check_servers import with_revisers
from cai.experiment.needs import need, remedy_for, served_models
from cai.experiment.plan import bytes_of
from cai.models import memory
from cai.models.memory import GIB, Batch, Learning, on_device
from cai.models.shapes import Shape, shape_named, shape_of
from cai.train.revising import reviser_of

# Llama 2 7B.
LLAMA = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "vocab_size": 32000,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    return str(tmp_path)


def learner(model: str, **more: Any) -> dict[str, Any]:
    policy = {"model": model, "training": "lora", "lora_rank": 64, "lora_layers": None}
    settings = {"batch_size": 32, "max_length": 1024, "epochs": 1}
    return {"policy": policy, "dtype": "bfloat16", "settings": settings} | more


def test_a_shape_counts_its_weights():
    shape = shape_of(LLAMA)
    assert shape.parameters == 6_738_415_616 - 4096  # as transformers counts them, the last norm apart
    # LoRA of rank 64: 4 x (4096 + 4096) and 3 x (4096 + 11008) a block.
    assert shape.lora(64, None) == 32 * 64 * (4 * 8192 + 3 * 15104)
    assert shape.lora(64, 2) == 2 * 64 * (4 * 8192 + 3 * 15104)


def test_a_mixture_of_experts_reads_with_a_few_of_them():
    mixtral = shape_of(LLAMA | {"num_local_experts": 8, "num_experts_per_tok": 2, "num_key_value_heads": 8})
    expert, attention = 3 * 4096 * 11008, 2 * 4096 * 4096 + 2 * 4096 * 1024
    assert mixtral.read == 32 * (attention + 2 * expert + 8192) + 32000 * 4096
    assert mixtral.parameters == 32 * (attention + 8 * expert + 8192) + 2 * 32000 * 4096


@pytest.mark.parametrize(("name", "weights"), [("a/b-0.5B", 0.5e9), ("a/b-8B", 8e9), ("a/b-70B-Instruct", 70e9)])
def test_a_size_in_a_name_is_a_shape_of_about_that_size(name, weights):
    shape = shape_named(name)
    assert shape and shape.assumed and shape.parameters == pytest.approx(weights, rel=0.1)
    assert shape_named("a/b") is None


def test_weights_and_adam_by_hand():
    shape = Shape(layers=2, hidden=8, inner=16, heads=2, kv_heads=1, head=4, vocabulary=10)
    # A block: q 64, k 32, v 32, o 64, MLP 3 x 128, norms 16; twice, and 2 x 80 of words.
    assert shape.parameters == 2 * 592 + 160
    assert memory.resident(shape, Learning("full", "bfloat16")) == 12 * 1344
    # Rank 3: (16 + 12 + 12 + 16 + 3 x 24) x 3 a block, 12 bytes each, beside weights of 2.
    assert memory.resident(shape, Learning("lora", "bfloat16", rank=3)) == 2 * 1344 + 12 * 2 * 384
    assert memory.resident(shape, Learning("full", "bfloat16", sharded=4)) == 12 * 336
    # Keys and values: 2 x 1 head of 4, 2 bytes, of 2 layers and one more; of 5 tokens.
    assert memory.cache(shape, "bfloat16", 5) == 5 * 16 * 3


def test_what_7b_keeps_of_a_token():
    # 9.0 MiB a token was counted on fake tensors in LoRA of rank 64, head and all; 0.21 with checkpointing (FACTS).
    how, shape = Learning("lora", "bfloat16", rank=64), shape_of(LLAMA)
    assert 32 * memory.block_kept(shape, how) / 2**20 == pytest.approx(8.42, abs=0.01)
    # With it, each of the other 31 blocks keeps what it is given.
    how = replace(how, checkpointing=True)
    deep, flat = (memory.activations(one, how, Batch(1000)) for one in (shape, replace(shape, layers=1)))
    assert (deep - flat) / 1000 == 31 * 2 * 4096


def test_what_does_not_fit_names_the_least_change_that_does(model):
    runtime, card = Runtime(), CARDS["h100"].usable
    sft = Artifact("train_sft", "k", Path("x"), "?k", cached=False, inputs=learner(model))
    whole = need("train_sft", sft.inputs, runtime)
    assert whole and whole.rows == 32 and on_device(whole.peak) > 250 * GIB
    assert remedy_for(sft, runtime, card) == "write runtime: {micro_batch: 4}"
    fits = need("train_sft", sft.inputs, runtime.model_copy(update={"micro_batch": 4}))
    assert fits and fits.learning and fits.learning.accumulates and on_device(fits.peak) < card
    assert (
        remedy_for(sft, runtime.model_copy(update={"micro_batch": 1}), 24 * GIB) == "write runtime.checkpointing: true"
    )
    # In 16 GiB the weights of 7B leave no room; two cards share them.
    assert remedy_for(sft, runtime, 12 * GIB).startswith(
        "write runtime: {micro_batch: 1, checkpointing: true, processes: 2, accelerate: FILE}"
    )
    full = learner(model) | {"policy": {**learner(model)["policy"], "training": "full"}}
    assert "processes: 2" in remedy_for(replace(sft, inputs=full), runtime, card)
    assert remedy_for(sft, runtime, 1 * GIB) == "take a smaller model, or policy.training: lora"


def test_pairs_have_two_answers_and_processes_share_a_batch(model):
    reward = need("train_reward", learner(model), Runtime(micro_batch=4))
    assert reward and (reward.rows, reward.width) == (8, 1024)
    shared = need("train_sft", learner(model), Runtime(processes=4))
    assert shared and shared.rows == 8 and shared.learning and shared.learning.sharded == 1


def test_accelerates_file_says_whether_weights_are_divided(model, tmp_path):
    (tmp_path / "fsdp.yaml").write_text("distributed_type: FSDP\nnum_processes: 8\n")
    (tmp_path / "zero2.yaml").write_text(
        "distributed_type: DEEPSPEED\nnum_processes: 8\ndeepspeed_config: {zero_stage: 2}\n"
    )
    for name, sharded in (("fsdp", 8), ("zero2", 1)):
        one = need("train_sft", learner(model), Runtime(accelerate=str(tmp_path / f"{name}.yaml")))
        assert one and one.learning and one.learning.sharded == sharded and one.rows == 4


def test_a_rollout_holds_cache_logits_reference_and_reward_adapter(model):
    inputs = learner(model) | {
        "settings": {"batch_size": 64, "epochs": 2, "steps": 10, "max_new_tokens": 256, "max_prompt_tokens": 512}
    }
    one = need("train_ppo", inputs, Runtime(micro_batch=2, checkpointing=True))
    assert one and one.learning and (one.rows, one.width, one.generated) == (2, 768, 64)
    adapters = one.shape.lora(64, None)
    assert one.beside == 2 * adapters
    least = memory.resident(one.shape, one.learning) + memory.cache(one.shape, "bfloat16", 64 * 768) + 6 * adapters
    assert least < one.peak < least + 8 * GIB


def test_a_served_judge_takes_no_memory_and_is_counted_in_tokens():
    judge = {"model": "a/judge", "method": "choice", "max_length": 1000, "principles": 1, "reason": {}}
    inputs = {"judge": judge, "dtype": "bfloat16"}
    assert need("label_by_judge", inputs, Runtime()) is None  # nobody knows its size
    one = need("label_by_judge", inputs, Runtime(), frozenset({"a/judge"}))
    assert one and one.served and one.peak == 0
    # 100 pairs in both orders: 200 calls that read 500 tokens each.
    tokens = tokens_of(one, inputs, 100)
    assert (tokens.calls, tokens.read, tokens.written) == (200, 100_000, 200)
    sampled = tokens_of(one, {"judge": {**judge, "verdict": "sampled", "samples": 3}}, 100)
    assert (sampled.calls, sampled.written) == (600, 4800)


def test_a_served_reviser_is_counted_in_the_texts_that_it_writes():
    inputs = {"policy": {"model": "tiny-random"}, "reviser": {"digest": "r", "name": "a/teacher"}, "dtype": "bfloat16"}
    inputs |= {"settings": {"max_new_tokens": 64, "rounds": 1, "prompts": 10}, "critique": {}}
    one = need("revise", inputs, Runtime(), frozenset({"a/teacher"}))
    assert one and one.served and one.model == "a/teacher" and one.peak == 0
    # Of 10 prompts a draft, a critique and a revision, 64 tokens at most: half of that is written, after 128 of 256.
    tokens = tokens_of(one, inputs, 10 * 3 * 64)
    assert (tokens.calls, tokens.read, tokens.written) == (30, 30 * 128, 30 * 32)
    # In a manifest a reviser is a digest: of an unknown one nobody says that the policy did its work.
    assert need("revise", inputs | {"reviser": {"digest": "r"}}, Runtime()) is None


def test_who_is_served_is_whom_a_server_is_asked_for(tmp_path):
    """With `runtime.serve`: a reviser is; an adapter answers in process; the judge of an arm that ends with SFT is not
    asked."""
    file = tmp_path / "mine.yaml"
    text = """constitution: constitutions/short.txt
data: {source: rated-answers}
arms: {one: {}, two: {sft: {learns: preferred}, revise: {model: qwen2.5-coder-0.5b}}}
revise: {model: qwen2.5-coder-1.5b}
judge: {model: smollm2-135m}
evaluate: {judge: {model: smollm2-135m-judge, method: channel}}
runtime: {serve: llama.cpp}
"""
    file.write_text(text)
    assert served_models(read_experiment(file)) == {"qwen2.5-coder-1.5b", "smollm2-135m"}
    file.write_text(text + "rl: {method: sft}\n")
    found = read_experiment(file)
    assert served_models(found) == {"qwen2.5-coder-1.5b"}
    reviser = reviser_of(found.arms["one"].revise)
    (shown,) = with_revisers(found, [Artifact("revise", "k", tmp_path, "d", inputs={"reviser": canonical(reviser)})])
    assert shown.inputs["reviser"]["name"] == "qwen2.5-coder-1.5b"


def test_time_is_the_largest_of_arithmetic_memory_and_launches(model):
    card = CARDS["h100"]
    inputs = {"policy": {"model": model}, "dtype": "bfloat16", "sampling": {"max_new_tokens": 256}}
    one = need("respond", inputs, Runtime(batch_tokens=65536))
    assert one and (one.rows, one.width) == (128, 512)
    load = 8 + 2 * one.shape.parameters / 2e9
    # 128 answers at a time: a step reads 13.5 GB of weights and 25 GB of cache at 2.3 TB/s (17 ms), but 32 blocks are
    # launched in 25.6 ms; 256 steps make 6.6 s, and prompts of half of 256 tokens 0.4 s.
    seconds = seconds_on(card, one, inputs, 128 * 256, Runtime())
    assert seconds - load == pytest.approx(256 * 32 * 0.8e-3 + 0.45, rel=0.05)
    # LoRA: 4 x 6.6 G operations a token, 40% of 989 T a second.
    trained = learner(model)
    sft = need("train_sft", trained, Runtime())
    assert sft
    seconds = seconds_on(card, sft, trained, 1000, Runtime())
    assert seconds - load == pytest.approx(4 * sft.shape.read * 1000 * 512 / (989e12 * 0.4), rel=0.01)


def test_cards_and_amounts_of_memory():
    assert card_called("NVIDIA H100 80GB HBM3") == CARDS["h100"] and card_called("Tesla T4") is None
    assert (bytes_of("80GiB"), bytes_of("24 GB"), bytes_of("512MiB")) == (80 * GIB, 24e9, 2**29)
    with pytest.raises(UserError, match="is no amount of memory"):
        bytes_of("80")
