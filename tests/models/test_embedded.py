"""Embedded models: made once, whole or not at all."""

from pathlib import Path

import pytest

from cai.config.served import Server
from cai.core.packages import cache_folder
from cai.models.embedded import EMBEDDED, TINY, build
from cai.models.loading import load_tokenizer
from cai.models.references import find, find_served, local


def test_a_model_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_CACHE", str(tmp_path))
    home = build(TINY)
    assert home == tmp_path / "models" / TINY == Path(local(find(TINY)))
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        p.name for p in home.iterdir()
    }
    assert list(home.parent.iterdir()) == [home]
    monkeypatch.setattr("cai.models.embedded._tiny", lambda: pytest.fail("made again"))
    assert build(TINY) == home


def test_what_cannot_be_saved_is_never_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn:
        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text("{}")
            raise OSError(28, "No space left on device")

    monkeypatch.setenv("CAI_CACHE", str(tmp_path))
    monkeypatch.setattr("cai.models.embedded._from_gguf", lambda *what: (Torn(), Torn()))
    with pytest.raises(OSError):
        build(next(iter(EMBEDDED)))
    assert list((tmp_path / "models").iterdir()) == []


def test_of_two_processes_that_make_a_model_at_once_the_first_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen with seven runs that began together in an empty cache: another was faster between the look and the rename.
    home = tmp_path / "models" / TINY

    class Overtaken:
        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text("mine")

    def sync_tree(folder: Path) -> None:  # the last moment before the rename
        home.mkdir()
        (home / "config.json").write_text("the other's")

    monkeypatch.setenv("CAI_CACHE", str(tmp_path))
    monkeypatch.setattr("cai.models.embedded._tiny", lambda: (Overtaken(),))
    monkeypatch.setattr("cai.core.durable.sync_tree", sync_tree)
    assert build(TINY) == home and (home / "config.json").read_text() == "the other's"
    assert list(home.parent.iterdir()) == [home]


@pytest.mark.real
def test_a_served_model_needs_no_weights_here(
    real, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokenizer comes off the GGUF file alone, and is that of the converted model."""
    whole = load_tokenizer(real)
    packages = cache_folder() / "packages"
    monkeypatch.setenv("CAI_CACHE", str(tmp_path))
    (tmp_path / "packages").symlink_to(packages)
    served = load_tokenizer(find_served("smollm2-135m", Server(url=("http://127.0.0.1:1/v1",))))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["smollm2-135m-tokenizer"]
    assert served.get_vocab() == whole.get_vocab() and served.chat_template == whole.chat_template
    assert (served.pad_token, served.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert served.model_max_length == whole.model_max_length == 8192
