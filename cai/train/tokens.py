"""How many tokens of text an arm's policy learns from, and how many are written for that: what arms are made equal in.

learnt    tokens of answers, ends of turns among them, that a loss is taken of, counted once an epoch
written   tokens that a model samples for training: drafts, critiques, revisions, everyday answers, pairs, rollouts

What a judge or a teacher reads is none of either. Rollouts are counted by their trainers: here are the texts that
stages leave as files (`count_tokens`); cai/compare/sections/distillation.py adds the two up.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.sections import Sft
from cai.core.records import Pair, Response, Revision, labelled_pairs, read_jsonl
from cai.core.store import Artifact, version
from cai.models.chat import encode, harmless
from cai.models.loading import load_tokenizer
from cai.models.workbench import Workbench
from cai.train.sft import Everyday, rows_to_learn
from cai.train.trainable import Labelled, Trainable


@dataclass(frozen=True, slots=True)
class TextTokens:
    """sft: learnt by SFT, in all epochs. labelled: answers of all labelled training pairs, once.

    sft_written: what the start model wrote for SFT. pairs_written: answers that were sampled to be labelled.
    """

    sft: int
    sft_written: int
    labelled: int
    pairs_written: int


@version(1)
def count_tokens(
    out: Path, work: Workbench, *, revisions: Artifact, everyday: Everyday, start: Trainable, settings: Sft | None,
    labelled: Labelled, sampled: bool, seed: int,
) -> None:  # fmt: skip
    """tokens.json: a `TextTokens`.

    settings: None where SFT learns nothing. labelled: pairs and labels of all rounds that the arm reads. sampled:
    whether the pairs' answers were written for them. seed: that of SFT.
    """
    tokenizer = load_tokenizer(start.ref)
    learnt = 0
    if settings:
        rows, _ = rows_to_learn(tokenizer, revisions, everyday, start.policy.system, settings, seed)
        learnt = round(settings.epochs * sum(sum(row["completion_mask"]) for row in rows))
    texts = own_texts(revisions) if revisions.stage in ("revise", "take_drafts", "moderate") else []
    if everyday.answers:
        texts += [row.text for row in read_jsonl(everyday.answers / "responses.jsonl", Response)]
    compared = labelled_pairs(labelled.pairs, labelled.labels)
    trained = [text for comparison in compared for text in (comparison.pair.a, comparison.pair.b)]
    pairs = [pair for folder in labelled.pairs for pair in read_jsonl(folder / "pairs.jsonl", Pair)] if sampled else []
    written = [text for pair in pairs if pair.prompt.split == "train" for text in (pair.a, pair.b)]
    counted = TextTokens(
        sft=learnt, sft_written=tokens(tokenizer, texts), labelled=tokens(tokenizer, trained),
        pairs_written=tokens(tokenizer, written),
    )  # fmt: skip
    names = ("sft", "sft_written", "labelled", "pairs_written")
    (out / "tokens.json").write_text(json.dumps({name: getattr(counted, name) for name in names}))


def own_texts(revisions: Artifact) -> list[str]:
    """What the policy wrote to have these revisions."""
    texts: list[str] = []
    for trace in read_jsonl(revisions / "revisions.jsonl", Revision):
        texts += [trace.draft, *(text for made in trace.rounds for text in (made.critique, made.revision) if text)]
    return texts


def tokens(tokenizer: Any, texts: Iterable[str]) -> int:
    """Of all texts, each with one that ends it."""
    return sum(len(encode(tokenizer, harmless(tokenizer, text))) + 1 for text in texts)
