"""Rows of records as they are written, and the quick ways of what every row goes through, beside the plain ways."""

import json
import math
import unicodedata
from dataclasses import asdict
from pathlib import Path

import pytest

from cai.core.draws import normal, uniform
from cai.core.records import Label, Message, Pair, Prompt, RaterVote, read_jsonl, write_jsonl
from cai.core.store import canonical

PROMPT = Prompt("p", (Message("user", 'Say "é"\n\u2028 ok?'),), "all", "train")


def test_a_row_is_written_as_plain_json_would_be(tmp_path: Path) -> None:
    pair = Pair("one", PROMPT, "yes", "né", 0.5, votes=(0.0, 1.0))
    write_jsonl(tmp_path / "rows", [pair, pair])
    line = (
        '{"id": "one", "prompt": {"id": "p", "messages": [{"role": "user", "content": "Say \\"é\\"\\n\u2028 ok?"}], '
        '"subset": "all", "split": "train"}, "a": "yes", "b": "né", "human": 0.5'
    )
    text = (tmp_path / "rows").read_text(encoding="utf-8")
    assert text.startswith(line) and text == 2 * (json.dumps(asdict(pair), ensure_ascii=False) + "\n")
    assert read_jsonl(tmp_path / "rows", Pair) == [pair, pair]


def test_records_within_records_and_numbers_that_are_none(tmp_path: Path) -> None:
    label = Label("one", math.nan, "ai", said=(RaterVote("ann", 0.0), RaterVote("bob", 1.0)))
    write_jsonl(tmp_path / "rows", [label])
    assert json.loads((tmp_path / "rows").read_text())["said"] == [asdict(vote) for vote in label.said]
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "rows", [object()])


def test_text_is_compared_in_one_form_whether_it_is_plain_or_not() -> None:
    # A soft hyphen shows nothing, a blank braille cell is a gap, and the ligature is two letters.
    assert normal("  a\tb\r\n c ") == "a b c" == normal("a\u2800b\u00ad c")
    assert normal("o\ufb03ce") == "office"
    plain = "".join(map(chr, range(128)))
    slow = "".join(char for char in unicodedata.normalize("NFKC", plain) if unicodedata.category(char) != "Cf")
    assert normal(plain) == " ".join(slow.split())


def test_a_draw_is_as_it_was() -> None:
    assert canonical(("pair", 0, True, None, 1.5, [PROMPT.subset])) == ["pair", 0, True, None, 1.5, ["all"]]
    assert uniform("pair", 0, "x") == 0.10727632352086847
    with pytest.raises(AssertionError, match="no canonical form for <class 'object'>"):
        canonical([object()])
