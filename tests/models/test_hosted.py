"""The engine behind a chat API: what it counts, what it cannot read, and what it calls by name."""

import json
import math

import pytest

pytest.importorskip("openai")

from faulty_server import FaultyServer
from test_server import QUICK, collected

from cai.config.served import Price, Server
from cai.core.errors import UserError
from cai.core.records import Message
from cai.judge.sampled import CUT, UNREADABLE, WORDLESS, sampled
from cai.models.engines import Question, Request, Sampling
from cai.models.engines.connection import Connection
from cai.models.engines.hosted import DECLINED, ChatEngine
from cai.models.engines.spending import Spending

CHAT = (Message("user", "Is it harmless?"),)
ASKED = Question(CHAT, ("Yes", "No"))


def engine_of(server, tmp_path, *, spending=None, **more):
    where = Server(url=(server.url,), name="toy", api="chat", **more)
    made = ChatEngine(Connection(where, "toy", spending or Spending(), 4, tmp_path, QUICK), "x", None)
    server.armed = True
    return made


class Listed:
    """An engine as the call cache shows it: from a list to a list."""

    def __init__(self, engine):
        self.engine = engine

    def generate(self, requests, sampling, title):
        return collected(self.engine.generate(requests, sampling), len(requests))


def verdict(says, tmp_path, samples=2, **more):
    """says: of a request that is no probe, what the message is."""

    def answer(body):
        return says if "harmless" in body["messages"][-1]["content"] else "Yes"

    with FaultyServer(says=answer) as server:
        (found,) = sampled(Listed(engine_of(server, tmp_path, **more)), [ASKED], samples, "t")
    return found


REFUSED = {"content": None, "refusal": "I cannot judge that."}
TOOL = {"content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("says", "fault"),
    [
        ("Well, perhaps.", UNREADABLE),
        ("Yes or No?", UNREADABLE),
        (REFUSED, UNREADABLE),
        ("", WORDLESS),
        (TOOL, WORDLESS),
        ({"content": "", "finish": "content_filter"}, WORDLESS),
        ({"content": None, "reasoning_content": "Let me think. Yes", "finish": "length"}, CUT),
        ({"content": "<think>Is it? Yes", "finish": "length"}, CUT),
        ((400, "The response was filtered: content management policy"), WORDLESS),
    ],
)
def test_what_names_no_option_is_an_abstention_that_says_why(says, fault, tmp_path):
    found = verdict(says, tmp_path)
    assert (found.logprobs, found.fault, found.mass) == ((), fault, 0.0)


@pytest.mark.parametrize(
    "says",
    [
        "Yes",
        '{"answer": "Yes"}',
        {"content": "Yes.", "reasoning_content": "No? No. No!"},
        {"content": "Yes.", "reasoning": "No? No. No!"},
        "<think>No? No. No!</think>\n\nYes",
        "No? No. No!</think>Yes",
        {"content": [{"type": "text", "text": "Yes"}]},
    ],
)
def test_what_comes_before_the_answer_is_not_the_answer(says, tmp_path):
    """Two samples say Yes, and one voter is divided: (2 + 1/2) / 3."""
    found = verdict(says, tmp_path)
    assert found.logprobs == pytest.approx((math.log(2.5 / 3), math.log(0.5 / 3)))


def test_a_fault_of_the_request_is_no_abstention(tmp_path):
    with pytest.raises(UserError, match="2 of 2 requests were given up: HTTP 400: unknown field"):
        verdict((400, "unknown field"), tmp_path)


def test_a_model_that_thinks_is_named_before_the_first_request(tmp_path):
    cut = {"content": None, "reasoning_content": "Water is", "finish": "length"}
    says = lambda body: "Yes" if body["max_tokens"] >= 500 else dict(cut)  # noqa: E731
    with FaultyServer(says=says) as server:
        with pytest.raises(UserError, match='"toy" thinks before it answers, and has no tokens for that') as fault:
            engine_of(server, tmp_path)
        assert "thinking: 1024" in fault.value.remedy
        with pytest.raises(UserError, match="100 tokens are not enough") as fault:
            engine_of(server, tmp_path, thinking=100)
        assert "thinking: 200" in fault.value.remedy
        engine = engine_of(server, tmp_path, thinking=500)
        (reply,) = collected(engine.generate([Request(CHAT, 1)], Sampling(8)), 1)
        (body,) = [json.loads(body) for body in server.served]
    assert reply.text == "Yes" and body["max_tokens"] == 508
    assert engine.probed.top == 0  # the first tokens are those of a thought


def test_structured_output_is_asked_for_where_it_holds(tmp_path):
    obeys = lambda body: '{"answer": "No"}' if "response_format" in body else "It is."  # noqa: E731
    with FaultyServer(says=obeys) as server:
        engine = engine_of(server, tmp_path)
        assert engine.probed.structured
        asked = [Request(CHAT, 1, ("Yes", "No")), Request(CHAT, 2)]
        assert [reply.text for reply in collected(engine.generate(asked, Sampling(8)), 2)] == [
            '{"answer": "No"}',
            "It is.",
        ]
        schemas = [json.loads(body).get("response_format") for body in server.served]
    (shape,) = [each["json_schema"]["schema"] for each in schemas if each]
    assert shape["properties"]["answer"]["enum"] == ["Yes", "No"]
    with FaultyServer(says=lambda body: "Yes") as server:  # ignores it
        assert not engine_of(server, tmp_path).probed.structured


def test_an_option_that_is_not_among_the_likeliest_is_missing(tmp_path):
    """ "Yes" in two spellings: 0.5 + 0.25; "Maybe" is nowhere."""
    tops = {"Yes": math.log(0.5), " Yes": math.log(0.25), "No": math.log(0.125)}
    with FaultyServer(says=lambda body: "Yes", tops=tops) as server:
        engine = engine_of(server, tmp_path)
        found, missing = collected(engine.choose([ASKED, Question(CHAT, ("Yes", "Maybe"))], 99), 2)
    assert found.logprobs == pytest.approx((math.log(0.75), math.log(0.125)))
    assert missing.logprobs == () and missing.fault == "not among the likeliest words: Maybe"


def test_what_a_filter_declines_has_no_reading(tmp_path):
    tops = {"Yes": math.log(0.5), "No": math.log(0.25)}
    says = lambda body: (400, "content_filter") if "harmless" in body["messages"][-1]["content"] else "Yes"  # noqa: E731
    with FaultyServer(says=says, tops=tops) as server:
        (found,) = collected(engine_of(server, tmp_path).choose([ASKED], 99), 1)
    assert found.fault == DECLINED


def test_a_bar_tells_tokens_and_cost():
    """Within 4 s: 800 tokens read at 2 a million, 40 written at 10 a million; what was before counts not."""
    spending, now = Spending(prices={"toy": Price(input=2.0, output=10.0)}), [0.0]
    spending.took("toy", 5_000, 5_000)
    tell = spending.meter(lambda: now[0])
    now[0] = 4.0
    spending.took("toy", 800, 40)
    assert tell() == "200 tokens/s read, 10 written, cost 0.002"
    spending.prices.clear()
    assert tell() == "200 tokens/s read, 10 written"
