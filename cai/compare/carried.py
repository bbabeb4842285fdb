"""What a comparison of finished runs says of their own reports: which of their sections it does not have.

Most are made anew, of what the runs left. Not so what is of one run alone (`label_budget:`, whose reward models are no
arm's), what the first run's `evaluate:` does not ask for, and the groups of raters of runs that differ in them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cai.compare.contents import SECTIONS


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """differs: what the runs differ in, a line each. own: folder of a run -> keys of what its report has."""

    differs: Sequence[str] = ()
    own: Mapping[str, Collection[str]] = field(default_factory=dict)

    def not_carried_over(self, sections: Mapping[str, Any]) -> list[str]:
        """A line for each run whose report has sections that are empty here. sections: key -> what stands here."""
        lines = []
        for home, keys in self.own.items():
            titles = [each.title for each in SECTIONS if each.key in keys and not sections.get(each.key)]
            if titles:
                lines.append(
                    f"Not carried over from {home}: {'; '.join(titles)}. Its own report has "
                    f"{'it' if len(titles) == 1 else 'them'}: {home}/report.html"
                )
        return lines


ONE_RUN = ComparedRuns()  # of an experiment's own report
