"""llama.cpp's dialect where a token is a part of a character, or ends an answer: its grammar lets none such pass, and
answers 500, and of a part of a character that it has drawn it says nothing."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("openai")

from conftest import free_port
from faulty_server import FaultyServer, logp_of
from test_server import collected, engine_of

from cai.config.runtime import Runtime
from cai.config.served import Server
from cai.core.records import Message
from cai.models import serving
from cai.models.chat import option_ids
from cai.models.engines import Question
from cai.models.engines.connection import Connection
from cai.models.engines.dialects import LlamaCpp
from cai.models.engines.server import ServerEngine
from cai.models.engines.spending import Spending
from cai.models.engines.transformers import open_engine
from cai.models.export.command import exported
from cai.models.loading import load_tokenizer

CHAT = (Message("user", "Well?"),)
MIXED = ("café", "🎉")  # c a f and two bytes; four bytes


class LlamaServer(FaultyServer):
    """Completions as llama.cpp's server answers them: log-probabilities of what grammar or logit_bias leave."""

    def __init__(self, tokenizer) -> None:
        super().__init__(owner="llamacpp")
        self.size, ends = len(tokenizer), tokenizer.all_special_ids
        self.parts = lambda token: tokenizer.decode([token]).startswith("\N{REPLACEMENT CHARACTER}") or token in ends

    def answer(self, request, path, body, fault) -> None:
        named = [int(token) for token in re.findall(r"<\[(\d+)\]>", body.get("grammar", ""))]
        if any(map(self.parts, named)):
            return request.reply({"error": {"message": "Unexpected empty grammar stack after accepting piece: a"}}, 500)
        return super().answer(request, path, body, fault)

    def complete(self, body: dict) -> dict:
        made, before = super().complete(body), body["prompt"]
        tokens = [int(token) for token in re.findall(r"<\[(\d+)\]>", body.get("grammar", ""))]
        for forced, bias in body.get("logit_bias", ()):
            assert bias >= 1000 and not self.parts(forced) and body["logprobs"] > self.size
            tops = [{"id": token, "logprob": logp_of(before, token)} for token in range(self.size)]
            step = {"id": forced, "logprob": logp_of(before, forced), "top_logprobs": tops}
            made["choices"][0]["logprobs"] = {"content": [step]}
            return made
        if not tokens and body["temperature"] == 0:
            tokens = [max(range(64), key=lambda one: (logp_of(before, one), -one))]
        assert len(tokens) <= body["max_tokens"]
        steps = [{"id": t, "logprob": logp_of([*before, *tokens[:k]], t)} for k, t in enumerate(tokens)]
        made["choices"][0]["logprobs"] = {"content": steps}
        return made


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return load_tokenizer(tiny)


def test_parts_of_characters_are_asked_one_by_one(tokenizer, tmp_path):
    with LlamaServer(tokenizer) as server:
        engine = engine_of(server, tokenizer, tmp_path)
        assert isinstance(engine.dialect, LlamaCpp)
        (found,) = collected(engine.choose([Question(CHAT, MIXED)], 999), 1)
        start, tails = option_ids(tokenizer, CHAT, "", MIXED)
        asked = sorted((json.loads(body) for body in server.served), key=lambda body: "grammar" in body)
    by_hand = [sum(logp_of([*start, *tail[:k]], tail[k]) for k in range(len(tail))) for tail in tails]
    assert found.logprobs == pytest.approx(by_hand)
    assert [len(tail) for tail in tails] == [5, 4]
    assert [len(body.get("logit_bias", ())) for body in asked] == [1] * 6 + [0]
    assert asked[-1]["grammar"] == "root ::= " + " ".join(f"<[{token}]>" for token in tails[0][:3])


def test_a_tail_of_whole_characters_is_one_request(tokenizer, tmp_path):
    with LlamaServer(tokenizer) as server:
        engine = engine_of(server, tokenizer, tmp_path)
        collected(engine.choose([Question(CHAT, ("Never", "Nay"))], 999), 1)
        assert sorted(len(json.loads(body)["grammar"].split()) for body in server.served) == [2 + 3, 2 + 5]


def test_llama_cpp_reads_them_as_the_model_in_process_does(sharp, tmp_path, monkeypatch):
    """A real server with the tiny model, in float32 on both sides: parts of characters, and the end of an answer."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (pip install xllamacpp)")
    with monkeypatch.context() as patch:
        patch.setattr(serving, "llama_installed", lambda: False)
        list(exported(sharp, tmp_path / "sharp.gguf", "f32"))
    options = ("café", "🎉", "Yes", "<|im_end|>")
    here = open_engine(sharp, dtype="float32", system=None, device="cpu", runtime=Runtime())
    with served(tmp_path / "sharp.gguf") as url:
        where = Server(url=(url,), name="sharp", adapters=False)
        there = ServerEngine(Connection(where, "sharp", Spending(), 2, tmp_path), load_tokenizer(sharp), "", None)
        asked = [Question(CHAT, options), Question((Message("user", "🎉 Ça va?"),), options)]
        ours, theirs = (collected(engine.choose(asked, 999), 2) for engine in (here, there))
    for mine, other in zip(ours, theirs, strict=True):
        assert other.logprobs == pytest.approx(mine.logprobs, abs=0.02)


@contextmanager
def served(file: Path) -> Iterator[str]:
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path, given.hostnames, given.port = str(file), ["127.0.0.1"], free_port()
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
    given.n_ctx, given.n_parallel, given.model_alias, given.warmup = 4096, 2, {file.stem}, False
    given.verbosity = 2
    server = xllamacpp.Server(given)
    yield f"{server.listening_address}/v1"
    del server
