"""What was read back, as a constitution file of the full form, with weights.

A principle that labels go against is written turned round: its opposite is what is preferred. Weights are those of the
log-odds, so that a judge which is asked by all of them (`judge.principles: all`) labels as the fit does. A principle
without wordings for critique and revision gets plain ones, so that the file is whole: it can be trained by.
"""

from collections.abc import Sequence
from pathlib import Path

from cai.constitution import Constitution
from cai.constitution.parse import escape, parse
from cai.core.records import Estimate
from cai.judge.inferring.candidates import Candidate, shortened
from cai.judge.inferring.inference import Explanation, Inference


def written(inference: Inference, rows: Sequence[Candidate], asked: str) -> tuple[str, list[str]]:
    """(the text, or "" where nothing can be written; names of principles that cannot be turned round). asked: who was
    asked, and how, for the notes."""
    of = {row.name: row for row in rows}
    able = [each for each in inference.explains if not each.reversed or of[each.name].opposite]
    unwritten = [each.name for each in inference.explains if each not in able]
    if not able:
        return "", unwritten
    most = max(each.weight for each in able)
    lines = [
        f"# What {Path(inference.labels).name} follows",
        "",
        f"Read back by python -m cai.constitution infer from {inference.selected_on[0]} pairs of "
        f"{inference.selected_on[1]} prompts, by {asked}. Of {inference.candidates} candidates these explain the "
        f"labels at a family-wise rate of false alarms of {inference.alpha:.0%}. Weights are for a judge that is asked "
        "by all of them.",
    ]
    for each in able:
        lines += ["", *_section(each, of[each.name], each.weight / most)]
    return "\n".join(lines) + "\n", unwritten


def read_back(text: str, path: Path) -> Constitution:
    """The text as it will be read from its file."""
    return parse(text, path)


def _section(each: Explanation, row: Candidate, weight: float) -> list[str]:
    principle, opposite = row.principle, row.opposite
    prefer, against = (opposite, principle.prefer) if each.reversed else (principle.prefer, opposite)
    name = shortened(row.name, 80)
    head = f"not: {name}" if each.reversed else name
    fields = {"Why": f"Taken at p = {each.p:.4f}; sides with {_share(each.sides)} of the labels it was selected on."}
    if principle.check and not each.reversed:
        fields |= {"Check": principle.check}
    wordings = principle.critique and principle.revise and not each.reversed
    if prefer and (wordings or not principle.check):
        critique = f"Say in which ways the assistant's last response does not do this: {_asked(prefer)}"
        revise = f"Rewrite the response so that it does this: {_asked(prefer)}"
        fields |= {"Critique": principle.critique if wordings else critique}
        fields |= {"Revise": principle.revise if wordings else revise}
    if prefer:
        fields |= {"Prefer": prefer}
    if against and prefer and "Critique" in fields:
        fields |= {"Against": against}
    if principle.applies_to:
        fields |= {"Applies to": ", ".join(principle.applies_to)}
    fields |= {"Weight": f"{max(weight, 0.001):.3g}"}
    return [f"## {head}", *(line for field, text in fields.items() for line in ("", f"{field}: {escape(text)}"))]


def _asked(prefer: str) -> str:
    return f"{shortened(prefer, 400)}."


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
