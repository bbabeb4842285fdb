"""A model that is made here, through the whole pipeline; and what is wrong with `pretrain:`, said before it begins."""

import contextlib
import json
import sys
from pathlib import Path

import pytest

from cai.compare.sections.from_nothing import bits, keeps_role, perplexity
from cai.config.load import read_experiment
from cai.core.errors import UserError, UserErrors
from cai.core.store import Store
from cai.experiment.checks import check
from cai.experiment.command import main
from cai.experiment.pipeline import train
from cai.models.references import model_of
from cai.models.workbench import Workbench
from cai.train.perplexity import TextScore

ROOT = Path(__file__).parents[2]
FILE = ROOT / "experiments" / "from-scratch.yaml"
SMALL = (
    "pretrain={text: tests/cases/tales.txt, held_out: 0.3, vocabulary: 320, context: 200}",
    "pretrain.layers=1",
    "pretrain.width=32",
    "pretrain.heads=2",
    "seed=1",
    "sft={learns: experiments/data/tales.jsonl, batch_size: 16, epochs: 0.2, max_length: 200}",
    "reward={group: prompt, max_length: 200}",
    "rl={steps: 1, batch_size: 4, max_new_tokens: 8, max_prompt_tokens: 100}",
    "data={source: experiments/data/tales-ranked.jsonl, test: 0.3, train_pairs: 12, test_pairs: 8}",
    "evaluate={prompts: 4, helpful: 0, transcripts: 0, max_new_tokens: 8}",
    "evaluate.judge={model: tiny-random, min_mass: 0.0, max_length: 2000}",
)


def experiment(root: Path, *changed: str):
    with contextlib.chdir(ROOT):
        return read_experiment(FILE, [f"runtime.root={root}", "runtime.device=cpu", "dtype=float32", *SMALL, *changed])


# The whole of it ------------------------------------------------------------------------------------------------------


def run(root: Path, *changed: str) -> dict:
    with contextlib.chdir(ROOT):
        sets = (f"runtime.root={root}", "runtime.device=cpu", "dtype=float32", *SMALL, *changed)
        assert main([str(FILE), *(f"--set={one}" for one in sets)]) == 0
    return json.loads((root / "from-scratch" / "results.json").read_text())


@pytest.mark.parametrize("training", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_all_stages_start_from_what_is_made(tiny, tmp_path, training):
    r = run(tmp_path, f"policy={{training: {training}, system: null, lora_rank: 4}}")
    found = r["from_nothing"]
    assert [line["stage"] for line in found["lines"]] == ["pretraining", "SFT", "PPO"]
    assert [line["policy"] for line in found["lines"]] == ["start", "sft", "human/0"]
    for line in found["lines"]:
        assert 1 < line["perplexity"]["low"] <= line["perplexity"]["value"] <= line["perplexity"]["high"] < 500
        assert line["ends"]["n"] == line["keeps_role"]["n"] == 4
        assert line["perplexity"]["n"] == found["counts"]["documents held out"]
    assert found["texts"] == ["tests/cases/tales.txt"] and len(found["samples"]) == 4
    assert [answer["policy"] for answer in found["samples"][0]["answers"]] == ["start", "sft", "human/0"]
    assert r["curves"][0]["title"] == "pretraining: loss" and len(r["curves"][0]["lines"]) == 2
    page = (tmp_path / "from-scratch" / "report.html").read_text()
    assert "From nothing: what each stage changed" in page and "Answers side by side" in page
    # Everything that was trained is the size of what was made, and stands on it.
    (made,) = (tmp_path / "store").glob("pretrain-*/model")
    config = json.loads((made / "config.json").read_text())
    assert (config["hidden_size"], config["vocab_size"]) == (32, 320)
    for stage in ("train_sft", "train_ppo", "train_reward"):
        (model,) = (tmp_path / "store").glob(f"{stage}-*/model")
        if training == "full":
            assert json.loads((model / "config.json").read_text())["hidden_size"] == 32
        else:
            settings = json.loads((model / "adapter_config.json").read_text())
            assert settings["base_model_name_or_path"] == str(made)


def test_the_start_model_is_that_of_the_folder(tmp_path):
    """A plan knows it by the key of what will be made; then its digest is one of contents, wherever the store is."""
    one = experiment(tmp_path)
    (arm,) = one.arms.values()
    work = Workbench.open(one.runtime)
    with contextlib.chdir(ROOT):
        cell = train(Store(tmp_path, plan=True).stage_with(work), work, "human", arm, 0)
    assert cell.pretrained and model_of(arm.policy, cell.pretrained).digest.startswith("?")
    assert arm.policy.model == "pretrained" and cell.artifacts[0] is cell.pretrained


# By hand --------------------------------------------------------------------------------------------------------------


def test_perplexity_and_bits_by_hand():
    # 4 tokens at 2 bits, and 2 at 5: 18 bits in 6 tokens, of 9 bytes.
    two = 2 * 0.6931471805599453
    rows = [TextScore("a", 4, 6, 4 * two), TextScore("b", 2, 3, 5 * two)]
    assert perplexity(rows).value == pytest.approx(2 ** (18 / 6))
    assert bits(rows).value == pytest.approx(2.0)
    assert (perplexity(rows).n, perplexity(rows).clusters) == (2, 2)
    # Documents drawn as wholes: from a alone 4, from b alone 32.
    assert (perplexity(rows).low, perplexity(rows).high) == pytest.approx((4, 32))


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("There was once a fox.", True),
        ("The user asked: why?", True),
        ("There was a fox.\nuser\nTell me more.", False),
        ("### Human:\nhello", False),
        ("Yes.\n\nassistant: No.", False),
        ("Q: what?", False),
        ("Human beings.", True),
    ],
)
def test_an_answer_that_opens_a_turn_leaves_its_role(text, keeps):
    assert keeps_role(text) is keeps


