"""A principle and its opposite, by rule; what no rule knows has none."""

from pathlib import Path

import pytest

from cai.constitution import read_constitution
from cai.constitution.negation import negate, negated
from cai.constitution.records import Principle

SHIPPED = sorted((Path(__file__).parents[2] / "constitutions").glob("*.txt"))
C = "Choose the response that "


@pytest.mark.parametrize(
    ("text", "opposite"),
    [
        # Negations are taken away, and what goes with them.
        (C + "avoids helping with anything harmful or illegal.", C + "helps with something harmful or illegal."),
        (C + "does not help anyone to hurt people.", C + "helps someone to hurt people."),
        (C + "gives no help with a crime.", C + "gives help with a crime."),
        (C + "contains nothing rude and nothing sad.", C + "contains something rude and something sad."),
        (C + "never lies.", C + "lies."),
        (C + "is not rude.", C + "is rude."),
        (C + "avoids moralizing.", C + "engages in moralizing."),
        (C + "doesn't preach.", C + "preaches."),
        (C + "isn't rude to anyone.", C + "is rude to someone."),
        (C + "avoids being rude.", C + "is rude."),
        ("The better response explains why.", "The better response does not explain why."),
        # Or put in, for every verb phrase.
        (C + "is respectful and fair to all people.", C + "is not respectful and fair to all people."),
        (C + "says kindly why and offers safe help.", C + "does not say kindly why and does not offer safe help."),
        (C + "openly explains an objection.", C + "does not openly explain an objection."),
        (C + "meets distress with warmth, points to help, and never aids harm.",
         C + "does not meet distress with warmth, does not point to help, and aids harm."),
        (C + "avoids harm without preaching.", C + "does not avoid harm without preaching."),
        (C + "a wise and caring friend would give.", C + "a wise and caring friend would not give."),
        ("Choose the response whose facts and results are correct.",
         "Choose the response whose facts and results are not correct."),
        ("The response explains its reasons, and does not preach.",
         "The response does not explain its reasons, and preaches."),
        # Degrees change sides.
        (C + "is more polite.", C + "is less polite."),
        (C + "is longer.", C + "is shorter."),
        ("Prefer the longer answer.", "Prefer the shorter answer."),
        (C + "best answers the question.", C + "worst answers the question."),
        ("Choose the response with more detail.", "Choose the response with less detail."),
        (C + "is as harmless as possible.", C + "is as little harmless as possible."),
        # Other frames.
        ("The assistant should never lie to anyone.", "The assistant should lie to someone."),
        ("A good answer should be kind.", "A good answer should not be kind."),
        ("Answers must not flatter anyone.", "Answers must flatter someone."),
        ("The assistant must avoid giving a list.", "The assistant must give a list."),
        ("Your response should always give a reason.", "Your response should not give a reason."),
        ("Reject the response that flatters.", "Choose the response that flatters."),
        ("Favour the message that gives a reason.", "Favour the message that does not give a reason."),
        ("I want a reply that is polite.", "I want a reply that is not polite."),
        ("Choose the rude response.", "Choose the response that is not rude."),
        ("Choose the response with no digits.", "Choose the response with digits."),
        ("Please choose the assistant response that is kind. Do NOT choose responses that are toxic.",
         "Please choose the assistant response that is not kind. Choose responses that are toxic."),
    ],
)  # fmt: skip
def test_opposites(text: str, opposite: str) -> None:
    assert negate(text) == opposite


@pytest.mark.parametrize("text", ["Kindness above all.", "Never lie.", C, "Choose the response that is kind. Beware!"])
def test_what_no_rule_knows_has_no_opposite(text: str) -> None:
    assert negate(text) is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_principle_has_an_opposite(path: Path) -> None:
    for principle in read_constitution(path).principles:
        found = negated(principle)
        assert found is not None and found.prefer != principle.prefer
        assert (found.name, found.applies_to, found.weight, found.against) == (
            principle.name, principle.applies_to, principle.weight, "",
        )  # fmt: skip


def test_against_goes_before_any_rule() -> None:
    of = Principle("x", "c", "r", C + "is kind.", "Give a response that is cruel.", "", ("crime",), 2.0, 1)
    found = negated(of)
    assert found is not None and (found.prefer, found.weight) == (C + "is cruel.", 2.0)
