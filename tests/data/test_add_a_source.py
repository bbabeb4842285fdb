"""A data source is one file in cai/data/sources/: what `cai/README.md` says of it is done here."""

import pytest

import cai.data.sources
from cai.config.sections import Data
from cai.core.errors import UserError
from cai.core.records import Pair, read_jsonl
from cai.core.store import Store
from cai.data.sources import at_hand, load_data, source_digest

COLOURS = """
from cai.core.draws import identity
from cai.core.records import Message, Prompt
from cai.data.material import Material, Source, make_pair, split_of


def read(data, seed):
    name = identity("colour", "Which colour?")
    prompt = Prompt(name, (Message("user", "Which colour?"),), "all", split_of(name, data, seed))
    pair = make_pair(prompt, "Blue", "Red", human=1.0, votes=(1.0,), seed=seed)
    return Material({name: prompt}, {pair.id: pair})


SOURCE = Source("colours", lambda name: name == "colours", lambda name, key: "colours 1", lambda name: True, read)
"""


def test_a_source_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "colours.py").write_text(COLOURS)
    monkeypatch.setattr(cai.data.sources, "__path__", [*cai.data.sources.__path__, str(tmp_path)])
    data = Data(source="colours")
    made = Store(tmp_path / "runs").stage(load_data, data=data, contents=source_digest(data), seed=0)
    (pair,) = read_jsonl(made / "pairs.jsonl", Pair)
    assert at_hand(data) and {pair.a: pair.human, pair.b: 1 - (pair.human or 0)} == {"Blue": 1.0, "Red": 0.0}
    with pytest.raises(UserError, match="give arithmetic, hh-rlhf/harmless-base, rated-answers, colours, or a file"):
        source_digest(Data(source="none.jsonl"))
