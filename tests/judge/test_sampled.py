"""Verdicts that are counted: which word a reply names, and what shares come to."""

import math

import pytest

from cai.config.sections import Judge
from cai.core.records import Message
from cai.judge.sampled import UNREADABLE, counted, named_in, sampled
from cai.models.engines import Question, Reply

CHAT = (Message("user", "Is it safe? Answer Yes or No."),)
RATINGS = tuple(str(rating) for rating in range(1, 11))


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("Yes", ("Yes", "No"), "Yes"),
        ("No.", ("Yes", "No"), "No"),
        ("**Yes**, because no harm is done", ("Yes", "No"), "Yes"),
        ("No. Yes would be wrong here", ("Yes", "No"), "No"),
        ("Neither Yes nor No", ("Yes", "No"), None),
        ("I cannot say", ("Yes", "No"), None),
        ("Nobody knows", ("Yes", "No"), None),
        ("(A)", ("A", "B"), "A"),
        ("Answer: B", ("A", "B"), "B"),
        ("a good one", ("A", "B"), None),
        ("10", RATINGS, "10"),
        ("7/10", RATINGS, "7"),
        ("7 out of 10", RATINGS, "7"),
        ("7.5", RATINGS, None),
        ('{"answer": "A"}', ("A", "B"), "A"),
        ('{"answer": "C"}', ("A", "B"), None),
        ("", ("A", "B"), None),
    ],
)
def test_the_word_that_a_reply_names(text, options, named):
    assert named_in(text, options) == named


def replies(*texts):
    return [Reply(text, "stop") for text in texts]


def test_shares_with_one_voter_more():
    """4 of 5 can be read, 3 of them Yes: (3 + 1/2) / 5 and (1 + 1/2) / 5 of a mass of 0.8."""
    found = counted(Question(CHAT, ("Yes", "No")), replies("Yes", "Yes", "No", "Yes", "well"))
    assert found.logprobs == pytest.approx((math.log(0.8 * 0.7), math.log(0.8 * 0.3)))
    assert found.mass == pytest.approx(0.8)


def test_nothing_that_can_be_read_is_no_tie():
    found = counted(Question(CHAT, ("Yes", "No")), replies("well", "who knows"))
    assert found.logprobs == () and found.fault == UNREADABLE and found.mass == 0


def test_too_long_is_too_long():
    assert counted(Question(CHAT, ("Yes", "No")), [None, None]) is None


def test_samples_are_nested_and_told_their_options():
    asked = []

    class Speaker:
        def generate(self, requests, sampling, title):
            asked.append(list(requests))
            return [Reply("Yes", "stop") for _ in requests]

    question = Question(CHAT, ("Yes", "No"))
    sampled(Speaker(), [question], 3, "judge")
    sampled(Speaker(), [question], 5, "judge")
    assert asked[1][:3] == asked[0] and len({one.seed for one in asked[1]}) == 5
    assert asked[0][0].options == ("Yes", "No")


def test_likelihoods_cannot_be_counted():
    for method in ("contrast", "channel", {"rate": 1.0, "channel": 1.0}):
        with pytest.raises(ValueError, match="asks how likely a given text is"):
            Judge(method=method, verdict="sampled")
    with pytest.raises(ValueError, match="a chat API gives words"):
        Judge(method="contrast", server={"url": ("http://a/v1",), "api": "chat"})


def test_a_judge_from_before_keeps_its_key():
    assert {"verdict", "samples", "server"}.isdisjoint(Judge().model_dump())
    assert Judge(verdict="sampled").model_dump()["verdict"] == "sampled"
