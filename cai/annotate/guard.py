"""Who may talk to a page on 127.0.0.1: the one who has the token, from the page itself, and nobody else.

Other users of the machine and other web pages in the same browser can reach a local port too, so each request must
1. name a loopback host (else a rebound DNS name of another site would count as "the same origin");
2. if it changes anything, come from the page itself (Origin) as JSON, which no foreign form can send;
3. bring the token: once in the address, from then on in a cookie that scripts cannot read and other sites not send.
The answer's headers let the page run its own script (by a nonce) and nothing else; Trusted Types make every way of
turning text into markup throw, so what a model wrote can only ever be shown as text.
"""

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

LOOPBACK = ("127.0.0.1", "localhost")
LARGEST = 65536  # bytes of one request
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the token stands in the first address
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def new_token() -> str:
    """192 random bits."""
    return secrets.token_urlsafe(24)


class Guard:
    """ASGI middleware that lets through what keeps the three rules; `scope["nonce"]` is for the page's script.

    cookie: the cookie's name. Cookies are shared by all ports of a host, so it should name the port.
    """

    def __init__(self, app: Any, token: str, cookie: str) -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # none of our pages has one
                await send({"type": "websocket.close", "code": 1008})
            return
        nonce = secrets.token_urlsafe(16)
        query = parse_qs(scope["query_string"].decode("latin-1"))
        entering = scope["path"] == "/" and self._is_token(query.get("token"))

        async def secured(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = HEADERS | {"content-security-policy": POLICY.format(nonce=nonce)}
                if entering:
                    extra["set-cookie"] = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            await send(message)

        refused = self._refusal(scope, entering)
        if refused:
            await _say(secured, *refused)
        else:
            await self.app(scope | {"nonce": nonce}, receive, secured)

    def _refusal(self, scope: Any, entering: bool) -> tuple[int, str] | None:
        """(status, why) of a request that breaks a rule."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
            return 421, "this page answers to 127.0.0.1 and localhost alone"
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("origin") != f"http://{host}":
                return 403, "only the page itself may send this"
            if headers.get("content-type", "").partition(";")[0] != "application/json":
                return 415, "only JSON is taken"
            size = headers.get("content-length", "")
            if not size.isdecimal() or int(size) > LARGEST:
                return 413, f"at most {LARGEST} bytes are taken, and their number must be given"
        elif scope["path"] != "/" and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return 403, "only the page itself may ask for this"
        if not entering and not self._is_token(self._cookies(headers.get("cookie", ""))):
            return 403, "open the address that the program printed on the terminal: it holds the token for this page"
        return None

    def _cookies(self, text: str) -> list[str]:
        try:
            jar = SimpleCookie(text)
        except CookieError:
            return []
        return [jar[self.cookie].value] if self.cookie in jar else []

    def _is_token(self, given: list[str] | None) -> bool:
        return any(hmac.compare_digest(value.encode(), self.token.encode()) for value in given or ())


async def _say(send: Any, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
