"""How each kind of server is asked for log-probabilities of given tokens: the same question in four dialects.

    llama.cpp   a grammar that leaves one token possible at each step; logprobs are those before it. Of a token that no
                grammar lets pass: all logprobs of a step in which another one is drawn (logit_bias)
    vllm        logprob_token_ids of each place where options part; of long options, prompt_logprobs
    sglang      /generate: token_ids_logprob, and of long options logprob_start_len (after its documentation and
                source: not run against SGLang)
    plain       completions with `echo` and `logprobs`, as OpenAI's first models had them

Every field that shapes the sampling is sent: what is left open is filled by the server's own defaults (llama.cpp:
temperature 0.8, top_k 40, min_p 0.05; vLLM: the model's generation_config). Whether a server does what its dialect says
is probed (probing.py), never believed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, Protocol

from cai.models.engines import Reading, Reply, Sampling, reading
from cai.models.engines.faults import Malformed
from cai.models.engines.transport import Call, CallGroup

Ids = Sequence[int]
ALL = 1 << 20  # more tokens than a vocabulary has
CERTAIN = 1e6  # added to a logit, for a token that is drawn whatever the others have
CUT = "\N{REPLACEMENT CHARACTER}"  # what a part of a character is read as
# Nothing is cut off, nothing is punished: the model's own distribution.
NEUTRAL = {"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
OPEN = {
    "llamacpp": {"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0, "dry_multiplier": 0.0},
    "vllm": {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
}


class Dialect(Protocol):
    """name: what a server of this kind calls itself (`owned_by` in /v1/models)."""

    @property
    def name(self) -> str: ...

    def score(self, model: str, start: Ids, tails: Sequence[Ids]) -> CallGroup:
        """log P(tail | start) of each tail -> Reading."""
        ...

    def write(self, model: str, ids: Ids, sampling: Sampling, seed: int, stops: dict[int, str]) -> CallGroup:
        """One answer behind the ids -> Reply. stops: the tokens that end it, and their texts."""
        ...


# What they have in common ---------------------------------------------------------------------------------------------


def choice_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The one answer. Raises Malformed."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Malformed("an answer came without choices")
    return choices[0]


def finite(value: Any) -> float:
    """A log-probability. Raises Malformed for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value) or value > 1e-3:
        raise Malformed(f"a log-probability came as {value!r}")
    return float(value)


def reply_of(answer: dict[str, Any]) -> Reply:
    choice = choice_of(answer)
    text = choice.get("text")
    if not isinstance(text, str):
        raise Malformed("an answer came without text")
    return Reply(text.strip(), "length" if choice.get("finish_reason") == "length" else "stop")


def only(found: list[Any]) -> Any:
    (one,) = found
    return one


def sampled(model: str, ids: Ids, sampling: Sampling, seed: int) -> dict[str, Any]:
    """The body of a completion that is drawn from the model's own distribution."""
    return {
        "model": model,
        "prompt": list(ids),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": seed % 2**31,
        **NEUTRAL,
        "top_p": sampling.top_p,
    }


def by_tail(tails: Sequence[Ids], calls: Sequence[Call]) -> CallGroup:
    """A call for each tail, which reads its log-probability."""
    return CallGroup(tuple(calls), lambda logps: reading(tails, logps))


def by_place(tails: Sequence[Ids], calls: Sequence[Call]) -> CallGroup:
    """A call for each place where the tails part, in the order of `parting`: it reads token -> log-probability."""

    def join(at_places: list[dict[int, float]]) -> Reading:
        at = dict(zip(parting(tails), at_places, strict=True))
        return reading(tails, [math.fsum(at[tuple(tail[:k])][tail[k]] for k in range(len(tail))) for tail in tails])

    return CallGroup(tuple(calls), join)


