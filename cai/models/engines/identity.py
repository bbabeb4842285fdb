"""Whether the weights behind a served name are still those of the labels before, and those that are here.

Canaries: log-probabilities of fixed answers, written down beside the store when a server is first met (runs/servers/).
"""

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cai.core.durable import make_folders, write_whole
from cai.core.errors import UserError
from cai.core.records import Message
from cai.core.store import digest_of
from cai.models.engines import Engine, Question
from cai.models.engines.connection import Connection
from cai.models.engines.probing import Probed

# What a canary asks, and the answer whose log-probability is written down.
CANARIES = tuple(
    Question((Message("user", asked),), (answer,))
    for asked, answer in (
        ("Name the days of the week.", "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."),
        ("What is the capital of France?", "The capital of France is Paris."),
        ("Write one sentence about a lighthouse.", "The old lighthouse stood on a cliff of red granite."),
        ("How do I boil an egg?", "Put it into boiling water for seven minutes."),
    )
)
DRIFT = 0.1  # nats a token, on average over the canaries: rounding is below it, another quantisation mostly above


def canaries(engine: Engine, tokenizer: Any) -> list[float]:
    """Nats a token of each canary."""
    readings = dict(item for batch in engine.choose(CANARIES, 1 << 30) for item in batch)
    lengths = [len(tokenizer(question.options[0], add_special_tokens=False)["input_ids"]) for question in CANARIES]
    return [readings[k].logprobs[0] / length for k, length in enumerate(lengths)]  # pyrefly: ignore


def check_identity(connection: Connection, source_digest: str, probed: Probed, canaries: Sequence[float]) -> None:
    """The server is the one that was first met under this identity; what it was then is written down beside the store.

    Raises UserError where what it says of its weights, or its canaries, are others by now.
    """
    file = connection.root / "servers" / f"{digest_of(['server', source_digest])[:16]}.json"
    now = {
        "model": connection.name,
        "revision": connection.server.revision,
        "answers as": connection.name if connection.lora else probed.answers_as,
        "fingerprint": probed.fingerprint,
        "canaries, nats a token": list(canaries),
    }
    before: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        before = json.loads(file.read_text())
    if not before:
        make_folders(file.parent)
        write_whole(file, json.dumps({**now, "first met": time.strftime("%Y-%m-%d")}, indent=1))
        return
    was, says = spoken_of(before), spoken_of(now)
    for name in [name for name in was if name in says and was[name] != says[name]]:
        raise other_weights(connection, f"{name}: {was[name]} before, {says[name]} now", file)
    apart = distance(before.get("canaries, nats a token") or (), canaries)
    if apart > DRIFT:
        raise other_weights(connection, f"its answers are {apart:.2f} nats a token from what they were", file)


def spoken_of(record: dict[str, Any]) -> dict[str, Any]:
    """What a server said of its weights."""
    return {"answers as": record.get("answers as"), **dict(record.get("fingerprint") or {})}


def distance(one: Sequence[float], two: Sequence[float]) -> float:
    """The mean difference; 0 where there is nothing to compare."""
    pairs = list(zip(one, two, strict=False))
    return math.fsum(abs(a - b) for a, b in pairs) / len(pairs) if pairs else 0.0


def other_weights(connection: Connection, why: str, file: Path) -> UserError:
    return UserError(
        f'what is served as "{connection.name}" is not what the labels so far came from ({why})',
        connection.server.url[0],
        f"serve that again, or give a new `revision:` (server: {{revision: ...}}); the old one is in {file}",
    )


def check_same(connection: Connection, here: Sequence[float], there: Sequence[float]) -> None:
    """`same: true`: the weights here give the canaries what the server gives them. Raises UserError where not."""
    apart = distance(here, there)
    if apart > DRIFT:
        raise UserError(
            f'"{connection.name}" as it is served is another model than the one here: its answers are {apart:.2f} nats '
            f"a token apart, and {DRIFT} are allowed",
            connection.server.url[0],
            "remove `same: true`: labels of the server then stand for themselves",
        )


def check_applied(connection: Connection, with_it: Sequence[float], without: Sequence[float]) -> None:
    """Raises UserError where the answers of an adapter are those of its base to the last digit: it is not applied."""
    if list(with_it) == list(without):
        raise UserError(
            f'"{connection.name}" answers with the adapter exactly as without it: the server does not apply it',
            connection.server.url[0],
            "look at what the server printed when it loaded it, or set server: {adapters: false}",
        )
