"""What a server can do, asked of it before the first request: what it says of itself is not believed.

    1. which model     it lists the model by this name
    2. which tokens    it reads text as the tokenizer here does, and takes the ids that it is given
    3. log-probability of the token that it holds likeliest: given, and the same when that token is asked for by name;
                       of an unlikely one: lower; of two tokens: the same, read beside other options and alone; of all
                       options together: at most 1
    4. sampling        at a high temperature, three seeds do not all draw one text

What fails is a UserError that says which other way of asking would do (FACTS: one server answers 200 with
`logprobs: null`; others ignore fields that they do not know, a wrong model's name among them).
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cai.core.errors import UserError, suggest
from cai.models.engines import Reading, Sampling
from cai.models.engines.dialects import DIALECTS, Dialect, choice_of, finite, knowing, sampled
from cai.models.engines.faults import GivenUp, Malformed, Refused, hidden
from cai.models.engines.transport import SHAPES, Call, Pool

TEXT = "One, two, three, four, five, six, seven, eight, nine, ten. Café naïve: 3.14 x 27 = ?"
CLOSE = 0.05  # nats: the likeliest token in two requests
ROUGH = 0.5  # nats: unlikely tokens in requests of two kinds, in bfloat16 and beside other requests
UNKNOWN_LIMIT = 1 << 20
CHATS = "chat/completions"
BRACES = 32  # tokens of a structured answer beside its word: braces, quotes, and as much space as a model likes
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"  # where a server leaves the thought in the text
SAMPLED = "`judge.verdict: sampled` asks it several times and counts (rate, choice, score, reason)"


@dataclass(frozen=True, slots=True)
class Probed:
    """name: of the model there. answers_as: the name in its answers. limit: tokens of a request and its answer.

    fingerprint: what the server says of the weights. dialect: None of a chat API.
    top: how many likeliest tokens a chat API gives with their log-probabilities; 0 where none.
    body: what a chat API's requests must say otherwise (`max_completion_tokens`), and whether it holds to a schema.
    """

    name: str
    answers_as: str | None
    limit: int
    fingerprint: dict[str, Any]
    dialect: Dialect | None = None
    top: int = 0
    length_word: str = "max_tokens"
    structured: bool = False


async def ask(pool: Pool, path: str, body: dict[str, Any] | None, tokens: int = 0) -> dict[str, Any]:
    """One answer as it came. Raises Refused."""
    try:
        return await pool.ask(Call(path, body, lambda answer: answer, tokens, 1 if tokens else 0))
    except GivenUp as fault:
        where = ", ".join(pool.server.url)
        raise UserError(f"the server does not answer: {fault}", where, "start it, or mend the address") from None


async def listed(pool: Pool) -> dict[str, Any]:
    """What the server says of the model. Raises UserError where it lists others alone."""
    try:
        answer = await ask(pool, "models", None)
    except Refused as fault:
        if fault.status in (401, 403):
            raise
        return {}
    rows = [row for row in answer.get("data") or [] if isinstance(row, dict)]
    found = next((row for row in rows if pool.name in (row.get("id"), *(row.get("aliases") or ()))), None)
    if found is None and rows:
        names = [str(row.get("id")) for row in rows]
        raise UserError(
            f'the server has no model "{pool.name}"',
            pool.server.url[0],
            f"write its name there: server: {{name: ...}} ({suggest(pool.name, names[:20])})",
        )
    return found or {}


# 1. Completions -------------------------------------------------------------------------------------------------------


async def probe_completions(pool: Pool, tokenizer: Any) -> Probed:
    """Raises UserError where log-probabilities of given tokens cannot be had, or are not what they should be."""
    about = await listed(pool)
    ids = list(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    await same_tokens(pool, ids)
    first = await likeliest(pool, ids)
    owner = str(about.get("owned_by"))
    kinds = [knowing(kind, tokenizer) for kind in ([DIALECTS[owner]] if owner in DIALECTS else DIALECTS.values())]
    faults = [await wrong(pool, kind, ids, first) for kind in kinds]
    dialect = next((kind for kind, fault in zip(kinds, faults, strict=True) if not fault), None)
    if dialect is None:
        raise UserError(f"no log-probabilities of given tokens: {faults[0]}", pool.server.url[0], SAMPLED)
    await draws(pool, dialect, ids)
    meta = about.get("meta") or {}
    limit = about.get("max_model_len") or meta.get("n_ctx") or UNKNOWN_LIMIT
    root = str(about.get("root") or "")
    says = {
        "owner": owner,
        "root": root if root and not root.startswith(("/", ".", "~")) else None,  # a path says where, not what
        **{k: meta.get(k) for k in ("n_params", "n_vocab", "ftype", "size")},
    }
    fingerprint = {key: value for key, value in says.items() if value is not None}
    return Probed(pool.name, first["model"], int(limit), fingerprint, dialect)


async def same_tokens(pool: Pool, ids: Sequence[int]) -> None:
    """The server reads text as the tokenizer here does, where it tells; in any case it counts the ids it is given."""
    for body in (
        {"content": TEXT, "add_special": False},
        {"model": pool.called, "prompt": TEXT, "add_special_tokens": False},
    ):
        with suppress(Refused):
            theirs = (await ask(pool, "/tokenize", body)).get("tokens")
            if isinstance(theirs, list) and theirs:
                theirs = [one.get("id") if isinstance(one, dict) else one for one in theirs]
                if theirs != list(ids):
                    raise tokens_differ(pool, len(ids), len(theirs))
                return


def tokens_differ(pool: Pool, here: int, there: int) -> UserError:
    return UserError(
        f"the server reads text as other tokens than the tokenizer here: {here} here, {there} there",
        pool.server.url[0],
        "name the model that is served (`model:` is whose tokenizer renders the prompts), or serve that one",
    )


async def likeliest(pool: Pool, ids: Sequence[int]) -> dict[str, Any]:
    """The greedy next token, its log-probability, and the model's name. Raises UserError where there are none."""
    body = {**sampled(pool.called, ids, Sampling(1, 0.0), 0), "logprobs": 1, "return_tokens_as_token_ids": True}
    try:
        answer = await ask(pool, "completions", body, len(ids))
    except Refused as fault:
        raise UserError(f"it does not complete token ids: {fault}", pool.server.url[0], CHAT) from None
    counted = (answer.get("usage") or {}).get("prompt_tokens")
    if counted is not None and counted != len(ids):
        raise tokens_differ(pool, len(ids), counted)
    logprobs = choice_of(answer).get("logprobs") or {}
    steps, values = logprobs.get("content") or [], logprobs.get("token_logprobs") or []
    value = steps[0].get("logprob") if steps else values[0] if values else None
    if value is None:
        raise UserError("this server gives no log-probabilities", pool.server.url[0], SAMPLED)
    token = steps[0].get("id") if steps else str((logprobs.get("tokens") or [""])[0]).removeprefix("token_id:")
    known = isinstance(token, int) or str(token).isdecimal()
    return {"token": int(token) if known else None, "logp": finite(value), "model": answer.get("model")}


