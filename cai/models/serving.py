"""Servers that are started here: by which command, until they answer, and their end.

A server is a process behind a guard (guard.py): it ends when `ServerProcess.stop` is called, and when the process that
started it ends in whatever way. It listens on this machine alone, at a free port, and writes to a log.
"""

import atexit
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from socket import create_server

from cai.config.runtime import Runtime
from cai.config.serve import OwnServer, Serve
from cai.config.served import Server
from cai.core.durable import make_folders
from cai.core.errors import UserError
from cai.core.shipped import at_home
from cai.models.embedded import EMBEDDED
from cai.models.references import ModelRef, local

HERE = "127.0.0.1"
LONGEST = 1800.0  # seconds until a server answers: large models load and compile for long
EVERY = 20.0  # seconds between two lines of one that waits
LAST = 6  # lines of its log that are shown where it ends too soon
# A server is to report to nobody.
SILENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class ServerProcess:
    """A server that was started. log: None where its output goes to this process's."""

    name: str
    url: str
    process: subprocess.Popen
    log: Path | None

    def stop(self) -> None:
        """Ends it, and returns when its memory is given back."""
        atexit.unregister(self.stop)
        assert self.process.stdin
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait()

    def ended(self) -> UserError | None:
        """What to say of a server that is no longer there; None while it is."""
        if self.process.poll() is None:
            return None
        lines = self.log.read_text(errors="replace").splitlines() if self.log else []
        last = "".join(f"\n    {line}" for line in [line for line in lines if line.strip()][-LAST:])
        problem = f"the server of {self.name} has ended with code {self.process.returncode}{':' if last else ''}{last}"
        return UserError(problem, str(self.log or ""), "see what it said; runtime.serve: {args: [...]} gives it more")


# 1. The commands ------------------------------------------------------------------------------------------------------


def llama_installed() -> bool:
    return find_spec("xllamacpp") is not None


def check_program(serve: Serve) -> None:
    """Raises UserError where the engine is not installed."""
    if serve.engine == "llama.cpp" and not llama_installed():
        raise UserError("llama.cpp is not installed", "runtime.serve", "pip install xllamacpp")
    if serve.engine == "vllm":
        program(serve.command)


def nothing_to_serve(serve: Serve) -> None:
    """Raises UserError: none of the models is one that the engine can serve."""
    most = f"judge.model: {' or '.join(EMBEDDED)}" if serve.engine == "llama.cpp" else "a folder or a hub id"
    problem = f"{serve.engine} can serve none of the models that this run asks"
    raise UserError(problem, "runtime.serve", f"name {most} (no adapter), or leave it out: models answer in process")


def program(command: str | None) -> str:
    """Where vLLM is. Raises UserError where it is not."""
    found = shutil.which(at_home(command) if command else "vllm")
    if found is None:
        problem = f"there is no program {command}" if command else "vLLM is not installed: no `vllm` on the PATH"
        remedy = "install it in an environment of its own, and name its program: "
        raise UserError(problem, "vllm", remedy + "serve: {engine: vllm, command: ENVIRONMENT/bin/vllm}, or --with")
    return found


def command_of(model: ModelRef, name: str, at: tuple[str, int], dtype: str, serve: Serve) -> list[str]:
    """What starts the server. at: host and port. Fetches an embedded model. Raises UserError."""
    place = ["--host", at[0], "--port", str(at[1])]
    if serve.engine == "llama.cpp":
        EMBEDDED[model.name].gguf()  # in here, where its progress is seen
        command = [sys.executable, "-m", "cai.models", "serve", model.name]
        return [*command, *place, "--threads", str(cores()), *serve.args]
    commit = ["--revision", model.commit] if model.commit else []
    named = ["--served-model-name", name, "--dtype", dtype]
    return [program(serve.command), "serve", local(replace(model, server=None)), *place, *commit, *named, *serve.args]


def cores() -> int:
    """As many as this process may use, or OMP_NUM_THREADS (`runtime.threads`)."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def free_port() -> int:
    with create_server((HERE, 0)) as taken:
        return taken.getsockname()[1]


# 2. Until it answers --------------------------------------------------------------------------------------------------


def start(command: Sequence[str], name: str, url: str, log: Path | None) -> ServerProcess:
    """Starts a server and waits until it answers; url: without the /v1. Raises UserError where it ends before that."""
    guard = [sys.executable, "-I", str(Path(__file__).with_name("guard.py")), *command]
    began = time.monotonic()
    with log.open("ab") if log else nullcontext() as file:
        process = subprocess.Popen(
            guard, stdin=subprocess.PIPE, stdout=file or sys.stderr, stderr=subprocess.STDOUT if file else None,
            env=os.environ | SILENT, start_new_session=True,  # Ctrl-C is for this process, which then ends the other
        )  # fmt: skip
    running = ServerProcess(name, f"{url}/v1", process, log)
    atexit.register(running.stop)
    try:
        _wait(running, f"{url}/health", began)
    except BaseException:
        running.stop()
        raise
    return running


def _wait(running: ServerProcess, health: str, began: float) -> None:
    said = began
    while not _answers(health):
        if fault := running.ended():
            raise fault
        now = time.monotonic()
        if now - began > LONGEST:
            problem = f"the server of {running.name} does not answer after {LONGEST / 60:.0f} minutes"
            raise UserError(problem, str(running.log or ""), "see what it said; a smaller model may be up sooner")
        if now - said > EVERY:
            print(f"    {running.name}: not up yet after {now - began:.0f} s", file=sys.stderr, flush=True)
            said = now
        time.sleep(0.2)
    if fault := running.ended():  # somebody else answers there
        raise fault


def _answers(url: str) -> bool:
    """200 from a server on this machine, whatever proxy is set."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def reached_directly() -> None:
    """Clients of this process ask this machine without a proxy, whatever proxy is set for the world."""
    for name in ("NO_PROXY", "no_proxy"):
        others = [host for host in os.environ.get(name, "").split(",") if host]
        if HERE not in others:
            os.environ[name] = ",".join([*others, HERE])


def start_own(model: ModelRef, dtype: str, runtime: Runtime) -> ServerProcess:
    """The server of a model that the run serves itself. Raises UserError where it does not come up."""
    server = model.server
    assert isinstance(server, OwnServer) and server.name
    reached_directly()
    port, engine = free_port(), server.serve.engine
    command = command_of(model, server.name, (HERE, port), dtype, server.serve)
    log = Path(runtime.root) / "servers" / f"{server.name.replace('/', '--')}-{os.getpid()}.log"
    make_folders(log.parent)
    began = time.monotonic()
    print(f"    {engine} starts with {server.name} (log: {log})", file=sys.stderr, flush=True)
    running = start(command, server.name, f"http://{HERE}:{port}", log)
    print(f"    {engine} is up after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return running


def addressed(model: ModelRef, running: ServerProcess) -> ModelRef:
    """The model at the server that was started for it."""
    own = model.server
    assert isinstance(own, OwnServer)
    return replace(model, server=Server(url=(running.url,), name=own.name, revision=own.revision, same=own.same))