# The kinds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """One request an option: the answer is held to its tokens, and each is reported with what it had before that.

    Its grammar lets no token pass that begins with a part of a character, or that ends an answer, not even the one that
    it names: then none is left, it draws one all the same, and answers 500, "Unexpected empty grammar stack"
    (llama-grammar.cpp, `llama_grammar_reject_candidates_for_stack`). Nor does it report a part of a character that it
    has drawn. So each of these, as of an emoji, is looked up among all tokens, in a request of its own.

    passes: whether a grammar can name a token. plain: one that it can.
    """

    name: str = "llamacpp"
    passes: Callable[[int], bool] = lambda token: True
    plain: int = 0

    def score(self, model: str, start: Ids, tails: Sequence[Ids]) -> CallGroup:
        parts = [
            [self._read(model, [*start, *tail[:at]], tail[at:end]) for at, end in self._runs(tail)] for tail in tails
        ]

        def join(logps: list[float]) -> Reading:
            left = iter(logps)
            return reading(tails, [math.fsum(islice(left, len(calls))) for calls in parts])

        return CallGroup(tuple(call for calls in parts for call in calls), join)

    def _runs(self, tail: Ids) -> list[tuple[int, int]]:
        """Where the tail is cut: runs that a grammar can hold to, and single tokens that it cannot."""
        alone = (at + after for at, token in enumerate(tail) if not self.passes(token) for after in (0, 1))
        return [(at, end) for at, end in pairwise([0, *alone, len(tail)]) if end > at]

    def _read(self, model: str, start: Ids, tail: Ids) -> Call:
        body = {**sampled(model, start, Sampling(len(tail)), 0), **OPEN[self.name], "cache_prompt": True}
        return self._held_to(body, start, tail) if self.passes(tail[0]) else self._looked_up(body, start, tail[0])

    def _held_to(self, body: dict[str, Any], start: Ids, tail: Ids) -> Call:
        body |= {"logprobs": 1, "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in tail)}

        def read(answer: dict[str, Any]) -> float:
            content = (choice_of(answer).get("logprobs") or {}).get("content") or []
            if [step.get("id") for step in content] != list(tail):
                raise Malformed("other tokens came than were asked for")
            return math.fsum(finite(step.get("logprob")) for step in content)

        return Call("completions", body, read, len(start), len(tail))

    def _looked_up(self, body: dict[str, Any], start: Ids, token: int) -> Call:
        body |= {"logprobs": ALL, "logit_bias": [[self.plain, CERTAIN]]}

        def read(answer: dict[str, Any]) -> float:
            steps = (choice_of(answer).get("logprobs") or {}).get("content") or [{}]
            known = next((row for row in steps[0].get("top_logprobs") or () if row.get("id") == token), None)
            if known is None:
                raise Malformed("log-probabilities came without the one that was asked for")
            return finite(known.get("logprob"))

        return Call("completions", body, read, len(start), 1)

    def write(self, model: str, ids: Ids, sampling: Sampling, seed: int, stops: dict[int, str]) -> CallGroup:
        body = {**sampled(model, ids, sampling, seed), **OPEN[self.name], "stop": list(stops.values())}
        return CallGroup((Call("completions", body, reply_of, len(ids), sampling.max_new_tokens),), only)


@dataclass(frozen=True, slots=True)
class Vllm:
    """One request for each place where options part, or, where these are more than the options, one an option."""

    name: str = "vllm"

    def score(self, model: str, start: Ids, tails: Sequence[Ids]) -> CallGroup:
        places = parting(tails)
        if len(places) > len(tails):
            return by_tail(tails, [self._read_whole(model, start, tail) for tail in tails])
        return by_place(tails, [self._read_next(model, [*start, *place], tokens) for place, tokens in places.items()])

    def _read_next(self, model: str, before: Ids, tokens: Sequence[int]) -> Call:
        body = {
            **sampled(model, before, Sampling(1), 0),
            **OPEN[self.name],
            "logprobs": 1,
            "logprob_token_ids": list(tokens),
            "return_tokens_as_token_ids": True,
        }

        def read(answer: dict[str, Any]) -> dict[int, float]:
            top = ((choice_of(answer).get("logprobs") or {}).get("top_logprobs") or [None])[0] or {}
            known = {token: top.get(f"token_id:{token}") for token in tokens}
            if None in known.values():
                raise Malformed("log-probabilities came without those that were asked for")
            return {token: finite(value) for token, value in known.items()}

        return Call("completions", body, read, len(before), 1)

    def _read_whole(self, model: str, start: Ids, tail: Ids) -> Call:
        ids = [*start, *tail]
        body = {**sampled(model, ids, Sampling(1), 0), **OPEN[self.name], "prompt_logprobs": 0}

        def read(answer: dict[str, Any]) -> float:
            rows = (choice_of(answer).get("prompt_logprobs") or answer.get("prompt_logprobs") or [])[len(start) :]
            if len(rows) != len(tail):
                raise Malformed("an answer came without the prompt's log-probabilities")
            return math.fsum(
                finite(((row or {}).get(str(token)) or {}).get("logprob"))
                for row, token in zip(rows, tail, strict=True)
            )

        return Call("completions", body, read, len(ids), 1)

    def write(self, model: str, ids: Ids, sampling: Sampling, seed: int, stops: dict[int, str]) -> CallGroup:
        body = {**sampled(model, ids, sampling, seed), **OPEN[self.name], "stop_token_ids": list(stops)}
        return CallGroup((Call("completions", body, reply_of, len(ids), sampling.max_new_tokens),), only)


@dataclass(frozen=True, slots=True)
class Sglang:
    """Its own /generate, which takes token ids, and gives log-probabilities of given tokens and of what it reads.

    A row of log-probabilities is [value, token, text or null]; the first token that is read has the value null.
    """

    name: str = "sglang"

    def score(self, model: str, start: Ids, tails: Sequence[Ids]) -> CallGroup:
        places = parting(tails)
        if len(places) > len(tails):
            return by_tail(tails, [self._read_whole(start, tail) for tail in tails])
        return by_place(tails, [self._read_next([*start, *place], tokens) for place, tokens in places.items()])

    def _read_next(self, before: Ids, tokens: Sequence[int]) -> Call:
        body = self._body(before, {"logprob_start_len": -1, "token_ids_logprob": list(tokens)})

        def read(answer: dict[str, Any]) -> dict[int, float]:
            steps = (answer.get("meta_info") or {}).get("output_token_ids_logprobs") or [[]]
            known = {row[1]: row[0] for row in steps[0]}
            if not {*tokens} <= known.keys():
                raise Malformed("log-probabilities came without those that were asked for")
            return {token: finite(known[token]) for token in tokens}

        return Call("/generate", body, read, len(before), 1)

    def _read_whole(self, start: Ids, tail: Ids) -> Call:
        body = self._body([*start, *tail], {"logprob_start_len": len(start) - 1})

        def read(answer: dict[str, Any]) -> float:
            rows = ((answer.get("meta_info") or {}).get("input_token_logprobs") or [])[-len(tail) :]
            if [row[1] for row in rows] != list(tail):
                raise Malformed("log-probabilities came of other tokens than were asked for")
            return math.fsum(finite(row[0]) for row in rows)

        return Call("/generate", body, read, len(start) + len(tail), 1)

    def _body(self, ids: Ids, more: dict[str, Any]) -> dict[str, Any]:
        neutral = {"max_new_tokens": 1, "temperature": 1.0, **NEUTRAL, **OPEN[self.name]}
        return {"input_ids": list(ids), "sampling_params": neutral, "return_logprob": True, **more}

    def write(self, model: str, ids: Ids, sampling: Sampling, seed: int, stops: dict[int, str]) -> CallGroup:
        body = {**sampled(model, ids, sampling, seed), **OPEN[self.name], "stop_token_ids": list(stops)}
        return CallGroup((Call("completions", body, reply_of, len(ids), sampling.max_new_tokens),), only)


@dataclass(frozen=True, slots=True)
class Plain:
    """Nothing but what OpenAI's completions had: the prompt comes back with its log-probabilities."""

    name: str = "plain"

    def score(self, model: str, start: Ids, tails: Sequence[Ids]) -> CallGroup:
        return by_tail(tails, [self._echoed(model, start, tail) for tail in tails])

    def _echoed(self, model: str, start: Ids, tail: Ids) -> Call:
        ids = [*start, *tail]
        body = {**sampled(model, ids, Sampling(1), 0), "echo": True, "logprobs": 1}

        def read(answer: dict[str, Any]) -> float:
            rows = (choice_of(answer).get("logprobs") or {}).get("token_logprobs") or []
            if len(rows) not in (len(ids), len(ids) + 1):
                raise Malformed("log-probabilities came of more or fewer tokens than were asked for")
            return math.fsum(finite(row) for row in rows[len(start) : len(ids)])

        return Call("completions", body, read, len(ids), 1)

    def write(self, model: str, ids: Ids, sampling: Sampling, seed: int, stops: dict[int, str]) -> CallGroup:
        body = {**sampled(model, ids, sampling, seed), "stop": list(stops.values())[:4]}  # OpenAI takes four
        return CallGroup((Call("completions", body, reply_of, len(ids), sampling.max_new_tokens),), only)


def knowing(dialect: Dialect, tokenizer: Any) -> Dialect:
    """The dialect with what it must know of the tokens."""
    if not isinstance(dialect, LlamaCpp):
        return dialect
    ends = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    passes = lambda token: token not in ends and tokenizer.decode([token])[:1] not in ("", CUT)  # noqa: E731
    return replace(dialect, passes=passes, plain=tokenizer("a", add_special_tokens=False)["input_ids"][-1])


DIALECTS: dict[str, Dialect] = {one.name: one for one in (LlamaCpp(), Vllm(), Sglang(), Plain())}


def parting(tails: Sequence[Ids]) -> dict[tuple[int, ...], list[int]]:
    """Each beginning of an option -> the tokens with which an option goes on from it."""
    found: dict[tuple[int, ...], dict[int, None]] = {}
    for tail in tails:
        for k, token in enumerate(tail):
            found.setdefault(tuple(tail[:k]), {})[token] = None
    return {place: list(tokens) for place, tokens in found.items()}
