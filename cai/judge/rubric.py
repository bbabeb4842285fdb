"""Answers scored by the criteria of a rubric, one by one (`judge.rubric`): scores, and from two of them a label.

1. Of each answer alone the judge is asked whether it meets each criterion, and whether the criterion's condition
   (`only_if`) holds (prompts/rubric.jinja). What is read is P(Yes) of Yes or No, never a verdict in words.
2. A criterion counts for an answer where its condition holds: P(Yes) is at least 1/2. Where it holds for neither
   answer, it does not enter. One that cannot be read of either answer (too little probability on the options, too
   long) is left out of both scores, and counted.
3. The score of an answer is the explicit aggregation of Rubrics as Rewards (Gunjal et al. 2025, arXiv 2507.17746,
   section 2) with the divisor of HealthBench (Arora et al. 2025), over the criteria that count for it:

       score = sum of points * P(met) / sum of the points above 0

   1 for an answer that does all that is asked for and nothing that is not. Negative points count against it. Where no
   criterion has points above 0, the divisor is the sum of their sizes; an answer for which none counts has 0.
4. A label's log-odds are logit(SURE) * (score of a - score of b) / judge.temperature: an answer that earns a whole
   rubric where the other earns nothing is as much better as one that keeps to a check is than one that does not
   (P 0.99). No criterion moves the log-odds by more than its share of the points, however sure the judge is of it.
   `judge.calibrate` fits the slope of this scale to people.

Departures. P(met) is soft, where both papers have 0 or 1: half a yes is half of the points. HealthBench clips the mean
of its scores to [0, 1]; a score here may be negative, because of two bad answers one is still the worse. The implicit
aggregation of Rubrics as Rewards (one verdict on all criteria together) is what `rate` asks of a constitution.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from cai.config.rubric import RUBRIC
from cai.config.sections import Judge
from cai.core.odds import logit, sigmoid
from cai.core.records import Abstained, Chat, Label, Pair, Prompt, Vote
from cai.core.store import Artifact
from cai.data.input_file import InputFile
from cai.data.rubrics import RubricItem, Rubrics, read_rubrics
from cai.judge.ballots import GATE, NO_MASS, TOO_LONG, Templates, behind_examples
from cai.judge.methods.rubric import WHOLE, favoured
from cai.models.engines import Question, Reading

NO_CRITERIA, GATED_OUT = "no criterion is for this prompt", "its condition holds for neither answer"
FILE = "rubrics.jsonl"  # of a stage: what it wrote, or what it labelled by

Answers = Mapping[Question, Reading | None]
Ask = Callable[[Sequence[Question]], Answers]
RubricSource = InputFile | Artifact
Counts = tuple[float, float]  # points of a criterion, and P(met) of one answer


def rubrics_of(source: RubricSource) -> Rubrics:
    """The criteria of a file, or of the stage that wrote them. Raises UserError(s)."""
    return _read(source.path / FILE if isinstance(source, Artifact) else source.path, source.digest)


@lru_cache(maxsize=8)
def _read(path: Path, digest: str) -> Rubrics:
    return read_rubrics(path)


# 1. What is asked, and what is seen ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CriterionAsked:
    """One answer before one criterion. condition: None for a criterion that always counts."""

    item: RubricItem
    criterion: Question
    condition: Question | None

    @property
    def questions(self) -> tuple[Question, ...]:
        return (self.criterion, *((self.condition,) if self.condition else ()))

    def fault(self, question: Question, answers: Answers, judge: Judge) -> str:
        """Why an answer to one of its questions is not to be read, "" for one that is."""
        reading = answers[question]
        return TOO_LONG if reading is None else reading.fault or (NO_MASS if reading.mass < judge.min_mass else "")


def asked_of(messages: Chat, answer: str, items: Iterable[RubricItem], templates: Templates) -> list[CriterionAsked]:
    """One for each criterion, in order."""

    def question(text: str, condition: bool) -> Question:
        chat = templates[RUBRIC].render(messages=messages, answer=answer, text=text, condition=condition)
        return Question(behind_examples(RUBRIC, templates, chat), ("Yes", "No"))

    return [
        CriterionAsked(item, question(item.criterion, False), question(item.only_if, True) if item.only_if else None)
        for item in items
    ]


def score(counted: Sequence[Counts]) -> float:
    """The score of an answer from the criteria that count for it; 0 where none does."""
    if not counted:
        return 0.0
    return math.fsum(points * met for points, met in counted) / divisor(points for points, _ in counted)


def divisor(points: Iterable[float]) -> float:
    """The sum of the points above 0; where there are none, that of their sizes."""
    values = list(points)
    return math.fsum(value for value in values if value > 0) or math.fsum(map(abs, values))


# 2. One answer alone -------------------------------------------------------------------------------------------------


def rubric_scores(
    rows: Sequence[tuple[Prompt, str, Sequence[RubricItem]]], judge: Judge, templates: Templates, ask: Ask
) -> list[float | None]:
    """The score of each answer by the criteria given with it; None where not one of them can be read, or there is none.

    An answer for which every condition fails has 0: it has done nothing that was asked about.
    """
    asked = [asked_of(prompt.messages, answer, items, templates) for prompt, answer, items in rows]
    answers = ask([question for mine in asked for each in mine for question in each.questions])

    def worth(mine: Sequence[CriterionAsked]) -> float | None:
        readable = [each for each in mine if not any(each.fault(q, answers, judge) for q in each.questions)]
        held = [each for each in readable if not each.condition or _yes(answers, each.condition) >= 0.5]
        counted = [(each.item.points, _yes(answers, each.criterion)) for each in held]
        return score(counted) if readable else None

    return [worth(mine) for mine in asked]


def _yes(answers: Answers, question: Question) -> float:
    """P(Yes) of Yes or No, of a question that could be read."""
    reading = answers[question]
    assert reading is not None
    yes, no = reading.logprobs
    return sigmoid(yes - no)


# 3. Pairs ------------------------------------------------------------------------------------------------------------


def rubric_verdicts(
    rows: Sequence[tuple[Pair, Sequence[RubricItem]]],
    judge: Judge,
    templates: Templates,
    ask: Ask,
    platt: tuple[float, float] | None = None,
) -> list[Label | Abstained]:
    """One label or abstention for each pair, by the criteria given with it. platt: as of `judge_pairs`."""
    asked = [
        tuple(asked_of(pair.prompt.messages, answer, items, templates) for answer in (pair.a, pair.b))
        for pair, items in rows
    ]
    both = [list(zip(a, b, strict=True)) for a, b in asked]
    answers = ask([question for mine in both for sides in mine for each in sides for question in each.questions])
    votes = [tuple(vote for sides in mine for vote in votes_on(sides, answers, judge)) for mine in both]
    slope, bias = platt or (1.0, 0.0)

    def verdict(pair: Pair, items: Sequence[RubricItem], mine: tuple[Vote, ...]) -> Label | Abstained:
        found = scores(mine, items)
        if found is None:
            faults = Counter(vote.fault for vote in mine if vote.method == RUBRIC)
            return Abstained(pair.id, faults.most_common(1)[0][0] if faults else NO_CRITERIA, mine)
        return Label(pair.id, sigmoid(slope * log_odds_of(*found, judge) + bias), "ai", mine)

    return [verdict(pair, items, mine) for (pair, items), mine in zip(rows, votes, strict=True)]


def log_odds_of(a: float, b: float, judge: Judge) -> float:
    """Of "a is better", from two scores."""
    return WHOLE * (a - b) / judge.temperature


def before(verdict: Label | Abstained, platt: tuple[float, float] | None = None) -> float | None:
    """The log-odds of a label by criteria before slope and bias; None for an abstention, and where nobody was asked."""
    if not isinstance(verdict, Label) or not verdict.votes:
        return None
    slope, bias = platt or (1.0, 0.0)
    return (logit(verdict.p_a) - bias) / slope


def votes_on(sides: tuple[CriterionAsked, CriterionAsked], answers: Answers, judge: Judge) -> list[Vote]:
    """The votes of one criterion on a pair: on its condition, if it has one, and its own.

    Of its own the log-probabilities are those of the option that speaks for an answer and of the other, for a and then
    for b: Yes and No, or for negative points No and Yes. So its log-odds are of "a is better". A vote of a condition
    names no answer; its reply says for which answers it holds.
    """
    item, votes = sides[0].item, []
    conditions = [each.condition for each in sides if each.condition]
    fault = ""
    if conditions:
        why = [each.fault(each.condition, answers, judge) for each in sides if each.condition]
        fault = next((one for one in why if one), "")
        held = [] if fault else [_yes(answers, question) >= 0.5 for question in conditions]
        reply = "; ".join(
            f"{name} {'holds' if holds else 'does not hold'}" for name, holds in zip("ab", held, strict=False)
        )
        votes.append(_vote(GATE, item.name, [answers[question] for question in conditions], fault, reply))
        fault = fault or ("" if any(held) else GATED_OUT)
    fault = fault or next((one for each in sides if (one := each.fault(each.criterion, answers, judge))), "")
    readings = [answers[each.criterion] for each in sides]
    return [*votes, _vote(RUBRIC, item.name, readings, fault, turned=item.points < 0)]


def _vote(
    method: str, name: str, readings: Sequence[Reading | None], fault: str, reply: str = "", turned: bool = False
) -> Vote:
    """turned: No comes first."""
    read = [reading for reading in readings if reading is not None and not reading.fault]
    logprobs = tuple(value for reading in read for value in (reading.logprobs[::-1] if turned else reading.logprobs))
    mass = min((reading.mass for reading in read), default=0.0)
    vote = Vote(method, name, "each", 0.5, mass, logprobs, fault, reply)
    if fault or method == GATE:
        return vote
    a, b = favoured(vote)
    return Vote(method, name, "each", sigmoid(WHOLE * (a - b)), mass, logprobs, fault, reply)


def scores(votes: Iterable[Vote], items: Iterable[RubricItem]) -> tuple[float, float] | None:
    """The scores of a and of b, from the votes of a pair on these criteria; None where none of them enters."""
    entered = entering(votes, items)
    if not entered:
        return None
    a, b = (score([counts for each in entered.values() if (counts := each[side])]) for side in (0, 1))
    return a, b


def contributions(votes: Iterable[Vote], items: Iterable[RubricItem]) -> dict[str, float]:
    """Criterion that enters -> what it adds to the score of a less that of b; together they are that difference."""
    entered = entering(votes, items)
    over = [divisor(counts[0] for each in entered.values() if (counts := each[side])) for side in (0, 1)]

    def part(side: int, counts: Counts | None) -> float:
        return counts[0] * counts[1] / over[side] if counts else 0.0

    return {name: part(0, a) - part(1, b) for name, (a, b) in entered.items()}


def entering(votes: Iterable[Vote], items: Iterable[RubricItem]) -> dict[str, tuple[Counts | None, Counts | None]]:
    """Criterion -> what it counts for a and for b, None for an answer of which its condition does not hold."""
    by: dict[tuple[str, str], Vote] = {(vote.method, vote.principle): vote for vote in votes}
    found = {}
    for item in items:
        vote = by.get((RUBRIC, item.name))
        if vote is None or vote.fault:
            continue
        met = [good if item.points > 0 else 1 - good for good in favoured(vote)]
        held = holding(by.get((GATE, item.name)))
        a, b = ((item.points, share) if holds else None for share, holds in zip(met, held, strict=True))
        found[item.name] = (a, b)
    return found


def holding(gate: Vote | None) -> tuple[bool, bool]:
    """For which of the two answers a criterion's condition holds, from the vote on it; both where it has none."""
    if gate is None:
        return True, True
    yes_a, no_a, yes_b, no_b = gate.logprobs
    return yes_a >= no_a, yes_b >= no_b


# 4. What a stage of labels leaves -------------------------------------------------------------------------------------


def leave_rubrics(out: Path, pairs: Iterable[Pair], rubrics: Rubrics) -> None:
    """rubrics.jsonl: the criteria of each prompt of the pairs, in the form of `judge.rubric.file`."""
    prompts = {pair.prompt.id: pair.prompt for pair in pairs}
    rows = [(name, items) for name, prompt in prompts.items() if (items := rubrics.of(prompt))]
    lines = (json.dumps({"prompt_id": name, "rubrics": [asdict(item) for item in items]}, ensure_ascii=False)
             for name, items in rows)  # fmt: skip
    (out / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def counts_of(source: RubricSource, verdicts: Iterable[Label | Abstained]) -> dict[str, int]:
    """How many votes on criteria there are; how many entered no score, by reason; what was written, if it was."""
    votes = [vote for verdict in verdicts for vote in verdict.votes if vote.method == RUBRIC]
    reasons = Counter(f"criteria left out: {vote.fault}" for vote in votes if vote.fault)
    written = json.loads((source / "counts.json").read_text()) if isinstance(source, Artifact) else {}
    return {"criteria asked about": len(votes), **reasons, **{f"written: {name}": n for name, n in written.items()}}
