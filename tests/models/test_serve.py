"""`python -m cai.models serve`: a model behind an endpoint, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import free_port


def refused(*arguments: str) -> str:
    command = [sys.executable, "-m", "cai.models", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    return done.stderr


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (pip install xllamacpp)")
    assert f'"{tmp_path}" is no GGUF file' in refused(str(tmp_path))
    (tmp_path / "half.gguf").write_bytes(b"GGUF")
    assert "llama.cpp cannot serve" in refused(str(tmp_path / "half.gguf"), "--port", "0")
    assert "there is no program /no/vllm" in refused("owner/name", "--engine", "vllm", "--with", "/no/vllm")
    assert '"tiny-random" cannot be served' in refused("tiny-random", "--engine", "vllm", "--with", sys.executable)


@pytest.mark.real
def test_it_answers_until_it_is_interrupted(gguf: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "cai.models", "serve", str(gguf), "--port", str(port), "--threads", "1"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ)
    assert serving.stdout
    try:
        lines = [serving.stdout.readline() for _ in range(3)]
        assert f'server: {{url: "http://127.0.0.1:{port}/v1", name: {gguf.stem}}}' in lines[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60) as answer:
            assert json.load(answer)["data"][0]["id"] == gguf.stem
    finally:
        serving.send_signal(signal.SIGINT)
    assert serving.wait(timeout=100) == 0
