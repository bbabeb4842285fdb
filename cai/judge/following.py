"""Does a judge follow an edit at all? Asked before a flip of labels is believed (`lint --pairs` and `diff`).

    turn    the edited principles by themselves, beside their negations and beside placebos (cai/judge/reads/): a judge
            that follows an edit turns its verdicts where a principle is turned round
    floor   the same edit made among sentences that have nothing to do with the answers: in the old constitution one
            stands in place of each edited principle, in the new one another of the new length. Labels flip at this
            too, and an edit that flips no more of them has not been seen to say anything to the judge

Agreement with people plays no part in whether an edit is followed: an edit may well ask for what people do not like.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai.config.preflight import Reads
from cai.constitution import Constitution, Judging
from cai.constitution.changes import Change
from cai.constitution.negation import negated
from cai.constitution.records import Principle
from cai.core.odds import side
from cai.core.records import Abstained, Estimate, Label, Pair, plain
from cai.judge.asking import Job, drawn, judge_jobs
from cai.judge.methods import principles_for
from cai.judge.reads.controls import Controls, ask_under, controls_for, effect_of, placebos_of, unheard
from cai.judge.reads.effect import Effect
from cai.judge.reads.placebos import Placebo, apart, check, matched, read_placebos, unrelated
from cai.judge.reads.verdict import number, percent, points, unread
from cai.judge.trial import Court
from cai.stats.intervals import EMPTY, mean, paired_difference

LEGEND = "-1 follows the negation, +1 ignores it"
Verdict = Label | Abstained


@dataclass(frozen=True, slots=True)
class Following:
    """follows: None where it could not be measured, and `why` then says why. effect: of the principles by themselves;
    None where they apply to no pair.

    pairs: how many were asked about. noted: what was left out of the measurement, in words.
    """

    follows: bool | None
    effect: Effect | None
    pairs: int
    why: str = ""
    noted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Floor:
    """What the same edit does among placebos. edit, placebo: share of labels that flip, of the pairs that got a label
    all four times; beyond: the difference, of the same pairs."""

    edit: Estimate
    placebo: Estimate
    beyond: Estimate


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of a constitution. changes: those of its changes that the judge's method reads."""

    old: Constitution
    new: Constitution
    changes: tuple[Change, ...]

    @property
    def tested(self) -> Constitution:
        """The edited principles as they are now; as they were, where they are gone or can only so be negated."""
        return replace(self.new, principles=tuple(map(_tested, self.changes)))


def _tested(change: Change) -> Principle:
    able = [principle for principle in (change.new, change.old) if principle is not None]
    return next((principle for principle in able if negated(principle)), able[0])


UNREAD = Following(None, None, 0, "a program checks what has changed, and no judge reads it", ())


# 1. The controls ----------------------------------------------------------------------------------------------------


def fair_controls(
    constitution: Constitution, pairs: Sequence[Pair], files: Sequence[str | Path] = ()
) -> tuple[Controls, list[str]]:
    """(what the constitution is compared with, what was left out, in words), without a judge.

    files: placebos in place of the shipped ones. A shipped one that is the constitution is left out, a given one is an
    error. Raises UserError for that, and where fewer than two placebos are left.
    """
    placebos = read_placebos(files)
    if files:
        check(placebos, constitution.judging)
    placebos, noted = apart(placebos, constitution.judging)
    placebos, spoken = unrelated(placebos, pairs)
    controls = controls_for(constitution, placebos)
    missing = [f'"{name}" has no negation: write its `Against:`' for name in controls.missing]
    return controls, [*noted, *spoken, *missing, *unheard(constitution.judging, pairs)]


# 2. Asking ----------------------------------------------------------------------------------------------------------


def following(
    court: Court, pairs: Sequence[Pair], constitution: Constitution, controls: Controls, noted: Sequence[str] = ()
) -> Following:
    """How the judge's verdicts by the principles alone move when these are negated, or replaced by placebos.

    At most three of them are put to the test on a pair (cai/judge/reads/controls.py). constitution: the edited
    principles, or a whole one.
    """
    judge = court.judge.under(constitution)
    able = [
        pair for pair in pairs if any(not p.applies_to or pair.prompt.subset in p.applies_to for p in judge.principles)
    ]
    if not able:
        return Following(None, None, 0, "no pair is of a category that they apply to", tuple(noted))
    effect = effect_of(ask_under(court.engine, able, judge, controls), able)
    if effect.turn.n:
        return Following(not unread(replace(effect, gain=EMPTY), Reads()), effect, len(able), "", tuple(noted))
    why = (
        "no pair could be read under their text, its negation and two placebos"
        if controls.opposites
        else "none of them has an `Against:`, and no rule knows the form of one"
    )
    return Following(None, effect, len(able), why, tuple(noted))


