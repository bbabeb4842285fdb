"""The reasons of a constitution (`Why:`), where an experiment has somebody read them (cai/config/reasons.py).

Nobody reads them otherwise: they stand in no record of a stage, so that an edit of `Why:` reruns nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cai.config.reasons import ConstitutionFile
from cai.constitution.records import Constitution
from cai.core.errors import UserError


@dataclass(frozen=True, slots=True)
class GivenReason:
    """What a policy is trained on of one principle: `prefer`, or `never` of a limit, and why."""

    name: str
    prefer: str
    never: str
    why: str


def as_read(constitution: Constitution, settings: ConstitutionFile) -> Constitution:
    """The constitution with what its stages read of its reasons. Raises UserError where there is none to read, or none
    to exchange."""
    if settings.why == "none":
        return constitution
    given = {p.name: p.why for p in constitution.principles if p.why}
    if not given:
        problem = f"constitution.why: {settings.why}, and no principle gives its reasons"
        raise UserError(problem, str(constitution.path), 'add "Why:" to its principles, or set why: none')
    if settings.reasons == "others":
        given = exchanged(given, str(constitution.path))
    principles = tuple(replace(p, why=given.get(p.name, "")) for p in constitution.principles)
    return replace(constitution, principles=principles, reasons=settings.why)


def exchanged(reasons: Mapping[str, str], where: str = "") -> dict[str, str]:
    """Every principle with the reason of another, each reason once: sorted by length, neighbours change places, and of
    an odd number the last three go round. Raises UserError for fewer than two."""
    if len(reasons) < 2:
        problem = "constitution.reasons: others, and one principle alone gives a reason: none is there to exchange"
        raise UserError(problem, where, 'add "Why:" to another principle, or leave `reasons` out')
    names = sorted(reasons, key=lambda name: (len(reasons[name].split()), name))
    taken = list(range(len(names)))
    for place in range(0, len(names) - 1, 2):
        taken[place], taken[place + 1] = taken[place + 1], taken[place]
    if len(names) % 2:
        taken[-2:] = [taken[-1], taken[-2]]
    return {name: reasons[names[other]] for name, other in zip(names, taken, strict=True)}


def reasons_to_learn(constitution: Constitution) -> tuple[GivenReason, ...]:
    """Of the principles that have both a text and a reason, in the order of the file; () unless they are learnt."""
    if constitution.reasons != "train":
        return ()
    able = (p for p in constitution.principles if p.why and (p.prefer or p.never))
    return tuple(GivenReason(p.name, p.prefer, p.never, p.why) for p in able)
