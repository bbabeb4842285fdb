"""Constitutions: principles in plain words -> frozen records, and the draw of a principle by hash.

python -m cai.constitution lint|import|diff|revise|infer

negation turns a principle into its opposite; what a judge makes of a constitution is in cai/judge (trial, flips,
following). Imports the rooms above: core and config.
"""

from cai.constitution.drawing import draw, some
from cai.constitution.parse import read_constitution
from cai.constitution.records import Checked, Constitution, Judging, Limit, Order, Principle, Revising, worded
from cai.constitution.without import less

__all__ = [
    "Checked", "Constitution", "Judging", "Limit", "Order", "Principle", "Revising", "draw", "less",
    "read_constitution", "some", "worded",
]  # fmt: skip
