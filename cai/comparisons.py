"""Any file of comparisons -> pairs that people have judged, told apart row by row by their fields.

    Constitutional AI's evaluation items   prompt, corrects, incorrects; some with text_correct, text_incorrect
    HH-RLHF                                chosen, rejected: transcripts that differ in the last answer
    LLMBar                                 input, output_1, output_2, label (1 or 2)
    our own pairs                          prompt, a, b, human; or prompt, chosen, rejected

A row that cannot be used is named with its reason and left out; only a file without one usable row is an error.

The evaluation items (Bai et al. 2022) are multiple-choice questions about, or within, a conversation. Each is kept in
both forms: as given, and re-asked as one of our pairs, so that every method of asking can be compared on it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cai.data import identity, make_pair
from cai.engines import Question
from cai.errors import UserError
from cai.records import Chat, Message, Pair, Prompt, read_rows
from cai.settings import Data
from cai.sources import hh_rows, parse_hh, row_pair, row_prompt

SEED = 0  # which answer is called a: the same in every run, so that every run asks the same questions
ANY_LENGTH = 10**6  # words; what is too long is for the judge to say
FORMS = "prompt + corrects + incorrects, chosen + rejected, input + output_1 + output_2 + label, or prompt + a + b"


@dataclass(frozen=True, slots=True)
class Item:
    """One comparison.

    given: the multiple choice exactly as the file has it, the right option first; None where there is none.
    conduct: what a pair is about whose two texts are statements about an assistant: the conversation up to its last
    answer, and that answer.
    cluster: stands for the opening of the conversation: those that grow out of one opening are not independent.
    where: file:line, or file:row n.
    """

    pair: Pair
    given: Question | None
    cluster: str
    where: str
    conduct: tuple[Prompt, str] | None = None


@dataclass(frozen=True, slots=True)
class Comparisons:
    """faults: (where, why) of each row that was left out. form: how many items came in which form."""

    items: tuple[Item, ...]
    faults: tuple[tuple[str, str], ...]
    form: dict[str, int]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(item.pair for item in self.items)


def read_comparisons(path: str | Path, *, judged: bool = True, test: float = 0.3) -> Comparisons:
    """Every usable comparison of a .jsonl or .jsonl.gz file, or of a JSON array.

    judged: leave out pairs that nobody judged. A benchmark needs the verdicts; what only asks the judge does not.
    test: the share of prompts in the test split, where a row names no split.
    Raises UserError for a file that is missing, damaged, or without a usable row.
    """
    path = Path(path).expanduser()
    data = Data(source=str(path), max_words=ANY_LENGTH, test=test)
    items: list[Item] = []
    faults: list[tuple[str, str]] = []
    form: Counter[str] = Counter()
    seen: dict[tuple, tuple[str, float]] = {}
    for where, parse in read_rows(path):
        try:
            row = parse()
            name, read = _form(row, where)
            pair, given, opening, conduct = read(row, where, data)
            _check(pair, where, seen, judged)
        except UserError as error:
            faults.append((where, error.problem))
            continue
        except RecursionError:
            faults.append((where, "not valid JSON: nested too deeply"))
            continue
        items.append(Item(pair, given, identity("opening", " ".join(opening.split())), where, conduct))
        form[name] += 1
    if not items:
        first = f": {faults[0][1]} ({faults[0][0]})" if faults else ""
        problem = f"no comparison in this file can be used{first}"
        raise UserError(problem, str(path), f"a row needs {FORMS}")
    return Comparisons(tuple(items), tuple(faults), dict(form))


# 1. Rows --------------------------------------------------------------------------------------------------------------


# The pair, the multiple choice as given, the conversation's opening, the conduct that the pair is about.
Read = tuple[Pair, Question | None, str, tuple[Prompt, str] | None]
Reader = Callable[[dict, str, Data], Read]


def _form(row: Any, where: str) -> tuple[str, Reader]:
    """The name of a row's form and what reads it, by its fields."""
    if not isinstance(row, dict):
        raise UserError("a row must be a JSON object", where)
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError("a \\u escape that is half of a character", where) from None
    fields = set(row)
    if fields & {"corrects", "incorrects"}:
        return "evaluation item", _evaluation_item
    if {"output_1", "output_2"} <= fields:
        return "LLMBar", _llmbar
    if {"chosen", "rejected"} <= fields and not fields & {"prompt", "messages"}:
        return "HH-RLHF", _hh
    if {"a", "b"} <= fields or {"chosen", "rejected"} <= fields:
        return "pair", _own
    raise UserError(f"not a comparison: its fields are {', '.join(map(str, row)) or 'none'}", where)


