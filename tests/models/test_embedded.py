"""Embedded models: made once, whole or not at all."""

from pathlib import Path

import pytest

from cai.models.embedded import EMBEDDED, TINY, build
from cai.models.references import find, local


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
