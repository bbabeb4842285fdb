"""Fuzzed: what machines write and may have damaged. Judges' replies, servers' answers, manifests, results."""

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (pip install -e '.[dev]')")

from hypothesis import strategies as st
from strategies import as_json, kept_or_refused, mutated, nested, run, scalars, texts, values

from cai.compare.schema import read_results
from cai.core.errors import UserError
from cai.core.records import Message
from cai.core.store import MANIFEST, Damage, Store, read_stage, version
from cai.core.upkeep import manifests, referred
from cai.judge.sampled import counted, named_in
from cai.models.engines import Question, Reading, Reply, Sampling
from cai.models.engines.dialects import DIALECTS
from cai.models.engines.faults import Malformed
from cai.models.engines.hosted import top_reading
from cai.models.engines.probing import cut_in_thought, spoken
from cai.models.engines.transport import Call, read_by, tokens_of

FOLDER = Path(tempfile.mkdtemp(prefix="cai-fuzz-"))
BOTH = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])

# Replies --------------------------------------------------------------------------------------------------------------

OPTIONS = [("Yes", "No"), ("A", "B"), tuple(str(n) for n in range(1, 11)), ("a", "ab", "a.b", "(", "\\")]
AROUND = [
    "{}",
    "**{}**",
    "Answer: {}",
    "({})",
    "{}.",
    " {}\n",
    '{{"answer": "{}"}}',
    "{}, because it is so much better",
]


@st.composite
def replies(draw: st.DrawFn) -> tuple[tuple[str, ...], list[str]]:
    options = draw(st.sampled_from(OPTIONS))
    word = st.one_of(
        texts, values.map(as_json), st.builds(str.format, st.sampled_from(AROUND), st.sampled_from(options))
    )
    return options, draw(st.lists(st.one_of(word, word.map(lambda text: text * 3)), min_size=1, max_size=5))


def a_reply(given: tuple[tuple[str, ...], list[str]]) -> None:
    options, said = given
    named = [named_in(text, options) for text in said]
    assert {*named} <= {None, *options}
    reading = counted(Question((Message("user", "?"),), options), [Reply(text, "stop") for text in said])
    assert reading is not None and bool(reading.logprobs) != bool(reading.fault)
    share = sum(name is not None for name in named) / len(named)
    assert math.isclose(reading.mass, share, abs_tol=1e-9)  # what cannot be read is no vote for anything


@BOTH
def test_a_judges_reply_names_one_option_or_none(many: bool) -> None:
    run(a_reply, replies(), "reply", many)


# Servers' answers -----------------------------------------------------------------------------------------------------

TOP = [{"token": "A", "logprob": -0.5}, {"token": "B", "logprob": -1}]
LOGPROBS = {
    "content": [{"id": 5, "token": "A", "logprob": -0.5, "top_logprobs": TOP}], "token_logprobs": [None, -1, -1, -1],
    "top_logprobs": [{"token_id:5": -1, "token_id:6": -2}],
}  # fmt: skip
CHOICE = {
    "text": "A", "finish_reason": "stop", "message": {"content": "A"}, "logprobs": LOGPROBS,
    "prompt_logprobs": [{"5": {"logprob": -1}}] * 4,
}  # fmt: skip
META = {
    "output_token_ids_logprobs": [[[-1, 5, None], [-2, 6, None]]], "input_token_logprobs": [[None, 1], [-1, 5]],
}  # fmt: skip
RIGHT: dict[str, Any] = {
    "choices": [CHOICE], "meta_info": META, "text": "A", "model": "m",
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}  # fmt: skip
FIELDS = [
    "choices",
    "logprobs",
    "content",
    "logprob",
    "token",
    "top_logprobs",
    "message",
    "text",
    "finish_reason",
    "meta_info",
]


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    answer = json.loads(json.dumps(RIGHT))
    for _ in range(draw(st.integers(0, 3))):
        at: Any = answer
        for _ in range(draw(st.integers(0, 5))):
            inner = [
                key
                for key in (at if isinstance(at, dict) else range(len(at)))
                if isinstance(at[key], dict | list) and at[key]
            ]
            if not inner:
                break
            at = at[draw(st.sampled_from(inner))]
        key = draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        at[key] = draw(st.one_of(scalars, nested(st.sampled_from(FIELDS))))
    return answer


