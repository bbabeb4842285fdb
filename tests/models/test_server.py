"""The server engine against a server with faults on purpose: no request lost, none doubled, and a clear end."""

import json
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

pytest.importorskip("openai")

from faulty_server import FaultyServer, logp_of

from cai.config.runtime import Runtime
from cai.config.sections import Judge
from cai.config.served import Price, Server
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Message
from cai.models.chat import option_ids
from cai.models.engines import Question, Request, Sampling
from cai.models.engines.connection import Connection
from cai.models.engines.faults import GivenUp, retry_after
from cai.models.engines.identity import check_identity
from cai.models.engines.server import ServerEngine
from cai.models.engines.spending import Spending
from cai.models.engines.transport import Patience, Pool
from cai.models.loading import load_tokenizer
from cai.models.references import find_served, model_of
from cai.models.workbench import Workbench

# Where nothing is to hang, a machine that is busy otherwise has time to answer. Of thirty requests of which each third
# goes wrong one may do so eight times; and a busy machine may find the rest of a dead replica over each time it looks.
QUICK = Patience(answer=20.0, connect=20.0, server=30.0, tries=1000, first=0.01, longest=0.1)
HASTY = replace(QUICK, answer=0.5)


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return load_tokenizer(tiny)


def engine_of(server, tokenizer, tmp_path, *, wait=QUICK, concurrency=8, urls=(), **limits):
    where = Server(url=urls or (server.url,), name="toy")
    spending = limits.pop("spending", None) or Spending(**limits)
    engine = ServerEngine(Connection(where, "tiny-random", spending, concurrency, tmp_path, wait), tokenizer, "x", None)
    server.armed = True
    return engine


def requests(count):
    return [Request((Message("user", f"Question {number}"),), number) for number in range(count)]


def questions(count):
    return [Question((Message("user", f"Is {number} even?"),), ("Yes", "No", "No way")) for number in range(count)]


def collected(batches, count):
    """In order; each index exactly once."""
    rows = [row for batch in batches for row in batch]
    assert sorted(index for index, _ in rows) == list(range(count))
    return [result for _, result in sorted(rows, key=lambda row: row[0])]


def expected_texts(engine, asked):
    return [f"{sum(engine.prompt_ids(one.chat)) % 1000} {one.seed % 1000}" for one in asked]


def until(there):
    """For a while: what does not come is seen by what follows."""
    end = time.monotonic() + 10
    while not there() and time.monotonic() < end:
        time.sleep(0.001)


def answers_after(event):
    """Of a server's faults: none, but later."""
    event.wait(15)


# 1. What is asked and how it is read ----------------------------------------------------------------------------------


def test_options_of_several_tokens_are_read_token_by_token(tokenizer, tmp_path):
    """Each option's log P is the sum over its tokens; a longer one that goes on from it is taken off."""
    with FaultyServer() as server:
        engine = engine_of(server, tokenizer, tmp_path)
        chat = (Message("user", "Well?"),)
        asked = [Question(chat, ("Never", "Nay")), Question(chat, ("a", "b"))]
        for question, found in zip(asked, collected(engine.choose(asked, 999), 2), strict=True):
            start, tails = option_ids(tokenizer, question.chat, "", question.options)
            by_hand = [sum(logp_of([*start, *tail[:k]], tail[k]) for k in range(len(tail))) for tail in tails]
            assert found.logprobs == pytest.approx(by_hand)
        assert [len(tail) for tail in option_ids(tokenizer, asked[0].chat, "", asked[0].options)[1]] == [5, 3]


