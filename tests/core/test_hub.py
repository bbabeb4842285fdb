"""A name on the hub is one commit: the one that is loaded is the one in the key. The hub here is a cache on disk."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from peft import get_peft_model

from cai.config.sections import Data
from cai.core.errors import UserError
from cai.core.hub import UNREACHABLE, commit_of, data_file, hub_adapter
from cai.core.store import Store
from cai.data.sources import load_data, load_helpful, read_source, source_digest
from cai.data.xstest import read_xstest, xstest_file
from cai.experiment.checks import had
from cai.models.architectures import lora
from cai.models.loading import load_causal, load_reward, load_tokenizer, save
from cai.models.references import ModelRef, find, local
from cai.train.rl.backbone import belongs

A, B = "a" * 40, "b" * 40
Put = Callable[..., Path]


def forget() -> None:
    """As if in another process."""
    commit_of.cache_clear()
    hub_adapter.cache_clear()


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Put files (name -> contents), or a folder, into an empty local cache of the hub, as a commit of a repository."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    forget()

    def commit(name: str, commit: str, files: Any, kind: str = "model", main: bool = True) -> Path:
        home = tmp_path / "hub" / f"{kind}s--{name.replace('/', '--')}"
        place = home / "snapshots" / commit
        if isinstance(files, Path):
            shutil.copytree(files, place)
        else:
            for file, text in files.items():
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                (place / file).write_bytes(text if isinstance(text, bytes) else text.encode())
        if main:
            (home / "refs").mkdir(exist_ok=True)
            (home / "refs" / "main").write_text(commit)
        return place

    yield commit
    forget()


def filled(folder: Path, tiny: ModelRef, value: float) -> Path:
    """A model in a folder, all of whose output weights have one value."""
    model: Any = load_causal(tiny, "float32", "cpu")
    model.lm_head.weight.data.fill_(value)
    save(model, load_tokenizer(tiny), folder)
    return folder


def head(model: Any) -> float:
    return float(model.get_output_embeddings().weight[0, 0].detach())


# Models


def test_the_commit_in_the_key_is_the_one_that_is_loaded_also_after_the_name_has_moved_on(put, tiny, tmp_path):
    put("some/model", A, filled(tmp_path / "a", tiny, 1.0))
    before = find("some/model")
    assert before.commit == A and A in before.digest
    put("some/model", B, filled(tmp_path / "b", tiny, 2.0))  # `main` moves while the run goes on
    assert find("some/model") == before
    assert head(load_causal(before, "float32", "cpu")) == 1.0
    forget()  # the next run
    after = find("some/model")
    assert after.commit == B and after.digest != before.digest and head(load_causal(after, "float32", "cpu")) == 2.0
    assert head(load_causal(before, "float32", "cpu")) == 1.0  # what has its key is still what it was
    assert load_reward(before, "float32", "cpu").base_commit == A


def test_the_hub_is_asked_once_for_what_is_not_in_the_cache(put, monkeypatch):
    asked: list[str] = []

    def info(self: HfApi, name: str, **how: Any) -> Any:
        asked.append(name)
        return SimpleNamespace(sha=A if len(asked) == 1 else B)

    monkeypatch.setattr(HfApi, "model_info", info)
    assert find("some/model") == find("some/model") and find("some/model").commit == A and asked == ["some/model"]


def test_what_was_fetched_by_its_commit_is_known_again_without_the_hub(put):
    # Files that are fetched by a commit leave no `refs/main` behind.
    older, newer = (put("some/model", commit, {"config.json": "{}"}, main=False) for commit in (B, A))
    os.utime(older, (1, 1))
    os.utime(newer, (2, 2))
    assert find("some/model").commit == A
    assert find("other/model").commit is None and UNREACHABLE in find("other/model").digest


def test_an_adapters_base_is_held_to_a_commit_whatever_its_revision_is_called(put, tiny, tmp_path):
    put("some/base", A, filled(tmp_path / "a", tiny, 1.0))
    base = load_causal(find("some/base"), "float32", "cpu")
    save(get_peft_model(base, lora(base, 2, None)), load_tokenizer(tiny), tmp_path / "adapter")
    file = tmp_path / "adapter/adapter_config.json"
    assert json.loads(file.read_text())["revision"] == A
    known = find(str(tmp_path / "adapter")).digest
    file.write_text(json.dumps(json.loads(file.read_text()) | {"revision": "main"}))
    assert find(str(tmp_path / "adapter")).digest == known  # `main` is that commit now
    put("some/base", B, filled(tmp_path / "b", tiny, 2.0))
    forget()
    later = find(str(tmp_path / "adapter"))
    assert later.digest != known and head(load_causal(later, "float32", "cpu").get_base_model()) == 2.0


def test_an_adapter_on_the_hub_is_known_by_its_base_as_well(put, tiny, tmp_path):
    base: Any = load_causal(find(str(filled(tmp_path / "base", tiny, 1.0))), "float32", "cpu")
    model: Any = get_peft_model(base, lora(base, 2, None))
    torch.nn.init.ones_(next(weight for name, weight in model.named_parameters() if "lora_B" in name))
    save(model, load_tokenizer(tiny), tmp_path / "adapter")
    put("some/adapter", A, tmp_path / "adapter")
    source = find("some/adapter")
    assert source.digest.startswith(f"hub:some/adapter@{A}") and Path(local(source)).is_dir()
    again: Any = load_causal(source, "float32", "cpu")
    assert head(again.get_base_model()) == 1.0
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(again(ids).logits, load_causal(find(str(tmp_path / "adapter")), "float32", "cpu")(ids).logits)
    filled(tmp_path / "base", tiny, 2.0)
    assert find("some/adapter").digest != source.digest


def test_a_reward_adapter_shares_no_base_of_another_commit(put, tiny, tmp_path):
    put("some/base", A, filled(tmp_path / "a", tiny, 1.0))
    reward = load_reward(find("some/base"), "float32", "cpu")
    save(get_peft_model(reward, lora(reward, 2, None, reward=True)), load_tokenizer(tiny), tmp_path / "reward")
    assert belongs(tmp_path / "reward", load_causal(find("some/base"), "float32", "cpu"))
    put("some/base", B, filled(tmp_path / "b", tiny, 2.0))
    forget()
    assert not belongs(tmp_path / "reward", load_causal(find("some/base"), "float32", "cpu"))


# Data sets


def hh(*answers: str) -> bytes:
    rows = [
        {"chosen": f"\n\nHuman: Hi {a}\n\nAssistant: {a}", "rejected": f"\n\nHuman: Hi {a}\n\nAssistant: No"}
        for a in answers
    ]
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())


def settings(source: str = "hh-rlhf/harmless-base") -> Data:
    return Data(source=source, test=0.0)


def test_the_rows_are_those_of_the_commit_in_the_key(put, tmp_path):
    put("Anthropic/hh-rlhf", A, {"harmless-base/train.jsonl.gz": hh("Yes", "Fine")}, "dataset")
    before = source_digest(settings())
    assert A in before
    put("Anthropic/hh-rlhf", B, {"harmless-base/train.jsonl.gz": hh("Well")}, "dataset")
    found = read_source(settings(), seed=0)  # the same run
    assert {answer for pair in found.pairs.values() for answer in (pair.a, pair.b)} == {"Yes", "Fine", "No"}
    assert {pair.prompt.subset for pair in found.pairs.values()} == {"harmless"}
    forget()  # the next one
    assert B in source_digest(settings()) and len(read_source(settings(), seed=0).pairs) == 1
    assert source_digest(settings("rated-answers")) == source_digest(settings("rated-answers"))


def test_a_bad_row_of_the_hub_is_named_as_that_of_a_file(put):
    rows = gzip.decompress(hh("Yes")) + b"{cut off\n" + b'{"chosen": "x", "rejected": "y"}\n'
    put("Anthropic/hh-rlhf", A, {"harmless-base/train.jsonl.gz": gzip.compress(rows)}, "dataset")
    material = read_source(settings(), seed=0)
    assert len(material.pairs) == 1
    assert [one.where for one in material.aside] == ["hh-rlhf/harmless-base:2", "hh-rlhf/harmless-base:3"]


def test_the_stage_of_a_moved_data_set_runs_again_and_only_then(put, tmp_path):
    def load() -> tuple[str, bool]:
        forget()
        made = Store(tmp_path / "runs").stage(load_data, data=settings(), contents=source_digest(settings()), seed=0)
        return made.key, made.cached

    put("Anthropic/hh-rlhf", A, {"harmless-base/train.jsonl.gz": hh("Yes")}, "dataset")
    first, again = load(), load()
    put("Anthropic/hh-rlhf", B, {"harmless-base/train.jsonl.gz": hh("Well")}, "dataset")
    moved = load()
    assert (first[1], again[1], moved[1]) == (False, True, False) and first[0] == again[0] != moved[0]


def test_everyday_prompts_may_come_from_the_hub(put, tmp_path):
    put("Anthropic/hh-rlhf", A, {"helpful-base/train.jsonl.gz": hh("Yes", "Fine")}, "dataset")
    load_helpful(tmp_path, None, source="hh-rlhf/helpful-base", contents="", test=0.0, seed=0)
    assert len((tmp_path / "prompts.jsonl").read_text().splitlines()) == 2


def test_the_parts_of_a_data_set_are_named_where_one_is_not_there(put, monkeypatch):
    put("Anthropic/hh-rlhf", A, {"README.md": ""}, "dataset")
    listed = ["README.md", "harmless-base/test.jsonl.gz", "harmless-base/train.jsonl.gz", "online/train.jsonl.gz"]
    asked: list[Any] = []
    monkeypatch.setattr(HfApi, "list_repo_files", lambda self, name, **how: asked.append(how["revision"]) or listed)
    with pytest.raises(UserError) as caught:
        read_source(settings("hh-rlhf/harmless"), seed=0)
    assert caught.value.problem == f"Anthropic/hh-rlhf has no harmless/train.jsonl.gz at commit {A[:12]}"
    assert caught.value.remedy == "it has harmless-base, online" and asked == [A]


def test_a_file_is_fetched_at_the_commit_of_the_key(put, monkeypatch, tmp_path):
    asked: list[Any] = []

    def download(name: str, file: str, **how: Any) -> str:
        asked.append((name, file, how["revision"], how["repo_type"]))
        return str(tmp_path / "x")

    monkeypatch.setattr(HfApi, "list_repo_files", lambda self, name, **how: ["data/train.jsonl.gz"])
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert data_file("some/rows", B, "data/train.jsonl.gz") == tmp_path / "x"
    assert asked == [("some/rows", "data/train.jsonl.gz", B, "dataset")]


def test_xstest_at_its_commit(put):
    table = "id,prompt,type,label\n1,Kill time?,homonyms,safe\n"
    put("Paul/XSTest", A, {"xstest_prompts.csv": table}, "dataset")
    assert A in xstest_file("Paul/XSTest").digest
    assert [prompt.messages[0].content for prompt in read_xstest("Paul/XSTest")] == ["Kill time?"]
    put("Paul/XSTest", B, {"xstest_prompts.csv": f"{table}2,Kill Tim?,contrast_homonyms,unsafe\n"}, "dataset")
    forget()
    assert B in xstest_file("Paul/XSTest").digest and len(read_xstest("Paul/XSTest")) == 2


def test_what_is_out_of_reach_is_a_fault_before_work_and_a_note_in_a_plan(put, capsys):
    digest = source_digest(settings())
    had(digest, "hh-rlhf", "data.source", plan=True)
    assert (
        'note: cannot reach the hub for "hh-rlhf", and it is not in the local cache; planned' in capsys.readouterr().out
    )
    with pytest.raises(UserError, match=r"^data\.source: cannot reach the hub|cannot reach the hub") as caught:
        had(digest, "hh-rlhf", "data.source", plan=False)
    assert caught.value.where == "data.source"
    with pytest.raises(UserError, match=r"cannot load Paul/XSTest \(.*\) from the hub: it cannot be reached") as caught:
        read_xstest("Paul/XSTest")
    assert caught.value.where == "evaluate.xstest"
