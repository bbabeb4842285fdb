"""What a program says, and with which exit code, when something outside of it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_a_reader_that_goes_away_is_no_fault():
    """`... | head -1`: the pipe is closed before all is written."""
    program = "import sys; from cai.core.errors import run_main\n"
    program += "sys.exit(run_main(lambda argv: [print('line ' * 20) for _ in range(5000)] and 0))"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline().startswith(b"line line")
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141


@pytest.mark.parametrize("when", ["while it loads", "in the middle", "twice"])
def test_ctrl_c_gives_no_traceback(when):
    """`python -m cai.ROOM` begins with `-m` in sys.argv: until its program runs, and when it ends, nothing is lost."""
    strike = "os.kill(os.getpid(), signal.SIGINT)"
    program = "import os, signal, sys; sys.argv = ['-m']; import cai\nfrom cai.core.errors import run_main\n"
    program += f"{strike}\n" if when == "while it loads" else ""
    program += f"code = run_main(lambda argv: {strike}, [])\n"
    program += f"{strike}\n" if when == "twice" else ""
    ended = subprocess.run([sys.executable, "-c", f"{program}sys.exit(code)"], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.startswith("\ninterrupted: everything finished so far is kept")
    assert "Traceback" not in ended.stderr


def test_ctrl_c_stays_ignored_where_it_was():
    """As under nohup."""
    program = "import os, signal, sys; sys.argv = ['-m']; signal.signal(signal.SIGINT, signal.SIG_IGN); import cai\n"
    program += "os.kill(os.getpid(), signal.SIGINT); print('on')"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "on\n", "")
