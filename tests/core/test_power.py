"""Power cuts: what was finished is there and whole, at whatever moment the power goes and whatever chance keeps."""

from pathlib import Path

import pytest
from power import WAYS, Disk
from test_ppo import trainer
from transformers import TrainerCallback

from cai.core.durable import make_folders, write_whole
from cai.core.store import Damage, Store, read_stage, version
from cai.train.checkpoints import COMPLETE, last_checkpoint


@pytest.fixture
def disk(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk", monkeypatch)
    yield made
    made.close()


def cuts(disk: Disk, tmp_path: Path, check) -> None:
    """Have `check` look at every moment's remains."""

    def at_cut(moment: int) -> None:
        for way in WAYS:
            check(disk.after_cut(way, tmp_path / f"after-{way}", seed=moment))

    disk.at_cut = at_cut


@version(1)
def small(out, runtime, *, n):
    (out / "inner" / "deep").mkdir(parents=True)
    for name in ("rows.jsonl", "inner/weights", "inner/deep/more"):
        (out / name).write_text(f"{name} {n} " * 50)


def test_a_disk_that_forgets(disk, tmp_path):
    """The simulation itself: without fsync a rename leaves a name without contents, or nothing."""
    (disk.root / "new").write_text("words")
    (disk.root / "new").rename(disk.root / "file")
    assert list(disk.after_cut("nothing else", tmp_path / "a").iterdir()) == []
    assert (disk.after_cut("names", tmp_path / "a") / "file").read_text() == ""
    write_whole(disk.root / "file", "other words")
    for way in WAYS:
        assert (disk.after_cut(way, tmp_path / "a", seed=1) / "file").read_text() == "other words"


def test_finished_stages_are_there_and_whole_after_any_cut(disk, tmp_path, monkeypatch):
    done: list[Path] = []
    hurt: list[str] = []
    seen = set()

    def check(image: Path) -> None:
        store = image / "runs" / "store"
        found = {one.name for one in store.iterdir() if "." not in one.name} if store.is_dir() else set()
        assert found >= {path.name for path in done}
        for name in found:
            monkeypatch.setattr("cai.core.store._checked", {})
            try:
                assert read_stage(store / name) is not None
            except Damage:
                assert name in hurt
        seen.add(len(found))

    cuts(disk, tmp_path, check)
    for n in range(3):
        done.append(Store(disk.root / "runs").stage(small, n=n).path)
        disk._cut()
    damaged = done.pop(0)
    hurt.append(damaged.name)
    (damaged / "rows.jsonl").write_text("damage")
    assert Store(disk.root / "runs").stage(small, n=0).path == damaged
    done.append(damaged)
    hurt.clear()
    disk._cut()
    assert disk.moments > 60 and seen >= {0, 1, 2, 3}


def test_a_report_is_the_old_one_or_the_new_one_after_any_cut(disk, tmp_path):
    written: list[str] = []

    def check(image: Path) -> None:
        file = image / "runs" / "mine" / "results.json"
        assert not written or file.read_text() in (written[-1], f"{written[-1]} again")

    make_folders(disk.root / "runs" / "mine")
    write_whole(disk.root / "runs" / "mine" / "results.json", "results")
    written.append("results")
    cuts(disk, tmp_path, check)
    write_whole(disk.root / "runs" / "mine" / "results.json", "results again")
    written.append("results again")
    disk._cut()


class Saved(TrainerCallback):
    def __init__(self, disk: Disk) -> None:
        self.disk, self.steps = disk, []

    def on_save(self, args, state, control, **_) -> None:
        self.steps.append(state.global_step)
        self.disk._cut()


def test_a_complete_checkpoint_of_ppo_is_whole_after_any_cut(disk, tmp_path):
    saved, seen, out = Saved(disk), set(), disk.root / "out"
    out.mkdir()

    def check(image: Path) -> None:
        last = last_checkpoint(image / "out")
        assert last is not None or not saved.steps, "a checkpoint that was finished is lost"
        if last:
            assert int(last.name.rpartition("-")[2]) >= max(saved.steps, default=0)
            live = [file for file in (out / last.name).rglob("*") if file.is_file() and not file.name.startswith(".")]
            assert len(live) > 5 and (out / last.name / COMPLETE) in live
            for file in live:
                assert (last / file.relative_to(out / last.name)).read_bytes() == file.read_bytes(), file
            seen.add(last.name)

    cuts(disk, tmp_path, check)
    trainer(out, rollouts=4, save_strategy="steps", save_steps=1, save_total_limit=2, callbacks=[saved]).train()
    assert saved.steps == [2, 4, 6, 8] and seen == {f"checkpoint-{n}" for n in saved.steps}
