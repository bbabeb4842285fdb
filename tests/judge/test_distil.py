"""A smaller judge is taught by the whole one: distances by hand, and a tiny student that comes nearer to it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cai.config.load import Arm
from cai.config.runtime import Runtime
from cai.config.sections import Judge
from cai.config.slim import Distil, Slim
from cai.config.tree import load_tree
from cai.config.validation import validate
from cai.constitution import read_constitution
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt, write_jsonl
from cai.core.store import Artifact, key_of
from cai.experiment import labelling
from cai.judge.asked import AskedJudge
from cai.judge.asking import ballots_for
from cai.judge.ballots import Ballot
from cai.judge.slimming import distil as distilling
from cai.judge.slimming import stages
from cai.judge.slimming.acceptance import BARE, note_on_distilling, without_principles
from cai.judge.slimming.command import settings_of
from cai.judge.slimming.distil import TaughtVote, distil, divergence, of_options, of_votes, schedule
from cai.judge.slimming.stages import distil_judge
from cai.models.__main__ import main
from cai.models.engines import reading
from cai.models.engines.transformers import TransformersEngine, exclusive
from cai.models.loading import load_causal
from cai.models.references import find
from cai.models.slim.folder import note_of
from cai.models.slim.make import slim
from cai.models.workbench import Workbench

LN = math.log
ROOT = Path(__file__).parents[2]


def pair(number: int, split: Any = "train") -> Pair:
    prompt = Prompt(f"p{number}", (Message("user", f"What is {number} and {number}?"),), "s", split)
    return Pair(f"{number}", prompt, f"It is {2 * number}, I think.", "No idea, and I do not care.", 1.0)


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


# 1. How far apart, by hand --------------------------------------------------------------------------------------------


def test_over_options_what_else_could_be_said_counts():
    """Teacher 1/2, 1/4 and 1/4 elsewhere; student 1/4, 1/2 and 1/4: 1/2 ln 2 - 1/4 ln 2."""
    assert float(of_options(logs(0.5, 0.25), logs(0.25, 0.5))) == pytest.approx(0.25 * LN(2), abs=1e-6)
    # The same two options between themselves, but a student that hardly ever says one: 1/2 ln 5 + 1/2 ln (5/9).
    assert float(of_options(logs(0.25, 0.25), logs(0.05, 0.05))) == pytest.approx(
        0.5 * LN(5) + 0.5 * LN(5 / 9), abs=1e-6
    )
    assert float(of_options(logs(0.5, 0.5), logs(0.5, 0.5))) == pytest.approx(0.0, abs=1e-6)  # nothing is left over


def test_of_votes_it_is_the_bernoulli_and_its_gradient_the_difference():
    """P(a) of 3/4 and of 1/2: 3/4 ln (3/2) + 1/4 ln (1/2)."""
    student = torch.tensor(0.0, requires_grad=True)
    made = of_votes(torch.tensor(LN(3)), student)
    made.backward()
    assert made.item() == pytest.approx(0.75 * LN(1.5) + 0.25 * LN(0.5), abs=1e-6)
    assert float(student.grad) == pytest.approx(-0.25)  # pyrefly: ignore


def test_a_method_with_options_is_compared_question_by_question_and_one_without_by_its_vote():
    rate = TaughtVote(Ballot("rate", "p", "each"), ((LN(0.5), LN(0.25)), (LN(0.25), LN(0.5))))
    student = [logs(0.25, 0.5), logs(0.25, 0.5)]
    assert float(divergence(rate, student)) == pytest.approx(0.5 * 0.25 * LN(2), abs=1e-6)
    # Of channel: (-1 + 3) / 2 for a, less (-2 + 2) / 2 for b, is 1; the student's is (-1 + 1) / 2 - 0.
    channel = TaughtVote(Ballot("channel", "p", "each"), ((-1.0,), (-3.0,), (-2.0,), (-2.0,)))
    student = [torch.tensor([value], requires_grad=True) for value in (-1.0, -1.0, -5.0, -5.0)]
    made, p = divergence(channel, student), 1 / (1 + math.exp(-1))
    assert made.item() == pytest.approx(p * LN(2 * p) + (1 - p) * LN(2 * (1 - p)), abs=1e-6)
    made.backward()
    # d odds: a half for a's principle, minus a half for its opposite, turned round for b; times 1/2 - p.
    assert [float(one.grad) for one in student] == pytest.approx(  # pyrefly: ignore
        [half * (0.5 - p) for half in (0.5, -0.5, -0.5, 0.5)]
    )


def test_options_exclude_one_another_as_the_engine_reads_them():
    tails = [[1], [1, 0], [2]]  # "1" and "10"
    made = exclusive(tails, logs(0.5, 0.2, 0.25))
    assert made.exp().tolist() == pytest.approx([0.3, 0.2, 0.25])
    assert made.tolist() == pytest.approx(reading(tails, [LN(0.5), LN(0.2), LN(0.25)]).logprobs)


def test_the_rate_goes_up_over_a_tenth_and_down_to_nothing():
    assert schedule(0.05) == pytest.approx(0.5) and schedule(0.1) == pytest.approx(1.001)
    assert schedule(0.55) == pytest.approx(0.501) and schedule(1.0) == pytest.approx(0.001)


# 2. A tiny student ----------------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path) -> Workbench:
    return Workbench.open(Runtime(root=str(tmp_path / "runs"), device="cpu"))


def judge_of(model: str, method: str) -> AskedJudge:
    settings = Judge(model=model, method=method, principles=1)
    return AskedJudge.of(settings, read_constitution(ROOT / "constitutions/short.txt"), "float32", 0)


PAIRS = [pair(n) for n in range(24)]


def test_what_is_learnt_by_is_what_is_read(sharp):
    judge = judge_of(sharp.place, "channel")
    engine = TransformersEngine(sharp, dtype="float32", device="cpu", system=None, batch_tokens=4096)
    questions = [q for ballots in ballots_for(PAIRS[:2], judge) for ballot in ballots for q in ballot.questions]
    assert len(questions) == 8  # two pairs, two answers, a principle and its opposite
    read = {k: one for batch in engine.choose(questions, 2048) for k, one in batch}
    for k, made in enumerate(engine.option_log_probs(questions)):
        assert made.tolist() == pytest.approx(read[k].logprobs, abs=1e-4)  # pyrefly: ignore
    numbers = judge_of(sharp.place, "score")
    few = [q for ballots in ballots_for(PAIRS[:1], numbers) for ballot in ballots for q in ballot.questions]
    read = {k: one for batch in engine.choose(few, 2048) for k, one in batch}
    for k, made in enumerate(engine.option_log_probs(few)):
        assert made.tolist() == pytest.approx(read[k].logprobs, abs=1e-4)  # pyrefly: ignore


def test_a_pruned_judge_comes_nearer_to_the_whole_one_and_stays_pruned(sharp, work, tmp_path):
    how = Slim(how="magnitude", distil=Distil(pairs=24, epochs=3, learning_rate=3e-3))
    slim(sharp, how.pruned, [], "cpu", tmp_path / "half")
    half, judge = find(str(tmp_path / "half")), judge_of(sharp.place, "channel")
    people = [replace(one, human=None) for one in PAIRS]
    made = distil(work, judge, half, how, people, tmp_path / "taught")
    assert made.after < 0.9 * made.before and made.pairs + made.looked_at == 24
    assert made.steps == 3 * math.ceil(made.pairs / 4)
    note = note_of(tmp_path / "taught")
    assert note and note["zeros"] / note["weights"] == pytest.approx(0.5, abs=0.01) and note["reloaded"] <= 1e-3
    assert Slim.model_validate(note["how"]) == how and note["of"] == sharp.digest
    assert note["distilled"] == {"pairs": made.pairs, "steps": made.steps, "looked_at": made.looked_at,
                                 "before": made.before, "after": made.after}  # fmt: skip
    before, after = (load_causal(model, "float32", "cpu") for model in (half, find(str(tmp_path / "taught"))))
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        if "proj" in name:
            assert bool((new[old == 0] == 0).all()) and not torch.equal(old, new), name
        else:
            assert torch.equal(old, new), name
    # The same again is the same model, whatever people said.
    distil(work, judge, half, how, PAIRS, tmp_path / "again")
    assert find(str(tmp_path / "again")).digest == find(str(tmp_path / "taught")).digest


def test_in_bfloat16_products_are_rounded_and_weights_are_not(sharp, work, tmp_path):
    how = Slim(how="magnitude", distil=Distil(pairs=16, learning_rate=3e-3))
    slim(sharp, how.pruned, [], "cpu", tmp_path / "half")
    judge = replace(judge_of(sharp.place, "channel"), dtype="bfloat16")
    made = distil(work, judge, find(str(tmp_path / "half")), how, PAIRS, tmp_path / "taught")
    assert math.isfinite(made.after) and made.after != made.before
    weights: Any = load_causal(find(str(tmp_path / "taught")), "float32", "cpu").state_dict()
    up = weights["model.layers.0.mlp.up_proj.weight"]
    assert bool(up.isfinite().all()) and not torch.equal(up, up.bfloat16().float())


def test_thin_matrices_learn_as_well(sharp, work, tmp_path):
    how = Slim(how="low-rank", rank=4, distil=Distil(pairs=8))
    slim(sharp, how.pruned, [one.prompt.messages for one in PAIRS], "cpu", tmp_path / "thin")
    distil(work, judge_of(sharp.place, "contrast"), find(str(tmp_path / "thin")), how, PAIRS, tmp_path / "taught")
    assert note_of(tmp_path / "taught")["ranks"] == note_of(tmp_path / "thin")["ranks"]  # pyrefly: ignore
    before, after = (load_causal(find(str(tmp_path / name)), "float32", "cpu") for name in ("thin", "taught"))
    changed = {name for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
               if not torch.equal(old, new)}  # fmt: skip
    assert changed == {name for name, _ in before.named_parameters() if "proj" in name}
    assert any(".up." in name for name in changed) and any(".down." in name for name in changed)


def test_principles_go_into_the_weights(sharp, work, tmp_path):
    """The student is asked one question, whatever the principle; the teacher reads them."""
    how = Slim.model_validate({"how": "distil", "distil": {"pairs": 24, "epochs": 4, "learning_rate": 3e-3}})
    judge = judge_of(sharp.place, "rate")
    lessons, _ = distilling.lessons_for(work, judge, how.distil, PAIRS)  # pyrefly: ignore
    asked = {
        message.content for votes in lessons for vote in votes for q in vote.ballot.questions for message in q.chat
    }
    assert all(BARE in text for text in asked if "Would you choose" in text) and len(judge.principles) > 1
    assert not any(principle.prefer in text for principle in judge.principles for text in asked)
    made = distil(work, judge, sharp, how, PAIRS, tmp_path / "taught")
    assert made.after < made.before
    note = note_of(tmp_path / "taught")
    assert note and note["how"]["how"] == "distil" and note["how"]["distil"]["context"] is False and not note["zeros"]


def test_too_few_pairs_and_quantised_students_are_messages(sharp, work, tmp_path):
    how = Slim(how="magnitude", distil=Distil())
    with pytest.raises(UserError, match="could be read on too few of 1 training pairs"):
        distil(work, judge_of(sharp.place, "rate"), sharp, how, PAIRS[:1], tmp_path / "x")
    slim(sharp, how.pruned, [], "cpu", tmp_path / "int8")
    note = json.loads((tmp_path / "int8/slim.json").read_text())
    (tmp_path / "int8/slim.json").write_text(json.dumps(note | {"how": note["how"] | {"how": "int8"}}))
    with pytest.raises(UserError, match=r"is quantised \(int8\): its weights cannot learn"):
        distil(work, judge_of(sharp.place, "rate"), find(str(tmp_path / "int8")), how, PAIRS, tmp_path / "x")
    assert not (tmp_path / "x").exists()


# 3. In an experiment --------------------------------------------------------------------------------------------------


def test_only_training_pairs_are_learnt_from(tmp_path, monkeypatch):
    seen: list[Pair] = []
    monkeypatch.setattr(distilling, "distil", lambda work, judge, student, how, pairs, out: seen.extend(pairs))
    write_jsonl(tmp_path / "pairs.jsonl", [pair(0), pair(1, "calibration"), pair(2, "test"), pair(3)])
    given: Any = {"judge": None, "student": None, "how": Slim(how="wanda"), "teaching": Distil()}
    distil_judge(tmp_path / "out", None, **given, data=Artifact("load_data", "k", tmp_path, "d"))  # pyrefly: ignore
    assert [one.id for one in seen] == ["0", "3"]


def test_stages_of_a_distilled_judge(sharp, tmp_path):
    """Pruned first, by the same stage and key as without distilling; then taught, asked by the same principles or by
    none."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def stage(function: Any, **inputs: Any) -> Artifact:
        calls.append((function.__name__, inputs))
        return Artifact(function.__name__, "k", tmp_path, f"digest of {function.__name__}")

    data, judge = Artifact("load_data", "k", tmp_path, "d"), judge_of(sharp.place, "rate")
    how = Slim(how="wanda", distil=Distil(pairs=9))
    made = labelling.slimmed(stage, judge, how, data)
    assert [name for name, _ in calls] == ["slim_judge", "distil_judge"]
    keys = [key_of(stages.slim_judge, {"model": sharp, "how": one, "data": data}) for one in (how, how.pruned)]
    assert keys[0] == keys[1]
    assert calls[1][1]["student"].digest == "digest of slim_judge" and calls[1][1]["judge"] is judge
    assert made.model.digest == "digest of distil_judge" and made.principles == judge.principles
    assert made.model.name == f"{sharp.name}, wanda 50%, distilled"
    calls.clear()
    made = labelling.slimmed(stage, judge, Slim.model_validate({"how": "distil"}), data)
    assert [name for name, _ in calls] == ["distil_judge"] and calls[0][1]["student"] is judge.model
    assert {one.prefer for one in made.principles} == {BARE}
    assert [one.name for one in made.principles] == [one.name for one in judge.principles]
    assert without_principles(made.principles) == made.principles


