"""Stages side by side: on toy stages what comes out, what fails and what dies; the smoke experiment is the same."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import toys
from test_killed import outcome

from cai.compare.sections.provenance import begin
from cai.config.runtime import Runtime
from cai.config.serve import OwnServer, Serve
from cai.constitution import read_constitution
from cai.core.errors import UserError
from cai.core.progress import Board
from cai.core.store import Artifact
from cai.core.templates import load_template
from cai.experiment import executors, side_by_side
from cai.experiment.executors import cards_of, check_executor, for_worker, lanes_of, threads_of
from cai.experiment.worker import uses_device
from cai.models.engines.spending import Spent
from cai.models.references import ModelRef
from cai.models.shared_spending import SharedSpending
from cai.models.workbench import Workbench

ROOT = Path(__file__).parents[2]


@dataclass
class Toy:
    """What stands for an experiment: `walk(stage)` is its pipeline."""

    walk: object


@pytest.fixture
def lead(tmp_path, monkeypatch):
    """Runs toys side by side (or one after another), and gives their cells and ledgers."""
    monkeypatch.setattr(side_by_side, "run", lambda toy, store, work: (toy.walk(store.stage_with(work)), None))

    def go(*walks, one_by_one=False, root=tmp_path / "runs", executor="processes", **runtime):
        grid = [Toy(walk) for walk in walks]
        work = Workbench.open(Runtime(executor=executor, workers=2, root=str(root), device="cpu", **runtime))
        with Board([]) as board:
            how = side_by_side.one_by_one(grid, work, board) if one_by_one else side_by_side.side_by_side(
                grid, work, board, begin()
            )  # fmt: skip
            with closing(how) as runs:
                return [(ran.cells, list(ran.ledger)) for ran in runs]

    return go


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "store").iterdir() if path.suffix)


def diamond(place: Path, base: int = 1):
    def walk(stage):
        one = stage(toys.number, n=base)
        two = stage(toys.number, n=base + 1)
        both = stage(toys.add, parts=[one, two], place=str(place))
        again = stage(toys.add, parts=[one, two], place=str(place))
        assert again.key == both.key
        whole = stage(toys.add, parts=[both, one], place=str(place))
        return int((whole / "n").read_text()) if (whole / "n").exists() else None

    return walk


def test_what_comes_out_is_what_comes_out_one_after_another(lead, tmp_path):
    ((result, ledger),) = lead(diamond(tmp_path))
    ((alone, known),) = lead(diamond(tmp_path), one_by_one=True, root=tmp_path / "alone")
    assert result == alone == (1 + 2) + 1
    assert [(each.stage, each.key, each.digest, each.cached) for each in ledger] == [
        (each.stage, each.key, each.digest, each.cached) for each in known
    ]
    assert all(each.seconds > 0 or each.stage == "number" for each in ledger)
    mine = [line for line in (tmp_path / "made").read_text().splitlines() if line.split()[-1] != str(os.getpid())]
    assert len(mine) == 2, "each of the two sums was made once, by a worker"
    assert left(tmp_path / "runs") == [] and list((tmp_path / "runs" / "workers").iterdir()) == []


def test_what_is_there_is_not_made_again(lead, tmp_path):
    lead(diamond(tmp_path))
    ((_, ledger),) = lead(diamond(tmp_path))
    assert all(each.cached for each in ledger) and len((tmp_path / "made").read_text().splitlines()) == 2


def test_points_of_a_sweep_come_in_their_order_and_share_what_is_the_same(lead, tmp_path):
    runs = lead(diamond(tmp_path, 1), diamond(tmp_path, 2), diamond(tmp_path, 1))
    assert [cells for cells, _ in runs] == [4, 7, 4]
    assert [[each.cached for each in ledger] for _, ledger in runs] == [
        [False] * 4, [True, False, False, False], [True] * 4,
    ]  # fmt: skip


def test_independent_stages_run_at_the_same_time(lead, tmp_path):
    def walk(stage):
        stage(toys.meet, me="a", other="b", place=str(tmp_path))
        stage(toys.meet, me="b", other="a", place=str(tmp_path))

    lead(walk)


def test_of_one_that_is_damaged_nothing_follows_before_it_is_made_again(lead, tmp_path, capsys):
    ((_, ledger),) = lead(diamond(tmp_path))
    (ledger[2] / "n").write_text("999")
    (tmp_path / "made").unlink()
    ((result, _),) = lead(diamond(tmp_path))
    assert result == 4 and len((tmp_path / "made").read_text().splitlines()) == 1
    assert capsys.readouterr().err.count("is damaged") == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [("user", "toys.yaml:3: key: it cannot be\n  -> let it be"), ("disk", "/full: the disk is full\n  -> free some")],
)
def test_a_fault_in_a_worker_is_told_as_such_and_what_others_were_making_is_kept(lead, tmp_path, how, said):
    def walk(stage):
        stage(toys.fails, how=how, wait=str(tmp_path / "slow"))
        stage(toys.slow, place=str(tmp_path), seconds=1.0, after=True)
        stage(toys.number, n=7)

    with pytest.raises(UserError) as error:
        lead(walk)
    assert str(error.value).startswith(said)
    stages = sorted(path.name.partition("-")[0] for path in (tmp_path / "runs" / "store").iterdir())
    assert stages == ["slow"], "none began after the fault"


def test_a_mistake_of_ours_is_told_with_its_trace(lead):
    with pytest.raises(RuntimeError, match=r"(?s)fails-\w+ failed on .*toys\.py.*ValueError: a mistake of ours"):
        lead(lambda stage: stage(toys.fails, how="ours"))


def test_a_fault_that_the_walk_itself_finds_is_told(lead, tmp_path):
    def walk(stage):
        if (stage(toys.number, n=1) / "n").exists():
            raise UserError("that is too few")

    with pytest.raises(UserError, match="that is too few"):
        lead(walk)


def test_a_killed_worker_is_replaced_and_its_stage_begun_again(lead, tmp_path, capsys):
    def walk(stage):
        return stage(toys.killed, place=str(tmp_path), times=2).path, stage(toys.number, n=1)

    (((path, _), ledger),) = lead(walk)
    assert (path / "n").read_text() == "1" and len(ledger) == 2 and left(tmp_path / "runs") == []
    told = capsys.readouterr().err
    assert told.count("died (killed by SIGKILL): it is begun again") == 2


def test_one_whose_workers_all_die_is_given_up(lead, tmp_path):
    with pytest.raises(UserError, match=r"died 3 times \(at last: killed by SIGKILL\)"):
        lead(lambda stage: stage(toys.killed, place=str(tmp_path), times=9))
    assert (tmp_path / "killed").read_text() == "xxx"


def test_what_workers_write_is_shown_by_stage_and_notes_once(lead, capsys):
    lead(lambda stage: [stage(toys.speaks, n=n) for n in range(3)])
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line for line in lines if "mine" in line) == [f"    speaks: mine is {n}" for n in range(3)]
    assert lines.count("    speaks: note: all of them say so") == 1
    assert lines.count("    speaks: as libraries in C do") == 3
    assert lines.count("    speaks: asked: 3/9, about 5 s left") == 3


def test_an_edit_of_a_constitution_during_a_run_moves_nothing(lead, tmp_path, monkeypatch):
    file = tmp_path / "law.txt"
    file.write_text("- Be kind.\n")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(side_by_side, "cores", lambda: 6)
    began = side_by_side.start

    def edited(work, notes, code):
        work.constitution(str(file))
        started = began(work, notes, code)
        file.write_text("- Be brief.\n")
        return started

    monkeypatch.setattr(side_by_side, "start", edited)
    ((made, _),) = lead(lambda stage: stage(toys.reads_constitution, path=str(file)), concurrency=9)
    assert (made / "text").read_text() == "- Be kind.\n" and read_constitution(file).text == "- Be brief.\n"
    assert (made / "threads").read_text() == "3 4", "6 cores and 9 requests among two workers"


LEADER = """
import sys
from pathlib import Path
name, sys.argv[0] = sys.argv[0], "-m"  # as `python -m cai.ROOM` begins
import cai
sys.argv[0] = name
sys.path[:0] = [sys.argv[2], sys.argv[3]]
import toys
from test_side_by_side import Toy
from cai.compare.sections.provenance import begin
from cai.config.runtime import Runtime
from cai.core.errors import run_main
from cai.core.progress import Board
from cai.experiment import side_by_side
from cai.models.workbench import Workbench

