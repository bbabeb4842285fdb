"""Numbers that go wrong, from the config to the end of a run: each is stopped with its key and a remedy, or told."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_experiment import lay_out

from cai.compare.sections.watched import unlearnt
from cai.config.load import read_experiment
from cai.core.errors import UserError, run_main
from cai.core.records import plain
from cai.experiment.checks import check
from cai.experiment.command import main
from cai.train.criteria import spread_of

CONFIG = """
constitution: law.txt
seeds: [0]
policy: {model: tiny-random, lora_rank: 4}
data: {source: pairs.jsonl, test: 0.5}
helpful: null
dtype: float32
revise: {prompts: 3, rounds: 1, max_new_tokens: 6}
judge: {model: tiny-random, min_mass: 0.0, preflight: {mass: 0, accuracy: 0, reads: off}}
reward: {batch_size: 4}
rl: {steps: 2, batch_size: 4, max_new_tokens: 5, epochs: 1, helpful: 0}
evaluate:
  prompts: 2
  transcripts: 0
  max_new_tokens: 5
  constitution: yardstick.txt
  judge: {model: tiny-random, principles: 1, min_mass: 0.0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Any) -> Path:
    lay_out(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rl.learning_rate=1e9", "rl.learning_rate must be a number above 0 and of at most 1, not 1000000000.0"),
        ("sft.learning_rate=2", "sft.learning_rate must be a number above 0 and of at most 1, not 2"),
        ("reward.learning_rate=.inf", "reward.learning_rate"),
        ("reward.learning_rate=.nan", "reward.learning_rate"),
        ("rl.batch_size=3", "write batch_size: 4"),
        ("seeds=[4294967296]", "seeds[0] must be a whole number of at least 0 and below 4294967296"),
        ("judge.temperature=1e-300", "judge.temperature must be a number of at least 0.01"),
        ("data.test=0", "none of the 16 prompts is held out"),
        ("data.test=1", "none of the 16 prompts is to train on"),
    ],
)
def test_it_is_said_before_any_work_with_its_key(folder: Path, override: str, said: str) -> None:
    for more in ([], ["evaluate.harmfulness={source: rated-answers}"]):
        with pytest.raises(UserError) as error:
            check(read_experiment(Path("mine.yaml"), [override, *more]))
        assert said in str(error.value) and "--set " in str(error.value)


def test_one_prompt_is_too_few_and_that_is_all_that_is_said(folder: Path) -> None:
    (folder / "pairs.jsonl").write_text('{"prompt": "p", "a": "x", "b": "y", "human": 1}\n')
    with pytest.raises(UserError) as error:
        check(read_experiment(Path("mine.yaml")))
    assert "none of the 1 prompts" in str(error.value) and "judge.shots" not in str(error.value)


def test_a_judge_that_can_read_nothing_is_stopped_before_it_labels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["mine.yaml", "--set", "judge.min_mass=1"]) == 2
    assert "judge.method: the judge did not pass its preflight" in capsys.readouterr().err
    assert not list(folder.rglob("label_by_judge-*/manifest.json"))


def test_a_judge_that_abstains_on_all_leaves_nothing_to_learn_from(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["judge.min_mass=1", "judge.preflight=null", "rl.method=none"]
    code = run_main(main, ["mine.yaml", *(part for one in overrides for part in ("--set", one))])
    said = capsys.readouterr().err
    assert code == 2 and "error: " in said and "  -> " in said, said


def test_a_reward_model_that_tells_nothing_apart_is_not_learnt_from(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["mine.yaml", "--set", "reward.learning_rate=1e-30"]) == 2
    said = capsys.readouterr().err
    assert "reward: the reward model gives all 3 answers of the SFT policy the same reward, " in said
    assert "reward.epochs" in said
    assert list(folder.rglob("train_reward-*/manifest.json")), "what came before is kept"


def test_rewards_that_are_alike_have_no_spread() -> None:
    fault = UserError("none", "reward", "")
    assert spread_of([1.0, 3.0, None], fault, "it", "reward").mean == 2.0
    with pytest.raises(UserError, match=r"the judge gives all 2 answers of the SFT policy the same reward, 0\.5"):
        spread_of([0.5, None, 0.5], fault, "the judge", "judge.method")
    with pytest.raises(UserError, match="none"):
        spread_of([None, None], fault, "it", "reward")


def test_labels_of_one_kind_and_a_rate_that_learns_nothing_end_in_a_run_that_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All labels say `a`, and DPO at a rate of 1: numbers come, and results.json is JSON that any program reads."""
    rows = [json.loads(line) | {"human": 1} for line in (folder / "pairs.jsonl").read_text().splitlines()]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = ["labels=human", "rl.method=dpo", "rl.learning_rate=1", "rl.epochs=4"]
    code = run_main(main, ["mine.yaml", *(part for one in overrides for part in ("--set", one))])
    said = capsys.readouterr().err
    assert code in (0, 2), said
    if code:
        assert "rl.learning_rate: DPO diverged" in said
        return

    def no_number(name: str) -> Any:
        raise AssertionError(f"results.json holds {name}")

    results = json.loads((folder / "runs/mine/results.json").read_text(), parse_constant=no_number)
    assert any("One seed" in line for line in results["warnings"])


def test_a_training_that_ended_worse_stands_in_the_report(tmp_path: Path) -> None:
    """Also where its stage was found in the store, and nothing was printed."""
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "good/curves.json").write_text(json.dumps({"step": [1, 2, 3, 4], "loss": [0.7, 0.6, 0.6, 0.5]}))
    (tmp_path / "bad/curves.json").write_text(json.dumps({"step": [1, 2, 3, 4], "loss": [0.69, 0.6, 2.0, 2.85]}))

    class Made(SimpleNamespace):
        def __truediv__(self, name: str) -> Path:
            return self.path / name

    good, bad = Made(path=tmp_path / "good"), Made(path=tmp_path / "bad")
    given = {"taught": None, "sft": bad, "reward": good}
    dpo, ppo = (SimpleNamespace(rl=SimpleNamespace(method=method)) for method in ("dpo", "ppo"))
    cells: Any = [
        SimpleNamespace(arm="ai", seed=0, policy=bad, settings=dpo, **given),
        SimpleNamespace(arm="ai", seed=1, policy=bad, settings=ppo, **given),  # its loss is no cross-entropy
    ]
    assert [line.partition(" in the end")[0] for line in unlearnt(cells)] == [
        "Arm ai, seed 0: the loss of `sft:` was 0.69 at first and 2.85",
        "Arm ai, seed 0: the loss of `rl:` was 0.69 at first and 2.85",
    ]


def test_no_infinity_is_no_json() -> None:
    assert plain({"a": [float("inf"), float("-inf"), float("nan"), 1.5]}) == {"a": [None, None, None, 1.5]}