def slim_of(tmp_path: Path, text: str) -> Slim:
    (tmp_path / "slim.yaml").write_text(text)
    return validate(load_tree(tmp_path / "slim.yaml"), Slim)


def test_a_word_means_without_principles(tmp_path):
    assert slim_of(tmp_path, "how: distil").distil == Distil(context=False)
    assert slim_of(tmp_path, "{how: distil, distil: {pairs: 7}}").distil == Distil(pairs=7, context=False)
    assert slim_of(tmp_path, "{how: wanda, distil: {}}").distil == Distil()
    names = [Slim(how="wanda", sparsity="2:4", distil=Distil()).name, slim_of(tmp_path, "how: distil").name]
    assert names == ["wanda 2:4, distilled", "distilled without principles"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{how: int8, distil: {}}", "int8 has no distil"),
        ("{how: distil, distil: {context: true}}", "teaches a judge what it says already"),
        ("{how: distil, sparsity: 0.4}", "distil has no sparsity"),
        ("{how: wanda, distil: {pairs: 0}}", "pairs"),
        ("{how: wanda, distil: {epochs: 0}}", "epochs"),
        ("{how: wanda, distil: {batch_size: 0}}", "batch_size"),
        ("{how: wanda, distil: {learning_rate: 0}}", "learning_rate"),
        ("{how: wanda, distil: {context: maybe}}", "context"),
        ("{how: wanda, distil: {pair: 3}}", "pair"),
        ("{how: wanda, distil: 3}", "distil"),
    ],
)
def test_a_bad_key_is_a_message_with_its_line(tmp_path, text, fault):
    with pytest.raises(UserError) as caught:
        slim_of(tmp_path, text)
    assert fault in str(caught.value) and "slim.yaml:1" in str(caught.value)


