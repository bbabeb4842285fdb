"""`policy.model` is an adapter's folder: it goes on learning, or is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file
from test_another_method import BESIDE
from test_experiment import lay_out
from test_matrix import alone, trained

from cai.config.sections import Policy
from cai.core.errors import UserError
from cai.experiment.command import main
from cai.models.loading import load_causal, load_reward, load_tokenizer
from cai.models.references import ModelRef, find
from cai.train.starting import load_to_train
from cai.train.trainable import Trainable

IDS = [5, 9, 30, 40]


def adapter_of(folder: Path, architecture: str = "llama", rank: int = 3, config: Any = None) -> ModelRef:
    """A LoRA that says something, on a model beside it, as peft saves it: without a tokenizer."""
    base = zoo.make(folder / "base", architecture, "chatml")
    network: Any = load_causal(find(str(base)), "float32", "cpu")
    config = config or LoraConfig(r=rank, task_type="CAUSAL_LM", target_modules="all-linear")
    network = get_peft_model(network, config)
    torch.manual_seed(1)
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    network.save_pretrained(folder / "adapter")
    return find(str(folder / "adapter"))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt-350m"])
@pytest.mark.parametrize("training", ["lora", "full"])
def test_what_is_trained_begins_as_the_adapter_on_its_base(tmp_path, architecture, training):
    source = adapter_of(tmp_path, architecture)
    policy = Policy(model=source.place, training=training, lora_rank=3)
    start = load_causal(source, "float32", "cpu")
    expected = alone(start, IDS[:1], IDS[1:])
    without = alone(load_causal(find(str(tmp_path / "base")), "float32", "cpu"), IDS[:1], IDS[1:])
    assert expected != pytest.approx(without, abs=2e-3)
    network, more = load_to_train(Trainable(source, policy, "float32"), "cpu")
    assert more is None and alone(network, IDS[:1], IDS[1:]) == pytest.approx(expected, abs=1e-4)
    names = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert all("lora_" in name for name in names) if training == "lora" else not any("lora_" in name for name in names)
    assert names and (training == "lora" or all(weight.requires_grad for weight in network.parameters()))

    # The reward model reads what the policy reads: same states, and a head that is zero and learns.
    states = start(input_ids=torch.tensor([IDS]), output_hidden_states=True).hidden_states[-1]
    reward, more = load_to_train(Trainable(source, policy, "float32"), "cpu", reward=True)
    assert more is None and reward(input_ids=torch.tensor([IDS])).logits.item() == 0
    assert any("score" in name and weight.requires_grad for name, weight in reward.named_parameters())
    found = reward(input_ids=torch.tensor([IDS]), output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(found, states, atol=1e-4)


@pytest.mark.parametrize("training", ["lora", "full"])
def test_the_whole_pipeline_goes_on_from_an_adapter(tmp_path, monkeypatch, training):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    source = adapter_of(tmp_path)
    text = (tmp_path / "mine.yaml").read_text().replace("{model: tiny-random, lora_rank: 4}", "POLICY")
    text = text[: text.index("arms:")] + "labels: ai\n"
    for line in BESIDE:
        text = text.replace(line, "")
    own = f"{{model: {source.place}, lora_rank: 3, training: {training}}}"
    (tmp_path / "mine.yaml").write_text(text.replace("POLICY", own))
    assert main(["mine.yaml"]) == 0
    links = json.loads((tmp_path / "runs/mine/links.json").read_text())["ai/0"]
    first = load_file(tmp_path / "adapter/adapter_model.safetensors") if training == "lora" else {}
    for stage in ("sft", "policy"):
        folder = tmp_path / links[stage] / "model"
        assert (folder / "adapter_config.json").is_file() == (training == "lora")
        if training == "lora":  # the same adapter, which has learnt
            saved = load_file(folder / "adapter_model.safetensors")
            assert saved.keys() == first.keys() and any(not torch.equal(saved[name], first[name]) for name in first)
            near = max((saved[name] - first[name]).abs().max().item() for name in first)
            assert near < 0.1
    assert (load_reward(find(str(tmp_path / links["reward"] / "model")), "float32", "cpu")).config.num_labels == 1


def test_online_methods_go_on_from_an_adapter_with_no_kl_at_first(tmp_path):
    source = adapter_of(tmp_path, "gpt2")
    out = trained(tmp_path / "out", source, Policy(model=source.place, lora_rank=3), ["dpo", "ppo", "grpo"])
    assert json.loads((out["ppo"] / "curves.json").read_text())["kl"] == pytest.approx([0], abs=1e-4)


@pytest.mark.parametrize(
    ("config", "policy", "where", "said"),
    [
        (None, {"lora_rank": 16}, "policy.lora_rank", "is an adapter of rank 3, and goes on learning as it is"),
        (None, {"lora_rank": 3, "lora_layers": 1}, "policy.lora_layers", "on the layers that it has"),
        (IA3Config(task_type="CAUSAL_LM"), {}, "policy.model", "is an adapter of kind IA3"),
        (LoraConfig(r=3, task_type="SEQ_CLS", target_modules=["q_proj"]), {}, "policy.model", "another task (SEQ_CLS)"),
    ],
)
def test_what_cannot_go_on_is_refused_by_name(tmp_path, config, policy, where, said):
    source = adapter_of(tmp_path, config=config)
    with pytest.raises(UserError, match=said.replace("(", r"\(").replace(")", r"\)")) as caught:
        load_to_train(Trainable(source, Policy(model=source.place, **policy), "float32"), "cpu")
    assert caught.value.where == where


def test_an_adapter_on_an_adapter_is_refused_by_name(tmp_path):
    source = adapter_of(tmp_path)
    file = Path(source.place) / "adapter_config.json"
    (tmp_path / "second").mkdir()
    for one in Path(source.place).iterdir():
        (tmp_path / "second" / one.name).write_bytes(one.read_bytes())
    settings = json.loads(file.read_text()) | {"base_model_name_or_path": source.place}
    (tmp_path / "second" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=f'the base of this adapter, "{source.place}", is an adapter itself'):
        load_causal(find(str(tmp_path / "second")), "float32", "cpu")


def test_a_language_models_adapter_is_no_reward_model(tmp_path):
    with pytest.raises(UserError, match="no head for rewards"):
        load_reward(adapter_of(tmp_path), "float32", "cpu")


def test_its_tokenizer_is_its_bases(tmp_path):
    tokenizer = load_tokenizer(adapter_of(tmp_path))
    assert len(tokenizer) == len(load_tokenizer(find(str(tmp_path / "base"))))
