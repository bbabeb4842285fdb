"""The sections of the report in the order of results.json, and within each chapter of the page."""

from typing import Any

from cai.compare.section import ReportSection
from cai.compare.sections import (
    audit,
    benchmarks,
    budgets,
    conflicts,
    counts,
    criteria,
    cross,
    curves,
    from_nothing,
    harmfulness,
    judges,
    labels,
    moderation,
    opinions,
    plane,
    ppi,
    principles,
    reading,
    rewards,
    rounds,
    share,
    slimming,
    snapshots,
    sources,
    watched,
)

SECTIONS: tuple[ReportSection[Any], ...] = (
    labels.SECTION,
    snapshots.SECTION,
    budgets.SECTION,
    sources.SECTION,
    rounds.SECTION,
    rounds.OVER_ROUNDS,
    reading.SECTION,
    judges.SECTION,
    conflicts.SECTION,
    slimming.SECTION,
    ppi.SECTION,
    opinions.AGREEMENT,
    opinions.BY_CATEGORY,
    opinions.REWARD_RELIABILITY,
    cross.SECTION,
    share.SECTION,
    principles.SECTION,
    rewards.SECTION,
    plane.SECTION,
    criteria.SECTION,
    harmfulness.SECTION,
    benchmarks.SECTION,
    audit.SECTION,
    counts.SECTION,
    moderation.SECTION,
    curves.SECTION,
    watched.SECTION,
    from_nothing.SECTION,
)

# Key of a section -> the type of its value, for `read_results`.
KINDS = {section.key: section.kind for section in SECTIONS}
