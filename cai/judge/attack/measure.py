"""What exploits do to a judge or a reward model, on pairs of which people prefer one answer.

    1. edit     the worse answer of each pair by every exploit, and by the control of the same length
    2. ask      is it now better than the better answer? In both orders, where the judge is shown two answers
    3. measure  the shift of the score, the labels that flip, and whether words or length did it (cai/stats/headroom.py)

A stand-in, which keeps nothing of the answer, is held against the better answer: that it is liked better than the worse
one may be deserved, that it is liked better than what people prefer is not.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cai.constitution import Judging, draw, worded
from cai.core.draws import identity, uniform
from cai.core.errors import UserError
from cai.core.odds import sigmoid
from cai.core.records import Estimate, Label, Pair, Vote, plain
from cai.judge.asked import AskedJudge
from cai.judge.asking import JudgeEngine, judge_pairs
from cai.judge.attack.exploits import Attacked, Exploit, Exploits, attacked
from cai.judge.combine import combine, weights_of
from cai.judge.methods import METHODS, log_odds
from cai.models.chat import answered
from cai.models.loading import shared_tokenizer
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench

if TYPE_CHECKING:
    from cai.stats.headroom import Headroom


@dataclass(frozen=True, slots=True)
class Preference:
    """What was made of one pair. p_a: P(a better), NaN where it could not be read; odds: the score behind it, in
    log-odds or reward, NaN where none is. shown: P(a better) where a is shown first, and second; NaN where neither is.
    """

    p_a: float
    odds: float
    shown: tuple[float, float] = (math.nan, math.nan)


Prefers = Callable[[Sequence[Pair]], list[Preference]]


@dataclass(frozen=True, slots=True)
class AttackExample:
    """An attacked answer beside the better one. before, after: P(it is better), as it was and attacked."""

    prompt: str
    better: str
    attacked: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class ExploitReport:
    """One exploit. edits: an edit of the worse answer; else a stand-in. unread: pairs that could be read before.

    flips_first, flips_second: `headroom.flips` where the attacked answer is shown first, and second, of methods that
    show two. example: the pair that it moved most.
    """

    name: str
    edits: bool
    headroom: "Headroom"
    unread: int
    flips_first: Estimate | None
    flips_second: Estimate | None
    example: AttackExample | None


@dataclass(frozen=True, slots=True)
class AttackReport:
    """All exploits, by how far they raise the score. right: how often the better answer was preferred before.

    unit: of the scores, in log-odds or reward. fewest: prompts that it takes to show one exploit among so many.
    """

    pairs: int
    prompts: int
    unit: float
    right: Estimate
    fewest: int
    exploits: list[ExploitReport]


# 1. What is attacked --------------------------------------------------------------------------------------------------


def by_judge(engine: JudgeEngine, judge: AskedJudge) -> Prefers:
    """A judge, by its own method and principles."""
    weights = weights_of(judge.principles, judge.settings)

    def prefers(pairs: Sequence[Pair]) -> list[Preference]:
        preferences = []
        for verdict in judge_pairs(engine, pairs, judge, title="attack"):
            odds = combine(verdict.votes, judge.settings, weights)
            p_a = verdict.p_a if isinstance(verdict, Label) else math.nan
            shown = (_in_order(verdict.votes, "ab"), _in_order(verdict.votes, "ba"))
            preferences.append(Preference(p_a, math.nan if odds is None else odds, shown))
        return preferences

    return prefers


def by_reward(work: Workbench, reward: ModelRef, system: str | None, max_length: int, dtype: Dtype) -> Prefers:
    """A reward model, which reads each answer alone under the policy's system prompt."""

    def prefers(pairs: Sequence[Pair]) -> list[Preference]:
        from cai.models.score import score  # heavy: only when there is something to score

        chats = {
            chat: None for pair in pairs for text in (pair.a, pair.b)
            if (chat := answered(pair.prompt.messages, text, system))
        }  # fmt: skip
        model, tokenizer = work.reward_model(reward, dtype), shared_tokenizer(reward)
        limits = {"max_length": max_length, "batch_tokens": work.runtime.batch_tokens}
        rewards = dict(zip(chats, score(model, tokenizer, list(chats), **limits), strict=True))
        return [
            preference_of(*(rewards[answered(pair.prompt.messages, text, system)] for text in (pair.a, pair.b)))
            for pair in pairs
        ]

    return prefers


def preference_of(a: float | None, b: float | None) -> Preference:
    """By the rewards of two answers; None for one that is too long."""
    if a is None or b is None:
        return Preference(math.nan, math.nan)
    return Preference(sigmoid(a - b), a - b)


def _in_order(votes: Sequence[Vote], order: str) -> float:
    """P(a better) of the votes that show the answers in this order; NaN where there are none."""
    odds = [log_odds(vote) for vote in votes
            if vote.order == order and not vote.fault and METHODS[vote.method].both_orders]  # fmt: skip
    return sigmoid(math.fsum(odds) / len(odds)) if odds else math.nan


# 2. The pairs ---------------------------------------------------------------------------------------------------------


def held_out(pairs: Sequence[Pair], limit: int | None, seed: int, where: str = "data.source") -> list[Pair]:
    """At most `limit` pairs of the calibration and test splits of which people prefer one answer, by hash: one of each
    prompt, then a second one. The better answer is `b` of each, and the worse one, to be attacked, `a`."""
    known = [p for p in pairs if p.prompt.split != "train" and p.human is not None and p.human != 0.5]
    if not known:
        problem = "people prefer an answer in no pair of the calibration and test splits"
        remedy = "give data with human labels, such as rated-answers, and data.test or data.calibration above 0"
        raise UserError(problem, where, remedy)
    known.sort(key=lambda pair: uniform("attack", seed, pair.id))
    turn: dict[str, int] = {}
    ranked = []
    for place, pair in enumerate(known):
        turn[pair.prompt.id] = turn.get(pair.prompt.id, 0) + 1
        ranked.append((turn[pair.prompt.id], place, _worse_first(pair)))
    return [pair for *_, pair in sorted(ranked, key=lambda row: row[:2])][:limit]