CHAT = "set server.api: chat, and judge.verdict: sampled"


async def wrong(pool: Pool, dialect: Dialect, ids: Sequence[int], first: dict[str, Any]) -> str:
    """What is wrong with the log-probabilities that a dialect gives; empty where nothing is."""
    likely, other = first["token"], ids[0]
    if likely is None or likely == other:
        likely, other = (ids[2], ids[0]) if first["token"] is None else (likely, ids[2])
    tails = [(likely,), (other,), (other, ids[4])]
    try:
        found, whole = [await scored(pool, dialect, ids, some) for some in (tails, tails[2:])]
    except (Refused, GivenUp, Malformed) as fault:
        return hidden(str(fault), pool.server)
    logp, low, two = found.logprobs
    if first["token"] is not None and abs(logp - first["logp"]) > CLOSE:
        return f"of one token it is {first['logp']:.3f} as the likeliest, and {logp:.3f} when it is asked for"
    if low > logp + CLOSE and first["token"] is not None:
        return "another token than the likeliest has more"
    if abs(two - whole.logprobs[0]) > ROUGH:
        return f"of two tokens it is {two:.3f} beside other options, and {whole.logprobs[0]:.3f} alone"
    if found.mass > 1 + 1e-3:
        return f"those of three options add up to {found.mass:.3f}"
    return ""


async def scored(pool: Pool, dialect: Dialect, ids: Sequence[int], tails: Sequence[Sequence[int]]) -> Reading:
    job = dialect.score(pool.called, ids, tails)
    return job.join([await pool.ask(call) for call in job.calls])


