"""A whole run: what the environment keeps secret stands in no file and on no terminal, and nobody outside is asked."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from test_experiment import lay_out

from cai.core.errors import run_main
from cai.experiment.command import main

NAMES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OPENAI_API_KEY",
    "WANDB_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "MY_PASSWORD",
)


def test_no_secret_is_kept_and_nothing_is_fetched(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every stage of the small experiment, with keys planted and the network cut off: not even a name is looked up."""
    for name in NAMES:
        monkeypatch.setenv(name, f"planted-{name}-7f3a9c")
    home = tmp_path / "planted-home-7f3a9c"
    home.mkdir()
    (home / ".netrc").write_text("machine hub login me password planted-netrc-7f3a9c\n")
    monkeypatch.setenv("HOME", str(home))
    asked: list[Any] = []

    def cut(*args: Any, **_: Any) -> Any:
        asked.append(args[-1])
        raise OSError("the network is cut off")

    monkeypatch.setattr(socket.socket, "connect", cut)
    monkeypatch.setattr(socket.socket, "connect_ex", cut)
    monkeypatch.setattr(socket, "getaddrinfo", cut)
    monkeypatch.setattr(socket, "create_connection", cut)
    work = tmp_path / "work"
    work.mkdir()
    lay_out(work)
    monkeypatch.chdir(work)
    assert run_main(main, ["mine.yaml"]) == 0
    said = capfd.readouterr()
    assert asked == []
    files = [path for path in work.rglob("*") if path.is_file()]
    assert len(files) > 100 and (work / "runs/mine/report.html") in files
    for name, text in [
        ("stdout", said.out.encode()),
        ("stderr", said.err.encode()),
        *((f, f.read_bytes()) for f in files),
    ]:
        assert b"7f3a9c" not in text.replace(os.fsencode(home), b""), name
