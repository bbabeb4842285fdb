"""A reward adapter on the policy's own base: the same rewards as by itself, no second base, and a policy left alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from test_ppo import adapter, trainer, weights
from test_ppo_usage import ANSWERED, ASKED
from test_score import CHATS, tiny_config, tiny_policy, tiny_tokenizer
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from cai.config.runtime import Runtime
from cai.config.sections import Policy
from cai.core.records import Message, Prompt, Revision, write_jsonl
from cai.models.architectures import lora
from cai.models.loading import load_causal, load_reward
from cai.models.references import find
from cai.models.score import score
from cai.models.workbench import Workbench
from cai.train.rl import backbone
from cai.train.rl.backbone import load_reward_on
from cai.train.rl.reward_models import reward_function
from cai.train.rl.rewards import normalised_reward


def noisy(model: Any, seed: int) -> Any:
    """An adapter that says something: as made, LoRA changes nothing."""
    torch.manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_policy().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reward(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model as the pipeline leaves it: an adapter with a head."""
    folder = tmp_path_factory.mktemp("reward")
    model: Any = LlamaForSequenceClassification.from_pretrained(base, num_labels=1)
    noisy(get_peft_model(model, lora(model, 4, None, reward=True)), 1).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def policy(base: Path, tmp_path: Path) -> PeftModel:
    """As after supervised fine-tuning, loaded to go on learning."""
    made = noisy(get_peft_model(LlamaForCausalLM.from_pretrained(base), adapter()), 2)
    made.save_pretrained(tmp_path / "sft")
    tiny_tokenizer().save_pretrained(tmp_path / "sft")
    return load_causal(find(str(tmp_path / "sft")), "float32", "cpu", train=True)


def storages(*models: Any) -> dict[int, int]:
    """Bytes of each tensor that the models hold, by its place in memory."""
    held = [tensor for model in models for tensor in model.parameters()]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}


def size(model: Any) -> int:
    return sum(storages(model).values())


def test_rewards_are_those_of_the_model_loaded_by_itself(policy, reward):
    alone = load_reward(find(str(reward)), "float32", "cpu")
    shared = load_reward_on(policy, find(str(reward)), "float32", "cpu")
    expected, got = (score(m, tiny_tokenizer(), CHATS, max_length=99, batch_tokens=40) for m in (alone, shared))
    assert got == expected
    assert max(got) - min(got) > 0.1, "rewards that are all alike would show nothing"


def test_the_base_is_held_once(policy, reward, base):
    alone = load_reward(find(str(reward)), "float32", "cpu")
    assert storages(policy).keys().isdisjoint(storages(alone))
    shared = load_reward_on(policy, find(str(reward)), "float32", "cpu")
    backbone = LlamaForSequenceClassification.from_pretrained(base, num_labels=1).model
    assert sum(storages(policy, shared).values()) == size(policy) + size(alone) - size(backbone)


def test_in_bfloat16_too_and_the_head_stays_float32(base, reward):
    policy = get_peft_model(LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter())
    alone, shared = (
        load_reward(find(str(reward)), "bfloat16", "cpu"),
        load_reward_on(policy, find(str(reward)), "float32", "cpu"),
    )
    assert {(n, p.dtype) for n, p in alone.named_parameters()} == {(n, p.dtype) for n, p in shared.named_parameters()}
    rewards = [score(m, tiny_tokenizer(), CHATS, max_length=99, batch_tokens=40) for m in (alone, shared)]
    assert rewards[0] == rewards[1]


def test_a_policy_that_no_longer_holds_the_base_shares_nothing(policy, base, reward, tmp_path):
    source = find(str(reward))
    alone = load_reward(source, "float32", "cpu")
    expected = score(alone, tiny_tokenizer(), CHATS, max_length=99, batch_tokens=99)
    altered = LlamaForCausalLM.from_pretrained(base)
    altered.model.layers[1].mlp.gate_proj.weight.data[3, 5] += 0.01
    whole = LlamaForCausalLM.from_pretrained(base)
    for other in (get_peft_model(altered, adapter()), whole, get_peft_model(tiny_policy(), adapter())):
        apart = load_reward_on(other, source, "float32", "cpu")
        assert storages(other).keys().isdisjoint(storages(apart))
        assert score(apart, tiny_tokenizer(), CHATS, max_length=99, batch_tokens=99) == expected


