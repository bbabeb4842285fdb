"""Every reader of a file that a user gives, and what happens to files: cut off, a hole of zeros, another encoding, the
marks and line ends of other systems, nothing in it, a folder in its place. Each is read, or its place is named, and no
row is lost without a word."""

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from cai.annotate.sheet import find_pairs, judge_labels, reward_margins
from cai.compare.human_ratings import AnswerToRate, read_ratings
from cai.config.load import read_sweep
from cai.config.processes import read_accelerate
from cai.config.sections import Data
from cai.config.validation import Fault
from cai.constitution.paper import import_paper
from cai.constitution.parse import read_constitution
from cai.core.errors import UserError
from cai.core.records import Label, Message, Pair, Prompt
from cai.core.templates import load_template
from cai.data.annotated import principle_votes
from cai.data.comparisons import read_comparisons
from cai.data.demonstrations import read_demonstrations
from cai.data.feedback import FeedbackLog, ShownAnswer
from cai.data.label_log import LabelLog, make_row
from cai.data.labels import read_labels
from cai.data.polis import read_conversation
from cai.data.publics import groups_in
from cai.data.rows.reader import read_file
from cai.data.rubrics import read_rubrics
from cai.data.texts import read_corpus
from cai.data.xstest import read_xstest
from cai.judge.attack.exploits import read_exploits
from cai.judge.moderation import read_words
from cai.models.chat_templates import settle
from cai.train.scores import Score

PAIRS = [
    Pair(f"i{n}", Prompt(f"p{n}", (Message("user", f"Größer als {n}?"),), "all", "test"), f"x{n}", f"y{n}")
    for n in range(4)
]
Aside = list[tuple[str, str]]


@dataclass(frozen=True)
class Reader:
    """text: of a whole file, with letters that are no ASCII in every row. read: what is kept of it, and (where, why) of
    each row that is not. cut: whether it can be told that its last line was cut. name: of the file."""

    text: str
    read: Callable[[Path], tuple[Any, Aside]]
    name: str = "mine.jsonl"
    cut: bool = True


def rows(*made: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)


def aside(of: Any) -> Aside:
    return [(row.where, row.reason) for row in of]


def kept(read: Callable[[Path], Any]) -> Callable[[Path], tuple[Any, Aside]]:
    """Of a reader that sets no row aside: it refuses the file."""
    return lambda path: (read(path), [])


def of_data(path: Path) -> tuple[Any, Aside]:
    reading = read_file(path, Data(source=str(path)), 0)
    return sorted((pair.prompt.messages[0].content, pair.a, pair.b) for pair in reading.pairs.values()), aside(
        reading.aside
    )


def of_comparisons(path: Path) -> tuple[Any, Aside]:
    read = read_comparisons(path)
    return [item.pair.prompt.messages for item in read.items], list(read.faults)


def of_pairs(path: Path) -> tuple[Any, Aside]:
    read = find_pairs(path)
    return [pair.prompt.messages for pair in read.pairs], list(read.faults)


def of_labels(path: Path) -> tuple[Any, Aside]:
    votes, left = read_labels(path, PAIRS)
    return votes, aside(left)


def of_demonstrations(path: Path) -> tuple[Any, Aside]:
    read = read_demonstrations(path, str(path), ())
    return sorted((row.prompt.messages[0].content, row.draft) for row in read.answers), aside(read.aside)


def of_log(kind: type, what: Callable[[Any], Any]) -> Callable[[Path], tuple[Any, Aside]]:
    def read(path: Path) -> tuple[Any, Aside]:
        log = kind(path)
        return what(log), log.faults

    return read


def of_votes(path: Path) -> tuple[Any, Aside]:
    comments = path.with_name("comments of it.csv")
    comments.write_text(COMMENTS)
    return read_conversation(path, comments).votes, []


def of_comments(path: Path) -> tuple[Any, Aside]:
    votes = path.with_name("votes on it.csv")
    votes.write_text(VOTES)
    return [statement.text for statement in read_conversation(votes, path).statements], []


def of_chat_template(path: Path) -> tuple[Any, Aside]:
    class Tokenizer:
        chat_template = None

    settle(Tokenizer, str(path), "a model")
    return (Tokenizer.chat_template or "").strip(), []


