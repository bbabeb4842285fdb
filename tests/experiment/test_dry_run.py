"""The dry run: what is wrong with models and data is said at its line before any stage, and in a plan alike."""

import json
from pathlib import Path
from typing import Any

import pytest
import zoo
from test_adapter_start import adapter_of
from test_experiment import EXPERIMENT, LAW, lay_out
from transformers import AutoTokenizer

from cai.config.load import read_experiment
from cai.core.errors import UserError
from cai.experiment import checks
from cai.experiment.checks import check
from cai.experiment.command import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Any) -> Path:
    """A working folder, with a cache that remembers nothing of other tests' dry runs."""
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cai.experiment.checks.remembered", lambda stamp, look: look())
    return tmp_path


def said(overrides: list[str], *, plan: bool) -> str:
    with pytest.raises(UserError) as caught:
        check(read_experiment(Path("mine.yaml"), overrides), plan=plan)
    return str(caught.value)


def test_an_experiment_that_is_right_passes(place):
    check(read_experiment(Path("mine.yaml")))
    check(read_experiment(Path("mine.yaml")), plan=True)
    assert not (place / "runs").exists() or not list((place / "runs").glob("store/*"))


# 1. Data --------------------------------------------------------------------------------------------------------------

LINES = {line.partition(":")[0]: number for number, line in enumerate(EXPERIMENT.splitlines(), 1) if line}
DATA_FAULTS = [
    # (what is set, the key at fault, what is said)
    (["sft.max_length=20"], "sft.max_length", "none of the 4 prompts to revise leaves room for an answer"),
    (["reward.max_length=20"], "reward.max_length", "pairs is left: all have an answer that ends beyond 20 tokens"),
    (["rl.method=dpo", "rl.gold=null", "reward.max_length=20"], "reward.max_length", "training pairs is left"),
    (["rl.max_prompt_tokens=10"], "rl.max_prompt_tokens", "no training prompt fits in 10 tokens"),
    (["rl.batch_size=64", "rl.helpful=0"], "rl.batch_size", "a rollout of 64 answers takes 32 prompts, and"),
    (["data.test=0"], "data.test", "none of the 16 prompts is held out"),
    (["data.test=1", "data.calibration=0", "rl.gold=null"], "data.test", "none of the 16 prompts is to train on"),
    (["judge.method=auto", "data.calibration=0.0001"], "data.calibration", "the calibration split is empty"),
    (["revise.max_new_tokens=2040"], "revise.max_new_tokens", "no prompt leaves the model room for an answer"),
    (["sft.max_length=4096"], "sft.max_length", "sft.max_length is 4096 tokens, and tiny-random reads 2048"),
    (["reward.max_length=4096"], "reward.max_length", "reward.max_length is 4096 tokens"),
    (["rl.max_prompt_tokens=2045"], "rl.max_prompt_tokens", "answers of 6 (rl.max_new_tokens) are more than the 2048"),
    (["labels={subsets: {red: ai}, default: human}", "arms={}"], "labels.red", 'no pair is of subset "red"'),
]


@pytest.mark.parametrize("plan", [False, True], ids=["run", "plan"])
@pytest.mark.parametrize(("overrides", "key", "problem"), DATA_FAULTS, ids=[str(f[0]) for f in DATA_FAULTS])
def test_rows_that_would_not_do_are_told_at_their_key(place, overrides, key, problem, plan):
    told = said(overrides, plan=plan)
    assert f": {key}: " in told and problem in told and "\n  -> " in told


def test_a_key_of_the_file_is_named_with_its_line(place):
    (place / "mine.yaml").write_text(
        EXPERIMENT.replace("{helpful: 0.3, batch_size: 4}", "{helpful: 0.3, max_length: 9}")
    )
    assert said([], plan=False).startswith(f"mine.yaml:{LINES['sft']}: sft.max_length: none of the 4 prompts")


def test_pairs_that_nobody_judged_and_data_without_pairs(place):
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    without = [{key: value for key, value in row.items() if key != "human"} for row in rows]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in without))
    told = said(["arms={one: {labels: human}}"], plan=False)
    assert "labels: no person has judged one of the" in told
    Path("pairs.jsonl").write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    told = said([], plan=False)
    assert f"mine.yaml:{LINES['data']}: data.source: there are no pairs to train on: 0 pairs, of 16 prompts" in told
    ranked = [{"prompt": row["prompt"], "answers": ["Yes.", "No."], "ranking": [0, 1]} for row in rows]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ranked))
    assert "0 pairs, of 16 prompts (set aside: ranking: a rank is out of range: pairs.jsonl:1 and " in said(
        [], plan=False
    )
    Path("pairs.jsonl").write_text(json.dumps(rows[0]) + '\n{"prompt": "Cut o')
    told = said([], plan=False)
    assert "1 pairs, of 1 prompts (set aside: " in told and "pairs.jsonl:2)" in told


