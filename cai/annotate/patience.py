"""How long, and for how many clients at once, the pages' server waits.

uvicorn waits for ever on a client that is silent, sends its request a byte at a time or never reads its answer, and
takes as many of them as there are file descriptors. Here each such wait ends after PATIENCE seconds, and above MOST
connections the one that has been waited on the longest makes room: whoever talks as a browser does is always served.
Only connections whose request is here, and whose answer is being made or flows, are never cut for another's sake.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0  # seconds for a whole request, counted from the last answer; and for a full buffer to empty
MOST = 128  # connections: 20 browsers of 6 each; half of the 256 files that macOS lets a process open


class PatientProtocol(H11Protocol):
    """One connection of a client. waiting: since when (the loop's clock) its next whole request is waited for, or None
    while it is answered."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.waiting: float | None = None
        self._cut: asyncio.TimerHandle | None = None  # ends the wait for a request
        self._stuck: asyncio.TimerHandle | None = None  # ends the wait for a client that reads nothing

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyrefly: ignore
        super().connection_made(transport)
        self._look()
        if len(self.connections) > MOST:
            held = [each for each in self.connections if isinstance(each, PatientProtocol)]
            idle = [each for each in held if each.waiting is not None]  # this one is among them
            min(idle, key=lambda each: each.waiting or 0.0).cut()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # a body that breaks off after its answer: uvicorn would answer twice
            self.cut()
        self._look()

    def on_response_complete(self) -> None:
        self.waiting = None
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(PATIENCE, self.cut)

    def resume_writing(self) -> None:
        self._stop(self._stuck)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._cut, self._stuck)
        super().connection_lost(exc)

    def cut(self) -> None:
        """End the connection at once, without what is still to be sent."""
        self.connections.discard(self)  # asyncio says so only a turn of its loop later
        self.transport.abort()

    def _look(self) -> None:
        """Is a whole request here that is not answered yet? Then nobody waits for the client, else the clock runs."""
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self.waiting = None
            self._stop(self._cut)
        elif self.waiting is None:
            self.waiting = self.loop.time()
            self._stop(self._cut)
            self._cut = self.loop.call_later(PATIENCE, self.cut)

    def _stop(self, *timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer:
                timer.cancel()