def test_the_tales_are_those_that_their_script_writes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "data"))
    import tales

    for name, rows in zip(("tales", "tales-ranked"), tales.rows(), strict=True):
        lines = (ROOT / "experiments" / "data" / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == rows
    shown, judged = ({row["prompt"] for row in rows} for rows in tales.rows())
    assert (len(shown), len(judged)) == (168, 120) and not shown & judged
    assert sum("danced for joy" in row["completion"] for row in tales.rows()[0]) == 84  # half of them end well
    del sys.modules["tales"]


# What is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ("pretrain.txt=a.txt", "txt"),
        ("pretrain.text=[]", "pretrain.text"),
        ("pretrain.held_out=0", "pretrain.held_out"),
        ("pretrain.vocabulary=200", "pretrain.vocabulary must be"),
        ("pretrain.context=1", "pretrain.context"),
        ("pretrain.heads=3", "3 heads cannot have equal, even shares of a width of 32"),
        ("pretrain.warmup=2", "pretrain.warmup"),
        ("pretrain.learning_rate=0", "pretrain.learning_rate"),
        ("policy.model=tiny-random", "policy.model names another: tiny-random"),
        ("policy={server: {url: 'http://127.0.0.1:1/v1'}}", "a model that is made here is served nowhere yet"),
    ],
)
def test_what_is_wrong_with_a_key_is_said_at_once(tmp_path, changed, says):
    with pytest.raises((UserError, UserErrors), match=says):
        experiment(tmp_path, changed)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ("pretrain.text=nowhere.txt", r'there is no text "nowhere.txt"'),
        ("pretrain.held_out=1e-9", "no document is held out"),
        ("sft.max_length=4000", "sft.max_length is 4000 tokens, and pretrained reads 200"),
        ("rl.max_prompt_tokens=198", "prompts of 198 tokens and answers of 8"),
        ("runtime.processes=2", "pretrain: works in one process, and there are to be 2"),
        ("policy.template=plain", "has a chat template of its own"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_begins(tiny, tmp_path, changed, says):
    with contextlib.chdir(ROOT), pytest.raises((UserError, UserErrors), match=says):
        check(experiment(tmp_path, changed))


def test_without_a_pretrained_model_its_name_means_nothing(tmp_path):
    with contextlib.chdir(ROOT), pytest.raises((UserError, UserErrors), match='no model "pretrained"'):
        check(read_experiment(ROOT / "experiments/smoke.yaml", ["policy.model=pretrained", f"runtime.root={tmp_path}"]))
