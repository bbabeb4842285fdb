"""Files of comparisons that people have decided, such as the paper's multiple-choice evaluations (Bai et al. 2022).

load_items      the file as records (cai/data/comparisons.py reads every form)
score_items     a reward model scores the better answer and the worse one
choose_items    a policy answers the multiple choice exactly as the file gives it
judge_items     the evaluation's judge compares the two answers by its own method
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cai.config.sections import Judge, Policy
from cai.constitution import Judging
from cai.core.records import Abstained, Label, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.data.comparisons import Item, read_comparisons
from cai.data.input_file import InputFile
from cai.judge.asking import judge_pairs
from cai.models.chat import answered
from cai.models.loading import load_tokenizer
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Opinion:
    """P(a better) of an item's pair; None where it cannot be said, and `fault` says why.

    first: P of the option that the file's question shows first; None where nothing is shown in an order.
    """

    pair_id: str
    p_a: float | None
    first: float | None = None
    fault: str = ""


@version(1)
def load_items(out: Path, work: Workbench, *, file: InputFile) -> None:
    """items.jsonl and faults.json."""
    held = read_comparisons(file.written)
    write_jsonl(out / "items.jsonl", held.items)
    (out / "faults.json").write_text(json.dumps(held.faults, indent=1))


@version(1)
def score_items(
    out: Path, work: Workbench, *, items: Artifact, reward: ModelRef, policy: Policy, max_length: int, dtype: Dtype
) -> None:
    """opinions.jsonl: 1 where the reward of a is the higher one, 0.5 for equal rewards; None for what is too long."""
    from cai.models.score import score  # heavy: only when there is something to score

    pairs = [item.pair for item in read_jsonl(items / "items.jsonl", Item)]
    chats = [answered(pair.prompt.messages, text, policy.system) for pair in pairs for text in (pair.a, pair.b)]
    rewards = score(
        work.reward_model(reward, dtype), load_tokenizer(reward), chats, max_length=max_length,
        batch_tokens=work.runtime.batch_tokens,
    )  # fmt: skip
    found = []
    for pair, a, b in zip(pairs, rewards[::2], rewards[1::2], strict=True):
        if a is None or b is None:
            found.append(Opinion(pair.id, None, fault="longer than reward.max_length"))
        else:
            found.append(Opinion(pair.id, 0.5 + 0.5 * ((a > b) - (a < b))))
    write_jsonl(out / "opinions.jsonl", found)


@version(1)
def choose_items(
    out: Path, work: Workbench, *, items: Artifact, model: ModelRef, policy: Policy, judge: Judge, dtype: Dtype
) -> None:
    """opinions.jsonl, of the items that have a multiple choice: what the policy thinks, by its own log-probabilities.

    A question has the one order that the file gives it, so a liking for a letter does not cancel: `first` shows it.
    judge: its `max_length` and `min_mass` say what is read.
    """
    rows = [item for item in read_jsonl(items / "items.jsonl", Item) if item.given]
    questions = []
    for item in rows:
        assert item.given is not None
        questions.append(replace(item.given, options=tuple(sorted(item.given.options))))  # (A) before (B), as shown
    engine = work.engine(model, dtype=dtype, system=policy.system)
    readings = engine.choose(questions, judge.max_length, "multiple choice") if questions else []
    found = []
    for item, question, reading in zip(rows, questions, readings, strict=True):
        assert item.given is not None
        if reading is None or reading.mass < judge.min_mass:
            fault = "longer than judge.max_length" if reading is None else "too little probability on the options"
            found.append(Opinion(item.pair.id, None, fault=fault))
            continue
        one, two = reading.logprobs
        first = 0.5 + 0.5 * ((one > two) - (one < two))
        right = first if question.options[0] == item.given.options[0] else 1 - first
        found.append(Opinion(item.pair.id, right if (item.pair.human or 0) > 0.5 else 1 - right, first))
    write_jsonl(out / "opinions.jsonl", found)


@version(1)
def judge_items(
    out: Path,
    work: Workbench,
    *,
    items: Artifact,
    judge: Judge,
    model: ModelRef,
    judging: tuple[Judging, ...],
    templates: Mapping[str, Template],
    dtype: Dtype,
    seed: int,
) -> None:
    """opinions.jsonl: the evaluation's judge, asked by its own method (in both orders where that shows both)."""
    pairs = [item.pair for item in read_jsonl(items / "items.jsonl", Item)]
    engine = work.engine(model, dtype=dtype, system=judge.system)
    verdicts: list[Label | Abstained] = judge_pairs(
        engine, pairs, judging, judge, templates, seed=seed, title="judge the comparisons"
    )
    write_jsonl(
        out / "opinions.jsonl",
        [
            Opinion(one.pair_id, one.p_a) if isinstance(one, Label) else Opinion(one.pair_id, None, fault=one.reason)
            for one in verdicts
        ],
    )
