"""SGLang's dialect, against a server written after its documentation: not run against SGLang itself."""

import json

import pytest

pytest.importorskip("openai")

from sglang_server import SglangServer, logp_of
from test_server import collected, engine_of

from cai.core.errors import UserError
from cai.core.records import Message
from cai.models.chat import option_ids
from cai.models.engines import Question, Request, Sampling
from cai.models.loading import load_tokenizer

CHAT = (Message("user", "Well?"),)


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return load_tokenizer(tiny)


def bodies(server):
    return [json.loads(body) for body in server.served]


@pytest.mark.parametrize("options", [("a", "b"), ("Never", "Nay"), ("Yes", "Yes, sir")])
def test_options_are_read_by_their_ids(options, tokenizer, tmp_path):
    """Short ones where they part, in a request a place; long ones whole, in a request an option."""
    with SglangServer() as server:
        engine = engine_of(server, tokenizer, tmp_path)
        assert engine.dialect.name == "sglang"
        (found,) = collected(engine.choose([Question(CHAT, options)], 999), 1)
    start, tails = option_ids(tokenizer, CHAT, "", options)
    by_hand = [sum(logp_of([*start, *tail[:k]], tail[k]) for k in range(len(tail))) for tail in tails]
    if options[1].startswith(options[0]):
        assert found.logprobs[1] == pytest.approx(by_hand[1]) and found.logprobs[0] < by_hand[0]
    else:
        assert found.logprobs == pytest.approx(by_hand)


def test_what_it_reads_and_writes_is_counted(tokenizer, tmp_path):
    """Two options of one token each: one request, its prompt and one new token, as `meta_info` has it."""
    with SglangServer() as server:
        engine = engine_of(server, tokenizer, tmp_path)
        spending = engine.connection.spending
        before = (spending.read, spending.written)
        collected(engine.choose([Question(CHAT, ("a", "b"))], 999), 1)
        length = len(option_ids(tokenizer, CHAT, "", ("a", "b"))[0])
        assert (spending.read - before[0], spending.written - before[1]) == (length, 1)


def test_answers_are_drawn_by_completions(tokenizer, tmp_path):
    with SglangServer() as server:
        engine = engine_of(server, tokenizer, tmp_path)
        (reply,) = collected(engine.generate([Request(CHAT, 7)], Sampling(4, 0.5)), 1)
        (body,) = bodies(server)
    assert reply.text == f"{sum(engine.prompt_ids(CHAT)) % 1000} 7"
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0.0, 1.0)


def test_a_server_without_log_probabilities_is_refused(tokenizer, tmp_path):
    with SglangServer(silent=True) as server, pytest.raises(UserError, match="no log-probabilities"):
        engine_of(server, tokenizer, tmp_path)
