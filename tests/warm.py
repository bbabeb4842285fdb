"""Programs that are started again and again, and killed: each in a fork of a process that has loaded the libraries.

To load them takes as long as a small experiment; what is forked is a process like any other, to SIGKILL and to locks.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SERVE = """
import json, os, sys, traceback
import datasets, peft, torch, transformers, trl
import cai.compare.report, cai.compare.results, cai.models.engines.transformers, cai.train.common, cai.train.rl.ppo
from cai.core.errors import run_main
from cai.core.__main__ import main as core
from cai.experiment.command import main as experiment

print("ready", flush=True)
for line in sys.stdin:
    program, arguments, folder, log = json.loads(line)
    child = os.fork()
    if not child:
        code = 1
        try:
            os.chdir(folder)
            for number, place, how in ((0, os.devnull, os.O_RDONLY), (1, log, 0), (2, log, 0)):
                os.dup2(os.open(place, how or os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            code = run_main({"core": core, "experiment": experiment}[program], arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Warm:
    """`with Warm() as warm: warm.start(...)`: one run at a time."""

    def __enter__(self) -> "Warm":
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=os.environ
        )
        assert self._line() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait()

    def _line(self) -> str:
        """Byte by byte: what is behind it must be seen by `select`."""
        assert self.server.stdout
        text = b""
        while not text.endswith(b"\n"):
            more = self.server.stdout.read(1)
            assert more, "the process that forks is gone"
            text += more
        return text.decode().strip()

    def start(self, program: str, arguments: Sequence[str], log: Path, folder: Path | str = ".") -> "Run":
        """program: experiment or core (`python -m cai.PROGRAM`). log: is emptied, and gets all that it prints."""
        log.write_bytes(b"")
        order = [program, list(arguments), str(Path(folder).resolve()), str(log.resolve())]
        assert self.server.stdin
        self.server.stdin.write(json.dumps(order).encode() + b"\n")
        return Run(self, int(self._line()), log)

    def run(self, program: str, arguments: Sequence[str], log: Path, folder: Path | str = ".") -> tuple[int, str]:
        """(exit code, what it printed)"""
        code = self.start(program, arguments, log, folder).wait()
        assert code is not None
        return code, log.read_text()


class Run:
    def __init__(self, warm: Warm, pid: int, log: Path) -> None:
        self.warm, self.pid, self.log, self.code = warm, pid, log, None

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code; None while it runs."""
        if self.code is None and select.select([self.warm.server.stdout], [], [], seconds)[0]:
            self.code = int(self.warm._line())
        return self.code

    def until(self, text: str, pause: float = 0.02) -> bool:
        """Wait until it has printed something. Returns False where it ended before."""
        while text not in self.log.read_text(errors="replace"):
            if self.wait(0.0) is not None:
                return text in self.log.read_text(errors="replace")
            time.sleep(pause)
        return True

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL
