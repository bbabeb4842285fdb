"""A section of the report: a file that says what stands under its key of results.json, and a template that shows it.

    SECTION = ReportSection("audit", "Revision audit", list[Audit], lambda run: audit(run.cells, run.measured),
                      empty=(), chapter="revisions", template="audit.html.jinja")

in cai/compare/sections/audit.py, and a line in cai/compare/contents.py, which has the order. The template is read only
where its value is not empty. It finds that value as `found`, what `draw` made as `drawn`, all results as `r`, and
writes with macros.html.jinja.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from cai.compare.cells import Cell, Measured
from cai.compare.measures import HeldOutPairs
from cai.compare.schema import Rated
from cai.compare.sections.headline import ratings
from cai.config.load import Experiment

T = TypeVar("T")
Chapter = Literal["labels", "rewards", "training", "policies", "revisions"]


@dataclass(frozen=True)
class Finished:
    """What a run left, for the sections to read. held_out: the held-out pairs, with every opinion on them."""

    experiment: Experiment
    cells: Sequence[Cell]
    measured: Measured
    held_out: HeldOutPairs

    @cached_property
    def ratings(self) -> list[Rated]:
        """Elo of every policy that played: one fit over all games of the run."""
        return ratings(self.cells, self.measured)


@dataclass(frozen=True, slots=True)
class ReportSection(Generic[T]):
    """kind: type of the value, records that JSON can hold. empty: the value of a run that has nothing to say here.

    chapter, template: where on the page it stands, and the file beside it that shows it; without a template the page's
    own templates do. draw: from results.json as it is read back, the plots that the template places as `drawn`.
    """

    key: str
    title: str
    kind: Any
    build: Callable[[Finished], T]
    empty: Any = None
    chapter: Chapter | None = None
    template: str = ""
    draw: Callable[[Mapping[str, Any]], Any] | None = None
