"""Servers that a run starts itself: up at the first question, down before anything else is loaded, and never left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("openai")

from conftest import free_port

from cai.config.load import Arm, read_experiment
from cai.config.runtime import Runtime
from cai.config.serve import OwnServer, Serve, served_by_run
from cai.core.errors import UserError
from cai.core.records import Message
from cai.experiment.check_servers import server_checks
from cai.models import guard, serving, workbench
from cai.models.engines import Question
from cai.models.references import find, find_served, local, model_of
from cai.models.serving import ServerProcess, start
from cai.models.workbench import Workbench
from cai.train.revising import reviser_of

GUARD = [sys.executable, "-I", guard.__file__]
HERE = Path(__file__).parent
CHAT = (Message("user", "Is two even?"),)


def waited(until: Callable[[], object], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(until())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    """A command that starts another one, and writes both their ids into the file that is its argument."""
    script = tmp_path / "family.py"
    script.write_text(
        "import os, subprocess, sys, time, pathlib\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "file = pathlib.Path(sys.argv[1]); aside = file.with_suffix('.aside')\n"
        "aside.write_text(f'{os.getpid()} {other.pid}'); aside.rename(file)\n"
        "time.sleep(600)\n"
    )
    return [sys.executable, str(script), str(tmp_path / "ids")]


def ids_of(tmp_path: Path) -> list[int]:
    assert waited(lambda: (tmp_path / "ids").exists())
    return [int(word) for word in (tmp_path / "ids").read_text().split()]


# 1. The guard ---------------------------------------------------------------------------------------------------------


def test_the_exit_code_is_the_commands() -> None:
    held = {"stdin": subprocess.PIPE}
    assert subprocess.Popen([*GUARD, sys.executable, "-c", "raise SystemExit(3)"], **held).wait(60) == 3
    assert subprocess.Popen([*GUARD, "/no/such/program"], **held, stderr=subprocess.DEVNULL).wait(60) == 127


@pytest.mark.parametrize("how", ["leash", "term"])
def test_a_command_and_what_it_started_end_together(how: str, family: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([*GUARD, *family], stdin=subprocess.PIPE)
    ids = ids_of(tmp_path)
    assert all(map(alive, ids))
    if how == "leash":
        process.stdin.close()
    else:
        process.terminate()
    process.wait(60)
    assert waited(lambda: not any(map(alive, ids)))  # the other is killed, and nobody waits until it is gone


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_starter_that_is_killed_takes_its_server_along(number: int, family: list[str], tmp_path: Path) -> None:
    code = f"import subprocess, time; subprocess.Popen({[*GUARD, *family]!r}, stdin=subprocess.PIPE); time.sleep(600)"
    starter = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    ids = ids_of(tmp_path)
    starter.send_signal(number)
    starter.wait(60)
    assert waited(lambda: not any(map(alive, ids)))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a child of its parent's death")
def test_a_guard_that_is_killed_takes_the_command_along(family: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([*GUARD, *family], stdin=subprocess.PIPE)
    pid, other = ids_of(tmp_path)
    process.kill()
    process.wait(60)
    assert waited(lambda: not alive(pid))
    os.kill(other, signal.SIGKILL)


# 2. Until it answers --------------------------------------------------------------------------------------------------


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    """A program that takes vLLM's arguments, and writes down that it was started and how; FaultyServer behind it."""
    script = tmp_path / "vllm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from faulty_server import FaultyServer\n"
        "given = dict(zip(sys.argv[3::2], sys.argv[4::2]))\n"
        f"with open({str(tmp_path / 'started')!r}, 'a') as file: print(os.getpid(), *sys.argv[1:], file=file)\n"
        "if '--die' in given: print('loading'); sys.exit('no room for the cache')\n"
        "server = FaultyServer(model=given['--served-model-name'])\n"
        "server.port = int(given['--port'])\n"
        "if '--dies-at' in given:\n"  # a request that it does not answer any more
        "    server.armed, last = True, int(given['--dies-at'])\n"
        "    server.faults = lambda number: os.kill(os.getpid(), 9) if number >= last else None\n"
        "with server: time.sleep(600)\n"
    )
    script.chmod(0o755)
    return script


def started(tmp_path: Path) -> list[list[str]]:
    file = tmp_path / "started"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def bench(tmp_path: Path, serve: Serve) -> Workbench:
    return Workbench.open(Runtime(root=str(tmp_path / "runs"), device="cpu", concurrency=2, serve=serve))


