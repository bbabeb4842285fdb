"""Judges that were slimmed (`judge.slim`), before and after: what they say, what they cost, and what was gained."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from cai.compare.cells import Cell
from cai.compare.section import ReportSection
from cai.judge.slimming.acceptance import SlimAcceptance


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimmedJudge:
    """One arm's. model: that was slimmed. sentence: what became of its agreement with people."""

    arm: str
    model: str
    sentence: str
    found: SlimAcceptance


def slimmed_judges(cells: Sequence[Cell]) -> list[SlimmedJudge]:
    """One for each arm whose judge was slimmed; the acceptance is of the first round's pairs."""
    judges = []
    for arm, cell in {cell.arm: cell for cell in reversed(cells)}.items():
        if cell.acceptance:
            found = read_acceptance((cell.acceptance / "acceptance.json").read_text())
            judges.append(SlimmedJudge(arm=arm, model=cell.settings.judge.model, sentence=sentence(found), found=found))
    return judges[::-1]


def read_acceptance(text: str) -> SlimAcceptance:
    return TypeAdapter(SlimAcceptance).validate_python(json.loads(text))


def sentence(found: SlimAcceptance) -> str:
    if not found.difference.n:
        return "No person judged these pairs: whether it is as good as before is not known."
    points = f"{100 * found.margin:g} points"
    return {
        "worse": "It agrees with people less than before.",
        "as good": f"It agrees with people as before, or at most {points} less.",
        "unknown": f"These pairs are too few to say that it is at most {points} worse.",
    }[found.verdict]


SECTION = ReportSection(
    "slimming", "Slimmed judges", list[SlimmedJudge], lambda run: slimmed_judges(run.cells), empty=(),
    chapter="labels", template="slimming.html.jinja",
)  # fmt: skip