def an_answer(answer: dict[str, Any]) -> None:
    question = Question((Message("user", "?"),), ("A", "B"))
    calls: list[Call] = [
        Call("x", {}, read) for read in (lambda answer: top_reading(question, answer), spoken, cut_in_thought)
    ]
    for dialect in DIALECTS.values():
        calls += dialect.score("m", [1, 2, 3], [[5], [6]]).calls + dialect.score("m", [1, 2, 3], [[5, 6], [5, 7]]).calls
        calls += dialect.write("m", [1, 2, 3], Sampling(4), 0, {0: "<e>"}).calls
    for call in calls:
        try:
            found = read_by(call, answer)
        except Malformed as fault:
            assert len(str(fault)) < 12_000
            continue
        for value in found.logprobs if isinstance(found, Reading) else [found] if isinstance(found, float) else []:
            assert value <= 2e-3 * 3
    assert (tokens_of(answer.get("usage"), "prompt_tokens") or 0) >= 0


@BOTH
def test_a_servers_answer_is_read_or_malformed(many: bool) -> None:
    run(an_answer, answers(), "answer", many)


# Manifests and results ------------------------------------------------------------------------------------------------


@version(1)
def rows(out: Path, runtime: Any, *, n: int) -> None:
    (out / "rows").write_text(f"rows {n}")


@pytest.fixture(scope="module")
def made() -> Path:
    return Store(FOLDER / "runs").stage(rows, n=1).path


@st.composite
def damages(draw: st.DrawFn) -> Any:
    """What becomes of a manifest: a text with something else in it, or a key with another value."""
    if draw(st.booleans()):
        return draw(st.integers(0, 10**6)), draw(texts), draw(st.integers(0, 20))
    name = draw(st.sampled_from(["stage", "key", "digest", "seconds", "made", "calls", "files", "device", "inputs"]))
    return name, draw(
        st.one_of(
            scalars,
            values,
            st.dictionaries(st.just("rows"), st.one_of(values, st.lists(scalars, min_size=2, max_size=2))),
        )
    )


@BOTH
def test_a_damaged_manifest_is_damage_and_a_whole_one_is_not(made: Path, many: bool) -> None:
    whole = (made / MANIFEST).read_text()
    before = read_stage(made)
    place = made.parent.parent.parent / "damaged" / "store" / made.name
    shutil.copytree(made, place)
    (place.parent.parent / "run").mkdir()
    links = place.parent.parent / "run" / "links.json"

    def a_manifest(change: Any) -> None:
        if isinstance(change[0], str):
            text = as_json(json.loads(whole) | {change[0]: change[1]})
        else:
            at, put, more = change
            at %= len(whole)
            text = whole[:at] + put + whole[at + more :]
        (place / MANIFEST).write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            read = read_stage(place)
        except Damage as damage:
            assert str(damage)
        else:
            assert read is not None and before is not None and read.digest == before.digest
        known = manifests(place.parent.parent)
        links.write_bytes(text.encode("utf-8", "surrogatepass"))
        kept_or_refused(lambda: referred(place.parent.parent, known))

    run(a_manifest, damages(), "manifest", many)
    shutil.rmtree(place.parent.parent)


RESULTS = json.dumps(
    {"schema": 0, "name": "x", "arms": [], "seeds": [0], "provenance": {}, "measures": [{}], "elo": []}
)


@st.composite
def results(draw: st.DrawFn) -> str:
    return draw(st.one_of(values.map(as_json), st.just(mutated(draw, RESULTS))))


def some_results(text: str) -> None:
    file = FOLDER / "results.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError) as refused:
        read_results(file)
    assert refused.value.where == str(file.parent) and refused.value.remedy


@BOTH
def test_results_of_another_kind_are_refused(many: bool) -> None:
    run(some_results, results(), "results", many)