COMMENTS = "comment-id,comment-body,moderated\n0,Schön ist es,1\n1,Größer ist es,1\n"
VOTES = "participant,group-id,0,1\n0,grün,1,-1\n1,grau,-1,1\n2,grün,1,1\n3,weiß,0,0\n"
TABLE = "prompt,a,b,human\n" + "".join(f"Größer als {n}?,schön,nein {n},1\n" for n in range(4))
DATA = [{"prompt": f"Größer als {n}?", "a": "schön", "b": f"nein {n}", "human": 1, "split": "test"} for n in range(4)]
LABELS = [{"pair_id": f"i{n}", "choice": "a", "rater": f"Jörg {n}", "group": f"grün-{n % 2}"} for n in range(4)]
SHOWN = [
    ShownAnswer(
        id=f"a{n}", rater="Jörg", policy="0", prompt_id="p", messages=(Message("user", "q"),), tokens=(1, 2),
        pieces=("a", "b"), candidates=1, predicted=None, error=None, at="",
    )
    for n in range(4)
]  # fmt: skip
ANSWERS = [AnswerToRate(f"a{n}", PAIRS[n].prompt, "x", ("sft",)) for n in range(4)]
ICAI = {
    "metadata": {"version": "2.0"},
    "annotators": {"1": {"description": "größer", "type": "principle"}},
    "comparisons": [
        {"id": f"ö{n}", "prompt": f"q{n}", "response_a": {"text": "x"}, "response_b": {"text": "y"},
         "annotations": {"1": {"pref": "a"}}}
        for n in range(3)
    ],
}  # fmt: skip
PAPER = [f"Please choose the assistant response that is größer than {n}.\n\nOptions:" for n in range(3)]
EXPLOITS = "## control\n\nIt is größer than it was.\n\n## flattery\n\nSchön! {{ answer }}\n"
CRITERIA = [{"subset": f"s{n}", "rubrics": [{"criterion": f"größer als {n}", "points": 1}]} for n in range(4)]

READERS: dict[str, Reader] = {
    "data": Reader(rows(*DATA), of_data),
    "data, a table": Reader(TABLE, of_data, "mine.csv"),
    "data, an array": Reader(json.dumps(DATA, ensure_ascii=False, indent=1), of_data, "mine.json"),
    "comparisons": Reader(rows(*DATA), of_comparisons),
    "pairs to label": Reader(rows(*DATA), of_pairs),
    "labels": Reader(rows(*LABELS), of_labels),
    "groups": Reader(rows(*LABELS), kept(groups_in), cut=False),  # what is cut is named where its labels are read
    "label log": Reader(
        rows(*(asdict(make_row(pair, "Jörg", "a", "a")) for pair in PAIRS)),
        of_log(LabelLog, lambda log: [row.pair_id for row in log.in_force()]),
    ),
    "feedback log": Reader(rows(*map(asdict, SHOWN)), of_log(FeedbackLog, lambda log: [*log.answers])),
    "demonstrations": Reader(
        rows(*({"prompt": f"Größer als {n}?", "answer": f"schön {n}"} for n in range(4))), of_demonstrations
    ),
    "rubrics": Reader(rows(*CRITERIA), kept(lambda path: [row.items for row in read_rubrics(path).rows])),
    "votes of a conversation": Reader(VOTES, of_votes, "votes.csv"),
    "its comments": Reader(COMMENTS, of_comments, "comments.csv"),
    "texts": Reader(
        rows(*({"text": f"größer als {n}"} for n in range(30))),
        kept(lambda path: sorted(row.text for row in read_corpus([str(path)], 0.3, 0).train)),
    ),
    "running text": Reader(
        "".join(f"Größer als {n} und schöner.\n\n" for n in range(2000)),
        kept(lambda path: sorted(row.text for row in read_corpus([str(path)], 0.3, 0).train)), "mine.txt", cut=False,
    ),
    "annotated pairs": Reader(json.dumps(ICAI, ensure_ascii=False, indent=1), kept(principle_votes), "mine.json"),
    "people's ratings": Reader(
        rows(*({"id": f"a{n}", "answer": "größer", "rating": 0.5} for n in range(4))),
        kept(lambda path: read_ratings(path, ANSWERS)),
    ),
    "xstest": Reader(
        "id,prompt,type,label\n" + "".join(f"{n},größer als {n},t,safe\n" for n in range(4)),
        kept(lambda path: [prompt.messages for prompt in read_xstest(str(path))]), "mine.csv",
    ),
    "a judge's labels": Reader(rows(*(asdict(Label(f"ö{n}", 0.5, "ai")) for n in range(4))), kept(judge_labels)),
    "rewards": Reader(
        rows(*(asdict(Score(f"ö{n}", side, 1.0)) for n in range(2) for side in "ab")),
        kept(lambda path: reward_margins([path])),
    ),
    "experiment": Reader(
        "constitution: constitutions/short.txt\ndata: {source: rated-answers}\nname: größer\n",
        kept(lambda path: read_sweep(path)[0].name), "mine.yaml", cut=False,
    ),
    "accelerate": Reader(
        "distributed_type: MULTI_CPU  # größer\nnum_processes: 2\n",
        kept(lambda path: dict(read_accelerate(str(path)))), "mine.yaml", cut=False,
    ),
    "constitution": Reader(
        "- Choose the größere.\n- Choose the schönere one.\n",
        kept(lambda path: [p.name for p in read_constitution(path).principles]), "mine.txt", cut=False,
    ),
    "the paper's": Reader(json.dumps(PAPER, ensure_ascii=False), kept(lambda path: import_paper([path])), "mine.json"),
    "template": Reader(
        "## user\n\nIs {{ it }} größer?\n", kept(lambda path: load_template(path).render(it="it")), "mine.jinja",
        cut=False,
    ),
    "exploits": Reader(
        EXPLOITS, kept(lambda path: [(row.name, row.source) for row in read_exploits(path).exploits]), "mine.txt",
        cut=False,
    ),
    "list of words": Reader("größer\nschön*\n", kept(lambda path: read_words(str(path))), "mine.txt", cut=False),
    "chat template": Reader(
        "{% for m in messages %}größer\n{{ m['content'] }}{% endfor %}\n", of_chat_template, "mine.jinja", cut=False
    ),
}  # fmt: skip
ALL = pytest.mark.parametrize("name", READERS)


