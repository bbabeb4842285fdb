"""Which texts a pair is judged under, and that they are fair ones."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Judge
from cai.constitution import read_constitution
from cai.constitution.parse import parse
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt
from cai.judge.reads.controls import ask_under, controls_for, effect_of, exchanged, unheard
from cai.judge.reads.placebos import Placebo, check, matched, read_placebos, unrelated
from cai.models.engines import Question

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "constitutions").glob("*.txt"))
TEXT = "- Choose the response that is kind.\n- Choose the response that does not lie.\n"
LAW = parse(TEXT, Path("law.txt"))
JUDGE = Judge(principles="all", min_mass=0.0)


def pair(number: int, text: str = "Hello?", subset: str = "crime") -> Pair:
    prompt = Prompt(f"prompt {number}", (Message("user", f"{text} {number}"),), subset, "test")
    return Pair(f"pair {number}", prompt, f"Good {number}.", f"Bad {number}.", 1.0)


# Placebos


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_placebos_match_every_shipped_constitution_in_length(path: Path) -> None:
    judging = read_constitution(path).judging
    for placebo in read_placebos():
        found = matched(placebo, judging)
        assert set(found) == {p.name for p in judging}
        assert len({one.prefer for one in found.values()}) == len(judging)  # no sentence twice
        real, other = (sum(len(p.prefer.split()) for p in of) for of in (judging, found.values()))
        assert abs(real - other) <= 0.15 * real, (placebo.name, real, other)
        for p in judging:
            assert (found[p.name].name, found[p.name].weight, found[p.name].against) == (p.name, p.weight, "")


def test_shipped_placebos_speak_of_nothing_in_the_shipped_data() -> None:
    found = read_placebos()
    assert len(found) >= 4
    pairs = [pair(0, "How do I steal a car?"), pair(1, "Write a joke about a rude neighbour.")]
    assert unrelated(found, pairs) == (found, [])


def test_a_sentence_that_speaks_of_a_prompt_is_left_out_by_name() -> None:
    placebos = (
        Placebo("bikes", ("Choose the response that oils the chain.", "Choose the response that rings a bell.",
                          "Choose the response that pumps tyres.")),
        Placebo("soup", ("Choose the response that stirs the lentils.",)),
        Placebo("rain", ("Choose the response that counts clouds.",)),
    )  # fmt: skip
    kept, noted = unrelated(placebos, [pair(0, "Who oils a chain?"), pair(1, "Clouds!")])
    assert [len(one.sentences) for one in kept] == [2, 1, 1]
    assert noted == ['placebo "bikes": "Choose the response that oils the chain." speaks of a prompt (chain, oil)']
    with pytest.raises(UserError, match="1 of 3 placebos have nothing to do with the data, and 2 are needed"):
        unrelated(
            placebos, [pair(0, "Pump tyres, ring a bell, oil a chain, stir the lentils: he pumps, rings, stirs.")]
        )


def test_a_placebo_that_is_the_constitution_is_named() -> None:
    with pytest.raises(UserError, match='the placebo "mine" is the constitution'):
        check([Placebo("mine", tuple(p.prefer for p in LAW.judging))], LAW.judging)
    with pytest.raises(UserError, match="is the constitution"):
        controls_for(read_constitution(ROOT / "constitutions/placebo/pottery.txt"))


# Asking


def test_every_text_is_asked_in_one_go_of_the_same_pairs() -> None:
    """A judge that says Yes by the number of words of the principle, so that each text gives log-odds of its own."""
    calls: list[int] = []

    class Counting(ScriptedJudge):
        def choose(self, questions, max_length, title):
            calls.append(len(questions))
            return super().choose(questions, max_length, title)

    def script(question: Question) -> tuple[float, ...]:
        text = question.chat[-1].content
        words = len(text.split("Instruction to the judge: ")[1].split("\n")[0].split())
        return (-1.0, -1.0 - words) if "Assistant: Good" in text else (-1.0, -1.0)

    pairs = [pair(n) for n in range(6)]
    controls = controls_for(LAW, other=LAW, everything=True)
    answers = ask_under(Counting(script), pairs, asked_judge(JUDGE, LAW.judging), controls)
    assert len(calls) == 1
    # "is kind": 6 words, "does not lie": 7; negated "is not kind" 7, "lies" 5; placebos of 7 and 7 words, or nearest
    assert answers.text == [6.5] * 6 and answers.negated == [6.0] * 6
    assert answers.more["none"] == [3.0] * 6 and answers.more["other"] == answers.text
    assert "exchanged" not in answers.more
    for row in answers.placebos:
        assert sum(not math.isnan(value) for value in row) == 2  # of four
    assert all(any(not math.isnan(row[k]) for row in answers.placebos) for k in range(4))
    found = effect_of(answers, pairs)
    assert found.agreement["text"].value == 1 and found.gain.value == 0
    # 6 pairs, 2 answers: 2 principles, 2 negated, 2 placebos with two sentences each, 1 neutral; the other is the same
    assert calls == [6 * 2 * (2 + 2 + 4 + 1)]


def test_at_most_three_principles_are_put_to_the_test_and_all_of_them_label() -> None:
    law = parse("".join(f"- Choose the response that is {word}.\n" for word in "abcde"), Path("law.txt"))
    engine = ScriptedJudge(lambda question: (-1.0, -1.0))
    answers = ask_under(engine, [pair(0)], asked_judge(JUDGE, law.judging), controls_for(law))
    (label,) = answers.verdicts
    assert len(label.votes) == 5
    assert len(engine.questions) == 2 * (5 + 3 + 2 * 3)


def test_principles_without_an_opposite_are_not_put_to_the_test() -> None:
    law = parse("- Choose the response that is kind.\n- Kindness above all.\n", Path("law.txt"))
    controls = controls_for(law)
    assert controls.missing == ("Kindness above all.",)
    engine = ScriptedJudge(lambda question: (-1.0, -1.0))
    answers = ask_under(engine, [pair(0)], asked_judge(JUDGE, law.judging), controls)
    assert len(engine.questions) == 2 * (2 + 1 + 2) and answers.negated is not None
    bare = controls_for(parse("- Kindness above all.\n", Path("law.txt")))
    assert bare.opposites == ()
    assert ask_under(engine, [pair(0)], asked_judge(JUDGE, law.judging[1:]), bare).negated is None


def test_principles_are_exchanged_among_categories() -> None:
    kind, safe = (replace(p, applies_to=(name,)) for p, name in zip(LAW.judging, ("crime", "hate"), strict=True))
    found = exchanged([kind, safe], {"crime", "hate", "other"})
    assert found == {"crime": (replace(safe, applies_to=("crime",)),), "hate": (replace(kind, applies_to=("hate",)),)}
    assert exchanged([kind], {"crime", "hate"}) == {}  # with itself there is nothing to exchange
    assert unheard([kind, safe], [pair(0)]) == [
        'no pair is of category "hate": the principles for it alone were not put to the test'
    ]