def _check(pair: Pair, where: str, seen: dict[tuple, tuple[str, float]], judged: bool) -> None:
    """What every form must give: two answers, a verdict, and nothing that stood further up."""
    if not pair.a.strip() or not pair.b.strip():
        raise UserError("an answer without words", where)
    if pair.a == pair.b:
        raise UserError("both answers are the same", where)
    if pair.human is None and judged:
        raise UserError("nobody judged this pair: `human` is missing", where)
    low, high = sorted((pair.a, pair.b))
    human = 0.5 if pair.human is None else pair.human if pair.a == low else 1 - pair.human
    before, verdict = seen.setdefault((pair.prompt.messages, low, high), (where, human))
    if before != where:
        raise UserError(f"{'the same pair as' if verdict == human else 'contradicts the same pair at'} {before}", where)
    before, _ = seen.setdefault((pair.id,), (where, human))
    if before != where:
        raise UserError(f'another pair has the id "{pair.id}": {before}', where)


# 2. The simple forms --------------------------------------------------------------------------------------------------


def _hh(row: dict, where: str, data: Data) -> Read:
    material = hh_rows([(where, row)], data, SEED)
    for pair in material.pairs.values():
        return pair, None, _opening(pair.prompt.messages), None
    reason = next(name for name in material.counts if name.startswith("HH rows left out: "))
    raise UserError(reason.removeprefix("HH rows left out: "), where)


def _llmbar(row: dict, where: str, data: Data) -> Read:
    better, worse = _text(row, "output_1", where), _text(row, "output_2", where)
    if row.get("label") not in (1, 2):
        raise UserError("`label` must be 1 or 2, the number of the better output", where)
    if row["label"] == 2:
        better, worse = worse, better
    prompt = row_prompt({"prompt": _text(row, "input", where)}, where, data, SEED)
    return make_pair(prompt, better, worse, 1.0, (1.0,), SEED), None, _opening(prompt.messages), None


def _own(row: dict, where: str, data: Data) -> Read:
    prompt = row_prompt(row, where, data, SEED)
    return row_pair(row, prompt, where, SEED), None, _opening(prompt.messages), None


def _opening(messages: Chat) -> str:
    return next(message.content for message in messages if message.role == "user")


