"""A model as a GGUF file: rows and names by hand, and read back as what it was, by transformers and by llama.cpp."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from gguf import GGMLQuantizationType, GGUFReader, TokenType
from peft import get_peft_model

from cai.config.slim import Slim
from cai.core.errors import UserError
from cai.core.records import Message
from cai.models import serving
from cai.models.__main__ import main
from cai.models.architectures import lora
from cai.models.export import command
from cai.models.export.check import check_file, hostile_texts, load_gguf, log_probabilities
from cai.models.export.command import WEIGHT_TYPES
from cai.models.export.vocabulary import split_of, vocabulary_of
from cai.models.export.write import ARCHITECTURES, FILE_TYPES, halves_apart, interleaved, type_of, write_gguf
from cai.models.loading import load_causal, load_reward, load_tokenizer, save
from cai.models.references import find
from cai.models.slim.make import slim

CHAT = (Message("user", "How do I boil an egg?"), Message("assistant", "In water."))
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.fixture(autouse=True)
def no_llama(monkeypatch):
    """llama.cpp is tried in a test of its own."""
    monkeypatch.setattr(serving, "llama_installed", lambda: False)


# 1. By hand -----------------------------------------------------------------------------------------------------------


def test_rows_that_positions_turn_together_become_neighbours():
    """Two heads of four rows, of which 0 goes with 2 and 1 with 3."""
    rows = np.arange(8.0)[:, None] * np.ones((1, 2))
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert halves_apart(interleaved(rows, 2), 2).tolist() == rows.tolist()
    assert interleaved(np.arange(8.0), 1).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]  # six rows apart in one head of eight


def test_what_has_no_whole_blocks_is_written_in_f16():
    assert type_of(np.ones((2, 64)), "q8_0") is GGMLQuantizationType.Q8_0
    assert type_of(np.ones((2, 48)), "q8_0") is GGMLQuantizationType.F16
    assert type_of(np.ones((2, 48)), "bf16") is GGMLQuantizationType.BF16
    assert type_of(np.ones(64), "q8_0") is GGMLQuantizationType.F32
    assert {*WEIGHT_TYPES} == {*FILE_TYPES}


def test_ways_to_split_have_names():
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    digits = {"type": "Digits", "individual_digits": True}
    own = {"type": "Split", "pattern": {"Regex": GGUF_PRE_TOKENIZER_SPLITS["qwen2"]}, "behavior": "Isolated"}
    own["invert"] = False
    several = lambda *steps: {"type": "Sequence", "pretokenizers": list(steps)}  # noqa: E731
    assert split_of(BYTES) == "gpt-2"
    assert split_of(several(digits, BYTES)) == "smollm"
    assert split_of(several(own, BYTES | {"use_regex": False})) == "qwen2"
    assert split_of(several(own | {"pattern": {"Regex": "x"}}, BYTES | {"use_regex": False})) is None
    assert split_of(several({"type": "Digits", "individual_digits": False}, BYTES)) is None
    assert split_of(BYTES | {"add_prefix_space": True}) is None
    assert split_of({"type": "Metaspace"}) is None and split_of(None) is None


def test_the_vocabulary_is_the_embeddings_rows(tiny):
    tokenizer = load_tokenizer(tiny)
    made = vocabulary_of(tokenizer, len(tokenizer) + 2)
    assert made.tokens[:3] == ("<|endoftext|>", "<|im_start|>", "<|im_end|>") and made.split == "gpt-2"
    assert made.kinds[:4] == (TokenType.CONTROL,) * 3 + (TokenType.NORMAL,)
    assert made.tokens[-2:] == (f"[PAD{len(tokenizer)}]", f"[PAD{len(tokenizer) + 1}]")
    assert made.kinds[-2:] == (TokenType.UNUSED,) * 2
    assert made.merges == ("Y e", "Ye s", "N o")
    assert made.ids == {"eos": 2, "pad": 0} and made.adds == {"bos": False, "eos": False}
    with pytest.raises(UserError, match=r"has the token \d+, and the model knows 9"):
        vocabulary_of(tokenizer, 9)


# 2. Read back ---------------------------------------------------------------------------------------------------------


def export(place: str, file: Path, kind: str = "f32") -> list[str]:
    model = find(place)
    command.check_model(model)
    return list(command.exported(model, file, kind))  # pyrefly: ignore


def apart(first: Any, second: Any, tokenizer: Any) -> float:
    ids = tokenizer("Which answer is better, and why? 12 eggs.")["input_ids"]
    return float((log_probabilities(first, ids) - log_probabilities(second, ids)).abs().max())


@pytest.mark.parametrize("kind", ["f32", "bf16", "f16", "q8_0", "q4_1"])
def test_a_file_is_the_model_rounded(sharp, tmp_path, kind):
    file = tmp_path / "sharp.gguf"
    lines = export(sharp.place, file, kind)
    assert "reads hostile texts as the folder does" in lines[2] and "not tried" in lines[3]
    again, reader = load_gguf(file)
    before: Any = load_causal(sharp, "float32", "cpu")
    tokenizer: Any = load_tokenizer(sharp)
    assert reader.chat_template == tokenizer.chat_template
    assert (reader.eos_token, reader.pad_token, reader.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    mine, theirs = before.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        off = (weight - theirs[name]).abs()
        if weight.ndim < 2 or kind == "f32":
            assert torch.equal(weight, theirs[name]), name
        elif kind in ("bf16", "f16"):
            exact = weight.to(torch.bfloat16 if kind == "bf16" else torch.float16).float()
            assert torch.equal(exact, theirs[name]), name
        elif kind == "q8_0":  # of 32 neighbours, steps of a 127th of the largest, itself in f16
            steps = weight.reshape(-1, 32).abs().amax(1) / 127
            assert bool((off.reshape(-1, 32) <= 0.51 * steps[:, None] + 0.127 * steps[:, None]).all()), name
    if kind == "f32":
        assert apart(before, again, tokenizer) == 0
    assert GGUFReader(file).fields["general.file_type"].contents() == FILE_TYPES[kind]  # pyrefly: ignore


def test_bfloat16_is_exact_where_the_weights_are(sharp, tmp_path):
    model: Any = load_causal(sharp, "bfloat16", "cpu")
    save(model, load_tokenizer(sharp), tmp_path / "half")
    lines = export(str(tmp_path / "half"), tmp_path / "half.gguf", "bf16")
    assert "rounding moves log-probabilities by at most 0 nats" in lines[1] and "at most 0 nats" in lines[2]


def test_qwen2_with_its_biases_and_an_output_matrix_of_its_own(tmp_path):
    folder = zoo.make(tmp_path / "qwen", "qwen2", "chatml")
    before: Any = load_causal(find(str(folder)), "float32", "cpu")
    for name, weight in before.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    save(before, load_tokenizer(find(str(folder))), folder)
    assert not before.config.tie_word_embeddings
    export(str(folder), tmp_path / "qwen.gguf")
    again, tokenizer = load_gguf(tmp_path / "qwen.gguf")
    assert again.config.model_type == "qwen2" and apart(before, again, tokenizer) < 1e-5


def test_an_adapter_is_merged_and_zeros_stay_zeros(sharp, tmp_path):
    torch.manual_seed(0)
    model: Any = get_peft_model(
        load_causal(sharp, "float32", "cpu"), lora(load_causal(sharp, "float32", "cpu"), 2, None)
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.5)
    save(model, load_tokenizer(sharp), tmp_path / "adapter")
    export(str(tmp_path / "adapter"), tmp_path / "merged.gguf")
    again, tokenizer = load_gguf(tmp_path / "merged.gguf")
    assert apart(model.merge_and_unload(), again, tokenizer) < 1e-4
    slim(sharp, Slim(how="magnitude", sparsity="2:4"), [CHAT], "cpu", tmp_path / "pruned")
    export(str(tmp_path / "pruned"), tmp_path / "pruned.gguf", "q8_0")
    pruned, _ = load_gguf(tmp_path / "pruned.gguf")
    assert float((pruned.model.layers[0].mlp.up_proj.weight == 0).float().mean()) >= 0.5


def test_a_file_that_is_another_model_is_removed(sharp, tmp_path):
    model: Any = load_causal(sharp, "float32", "cpu")
    tokenizer: Any = load_tokenizer(sharp)
    vocabulary = vocabulary_of(tokenizer, model.config.vocab_size)
    for spoil, fault in ((True, "what was written is another model"), (False, "is read as the tokens")):
        file = tmp_path / "spoilt.gguf"
        write_gguf(model, vocabulary, tokenizer.chat_template, file, "f32", "spoilt")
        other, reader = load_causal(sharp, "float32", "cpu"), load_tokenizer(sharp)
        if spoil:
            other.model.layers[1].mlp.up_proj.weight.data *= 1.5  # pyrefly: ignore
        else:
            reader.add_tokens(["fox"])
        with pytest.raises(UserError, match=fault):
            check_file(file, other, reader, False)
        assert not file.exists()


def test_hostile_texts_hold_every_added_token(tiny):
    texts = hostile_texts(load_tokenizer(tiny), False)
    assert any("<|im_end|><|im_end|>" in text for text in texts)
    assert any("e\u0301" in text for text in texts)
    assert not any("e\u0301" in text for text in hostile_texts(load_tokenizer(tiny), True))


# 3. By hand, and refused ----------------------------------------------------------------------------------------------


def test_the_command_writes_and_says_what_came_of_it(sharp, tmp_path, capsys):
    file = tmp_path / "there" / "sharp.gguf"
    assert main(["export", sharp.place, "--gguf", str(file), "--type", "q8_0"]) == 0
    lines = capsys.readouterr().out
    assert f"{sharp.place} -> {file}, q8_0: 0 MB, 20 tensors" in lines
    assert f"python -m cai.models serve {file}" in lines
    with pytest.raises(UserError, match="something stands here already"):
        main(["export", sharp.place, "--gguf", str(file)])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--gguf", "x.bin"), '"x.bin" does not end in .gguf'),
        (("--gguf", "x.gguf", "--type", "q8"), 'there is no type of weights "q8"'),
        (("--gguf", f"{__file__}/x.gguf"), "test_export.py"),
    ],
)
def test_a_bad_command_is_a_message(sharp, options, fault):
    with pytest.raises(UserError) as caught:
        main(["export", sharp.place, *options])
    assert fault in str(caught.value) and caught.value.remedy


def test_a_model_that_is_not_there_is_a_message(tmp_path):
    with pytest.raises(UserError, match='there is no model "nowhere"'):
        main(["export", "nowhere", "--gguf", str(tmp_path / "x.gguf")])


@pytest.mark.parametrize("architecture", ["gemma2", "gpt2", "mistral", "mixtral"])
def test_other_architectures_are_refused(tmp_path, architecture):
    folder = zoo.make(tmp_path / "other", architecture, "chatml")
    with pytest.raises(UserError, match="cannot be exported") as caught:
        export(str(folder), tmp_path / "x.gguf")
    assert "llama and qwen2" in caught.value.remedy and {*ARCHITECTURES} == {"llama", "qwen2"}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"attention_bias": True}, "its layers have biases"),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            r"scaled \(linear",
        ),
        ({"hidden_act": "gelu"}, "its activation is gelu"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(sharp, tmp_path, settings, fault):
    folder = tmp_path / "other"
    save(load_causal(sharp, "float32", "cpu"), load_tokenizer(sharp), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    with pytest.raises(UserError, match=fault) as caught:
        export(str(folder), tmp_path / "x.gguf")
    assert "vllm" in caught.value.remedy


def test_sentencepiece_reward_models_and_thin_matrices_are_refused(sharp, tmp_path):
    folder = zoo.make(tmp_path / "spm", "llama", "llama2")
    with pytest.raises(UserError, match=r"only byte-level BPE .* not this SentencePiece"):
        export(str(folder), tmp_path / "x.gguf")
    save(load_reward(sharp, "float32", "cpu"), load_tokenizer(sharp), tmp_path / "reward")
    with pytest.raises(UserError, match="is a reward model"):
        export(str(tmp_path / "reward"), tmp_path / "x.gguf")
    slim(sharp, Slim(how="low-rank", rank=4), [CHAT], "cpu", tmp_path / "thin")
    with pytest.raises(UserError, match=r"is slimmed \(low-rank\)"):
        export(str(tmp_path / "thin"), tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


# 4. By llama.cpp ------------------------------------------------------------------------------------------------------
