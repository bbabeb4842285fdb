"""Files of comparisons that people have decided, such as the paper's multiple-choice evaluations (Bai et al. 2022).

load_items      the file as records (cai/data/comparisons.py reads every form)
score_items     a reward model scores the better answer and the worse one
choose_items    a policy answers the multiple choice exactly as the file gives it
judge_items     the evaluation's judge compares the two answers by its own method
"""

import json
from dataclasses import replace
from pathlib import Path

from cai.config.sections import Judge, Policy
from cai.core.odds import side
from cai.core.records import Abstained, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.data.comparisons import Item, read_comparisons
from cai.data.input_file import InputFile
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.ballots import NO_MASS, TOO_LONG
from cai.judge.items_file import ItemChoice
from cai.models.chat import answered
from cai.models.loading import shared_tokenizer
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench


@version(1)
def load_items(out: Path, work: Workbench, *, file: InputFile) -> None:
    """items.jsonl and faults.json."""
    comparisons = read_comparisons(file.written)
    write_jsonl(out / "items.jsonl", comparisons.items)
    (out / "faults.json").write_text(json.dumps(comparisons.faults, indent=1))


@version(2)
def score_items(
    out: Path, work: Workbench, *, items: Artifact, reward: ModelRef, policy: Policy, max_length: int, dtype: Dtype
) -> None:
    """opinions.jsonl: 1 where the reward of a is the higher one, 0.5 for equal rewards; None for what is too long."""
    from cai.models.score import score  # heavy: only when there is something to score

    pairs = [item.pair for item in read_jsonl(items / "items.jsonl", Item)]
    chats = [answered(pair.prompt.messages, text, policy.system) for pair in pairs for text in (pair.a, pair.b)]
    rewards = score(
        work.reward_model(reward, dtype), shared_tokenizer(reward), chats, max_length=max_length,
        batch_tokens=work.runtime.batch_tokens,
    )  # fmt: skip
    choices = []
    for pair, a, b in zip(pairs, rewards[::2], rewards[1::2], strict=True):
        if a is None or b is None:
            choices.append(ItemChoice(pair.id, None, fault="longer than reward.max_length"))
        else:
            choices.append(ItemChoice(pair.id, 0.5 + 0.5 * side(a, b)))
    write_jsonl(out / "opinions.jsonl", choices)


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
    choices = []
    for item, question, reading in zip(rows, questions, readings, strict=True):
        assert item.given is not None
        if reading is None or reading.mass < judge.min_mass:
            fault = TOO_LONG if reading is None else NO_MASS
            choices.append(ItemChoice(item.pair.id, None, fault=fault))
            continue
        first = 0.5 + 0.5 * side(*reading.logprobs)
        right = first if question.options[0] == item.given.options[0] else 1 - first
        choices.append(ItemChoice(item.pair.id, right if (item.pair.human or 0) > 0.5 else 1 - right, first))
    write_jsonl(out / "opinions.jsonl", choices)


@version(1)
def judge_items(out: Path, work: Workbench, *, items: Artifact, judge: AskedJudge) -> None:
    """opinions.jsonl: the evaluation's judge, asked by its own method (in both orders where that shows both)."""
    pairs = [item.pair for item in read_jsonl(items / "items.jsonl", Item)]
    choices = [
        ItemChoice(verdict.pair_id, None, fault=verdict.reason)
        if isinstance(verdict, Abstained)
        else ItemChoice(verdict.pair_id, verdict.p_a)
        for verdict in judge_pairs(judge.engine(work), pairs, judge, title="judge the comparisons")
    ]
    write_jsonl(out / "opinions.jsonl", choices)