def test_a_whole_reward_model_and_one_on_another_base_stand_alone(policy, base, tmp_path):
    torch.manual_seed(5)
    LlamaForSequenceClassification(tiny_config(num_labels=1)).save_pretrained(tmp_path / "whole")
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    apart = load_reward_on(policy, find(str(tmp_path / "whole")), "float32", "cpu")
    assert storages(policy).keys().isdisjoint(storages(apart))
    model: Any = LlamaForSequenceClassification.from_pretrained(tmp_path / "whole")
    get_peft_model(model, lora(model, 2, None, reward=True)).save_pretrained(tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "adapter")
    apart = load_reward_on(policy, find(str(tmp_path / "adapter")), "float32", "cpu")
    assert storages(policy).keys().isdisjoint(storages(apart))


def test_an_adapter_that_takes_a_part_out_of_the_base_stands_alone(policy, base, tmp_path):
    model: Any = LlamaForSequenceClassification.from_pretrained(base, num_labels=1)
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS", init_lora_weights="pissa")
    get_peft_model(model, config).save_pretrained(tmp_path / "pissa")
    assert not backbone.belongs(tmp_path / "pissa", policy)


@pytest.mark.parametrize("how", ["new adapter", "given adapter", "path"])
def test_the_trainer_shares_by_itself_and_the_run_is_the_same(tmp_path, base, reward, policy, how):
    """As with a reward function that has a copy of its own: the same weights at the end, and no more is saved."""
    given = {"new adapter": lambda: LlamaForCausalLM.from_pretrained(base), "path": lambda: str(base)}
    given |= {"given adapter": lambda: load_causal(find(str(tmp_path / "sft")), "float32", "cpu", train=True)}
    peft = None if how == "given adapter" else adapter()
    alone = reward_function(str(reward), None, "cpu")
    apart = trainer(tmp_path / "apart", alone, model=given[how](), peft_config=peft)
    apart.train()
    shared = trainer(tmp_path / "shared", str(reward), model=given[how](), peft_config=peft)
    scorer = network_of(shared.reward_funcs[0])
    adapters = {n for n, p in scorer.named_parameters() if p.data_ptr() not in storages(shared.policy)}
    assert adapters and all("lora_" in name or "score" in name for name in adapters)
    assert shared.reward_funcs[0](ASKED, ANSWERED) == alone(ASKED, ANSWERED)
    before = {name: p.clone() for name, p in scorer.named_parameters()}
    shared.train()
    assert all(torch.equal(p, before[name]) for name, p in scorer.named_parameters())
    ours, theirs = weights(shared), weights(apart)
    assert ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    shared.save_model(str(tmp_path / "saved"))
    assert not [path for path in (tmp_path / "saved").iterdir() if path.is_dir()]
    saved = load_file(tmp_path / "saved/adapter_model.safetensors")
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in saved} == {"q_proj", "v_proj", "up_proj"}


def network_of(function: Any) -> Any:
    """The reward model inside a reward function."""
    held = [cell.cell_contents for cell in function.__closure__]
    return next(thing for thing in held if isinstance(thing, torch.nn.Module))


def test_the_stage_shares_too(policy, reward, tmp_path):
    """What it normalises by is the same, and the second base is gone."""
    texts = ("yes", "no no", "w1 w2 w3")
    prompt = Prompt("1", (Message("user", "hello"),), "harm", "train")
    write_jsonl(tmp_path / "revisions.jsonl", [Revision(prompt, text, ()) for text in texts])
    work = Workbench.open(Runtime(root=str(tmp_path / "runs"), batch_tokens=99))
    whole = LlamaForCausalLM.from_pretrained(policy.config.name_or_path)  # trained whole: it cannot share
    given = {"source": find(str(reward)), "revisions": tmp_path, "dtype": "float32", "max_length": 99}
    (ours, scale), (theirs, expected) = (
        normalised_reward(work, network, policy=Policy(system=None), **given) for network in (policy, whole)
    )
    assert scale == expected and scale["spread"] > 0.1
    assert ours(ASKED, ANSWERED) == theirs(ASKED, ANSWERED)
    shared = storages(network_of(ours)).keys() & storages(policy).keys()
    assert len(shared) == len(storages(whole.model)), "all of the backbone"


def test_a_reward_model_that_fails_leaves_the_policy_as_it_was(tmp_path, base, reward):
    """Nothing is switched for scoring, so nothing needs to be switched back."""
    taught = trainer(tmp_path, str(reward), model=LlamaForCausalLM.from_pretrained(base), peft_config=adapter())
    trained = {name for name, p in taught.policy.named_parameters() if p.requires_grad}
    network_of(taught.reward_funcs[0]).register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        taught.train()
    assert {name for name, p in taught.policy.named_parameters() if p.requires_grad} == trained
    assert taught.policy.active_adapters == ["default"]
