"""What goes wrong between here and a server, and how it is told: faults that may pass, refusals, keys kept hidden."""

import json
import os
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from cai.config.served import Server
from cai.core.errors import UserError

AGAIN = frozenset({408, 409, 425, 429})  # and all from 500 on
FILTERED = (
    "content_filter",
    "content filter",
    "content management policy",
    "content policy",
    "usage policy",
    "flagged",
)
MARK = "***"


class Malformed(Exception):
    """An answer that cannot be read: it may have been cut, and is asked for again."""


class Refused(Exception):
    """The server's own no: asking again would not help."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status, self.text = status, text

    @property
    def filtered(self) -> bool:
        """Whether it is the words that a content filter declined, as hosted APIs say it."""
        return self.status in (400, 403, 422, 451) and any(word in self.text.lower() for word in FILTERED)


class GivenUp(Exception):
    """A call that was tried as often as is reasonable. outage: nobody else was answered meanwhile either."""

    def __init__(self, why: str, outage: bool) -> None:
        super().__init__(why)
        self.outage = outage


class Passing(Exception):
    """A fault that may pass. wait: what the server asks for. sick: the replica, not this call alone."""

    def __init__(self, why: str, wait: float = 0.0, sick: bool = False) -> None:
        super().__init__(why)
        self.wait, self.sick = wait, sick


def other_model(url: str, before: str, now: str) -> UserError:
    return UserError(
        f'the server answers as "{now}", and answered as "{before}" before: it is another model now',
        url,
        "let it serve the first one again; or, for the other one, give a new `revision:` (server: {revision: ...})",
    )


def key_of(server: Server) -> str:
    """From the environment alone. Raises UserError where the variable is not set."""
    if server.key_from is None:
        return ""
    key = os.environ.get(server.key_from, "").strip()
    if not key:
        raise UserError(f"the environment variable {server.key_from} is not set", "server.key_from", "export it first")
    return key


def hidden(text: str, server: Server) -> str:
    """What a server wrote, without the key if it repeats it."""
    key = os.environ.get(server.key_from or "", "").strip()
    return text.replace(key, MARK) if key else text


def retry_after(held: str | None) -> float:
    """Seconds, of the header's two forms (RFC 9110, 10.2.3); 0 where there is none that can be read."""
    if held is None:
        return 0.0
    with suppress(ValueError):
        return max(float(held), 0.0)
    with suppress(ValueError, TypeError):
        return max(parsedate_to_datetime(held).timestamp() - time.time(), 0.0)
    return 0.0


def spoken_by(error: Any) -> str:
    """The server's own words, in one line."""
    body = error.body
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and body.get(name):
            body = body[name]
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    return " ".join(text.split())[:300]


def never_sent(error: BaseException) -> bool:
    """Whether no connection came about: then the server has done no work."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in ("ConnectError", "ConnectTimeout", "ConnectionRefusedError"):
            return True
        seen = seen.__cause__
    return False