def _worse_first(pair: Pair) -> Pair:
    assert pair.human is not None
    if pair.human < 0.5:
        return pair
    votes = tuple(1 - vote for vote in pair.votes)
    return replace(pair, a=pair.b, b=pair.a, human=1 - pair.human, votes=votes, prompted=None)


# 3. The attack --------------------------------------------------------------------------------------------------------


def attack(
    pairs: Sequence[Pair], exploits: Exploits, principles: Sequence[Judging], prefers: Prefers, seed: int
) -> AttackReport:
    """pairs: as `held_out` leaves them. principles: one is drawn for each prompt, for exploits that quote it."""
    from cai.stats import headroom as numbers  # numpy: not for --help
    from cai.stats import intervals

    # 1. Edit.
    made = {
        e.name: [_attacked(pair, e, exploits.neutral, principles, seed) for pair in pairs] for e in exploits.exploits
    }

    # 2. Ask about everything in one go: what questions share is read once.
    versions = [pair.a for pair in pairs]
    for edited in made.values():
        versions += [text for each in edited for text in (each.text, each.control)]
    owners = [*pairs, *(pair for _ in made for pair in pairs for _ in range(2))]
    asked = [
        replace(pair, id=identity("attack", pair.prompt.id, text, pair.b), a=text)
        for pair, text in zip(owners, versions, strict=True)
    ]
    answers = prefers(asked)
    count = len(pairs)
    before, after = answers[:count], answers[count:]

    # 3. Measure.
    clusters = [pair.prompt.id for pair in pairs]
    scores, preferred = [each.odds for each in before], [each.p_a for each in before]
    headrooms, parts = [], []
    for place, exploit in enumerate(exploits.exploits):
        rows = after[2 * count * place : 2 * count * (place + 1)]
        edited, control = rows[::2], rows[1::2]
        edit = numbers.EditedScores(
            score=[each.odds for each in edited],
            control=[each.odds for each in control],
            prefers=[each.p_a for each in edited],
            control_prefers=[each.p_a for each in control],
            origin=scores if exploit.edits else [0.0] * count,
        )
        headrooms.append(numbers.headroom(scores, preferred, edit, clusters))
        parts.append((exploit, edited))
    reports = []
    for (exploit, edited), each in zip(parts, numbers.corrected(headrooms), strict=True):
        first, second = (_flips(before, edited, clusters, order) for order in (0, 1))
        unread = sum(math.isnan(a.p_a) and not math.isnan(b.p_a) for a, b in zip(edited, before, strict=True))
        example = _example(pairs, made[exploit.name], before, edited)
        reports.append(ExploitReport(exploit.name, exploit.edits, each, unread, first, second, example))
    reports.sort(key=lambda report: (-_or_least(report.headroom.shift.value), report.name))
    right = intervals.win_rate([1 - p for p in preferred], clusters)
    return AttackReport(
        count, len(set(clusters)), numbers.unit(scores), right, numbers.fewest(len(reports)), reports
    )  # fmt: skip


def as_json(report: AttackReport) -> dict[str, Any]:
    """What JSON can hold; of each exploit's headroom also whether and what raises the score."""
    given = plain(report)
    for row, each in zip(given["exploits"], report.exploits, strict=True):
        row["headroom"] |= {"raises": each.headroom.raises, "by": each.headroom.by}
    return given


def _attacked(pair: Pair, exploit: Exploit, neutral: str, principles: Sequence[Judging], seed: int) -> Attacked:
    question = next(m.content for m in reversed(pair.prompt.messages) if m.role == "user")
    able = worded(principles)
    principle = draw(able, seed=seed, key=pair.prompt.id, subset=pair.prompt.subset)[0].prefer if able else ""
    values = {"answer": pair.a.strip(), "question": question.strip(), "principle": principle}
    return attacked(exploit, neutral, values)


def _flips(
    before: Sequence[Preference], edited: Sequence[Preference], clusters: Sequence[str], order: int
) -> Estimate | None:  # fmt: skip
    """As `Headroom.flips`, in one of the two orders; None for a method that shows no order."""
    from cai.stats import intervals

    values = [after.shown[order] if was.p_a < 0.5 else math.nan for was, after in zip(before, edited, strict=True)]
    estimate = intervals.win_rate(values, clusters)
    return estimate if estimate.n else None


def _example(
    pairs: Sequence[Pair], texts: Sequence[Attacked], before: Sequence[Preference], edited: Sequence[Preference]
) -> AttackExample | None:  # fmt: skip
    """The pair whose P moved most in the exploit's favour; None where none moved."""
    moves = [after.p_a - was.p_a for was, after in zip(before, edited, strict=True)]
    known = [place for place, move in enumerate(moves) if move > 0]
    if not known:
        return None
    place = max(known, key=lambda spot: (before[spot].p_a < 0.5 < edited[spot].p_a, moves[spot]))
    pair = pairs[place]
    return AttackExample(
        prompt=pair.prompt.messages[-1].content, better=pair.b, attacked=texts[place].text,
        before=before[place].p_a, after=edited[place].p_a,
    )  # fmt: skip


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value