def test_a_server_is_up_when_it_is_needed_and_down_when_the_room_is(
    tiny, vllm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):  # which is for the world, not for this machine
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.org")
    folder, serve = local(tiny), Serve(engine="vllm", command=str(vllm), args=("--more", "x"))
    work = bench(tmp_path, serve)
    model = find_served(folder, OwnServer(serve=serve))
    engine = work.engine(model, dtype="float32", system=None)
    asked = [Question(CHAT, ("Yes", "No"))]
    assert not started(tmp_path)
    first = engine.choose(asked, 999, "asked")
    (pid, *arguments), *more = started(tmp_path)
    assert not more and alive(int(pid))
    assert arguments[:4] == ["serve", folder, "--host", "127.0.0.1"] and arguments[4] == "--port"
    assert arguments[6:] == ["--served-model-name", "tiny-random", "--dtype", "float32", "--more", "x"]
    engine.choose([Question(CHAT, ("a", "b"))], 999, "asked")
    assert len(started(tmp_path)) == 1
    work.release()
    assert not alive(int(pid))
    assert engine.choose(asked, 999, "asked") == first and len(started(tmp_path)) == 1  # the cache knows
    engine.choose([Question(CHAT, ("c", "d"))], 999, "asked")
    assert len(started(tmp_path)) == 2
    second = int(started(tmp_path)[1][0])
    work.engine(find("tiny-random"), dtype="float32", system=None).choose(asked, 999, "asked")  # in process
    assert not alive(second)


def test_a_server_that_dies_at_its_start_says_why(tiny, vllm: Path, tmp_path: Path) -> None:
    serve = Serve(engine="vllm", command=str(vllm), args=("--die", "x"))
    engine = bench(tmp_path, serve).engine(
        find_served(local(tiny), OwnServer(serve=serve)), dtype="float32", system=None
    )
    with pytest.raises(UserError, match=r"has ended with code 1:\n    loading\n    no room for the cache") as caught:
        engine.choose([Question(CHAT, ("Yes", "No"))], 999, "asked")
    assert Path(caught.value.where).read_text() == "loading\nno room for the cache\n"


@pytest.mark.parametrize("when", ["between", "while it is asked"])
def test_a_server_that_dies_later_is_noticed_at_once(tiny, vllm: Path, tmp_path: Path, when: str) -> None:
    """Not after the five minutes for which a server that is none of ours is waited for; what it answered is kept."""
    serve = Serve(engine="vllm", command=str(vllm), args=() if when == "between" else ("--dies-at", "300"))
    work = bench(tmp_path, serve)
    engine = work.engine(find_served(local(tiny), OwnServer(serve=serve)), dtype="float32", system=None)
    engine.choose([Question(CHAT, ("Yes", "No"))], 999, "asked")
    if when == "between":
        os.kill(int(started(tmp_path)[0][0]), signal.SIGKILL)
    asked = [Question((Message("user", f"Is {number} even?"),), ("Yes", "No")) for number in range(600)]
    began = time.monotonic()
    with pytest.raises(UserError, match="the server of tiny-random has ended with code 137"):
        engine.choose(asked, 999, "asked")
    assert time.monotonic() - began < 150
    work.release()
    assert len(kept(work)) == 1 if when == "between" else 20 < len(kept(work)) < 601


def kept(work: Workbench) -> list[str]:
    """The lines of the call cache."""
    return [line for rows in (work.root / "calls").glob("*.rows") for line in rows.read_text().splitlines()]


def test_who_waits_for_a_server_may_stop_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family) -> None:
    """Ctrl-C while it loads: it is ended, and the interruption goes on."""
    monkeypatch.setattr(serving, "_answers", lambda url: (tmp_path / "ids").exists() and interrupted())

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(family, "it", "http://127.0.0.1:9", tmp_path / "log")
    ids = ids_of(tmp_path)
    assert waited(lambda: not any(map(alive, ids)))


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: list[str]) -> None:
    monkeypatch.setattr(serving, "LONGEST", 0.3)
    with pytest.raises(UserError, match="the server of it does not answer") as caught:
        start(family, "it", "http://127.0.0.1:9", tmp_path / "log")
    assert caught.value.where == str(tmp_path / "log")


def test_vllm_is_started_by_hand_as_well(tiny, vllm: Path, tmp_path: Path) -> None:
    """Its line for the experiment, its own arguments behind --, and its end at Ctrl-C."""
    port, folder = free_port(), local(tiny)
    given = ["--engine", "vllm", "--with", str(vllm), "--port", str(port), "--dtype", "float32", "--", "--more", "x"]
    command = [sys.executable, "-m", "cai.models", "serve", folder, *given]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = [serving.stdout.readline() for _ in range(3)]
    assert f'judge: {{model: {folder}, server: {{url: "http://127.0.0.1:{port}/v1", name: {folder}}}}}' in lines[2]
    ((pid, *arguments),) = started(tmp_path)
    assert arguments[-4:] == ["--dtype", "float32", "--more", "x"] and alive(int(pid))
    serving.send_signal(signal.SIGINT)
    assert serving.wait(60) == 0 and not alive(int(pid))


# 3. Who is served, and what is in keys --------------------------------------------------------------------------------


def experiment(tmp_path: Path, text: str, runtime: str):
    file = tmp_path / "mine.yaml"
    file.write_text(f"constitution: constitutions/short.txt\ndata: {{source: rated-answers}}\n{text}\n{runtime}\n")
    return read_experiment(file)


@pytest.mark.parametrize("server", ["[http://one/v1, http://two/v1]", "{url: [http://one/v1, http://two/v1]}"])
def test_replicas_are_a_list_in_a_file(tmp_path: Path, server: str) -> None:
    (arm,) = experiment(tmp_path, f"judge: {{server: {server}}}", "").arms.values()
    assert arm.judge.server and arm.judge.server.url == ("http://one/v1", "http://two/v1")


