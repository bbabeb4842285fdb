"""A training that diverges is stopped with its key, and leaves nothing that a later run would take for a result."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_harm import ratings
from test_pretrain import TINY, cycle_file
from test_same_bytes import RL, given  # noqa: F401 (a fixture)

from cai.config.pretrain import Pretrain
from cai.config.runtime import Runtime
from cai.config.sections import Harmfulness, Judge, Reward, Sft
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import Message
from cai.core.store import Store
from cai.core.templates import load_template
from cai.judge.asked import AskedJudge
from cai.models.loading import load_reward, load_tokenizer
from cai.models.references import trained
from cai.models.score import score
from cai.models.workbench import Workbench
from cai.train.harm import train_harm
from cai.train.pretrain import pretrain
from cai.train.reward import train_reward
from cai.train.rl.given import RewardModel
from cai.train.rl.judged import RatedBy
from cai.train.rl.methods.direct import train_direct
from cai.train.rl.methods.dpo import DpoSettings, train_dpo
from cai.train.rl.methods.grpo import train_grpo
from cai.train.rl.methods.online_dpo import train_online_dpo
from cai.train.rl.methods.ppo import train_ppo
from cai.train.rl.methods.rloo import train_rloo
from cai.train.sft import Everyday, train_sft

RATE = 1e30


def sft(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    settings = Sft(batch_size=2).model_copy(update={"learning_rate": RATE})  # more than a config may have
    return train_sft, {
        "revisions": made["revisions"], "everyday": Everyday(), "start": made["start"], "settings": settings, "seed": 3,
    }  # fmt: skip


def reward(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    settings = Reward(batch_size=2).model_copy(update={"learning_rate": RATE})
    return train_reward, {"labelled": made["labelled"], "start": made["start"], "settings": settings, "seed": 3}


def dpo(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    settings = DpoSettings(epochs=1, batch_size=2, learning_rate=RATE, beta=0.1, max_length=500)
    return train_dpo, {"labelled": made["labelled"], "start": made["run"].start, "settings": settings, "seed": 3}


def against(method: Callable[..., None]) -> Callable[[dict[str, Any]], tuple[Callable[..., None], dict[str, Any]]]:
    def told(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
        run = replace(made["run"], settings=RL.model_copy(update={"learning_rate": RATE, "steps": 3}))
        return method, {"run": run, "reward": RewardModel(trained(made["reward"], "reward"), 500)}

    return told


def harm(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    settings = Harmfulness(epochs=1, batch_size=4, max_length=200).model_copy(update={"learning_rate": RATE})
    rated = ratings(made["folder"] / "rated")
    return train_harm, {"ratings": rated, "start": made["start"], "settings": settings, "seed": 3}


def asking(method: Callable[..., None], **more: Any) -> Callable[[dict[str, Any]], tuple[Callable[..., None], Any]]:
    """As `against`, of a method that asks the judge."""

    def told(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
        judge = AskedJudge(
            settings=Judge(model="tiny-random", min_mass=0.0), model=made["start"].ref,
            templates={"rate": load_template("rate")}, principles=(Judging("kind", "Choose the kind one.", (), 1.0),),
            dtype="float32", seed=0,
        )  # fmt: skip
        run = replace(made["run"], settings=RL.model_copy(update={"learning_rate": RATE, "steps": 3}))
        return method, {"run": run, "rater": RatedBy(judge), **more}

    return told


def from_nothing(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    text = str(cycle_file(made["folder"]))
    settings = Pretrain(text=(text,), **TINY, epochs=2).model_copy(update={"learning_rate": RATE})
    return pretrain, {"settings": settings, "contents": ["x"], "dtype": "float32", "seed": 0}


@pytest.mark.parametrize(
    ("case", "section"),
    [
        (sft, "sft"), (reward, "reward"), (dpo, "rl"),
        (against(train_ppo), "rl"), (against(train_rloo), "rl"), (against(train_grpo), "rl"),
        (asking(train_direct), "rl"), (asking(train_online_dpo, beta=0.1), "rl"),
        (harm, "evaluate.harmfulness"), (from_nothing, "pretrain"),
    ],
    ids=["sft", "reward", "dpo", "ppo", "rloo", "grpo", "direct", "online_dpo", "harm", "pretrain"],
)  # fmt: skip
def test_it_is_stopped_and_nothing_of_it_is_kept(
    tmp_path: Path,
    given: dict[str, Any],  # noqa: F811
    case: Callable[..., Any],
    section: str,
) -> None:
    stage, inputs = case(given)
    work = Workbench.open(Runtime(root=str(tmp_path), device="cpu"))
    store = Store(work.root)
    for _ in range(2):  # and again, from what an interrupted run leaves
        with pytest.raises(UserError) as refused:
            store.stage(stage, runtime=work, **inputs)
        error = str(refused.value)
        assert f"{section}.learning_rate" in error and "diverged" in error and "it is 1e+30" in error, error
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_reward_model_of_no_numbers_is_told_and_never_taken_for_one_that_cannot_read(
    given: dict[str, Any],  # noqa: F811
) -> None:
    ref = trained(given["reward"], "reward")
    model: Any = load_reward(ref, "float32", "cpu")
    chat = (Message("user", "Hi"), Message("assistant", "Hello"))
    tokenizer = load_tokenizer(ref)
    assert isinstance(score(model, tokenizer, [chat], max_length=500, batch_tokens=500)[0], float)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(UserError, match="gives nan to an answer: it diverged") as refused:
        score(model, tokenizer, [chat], max_length=500, batch_tokens=500)
    assert "lower learning rate" in refused.value.remedy


def test_a_training_that_ends_worse_than_it_began_is_told_with_its_key(
    tmp_path: Path,
    given: dict[str, Any],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A rate of 1 gives numbers, and no model: its weights are kept, and what happened stands on the terminal."""
    work = Workbench.open(Runtime(root=str(tmp_path), device="cpu"))
    settings = Reward(batch_size=2, learning_rate=1.0)
    common = {"labelled": given["labelled"], "start": given["start"], "settings": settings, "seed": 3}
    Store(work.root).stage(train_reward, runtime=work, **common)
    said = capsys.readouterr().err
    assert "note: train the reward model: its loss was 0.693 at first and" in said
    assert "so it learnt nothing: lower reward.learning_rate" in said
