"""What was read back, in words and tables of plain ASCII."""

import math
from collections.abc import Sequence

from cai.core.records import Estimate
from cai.judge.inferring.candidates import DECOY, Candidate, shortened
from cai.judge.inferring.inference import Inference

MARK = {1: "+", -1: "-", 0: " "}


def page(of: Inference) -> list[str]:
    """One set of labels: what explains it, and how well."""
    pairs, prompts = of.selected_on
    lines = [
        f"{of.labels}: {of.candidates} candidates, selected on {pairs} pairs of {prompts} prompts, "
        f"held out {of.held_out[0]} pairs of {of.held_out[1]}"
    ]
    if of.explains:
        head = ["principle", "from", "weight", "p", "beyond length", "sides with the labels"]
        rows = [
            [f"{'AGAINST: ' if each.reversed else ''}{shortened(each.name)}", each.origin, f"{each.weight:.3g}",
             number(each.p), number(each.beyond_length), share(each.sides)]
            for each in of.explains
        ]  # fmt: skip
        lines += ["", *columns([head, *rows])]
    else:
        lines.append(f"no candidate explains these labels (family-wise p above {of.alpha:g})")
    if of.next_name is not None:
        why = "not taken" if of.next_p > of.alpha else "not taken, for --most is reached"
        lines.append(f"next would be: {shortened(of.next_name)}, p {number(of.next_p)}: {why}")
    lines += [f"taken at first, needless with the others: {shortened(name)}" for name in of.dropped]
    table = [["held-out agreement", ""], *([name, share(e)] for name, e in of.agreement.items())]
    table += [[f"{name}, whole, all pairs", share(e)] for name, e in of.wholes.items()]
    lines += ["", *columns(table)]
    lines.append(f"selected less length: {points(of.over_length)}")
    if of.decoys:
        lines.append(
            f"WARNING: {len(of.decoys)} of the selected are decoys, which no answer is about: this judge goes by "
            "something else than what it reads, and what it says of the others means little"
        )
    if of.silent:
        lines.append(f"silent on half of the pairs: {', '.join(map(shortened, of.silent))}")
    return lines


def side_by_side(inferences: Sequence[Inference], rows: Sequence[Candidate], text: str) -> list[str]:
    """Several sets over the same candidates: the constitution as it was written, and what each set follows.

    text: the origin of the written principles. + and -: p of the principle by itself is at most alpha over the family
    of all candidates, with the labels or against them. *: selected.
    """
    shown = {row.name for row in rows if row.origin == text}
    shown |= {each.name for of in inferences for each in of.explains}
    head = ["sides with", *(of.labels for of in inferences)]
    table = [head, ["the text, as a whole", *(share(of.wholes[text]) for of in inferences)]]
    for at, row in enumerate(rows):
        if row.name in shown:
            name = f"  {shortened(row.name, 44)}{'' if row.origin == text else f' ({row.origin})'}"
            table.append([name, *(_marked(of, at) for of in inferences)])
    table.append(["the shorter answer", *(share(of.shorter) for of in inferences)])
    if any(row.origin == DECOY for row in rows):
        table.append(["decoys, as a whole", *(share(of.wholes[DECOY]) for of in inferences)])
    return [*columns(table), *(sentence(of, rows, text) for of in inferences)]


def sentence(of: Inference, rows: Sequence[Candidate], text: str) -> str:
    """How many of the written principles a set follows, one by one and together."""
    names = {row.name for row in rows if row.origin == text}
    single = [each for each in of.one_by_one if each.name in names and each.p <= of.alpha]
    followed = sum(each.sides.value > 0.5 for each in single)
    selected = [each for each in of.explains if each.name in names and not each.reversed]
    return (
        f"{of.labels}: follows {followed} and goes against {len(single) - followed} of {len(names)} written principles "
        f"one by one (family-wise {of.alpha:.0%}); {len(selected)} of {len(of.explains)} selected were written"
    )


def _marked(of: Inference, at: int) -> str:
    each = of.one_by_one[at]
    sure = 0 if each.p > of.alpha or math.isnan(each.sides.value) else (1 if each.sides.value > 0.5 else -1)
    return f"{share(each.sides)} {MARK[sure]}{'*' if any(e.name == each.name for e in of.explains) else ''}".rstrip()


def share(of: Estimate) -> str:
    ends = "" if math.isnan(of.low) else f" [{100 * of.low:.0f}, {100 * of.high:.0f}]"
    return f"{of.value:.0%}{ends}" if of.n else "-"


def points(of: Estimate) -> str:
    ends = "" if math.isnan(of.low) else f" [{100 * of.low:+.1f}, {100 * of.high:+.1f}]"
    return f"{100 * of.value:+.1f} points{ends}" if of.n else "-"


def number(p: float) -> str:
    return "-" if math.isnan(p) else f"{p:.4f}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
