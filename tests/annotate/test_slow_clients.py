"""Silent, slow and deaf clients, over real sockets: each is let go in time, and all others are served meanwhile.

The limits are set low here (half a second), so that each test takes about a second.
"""

import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from test_annotate import desk_on

pytest.importorskip("uvicorn", reason="the extra `annotate` is not installed")

from cai.annotate import patience
from cai.annotate.server import guarded_server, labelling, listen, talking

PATIENCE, MOST = 0.5, 32
LINE = b"POST /api/welcome HTTP/1.1\r\n"


@pytest.fixture(params=["labels", "live"])
def page(request, tmp_path, monkeypatch) -> Iterator[SimpleNamespace]:
    """A page that is served in a thread. port: where. held: how many connections its server has."""
    monkeypatch.setattr(patience, "PATIENCE", PATIENCE)
    monkeypatch.setattr(patience, "MOST", MOST)
    many = SimpleNamespace(pieces=("x" * 10_000,) * 2000)  # 20 MB, more than the buffers of a socket hold
    session = SimpleNamespace(name="x", welcome=lambda: {"raters": []}, shown=lambda answer: many)
    app = labelling(desk_on(tmp_path / "l")) if request.param == "labels" else talking(session, 1e6)
    listener = listen(0)
    port = listener.getsockname()[1]
    server = guarded_server(app, port, "secret")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield SimpleNamespace(port=port, held=lambda: len(server.server_state.connections), kind=request.param)
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive(), "Ctrl-C does not wait for slow clients"
    listener.close()


def headers(port: int, size: int = 2) -> bytes:
    lines = [f"host: 127.0.0.1:{port}", f"origin: http://127.0.0.1:{port}", f"cookie: cai-{port}=secret"]
    return "\r\n".join([*lines, "content-type: application/json", f"content-length: {size}", "", ""]).encode()


def dial(page, text: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", page.port), timeout=10)
    client.sendall(text)
    return client


def ask(connection: http.client.HTTPConnection) -> None:
    """As a browser does."""
    given = dict(line.split(": ", 1) for line in headers(connection.port).decode().strip().split("\r\n"))
    connection.request("POST", "/api/welcome", "{}", given)
    answer = connection.getresponse()
    assert answer.status == 200 and "raters" in json.loads(answer.read())


def served(page) -> float:
    """Seconds in which a browser is answered."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    ask(connection)
    connection.close()
    return time.monotonic() - began


def let_go(client: socket.socket, drip: Callable[[], None] = lambda: None) -> float:
    """Seconds until the server has ended it."""
    began = time.monotonic()
    while time.monotonic() - began < 10:
        try:
            drip()
            if select.select([client], [], [], 0.02)[0] and not client.recv(1 << 20):
                return time.monotonic() - began
        except OSError:
            return time.monotonic() - began
    raise AssertionError("it is held for ever")


@pytest.mark.parametrize("whole", [b"", LINE, LINE + b"host"], ids=["silent", "a line", "half a header"])
def test_who_says_nothing_more_is_let_go(page, whole):
    client = dial(page, whole)
    assert served(page) < PATIENCE
    assert 0.5 * PATIENCE < let_go(client) < 4 * PATIENCE
    assert served(page) < PATIENCE


@pytest.mark.parametrize("part", ["header", "body"])
def test_a_byte_at_a_time_buys_no_time(page, part):
    """A timer that each byte sets back is none."""
    whole = LINE + headers(page.port, 5000)
    client = dial(page, whole if part == "body" else LINE + b"x-slow: ")
    assert 0.5 * PATIENCE < let_go(client, lambda: client.send(b" ")) < 4 * PATIENCE


def test_nor_does_a_second_request_on_a_connection(page):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    ask(connection)
    client = connection.sock
    client.send(b"P")
    assert let_go(client, lambda: client.send(b"O")) < 4 * PATIENCE


def test_requests_that_come_in_time_keep_their_connection(page):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.connect()
    first = connection.sock
    until = time.monotonic() + 3 * PATIENCE
    while time.monotonic() < until:
        time.sleep(0.4 * PATIENCE)
        ask(connection)
    assert connection.sock is first
    connection.close()


def test_five_hundred_that_say_nothing_keep_nobody_out(page):
    crowd = []
    for number in range(500):
        crowd.append(dial(page))
        if number % 50 == 49:
            assert served(page) < 2 * PATIENCE
            assert page.held() <= MOST
    until = time.monotonic() + 4 * PATIENCE
    while page.held():
        assert time.monotonic() < until
        time.sleep(0.02)
    for client in crowd:
        client.close()
    assert served(page) < PATIENCE


def test_who_reads_nothing_is_let_go(page):
    """Of an answer that does not end, and of as many short ones as it takes to fill the buffers of the socket."""
    if page.kind == "live":
        client = dial(page, LINE.replace(b"POST /api/welcome", b"GET /api/stream") + headers(page.port, 0))
    else:
        client = dial(page)
        client.setblocking(False)
    until = time.monotonic() + 12 * PATIENCE
    time.sleep(0.1)
    asked = LINE.replace(b"POST /api/welcome", b"GET /") + headers(page.port, 0)
    while page.held():
        assert time.monotonic() < until
        try:
            if page.kind == "labels":
                client.send(asked)
        except OSError:  # full, or ended
            pass
        time.sleep(0.001)
    client.close()
    assert served(page) < PATIENCE


def test_a_body_that_breaks_off_after_its_answer_is_no_traceback(page, caplog, capfd):
    """Refused for want of its length, answered, and only then found to be no chunk."""
    lines = headers(page.port).replace(b"content-length: 2", b"transfer-encoding: chunked")
    client = dial(page, LINE + lines)
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 413")
    client.sendall(b"no chunk\r\n" * 3)
    assert let_go(client) < 4 * PATIENCE
    assert "Traceback" not in caplog.text + capfd.readouterr().err and not caplog.records
