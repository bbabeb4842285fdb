"""A real vLLM server with SmolLM2-135M, in float32: judge, drafts, adapters and chat through it, and in process.

Run by hand, for vLLM has an environment of its own. CAI_VLLM is its binary, or the address of a server that runs:

    CAI_VLLM=~/vllm/bin/vllm python -m pytest tests/models/test_server_vllm.py
"""

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("openai")

from conftest import free_port

from cai.config.runtime import Runtime
from cai.config.sections import Data, Judge, Policy
from cai.config.served import Server
from cai.constitution import read_constitution
from cai.core.errors import UserError
from cai.core.records import Message, Pair, read_jsonl
from cai.core.store import Store
from cai.data.sources import load_data, source_digest
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.models.engines import Question, Request, Sampling
from cai.models.engines.server import look_at
from cai.models.references import answering, drafting, find, find_served, local
from cai.models.workbench import Workbench

VLLM = os.environ.get("CAI_VLLM", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not VLLM, reason="CAI_VLLM names no vLLM: run by hand, see this file's first lines"),
]
ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}  # fmt: skip
CHATS = [
    (Message("user", text),) for text in ("Name three colours.", "Is the earth flat?", "What is a lighthouse for?")
]


@pytest.fixture(scope="module")
def served(real, tmp_path_factory) -> Iterator[str]:
    """The server's address."""
    yield from serving(real, tmp_path_factory)


@pytest.fixture(scope="module")
def serves_adapters(real, tmp_path_factory) -> Iterator[str]:
    """Of a server that takes adapters. In vLLM 0.32 on a CPU such a one dies of `prompt_logprobs` of several requests
    at a time (their logits are taken for those of as many tokens), so it is asked one after another here."""
    yield from serving(real, tmp_path_factory, "--enable-lora", "--max-lora-rank", "8")


def serving(real, tmp_path_factory, *more: str) -> Iterator[str]:
    if VLLM.startswith("http"):
        yield VLLM
        return
    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "server.log"
    command = [
        VLLM, "serve", local(real), "--served-model-name", "smollm2-135m", "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "16", "--enforce-eager",
        # On a CPU vLLM 0.32 dies of a seeded request whose prompt it reads in parts ("Generator does not use offset").
        "--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096",
        *more,
    ]  # fmt: skip
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | ENVIRONMENT)
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture(scope="module")
def pairs(ratings, tmp_path_factory) -> list[Pair]:
    """The quickstart's."""
    data = Data(source="rated-answers", test=0.45, calibration=0.2, max_words=160, train_pairs=88, test_pairs=100)
    work = workbench(tmp_path_factory.mktemp("data"))
    made = Store(work.root).stage_with(work)(load_data, data=data, contents=source_digest(data), seed=0)
    return read_jsonl(made / "pairs.jsonl", Pair)