@pytest.mark.parametrize(
    ("judge", "fault"),
    [
        ({"method": "reason", "slim": {"how": "wanda", "distil": {}}}, "asked by reason cannot be distilled: nothing"),
        ({"method": "auto", "slim": {"how": "wanda", "distil": {}}}, "it chooses its method later"),
        (
            {"method": "channel", "preflight": None, "slim": "distil"},
            "by channel cannot be distilled without principles",
        ),
        ({"method": "rate", "slim": "distil"}, "reads none, and preflight asks it to"),
        ({"method": {"rate": 1, "reason": 1}, "slim": {"how": "wanda", "distil": {}}}, "asked by reason"),
    ],
)
def test_what_cannot_be_distilled_is_a_message(judge, fault):
    given: dict[str, Any] = {"constitution": "c", "data": {"source": "rated-answers", "calibration": 0.1}}
    with pytest.raises(ValueError, match=fault):
        Arm.model_validate(given | {"judge": judge})
    Arm.model_validate(given | {"judge": {"method": "rate", "preflight": None, "slim": "distil"}})


def test_the_page_says_by_whom_it_was_taught():
    distilled = {"pairs": 100, "steps": 25, "looked_at": 12, "before": 0.5, "after": 0.1}
    text = note_on_distilling(Distil(), distilled)
    assert "taught by the whole judge, asked by the same principles: on 100 training pairs" in text
    assert "12 other training pairs its votes are 0.1 nats from the whole judge's (KL divergence), and were 0.5" in text
    assert "without the principles" in note_on_distilling(Distil(context=False), distilled)