def _text(row: dict, name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise UserError(f"`{name}` must be a text", where)
    return row[name]


# 3. Evaluation items --------------------------------------------------------------------------------------------------

_LABEL = re.compile(r"\s*\(?([A-Z])\)?\s*")
_OPTION = re.compile(r"(?m)^[ \t]*\(([A-Z])\)[ \t]*")
_MARKED = re.compile(r"\s*\[\[\[(.*)\]\]\]\s*", re.DOTALL)
_ASSISTANT = re.compile(r"(?:\A|\n)[ \t]*(?:Assistant|A):[ \t]*\Z")
# What tells a person or a model to choose, as against what somebody says in the conversation.
_ASKS = re.compile(
    r"(?is)(?=.*\b(?:choos|select|pick|compar|decid|identif|determin|indicat|evaluat|consider|which|best|better)\w*\b)"
    r"(?=.*\b(?:options?|responses?|repl(?:y|ies)|answers?|choices?|assistant|statements?)\b)"
)


def _evaluation_item(row: dict, where: str, data: Data) -> Read:
    """The multiple choice as given, where the file has one, and the same comparison as one of our pairs."""
    prompt = _text(row, "prompt", where)
    right, wrong = _first(row, "corrects", where), _first(row, "incorrects", where)
    labels = [match[1] for option in (right, wrong) if (match := _LABEL.fullmatch(option))]
    body, lead = _opened(prompt, bool(labels))
    given = Question((Message("user", _whole(body)),), (right, wrong), lead) if len(labels) == 2 else None
    if len(set(labels)) == 1:
        raise UserError("the right and the wrong option must be two labels, or two texts", where)

    # 1. The two answers: texts of their own, or the answers themselves, or what stands beside their labels.
    texts = None
    if isinstance(row.get("text_correct"), str) and isinstance(row.get("text_incorrect"), str):
        texts = _unmarked(row["text_correct"]), _unmarked(row["text_incorrect"])
    elif not labels:
        texts = _unmarked(right), _unmarked(wrong)
    before, options = _options(body, texts or ())
    if texts is None and not set(labels) <= set(options):
        raise UserError(f"the prompt shows no text for option {' or '.join(labels)}", where)
    better, worse = texts or (options[labels[0]], options[labels[1]])

    # 2. What they answer: the conversation; or, where the options say something about it, the question on the whole.
    turns, rest = _conversation(before, cut=bool(options))
    messages = turns or (Message("user", rest or before.strip()),)
    conduct = None
    if texts is None or (options and messages[-1].role == "assistant"):
        if len(turns) > 1 and turns[-1].role == "assistant":
            conduct = (_asked(turns[:-1], where, data), turns[-1].content)
        messages = (Message("user", before.strip()),)
    asked = _asked(messages, where, data)
    opening = next((turn.content for turn in turns if turn.role == "user"), _opening(messages))
    return make_pair(asked, better, worse, 1.0, (1.0,), SEED), given, opening, conduct


def _asked(messages: Chat, where: str, data: Data) -> Prompt:
    return row_prompt({"prompt": [asdict(message) for message in messages]}, where, data, SEED)


def _first(row: dict, name: str, where: str) -> str:
    held = row.get(name)
    if not isinstance(held, list) or not held or not isinstance(held[0], str) or not held[0].strip():
        raise UserError(f"`{name}` must be a list of texts", where)
    return held[0]


def _unmarked(text: str) -> str:
    """Without white space around it, and without the [[[ ]]] that marks where a response begins and ends."""
    marked = _MARKED.fullmatch(text)
    return (marked[1] if marked else text).strip()


def _opened(prompt: str, labelled: bool) -> tuple[str, str]:
    """(what is asked, the words with which the answer begins). An opened assistant's turn is left to the template."""
    body = prompt.rstrip()
    if closed := _ASSISTANT.search(body):
        return body[: closed.start()].rstrip(), ""
    head, _, last = body.rpartition("\n")
    if not labelled or not head.strip() or _OPTION.match(last):
        return body, ""
    return head.rstrip(), last.strip().removeprefix("Assistant:").strip()


def _whole(body: str) -> str:
    """One user message: a prompt that is one turn of "Human:" as a whole loses that name to the template as well."""
    turns = parse_hh(body)
    alone = len(turns) == 1 and turns[0].role == "user" and body.lstrip().startswith("Human:")
    return turns[0].content if alone else body.strip()


def _options(body: str, texts: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """(what stands before the options, label -> text). texts: the two answers, where they are known."""
    marks = list(_OPTION.finditer(body))
    starts = [mark for mark in marks if mark[1] == "A"]
    # An answer, or a turn of the conversation, may itself hold a list from (A) on.
    known = [m for m in starts if any(body[m.end() :].lstrip("\n [").startswith(text[:40]) for text in texts)]
    start = (known or starts or [None])[-1]
    if start is None or not any(mark[1] == "B" and mark.start() > start.start() for mark in marks):
        return body, {}
    options: dict[str, str] = {}
    shown = [mark for mark in marks if mark.start() >= start.start()]
    for mark, end in zip(shown, [*(mark.start() for mark in shown[1:]), len(body)], strict=True):
        options.setdefault(mark[1], _unmarked(body[mark.end() : end]))
    return body[: start.start()], options


# 4. Conversations -----------------------------------------------------------------------------------------------------


def _conversation(text: str, cut: bool) -> tuple[Chat, str]:
    """(turns, the text without instructions). cut: take what asks for a choice off the end.

    Turns are those of "Human:" and "Assistant:", or of "H:" and "A:"; what stands before the first one is a heading.
    Empty turns are dropped, and one speaker's turns in a row are joined.
    """
    rest = _without_request(text) if cut else text.strip()
    turns: list[Message] = []
    for turn in parse_hh(_spelt_out(rest)):
        if turns and turn.content and turns[-1].role == turn.role:
            turns[-1] = Message(turn.role, f"{turns[-1].content}\n\n{turn.content}")
        elif turn.content:
            turns.append(turn)
    return tuple(turns), rest


def _without_request(text: str) -> str:
    """Without the paragraphs, or the last lines of a turn, that ask to choose between the options."""
    joined = not re.search(r"\n[ \t]*\n[ \t]*\Z", text)  # nothing between the last paragraph and the options
    paragraphs = re.split(r"\n[ \t]*\n", text.strip())
    while paragraphs:
        last = paragraphs[-1].strip()
        if not _SPEAKER.match(last) and (_ASKS.match(last) or last == "{}" or (joined and last.endswith(":"))):
            paragraphs.pop()
        elif _SPEAKER.match(last) and "\n" in last and _ASKS.match(last.rpartition("\n")[2]):
            paragraphs[-1] = last.rpartition("\n")[0]
        else:
            break
        joined = False
    return "\n\n".join(paragraphs)


_SPEAKER = re.compile(r"(?:Human|Assistant|H|A):")
_SPELT = {"H": "Human", "A": "Assistant", "Human": "Human", "Assistant": "Assistant"}


def _spelt_out(text: str) -> str:
    """The conversation as an HH-RLHF transcript, without what stands before its first turn; "" where there is none."""
    # Short names may stand inside a turn of "Human:" that holds the whole question, so they are looked for first;
    # names that begin a line, without a blank line before, are turns only where nothing else is.
    for gap in ("\n\n", "\n"):
        for human, assistant in (("H", "A"), ("Human", "Assistant")):
            turn = re.compile(rf"(?:\A|{gap})[ \t]*({human}|{assistant}):")
            first = turn.search(text)
            if first is None or not re.search(rf"(?:\A|{gap})[ \t]*{human}:", text):
                continue
            if human == "H" and re.search(r"(?:\A|\n)Assistant:", text):
                continue  # "H:" is said within a conversation of "Human:" and "Assistant:"
            inner = text[first.start() :]
            if gap == "\n\n" and len(turn.findall(inner)) == 1 and re.search(rf"\n[ \t]*{assistant}:", inner):
                continue  # one turn that holds the others
            return turn.sub(lambda match: f"\n\n{_SPELT[match[1]]}:", inner)
    return ""
