"""What every stage of labels leaves, for those that read it to find."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cai.core.records import Abstained, Label, read_jsonl, write_jsonl
from cai.core.store import Artifact
from cai.judge.ballots import NEVER
from cai.judge.checkers import ONE
from cai.judge.combine import CHECK
from cai.judge.limits import ONE_BREAKS


def write_labels(out: Path, verdicts: Sequence[Label | Abstained], more: Mapping[str, int] | None = None) -> None:
    """What every stage of labels leaves: labels.jsonl, abstained.jsonl and counts.json, with `more` counts."""
    labels = [verdict for verdict in verdicts if isinstance(verdict, Label)]
    abstained = [verdict for verdict in verdicts if isinstance(verdict, Abstained)]
    write_jsonl(out / "labels.jsonl", labels)
    write_jsonl(out / "abstained.jsonl", abstained)
    counts = Counter(f"abstained: {verdict.reason}" for verdict in abstained)
    counts["labelled"] = len(labels)
    counts.update(f"labelled by {label.source}" for label in labels)
    apart = {CHECK: ("checked", ONE), NEVER: ("limit", ONE_BREAKS)}
    votes = (vote for verdict in verdicts for vote in verdict.votes if vote.method in apart)
    counts.update(
        f'{apart[vote.method][0]}, "{vote.principle}": {vote.fault or apart[vote.method][1]}' for vote in votes
    )
    (out / "counts.json").write_text(json.dumps({**counts, **(more or {})}, indent=1))


def verdicts_of(labels: Artifact) -> dict[str, Label | Abstained]:
    """Pair -> what a stage of labels says of it: the labels first, then the abstentions."""
    rows = [*read_jsonl(labels / "labels.jsonl", Label), *read_jsonl(labels / "abstained.jsonl", Abstained)]
    return {row.pair_id: row for row in rows}
