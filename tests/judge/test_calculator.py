"""The calculator that a model may call: what is computed, what is handed back, and what is counted."""

from typing import Any

from fakes import ScriptedJudge

from cai.core.records import Message, Pair, Prompt
from cai.judge.__main__ import main
from cai.judge.calculator import CALLS, WITH, WorkedAnswer, answers, calculate, measure


def question(text: str, name: str = "1") -> Prompt:
    return Prompt(name, (Message("user", text),), "sums", "train")


def test_what_the_calculator_says():
    assert [calculate(text) for text in ("17 × 23", "10 / 4", "12% of 50")] == ["391", "2.5", "6"]
    assert calculate("1 / 0") == "error, it divides by zero" and calculate("9^9^9") == "error, a power too high"
    assert calculate("__import__('os')").startswith("error") and calculate("two plus two").startswith("error")


def says(*texts: str) -> ScriptedJudge:
    """One text a turn, to every question alike."""
    left = list(texts)
    return ScriptedJudge(lambda question: None, lambda request, number: left[0] if len(left) == 1 else left.pop(0))


def test_a_call_is_answered_and_the_model_goes_on():
    model = says("Let me see: <<17 * 23 = 400>> and more", "It is 391.")
    (made,) = answers(model, [question("What is 17 * 23?")], 0, tool=True)
    assert made == WorkedAnswer("It is 391.", (("17 * 23", "391"),))
    first, second = model.requests
    assert first.chat[0] == Message("system", WITH) and first.chat[-1].content == "What is 17 * 23?"
    # What it claims itself, and all that it wrote behind the call, is gone.
    told = (Message("assistant", "Let me see: <<17 * 23>>"), Message("user", "<<17 * 23 = 391>>"))
    assert second.chat == (*first.chat, *told)


def test_calls_end_and_alone_there_are_none():
    stubborn = says("<<1 + 1>>")
    (made,) = answers(stubborn, [question("What is 1 + 1?")], 0, tool=True)
    assert len(made.calls) == CALLS and len(stubborn.requests) == CALLS + 1 and made.text == "<<1 + 1>>"
    alone = says("<<1 + 1>> is 2")
    assert answers(alone, [question("What is 1 + 1?")], 0, tool=False) == [WorkedAnswer("<<1 + 1>> is 2")]
    assert len(alone.requests) == 1 and all("<<" not in m.content for m in alone.requests[0].chat)


def test_a_model_that_cannot_calculate_is_right_with_it():
    pairs = [
        Pair(str(n), question(f"What is {n} * 23?", str(n)), f"It is {n * 23}.", f"It is {n * 23 + 1}.", 1.0)
        for n in range(30, 40)
    ]

    def model(request: Any, number: int) -> str:
        last = request.chat[-1].content
        if last.startswith("<<"):
            return f"The answer is {last.strip('<>').split(' = ')[1]}."
        called = request.chat[0].content == WITH and "38" not in last  # it forgets once
        return f"<<{last.removeprefix('What is ').removesuffix('?')}>>" if called else "The answer is 7."

    report = measure(ScriptedJudge(lambda question: None, model), pairs, 0)
    assert (report.alone.value, report.helped.value, report.gain.value) == (0.0, 0.9, 0.9)
    assert (report.called, report.refused, report.questions) == (9, 0, 10)
    assert report.rows[0]["calls"] == (("30 * 23", "690"),) and report.rows[0]["right"] == [0.0, 1.0]


def test_the_command(tiny, tmp_path, capsys):
    assert main(["calculator", "--model", "tiny-random", "--limit", "2", "--cache", str(tmp_path)]) == 0
    assert "2 questions of the source `arithmetic`" in (told := capsys.readouterr().out) and "answers called it" in told
