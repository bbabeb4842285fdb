"""What a draft is revised under, to see what a principle does to its revision: the principle, its opposite, a placebo.

    constitution   the principles of a constitution, as they ask. Their opposites are those of
                   cai/constitution/negation.py, put as a request by rule, so an opposite differs from its principle in
                   wording as well as in sense
    checked        principles whose truth rules compute (cai/judge/teaching/principles.yaml), more of something and less
                   of it, both put by the same rule: whether a revision did as it was asked needs no judge

A placebo is a sentence on another subject (cai/judge/reads/placebos.py), of the length of what the principle asks, put
as a request by the rule that puts opposites:

    Choose the response that admires blue porcelain.  ->  Rewrite the response so that it admires blue porcelain.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cai.constitution import Constitution, Judging, Revising
from cai.constitution.negation import negated
from cai.core.records import Origin
from cai.judge.reads.placebos import Placebo, matched
from cai.judge.teaching.principles import shown
from cai.judge.teaching.wording import stated

# Of the checkable principles, those that an answer to any prompt can be brought to have more of in a few words, and of
# which the draft of a small model often has some already, so that it can come to have less.
CHECKED = ("length", "exclamations", "questions", "digits", "first person", "second person", "example", "apology")

_STANDARD = re.compile(
    r"(?:(?:please )?(?:choose|prefer|pick|select) the (?:assistant )?(?:response|answer|reply) that"
    r"|the (?:response|answer|reply)) ([^.!?;]+)[.!]?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One principle to be put to the test. opposite: None where nothing is known to be its opposite."""

    name: str
    origin: Origin
    text: Revising
    opposite: Revising | None

    # What cai/constitution/drawing.py draws by.
    @property
    def applies_to(self) -> tuple[str, ...]:
        return self.text.applies_to

    @property
    def weight(self) -> float:
        return self.text.weight


def instructions_for(constitution: Constitution) -> tuple[Instruction, ...]:
    """The constitution's principles, then the checked ones in the constitution's form, full or short."""
    own = []
    by_name = {principle.name: principle for principle in constitution.principles}
    for text in replace(constitution, reasons="").revising:  # a reason would stand beside the principle alone
        principle = by_name[text.name]
        against = negated(principle)
        opposite = as_request(against, constitution.form) if against else None
        own.append(Instruction(principle.name, "constitution", text, opposite))
    return (*own, *checked(constitution.form))


def without_opposite(constitution: Constitution) -> list[str]:
    """What to know of principles that have no opposite, in words."""
    return [
        f'"{instruction.name}" has no opposite to be revised under: write its `Against:`'
        for instruction in instructions_for(constitution)
        if instruction.opposite is None
    ]


def checked(form: str) -> tuple[Instruction, ...]:
    by_name = {principle.name: principle for principle in shown()}
    instructions = []
    for name in CHECKED:
        more, less = (
            Judging(name, stated(phrases[0], "Choose the response that {s}."), (), 1.0)
            for phrases in (by_name[name].more, by_name[name].less)
        )
        instructions.append(Instruction(name, "checked", as_request(more, form), as_request(less, form)))
    return tuple(instructions)


def as_request(standard: Judging, form: str) -> Revising:
    """A judge's standard as what somebody who revises is asked, in the full or the short form of a principle."""
    known = _STANDARD.fullmatch(standard.prefer.strip())
    if form == "short":
        text = f"The response {known[1]}." if known else standard.prefer
        return Revising(standard.name, "", "", text, standard.applies_to, standard.weight)
    if known:
        critique = f"Say what must change in the assistant's last response so that it {known[1]}."
        revise = f"Rewrite the response so that it {known[1]}."
    else:
        critique = f"Say what must change in the assistant's last response to meet this standard: {standard.prefer}"
        revise = f"Rewrite the response so that it meets this standard: {standard.prefer}"
    return Revising(standard.name, critique, revise, "", standard.applies_to, standard.weight)


def stand_ins(placebo: Placebo, instructions: Sequence[Instruction], form: str) -> dict[tuple[str, str], Revising]:
    """(origin, name) -> the sentence of the placebo that is nearest in length to what the principle asks, as a request.

    The constitution's and the checked principles are matched apart, so that neither decides the other's placebos.
    """
    replacements = {}
    for origin in ("constitution", "checked"):
        asked = [
            Judging(
                instruction.name,
                instruction.text.revise or instruction.text.text,
                instruction.applies_to,
                instruction.weight,
            )
            for instruction in instructions
            if instruction.origin == origin
        ]
        replacements |= {(origin, name): as_request(of, form) for name, of in matched(placebo, asked).items()}
    return replacements


def form_of(instructions: Sequence[Instruction]) -> str:
    """ "full" where the principles bring requests of their own, else "short"."""
    return "full" if instructions[0].text.critique else "short"


def request_of(principle: Revising) -> str:
    """All that a model is told of a principle, in instruction text."""
    return " ".join(part for part in (principle.critique, principle.revise, principle.text) if part)