async def draws(pool: Pool, dialect: Dialect, ids: Sequence[int]) -> None:
    """Raises UserError where the temperature seems to be ignored."""
    texts = set()
    for seed in (1, 2, 3):
        job = dialect.write(pool.called, ids, Sampling(12, 2.0), seed, {})
        texts.add((await pool.ask(job.calls[0])).text)
    if len(texts) == 1:
        raise ignores_temperature(pool)


def ignores_temperature(pool: Pool) -> UserError:
    return UserError(
        "the server draws the same words at a high temperature, whatever the seed: it ignores the sampling settings",
        pool.server.url[0],
        "start it without settings of its own for sampling, or use another server",
    )


# 2. Chat --------------------------------------------------------------------------------------------------------------


async def probe_chat(pool: Pool) -> Probed:
    """Which words a chat API takes for length and schema, and whether it gives log-probabilities."""
    about = await listed(pool)
    base = {"model": pool.called, "messages": [{"role": "user", "content": "Is water wet? Answer Yes or No."}]}
    tokens = 16 + pool.server.thinking
    word, answer = "max_tokens", None
    try:
        answer = await ask(pool, CHATS, {**base, word: tokens, "temperature": 1.0}, tokens)
    except Refused as fault:
        if fault.status in (401, 403, 404):
            raise
        word = "max_completion_tokens"
    if answer is None:
        try:
            answer = await ask(pool, CHATS, {**base, word: tokens, "temperature": 1.0}, tokens)
        except Refused as fault:
            raise UserError(
                f"the server does not answer a plain chat: {fault}", pool.server.url[0], "see what it says"
            ) from None
    if cut_in_thought(answer):
        raise thinks(pool)
    body, top, structured = {**base, word: tokens, "temperature": 1.0}, 0, False
    if not pool.server.thinking:  # else the first tokens are those of a thought
        with suppress(Refused, Malformed, *SHAPES):
            tried = await ask(pool, CHATS, {**body, "logprobs": True, "top_logprobs": 20}, tokens)
            steps = (choice_of(tried).get("logprobs") or {}).get("content") or [{}]
            top = len(steps[0].get("top_logprobs") or ())
    with suppress(Refused, Malformed, RecursionError, *SHAPES):
        body |= {word: tokens + BRACES, "response_format": schema(("Yes", "No"))}
        tried = await ask(pool, CHATS, body, tokens + BRACES)
        structured = json.loads(spoken(tried)).get("answer") in ("Yes", "No")
    fingerprint = {"owner": about["owned_by"]} if about.get("owned_by") else {}
    limit = int(about.get("max_model_len") or (about.get("meta") or {}).get("n_ctx") or UNKNOWN_LIMIT)
    return Probed(pool.name, answer.get("model"), limit, fingerprint, None, top if top > 1 else 0, word, structured)


def schema(options: Sequence[str]) -> dict[str, Any]:
    """Structured output: an object whose one field is one of the options."""
    field = {"type": "string", "enum": list(options)}
    shape = {"type": "object", "properties": {"answer": field}, "required": ["answer"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": shape}}


def spoken(answer: dict[str, Any]) -> str:
    """The words of a chat's answer, without a thought before them; empty where there are none (a call of a tool, a
    content filter, a thought alone). Raises Malformed."""
    message = choice_of(answer).get("message")
    if not isinstance(message, dict):
        raise Malformed("an answer came without a message")
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):  # of parts
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    thought, end, rest = str(content).partition(THOUGHT_ENDS)
    return rest.strip() if end else "" if thought.lstrip().startswith(THOUGHT_BEGINS) else thought.strip()


def cut_in_thought(answer: dict[str, Any]) -> bool:
    """Whether it ended without a word of the answer, for want of tokens."""
    return choice_of(answer).get("finish_reason") == "length" and not spoken(answer)


def thinks(pool: Pool) -> UserError:
    room = pool.server.thinking
    given = f"{room} tokens are not enough for that" if room else "has no tokens for that"
    return UserError(
        f'"{pool.name}" thinks before it answers, and {given}',
        pool.server.url[0],
        f"give it some: server: {{thinking: {2 * room or 1024}}}, judge.verdict: sampled; or switch its thought off",
    )
