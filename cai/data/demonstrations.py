"""Answers for SFT that the policy did not make: demonstrations, and answers that people preferred (`sft.learns`).

Both leave revisions.jsonl, as `revise` does, so that whatever reads what SFT learns from reads these: an answer that
nobody revised is a draft without rounds. No prompt of theirs is held out.

load_demonstrations   a file of prompts and answers (cai/data/rows/answered.py)
take_preferred        of the pairs to train on, the answers that people preferred (the "chosen" ones alone, which
                      Rafailov et al. 2023 call Preferred-FT)
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cai.config.sections import LESSONS
from cai.core.draws import identity, normal, uniform
from cai.core.errors import UserError, suggest
from cai.core.records import Chat, Pair, Prompt, Revision, SetAside, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.data.input_file import InputFile, input_file
from cai.data.rows.answered import FORMS, read_answered
from cai.data.rows.files import read_raw
from cai.data.rows.turns import opening_of
from cai.data.votes import name_aside

KEY = "sft.learns"
HELD_OUT = "its prompt is held out"


@dataclass
class Demonstrations:
    """What a file holds. remedies: why a row was not used -> what to do about it."""

    answers: list[Revision] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    remedies: dict[str, str] = field(default_factory=dict)
    rows: int = 0

    def set_aside(self, where: str, text: str, error: UserError) -> None:
        self.remedies.setdefault(error.problem, error.remedy)
        self.aside.append(SetAside(where, error.problem, text))

    def counts(self) -> dict[str, int]:
        aside = Counter(f"rows set aside: {row.reason}" for row in self.aside)
        return {"rows read": self.rows, **aside, "demonstrations": len(self.answers)}


def demonstrations_file(path: str) -> InputFile:
    """Raises UserError where there is none: what is written may have been meant as a word."""
    near = suggest(path, LESSONS)
    others = near if near.startswith("did you mean") else f"write {', '.join(LESSONS)}, or a file that exists"
    # As it is written, too: what is set aside is named by file and line.
    return replace(input_file(path, "file of demonstrations", KEY, others), keyed_as=("file", "contents"))


@version(1)
def load_demonstrations(
    out: Path, runtime: Any, *, file: InputFile, prompts: Artifact, helpful: Artifact | None
) -> None:
    """revisions.jsonl (one Revision without rounds a line), set_aside.jsonl and counts.json.

    prompts, helpful: of which those that are held out are not learnt, however a demonstration writes them.
    """
    folders = [folder for folder in (prompts, helpful) if folder]
    known = [prompt for folder in folders for prompt in read_jsonl(folder / "prompts.jsonl", Prompt)]
    found = read_demonstrations(file.path, file.written, known)
    name_aside(found.aside, "demonstrations")
    write_jsonl(out / "revisions.jsonl", found.answers)
    write_jsonl(out / "set_aside.jsonl", found.aside)
    (out / "counts.json").write_text(json.dumps(found.counts(), indent=1))


def read_demonstrations(path: Path, written: str, prompts: Iterable[Prompt]) -> Demonstrations:
    """The demonstrations of a file, in an order drawn by hash. prompts: of which some are held out.

    Raises UserError for a file that cannot be read, or of which no row can be used.
    """
    reading, seen = Demonstrations(), Counter()
    beyond = {_opening(prompt.messages) for prompt in prompts if prompt.split != "train"}
    learnt: set[tuple[Chat, str]] = set()
    for raw in read_raw(path):
        reading.rows += 1
        try:
            if raw.fault:
                raise UserError(raw.fault, "", raw.remedy)
            row = read_answered(raw.value)
            if row.split not in ("", "train") or _opening(row.messages) in beyond:
                raise UserError(HELD_OUT, "", "give demonstrations of other prompts than `data:` and `helpful:` test")
            if (row.messages, row.answer) in learnt:
                raise UserError("the same prompt and answer as another row", "", "remove one of them")
        except UserError as error:
            reading.set_aside(raw.where, raw.text, error)
            continue
        except RecursionError:
            reading.set_aside(raw.where, raw.text, UserError("not valid JSON: nested too deeply", "", "mend it"))
            continue
        learnt.add((row.messages, row.answer))
        name = row.id or identity("prompt", *(message.content for message in row.messages))
        seen[name] += 1
        name += f"#{seen[name]}" if seen[name] > 1 else ""
        reading.answers.append(Revision(Prompt(name, row.messages, row.subset, "train"), row.answer, ()))
    if not reading.answers:
        raise _nothing(reading, written)
    reading.answers.sort(key=lambda answer: uniform("demonstration", answer.prompt.id))
    return reading


def _opening(messages: Chat) -> str:
    return normal(opening_of(messages)).casefold()


def _nothing(reading: Demonstrations, written: str) -> UserError:
    problem = f'no demonstration in "{written}"'
    if not reading.aside:
        return UserError(f"{problem}: it holds no row", KEY, FORMS)
    first = reading.aside[0]
    return UserError(f"{problem}: {first.reason} ({first.where})", KEY, reading.remedies[first.reason] or FORMS)


@version(1)
def take_preferred(out: Path, runtime: Any, *, pairs: Artifact) -> None:
    """revisions.jsonl (one Revision without rounds a line) and counts.json, of the pairs that are to be trained on."""
    training = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split == "train"]
    answers, counts = preferred(training)
    write_jsonl(out / "revisions.jsonl", answers)
    (out / "counts.json").write_text(json.dumps(counts, indent=1))


def preferred(pairs: Sequence[Pair]) -> tuple[list[Revision], dict[str, int]]:
    """Each answer that people preferred to one with which they compared it, and preferred none to it; in an order drawn
    by hash. And what became of the pairs.

    Raises UserError where there is none.
    """
    counts: Counter = Counter({"training pairs": len(pairs)})
    won: dict[tuple[str, str], Prompt] = {}
    lost: set[tuple[str, str]] = set()
    for pair in pairs:
        if pair.human is None or pair.human == 0.5:
            counts["pairs that nobody judged" if pair.human is None else "pairs that people call a tie"] += 1
            continue
        better, worse = (pair.a, pair.b) if pair.human > 0.5 else (pair.b, pair.a)
        won.setdefault((pair.prompt.id, better), pair.prompt)
        lost.add((pair.prompt.id, worse))
    best = defaultdict(list)
    for (prompt, answer), of in won.items():
        if (prompt, answer) not in lost:
            best[prompt].append((of, answer))
    counts["preferred to one answer, and not to another"] = sum(key in lost for key in won)
    answers = [
        Revision(replace(of, id=f"{of.id}#{place}" if place > 1 else of.id), answer, ())
        for several in best.values()
        for place, (of, answer) in enumerate(several, 1)
    ]
    if not answers:
        raise UserError(
            f"people preferred no answer in the {len(pairs)} training pairs", KEY,
            "use a data source with people's labels (`human` in a pair, or HH-RLHF), or learns: revisions",
        )  # fmt: skip
    answers.sort(key=lambda answer: uniform("demonstration", answer.prompt.id))
    return answers, {**counts, "preferred answers": len(answers)}
