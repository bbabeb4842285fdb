"""Adapters that a server is given while it is asked: what it is told, what it gives back, and what is refused."""

from pathlib import Path

import pytest

pytest.importorskip("openai")

from faulty_server import FaultyServer
from test_server import QUICK, collected, questions, requests

from cai.config.runtime import Runtime
from cai.config.sections import Judge, Policy
from cai.config.served import Server
from cai.core.errors import UserError
from cai.core.store import Artifact
from cai.models.engines import Sampling
from cai.models.engines.server import look_at, open_engine
from cai.models.engines.spending import Spending
from cai.models.references import answering, drafting, find, find_served, model_of, trained


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory) -> Path:
    """Of rank 2, on the tiny model."""
    from peft import LoraConfig, get_peft_model

    from cai.models.loading import load_causal, load_tokenizer, save

    folder = tmp_path_factory.mktemp("adapters") / "one"
    model = get_peft_model(load_causal(tiny, "float32", "cpu"), LoraConfig(r=2, target_modules=["q_proj"]))
    save(model, load_tokenizer(tiny), folder)
    return folder


def policy(*urls, **more):
    return Policy(model="tiny-random", server=Server(url=urls, name="toy", **more))


def open_at(model, tmp_path, spending=None):
    runtime = Runtime(root=str(tmp_path), device="cpu", concurrency=4)
    return open_engine(
        model, dtype="float32", system=None, device="cpu", runtime=runtime, spending=spending or Spending()
    )


def test_it_is_given_for_as_long_as_it_is_asked(adapter, tmp_path):
    """Every load has its unload; what it answers is not what the base answers; two replicas each have it."""
    with FaultyServer(lora=8) as one, FaultyServer(lora=8) as two:
        model = answering(policy(one.url, two.url), find(str(adapter)))
        engine = open_at(model, tmp_path)
        moved = collected(engine.choose(questions(8), 999), 8)
        assert len(collected(engine.generate(requests(8), Sampling(4)), 8)) == 8
        for server in (one, two):
            assert not server.adapters and [kind for kind, _ in server.told] == ["load", "unload"] * (
                len(server.told) // 2
            )
        (name,) = {name for _, name in one.told + two.told}
        assert name.startswith("cai-") and str(adapter) not in name
        plain = collected(open_at(drafting(policy(one.url)), tmp_path).choose(questions(8), 999), 8)
    assert moved != plain


def test_a_server_that_was_started_anew_is_given_it_again(adapter, tmp_path):
    with FaultyServer(lora=8) as server:
        engine = open_at(answering(policy(server.url), find(str(adapter))), tmp_path)
        engine.connection.wait = QUICK
        rows = []
        for number, batch in enumerate(engine.generate(requests(60), Sampling(4))):
            rows.append(batch)
            if number == 1:
                server.adapters.clear()
        assert len(collected(rows, 60)) == 60


def test_a_rank_that_is_too_high_is_refused_with_the_flag(adapter, tmp_path):
    with FaultyServer(lora=1) as server, pytest.raises(UserError, match="rank 2 is greater") as fault:
        open_at(answering(policy(server.url), find(str(adapter))), tmp_path)
    assert "--max-lora-rank 2" in fault.value.remedy and "adapters: false" in fault.value.remedy


def test_a_server_that_takes_none_is_refused_before_the_first_stage(tmp_path):
    """As llama.cpp: it knows no such path."""
    runtime = Runtime(root=str(tmp_path), device="cpu")
    with FaultyServer() as server:
        look_at(drafting(policy(server.url)), runtime)
        with pytest.raises(UserError, match="this server cannot be given adapters") as fault:
            look_at(drafting(policy(server.url)), runtime, adapters=True)
    assert "adapters: false" in fault.value.remedy
    with FaultyServer(lora=8) as server:
        look_at(drafting(policy(server.url)), runtime, adapters=True)
        assert not server.adapters


def test_one_that_it_does_not_apply_is_noticed(adapter, tmp_path):
    with FaultyServer(lora="ignored") as server, pytest.raises(UserError, match="exactly as without it"):
        open_at(answering(policy(server.url), find(str(adapter))), tmp_path)


# What stands in a key -------------------------------------------------------------------------------------------------


def test_who_answers_for_a_policy(adapter, tiny, tmp_path):
    """By weights here and name there; where adapters are not taken, policies answer in process, all of them."""
    url, start = "http://a:1/v1", model_of(Policy(model="tiny-random"))
    made = trained(Artifact(stage="train_sft", key="k", digest="d", path=tmp_path), "sft")
    for ref in (start, made):
        assert answering(Policy(model="tiny-random"), ref) is ref
        assert answering(policy(url, adapters=False), ref) is ref
    both = [answering(policy(url), ref) for ref in (start, made)]
    assert both[0].digest == drafting(policy(url)).digest == drafting(policy(url, adapters=False)).digest
    assert len({start.digest, made.digest, *(ref.digest for ref in both)}) == 4
    assert [ref.server.name for ref in both] == ["toy", "toy"] and both[1].place == made.place
    assert both[1].digest == answering(policy("http://b:2/v1"), made).digest
    assert both[1].digest != answering(policy(url, revision="2"), made).digest


def test_an_adapter_without_a_name_there_is_asked_for_by_its_base(adapter):
    served = find_served(str(adapter), Server(url=("http://a:1/v1",)))
    assert served.server.name == "tiny-random"
    whole = find_served(str(adapter), Server(url=("http://a:1/v1",), adapters=False))
    assert whole.server.name is None and whole.digest == served.digest
    assert model_of(Judge(model=str(adapter))).server is None


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"server": {"url": "http://a:1/v1", "api": "chat"}}, "a chat API renders its own"),
        ({"server": {"url": "http://a:1/v1", "same": True}}, "a server draws other words"),
        ({"server": "http://a:1/v1", "training": "full"}, "no weights that were trained whole"),
    ],
)
def test_a_policy_that_cannot_be_served_is_refused(more, problem):
    with pytest.raises(ValueError, match=problem):
        Policy(**more)
