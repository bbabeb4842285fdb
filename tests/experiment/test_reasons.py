"""`constitution.why`: who reads the reasons of a constitution, which stages an edit of them reruns, and the placebo."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import ScriptedJudge, asked_judge
from test_experiment import ROOT, begun, lay_out
from test_judging import logs, pair

from cai.config.load import Arm, read_experiment
from cai.config.reasons import ConstitutionFile
from cai.config.sections import Judge, Revise
from cai.constitution import Checked, Judging, Revising, read_constitution
from cai.constitution.reasons import GivenReason, as_read, exchanged, reasons_to_learn
from cai.constitution.records import Reasoned, ReasonedCheck, ReasonedRevising
from cai.core.errors import UserError
from cai.core.records import Message
from cai.core.templates import load_template
from cai.experiment.command import plan
from cai.judge.asking import judge_pairs
from cai.judge.reads.controls import ask_under, controls_for
from cai.models.engines import Question
from cai.models.workbench import Workbench
from cai.train.reasons import ReasonDocuments
from cai.train.revise import revising
from cai.train.revising import RevisionTask, critique_chat, revision_chat
from cai.train.revisions.instructions import instructions_for

LAW = """## kind
Why: Words hurt.
Critique: Say where it is unkind.
Revise: Make it kind.
Prefer: Choose the response that is kind.

## safe
Why: A life that is lost does not come back.
Critique: Say where it is dangerous.
Revise: Make it safe.
Prefer: Choose the response that is safe.