# 4. By hand -----------------------------------------------------------------------------------------------------------


def test_settings_of_the_command():
    given = dict.fromkeys(("sparsity", "energy", "rank", "texts", "limit"))
    args: Any = type("Args", (), given | {"how": "distil", "distil": 9})()
    assert settings_of(args) == Slim(how="distil", distil=Distil(pairs=9, context=False))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--how", "int8", "--distil", "4"), "int8 has no distil"),
        (("--how", "wanda", "--distil", "0"), "0 is not a number from 1 on"),
        (("--how", "distil", "--method", "channel"), "cannot be distilled without principles"),
        (("--how", "wanda", "--distil", "4", "--method", "reason"), "asked by reason cannot be distilled"),
    ],
)
def test_a_bad_command_is_a_message(sharp, tmp_path, monkeypatch, options, fault):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        main(["slim", sharp.place, "--out", str(tmp_path / "x"), "--cache", str(tmp_path), *options])
    assert fault in str(caught.value) and caught.value.remedy
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [("magnitude", "--distil", "24"), ("distil", "--method", "rate")])
def test_the_command_slims_teaches_measures_and_prints(sharp, tmp_path, capsys, monkeypatch, how):
    """Whole: the tiny model, taught, two processes that judge by turns, the table."""
    monkeypatch.setattr("cai.judge.slimming.acceptance.ROUNDS", 1)
    rows = [
        {"id": f"{n}", "prompt": f"What is {n} and {n}?", "a": "It is that.", "b": "No idea at all.", "human": n % 2}
        for n in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "taught"
    given = ["slim", sharp.place, "--how", *how, "--out", str(out), "--cache", str(tmp_path), "--limit", "4"]
    more = ["--pairs", str(tmp_path / "pairs.jsonl"), "--dtype", "float32", "--constitution", "constitutions/short.txt"]
    monkeypatch.chdir(ROOT)
    assert main([*given, *more]) == 0
    lines = capsys.readouterr().out
    assert "It was taught by the whole judge" in lines and "McNemar p" in lines and "both orders agree" in lines
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("tmp")] == []
