"""Is the judge worth listening to? A sample is judged first, and a coin is told from a judge before a day of training.

    1. sample    the calibration split, where people judged pairs that are used for nothing else; else training pairs
    2. try       the method of the config, or every method when it is `auto`; the same pairs under placebos and under
                 negated principles say whether it reads its constitution (cai/judge/reads/)
    3. pick      of those that pass the thresholds, the one that reads best, by gain and turn; where that was not asked
                 for (`reads: off`), the one whose log-odds rank people's preferences best (AUC)
    4. calibrate slope and bias on the calibration split (Platt 1999); the report measures them on the held-out pairs

A judge below a threshold, or one that was not seen to read, stops the run; the message says what is wrong and which
methods do better on the sample. With `reads: off` it is measured all the same, for the report, and goes on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.config.methods import UNSAID
from cai.config.preflight import Preflight, Reads
from cai.config.rubric import RUBRIC
from cai.config.sections import Labeller
from cai.constitution import Judging, worded
from cai.core.draws import uniform
from cai.core.errors import UserError, some
from cai.core.records import Abstained, Label, Pair, plain, read_jsonl
from cai.core.store import Artifact, version
from cai.judge.asked import AskedJudge
from cai.judge.asking import JudgeEngine, judge_pairs
from cai.judge.combine import combine, weights_of
from cai.judge.diagnostics import Diagnosis, diagnose
from cai.judge.methods import ASKING, METHODS, methods_of, name_of, reads_against, templates_for
from cai.judge.reads.controls import Controls, ask_under, effect_of, unheard
from cai.judge.reads.placebos import unrelated
from cai.judge.reads.verdict import in_words, standing, unread
from cai.judge.rubric import before
from cai.models.workbench import Workbench
from cai.stats.calibration import fit_platt

if TYPE_CHECKING:
    from cai.judge.reads.effect import Effect


@dataclass(frozen=True, slots=True)
class Trial:
    """One method on the sample. faults: what is below the thresholds; empty for a judge that may go on.

    effect: what the constitution's text does to its verdicts; None where that was not measured. unread: why it is not
    believed to read, by the thresholds that stand, or would stand without `reads: off`.
    """

    method: Any
    verdicts: list[Label | Abstained]
    diagnosis: Diagnosis
    faults: tuple[str, ...]
    effect: "Effect | None" = None
    unread: tuple[str, ...] = ()


@version(3)
def preflight(
    out: Path, work: Workbench, *, data: Artifact, pairs: Artifact, judge: AskedJudge, controls: Controls | None
) -> None:  # fmt: skip
    """preflight.json: the method to label with, slope and bias (or null), and what each method did on the sample.

    judge: its settings are a `Labeller`, its principles have `Against:` where other methods may be tried. controls:
    other texts to compare the constitution with; None where nobody asks whether the judge reads.

    Raises UserError when no method that was to be tried passes the thresholds of `judge.preflight`.
    """
    settings, principles = judge.settings, judge.principles
    assert isinstance(settings, Labeller)
    rows, known = sample(data, pairs, settings, judge.seed)
    engine = judge.engine(work)

    noted: list[str] = []
    if controls:
        kept, noted = unrelated(controls.placebos, rows)
        controls = replace(controls, placebos=kept)
        noted += [f'"{name}" has no negation: write its `Against:`' for name in controls.missing]
        noted += unheard(principles, rows)

    def attempt(asked: AskedJudge) -> Trial:
        if not reads_against(asked.settings):
            asked = replace(asked, principles=tuple(replace(principle, against="") for principle in principles))
        return tried(engine, rows, asked, controls)

    wanted = methods_of(settings) if settings.method == "auto" else (settings.method,)
    trials = [attempt(judge.by(method)) for method in wanted]
    passed = [trial for trial in trials if not trial.faults]
    if not passed:
        # A chain of thought takes longer than all other methods together: nobody waits for it to be told what to try.
        # What a judge can only say in words is not asked for likelihoods.
        left_out = [*wanted, *(UNSAID if settings.spoken else ())]
        others = [method for method in ASKING if method not in left_out and not METHODS[method].thinking]
        others = [] if judge.rubric else others  # which ask about principles, and it is given none
        templates = {name: {**judge.templates, **templates_for(settings, [name])} for name in others}
        trials += [attempt(replace(judge.by(name), templates=templates[name])) for name in others]
        raise UserError(*complaint(trials, wanted, len(rows), known, without_opposite(principles)))
    best = max(passed, key=lambda trial: (rank(trial, settings.preflight), -trials.index(trial)))
    if "contrast" in methods_of(judge.by(best.method).settings):
        noted += [f'"{name}" has no `Against:`: contrast made its opposite up' for name in without_opposite(principles)]
    platt = calibrated(rows, best, judge) if settings.calibrate else None
    report = {
        "method": best.method,
        "auto": settings.method == "auto",
        "platt": platt,
        "sample": known,
        "pairs": len(rows),
        "prompts": len({pair.prompt.id for pair in rows}),
        "reads": {
            "asked": bool(settings.preflight and settings.preflight.reads),
            "placebos": [placebo.name for placebo in controls.placebos] if controls else [],
            "noted": noted,
        },
        "tried": [
            {"method": t.method, "faults": t.faults, "found": t.diagnosis, "effect": t.effect, "unread": t.unread}
            for t in trials
        ],
    }
    (out / "preflight.json").write_text(json.dumps(plain(report), indent=1))


def tried(engine: JudgeEngine, rows: Sequence[Pair], judge: AskedJudge, controls: Controls | None) -> Trial:
    """One method on the sample. One that asks nothing reads nothing: its labels do not come from a judge."""
    assert isinstance(judge.settings, Labeller)
    method, limits = judge.settings.method, judge.settings.preflight
    asks = worded(judge.principles) and set(methods_of(judge.settings)) & set(ASKING)
    if controls is None or limits is None or not asks:
        verdicts = judge_pairs(engine, rows, judge, title=f"preflight: {name_of(method)}")
        diagnosis = diagnose(rows, verdicts)
        return Trial(method, verdicts, diagnosis, below(diagnosis, limits))
    answers = ask_under(engine, rows, judge, controls)
    diagnosis, effect = diagnose(rows, answers.verdicts), effect_of(answers, rows)
    faults = below(diagnosis, limits) + unread(effect, limits.reads)
    return Trial(method, answers.verdicts, diagnosis, faults, effect, unread(effect, limits.reads or Reads()))


def sample(data: Artifact, pairs: Artifact, judge: Labeller, seed: int) -> tuple[list[Pair], str]:
    """The pairs to try the judge on, and what they are: the calibration split, or training pairs drawn by hash."""
    kept = [pair for pair in read_jsonl(data / "pairs.jsonl", Pair) if pair.prompt.split == "calibration"]
    check_calibration(kept, judge)
    if kept:
        return kept, "calibration split"
    train = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split == "train"]
    most = judge.preflight.pairs if judge.preflight else 0
    return sorted(train, key=lambda pair: uniform("preflight", seed, pair.id))[:most], "training pairs"


def check_calibration(kept: Sequence[Pair], judge: Labeller) -> None:
    """Do the pairs of the calibration split suffice for what is to be done with them? Raises UserError."""
    if kept and all(pair.human is None for pair in kept) and (judge.calibrate or judge.method == "auto"):
        problem = "no person has judged the pairs of the calibration split"
        raise UserError(problem, "data.calibration", "name a judge.method and set judge.calibrate: false")
    if not kept and (judge.calibrate or judge.method == "auto"):
        problem = "the calibration split is empty: no prompt with pairs fell into it"
        raise UserError(problem, "data.calibration", "raise data.calibration")


def below(diagnosis: Diagnosis, limits: Preflight | None) -> tuple[str, ...]:
    """What is below the thresholds, in words; nothing without thresholds."""
    if limits is None:
        return ()
    faults = []
    if not diagnosis.labelled:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in diagnosis.abstained.items())
        faults.append(f"not one pair could be judged ({reasons})")
    if diagnosis.mass is not None and diagnosis.mass < limits.mass:
        faults.append(
            f"the options hold {diagnosis.mass:.1%} of the probability (median; at least {limits.mass:.0%} wanted)"
        )
    for name, estimate, limit in (
        ("both orders of a question name the same answer in", diagnosis.consistency, limits.consistency),
        ("it agrees with people on", diagnosis.accuracy, limits.accuracy),
    ):
        if estimate.n and estimate.value < limit:
            interval = f"[{estimate.low:.0%}, {estimate.high:.0%}]"
            faults.append(f"{name} {estimate.value:.0%} {interval} of {estimate.n} (at least {limit:.0%} wanted)")
    return tuple(faults)


def rank(trial: Trial, limits: Preflight | None) -> float:
    """By what `auto` picks among the methods that pass: how well they read (cai/judge/reads/verdict.py).

    Where nobody asked whether they do, the AUC against people: it uses how sure the judge was, so it needs fewer labels
    than accuracy to tell two apart.
    """
    if trial.effect and limits and limits.reads:
        return standing(trial.effect)
    return _auc(trial)


def without_opposite(principles: Sequence[Judging]) -> list[str]:
    """Names of the principles for which `contrast` has no text of its own, and its template makes an opposite up."""
    return [principle.name for principle in worded(principles) if not principle.against]


def complaint(
    trials: Sequence[Trial], wanted: Sequence[Any], pairs: int, known: str, without: Sequence[str] = ()
) -> tuple[str, str, str]:
    """Problem, place and remedy for a judge that does not pass. without: principles that have no `Against:`.

    `contrast` is advised where the constitution has what it reads; where it alone passes, what it wants is said.
    """
    asked = [trial for trial in trials if trial.method in wanted]
    lines = [f'"{name_of(trial.method)}": {"; ".join(trial.faults)}' for trial in asked]
    problem = f"the judge did not pass its preflight on {pairs} pairs ({known})\n    " + "\n    ".join(lines)
    passing = sorted((t for t in trials if not t.faults), key=lambda trial: -_auc(trial))
    better = [trial for trial in passing if trial.method != "contrast" or not without]
    if passing and not better:
        names = some([f'"{name}"' for name in without])
        remedy = (
            f"contrast alone passes on the same sample ({figures(passing[0])}), by opposites that its template makes "
            f"up. Write an `Against:` for {names}, and set judge.method: contrast"
        )
    elif better:
        named = "; ".join(f"{name_of(t.method)} ({figures(t)})" for t in better)
        remedy = f"these methods pass on the same sample: {named}. Set judge.method to one of them"
    elif any(trial.unread and trial.unread == trial.faults for trial in asked):
        others = [f"{name_of(t.method)}: {in_words(t.effect)}" for t in trials if t not in asked and t.effect]
        remedy = (
            "no method was seen to read with this model"
            + (f" ({'; '.join(others)})" if others else "")
            + ": name a judge that reads, such as {model: smollm2-135m-judge, method: channel}, one that you train "
            "(python -m cai.judge train) or a larger one. To go on "
            "with labels that do not come from the constitution, set judge.preflight.reads: off"
        )
    else:
        what = "criteria" if RUBRIC in wanted else "principles"
        remedy = f"no method passes with this model: name a larger one under judge.model, or reword the {what}"
    return problem, "judge.method", f"{remedy} (thresholds: judge.preflight)"


def _auc(trial: Trial) -> float:
    return trial.diagnosis.auc.value if trial.diagnosis.auc.n else 0.0


def figures(trial: Trial) -> str:
    """`agrees with people on 71% [60, 81], AUC 0.78`, or what else is known; and how it reads, where that is known."""
    diagnosis = trial.diagnosis
    if diagnosis.accuracy.n:
        value = diagnosis.accuracy
        text = (
            f"agrees with people on {value.value:.0%} [{100 * value.low:.0f}, {100 * value.high:.0f}], "
            f"AUC {diagnosis.auc.value:.2f}"
        )
    else:
        text = (
            "no thresholds missed"
            if diagnosis.mass is None
            else f"options hold {diagnosis.mass:.0%} of the probability"
        )
    return f"{text}; {in_words(trial.effect)}" if trial.effect else text


def calibrated(rows: Sequence[Pair], trial: Trial, judge: AskedJudge) -> tuple[float, float]:
    """Slope and bias for the log-odds of the method that was picked, from the pairs that people judged."""
    asked = judge.by(trial.method).settings
    weights = weights_of(judge.principles, asked)
    levels = judge.order.levels  # without its limits, whose verdicts are as sure as they are
    odds = [
        (before(verdict) if judge.rubric else combine(verdict.votes, asked, weights, levels), pair.human)
        for verdict, pair in zip(trial.verdicts, rows, strict=True)
    ]
    known = [(value, human) for value, human in odds if value is not None and human is not None]
    if len({value for value, _ in known}) < 2:
        problem = f"{len(known)} judged pairs with a readable verdict are too few to calibrate on"
        raise UserError(problem, "judge.calibrate", "raise data.calibration, or set judge.calibrate: false")
    slope, bias = platt_both_ways(known)
    if slope <= 0:
        problem = f"on the calibration split the judge is no better than a coin (slope {slope:.2f})"
        raise UserError(problem, "judge.calibrate", "try judge.method: auto, a larger judge.model or other principles")
    return slope, bias


def platt_both_ways(known: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and bias from (log-odds, people's P) of pairs, each of which counts both ways round.

    To name the answers the other way negates the log-odds of each of our methods, so a bias could only come from how
    the few pairs happen to be named: this way it is 0, and the slope is all.
    """
    both = [*known, *((-value, 1 - human) for value, human in known)]
    return fit_platt([value for value, _ in both], [human for _, human in both])
