"""An engine is one file in cai/models/engines/: what `cai/README.md` says of it is done here."""

from dataclasses import replace

import cai.models.engines
from cai.config.runtime import Runtime
from cai.core.records import Message
from cai.models.engines import Question, Reading, Reply, Request, Sampling
from cai.models.workbench import Workbench

PARROT = '''
from cai.models.engines import Reading, Reply


class Parrot:
    """Says what it was told, and thinks nothing of any option but the first."""

    def generate(self, requests, sampling):
        yield [(index, Reply(request.chat[-1].content, "stop")) for index, request in enumerate(requests)]

    def choose(self, questions, max_length):
        yield [(index, Reading((-1.0,) + (-2.0,) * (len(q.options) - 1))) for index, q in enumerate(questions)]


def open_engine(model, *, dtype, system, device, runtime):
    return Parrot()
'''


def test_an_engine_is_one_file(tiny, tmp_path, monkeypatch):
    (tmp_path / "parrot.py").write_text(PARROT)
    monkeypatch.setattr(cai.models.engines, "__path__", [*cai.models.engines.__path__, str(tmp_path)])
    work = Workbench.open(Runtime(root=str(tmp_path / "runs"), device="cpu"))
    engine = work.engine(replace(tiny, engine="parrot"), dtype="float32", system=None)
    chat = (Message("user", "Good morning"),)
    assert engine.generate([Request(chat, 1)], Sampling(4), "drafts") == [Reply("Good morning", "stop")]
    assert engine.choose([Question(chat, ("Yes", "No"))], 99, "votes") == [Reading((-1.0, -2.0))]