@pytest.mark.parametrize("server", ["[http://one/v1, 7]", "{url: []}", "7", "{name: x}"])
def test_what_is_no_address_is_refused(tmp_path: Path, server: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml:3: "):
        experiment(tmp_path, f"judge: {{server: {server}}}", "")


JUDGES = """judge: {model: qwen2.5-coder-0.5b}
evaluate: {judge: {model: smollm2-135m-judge, method: channel}}
revise: {model: smollm2-135m}"""


def test_what_the_engine_can_serve_is_served(tmp_path: Path) -> None:
    (arm,) = experiment(tmp_path, JUDGES, "runtime: {serve: llama.cpp}").arms.values()
    judge = model_of(arm.judge)
    assert judge.engine == "server" and judge.server and judge.server.name == "qwen2.5-coder-0.5b"
    assert model_of(arm.evaluate.judge) == find("smollm2-135m-judge")  # an adapter: in process
    assert model_of(arm.policy).server is None  # it is trained
    assert reviser_of(arm.revise).server


def test_a_key_is_that_of_a_server_started_by_hand(tmp_path: Path) -> None:
    """Neither the engine nor its command is in it: they are where, not what."""
    by_hand = 'judge: {model: smollm2-135m, server: {url: "http://127.0.0.1:1/v1"}}'
    (hand,) = experiment(tmp_path, by_hand, "").arms.values()
    for runtime in ("{serve: llama.cpp}", "{serve: {engine: vllm, command: /x, args: [--y]}}"):
        (own,) = experiment(tmp_path, "judge: {model: smollm2-135m}", f"runtime: {runtime}").arms.values()
        assert model_of(own.judge).digest == model_of(hand.judge).digest != find("smollm2-135m").digest
    (other,) = experiment(tmp_path, "", "runtime: {serve: {engine: vllm, revision: bf16}}").arms.values()
    assert model_of(other.judge).digest != model_of(hand.judge).digest
    (same,) = experiment(tmp_path, "", "runtime: {serve: {engine: vllm, same: true}}").arms.values()
    assert model_of(same.judge).digest == find("smollm2-135m").digest


def test_a_server_that_is_named_stays(tmp_path: Path) -> None:
    text = 'judge: {model: smollm2-135m, server: "http://127.0.0.1:1/v1"}'
    (arm,) = experiment(tmp_path, text, "runtime: {serve: llama.cpp}").arms.values()
    assert not isinstance(arm.judge.server, OwnServer) and isinstance(arm.evaluate.judge.server, OwnServer)


def test_with_same_what_draws_is_another_model(tmp_path: Path) -> None:
    text = "judge: {model: smollm2-135m, method: reason}\nrevise: {model: smollm2-135m}"
    (arm,) = experiment(tmp_path, text, "runtime: {serve: {engine: vllm, same: true}}").arms.values()
    assert not arm.judge.server.same and not arm.revise.server.same and arm.evaluate.judge.server.same


def faults(found) -> Iterator[str]:
    for _, _, check in server_checks(found):
        try:
            check()
        except UserError as error:
            yield str(error)


def test_what_is_missing_is_said_before_the_first_stage(tmp_path: Path, tiny) -> None:
    runtime = "runtime: {serve: {engine: vllm, command: /no/vllm}}"
    (fault,) = faults(experiment(tmp_path, f"judge: {{model: {local(tiny)}}}", runtime))
    assert "there is no program /no/vllm" in fault and "--with" in fault
    text = "judge: {model: tiny-random}\nevaluate: {judge: {model: tiny-random}}"
    assert any("can serve none" in one for one in faults(experiment(tmp_path, text, "runtime: {serve: llama.cpp}")))
    with pytest.raises(UserError, match="engine"):
        experiment(tmp_path, "", "runtime: {serve: sglang}")


# 4. The real one ------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_real_judge_is_served_by_turns(gguf: Path, real, tmp_path: Path, monkeypatch) -> None:
    servers: list[ServerProcess] = []
    monkeypatch.setattr(workbench, "start_own", lambda *given: servers.append(serving.start_own(*given)) or servers[-1])
    serve = Serve(engine="llama.cpp", args=("--context", "512"))
    work = bench(tmp_path, serve)
    arm = Arm.model_validate({"constitution": "constitutions/short.txt", "data": {"source": "rated-answers"}})
    judge = served_by_run({"ai": arm}, serve)["ai"].judge
    engine = work.engine(model_of(judge), dtype="float32", system=None)
    (reading,) = engine.choose([Question(CHAT, ("Yes", "No"))], 512, "asked")
    (running,) = servers
    assert reading.logprobs[0] != reading.logprobs[1] and running.process.poll() is None
    (here,) = work.engine(find("smollm2-135m"), dtype="float32", system=None).choose(
        [Question(CHAT, ("Yes", "No"))], 512, "asked"
    )
    assert running.process.poll() is not None
    assert here.logprobs == pytest.approx(reading.logprobs, abs=0.5)
