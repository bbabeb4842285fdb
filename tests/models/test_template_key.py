"""`template:` of `policy:` and `judge:`: checked at its line, part of the model's identity, and used by every stage."""

import json

import pytest
import zoo
from fakes import ask
from test_another_method import BESIDE
from test_config import BASE, fault
from test_experiment import asked_in_a_plan, lay_out

from cai.config.load import read_experiment
from cai.config.runtime import Runtime
from cai.config.sections import Judge, Policy
from cai.core.records import Message
from cai.core.store import canonical
from cai.experiment.command import main
from cai.models.chat_templates import PLAIN
from cai.models.loading import load_tokenizer
from cai.models.references import find, model_of
from cai.models.workbench import Workbench
from cai.train.learnt import encode

OFF = {"enable_thinking": False}
EMPTY_THOUGHT = "<|im_start|>assistant\n<think>\n\n</think>\n\n"


# 1. The key -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "wrong", "said"),
    [
        ("policy", "3", "mine.yaml:3: a chat template is named, or told its arguments; this is 3"),
        ("judge", "[plain]", "mine.yaml:3: a chat template is named, or told its arguments; this is a list of 1 item"),
        ("judge", "{}", "this is a section of keys\n  -> write plain, the name of one that the model brings"),
        ("policy", "{enable-thinking: false}", "mine.yaml:3: a chat template cannot be told enable-thinking: false"),
        ("policy", "{tools: [a]}", "mine.yaml:3: a chat template cannot be told tools: a list of 1 item"),
    ],
)
def test_a_template_that_is_none_is_a_fault_of_its_line(tmp_path, section, wrong, said):
    assert said in fault(tmp_path, BASE + f"{section}: {{template: {wrong}}}\n")


@pytest.mark.parametrize("value", ["plain", "chat", "my/own.jinja", OFF, {"reasoning": "low", "turns": 3, "x": None}])
def test_what_a_template_may_be(tmp_path, value):
    file = tmp_path / "mine.yaml"
    file.write_text(BASE + f"policy: {{template: {json.dumps(value)}}}\nevaluate: {{judge: {{template: plain}}}}\n")
    (arm,) = read_experiment(file).arms.values()
    assert arm.policy.template == value and arm.judge.template is None and arm.evaluate.judge.template == "plain"


def test_a_section_without_a_template_has_the_key_that_it_had_before_there_was_one():
    assert "template" not in canonical(Policy()) and canonical(Judge(template="plain")) == canonical(Judge())


def test_another_template_is_another_model(tmp_path):
    folder = str(zoo.make(tmp_path / "model", "llama", "thinking"))
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages[0]['content'] }}")
    found = [model_of(Policy(model=folder, template=t)).digest for t in (None, "plain", OFF, {"a": 1}, str(file))]
    file.write_text("{{ messages[0]['content'] }}!")
    found.append(model_of(Judge(model=folder, template=str(file))).digest)
    assert len(set(found)) == 6 and found[0] == find(folder).digest


# 2. What it does ------------------------------------------------------------------------------------------------------


def test_arguments_reach_what_a_model_is_asked_and_what_it_learns(tmp_path):
    folder = str(zoo.make(tmp_path / "model", "llama", "thinking"))
    for template, opening in ((None, "<|im_start|>assistant\n"), (OFF, EMPTY_THOUGHT)):
        source = model_of(Judge(model=folder, template=template))
        tokenizer = load_tokenizer(source)
        engine = Workbench.open(Runtime(root=str(tmp_path / "runs"))).engine(source, dtype="float32", system=None)
        assert tokenizer.decode(engine.prompt_ids(ask("Hi"))).endswith("Hi<|im_end|>\n" + opening)
        row = encode(tokenizer, (Message("user", "Hi"),), "Ho", None)
        learnt = [token for token, mask in zip(row["input_ids"], row["completion_mask"], strict=True) if mask]
        # Where the opening holds no thought, the template writes an empty one before an answer.
        before = "" if template else "<think>\n\n</think>\n\n"
        assert tokenizer.decode(learnt) == f"{before}Ho<|im_end|>\n"


def test_every_stage_is_given_the_template_of_its_section(tmp_path, monkeypatch):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = {"policy.template": "{'a': 1}", "judge.template": "{'b': 2}", "evaluate.judge.template": "{'c': 3}"}
    asked = asked_in_a_plan([f"{key}={value}" for key, value in own.items()])
    given = {(stage, json.dumps(model.template)) for stage, inputs in asked if (model := inputs.get("model"))}
    of = {letter: {stage for stage, text in given if f'"{letter}"' in text} for letter in "abc"}
    assert of["a"] >= {"revise", "respond", "train_sft", "train_reward"}
    assert of["b"] == {"preflight", "label_by_judge"}
    assert of["c"] >= {"play", "rate_answers", "judge_items"}
    # What was trained carries its template in its folder.
    assert {stage for stage, text in given if text == "null"} <= {"respond", "choose_items"}
    gold = [inputs["gold"]["model"].template for stage, inputs in asked if stage == "train_ppo"]
    assert gold == [{"c": 3}, {"c": 3}]


def test_a_base_model_is_trained_by_the_plain_template(tmp_path, monkeypatch):
    """GPT-2, Pythia: no chat template. The whole pipeline, with such a judge as well."""
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    zoo.make(tmp_path / "base", "gpt2", "none")
    text = (tmp_path / "mine.yaml").read_text().replace("model: tiny-random", "model: ./base, template: plain")
    text = text[: text.index("arms:")] + "labels: ai\n"
    for line in BESIDE:
        text = text.replace(line, "")
    (tmp_path / "mine.yaml").write_text(text.replace("lora_rank: 4", "lora_rank: 2"))
    assert main(["mine.yaml", "--set", "rl.max_new_tokens=4", "--set", "rl.steps=1"]) == 0
    links = json.loads((tmp_path / "runs/mine/links.json").read_text())["ai/0"]
    for stage in ("sft", "reward", "policy"):
        tokenizer = load_tokenizer(find(str(tmp_path / links[stage] / "model")))
        assert tokenizer.chat_template == PLAIN
        assert tokenizer.decode(encode(tokenizer, ask("Hi"), "Ho", "Be kind.")["input_ids"]) == (
            "<|endoftext|>Be kind.\n\n### Human:\nHi\n\n### Assistant:\nHo<|endoftext|>\n\n"
        )
    digests = json.loads((tmp_path / "runs/mine/results.json").read_text())["provenance"]["digests"]
    assert digests['model ./base (template: "plain")'] == model_of(Policy(model="./base", template="plain")).digest
    assert json.loads((tmp_path / links["sft"] / "counts.json").read_text())["revisions"] == 4