## short
Critique: Say where it rambles.
Revise: Shorten it.
Prefer: Choose the response that is short.
Check: at most 60 words
"""


def law(tmp_path: Path, why: str, reasons: str = "own", text: str = LAW) -> Any:
    file = tmp_path / "law.txt"
    file.write_text(text)
    settings = ConstitutionFile.model_validate({"file": str(file), "why": why, "reasons": reasons})
    return as_read(read_constitution(file), settings)


# The setting ----------------------------------------------------------------------------------------------------------


def arm(given: Any) -> Arm:
    return Arm.model_validate({"constitution": given, "data": {"source": "rated-answers"}})


def test_a_path_is_a_constitution_whose_reasons_nobody_reads() -> None:
    assert arm("a.txt").constitution == ConstitutionFile(file="a.txt", why="none", reasons="own")
    assert arm("a.txt") == arm({"file": "a.txt"})


@pytest.mark.parametrize(
    ("given", "line", "says"),
    [
        ("{file: F, reasons: others}", 1, "why: none has nobody read them"),
        ("{file: F, why: judge, training: {epochs: 2}}", 1, "constitution.training is that of why: train"),
        ("{file: F, why: jugde}", 1, "constitution.why must be one of"),
        ("{why: judge}", 1, 'missing key "file" in constitution'),
        ("7", 1, "constitution must be text or a section of keys, not 7"),
    ],
)
def test_faults_of_the_setting_have_their_line(tmp_path, given, line, says) -> None:
    (tmp_path / "mine.yaml").write_text(f"constitution: {given.replace('F', 'constitutions/short.txt')}\n"
                                        "data: {source: rated-answers}\n")  # fmt: skip
    with pytest.raises(UserError) as caught:
        read_experiment(tmp_path / "mine.yaml")
    assert says in str(caught.value) and f"mine.yaml:{line}" in str(caught.value)


def test_reasons_that_are_not_there_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no principle gives its reasons"):
        law(tmp_path, "judge", text=LAW.replace("Why: ", "Critique\\: ").replace("Critique\\: Words hurt.\n", "")
            .replace("Critique\\: A life that is lost does not come back.\n", ""))  # fmt: skip
    with pytest.raises(UserError, match="one principle alone gives a reason"):
        law(tmp_path, "judge", "others", LAW.replace("Why: Words hurt.\n", ""))


# Who reads them -------------------------------------------------------------------------------------------------------


def test_each_reader_alone_is_shown_the_reasons(tmp_path) -> None:
    plain, judge, critique, train = (law(tmp_path, why) for why in ("none", "judge", "critique", "train"))
    assert judge.checking == (
        Reasoned("kind", "Choose the response that is kind.", (), 1.0, why="Words hurt."),
        Reasoned("safe", "Choose the response that is safe.", (), 1.0, why="A life that is lost does not come back."),
        Checked("short", "Choose the response that is short.", (), 1.0, check="at most 60 words"),
    )
    assert judge.revising == plain.revising == train.revising and judge.judging == plain.judging
    assert critique.revising[0] == ReasonedRevising(
        "kind", "Say where it is unkind.", "Make it kind.", "", (), 1.0, why="Words hurt."
    )
    assert isinstance(critique.revising[2], Revising) and not hasattr(critique.revising[2], "why")
    assert critique.checking == plain.checking == train.checking
    assert reasons_to_learn(train) == (
        GivenReason("kind", "Choose the response that is kind.", "", "Words hurt."),
        GivenReason("safe", "Choose the response that is safe.", "", "A life that is lost does not come back."),
    )
    assert reasons_to_learn(plain) == reasons_to_learn(judge) == ()
    checked = law(tmp_path, "judge", text=LAW.replace("## short\n", "## short\nWhy: Time is dear.\n"))
    assert checked.checking[2] == ReasonedCheck(
        "short", "Choose the response that is short.", (), 1.0, check="at most 60 words", why="Time is dear."
    )


def test_the_placebo_gives_each_principle_another_ones_reason_of_nearly_its_length() -> None:
    words = {"a": "one two three", "b": "one", "c": "one two three four", "d": "one two"}
    assert exchanged(words) == {"b": "one two", "d": "one", "a": "one two three four", "c": "one two three"}
    for count in range(2, 9):
        reasons = {f"p{n}": " ".join(["word"] * (n + 1)) for n in range(count)}
        lent = exchanged(reasons)
        assert sorted(lent.values()) == sorted(reasons.values())
        assert all(lent[name] != reasons[name] for name in reasons)
        assert all(abs(len(lent[name].split()) - len(reasons[name].split())) <= 2 for name in reasons)


def test_the_placebo_is_as_many_words_to_every_reader(tmp_path) -> None:
    own, others = (law(tmp_path, "train", which) for which in ("own", "others"))
    assert [reason.why for reason in reasons_to_learn(others)] == [p.why for p in own.principles[1::-1]]
    template = load_template("reasons")
    chats = [ReasonDocuments(reasons_to_learn(of), template).chats(0) for of in (own, others)]
    lengths = [sum(len(message.content) for chat in side for message in chat) for side in chats]
    assert lengths[0] == lengths[1]


# The judge ------------------------------------------------------------------------------------------------------------


def reader(question: Question) -> tuple[float, ...]:
    """A made judge that goes by reasons alone: it would choose "Yes sir." where words hurt, and "Get lost." where lives
    are lost."""
    text = question.chat[-1].content
    polite = 1.5 if "The reason for it: Words hurt." in text else -1.5 if "The reason for it: A life" in text else 0.0
    value = polite / 2 if "Assistant: Yes sir." in text else -polite / 2
    p = 1 / (1 + math.exp(-value))
    return logs(p, 1 - p)


@pytest.mark.parametrize(
    ("why", "reasons", "expected"),
    [("none", "own", 0.0), ("judge", "own", 1.5), ("judge", "others", -1.5), ("train", "own", 0.0)],
)
def test_a_judge_that_reads_reasons_follows_them_and_turns_with_the_placebo(tmp_path, why, reasons, expected) -> None:
    of = law(tmp_path, why, reasons)
    judge = asked_judge(Judge(principles="all")).under(of)
    kind = [p for p in judge.principles if p.name == "kind"]
    (label,) = judge_pairs(ScriptedJudge(reader), [pair()], asked(judge, kind), title="judge")
    assert math.log(label.p_a / (1 - label.p_a)) == pytest.approx(expected)  # pyrefly: ignore


def asked(judge: Any, principles: list[Judging]) -> Any:
    return replace(judge, principles=tuple(principles))


def test_the_reason_stands_behind_the_principle_and_with_channel_behind_the_question(tmp_path) -> None:
    of = law(tmp_path, "judge")
    for method, behind in (("rate", "Instruction to the judge: Choose the response that is kind.\n"),
                           ("choice", "Standard: Choose the response that is kind.\n"),
                           ("channel", "Which instruction does the assistant's last message follow?\n")):  # fmt: skip
        engine = ScriptedJudge(lambda question: tuple(-1.0 for _ in question.options))
        judge = asked_judge(Judge(method=method, principles="all")).under(of)
        judge_pairs(engine, [pair()], asked(judge, [judge.principles[0]]), title="judge")
        assert engine.questions
        for question in engine.questions:
            assert f"{behind}The reason for it: Words hurt." in question.chat[-1].content
            assert question.options[0] in ("Yes", "A", "Choose the response that is kind.",
                                           "Choose the response that is not kind.")  # fmt: skip


def test_whether_a_judge_reads_is_measured_by_the_principles_without_reasons(tmp_path) -> None:
    of = law(tmp_path, "judge")
    engine = ScriptedJudge(reader)
    judge = asked_judge(Judge(principles="all")).under(of)
    answers = ask_under(engine, [pair()], asked(judge, [judge.principles[0]]), controls_for(of))
    assert answers.text == [pytest.approx(0.0)]
    assert sum("The reason for it" in question.chat[-1].content for question in engine.questions) == 2  # the label's


# Critiques and revisions ----------------------------------------------------------------------------------------------


def test_critiques_and_revisions_are_asked_for_with_the_reason(tmp_path) -> None:
    given = revising(law(tmp_path, "critique"), Revise(), 0)
    wording, principle = given["by"].wording, given["principles"][0]
    task = RevisionTask("p", (Message("user", "Hi"),), "Go away.", principle)
    assert "Say where it is unkind.\nThe reason for it: Words hurt." in critique_chat(wording, task)[-1].content
    assert "Task: Make it kind.\nThe reason for it: Words hurt." in revision_chat(wording, task, "Rude.")[0].content
    assert given["by"].keyed()["why"] == wording.why
    plain = revising(law(tmp_path, "judge"), Revise(), 0)
    assert "why" not in plain["by"].keyed() and "reason" not in critique_chat(plain["by"].wording, task)[-1].content


def test_the_audit_of_revisions_goes_without_reasons(tmp_path) -> None:
    assert instructions_for(law(tmp_path, "critique")) == instructions_for(law(tmp_path, "none"))


# Which stages an edit of `Why:` reruns --------------------------------------------------------------------------------

READERS = {
    "none": set(),
    "judge": {"preflight", "label_by_judge", "train_reward", "train_ppo"},
    "critique": {"revise", "train_sft", "train_ppo"},
    "train": {"train_reasons", "train_sft", "train_ppo"},
}


@pytest.mark.parametrize("why", READERS)
def test_an_edit_of_why_reruns_what_reads_it_and_what_follows(tmp_path, why) -> None:
    """The smoke experiment of one arm, planned before and after."""
    before, after = (stages(tmp_path, why, text) for text in ("Words hurt.", "Rudeness hurts."))
    changed = {name for name in before if before[name] != after[name]}
    trained = {"revise", "preflight", "label_by_judge", "train_reward", "train_reasons", "train_sft", "train_ppo"}
    assert changed & trained == READERS[why]
    assert ("train_reasons" in before) == (why == "train")


def stages(tmp_path: Path, why: str, reason: str) -> dict[str, list[str]]:
    """Stage -> its keys, in a plan on an empty store."""
    file = tmp_path / "law.txt"
    file.write_text(LAW.replace("Words hurt.", reason))
    tree = yaml.safe_load((ROOT / "experiments/smoke.yaml").read_text())
    tree |= {"constitution": {"file": str(file), "why": why}, "seeds": [0], "arms": {"ai": {"labels": "ai"}}}
    tree["judge"]["principles"] = "all"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    fixed = [f"runtime.root={tmp_path / 'runs'}", "runtime.device=cpu", "dtype=float32"]
    experiment = read_experiment(tmp_path / "mine.yaml", fixed)
    ledger, _ = plan([experiment], Workbench.open(experiment.runtime))
    found: dict[str, list[str]] = {}
    for artifact in ledger:
        found.setdefault(artifact.stage, []).append(artifact.key)
    return found


def test_the_policy_learns_the_reasons_and_sft_goes_on_from_there(tmp_path, tiny, monkeypatch) -> None:
    """The tiny model finds the documents likelier then; drafts and reward model are the start model's."""
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    (tmp_path / "law.txt").write_text(LAW)
    training = "{epochs: 30, learning_rate: 1e-2, max_length: 64}"
    experiment = read_experiment(Path("mine.yaml"), [
        f"constitution={{file: law.txt, why: train, training: {training}}}", "arms={ai: {labels: ai}}", "seeds=[0]",
        "policy.lora_layers=1", "revise.audit=0",
    ])  # fmt: skip
    store, _, _ = begun(experiment, "train_ppo")
    made = {artifact.stage: artifact for artifact in store.ledger.values()}
    losses = json.loads((made["train_reasons"] / "curves.json").read_text())["loss"]
    assert losses[-1] < losses[0] - 0.1
    documents = (made["train_reasons"] / "documents.jsonl").read_text()
    assert documents.count("\n") == 2 and "Words hurt." in documents
    inputs = {stage: json.loads((of / "manifest.json").read_text())["inputs"] for stage, of in made.items()}
    assert inputs["train_sft"]["model"]["digest"] == made["train_reasons"].digest
    assert inputs["train_reward"]["model"] == inputs["revise"]["model"] == inputs["train_reasons"]["model"]