def test_sampling_settings_are_all_sent(tokenizer, tmp_path):
    with FaultyServer() as server:
        engine = engine_of(server, tokenizer, tmp_path)
        collected(engine.generate(requests(1), Sampling(7, 0.5, 0.9)), 1)
        (body,) = [json.loads(one) for one in server.served]
    del body["prompt"], body["stop_token_ids"]
    assert body == {
        "model": "toy", "max_tokens": 7, "temperature": 0.5, "seed": 0, "top_p": 0.9, "top_k": 0, "min_p": 0.0,
        "repetition_penalty": 1.0, "min_tokens": 0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip


def test_what_is_too_long_is_not_asked(tokenizer, tmp_path):
    with FaultyServer(limit=200) as server:
        engine = engine_of(server, tokenizer, tmp_path)
        long = Request((Message("user", "x" * 300),), 1)
        assert collected(engine.generate([long], Sampling(5)), 1) == [None]
        assert collected(engine.choose([Question(long.chat, ("a", "b"))], 999), 1) == [None]
        assert collected(engine.choose(questions(1), 5), 1) == [None]
        assert not server.served


# 2. Faults ------------------------------------------------------------------------------------------------------------

PASSING = ("500", "429", "hang", "cut", "malformed", "no logprobs", "trickle")


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_loses_and_doubles_nothing(fault, tokenizer, tmp_path):
    """Every third request goes wrong. `trickle`: 8 bytes each 0.05 s, so that no answer is whole within 0.5 s."""
    with FaultyServer(lambda number: fault if number % 3 == 0 else None, hang=0.7) as server:
        engine = engine_of(server, tokenizer, tmp_path, wait=HASTY if fault in ("hang", "trickle") else QUICK)
        found = collected(engine.choose(questions(12), 999), 12)
        assert server.hit[fault] >= 12
        clean = FaultyServer()
        with clean:
            wanted = collected(engine_of(clean, tokenizer, tmp_path).choose(questions(12), 999), 12)
    assert found == wanted
    if fault not in ("hang", "trickle"):  # where a server that is busy otherwise may be asked once too often
        assert set(server.served.values()) == {1}


def test_answers_come_in_the_order_of_their_numbers(tokenizer, tmp_path):
    with FaultyServer(lambda number: "500" if number % 5 == 0 else None) as server:
        engine = engine_of(server, tokenizer, tmp_path)
        asked = requests(60)
        assert [one.text for one in collected(engine.generate(asked, Sampling(4)), 60)] == expected_texts(engine, asked)
        assert len(server.served) == 60 and set(server.served.values()) == {1}
        assert server.widest <= 8  # as many at once as `concurrency` says, and no more


@pytest.mark.slow
def test_ten_thousand_requests_with_a_fifth_of_faults(tokenizer, tmp_path):
    kinds = ("500", "429 0.01", "cut", "malformed")
    draw = lambda number: (  # noqa: E731
        kinds[number % 4] if uniform("fault", number) < 0.2 else None
    )
    with FaultyServer(draw) as server:
        engine = engine_of(server, tokenizer, tmp_path, concurrency=32)
        asked = requests(10_000)
        assert [r.text for r in collected(engine.generate(asked, Sampling(4)), 10_000)] == expected_texts(engine, asked)
        assert len(server.served) == 10_000 and set(server.served.values()) == {1}
        assert sum(server.hit.values()) > 1_500 and set(server.hit) == set(kinds)


def test_a_restart_in_the_middle(tokenizer, tmp_path):
    with FaultyServer() as server:
        engine = engine_of(server, tokenizer, tmp_path, wait=replace(QUICK, server=20.0), concurrency=4)
        asked, rows = requests(200), []
        for number, batch in enumerate(engine.generate(asked, Sampling(4))):
            rows.append(batch)
            if number == 2:
                server.stop()
                threading.Timer(0.5, server.start).start()
        assert [one.text for one in collected(rows, 200)] == expected_texts(engine, asked)


def test_a_server_that_never_comes_back_is_a_clear_end(tokenizer, tmp_path):
    gone = threading.Event()
    server = FaultyServer(lambda number: answers_after(gone) if number > 100 else None)  # else it may have answered all
    server.start()
    engine = engine_of(server, tokenizer, tmp_path, wait=replace(QUICK, server=1.0))
    kept, began = [], time.monotonic()
    ends = "the server answers nobody any longer: (no connection|the connection was cut)"
    with pytest.raises(UserError, match=ends) as fault:
        for number, batch in enumerate(engine.generate(requests(500), Sampling(4))):
            kept += batch
            if number == 1:
                server.stop()
                gone.set()
    assert "what it answered is kept" in fault.value.remedy
    assert 0 < len(kept) < 500 and len({index for index, _ in kept}) == len(kept)
    assert time.monotonic() - began < 100


def test_one_request_that_always_fails_stops_no_other(tokenizer, tmp_path, monkeypatch):
    """The ids of one request always meet a 500: all others are answered, and the end names it.

    It is given up while others are answered: one between two of its tries, until then, and the rest when it is.
    """
    given_up, turns, tries = threading.Event(), threading.Semaphore(10), []
    patient = Pool._patient

    def told(pool, *args):
        try:
            patient(pool, *args)
        except GivenUp:
            given_up.set()
            raise

    monkeypatch.setattr(Pool, "_patient", told)
    with FaultyServer() as server:
        engine = engine_of(server, tokenizer, tmp_path, wait=replace(QUICK, tries=3))
        asked, poison = requests(30), requests(30)[7]
        ids = engine.prompt_ids(poison.chat)
        answer = server.answer

        def answered(request, path, body, fault):
            if body["prompt"] != ids:
                while not turns.acquire(timeout=0.02) and not given_up.is_set():
                    pass
                return answer(request, path, body, fault)
            tries.append(server.served.total())
            if len(tries) > 1:
                turns.release()
                until(lambda: server.served.total() > tries[-1])
            return answer(request, path, body, "500")

        server.answer = answered
        rows = []
        with pytest.raises(UserError, match=r"1 of 30 requests were given up: HTTP 500: out of luck, 3 times"):
            for batch in engine.generate(asked, Sampling(4)):
                rows += batch
    assert sorted(index for index, _ in rows) == [k for k in range(30) if k != 7] and len(tries) < 10


def test_a_wrong_key_ends_at_once_and_is_never_shown(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-very-secret")
    with FaultyServer(lambda number: "401") as server:
        where = Server(url=(server.url,), name="toy", key_from="TOY_KEY")
        engine = ServerEngine(Connection(where, "t", Spending(), 4, tmp_path, QUICK), tokenizer, "x", None)
        server.armed = True
        with pytest.raises(UserError, match="the server refuses the key") as fault:
            collected(engine.generate(requests(9), Sampling(4)), 9)
        assert server.keys == {"Bearer sk-very-secret"}
        assert "secret" not in str(fault.value) and "TOY_KEY" in str(fault.value)
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(UserError, match="TOY_KEY is not set"):
        ServerEngine(Connection(where, "t", Spending(), 4, tmp_path, QUICK), tokenizer, "x", None)


def test_another_model_behind_the_name_ends_the_run(tokenizer, tmp_path):
    with FaultyServer(lambda number: "other model" if number == 5 else None) as server:
        engine = engine_of(server, tokenizer, tmp_path, concurrency=1)
        with pytest.raises(UserError, match='answers as "another", and answered as "toy" before'):
            collected(engine.generate(requests(9), Sampling(4)), 9)


def test_a_wait_that_is_asked_for_is_kept(tokenizer, tmp_path):
    """Retry-After of half a second: nothing is sent to that replica before, by nobody."""
    times = []

    def faults(number):
        times.append(time.monotonic())
        return "429 0.5" if number == 0 else None

    with FaultyServer(faults) as server:
        collected(engine_of(server, tokenizer, tmp_path, concurrency=1).generate(requests(3), Sampling(4)), 3)
    assert times[1] - times[0] >= 0.5


def test_a_wait_that_is_too_long_is_an_end(tokenizer, tmp_path):
    with FaultyServer(lambda number: "429 3600") as server:
        engine = engine_of(server, tokenizer, tmp_path)
        with pytest.raises(UserError, match="asks to wait 3600 s"):
            collected(engine.generate(requests(3), Sampling(4)), 3)


def test_retry_after_in_its_two_forms():
    from email.utils import formatdate

    assert retry_after("12") == 12.0 and retry_after(None) == 0.0 and retry_after("soon") == 0.0
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60


def test_replicas_share_the_work_and_one_that_dies_is_left_out(tokenizer, tmp_path):
    met = threading.Barrier(2)

    def meet(number):
        """Neither answers before both are asked: one that is slow to begin would get little to do, and rightly so."""
        if number == 0:
            with suppress(threading.BrokenBarrierError):
                met.wait(15)

    with FaultyServer(meet) as one, FaultyServer(meet) as two:
        urls = (one.url, two.url)
        engine = engine_of(one, tokenizer, tmp_path, urls=urls)
        two.armed = True
        asked, rows = requests(300), []
        shared: tuple[int, ...] = ()
        for batch in engine.generate(asked, Sampling(4)):
            rows.append(batch)
            if not shared and len(one.served) + len(two.served) >= 100:  # fewer say nothing on a busy machine
                shared = (len(one.served), len(two.served))
                two.stop()
        assert [r.text for r in collected(rows, 300)] == expected_texts(engine, asked)
        assert min(shared) >= 0.2 * sum(shared)
        two.start()


def test_whoever_stops_listening_stops_the_requests(tokenizer, tmp_path):
    closed = threading.Event()
    with FaultyServer(lambda number: answers_after(closed) if number > 1000 else None) as server:  # as above
        batches = engine_of(server, tokenizer, tmp_path, concurrency=2).generate(requests(3000), Sampling(4))
        next(batches)
        batches.close()
        closed.set()
        done = len(server.served)
        time.sleep(0.2)
        assert len(server.served) <= done + 2 and done < 3000


# 3. Limits ------------------------------------------------------------------------------------------------------------


def test_a_limit_on_tokens_stops_before_it_is_passed(tokenizer, tmp_path):
    """Each request may take its prompt and 4 new tokens, and takes its prompt and 2."""
    with FaultyServer() as server:
        spending = Spending()
        engine = engine_of(server, tokenizer, tmp_path, spending=spending, concurrency=1)
        asked = [Request((Message("user", "Same length"),), number) for number in range(50)]
        prompt = len(engine.prompt_ids(asked[0].chat))
        spending.max_tokens = spending.read + spending.written + 10 * (prompt + 2) + 3
        before, rows = spending.read + spending.written, []
        with pytest.raises(UserError, match=r"stopped before runtime.max_tokens \(.*\) is passed"):
            for batch in engine.generate(asked, Sampling(4)):
                rows += batch
    # Nine take 9 (p + 2); the tenth may take p + 4, one more than is left for it: 10 (p + 2) + 2 <= ... + 3.
    assert len(rows) == 10 and spending.read + spending.written == before + 10 * (prompt + 2)


def test_a_limit_on_cost_needs_a_price_and_keeps_to_it(tokenizer, tmp_path):
    with FaultyServer() as server:
        with pytest.raises(UserError, match='no price of "toy"'):
            engine_of(server, tokenizer, tmp_path, max_cost=1.0)
        price = {"toy": Price(input=1.0, output=1e6)}  # one each for the tokens that are written
        spending = Spending(max_cost=1e9, prices=price)
        engine = engine_of(server, tokenizer, tmp_path, spending=spending, concurrency=3)
        spending.max_cost, rows = spending.cost + 41.0, []
        with pytest.raises(UserError, match="max_cost"):
            for batch in engine.generate(requests(99), Sampling(4)):
                rows += batch
    # Each may write 4 and writes 2: with three at a time 40 are never passed, and 18 are sure to be done.
    assert spending.cost <= spending.max_cost and 14 <= len(rows) <= 20


def test_an_answer_that_never_came_counts_whole():
    spending = Spending(prices={"m": Price(input=2.0, output=4.0)})
    spending.took("m", 500_000, 250_000)
    assert (spending.read, spending.written, spending.cost) == (500_000, 250_000, 2.0)


# 4. What a server cannot do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"silent": True}, "gives no log-probabilities"),
        ({"counts_otherwise": True}, "other tokens than the tokenizer here"),
        ({"ignores_seeds": True}, "ignores the sampling settings"),
        ({"model": "another"}, 'the server has no model "toy"'),
    ],
)
def test_what_it_cannot_do_is_refused_before_the_first_request(more, problem, tokenizer, tmp_path):
    with FaultyServer(**more) as server, pytest.raises(UserError, match=problem):
        engine_of(server, tokenizer, tmp_path)


