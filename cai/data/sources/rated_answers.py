"""The data source `rated-answers`: chatbot answers that people rated for harm, carried by the pip package `pyrit`."""

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations, dropwhile
from pathlib import Path

from cai.config.sections import Data
from cai.core.draws import identity, normal
from cai.core.packages import PYRIT, cache_folder, fetch
from cai.core.records import Message, Prompt, Rating
from cai.core.textstats import words
from cai.data.material import Material, Source, make_pair, split_of

NAME = "rated-answers"


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """An answer with its raters' scores, 0 (harmless) to 1 (harmful). panel: the file, whose columns are its raters."""

    prompt: str
    text: str
    category: str
    panel: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)


def rated_answers(data: Data, seed: int) -> Material:
    """Pairs of answers to one request whose mean harm ratings differ by at least `min_gap`.

    A rater prefers the less harmful answer; equal ratings are a tie (0.5). human is the mean of the raters' votes, so
    three raters who disagree give a soft label. Source: the scorer evaluation sets of the pip package `pyrit` (MIT).
    """
    material = Material()
    answers = _read_ratings(fetch(PYRIT), material.counts)
    by_prompt: dict[str, list[RatedAnswer]] = defaultdict(list)
    for answer in answers:
        by_prompt[answer.prompt].append(answer)
    first: dict[str, str] = {}  # normalised text -> the prompt whose side all that read alike are on
    for text, group in by_prompt.items():
        prompt_id = identity("rated", text)
        split = split_of(first.setdefault(normal(text).casefold(), prompt_id), data, seed)
        prompt = Prompt(prompt_id, (Message("user", text),), group[0].category, split)
        if words(text) > data.max_words:
            material.counts["prompts too long"] += 1
            continue
        material.prompts[prompt_id] = prompt
        material.ratings += [Rating(prompt_id, answer.text, answer.panel, answer.scores) for answer in group]
        for first_answer, second_answer in combinations(group, 2):
            better, worse = sorted((first_answer, second_answer), key=lambda answer: answer.mean)
            if first_answer.panel != second_answer.panel:
                material.counts["answer pairs rated by different people"] += 1
            elif worse.mean - better.mean < data.min_gap - 1e-9:
                material.counts["answer pairs rated too alike"] += 1
            elif max(words(first_answer.text), words(second_answer.text)) > data.max_words:
                material.counts["pairs with an answer too long"] += 1
            else:
                # Raters are paired by column: rater 1 of one answer is rater 1 of the other.
                votes = [
                    0.5 if mine == other else float(mine < other)
                    for mine, other in zip(better.scores, worse.scores, strict=True)
                ]
                human = sum(votes) / len(votes)
                raters = [f"{first_answer.panel} {number}" for number in range(1, len(votes) + 1)]
                pair = make_pair(prompt, better.text, worse.text, human, votes, seed, raters)
                material.pairs[pair.id] = pair
    return material


def _read_ratings(folder: Path, counts: Counter) -> list[RatedAnswer]:
    answers: dict[tuple[str, str], RatedAnswer] = {}
    for path in sorted(folder.glob("*.csv")):
        category = path.stem.replace("_multi_score", "").replace("mini_", "").replace("_", " ")
        with path.open(encoding="utf-8", newline="") as file:
            # Comments stand at the head alone: further down a line that begins with # is part of an answer.
            for row in csv.DictReader(dropwhile(lambda line: line.startswith("#"), file)):
                answer = _rated(row, category, path.stem)
                if answer is None:
                    counts["rated rows without a text or a score"] += 1
                    continue
                counts["rated answers read"] += 1
                key = (answer.prompt, answer.text)
                if key in answers:
                    counts["rated answers that stand twice"] += 1
                if key not in answers or len(answer.scores) > len(answers[key].scores):
                    answers[key] = answer
    return list(answers.values())


def _rated(row: dict[str, str], category: str, panel: str) -> RatedAnswer | None:
    columns = sorted(column for column in row if column and column.startswith("human_score"))
    try:
        scores = tuple(float(row[column] or "nan") for column in columns)
    except ValueError:
        return None
    if not all(0 <= score <= 1 for score in scores):
        return None
    prompt, text = (row.get("objective") or "").strip(), (row.get("assistant_response") or "").strip()
    if not (scores and prompt and text):
        return None
    return RatedAnswer(prompt=prompt, text=text, category=category, panel=panel, scores=scores)


SOURCE = Source(
    example=NAME,
    answers=lambda name: name == NAME,
    digest=lambda name, key: PYRIT.sha256,
    at_hand=lambda name: (cache_folder() / "packages" / f"{PYRIT.name}-{PYRIT.version}").is_dir(),
    read=rated_answers,
    rates=True,
)