@pytest.fixture(scope="module")
def adapter(real, tmp_path_factory) -> Path:
    """A LoRA adapter of rank 4 that moves the model well: its B is drawn, not zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    from cai.models.loading import load_causal, load_tokenizer, save

    torch.manual_seed(0)
    model = get_peft_model(load_causal(real, "float32", "cpu"), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.02)
    folder = tmp_path_factory.mktemp("adapters") / "moved"
    save(model, load_tokenizer(real), folder)
    return folder


def workbench(root: Path, **more) -> Workbench:
    return Workbench.open(Runtime(root=str(root), device="cpu", **more))


def labels(settings: Judge, pairs: list[Pair], root: Path):
    judge = AskedJudge.of(settings, read_constitution("constitutions/quickstart.txt"), "float32", 0)
    engine = workbench(root).engine(judge.model, dtype="float32", system=None)
    return judge_pairs(engine, pairs, judge, title="judge"), engine


def readings(model, root: Path) -> list[float]:
    engine = workbench(root, concurrency=1).engine(model, dtype="float32", system=None)
    options = (" Red, green and blue.", " No.", "Yes", "It warns ships")
    asked = [Question(chat, options) for chat in CHATS]
    return [logp for reading in engine.choose(asked, 999, "read") for logp in reading.logprobs]


@pytest.mark.parametrize(
    ("method", "count", "within"), [("rate", 40, 0.0002), ("contrast", 20, 0.002), ("channel", 20, 0.002)]
)
def test_labels_of_the_quickstart_are_those_in_process(method, count, within, served, pairs, tmp_path):
    """Nats of log-odds; `contrast` and `channel` sum over whole answers."""
    settings = Judge(method=method, principles=2)
    here, _ = labels(settings, pairs[:count], tmp_path / "here")
    there, _ = labels(settings.model_copy(update={"server": Server(url=(served,))}), pairs[:count], tmp_path / "there")
    apart = [
        abs(a - b)
        for mine, theirs in zip(here, there, strict=True)
        for vote, other in zip(mine.votes, theirs.votes, strict=True)
        for a, b in zip(vote.logprobs, other.logprobs, strict=True)
    ]
    print(f"{method}: {len(apart)} log-probabilities, {max(apart):.6f} nats apart at most")
    assert max(apart) < within
    assert all(abs(mine.p_a - theirs.p_a) < within for mine, theirs in zip(here, there, strict=True))


def test_one_store_for_both_under_same(served, pairs, tmp_path):
    """`same: true`: what the model in process said is not asked again, after its canaries were compared."""
    here, _ = labels(Judge(), pairs[:4], tmp_path)
    same = Judge(server=Server(url=(served,), same=True))
    there, engine = labels(same, pairs[:4], tmp_path)
    assert here == there and engine.asked == 0
    _, engine = labels(same, pairs[:6], tmp_path)
    assert 0 < engine.asked <= 4 and engine.found >= 8  # two answers a pair, one of which two pairs share


def test_greedy_answers_are_those_in_process(served, real, tmp_path):
    policy = Policy(server=Server(url=(served,)))
    texts = []
    for model in (real, drafting(policy)):
        engine = workbench(tmp_path).engine(model, dtype="float32", system=None)
        replies = engine.generate([Request(chat, k) for k, chat in enumerate(CHATS)], Sampling(24, 0.0), "answers")
        texts.append([(reply.text, reply.finish) for reply in replies])
    assert texts[0] == texts[1]


def test_the_same_seed_draws_the_same_words(served, tmp_path):
    model = drafting(Policy(server=Server(url=(served,))))
    requests = [Request(chat, 7 * k) for k, chat in enumerate(CHATS * 3)]
    drawn = []
    for root in ("one", "two"):
        engine = workbench(tmp_path / root, concurrency=9 if root == "one" else 2).engine(
            model, dtype="float32", system=None
        )
        drawn.append([reply.text for reply in engine.generate(requests, Sampling(16), "answers")])
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == len(requests)


def test_verdicts_over_its_chat_api(served, pairs, tmp_path):
    """Counted, and off the likeliest tokens."""
    server = Server(url=(served,), api="chat", name="smollm2-135m")
    for more in ({"verdict": "sampled", "samples": 3}, {}):
        made, engine = labels(Judge(method="choice", server=server, **more), pairs[:3], tmp_path)
        assert len(made) == 3 and engine.asked
        print(more, made)


def test_an_adapter_of_the_run_is_given_to_it(serves_adapters, adapter, real, tmp_path):
    """Its log-probabilities are those in process, it is gone afterwards, and the base answers as before."""
    policy = Policy(server=Server(url=(serves_adapters,)))
    trained = find(str(adapter))
    look_at(drafting(policy), Runtime(root=str(tmp_path), device="cpu"), adapters=True)
    here, there = readings(trained, tmp_path), readings(answering(policy, trained), tmp_path)
    base = readings(drafting(policy), tmp_path)
    apart = max(abs(a - b) for a, b in zip(here, there, strict=True))
    moved = max(abs(a - b) for a, b in zip(here, base, strict=True))
    print(f"adapter: {apart:.6f} nats apart at most; it moves them by {moved:.2f}")
    assert apart < 0.0005 < 0.2 < moved
    with urllib.request.urlopen(f"{serves_adapters}/models", timeout=20) as answer:
        assert b"cai-" not in answer.read()


def test_a_judge_that_is_an_adapter_is_given_to_it(serves_adapters, adapter, tmp_path):
    model = find_served(str(adapter), Server(url=(serves_adapters,), name="smollm2-135m", same=True))
    here, there = readings(find(str(adapter)), tmp_path / "1"), readings(model, tmp_path / "2")
    assert max(abs(a - b) for a, b in zip(here, there, strict=True)) < 0.0005


def test_an_adapter_of_a_higher_rank_is_refused(serves_adapters, real, tmp_path):
    from peft import LoraConfig, get_peft_model

    from cai.models.loading import load_causal, load_tokenizer, save

    model = get_peft_model(load_causal(real, "float32", "cpu"), LoraConfig(r=64, target_modules=["q_proj"]))
    save(model, load_tokenizer(real), tmp_path / "wide")
    with pytest.raises(UserError, match="rank") as fault:
        readings(answering(Policy(server=Server(url=(serves_adapters,))), find(str(tmp_path / "wide"))), tmp_path)
    assert "--max-lora-rank 64" in fault.value.remedy
