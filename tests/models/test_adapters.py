"""An adapter is nothing without its base: it is known by it as well, and by nothing of where either of them lies."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from cai.core.errors import UserError
from cai.core.store import Store, digest_folder, read_stage, version
from cai.models.adapters import BASE
from cai.models.architectures import lora
from cai.models.embedded import TAUGHT
from cai.models.loading import load_causal, load_tokenizer, save
from cai.models.references import ModelRef, base_of, find, trained


def whole(folder: Path, tiny: ModelRef, value: float) -> Path:
    """A model in a folder, all of whose output weights have one value."""
    model: Any = load_causal(tiny, "float32", "cpu")
    model.lm_head.weight.data.fill_(value)
    save(model, load_tokenizer(tiny), folder)
    return folder


def adapted(folder: Path, base: ModelRef) -> Path:
    """An adapter on it that says something, the same one each time."""
    torch.manual_seed(0)
    model: Any = load_causal(base, "float32", "cpu")
    model = get_peft_model(model, lora(model, 2, None))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.5)
    save(model, load_tokenizer(base), folder)
    return folder


def head(source: ModelRef) -> float:
    return float(load_causal(source, "float32", "cpu").get_base_model().lm_head.weight[0, 0].detach())


@pytest.mark.parametrize("by", ["us", "peft"])
def test_an_adapter_has_another_digest_when_its_base_has_other_weights(tiny, tmp_path, capsys, by):
    adapter = adapted(tmp_path / "adapter", find(str(whole(tmp_path / "base", tiny, 1.0))))
    if by == "peft":  # which writes the base's name alone
        (adapter / BASE).unlink()
    before = find(str(adapter)).digest
    assert before == find(str(adapter)).digest
    whole(tmp_path / "base", tiny, 2.0)
    assert find(str(adapter)).digest != before and head(find(str(adapter))) == 2.0
    warned = f"note: {adapter}: its base, {tmp_path / 'base'}, is no longer the model that it was trained on\n"
    assert capsys.readouterr().err == (warned if by == "us" else ""), "once, where it is known"
    whole(tmp_path / "base", tiny, 1.0)
    assert find(str(adapter)).digest == before


def test_a_base_that_was_moved_is_used_where_it_is_now_and_not_what_stands_in_its_old_place(tiny, tmp_path):
    adapter = adapted(tmp_path / "adapter", find(str(whole(tmp_path / "base", tiny, 1.0))))
    known = find(str(adapter)).digest
    (tmp_path / "base").rename(tmp_path / "moved")
    whole(tmp_path / "base", tiny, 2.0)
    find(str(tmp_path / "moved"))  # as `policy.model` names it now
    assert find(str(adapter)).digest == known and head(find(str(adapter))) == 1.0


def test_an_adapters_digest_says_nothing_of_where_its_base_lies(tiny, tmp_path, monkeypatch):
    digests = set()
    for name in ("ann", "bob"):
        home = tmp_path / name
        monkeypatch.setenv("HOME", str(home))
        whole(home / "base", tiny, 1.0)
        for spelling in ("~/base", str(home / "base")):
            adapted(home / "adapter", find(spelling))
            digests.add(find("~/adapter").digest)
    assert len(digests) == 1


def test_an_adapter_on_an_embedded_model_has_the_same_bytes_whatever_the_home(tiny, tmp_path, monkeypatch):
    one = digest_folder(adapted(tmp_path / "one", tiny))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CAI_CACHE", str(tmp_path / "cache"))
    assert digest_folder(adapted(tmp_path / "two", find("tiny-random"))) == one
    written = "".join(file.read_text() for file in (tmp_path / "two").glob("*.json"))
    assert str(tmp_path) not in written
    assert not (tmp_path / "one" / "README.md").exists(), "PEFT's model card says nothing"


@version(1)
def train(out: Path, runtime: Any, *, model: ModelRef) -> None:
    adapted(out / "model", model)


@pytest.mark.parametrize("base", ["tiny-random", "models/base"])
def test_runs_that_were_copied_to_another_machine_are_found_and_load(tiny, tmp_path, monkeypatch, base):
    here, there = tmp_path / "here", tmp_path / "there"
    whole(here / "models/base", tiny, 1.0)
    monkeypatch.chdir(here)
    made = Store(here / "runs").stage(train, model=find(base))
    shutil.copytree(here, there)
    shutil.rmtree(here)
    monkeypatch.chdir(there)
    again = Store(there / "runs").stage(train, model=find(base))
    assert again.cached and (again.key, again.digest) == (made.key, made.digest)
    assert read_stage(again.path).digest == made.digest
    load_causal(trained(again, "sft"), "float32", "cpu")
    if base != "tiny-random":
        assert head(trained(again, "sft")) == 1.0


def test_what_is_no_adapter_or_has_no_base_is_refused_by_name(tiny, tmp_path, monkeypatch):
    adapter = adapted(tmp_path / "adapter", tiny)
    file = adapter / "adapter_config.json"
    good = json.loads(file.read_text())

    def refused(text: str) -> str:
        file.write_text(text)
        with pytest.raises(UserError) as caught:
            find(str(adapter))
        return f"{caught.value.where}: {caught.value.problem}"

    assert "adapter_config.json: not the settings of an adapter: Expecting value" in refused("")
    assert "adapter_config.json: not the settings of an adapter: it has no peft_type" in refused("[]")
    assert "this adapter names no base" in refused(json.dumps(good | {"base_model_name_or_path": None}))
    assert 'the base of this adapter, "/gone", is not here' in refused(
        json.dumps(good | {"base_model_name_or_path": "/gone"})
    )
    nested = refused(json.dumps(good | {"base_model_name_or_path": str(adapter)}))
    assert f'the base of this adapter, "{adapter}", is an adapter itself' in nested
    monkeypatch.setitem(TAUGHT, "taught", adapter)  # a name that stands for an adapter
    nested = refused(json.dumps(good | {"base_model_name_or_path": "taught"}))
    assert 'the base of this adapter, "taught", is an adapter itself' in nested
    file.write_text(json.dumps(good))
    assert base_of(adapter) == tiny
