"""Models that share one base in memory are to the digit what each is when it is loaded by itself."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import ask
from peft import get_peft_model

from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.models.architectures import lora, probed
from cai.models.engines import Question, Request, Sampling
from cai.models.engines.transformers import TransformersEngine
from cai.models.loading import load_causal, load_reward, load_tokenizer, save, shared_tokenizer
from cai.models.references import Dtype, ModelRef, find
from cai.models.resident import Resident, stands_beside
from cai.models.score import score
from cai.models.workbench import Workbench

CHATS = [ask("Hi"), ask("How do I boil an egg?", system="Be brief."), ask("What is red and round, and what is not?")]
ANSWERED: list[Chat] = [(*chat, Message("assistant", text)) for chat in CHATS for text in ("No.", "Yes, by all means.")]
DTYPES: list[Dtype] = ["float32", "bfloat16"]


def adapter(
    folder: Path, base: ModelRef, seed: int, *, reward: bool = False, rank: int = 2, **changes: Any
) -> ModelRef:
    """An adapter that says something, another for each seed."""
    model: Any = (load_reward if reward else load_causal)(base, "float32", "cpu")
    settings = lora(model, rank, None, reward=reward)
    for name, value in changes.items():
        setattr(settings, name, value)
    model = get_peft_model(model, settings)
    draws = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            weight.data = torch.randn(weight.shape, generator=draws) * 0.3
    save(model, load_tokenizer(base), folder)
    return find(str(folder))


@pytest.fixture(scope="module")
def models(sharp: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelRef]:
    """A base, two policies of one form, one of another form, and two reward models."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "base": sharp,
        "policy 0": adapter(folder / "p0", sharp, 0),
        "policy 1": adapter(folder / "p1", sharp, 1),
        "wider": adapter(folder / "wide", sharp, 2, rank=3),
        "reward 0": adapter(folder / "r0", sharp, 3, reward=True),
        "reward 1": adapter(folder / "r1", sharp, 4, reward=True),
    }


def outcome(name: str, model: Any, source: ModelRef) -> Any:
    """Rewards, or logits."""
    tokenizer = load_tokenizer(source)
    if "reward" in name:
        return score(model, tokenizer, ANSWERED, max_length=999, batch_tokens=999)
    ids = tokenizer("An egg, and then another", return_tensors="pt")["input_ids"]  # pyrefly: ignore
    with torch.no_grad():
        return model(ids).logits.tolist()


@pytest.fixture(scope="module", params=DTYPES)
def alone(request: Any, models: dict[str, ModelRef]) -> tuple[Dtype, dict[str, Any]]:
    """What each gives when it is loaded by itself."""
    load: Any = lambda name: load_reward if "reward" in name else load_causal  # noqa: E731
    return request.param, {
        name: outcome(name, load(name)(source, request.param, "cpu").eval(), source) for name, source in models.items()
    }


def test_in_every_order_of_switching_each_gives_what_it_gives_alone(models, alone):
    dtype, wanted = alone
    assert len({str(value) for value in wanted.values()}) == len(models), "they must differ for this to test anything"
    resident = Resident("cpu")
    # A walk on which each follows each, itself as well.
    for first, second in itertools.product(models, repeat=2):
        for name in (first, second):
            give = resident.reward if "reward" in name else resident.causal
            assert outcome(name, give(models[name], dtype), models[name]) == wanted[name], (first, second)


@pytest.mark.parametrize("first", ["policy 0", "reward 0"])
def test_the_base_is_loaded_once_and_stands_in_memory_once(models, first, monkeypatch):
    import cai.models.resident as module

    loads: list[str] = []
    real = module.load_causal
    monkeypatch.setattr(module, "load_causal", lambda *args: loads.append(args[0].name) or real(*args))
    monkeypatch.setattr(module, "load_reward", lambda *args: pytest.fail("loaded by itself"))
    resident = Resident("cpu")
    places: set[int] = set()
    for name in [first, *models, *models]:
        network = (resident.reward if "reward" in name else resident.causal)(models[name], "float32")
        places |= {
            weight.data_ptr()
            for weight_name, weight in network.named_parameters()
            if "lora_" not in weight_name and "score" not in weight_name
        }
        assert not network.training
    assert loads == [models["base"].name]
    whole = load_causal(models["base"], "float32", "cpu")
    assert len(places) == len(list(whole.parameters())), "each tensor of the base in one place"


def test_another_base_or_dtype_takes_the_place_of_the_first(models, tiny, tmp_path):
    resident = Resident("cpu")
    for source, dtype in ((models["policy 0"], "float32"), (tiny, "float32"), (models["policy 0"], "bfloat16")):
        network = resident.causal(source, dtype)
        assert outcome("", network, source) == outcome("", load_causal(source, dtype, "cpu").eval(), source)
    resident.release()
    assert not resident._plain and not resident._adapted


def test_a_base_whose_files_have_changed_is_read_again(sharp, tmp_path):
    resident = Resident("cpu")
    for value in (1.0, 2.0):
        model: Any = load_causal(sharp, "float32", "cpu")
        model.lm_head.weight.data.fill_(value)
        save(model, load_tokenizer(sharp), tmp_path / "base")
        if value == 1.0:
            adapter(tmp_path / "adapter", find(str(tmp_path / "base")), 0)
        network: Any = resident.causal(find(str(tmp_path / "adapter")), "float32")
        assert float(network.get_base_model().lm_head.weight[0, 0].detach()) == value


