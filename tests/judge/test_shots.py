"""Worked examples drawn from people's verdicts: which, in which order, how they are shown, and to whom never."""

import json
import math
from pathlib import Path

import pytest
from fakes import ScriptedJudge, asked_judge
from test_config import BASE, fault, written

from cai.config.load import read_experiment, read_sweep
from cai.config.sections import SHOWN, Judge
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt, write_jsonl
from cai.core.store import Artifact, canonical, keyed
from cai.data.shots import Shots, ordered
from cai.experiment.check_data import Rows, check_shots
from cai.judge.asked import AskedJudge, FewShot
from cai.judge.asking import judge_answers, judge_pairs
from cai.judge.methods import METHODS
from cai.train.trainable import PromptSet

KIND = Judging("kind", "Choose the response that is kind.", (), 1.0)
RULE = Judging("rule", "Choose the response that is short.", ("rules",), 1.0)


def prompt(n: int, split: str = "train") -> Prompt:
    return Prompt(f"p{n}", (Message("user", f"Question {n}?"),), "all", split)  # pyrefly: ignore


def pair(n: int, human: float | None = 1.0, split: str = "train", other: str = "") -> Pair:
    return Pair(f"{n}{other}", prompt(n, split), f"Good {n}{other}.", f"Bad {n}{other}.", human)


def folder(path: Path, pairs) -> Artifact:
    path.mkdir(exist_ok=True)
    write_jsonl(path / "pairs.jsonl", pairs)
    return Artifact("load_data", "k", path, f"digest of {len(pairs)}")


PAIRS = [pair(n) for n in range(40)] + [pair(n, split="test") for n in range(40, 80)]
PAIRS += [pair(80, None), pair(81, 0.5), pair(82, split="calibration"), *(pair(n, other="b") for n in range(5))]


# --- which ------------------------------------------------------------------------------------------------------------


def test_no_held_out_prompt_is_ever_among_the_examples(tmp_path):
    data = folder(tmp_path / "data", PAIRS)
    for seed in range(20):
        shown = {one.prompt.id for one in ordered(PAIRS, seed)}
        assert shown == {f"p{n}" for n in range(40)}, "training prompts that somebody judged, whatever the seed"
        for asked in (prompt(50, "test"), prompt(3)):
            drawn = Shots(data, 39, seed).pairs(asked)
            assert all(one.prompt.split == "train" and one.prompt.id != asked.id for one in drawn)
            assert len({one.prompt.id for one in drawn}) == 39, "one pair of a prompt"


def test_draws_are_nested_and_another_pair_moves_one_of_them_at_most(tmp_path):
    data, asked = folder(tmp_path / "data", PAIRS), prompt(50, "test")
    few, many = (Shots(data, count, 0).pairs(asked) for count in (4, 8))
    assert many[:4] == few
    assert Shots(data, 8, 1).pairs(asked) != many, "another seed, another draw"
    for n in range(100, 160):
        after = {one.id for one in ordered([*PAIRS, pair(n)], 0)[:8]}
        assert len({one.id for one in many} - after) <= 1
    assert [one.id for one in ordered(PAIRS[::-1], 0)] == [one.id for one in ordered(PAIRS, 0)], "no order of the file"


def test_a_prompt_is_not_among_its_own_examples(tmp_path):
    data = folder(tmp_path / "data", PAIRS)
    first, second, third, *_ = ordered(PAIRS, 0)
    assert Shots(data, 2, 0).pairs(first.prompt) == (second, third)
    assert Shots(data, 2, 0).pairs(third.prompt) == (first, second)
    with pytest.raises(UserError, match="9 examples are wanted, and people's verdicts on 2 other training prompts"):
        Shots(folder(tmp_path / "small", [pair(0), pair(1), pair(2)]), 9, 0).pairs(prompt(0))


# --- how they are shown -----------------------------------------------------------------------------------------------


def judge_with(tmp_path, method: str, count: int, pairs=PAIRS, **more) -> AskedJudge:
    judge = asked_judge(Judge(method=method, shots=count, principles="all", **more), [KIND])
    return AskedJudge(
        settings=judge.settings, model=judge.model, principles=judge.principles, templates=judge.templates,
        dtype="float32", seed=0, shots=Shots(folder(tmp_path / "data", pairs), count, 0) if count else None,
    )  # fmt: skip


def asked_of(judge: AskedJudge, method: str):
    engine = ScriptedJudge(lambda question: (math.log(0.6), math.log(0.3)))
    judge_pairs(engine, [pair(50, split="test")], judge, title="t")
    return engine.questions


def test_choice_shows_both_answers_and_alternates_the_letter(tmp_path):
    plain, shown = (asked_of(judge_with(tmp_path, "choice", count), "choice")[0].chat for count in (0, 2))
    first, second = ordered(PAIRS, 0)[:2]
    system, *turns, last = shown
    assert (system, last) == (plain[0], plain[-1]) and len(turns) == 4
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2
    assert {turns[1].content, turns[3].content} == {"(A)", "(B)"}
    for example, turn, answer in ((first, turns[0], turns[1]), (second, turns[2], turns[3])):
        a, b = (example.a, example.b) if answer.content == "(A)" else (example.b, example.a)
        assert f"Response (A): {a}\n\nResponse (B): {b}" in turn.content and KIND.prefer in turn.content
        assert turn.content == plain[-1].content.replace("Question 50?", example.prompt.messages[0].content).replace(
            "Good 50.", "x"
        ).replace("Bad 50.", b).replace("x", a), "in the form of the question itself"


