"""What each stage changed of a model that was made here (`pretrain:`): pretraining, SFT on answers, RL.

On held-out documents: perplexity, and bits a byte, which do not depend on the tokenizer. On held-out prompts: whether
an answer ends by itself, and whether it stays the assistant's (`keeps_role`); rewards; and a few answers side by side.
Intervals are over documents, or over prompts. That a later stage raises perplexity on the pretraining text is its
price, which InstructGPT (Ouyang et al. 2022, section 4.2) pays with pretraining gradients mixed into PPO.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cai.compare import plots
from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.figures import Strips
from cai.compare.measures import Rows, ended_rows, reward_rows, text_rows
from cai.compare.section import ReportSection
from cai.core.records import Estimate, Prompt, Response, read_jsonl
from cai.core.store import Artifact
from cai.stats import intervals as statistics
from cai.train.perplexity import TextScore

SHOWN = 6  # prompts whose answers stand side by side
# A line that opens a turn: a role by itself, as a chat template writes it, or with a colon, as people do.
TURN = re.compile(r"^\W*(system|user|human|assistant|question|answer|q|a)\s*(:|$)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    """stage: that made the policy. perplexity, bits: of held-out text, a token and a byte. ends, keeps_role: shares of
    answers. reward: by the first reward model of the policy's arm, in standard deviations of the SFT answers'."""

    stage: str
    policy: str
    arm: str
    seed: int | None
    perplexity: Estimate
    bits: Estimate
    ends: Estimate
    keeps_role: Estimate
    reward: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleAnswer:
    policy: str
    arm: str
    text: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """The last turn of a held-out prompt, and what each policy answers to it with the same draws."""

    prompt: str
    answers: list[SampleAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class FromNothing:
    """texts: that were learnt. counts: what pretraining left of them."""

    texts: list[str]
    counts: dict[str, int]
    lines: list[StageLine]
    samples: list[Sample]


def from_nothing(cells: Sequence[Cell], measured: Measured) -> FromNothing | None:
    """None for a run that starts from a model that was there."""
    first = cells[0]
    if not first.pretrained or first.settings.pretrain is None:
        return None
    acting = {cell.name: cell for cell in with_policy(cells)}
    made: dict[str, tuple[str, Cell | None]] = {"start": ("pretraining", None), "sft": ("SFT", None)}
    made |= {name: (cell.settings.rl.method.upper(), cell) for name, cell in acting.items()}
    lines = [_line(name, stage, cell, cells, measured) for name, (stage, cell) in made.items() if name in measured.text]
    return FromNothing(
        texts=list(first.settings.pretrain.text), counts=counts_of(first.pretrained), lines=lines,
        samples=_samples(first.data, [(line.policy, line.arm) for line in lines], measured),
    )  # fmt: skip


def counts_of(pretrained: Artifact) -> dict[str, int]:
    return json.loads((pretrained / "counts.json").read_text())


def _line(name: str, stage: str, cell: Cell | None, cells: Sequence[Cell], measured: Measured) -> StageLine:
    answers = measured.answers[name, "red-team"]
    scores = read_jsonl(measured.text[name] / "scores.jsonl", TextScore)
    judge = next((one.name for one in ([cell] if cell else cells) if (one.name, name) in measured.scores), None)
    return StageLine(
        stage=stage, policy=name, arm=cell.arm if cell else name, seed=cell.seed if cell else None,
        perplexity=perplexity(scores), bits=bits(scores),
        ends=_mean(ended_rows(answers)), keeps_role=_mean(text_rows(answers, keeps_role)),
        reward=_mean(reward_rows(measured, judge, name)) if judge else None,
    )  # fmt: skip


def perplexity(scores: Sequence[TextScore]) -> Estimate:
    """exp of the mean nats a token, documents drawn as wholes: the interval's ends are those of the mean."""
    nats = statistics.mean(
        [score.nats / score.tokens for score in scores],
        [score.document for score in scores],
        weights=[score.tokens for score in scores],
    )
    value, low, high = (math.exp(x) for x in (nats.value, nats.low, nats.high))
    return replace(nats, value=value, low=low, high=high)


def bits(scores: Sequence[TextScore]) -> Estimate:
    """A byte of the text, without the token that ends it being one."""
    return statistics.mean(
        [score.nats / math.log(2) / score.bytes for score in scores],
        [score.document for score in scores],
        weights=[score.bytes for score in scores],
    )


def keeps_role(text: str) -> bool:
    """Whether an answer opens no turn, its own or another's."""
    return TURN.search(text) is None


def _samples(data: Artifact, policies: Sequence[tuple[str, str]], measured: Measured) -> list[Sample]:
    """Of the first prompts that all answered."""
    prompts = {prompt.id: prompt for prompt in read_jsonl(data / "prompts.jsonl", Prompt)}
    answers = {
        name: {
            row.prompt_id: row for row in read_jsonl(measured.answers[name, "red-team"] / "responses.jsonl", Response)
        }
        for name, _ in policies
    }
    if not answers:
        return []
    shared = [key for key in next(iter(answers.values())) if all(key in own for own in answers.values())]
    return [
        Sample(
            prompts[key].messages[-1].content,
            [
                SampleAnswer(policy=name, arm=arm, text=row.text, ended=row.finish == "stop")
                for name, arm in policies
                if (row := answers[name][key])
            ],
        )
        for key in shared[:SHOWN]
    ]


def _mean(rows: Rows) -> Estimate:
    return statistics.mean(list(rows.values()), list(rows))


def drawn(r: Mapping[str, Any]) -> list[Strips | None]:
    """A plot a measure, with a row a policy."""
    if not r["from_nothing"]:
        return []
    wanted = (
        ("perplexity", "Perplexity of held-out text", plots.Scale("perplexity", "")),
        ("ends", "Ends its answer by itself", plots.Scale("share of answers", ends=(0, 1))),
        ("keeps_role", "Opens no turn in its answer", plots.Scale("share of answers", ends=(0, 1))),
        ("reward", "Reward", plots.Scale("standard deviations of the SFT answers' rewards", "", null=0.0)),
    )
    lines = r["from_nothing"]["lines"]

    def rows(key: str) -> list[plots.Dot]:
        return [
            plots.Dot(f"{line['stage']}: {line['policy']}", line[key], plots.colour(line["arm"], r["arms"]))
            for line in lines
            if line[key]
        ]

    return [plots.dots(title, rows(key), scale) for key, title, scale in wanted]


SECTION = ReportSection(
    "from_nothing", "From nothing: what each stage changed", FromNothing,
    lambda run: from_nothing(run.cells, run.measured),
    chapter="training", template="from_nothing.html.jinja", draw=drawn,
)  # fmt: skip
