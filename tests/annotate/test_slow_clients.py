"""Silent, slow and deaf clients, over real sockets: each is let go in time, and all others are served meanwhile.

The server's clock is set forward by the tests: none waits, and none fails where the machine itself pauses.
"""

import asyncio
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from test_annotate import desk_on

pytest.importorskip("uvicorn", reason="the extra `annotate` is not installed")

from cai.annotate import patience
from cai.annotate.server import guarded_server, labelling, listen, talking

PATIENCE, MOST = 60.0, 32  # seconds: no pause of the machine is half as long
LINE = b"POST /api/welcome HTTP/1.1\r\n"


class Page:
    """A page that is served in a thread. port: where."""

    def __init__(self, app: Any, kind: str) -> None:
        self.kind, self.ahead, self.listener = kind, 0.0, listen(0)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # of each connection: it is soon full
        self.port = self.listener.getsockname()[1]
        self.server = guarded_server(app, self.port, "secret")
        self.server.config.timeout_keep_alive = 1_000_000  # uvicorn's own, of which nothing is tested here
        self.loop = asyncio.SelectorEventLoop()
        clock = self.loop.time
        self.loop.time = lambda: clock() + self.ahead
        self.server.config.get_loop_factory = lambda: lambda: self.loop
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)
        self.thread.start()

    def within(self, look: Callable[[], Any]) -> Any:
        """What `look` gives between two steps of the server."""

        async def looked() -> Any:
            return look()

        return asyncio.run_coroutine_threadsafe(looked(), self.loop).result(PATIENCE)

    def wait(self, share: float) -> None:
        """Let this share of PATIENCE pass by the server's clock."""
        self.within(lambda: setattr(self, "ahead", self.ahead + share * PATIENCE))

    def held(self) -> int:
        """How many connections its server has."""
        return self.within(lambda: len(self.server.server_state.connections))

    def stuck(self) -> bool:
        """Whether somebody reads nothing of an answer."""
        return self.within(lambda: any(each.flow.write_paused for each in self.server.server_state.connections))


@pytest.fixture(params=["labels", "live"])
def page(request, tmp_path, monkeypatch) -> Iterator[Page]:
    monkeypatch.setattr(patience, "PATIENCE", PATIENCE)
    monkeypatch.setattr(patience, "MOST", MOST)
    many = SimpleNamespace(pieces=("x" * 10_000,) * 2000)  # 20 MB, more than the buffers of a socket hold
    session = SimpleNamespace(name="x", welcome=lambda: {"raters": []}, shown=lambda answer: many)
    page = Page(
        labelling(desk_on(tmp_path / "l")) if request.param == "labels" else talking(session, 1e6), request.param
    )
    yield page
    page.server.should_exit = True
    page.thread.join(PATIENCE)
    assert not page.thread.is_alive(), "Ctrl-C does not wait for slow clients"
    page.listener.close()


def headers(port: int, size: int = 2) -> bytes:
    lines = [f"host: 127.0.0.1:{port}", f"origin: http://127.0.0.1:{port}", f"cookie: cai-{port}=secret"]
    return "\r\n".join([*lines, "content-type: application/json", f"content-length: {size}", "", ""]).encode()


def dial(page, text: bytes = b"") -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # as above
    client.settimeout(PATIENCE / 3)
    client.connect(("127.0.0.1", page.port))
    client.sendall(text)
    return client


def ask(connection: http.client.HTTPConnection) -> None:
    """As a browser does."""
    given = dict(line.split(": ", 1) for line in headers(connection.port).decode().strip().split("\r\n"))
    connection.request("POST", "/api/welcome", "{}", given)
    answer = connection.getresponse()
    assert answer.status == 200 and "raters" in json.loads(answer.read())


def served(page) -> None:
    """A browser is answered, before anybody's time is up; and so all that clients sent before has been read."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=PATIENCE / 3)
    ask(connection)
    connection.close()


def held(client: socket.socket) -> bool:
    """Whether the server has neither answered nor ended it."""
    return not select.select([client], [], [], 0.0)[0]


def let_go(client: socket.socket) -> None:
    """Wait until the server has ended it."""
    client.settimeout(PATIENCE / 3)
    try:
        while client.recv(1 << 20):
            pass
    except TimeoutError:
        raise AssertionError("it is held for ever") from None
    except OSError:
        pass


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE / 3
    while not there():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("whole", [b"", LINE, LINE + b"host"], ids=["silent", "a line", "half a header"])
def test_who_says_nothing_more_is_let_go(page, whole):
    client = dial(page, whole)
    served(page)
    page.wait(0.5)
    served(page)
    assert held(client)
    page.wait(0.6)
    let_go(client)
    served(page)


@pytest.mark.parametrize("part", ["header", "body"])
def test_a_byte_at_a_time_buys_no_time(page, part):
    """A timer that each byte sets back is none."""
    whole = LINE + headers(page.port, 5000)
    client = dial(page, whole if part == "body" else LINE + b"x-slow: ")
    served(page)
    for _ in range(4):
        page.wait(0.15)
        client.send(b" ")
        served(page)
        assert held(client)
    page.wait(0.5)
    let_go(client)


def test_nor_does_a_second_request_on_a_connection(page):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=PATIENCE / 3)
    ask(connection)
    client = connection.sock
    client.send(b"P")
    page.wait(0.5)
    client.send(b"O")
    served(page)
    assert held(client)
    page.wait(0.6)
    let_go(client)


def test_requests_that_come_in_time_keep_their_connection(page):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=PATIENCE / 3)
    connection.connect()
    first = connection.sock
    for _ in range(7):
        page.wait(0.4)
        ask(connection)
    assert connection.sock is first
    connection.close()


def test_five_hundred_that_say_nothing_keep_nobody_out(page):
    crowd = []
    for number in range(500):
        crowd.append(dial(page))
        if number % 50 == 49:
            served(page)
            assert page.held() <= MOST
    page.wait(1.1)
    until(lambda: not page.held())
    for client in crowd:
        client.close()
    served(page)


def test_who_reads_nothing_is_let_go(page):
    """Of an answer that does not end, and of as many short ones as it takes to fill the buffers of the socket."""
    if page.kind == "live":
        client = dial(page, LINE.replace(b"POST /api/welcome", b"GET /api/stream") + headers(page.port, 0))
    else:
        client = dial(page)
        client.setblocking(False)
    asked = LINE.replace(b"POST /api/welcome", b"GET /") + headers(page.port, 0)

    def full() -> bool:
        try:
            if page.kind == "labels":
                client.send(asked)
        except OSError:
            pass
        return page.stuck()

    until(full)
    page.wait(0.5)
    served(page)
    assert page.stuck()
    page.wait(0.6)
    until(lambda: not page.held())
    client.close()
    served(page)


def test_a_body_that_breaks_off_after_its_answer_is_no_traceback(page, caplog, capfd):
    """Refused for want of its length, answered, and only then found to be no chunk."""
    lines = headers(page.port).replace(b"content-length: 2", b"transfer-encoding: chunked")
    client = dial(page, LINE + lines)
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 413")
    client.sendall(b"no chunk\r\n" * 3)
    let_go(client)
    assert "Traceback" not in caplog.text + capfd.readouterr().err and not caplog.records