def main(_):
    place = sys.argv[1]
    side_by_side.run = lambda toy, store, work: (toy.walk(store.stage_with(work)), None)
    work = Workbench.open(Runtime(executor=sys.argv[5], workers=2, root=place + "/runs", device="cpu"))
    walk = lambda stage: stage(toys.slow, place=place, seconds=float(sys.argv[4]))
    list(side_by_side.side_by_side([Toy(walk)], work, Board([]), begin()))
    return 0

if __name__ == "__main__":
    sys.exit(run_main(main))
"""


def leader(tmp_path: Path, seconds: float, executor: str = "processes") -> subprocess.Popen:
    file = tmp_path / "leader.py"
    file.write_text(LEADER)
    here = Path(__file__).parent
    command = [sys.executable, str(file), str(tmp_path), str(here), str(here.parent), str(seconds), executor]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)


def until(there, seconds=300.0):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("whom", ["all, as a terminal does", "all, twice", "the leader"])
def test_ctrl_c_ends_all_workers_and_leaves_nothing_half_made(tmp_path, whom):
    running = leader(tmp_path, 600)
    until(lambda: (tmp_path / "slow").exists() and (tmp_path / "slow").read_text())
    worker = int((tmp_path / "slow").read_text())
    strike = os.killpg if whom.startswith("all") else os.kill
    strike(running.pid, signal.SIGINT)
    if whom == "all, twice":
        time.sleep(0.05)
        strike(running.pid, signal.SIGINT)
    told = running.communicate(timeout=300)[1]
    # In its last moments Python itself is ended by a second one: to a shell that is 130 as well.
    assert running.returncode in ((130, -signal.SIGINT) if whom == "all, twice" else (130,)), told
    assert "interrupted" in told and "Traceback" not in told, told
    until(lambda: gone(worker))  # a second Ctrl-C ends the leader before its workers have cleared up
    assert list((tmp_path / "runs" / "store").iterdir()) == []


def test_workers_end_with_a_leader_that_is_killed_and_the_next_run_clears_up(tmp_path):
    running = leader(tmp_path, 600)
    until(lambda: (tmp_path / "slow").exists() and (tmp_path / "slow").read_text())
    worker = int((tmp_path / "slow").read_text())
    running.kill()
    running.communicate()
    until(lambda: gone(worker))
    again = leader(tmp_path, 0.0)
    assert again.communicate(timeout=300)[1].count("Traceback") == 0 and again.returncode == 0
    assert left(tmp_path / "runs") == [] and list((tmp_path / "runs" / "workers").iterdir()) == []


# Ray ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_ray(lead, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent), str(ROOT)]))
    return lambda *walks, **runtime: lead(*walks, executor="ray", **runtime)


@pytest.mark.slow
def test_on_ray_stages_meet_a_killed_one_is_begun_again_and_what_they_write_is_shown(on_ray, tmp_path, capsys):
    place = str(tmp_path)

    def walk(stage):
        stage(toys.killed, place=place, times=1)
        stage(toys.meet, me="a", other="b", place=place)
        stage(toys.meet, me="b", other="a", place=place)
        stage(toys.speaks, n=1)
        return diamond(tmp_path)(stage)

    (((result), ledger),) = on_ray(walk)
    assert result == 4 and len(ledger) == 8 and not any(each.cached for each in ledger)
    assert len((tmp_path / "made").read_text().splitlines()) == 2
    assert left(tmp_path / "runs") == [] and list((tmp_path / "runs" / "workers").iterdir()) == []
    told = capsys.readouterr().err
    assert told.count("it is begun again") == 1 and "    speaks: mine is 1\n" in told


@pytest.mark.slow
def test_workers_of_ray_without_the_code_are_told_of(on_ray, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(UserError, match="a worker of Ray could not begin: ModuleNotFoundError: No module named 'toys'"):
        on_ray(lambda stage: stage(toys.number, n=1))


@pytest.mark.slow
def test_on_ray_a_fault_is_told_as_such(on_ray):
    with pytest.raises(UserError) as error:
        on_ray(lambda stage: stage(toys.fails, how="user"))
    assert str(error.value) == "toys.yaml:3: key: it cannot be\n  -> let it be"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ({"ray": "127.0.0.1:9"}, "runtime.ray: Ray is not reached at 127.0.0.1:9: [Errno 111] Connection refused"),
        ({"task": {"gpus": 99}}, "runtime.task: no machine has 1 CPUs and 99 GPUs for a stage"),
    ],
)
def test_a_cluster_that_is_not_there_or_too_small_is_told_at_once(on_ray, runtime, said):
    with pytest.raises(UserError) as error:
        on_ray(lambda stage: stage(toys.number, n=1), **runtime)
    assert str(error.value).startswith(said)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_of_ray(on_ray, tmp_path):
    running = leader(tmp_path, 600, "ray")
    until(lambda: (tmp_path / "slow").exists() and (tmp_path / "slow").read_text())
    worker = int((tmp_path / "slow").read_text())
    os.killpg(running.pid, signal.SIGINT)
    told = running.communicate(timeout=300)[1]
    assert running.returncode == 130 and "Traceback" not in told, told
    until(lambda: gone(worker))
    assert list((tmp_path / "runs" / "store").iterdir()) == []


# Parts ----------------------------------------------------------------------------------------------------------------


def test_how_many_workers_and_threads():
    auto = Runtime(executor="processes")
    assert [lanes_of(auto, cpus, 0) for cpus in (1, 2, 8, 11, 64)] == [2, 2, 2, 2, 16]
    assert lanes_of(auto, 64, 8) == 8 and lanes_of(Runtime(executor="ray", workers=3), 64, 8) == 3
    assert for_worker(Runtime(executor="processes", concurrency=16), "cpu", 32, 2).concurrency == 1


def test_threads_are_the_users_where_they_are_said(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of(Runtime(), 8, 3) == 2 and threads_of(Runtime(), 2, 3) == 1
    assert threads_of(Runtime(threads=5), 8, 3) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_of(Runtime(), 8, 3) is None


def test_cards_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert (cards_of("cuda"), cards_of("cuda:1"), cards_of("cpu")) == (["2", "3"], [], [])


def test_a_stage_uses_a_device_where_a_model_is_among_its_inputs():
    model = ModelRef("tiny-random", "", "digest")
    served = ModelRef("a", "", "b", server=SimpleNamespace(same=False))
    both = ModelRef("a", "", "b", server=SimpleNamespace(same=True))
    own = ModelRef("a", "", "b", server=OwnServer(serve=Serve(engine="vllm")))
    artifact = Artifact("load_data", "k", Path("x"), "d")
    assert [uses_device({"data": artifact, "judges": [value]}) for value in (3, model, served, both, own)] == [
        False, True, False, True, True,
    ]  # fmt: skip


def test_templates_travel_to_other_processes():
    template = load_template("critique")
    there = pickle.loads(pickle.dumps(template))
    values = dict.fromkeys(template.variables, "x") | {"messages": []}
    assert there.digest == template.digest and there.variables == template.variables
    with pytest.raises(UserError) as fault:
        there.render()
    with pytest.raises(UserError) as before:
        template.render()
    assert str(fault.value) == str(before.value) and values


def test_several_processes_count_what_servers_took_together(tmp_path):
    runtime = Runtime(max_tokens=100)
    one, two = (SharedSpending.within(runtime, tmp_path / "spending") for _ in range(2))
    one.set_aside("m", 30, 20)
    two.set_aside("m", 20, 10)
    with pytest.raises(Spent, match="max_tokens"):
        two.set_aside("m", 20, 1)
    one.give_back("m", 30, 20)
    one.took("m", 30, 5)
    two.set_aside("m", 20, 15)  # 35 are spent, and 30 set aside
    assert (two.read, two.written, two.tokens_aside) == (30, 5, 65)
    with pytest.raises(Spent):
        one.hold(1)


def test_what_is_missing_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="the package ray is not installed") as error:
        check_executor(Runtime(executor="ray"))
    assert error.value.where == "runtime.executor" and "pip install" in error.value.remedy
    check_executor(Runtime(executor="processes"))
    check_executor(Runtime())


# The pipeline ---------------------------------------------------------------------------------------------------------


def smoke(root: Path, log: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "cai.experiment", "experiments/smoke.yaml", "--set", f"runtime.root={root}"]
    with log.open("w") as file:
        return subprocess.Popen(
            [*command, *(f"--set={each}" for each in more)], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
        )


def makers(leader: int) -> list[int]:
    """The worker processes below it that make a stage just now, as far as their names tell."""
    parents, lines = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int(Path(place, "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(place.name)] = Path(place, "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue

    def below(process: int) -> bool:
        return process == leader or (process in parents and below(parents[process]))

    return [one for one, line in lines.items() if ("spawn_main" in line or line.startswith("ray::t")) and below(one)]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_the_smoke_experiment_side_by_side_is_the_one_made_alone_also_when_a_worker_is_killed(
    executor, ratings, tmp_path
):
    if executor == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    assert smoke(tmp_path / "alone", tmp_path / "alone.log").wait() == 0, (tmp_path / "alone.log").read_text()[-3000:]
    log = tmp_path / "beside.log"
    running = smoke(tmp_path / "beside", log, f"runtime.executor={executor}", "runtime.workers=2")
    until(lambda: log.read_text().count("train ppo") >= 2 or running.poll() is not None, 600)
    workers = makers(running.pid)
    assert workers, log.read_text()[-3000:]
    os.kill(workers[-1], signal.SIGKILL)
    assert running.wait(900) == 0, log.read_text()[-3000:]
    again, stages = outcome(tmp_path / "beside")
    results, digests = outcome(tmp_path / "alone")
    assert stages == digests, "the same stages, each once, with the same contents"
    assert again == results
    assert [path.name for path in (tmp_path / "beside" / "store").iterdir() if "." in path.name] == []
    assert "it is begun again" in log.read_text()
    made = json.loads((tmp_path / "beside" / "smoke" / "results.json").read_text())["stages"]
    assert len(made) == len({(each["stage"], each["key"]) for each in made}) == len(digests)