def test_labels_of_a_file_that_are_of_other_pairs(place):
    Path("mine.jsonl").write_text(json.dumps({"pair_id": "pair-x", "choice": "a"}) + "\n")
    told = said(["arms={one: {labels: {default: human, file: mine.jsonl}}}"], plan=False)
    assert "mine.jsonl: none of its rows is a label for one of the" in told


def test_everyday_prompts_that_are_all_on_one_side(place):
    Path("helpful.jsonl").write_text(json.dumps({"prompt": "How do I bake a loaf?", "subset": "everyday"}) + "\n")
    told = said([], plan=False)
    assert "helpful.source: " in told and "1" in told


@pytest.mark.parametrize(
    ("file", "key", "what"),
    [("law.txt", "constitution", "to revise by"), ("yardstick.txt", "evaluate.constitution", "to judge by")],
)
def test_a_subset_that_applies_to_leaves_without_a_principle(place, file, key, what):
    law = LAW.replace("Prefer: Choose the response that is kind.", "Prefer: Be kind.\n\nApplies to: violence")
    Path(file).write_text(law.replace("Prefer: Choose the response that is safe.", "Prefer: Be safe.\n\nApplies to: x"))
    told = said([], plan=True)
    assert f": {key}: {file} leaves prompts of subset " in told and f"without a principle {what}" in told
    assert 'change "Applies to:"' in told


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("choice", "choice compares two"),
        ("{rate: 1, reason: 1, contrast: 1}", "reason and contrast compares two"),
        ("auto", "auto may come to compare two"),
    ],
)
def test_direct_rewards_need_a_judge_of_single_answers(place, method, problem):
    text = EXPERIMENT.replace("rl: {steps: 2", "rl: {method: direct, steps: 2").replace(
        "  human: {labels: human}\n", ""
    )
    (place / "mine.yaml").write_text(text.replace("judge: {", f"judge: {{method: {method}, ", 1))
    told = said([], plan=True)
    assert f"mine.yaml:{LINES['judge']}: judge.method: rl.method: direct rewards single answers, and " in told
    assert f"judge.method: {problem}" in told and told.endswith("-> name rate or score or channel or check or rubric")


# 2. Models ------------------------------------------------------------------------------------------------------------


def base_with(folder: Path, architecture: str = "llama", template: str = "chatml", **changes: Any) -> str:
    """A model's folder, with changes to its config."""
    zoo.make(folder, architecture, template)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_model_is_looked_at_by_the_section_that_names_it(place):
    model = base_with(place / "base", template="none")
    line = {name: f"mine.yaml:{LINES[name]}" for name in ("policy", "judge")}
    for section in ("policy", "judge"):
        told = said([f"{section}.model={model}"], plan=True)
        assert f"--set {section}.model" in told or line[section] in told
        assert f"{section}.template: the tokenizer of" in told and "template: plain" in told
        check(read_experiment(Path("mine.yaml"), [f"{section}.model={model}", f"{section}.template=plain"]), plan=True)
    told = said([f"evaluate.judge.model={model}"], plan=False)
    assert "evaluate.judge.template: the tokenizer of" in told
    assert "policy.template: " in said(["policy.template=fancy"], plan=True)


SWALLOWS = "{% for m in messages %}{% if m['role'] != 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"


def test_templates_that_refuse_or_swallow_turns(place):
    Path("own.jinja").write_text(SWALLOWS)
    told = said(["policy.template=own.jinja"], plan=True)
    assert "policy.model: the model's chat template leaves out what stands in a turn of the user" in told
    Path("own.jinja").write_text("{{ raise_exception('no') }}")
    told = said(["judge.template=own.jinja"], plan=True)
    assert "judge.model: the model's chat template refuses the conversation: no" in told


MODEL_FAULTS = [
    ({"vocab_size": 100}, "the tokenizer writes tokens that the model does not know"),
    ({"max_position_embeddings": 256}, "base reads 256"),
    ({"model_type": "vit"}, "policy.model: "),
    ({"model_type": "nonsense"}, "policy.model: its config cannot be read"),
]


