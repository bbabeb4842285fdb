"""Who says which answer is better: the AI judge, or the people who judged the pairs. Both leave the same records."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from cai.config import Judge
from cai.constitution import Judging
from cai.errors import UserError
from cai.judging import judge_pairs
from cai.models import Dtype, Source
from cai.records import Abstained, Label, Pair, read_jsonl, write_jsonl
from cai.store import Artifact, version
from cai.templates import Template
from cai.workbench import Workbench


@version(1)
def label_by_judge(
    out: Path,
    work: Workbench,
    *,
    pairs: Artifact,
    judge: Judge,
    model: Source,
    judging: tuple[Judging, ...],
    template: Template,
    dtype: Dtype,
    seed: int,
) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: the AI judge on every pair, training and held-out alike."""
    rows = read_jsonl(pairs / "pairs.jsonl", Pair)
    _need_pairs(rows, pairs)
    engine = work.engine(model, dtype=dtype, system=judge.system)
    _write(out, judge_pairs(engine, rows, judging, judge, template, seed=seed, title="judge the pairs"))


@version(1)
def label_by_people(out: Path, work: Any, *, pairs: Artifact) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: the labels that people gave the very same pairs."""
    rows = read_jsonl(pairs / "pairs.jsonl", Pair)
    _need_pairs(rows, pairs)
    if all(pair.human is None for pair in rows):
        raise UserError(
            "labels: human, but no person has judged these pairs",
            "labels",
            "use a data source with human labels (`human` in a pair, or HH-RLHF), or set labels: ai",
        )
    _write(
        out,
        [
            Abstained(pair.id, "no human judged this pair")
            if pair.human is None
            else Label(pair.id, pair.human, "human")
            for pair in rows
        ],
    )


def _need_pairs(rows: list[Pair], pairs: Artifact) -> None:
    if not rows:
        raise UserError(
            "there are no pairs to label",
            str(pairs.path),
            "give a data source that has pairs, or set pairs.source: policy to sample them",
        )


def _write(out: Path, verdicts: list[Label | Abstained]) -> None:
    labels = [verdict for verdict in verdicts if isinstance(verdict, Label)]
    abstained = [verdict for verdict in verdicts if isinstance(verdict, Abstained)]
    write_jsonl(out / "labels.jsonl", labels)
    write_jsonl(out / "abstained.jsonl", abstained)
    counts = Counter(f"abstained: {verdict.reason}" for verdict in abstained)
    counts["labelled"] = len(labels)
    (out / "counts.json").write_text(json.dumps(dict(counts), indent=1))
