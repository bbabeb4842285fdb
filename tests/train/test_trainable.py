"""Records of what travels together: what they are in a key, that functions stay small, and what knows of what."""

import ast
from pathlib import Path

import pytest

from cai.config.rl import LiveFeedback, Rl
from cai.config.sections import Policy, Revise
from cai.core.store import Artifact, digest_of, keyed
from cai.data.input_file import feedback_file
from cai.models.engines import Sampling
from cai.models.references import ModelRef
from cai.train.learnt import Everyday
from cai.train.live.shaping import LiveShaping
from cai.train.respond import Opposition, Picker
from cai.train.revising import RevisedBy
from cai.train.rl.given import OnlineRun, RewardModel
from cai.train.rl.methods.dpo import DpoSettings
from cai.train.trainable import Draws, Labelled, PromptSet, Scorer, Trainable

TRAIN = Path(__file__).parents[2] / "cai" / "train"
POLICY, MODEL = Policy(), ModelRef("m", "", "weights")
START = Trainable(MODEL, POLICY, "float32")
DATA = Artifact("load_data", "k", Path("data"), "d")


def test_a_record_stands_in_a_key_as_the_parts_that_once_were_parameters():
    model = {"policy": POLICY, "dtype": "float32"}
    assert keyed({"start": START, "seed": 3}) == {"model": MODEL, **model, "seed": 3}
    assert Trainable(MODEL, POLICY, "float32", role="sft").keyed() == {"sft": MODEL, **model}
    scorer = Scorer(Trainable(MODEL, POLICY, "float32", role="reward"), 9)
    assert scorer.keyed() == {"reward": MODEL, **model, "max_length": 9}
    assert PromptSet(DATA, "test").keyed() == {"prompts": DATA, "split": "test", "count": None}
    assert Draws(Sampling(4), 7).keyed() == {"sampling": Sampling(4), "seed": 7}
    assert Everyday().keyed() == {"helpful": None, "helpful_answers": None}
    assert Opposition().keyed() == {"opposed": (), "template": None}
    assert Picker(MODEL, 4, 9).keyed() == {"reward": MODEL, "n": 4, "max_length": 9}
    settings = DpoSettings(epochs=1, batch_size=2, learning_rate=0.5, beta=0.1, max_length=9)
    assert settings.keyed() == {"epochs": 1, "batch_size": 2, "learning_rate": 0.5, "kl": 0.1, "max_length": 9}


def test_labels_of_every_round_so_far():
    first = Labelled().with_round(DATA, DATA)
    assert first.keyed() == {"pairs": (DATA,), "labels": (DATA,)}
    assert first.with_round(DATA, DATA) == Labelled((DATA, DATA), (DATA, DATA))
    assert Labelled().with_round(DATA, None) == Labelled(), "nothing reads the labels of `rl.method: direct`"


def test_what_is_not_there_does_not_stand_in_a_key(tmp_path):
    run = {"data": DATA, "helpful": None, "revisions": DATA, "settings": Rl(), "gold": None, "seed": 0}
    start = Trainable(MODEL, POLICY, "float32", role="sft")
    plain = {"sft", "policy", "dtype", "data", "helpful", "revisions", "settings", "gold", "seed"}
    assert set(OnlineRun(start=start, **run).keyed()) == plain
    assert OnlineRun(start=start, **run, snapshots=(2, 4)).keyed()["snapshots"] == (2, 4)

    assert RewardModel(MODEL, 9).keyed() == {"reward": MODEL, "reward_max_length": 9}
    (tmp_path / "log.jsonl").write_text("{}\n")
    shaping = LiveShaping.of(LiveFeedback(log=str(tmp_path / "log.jsonl"), weight=2.0, decay=0.5))
    log = feedback_file(str(tmp_path / "log.jsonl"))
    feedback = RewardModel(MODEL, 9, shaping).keyed()["feedback"]
    assert feedback == {"log": log, "weight": 2.0, "decay": 0.5, "learner": 2}

    by = RevisedBy.of(Revise(), 0)
    assert set(by.keyed()) == {"settings", "seed", "critique", "revision"}


def test_two_records_that_bring_one_name_are_no_key():
    with pytest.raises(AssertionError, match="given twice"):
        keyed({"start": START, "again": START})
    assert digest_of(keyed({"start": START})) != digest_of(keyed({"start": Trainable(MODEL, POLICY, "bfloat16")}))


def parameters(function: ast.FunctionDef) -> list[str]:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [one.arg for one in every if one.arg not in ("self", "cls")]


def test_no_function_of_training_has_more_than_seven_parameters():
    functions = {
        f"{file.name}: {node.name}": len(parameters(node))
        for file in TRAIN.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(functions) > 150 and {name: n for name, n in functions.items() if n > 7} == {}


def test_rl_knows_live_feedback_through_one_hook():
    knows = {file.name for file in (TRAIN / "rl").rglob("*.py") if "cai.train.live" in file.read_text()}
    assert knows == {"given.py"}
    assert "cai.train.rl" not in "".join(file.read_text() for file in (TRAIN / "live").glob("*.py"))
