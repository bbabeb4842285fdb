"""Who says which answer is better: the AI judge, or the people who judged the pairs. Both leave the same records."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai.constitution import Judging
from cai.errors import UserError
from cai.judging import judge_pairs
from cai.models import Dtype, Source
from cai.records import Abstained, Label, Pair, read_jsonl, write_jsonl
from cai.settings import Labeller
from cai.store import Artifact, version
from cai.templates import Template
from cai.workbench import Workbench


@version(2)
def label_by_judge(
    out: Path,
    work: Workbench,
    *,
    pairs: Artifact,
    preflight: Artifact | None,
    judge: Labeller,
    model: Source,
    judging: tuple[Judging, ...],
    templates: Mapping[str, Template],
    dtype: Dtype,
    seed: int,
) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: the AI judge on every pair, training and held-out alike.

    preflight: what it found is what is used: the method where the config says `auto`, slope and bias.
    """
    rows = _pairs_to_label(pairs)
    found = json.loads((preflight / "preflight.json").read_text()) if preflight else {}
    judge = judge.model_copy(update={"method": found.get("method", judge.method)})
    engine = work.engine(model, dtype=dtype, system=judge.system)
    title, platt = "judge the pairs", found.get("platt")
    _write(out, judge_pairs(engine, rows, judging, judge, templates, seed=seed, title=title, platt=platt))


@version(2)
def label_by_people(out: Path, work: Any, *, pairs: Artifact) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: the labels that people gave the very same pairs."""
    rows = _pairs_to_label(pairs)
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


def _pairs_to_label(pairs: Artifact) -> list[Pair]:
    """All but those of the calibration split, from which nobody learns but the judge."""
    rows = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split != "calibration"]
    if not rows:
        raise UserError(
            "there are no pairs to label",
            str(pairs.path),
            "give a data source that has pairs, or set pairs.source: policy to sample them",
        )
    return rows


def _write(out: Path, verdicts: list[Label | Abstained]) -> None:
    labels = [verdict for verdict in verdicts if isinstance(verdict, Label)]
    abstained = [verdict for verdict in verdicts if isinstance(verdict, Abstained)]
    write_jsonl(out / "labels.jsonl", labels)
    write_jsonl(out / "abstained.jsonl", abstained)
    counts = Counter(f"abstained: {verdict.reason}" for verdict in abstained)
    counts["labelled"] = len(labels)
    (out / "counts.json").write_text(json.dumps(dict(counts), indent=1))
