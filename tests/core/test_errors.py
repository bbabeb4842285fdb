"""What a program says, and with which exit code, when something outside of it ends."""

import subprocess
import sys
from pathlib import Path

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
