"""What strangers put beside weights, and weights that are programs: nothing of it is run, and nobody is asked."""

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from cai.core.errors import UserError
from cai.experiment.check_models import check_reward_model
from cai.models.loading import load_causal, load_reward, load_tokenizer, save
from cai.models.references import ModelRef, find, local
from cai.models.shapes import config_of

LOADERS: list[Callable[[ModelRef], Any]] = [
    load_tokenizer, lambda ref: load_causal(ref, "float32", "cpu"), lambda ref: load_reward(ref, "float32", "cpu"),
]  # fmt: skip


class Spy:
    """What a pickle may hold: when it is read, a file is written."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.file, "run")


@pytest.fixture
def folder(tiny: ModelRef, tmp_path: Path) -> Path:
    shutil.copytree(local(tiny), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def yes_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who answers every question on the terminal with yes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.setattr("builtins.input", lambda *_: "y")


@pytest.mark.parametrize("known", [True, False], ids=["a type that is known", "one of its own"])
def test_code_beside_the_weights_is_never_run(folder: Path, tmp_path: Path, known: bool) -> None:
    ran = tmp_path / "ran"
    (folder / "theirs.py").write_text(f"open({str(ran)!r}, 'w').write('run')\nclass Config: ...\nclass Model: ...\n")
    config = json.loads((folder / "config.json").read_text())
    names = ("AutoModelForCausalLM", "AutoModelForSequenceClassification")
    config["auto_map"] = {"AutoConfig": "theirs.Config", **dict.fromkeys(names, "theirs.Model")}
    if not known:
        config["model_type"] = "theirs"
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["theirs.Tokenizer", "theirs.Tokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    for load in LOADERS:
        try:
            load(find(str(folder)))
        except UserError as error:
            assert not known and "cannot load" in error.problem and error.where == str(folder)
    assert not ran.exists()


def test_weights_that_are_a_pickle_are_refused_and_not_read(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Spy(ran)))
    ref = find(str(folder))
    for load in LOADERS[1:]:
        with pytest.raises(UserError, match="cannot load the model"):
            load(ref)
    with pytest.raises(UserError, match="there are no weights"):
        check_reward_model(str(folder))
    assert not ran.exists()


def test_an_adapter_that_is_a_pickle_is_refused_and_not_read(tiny: ModelRef, tmp_path: Path) -> None:
    ran, place = tmp_path / "ran", tmp_path / "adapter"
    network = get_peft_model(load_causal(tiny, "float32", "cpu"), LoraConfig(r=2, task_type="CAUSAL_LM"))
    save(network, load_tokenizer(tiny), place)
    assert find(str(place)).name == str(place)
    (place / "adapter_model.safetensors").unlink()
    (place / "adapter_model.bin").write_bytes(pickle.dumps(Spy(ran)))
    with pytest.raises(UserError, match="the weights of this adapter are a pickle") as error:
        load_causal(find(str(place)), "float32", "cpu")
    assert error.value.where == str(place / "adapter_model.bin")
    assert not ran.exists()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[: len(raw) // 2], "empty": lambda raw: b"", "zeros": lambda raw: bytes(len(raw)),
    "no UTF-8": lambda raw: raw.replace(b"{", b"{\xf6", 1), "no object": lambda raw: b"[1]",
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_of_a_model_is_named_and_gives_no_traceback(folder: Path, tmp_path: Path, how: str) -> None:
    """Whatever reads it: a loader, or the plan, which reads config.json alone."""
    whole = [file.name for file in folder.iterdir() if file.suffix in (".json", ".safetensors")]
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= {*whole}
    refused = set()
    for name in whole:
        damaged = tmp_path / f"{how}-{name}"
        shutil.copytree(folder, damaged)
        (damaged / name).write_bytes(DAMAGES[how]((damaged / name).read_bytes()))
        for load in (*LOADERS, lambda ref: config_of(ref.name)):
            try:
                load(find(str(damaged)))
            except UserError as error:
                assert str(damaged) in str(error)
                refused.add((name, load))
    assert len([name for name, _ in refused if name == "config.json"]) == 4
    assert {"tokenizer.json", "model.safetensors"} <= {name for name, _ in refused}


def test_nothing_is_loaded_without_saying_that_no_code_may_run() -> None:
    """Every `from_pretrained` of models, configs and tokenizers; those of our own measurements apart."""
    package = Path(__file__).parents[2] / "cai"
    bare = []
    for file in package.rglob("*.py"):
        if "bench" in file.parts:
            continue
        parts = file.read_text().split("from_pretrained(")
        for before, after in pairwise(parts):
            kind = before.rstrip(".").rpartition("\n")[2].rpartition(" ")[2].lstrip("(*")
            safe = ("NO_CODE", "SAFE", "trust_remote_code=False")
            if kind.startswith(("Auto", "kind")) and not any(word in after[:200] for word in safe):
                bare.append(f"{file.relative_to(package)}: {kind}")
    # Our own: a file that a pinned package carries, and what was just written by us, read back.
    assert {name.partition(":")[0] for name in bare} <= {"models/embedded.py", "models/export/check.py"}, bare
