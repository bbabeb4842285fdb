"""A judge before and after slimming: what it says, what it costs, and whether the one is worth the other.

The same held-out pairs are put to both. Of pairs with people's verdicts, agreement is compared pair by pair: the mean
difference with its interval over prompts, and McNemar's exact test on the pairs that only one of the two gets right.
Speed and memory are those of this machine, by two processes in turns (clock.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from cai.config.slim import Distil, Slim
from cai.constitution import Judging
from cai.core.draws import uniform
from cai.core.odds import side
from cai.core.progress import progress
from cai.core.records import Abstained, Estimate, Label, Message, Number, Pair
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.diagnostics import diagnose
from cai.judge.methods import METHODS, shares, templates_for
from cai.judge.slimming.clock import TimedJudge, timed
from cai.models.references import ModelRef, local, met
from cai.models.slim.folder import note_of
from cai.models.workbench import Workbench

TIMED, ROUNDS = 8, 5  # pairs that are judged at a time, and how often by each of the two
READ = 64  # texts that perplexity is of
ORDERS = 48  # pairs on which a judge that sees one answer at a time is asked about two, in both orders
SEED = 0  # which pairs those are
BARE = "Choose the response that is better."  # what a judge is asked by whose principles are in its weights

Verdict = Literal["worse", "as good", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimSide:
    """One of the two judges.

    consistency: how often both orders of a question name the same answer. disk: bytes of its folder's weights. memory:
    bytes at the most while it loaded and judged, above the libraries; None where the system does not tell. speed:
    pairs a second, the median; speeds: of each round. perplexity: of the held-out texts.
    """

    labelled: int
    agreement: Estimate
    consistency: Estimate
    ece: Estimate
    disk: int
    memory: int | None
    speed: float
    speeds: list[float]
    perplexity: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimAcceptance:
    """how: in words. pairs: that both were asked about. difference: of agreement, after less before.

    only_before, only_after: pairs that one of the two gets right and the other does not, of which `mcnemar` is the
    exact p. turned: the share of pairs on which the slimmed judge names the other answer. faster: speed after over
    before, of each round's two. layers, left: linear layers that were changed, and that could not be made smaller.
    weights, zeros: of the changed layers. reloaded: by how much the saved model differs from that in memory, in nats.
    verdict: about agreement: worse (the interval of the difference is below 0), as good (it is above -margin).
    """

    how: str
    method: str
    pairs: int
    before: SlimSide
    after: SlimSide
    difference: Estimate
    margin: float
    only_before: int
    only_after: int
    mcnemar: Number
    turned: Estimate
    faster: list[float]
    layers: int
    left: int
    weights: int
    zeros: int
    reloaded: float
    verdict: Verdict
    notes: list[str]


def accept(
    work: Workbench, judge: AskedJudge, slimmed: ModelRef, pairs: Sequence[Pair], margin: float
) -> SlimAcceptance:
    """judge: as it is, with the templates of `choice` beside its own. pairs: held out; people need not have judged
    them. Raises UserError where one of the two processes ends."""
    note = note_of(Path(slimmed.place))
    assert note is not None
    how = Slim.model_validate(note["how"])
    smaller = replace(judge, model=slimmed)
    if how.distil and not how.distil.context:
        smaller = replace(smaller, principles=without_principles(judge.principles))
    judges = {"before": judge, "after": smaller}

    # 1. What both say.
    said = {name: judge_pairs(one.engine(work), pairs, one, title=f"slim: {name}") for name, one in judges.items()}
    diagnoses = {name: diagnose(pairs, verdicts) for name, verdicts in said.items()}
    consistency = {name: diagnosis.consistency for name, diagnosis in diagnoses.items()}
    if not any(METHODS[method].both_orders for method in shares(judge.settings)):
        few = first_by_hash(pairs, ORDERS)
        for name, one in judges.items():
            asked = one.by("choice")
            verdicts = judge_pairs(asked.engine(work), few, asked, title=f"slim: both orders, {name}")
            consistency[name] = diagnose(few, verdicts).consistency
    compared = compare(pairs, said["before"], said["after"])

    # 2. What both cost.
    work.release()
    job = TimedJudge(judge, first_by_hash(pairs, TIMED), texts_of(pairs), work.runtime, work.device, met())
    measured = measure({name: replace(job, judge=one) for name, one in judges.items()})

    def of(name: str) -> SlimSide:
        diagnosis, cost = diagnoses[name], measured[name]
        return SlimSide(
            labelled=diagnosis.labelled, agreement=diagnosis.accuracy, consistency=consistency[name],
            ece=diagnosis.ece, disk=bytes_of(judges[name].model), memory=cost["memory"],
            speed=median(cost["speeds"]), speeds=cost["speeds"], perplexity=cost["perplexity"],
        )  # fmt: skip

    made = SlimAcceptance(
        how=how.name, method=", ".join(shares(judge.settings)), pairs=len(pairs),
        before=of("before"), after=of("after"),
        **compared, margin=margin, verdict=verdict_of(compared["difference"], margin),
        faster=[a / b for a, b in zip(measured["after"]["speeds"], measured["before"]["speeds"], strict=True)],
        layers=note["layers"], left=note["left"], weights=note["weights"], zeros=note["zeros"],
        reloaded=note["reloaded"], notes=[],
    )  # fmt: skip
    notes = notes_on(made, how.how, work.device)
    return replace(made, notes=[*notes, note_on_distilling(how.distil, note["distilled"])] if how.distil else notes)


def without_principles(principles: Sequence[Judging]) -> tuple[Judging, ...]:
    """The same names and weights, whose text says nothing. What a program checks is still checked."""
    return tuple(replace(p, prefer=BARE, against="") if p.prefer else p for p in principles)


def with_orders(judge: AskedJudge) -> AskedJudge:
    """The same with the templates of `choice`, by which its order consistency is measured."""
    return replace(judge, templates={**templates_for(judge.settings, ("choice",)), **judge.templates})


# 1. What both say -----------------------------------------------------------------------------------------------------


def compare(
    pairs: Sequence[Pair], before: Sequence[Label | Abstained], after: Sequence[Label | Abstained]
) -> dict[str, Any]:
    """`difference`, `only_before`, `only_after`, `mcnemar` and `turned` of `SlimAcceptance`.

    A pair on which people are split, or that one of the two abstained on, is left out; a tie of the judge is half
    right.
    """
    from cai.stats import intervals as statistics
    from cai.stats.paired import mcnemar

    names = [pair.prompt.id for pair in pairs]
    was, is_now = (list(map(_right, pairs, verdicts)) for verdicts in (before, after))
    both = [(a, b) for a, b in zip(was, is_now, strict=True) if not math.isnan(a + b)]
    sides = [
        float(_side(a) != _side(b)) if isinstance(a, Label) and isinstance(b, Label) else math.nan
        for a, b in zip(before, after, strict=True)
    ]
    return {
        "difference": statistics.paired_difference(is_now, was, names),
        "only_before": sum(a > b for a, b in both),
        "only_after": sum(b > a for a, b in both),
        "mcnemar": mcnemar(was, is_now, names),
        "turned": statistics.mean(sides, names),
    }


def _side(label: Label) -> float:
    return side(label.p_a, 0.5)


def _right(pair: Pair, verdict: Label | Abstained) -> float:
    """1, 0, or a half for a tie of the judge; NaN where there is nothing to compare."""
    if pair.human is None or pair.human == 0.5 or isinstance(verdict, Abstained):
        return math.nan
    return 0.5 + 0.5 * side(verdict.p_a, 0.5) * side(pair.human, 0.5)


def verdict_of(difference: Estimate, margin: float) -> Verdict:
    if not difference.n or math.isnan(difference.low):
        return "unknown"
    return "worse" if difference.high < 0 else "as good" if difference.low > -margin else "unknown"


# 2. What both cost ----------------------------------------------------------------------------------------------------


def first_by_hash(pairs: Sequence[Pair], count: int) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: uniform("slim", SEED, pair.id))[:count])


def texts_of(pairs: Sequence[Pair]) -> tuple[tuple[Message, ...], ...]:
    """Conversations with an answer, of as many different prompts as there are."""
    by_prompt = {pair.prompt.id: (*pair.prompt.messages, Message("assistant", pair.a)) for pair in pairs}
    return tuple(by_prompt[name] for name in sorted(by_prompt, key=lambda name: uniform("slim", SEED, name))[:READ])


def bytes_of(model: ModelRef) -> int:
    """Of a model's weights on the disk, those of an adapter with its base's."""
    from cai.models.adapters import is_adapter
    from cai.models.references import base_of

    folder = Path(local(model))
    own = sum(file.stat().st_size for kind in ("*.safetensors", "*.bin") for file in folder.glob(kind))
    return own + (bytes_of(base_of(folder)) if is_adapter(folder) else 0)


def measure(jobs: dict[str, TimedJudge]) -> dict[str, dict[str, Any]]:
    """Speeds, memory and perplexity of each job. Each round both judge, the first of the two by turns; one round before
    the first is not counted."""
    measured: dict[str, dict[str, Any]] = {name: {"speeds": []} for name in jobs}
    with timed(jobs) as processes, progress("slim: speed and memory", 2 * (ROUNDS + 2)) as step:
        for number in range(ROUNDS + 1):
            for name in list(jobs)[:: 1 if number % 2 else -1]:
                seconds = processes[name].tell("judge")["seconds"]
                if number:
                    measured[name]["speeds"].append(len(jobs[name].pairs) / seconds)
                step(1)
        for name, process in processes.items():
            measured[name]["memory"] = process.tell("memory")["bytes"]
            read = process.tell("read")
            measured[name]["perplexity"] = math.exp(read["nats"] / read["tokens"]) if read["tokens"] else math.nan
            step(1)
    return measured


# 3. What to know of it ------------------------------------------------------------------------------------------------


def notes_on(made: SlimAcceptance, how: str, device: str) -> list[str]:
    """What a table of numbers does not say by itself."""
    notes, rounds = [], f"{min(made.faster):.2f} to {max(made.faster):.2f} over {len(made.faster)} rounds"
    speed = f"{median(made.faster):.2f} times as fast as before ({rounds})"
    if made.zeros:
        notes.append(
            f"{made.zeros / made.weights:.0%} of the weights of its linear layers are 0, and they are stored and "
            f"multiplied as any other: dense kernels save neither room nor time by them. On {device} it is {speed}. "
            "Zeros save time as 2:4 on GPUs, with kernels that are not used here."
        )
    elif how == "low-rank":
        rest = f"; the other {made.left} would be no smaller, and stay as they are" if made.left else ""
        notes.append(
            f"{made.layers} of {made.layers + made.left} linear layers are two thin matrices each{rest}. On {device} "
            f"it is {speed}."
        )
    elif how == "distil":
        notes.append(f"It has as many weights as before, and its questions are shorter. On {device} it is {speed}.")
    else:
        notes.append(
            f"The weights of {made.layers} linear layers are rounded; embeddings and head are not. On {device} it is "
            f"{speed}; it would take kernels that multiply rounded weights as they are to be faster."
        )
    if made.before.labelled != made.after.labelled:
        notes.append(
            f"It could be read on {made.after.labelled} pairs, and on {made.before.labelled} before; agreement is "
            "compared where both could."
        )
    return notes


def note_on_distilling(how: Distil, distilled: dict[str, Any]) -> str:
    asked = "asked by the same principles" if how.context else "asked without the principles, which the whole one reads"
    return (
        f"It was taught by the whole judge, {asked}: on {distilled['pairs']} training pairs, no label of which was "
        f"read, in {distilled['steps']} steps. On {distilled['looked_at']} other training pairs its votes are "
        f"{distilled['after']:.3g} nats from the whole judge's (KL divergence), and were {distilled['before']:.3g}."
    )