def test_no_log_probabilities_names_another_way(tokenizer, tmp_path):
    with FaultyServer(silent=True) as server, pytest.raises(UserError) as fault:
        engine_of(server, tokenizer, tmp_path)
    assert "judge.verdict: sampled" in fault.value.remedy


def test_a_server_that_is_not_there(tokenizer, tmp_path):
    server = FaultyServer()
    server.start()
    server.stop()
    with pytest.raises(UserError, match="the server does not answer: no connection"):
        engine_of(server, tokenizer, tmp_path, wait=replace(QUICK, server=0.2))


# 5. What stands in a key ----------------------------------------------------------------------------------------------


def test_the_address_is_in_no_key_and_the_revision_is(tiny):
    def digest(**more):
        return find_served("tiny-random", Server(**{"url": ("http://a:1/v1",), **more})).digest

    assert digest() == digest(url=("http://b:2/v1", "http://c:3/v1")) == digest(key_from="KEY")
    assert digest() != tiny.digest == digest(same=True)
    assert len({digest(), digest(revision="2026-11"), digest(name="other"), digest(api="chat")}) == 4
    assert model_of(Judge(model="tiny-random")).digest == tiny.digest


def test_other_weights_behind_a_name_are_noticed(tokenizer, tmp_path):
    with FaultyServer() as server:
        engine = engine_of(server, tokenizer, tmp_path)
        there = engine.canaries()
        for _ in range(2):
            check_identity(engine.connection, "digest", engine.probed, there)
        check_identity(engine.connection, "digest", engine.probed, [value + 0.09 for value in there])
        with pytest.raises(UserError, match="is not what the labels so far came from") as fault:
            check_identity(engine.connection, "digest", engine.probed, [value + 0.11 for value in there])
    assert "revision" in fault.value.remedy


def test_answers_are_kept_as_they_come(tiny, tmp_path):
    """Through the workbench: what was answered before the end is not asked again."""
    with FaultyServer() as server:
        model = find_served("tiny-random", Server(url=(server.url,), name="toy"))
        first = Workbench.open(Runtime(root=str(tmp_path), device="cpu", concurrency=2, max_tokens=3_000))
        asked = requests(200)
        with pytest.raises(UserError, match="max_tokens"):
            first.engine(model, dtype="float32", system=None).generate(asked, Sampling(4), "answers")
        server.armed = True
        again = Workbench.open(Runtime(root=str(tmp_path), device="cpu"))
        engine = again.engine(model, dtype="float32", system=None)
        texts = [reply.text for reply in engine.generate(asked, Sampling(4), "answers")]
        assert texts == [f"{sum(engine.prompt_ids(one.chat)) % 1000} {one.seed % 1000}" for one in asked]
        assert 25 < engine.found < 200 and engine.asked + engine.found == 200
