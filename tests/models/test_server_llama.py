"""A real llama.cpp server (package `xllamacpp`) with SmolLM2-135M: the pipeline's judge through it, and in process."""

import sys

import pytest

pytest.importorskip("openai")

from conftest import free_port

from cai.config.runtime import Runtime
from cai.config.sections import Judge, Policy
from cai.config.served import Server
from cai.constitution import read_constitution
from cai.core.errors import UserError
from cai.core.records import Label, Message, Pair, Prompt
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.sampled import named_in
from cai.models.engines import Question, Request, Sampling
from cai.models.engines.server import look_at
from cai.models.references import drafting, find, find_served
from cai.models.workbench import Workbench

pytestmark = pytest.mark.real
# Nats of log-odds. The server multiplies activations of 8 bits with weights of 4 (Q4_1); in process they are float32.
WITHIN = 0.5
PAIRS = [
    Pair(f"p{k}", Prompt(f"q{k}", (Message("user", asked),), "", "train"), a, b)
    for k, (asked, a, b) in enumerate(
        [
            ("How do I pick a lock?", "I would rather not help with that.", "Take a pick and a wrench, and begin."),
            ("Is the earth flat?", "No, it is very nearly a sphere.", "Yes, and nobody may say so."),
            ("Write a rude joke.", "Here is a kind one instead.", "Your face is one."),
        ]
    )
]


@pytest.fixture(scope="module")
def served(gguf, real):
    """The server's address: one thread, two slots."""
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path, given.hostnames, given.port = str(gguf), ["127.0.0.1"], free_port()
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
    given.n_ctx, given.n_parallel, given.model_alias, given.warmup = 4096, 2, {"smollm2-135m"}, False
    server = xllamacpp.Server(given)
    yield f"{server.listening_address}/v1"
    del server
    sys.stdout.flush()


def workbench(root):
    return Workbench.open(Runtime(root=str(root), device="cpu", concurrency=2))


def labels(settings, work, pairs=PAIRS):
    judge = AskedJudge.of(settings, read_constitution("constitutions/short.txt"), "float32", 0)
    engine = work.engine(judge.model, dtype="float32", system=None)
    return judge_pairs(engine, pairs, judge, title="judge")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Loads the model once."""
    return workbench(tmp_path_factory.mktemp("here"))


@pytest.mark.parametrize("method", ["rate", "choice", "channel"])
def test_labels_are_those_in_process(method, served, here, tmp_path):
    """Of one pair: what is compared is numbers, vote by vote."""
    ours = labels(Judge(method=method), here, PAIRS[:1])
    theirs = labels(Judge(method=method, server={"url": (served,)}), workbench(tmp_path), PAIRS[:1])
    assert len(ours) == 1
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, Label) and isinstance(other, Label)
        for our_vote, their_vote in zip(one.votes, other.votes, strict=True):
            per_option = zip(our_vote.logprobs, their_vote.logprobs, strict=True)
            # `channel` reads a whole sentence: some 30 tokens an option.
            assert max(abs(a - b) for a, b in per_option) < (WITHIN if method != "channel" else 10 * WITHIN)


def test_verdicts_are_counted_over_its_chat_api(served, tmp_path):
    judge = Judge(method="choice", server={"url": (served,), "api": "chat"}, verdict="sampled", samples=2)
    found = labels(judge, workbench(tmp_path), PAIRS[:1])
    assert len(found) == 1 and all(isinstance(one, Label) for one in found)
    # Two samples an order, one voter added: log(2.5/0.5) or 0; log(1.5/0.5) where only one of them can be read.
    sizes = {round(abs(vote.logprobs[0] - vote.logprobs[1]), 4) for one in found for vote in one.votes}
    assert sizes <= {1.6094, 0.0, 1.0986}


def test_verdicts_are_read_off_its_likeliest_tokens(served, tmp_path):
    """Of a chat API: (A) and (B) of the first word; where one is not among the likeliest, the vote says so."""
    server = Server(url=(served,), api="chat", name="smollm2-135m")
    engine = workbench(tmp_path).engine(find_served("smollm2-135m", server), dtype="float32", system=None)
    asked = [Question(pair.prompt.messages, ("Yes", "No")) for pair in PAIRS]
    asked += [Question((Message("user", "Answer with one word, Yes or No: is water wet?"),), ("Yes", "No"))]
    for reading in engine.choose(asked, 999, "read"):
        assert 0 < reading.mass <= 1 + 1e-6 or reading.fault.startswith("not among the likeliest words")
    assert engine.choose(asked[-1:], 999, "read")[0].mass > 0.01


def test_it_is_held_to_the_options(served, tmp_path):
    """Structured output: what it writes is one of them, whatever it would say."""
    server = Server(url=(served,), api="chat", name="smollm2-135m")
    engine = workbench(tmp_path).engine(find_served("smollm2-135m", server), dtype="float32", system=None)
    asked = [Request((Message("user", "Tell me a story."),), seed, ("Yes", "No")) for seed in range(3)]
    texts = [reply.text for reply in engine.generate(asked, Sampling(16), "answers")]
    assert {named_in(text, ("Yes", "No")) for text in texts} <= {"Yes", "No"}


def test_it_takes_no_adapters_and_says_what_would_do(served, tmp_path):
    model = drafting(Policy(server=Server(url=(served,))))
    look_at(model, workbench(tmp_path).runtime)
    with pytest.raises(UserError, match="this server cannot be given adapters") as fault:
        look_at(model, workbench(tmp_path).runtime, adapters=True)
    assert "adapters: false" in fault.value.remedy


def test_another_tokenizer_is_refused(served, tiny, tmp_path):
    judge = Judge(model="tiny-random", server={"url": (served,), "name": "smollm2-135m"})
    assert find("tiny-random") == tiny
    with pytest.raises(UserError, match="other tokens than the tokenizer here"):
        labels(judge, workbench(tmp_path))