@pytest.mark.parametrize(("changes", "problem"), MODEL_FAULTS, ids=[str(f[0]) for f in MODEL_FAULTS])
def test_what_a_model_cannot_do(place, changes, problem):
    model = base_with(place / "base", **changes)
    assert problem in said([f"policy.model={model}"], plan=True)


def test_a_folder_without_weights(place):
    base = Path(base_with(place / "base"))
    (base / "model.safetensors").unlink()
    assert f'there are no weights in "{base}"' in said([f"policy.model={base}"], plan=True)


def test_settings_for_generation_that_are_no_json(place):
    base = Path(base_with(place / "base"))
    (base / "generation_config.json").write_text("{")
    assert "its generation_config.json cannot be read" in said([f"policy.model={base}"], plan=True)


def test_a_padding_token_beyond_the_embeddings(place):
    base = Path(base_with(place / "base", template="alpaca"))
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(base)
    assert 'the padding token "[PAD]" has number' in said([f"policy.model={base}"], plan=True)


@pytest.mark.parametrize("architecture", ["gpt2", "opt-350m", "mamba", "gemma3-multimodal", "gpt-oss", "rwkv", "mpt"])
def test_architectures_that_can_be_trained_pass(place, architecture):
    base = base_with(place / "base", architecture)
    check(read_experiment(Path("mine.yaml"), [f"policy.model={base}", f"judge.model={base}"]), plan=True)


@pytest.mark.parametrize("critique", [True, False])
def test_worked_rounds_are_rendered_as_the_stage_renders_them(place, critique):
    shown = ["revise.examples=prompts/examples/revise.jinja", f"revise.critique={str(critique).lower()}"]
    check(read_experiment(Path("mine.yaml"), shown), plan=True)


def test_a_reviser_of_its_own_is_looked_at_as_the_one_who_revises(place):
    check(read_experiment(Path("mine.yaml"), ["revise.model=tiny-random"]), plan=True)
    told = said([f"revise.model={base_with(place / 'mute', template='none')}"], plan=True)
    assert "revise.model: the tokenizer of" in told and "use a model with a chat template of its own" in told
    told = said([f"revise.model={base_with(place / 'small', vocab_size=100)}"], plan=True)
    assert "revise.model: the tokenizer writes tokens that the model does not know" in told


def test_an_adapter_of_another_rank_and_a_gold_that_is_no_reward_model(place):
    source = adapter_of(place / "made")
    told = said([f"policy.model={source.place}", "policy.lora_rank=16"], plan=True)
    assert "--set policy.lora_rank: policy.lora_rank: " in told and "is an adapter of rank 3" in told
    check(read_experiment(Path("mine.yaml"), [f"policy.model={source.place}", "policy.lora_rank=3"]), plan=True)
    told = said([f"rl.gold.by={source.place}"], plan=True)
    assert "rl.gold.by: " in told and "is no reward model" in told


# 3. All at once, before anything, and once ----------------------------------------------------------------------------


def test_all_faults_come_at_once_and_nothing_was_begun(place, capsys):
    wrong = ["sft.max_length=20", "reward.max_length=20", "rl.max_prompt_tokens=10"]
    for plan in ([], ["--plan"]):
        with pytest.raises(UserError) as caught:
            main(["mine.yaml", *plan, *(part for each in wrong for part in ("--set", each))])
        text = str(caught.value)
        keys = ("sft.max_length", "reward.max_length", "rl.max_prompt_tokens", "data.calibration")
        assert all(f": {key}: " in text for key in keys) and len(caught.value.errors) == 4  # the last one by rl.gold
    assert not list(place.glob("runs/store/*"))


def test_a_dry_run_that_found_nothing_is_not_done_again(place, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(place)
    monkeypatch.setenv("CAI_CACHE", str(place / "cache"))  # the session's may remember it from an earlier test run
    looked = []
    inner = checks._look
    monkeypatch.setattr("cai.experiment.checks._look", lambda *args: looked.append(1) or inner(*args))
    for overrides in ([], [], ["rl.kl_coef=0.07"], ["rl.kl_coef=0.07"]):
        check(read_experiment(Path("mine.yaml"), overrides))
    assert len(looked) == 2
    Path("helpful.jsonl").write_text(Path("helpful.jsonl").read_text() + '{"prompt": "How?", "subset": "everyday"}\n')
    check(read_experiment(Path("mine.yaml")))
    assert len(looked) == 3
    for _ in range(2):
        said(["sft.max_length=20"], plan=False)
    assert len(looked) == 5