def floor(
    court: Court, pairs: Sequence[Pair], edit: Edit, placebos: Sequence[Placebo], verdicts: Sequence[Sequence[Verdict]]
) -> Floor:
    """verdicts: of the pairs under the old constitution and the new one. The placebos' questions are new."""
    old, new = (principles_for(constitution, court.judge.settings) for constitution in (edit.old, edit.new))
    among = {(p.name, q.name): among_placebos(old, new, edit.changes, (p, q)) for p in placebos for q in placebos}
    jobs: list[Job] = []
    for pair in pairs:
        first, second = placebos_of(pair, [placebo.name for placebo in placebos], 0)
        jobs += [Job(pair, drawn(pair.prompt, judging, court.judge)) for judging in among[first, second]]
    made = judge_jobs(court.engine, jobs, court.judge.under(edit.new), title="the same edit among placebos")
    by_edit = [flipped(*both) for both in zip(*verdicts, strict=True)]
    by_placebo = [flipped(*both) for both in zip(made[::2], made[1::2], strict=True)]
    known = [place for place, each in enumerate(zip(by_edit, by_placebo, strict=True)) if None not in each]
    mine, theirs = ([float(flips[place]) for place in known] for flips in (by_edit, by_placebo))  # pyrefly: ignore
    prompts = [pairs[place].prompt.id for place in known]
    return Floor(mean(mine, prompts), mean(theirs, prompts), paired_difference(mine, theirs, prompts))


def among_placebos(
    old: Sequence[Judging], new: Sequence[Judging], changes: Sequence[Change], placebos: tuple[Placebo, Placebo]
) -> tuple[tuple[Judging, ...], tuple[Judging, ...]]:
    """Both constitutions with a sentence of the first placebo for each edited principle of the old one, and one of the
    second for each of the new one. Where weight or subsets alone were changed, the sentence stays as well."""
    gone = {change.old.name for change in changes if change.old}
    come = {change.new.name: change for change in changes if change.new}
    before = matched(placebos[0], [p for p in old if p.name in gone])
    after = matched(placebos[1], [p for p in new if p.name in come])
    text = {p.name: (p.prefer, p.against) for p in old}
    for p in new:
        was = come[p.name].old if p.name in come else None
        if was and text[was.name] == (p.prefer, p.against):
            after[p.name] = replace(p, prefer=before[was.name].prefer, against="")
    return tuple(before.get(p.name, p) for p in old), tuple(after.get(p.name, p) for p in new)


def flipped(before: Verdict, after: Verdict) -> bool | None:
    """Whether a label changes sides; None without two labels."""
    if not (isinstance(before, Label) and isinstance(after, Label)):
        return None
    return side(before.p_a, 0.5) != side(after.p_a, 0.5)


# 3. Telling ---------------------------------------------------------------------------------------------------------


def sentence(of: Following, kind: str, than: Floor | None = None) -> str:
    """One plain sentence with its figures. kind: `edits of this kind`; than: what the edit flips, and the floor."""
    if of.follows is None or of.effect is None:
        head = f"whether this judge follows {kind} could not be measured: {of.why}"
    else:
        head = f"this judge {'follows' if of.follows else 'was not seen to follow'} {kind}: {figures(of.effect)}"
    if than is None or not than.edit.n:
        return head
    counts = [f"{round(flips.value * flips.n)} of {flips.n}" for flips in (than.edit, than.placebo)]
    return f"{head}; the flips below ({counts[0]}) are {_beside(than)} a placebo edit causes ({counts[1]})"


def figures(effect: Effect) -> str:
    """`turn -0.80 [-0.94, -0.61] (-1 follows ...), share 30.1% [22, 38], 81.0% [70, 90] of labels turn with it`"""
    turn = number(effect.turn)
    if effect.turn.value != effect.turn.value:
        turn = "undefined (the text moves its log-odds no more than one placebo or another does)"
    else:
        turn += f" ({LEGEND})"
    return f"turn {turn}, share {percent(effect.share)}, {percent(effect.flips)} of labels turn with the negation"


def _beside(than: Floor) -> str:
    if than.beyond.low > 0:
        return "more than"
    if than.beyond.high < 0:
        return "fewer than"
    return "as many, as far as these pairs can tell, as"


def shown(than: Floor) -> list[str]:
    """Two lines, to stand below the share of labels that the edit flips."""
    return [
        f"  by a placebo edit       {round(than.placebo.value * than.placebo.n)} of {than.placebo.n}, "
        f"{percent(than.placebo)}: the same edit among sentences about other things",
        f"  difference              {points(than.beyond)} points",
    ]


def as_json(of: Following, kind: str, than: Floor | None = None) -> dict[str, Any]:
    return plain(
        {"follows": of.follows, "sentence": sentence(of, kind, than), "pairs": of.pairs, "effect": of.effect,
         "placebo_edit": than, "noted": of.noted}
    )  # fmt: skip