@pytest.mark.parametrize("changes", [{"init_lora_weights": "olora"}, {"bias": "all"}, {"use_dora": True}])
def test_an_adapter_that_does_not_stand_beside_its_base_is_loaded_by_itself(sharp, models, tmp_path, changes):
    source = adapter(tmp_path / "adapter", sharp, 5, **changes)
    resident = Resident("cpu")
    before = outcome("", resident.causal(models["base"], "float32"), models["base"])
    got = outcome("", resident.causal(source, "float32"), source)
    assert got == outcome("", load_causal(source, "float32", "cpu").eval(), source)
    assert outcome("", resident.causal(models["base"], "float32"), models["base"]) == before


def test_what_stands_beside_a_base_is_lora_for_the_task():
    plain = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "init_lora_weights": True}
    assert stands_beside(plain, "CAUSAL_LM") and not stands_beside(plain, "SEQ_CLS")
    for changed in (
        {"peft_type": "IA3"}, {"bias": "lora_only"}, {"init_lora_weights": "pissa"}, {"layer_replication": [[0, 2]]},
        {"target_parameters": ["experts"]}, {"trainable_token_indices": [1]}, {"task_type": None},
    ):  # fmt: skip
        assert not stands_beside(plain | changed, "CAUSAL_LM")


def test_an_adapter_with_fewer_tensors_takes_none_over_from_the_one_before(sharp, models, tmp_path):
    """Cut by hand: of the second layer it brings nothing."""
    from safetensors.torch import load_file, save_file

    source = adapter(tmp_path / "cut", sharp, 6)
    file = tmp_path / "cut" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if "layers.1" not in name}, file)
    source = find(str(tmp_path / "cut"))
    resident = Resident("cpu")
    resident.causal(models["policy 0"], "float32")
    got = outcome("", resident.causal(source, "float32"), source)
    assert got == outcome("", load_causal(source, "float32", "cpu").eval(), source)


def test_whole_weights_and_faults_are_told_as_ever(sharp, models, tmp_path):
    resident = Resident("cpu")
    head = resident.reward(sharp, "float32")  # fresh: every text has the reward 0
    assert set(score(head, load_tokenizer(sharp), ANSWERED, max_length=999, batch_tokens=999)) == {0.0}
    with pytest.raises(UserError, match="no head for rewards"):
        resident.reward(models["policy 0"], "float32")
    source = adapter(tmp_path / "broken", sharp, 7)
    (tmp_path / "broken" / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot load the model"):
        resident.causal(source, "float32")
    got = outcome("", resident.causal(models["policy 0"], "float32"), models["policy 0"])
    assert got == outcome("", load_causal(models["policy 0"], "float32", "cpu").eval(), models["policy 0"])


def test_what_was_tried_on_a_model_is_known_when_it_is_back_and_not_of_another(models):
    resident = Resident("cpu")
    probed(resident.causal(models["policy 0"], "float32"))["left padding"] = "first"
    assert "left padding" not in probed(resident.causal(models["policy 1"], "float32"))
    assert "left padding" not in probed(resident.causal(models["policy 0"], "bfloat16"))
    assert probed(resident.causal(models["policy 0"], "float32"))["left padding"] == "first"


def test_engines_and_reward_models_of_a_workbench_take_turns(models, tmp_path):
    """Texts, readings and rewards are those of engines with weights of their own."""
    work = Workbench.open(Runtime(root=str(tmp_path), device="cpu"))
    sampling, questions = Sampling(6, temperature=0.8), [Question(chat, (" Yes", " No", " Nobody")) for chat in CHATS]
    for seed in range(2):
        for name, source in models.items():
            if "reward" in name:
                wanted = outcome(name, load_reward(source, "float32", "cpu").eval(), source)
                assert outcome(name, work.reward_model(source, "float32"), source) == wanted
                continue
            asked = [Request(chat, seed) for chat in CHATS]
            own = TransformersEngine(
                source, dtype="float32", device="cpu", system=None, batch_tokens=work.runtime.batch_tokens
            )
            engine = work.engine(source, dtype="float32", system=None)
            texts = dict(pair for batch in own.generate(asked, sampling) for pair in batch)
            assert engine.generate(asked, sampling, "texts") == [texts[k] for k in range(len(asked))]
            readings = dict(pair for batch in own.choose(questions, 999) for pair in batch)
            assert engine.choose(questions, 999, "readings") == [readings[k] for k in range(len(questions))]


def test_one_tokenizer_for_all_whose_files_and_template_are_alike(sharp, models, tmp_path):
    first = shared_tokenizer(models["policy 0"])
    assert shared_tokenizer(models["policy 1"]) is first is shared_tokenizer(models["reward 1"])
    plain = find(models["policy 0"].name, "plain")
    assert shared_tokenizer(plain) is not first
    assert shared_tokenizer(plain).chat_template == load_tokenizer(plain).chat_template
    changed = load_tokenizer(sharp)
    changed.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    changed.save_pretrained(tmp_path / "other")
    save(load_causal(sharp, "float32", "cpu"), changed, tmp_path / "other")
    other = find(str(tmp_path / "other"))
    assert shared_tokenizer(other).chat_template == load_tokenizer(other).chat_template != first.chat_template