def outcome(name: str, raw: bytes | None, folder: Path) -> tuple[Any, str]:
    """(what is kept, None where the file is refused; all that is said of it). raw: None for a folder."""
    reader, file = READERS[name], folder / READERS[name].name
    if raw is None:
        file.mkdir()
    else:
        file.write_bytes(raw)
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            value, left = reader.read(file)
    except (UserError, Fault) as error:
        return None, str(error)
    return value, told.getvalue() + "".join(f"{where}: {why}\n" for where, why in left)


def names_a_place(said: str, name: str) -> bool:
    """Whether it says file:line, file:row n; of YAML that no stage reads (accelerate's) the file alone."""
    place = r"" if name == "accelerate" else r":(row |comparisons )?\d+"
    return bool(re.search(re.escape(READERS[name].name) + place, said))


@ALL
def test_a_whole_file_is_read_and_nothing_is_said_of_it(name, tmp_path):
    value, said = outcome(name, READERS[name].text.encode(), tmp_path)
    assert value and not said


@ALL
@pytest.mark.parametrize("how", ["with a byte order mark", "with the line ends of Windows", "without the last one"])
def test_the_marks_of_other_systems_change_nothing(name, how, tmp_path):
    raw = READERS[name].text.encode()
    whole, _ = outcome(name, raw, tmp_path)
    (tmp_path / READERS[name].name).unlink()
    ways = {
        "with a byte order mark": b"\xef\xbb\xbf" + raw,
        "with the line ends of Windows": raw.replace(b"\n", b"\r\n"),
        "without the last one": raw.rstrip(b"\n"),
    }
    value, said = outcome(name, ways[how], tmp_path)
    assert not said and repr(value).replace("\\r", "").replace("\r\n", "\n") == repr(whole)


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.cut])
@pytest.mark.parametrize("most", [1, 5])
def test_a_half_written_last_line_is_named(name, most, tmp_path):
    raw = READERS[name].text.encode().rstrip()
    while not raw[-most - 1 : -most].isalnum():  # in the middle of a word, a number or a letter
        most += 1
    if READERS[name].name.endswith("csv"):
        most = len(raw) - raw.rfind(b",", 0, raw.rfind(b","))  # a cell less
    _, said = outcome(name, raw[:-most], tmp_path)
    assert names_a_place(said, name), said


@ALL
@pytest.mark.parametrize("where", [0.2, 0.7, 1.0])
def test_a_hole_of_zero_bytes_is_named(name, where, tmp_path):
    raw = READERS[name].text.encode()
    at = int(where * len(raw))
    _, said = outcome(name, raw[:at] + b"\0" * 512 + raw[at:], tmp_path)
    assert names_a_place(said, name) or name == "groups", said  # as above


@ALL
def test_another_encoding_is_named_where_it_is_not_read(name, tmp_path):
    text = READERS[name].text
    whole, _ = outcome(name, text.encode(), tmp_path)
    (tmp_path / READERS[name].name).unlink()
    if not text.isascii():
        value, said = outcome(name, text.encode("latin-1"), tmp_path)
        assert not value and names_a_place(said, name), said
        (tmp_path / READERS[name].name).unlink()
    value, said = outcome(name, text.encode("utf-16"), tmp_path)
    assert value == whole if not said else not value and names_a_place(said, name), said


@ALL
@pytest.mark.parametrize("raw", [b"", b"\n \n", b"\xef\xbb\xbf"], ids=["empty", "blank", "a mark alone"])
def test_a_file_without_anything_is_refused(name, raw, tmp_path):
    """But for logs, which begin so, and for what is refused by who asked for it."""
    value, said = outcome(name, raw, tmp_path)
    assert not value
    assert said or name.endswith("log") or name.startswith("data") or name in ("a judge's labels", "rewards")


@ALL
def test_a_folder_in_place_of_a_file_is_named(name, tmp_path):
    value, said = outcome(name, None, tmp_path)
    assert value is None and READERS[name].name in said