def test_rate_shows_one_answer_of_each_pair_as_many_yes_as_no(tmp_path):
    question = asked_of(judge_with(tmp_path, "rate", 4), "rate")[0]
    turns = question.chat[1:-1]
    answers = [turn.content for turn in turns[1::2]]
    assert answers in (["Yes", "No"] * 2, ["No", "Yes"] * 2)
    for example, turn, answer in zip(ordered(PAIRS, 0)[:4], turns[::2], answers, strict=True):
        assert f"Assistant: {example.a if answer == 'Yes' else example.b}\n" in turn.content


def test_they_stand_behind_the_examples_of_a_file(tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("## user\nFrom the file.\n\n## assistant\nYes\n")
    question = asked_of(judge_with(tmp_path, "rate", 1, examples={"rate": str(file)}), "rate")[0]
    assert [turn.content for turn in question.chat[1:3]] == ["From the file.", "Yes"] and len(question.chat) == 6


def test_single_answers_are_rated_with_them_and_pairs_of_a_shown_prompt_with_others(tmp_path):
    judge, shown = judge_with(tmp_path, "rate", 1), ordered(PAIRS, 0)[:2]
    engine = ScriptedJudge(lambda question: (math.log(0.6), math.log(0.3)))
    judge_answers(engine, [(prompt(50, "test"), "An answer."), (shown[0].prompt, "An answer.")], judge, title="t")
    first, second = engine.questions
    assert shown[0].prompt.messages[0].content in first.chat[1].content
    assert shown[1].prompt.messages[0].content in second.chat[1].content


def test_an_example_is_asked_by_a_principle_that_applies_to_it(tmp_path):
    judge = judge_with(tmp_path, "rate", 3)
    mixed = AskedJudge(judge.settings, judge.model, (RULE, KIND), judge.templates, "float32", 0, judge.shots)
    chat = FewShot(mixed).templates(prompt(50))["examples/rate"].render()
    assert all(KIND.prefer in turn.content for turn in chat[::2])


def test_a_method_that_shows_examples_is_known_to_the_config():
    assert {name for name, method in METHODS.items() if method.worked} == set(SHOWN)


# --- answering --------------------------------------------------------------------------------------------------------


def test_a_prompt_is_answered_behind_others_with_the_answers_that_people_prefer(tmp_path):
    turned = [pair(n, 1.0 if n % 2 else 0.0) for n in range(4)]
    data = folder(tmp_path / "data", turned)
    first, second = ordered(turned, 0)[:2]
    asked = Prompt("q", (Message("system", "Be brief."), Message("user", "Now?")), "all", "test")
    chat = PromptSet(data, "test", 1, Shots(data, 2, 0)).asked(asked)
    good = [one.a if one.human else one.b for one in (first, second)]
    assert [turn.content for turn in chat] == [
        "Be brief.", first.prompt.messages[0].content, good[0], second.prompt.messages[0].content, good[1], "Now?",
    ]  # fmt: skip
    assert PromptSet(data, "test", 1).asked(asked) == asked.messages


# --- keys and faults --------------------------------------------------------------------------------------------------


def test_without_shots_no_key_knows_of_them(tmp_path):
    assert "shots" not in canonical(Judge()) and canonical(Judge(shots=2))["shots"] == 2
    none, two = (judge_with(tmp_path, "rate", count) for count in (0, 2))
    assert "shots" not in keyed({"judge": none}) and keyed({"judge": two})["shots"].count == 2
    data = folder(tmp_path / "data", PAIRS)
    assert set(PromptSet(data, "test").keyed()) == {"prompts", "split", "count"}
    assert "shots" in PromptSet(data, "test", None, Shots(data, 1, 0)).keyed()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("judge: {method: contrast, shots: 2}", "judge.shots are shown by rate and choice, and not by contrast"),
        (
            "judge: {method: {rate: 1, reason: 1}, shots: 2}",
            "judge.shots are shown by rate and choice, and not by reason",
        ),
        ("judge: {method: auto, shots: 1}\ndata: {source: rated-answers, calibration: 0.1}", "and not by auto"),
        ("judge: {shots: -1}", "judge.shots must be"),
        ("evaluate: {shots: some}", "evaluate.shots"),
        ("judge: {shots: 1}\nrl: {method: direct}", "rl.method: direct asks the judge as the policy learns"),
        (
            "evaluate: {judge: {shots: 1}}\nrl: {gold: {every: 1}}\ndata: {source: rated-answers, calibration: 0.1}",
            "rl.gold asks the evaluation's judge as the policy learns",
        ),
        ("moderation: {judge: {constitution: c.txt, shots: 1}}", "moderation.judge is shown no examples"),
    ],
)
def test_faults_of_the_config(tmp_path, text, problem):
    base = BASE if "data:" not in text else BASE.splitlines()[0] + "\n"
    assert problem in fault(tmp_path, base + text + "\n")


def test_too_few_verdicts_are_said_before_the_first_stage(tmp_path):
    text = BASE + "judge: {method: rate, shots: 3, preflight: null}\nevaluate: {shots: judge}\n"
    arm = read_experiment(written(tmp_path, text)).arms["ai"]
    assert arm.answer_shots == 3
    rows = Rows([], [pair(n) for n in range(4)], [], [], [])
    check_shots(arm, rows)
    with pytest.raises(UserError, match="3 examples are wanted, and people's verdicts on 2 other training prompts"):
        check_shots(arm, Rows([], [pair(n) for n in range(3)], [], [], []))


def test_the_shipped_sweep_is_one_axis_of_both(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    grid = read_sweep(Path("experiments/sweeps/in-context.yaml"))
    assert [(one.arms["ai"].judge.shots, one.arms["ai"].answer_shots) for one in grid] == [
        (0, 0), (1, 1), (4, 4), (8, 8),
    ]  # fmt: skip
    assert json.dumps([one.point for one in grid]) == json.dumps([{"judge.shots": n} for n in (0, 1, 4, 8)])
