"""Rubrics that a model writes for each prompt (`judge.rubric.write`), a stage of its own.

Rubrics as Rewards (Gunjal et al. 2025, section 3) has a large model write them from an expert's reference answer. Here
the writer is shown the conversation and the principles that the judge would read, and no answer: so criteria cannot
favour one of the two that they are to tell apart. The reply is read strictly, a criterion a line:

    +5: It tells the human to see a doctor.      points from -10 to 10 and not 0, with their sign; a colon; a sentence
    -3: It names a dose. | only if: it names a medicine

What is of another form is dropped and counted, as are lines that say a criterion again, those over the number asked
for, and the last line of a reply that was cut off. A prompt for which nothing can be read has no criteria, and its
pairs are abstentions.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cai.config.panel import ArmJudge
from cai.config.rubric import WrittenRubric
from cai.constitution import Constitution, Judging
from cai.core.draws import normal, seed_of
from cai.core.errors import UserError
from cai.core.records import Chat, Pair, Prompt, read_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template, load_template
from cai.data.input_file import InputFile
from cai.data.rubrics import RubricItem, rubric_file
from cai.judge.rubric import FILE
from cai.models.engines import Reply, Request, Sampling
from cai.models.references import Dtype, ModelRef, find, model_of
from cai.models.workbench import Workbench

LINE = re.compile(r"(?:[-*•] |\d+[.)] )?([+\-−]) ?(\d{1,2}) ?: *(?P<criterion>.+?)(?: *\| *only if: *(?P<only_if>.+))?")
MOST_POINTS, SHORTEST, LONGEST = 10, 3, 40  # words of a criterion
NO_FORM, AGAIN, OVER, CUT = "not of the form", "said before", "more than asked for", "cut off"
NOTHING = "prompts without a criterion that can be read"


@dataclass(frozen=True, slots=True)
class RubricWriter:
    """Who writes criteria, by which principles, in which words. system: what the model is told where the template has
    no system turn."""

    settings: WrittenRubric
    model: ModelRef
    principles: tuple[Judging, ...]
    template: Template
    dtype: Dtype
    seed: int
    system: str | None = None

    @classmethod
    def of(cls, judge: ArmJudge, constitution: Constitution, dtype: Dtype, seed: int) -> "RubricWriter":
        """Raises UserError(s) for a model or a template that is not there."""
        assert judge.rubric and judge.rubric.write
        settings = judge.rubric.write
        model = find(settings.model) if settings.model else model_of(judge)
        own = None if settings.model else judge.system
        return cls(settings, model, constitution.judging, load_template("rubric_write"), dtype, seed, own)

    def keyed(self) -> Mapping[str, Any]:
        """As a stage's key has it (cai/core/store.py)."""
        return {
            "settings": self.settings, "model": self.model, "judging": self.principles, "template": self.template,
            "dtype": self.dtype, "seed": self.seed, "system": self.system,
        }  # fmt: skip

    def chat(self, prompt: Prompt) -> Chat:
        told = [p.prefer for p in self.principles if not p.applies_to or prompt.subset in p.applies_to]
        return self.template.render(messages=prompt.messages, principles=told, count=self.settings.criteria)


def criteria_for(
    stage: Callable[..., Artifact],
    judge: ArmJudge,
    constitution: Constitution,
    dtype: Dtype,
    seed: int,
    *,
    pairs: Sequence[Artifact] = (),
    prompts: Sequence[Artifact] = (),
) -> InputFile | Artifact | None:
    """What an arm's judge scores by: the file, or what is written for the prompts of pairs, and for the training
    prompts of `prompts`; None without `judge.rubric`. Raises UserError(s) for what is not there."""
    if judge.rubric is None:
        return None
    if judge.rubric.file:
        return rubric_file(judge.rubric.file)
    writer = RubricWriter.of(judge, constitution, dtype, seed)
    folders = {"pairs": tuple(dict.fromkeys(pairs)), "prompts": tuple(dict.fromkeys(prompts))}
    return stage(write_rubrics, writer=writer, **folders)


@version(1)
def write_rubrics(
    out: Path, work: Workbench, *, pairs: tuple[Artifact, ...], prompts: tuple[Artifact, ...], writer: RubricWriter
) -> None:
    """rubrics.jsonl: the criteria of each prompt, a file for `judge.rubric.file`; written.jsonl: what the model wrote,
    and what of it was dropped; counts.json.

    Raises UserError where nothing that it wrote can be read.
    """
    asked = {pair.prompt.id: pair.prompt for folder in pairs for pair in read_jsonl(folder / "pairs.jsonl", Pair)}
    for folder in prompts:
        rows = read_jsonl(folder / "prompts.jsonl", Prompt)
        asked |= {prompt.id: prompt for prompt in rows if prompt.split == "train"}
    settings = writer.settings
    engine = work.engine(writer.model, dtype=writer.dtype, system=writer.system)
    requests = [Request(writer.chat(prompt), seed_of("rubric", writer.seed, name)) for name, prompt in asked.items()]
    sampling = Sampling(settings.max_new_tokens, settings.temperature)
    replies = engine.generate(requests, sampling, "write the rubrics")
    counts: Counter[str] = Counter({"prompts": len(asked)})
    rubrics, written = [], []
    for prompt, reply in zip(asked.values(), replies, strict=True):
        items, dropped = read_criteria(reply, settings.criteria)
        counts["criteria"] += len(items)
        counts.update({f"lines dropped: {reason}": count for reason, count in dropped.items()})
        counts[NOTHING] += not items
        text = reply.text if reply else None
        written.append({"prompt_id": prompt.id, "written": text, "criteria": len(items), "dropped": dict(dropped)})
        if items:
            messages = [asdict(message) for message in prompt.messages]
            row = {"prompt_id": prompt.id, "prompt": messages, "rubrics": [asdict(item) for item in items]}
            rubrics.append(row)
    if not rubrics:
        problem = f"{writer.model.name} wrote no criterion that can be read, for any of {len(asked)} prompts"
        remedy = "name a larger model under judge.rubric.write.model, or reword prompts/rubric_write.jinja"
        raise UserError(problem, "judge.rubric.write", remedy)
    for name, rows in ((FILE, rubrics), ("written.jsonl", written)):
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (out / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (out / "counts.json").write_text(json.dumps(counts, indent=1))


def read_criteria(reply: Reply | None, most: int) -> tuple[list[RubricItem], Counter[str]]:
    """(the criteria that a reply holds, at most so many; lines that were dropped, by reason)."""
    lines = [line.strip() for line in reply.text.splitlines()] if reply else []
    lines = [line for line in lines if line]
    items: dict[str, RubricItem] = {}
    dropped: Counter[str] = Counter()
    if reply and reply.finish == "length" and lines:
        dropped[CUT] += 1
        lines.pop()
    for line in lines:
        item = _criterion(line)
        if item is None:
            dropped[NO_FORM] += 1
        elif item.name.casefold() in items:
            dropped[AGAIN] += 1
        elif len(items) == most:
            dropped[OVER] += 1
        else:
            items[item.name.casefold()] = item
    return list(items.values()), dropped


def _criterion(line: str) -> RubricItem | None:
    match = LINE.fullmatch(line)
    if not match:
        return None
    points, text, condition = int(match[2]), match["criterion"].strip(), (match["only_if"] or "").strip()
    if not 1 <= points <= MOST_POINTS or not SHORTEST <= len(text.split()) <= LONGEST:
        return None
    signed = points if match[1] == "+" else -points
    return RubricItem(criterion=text, points=float(signed), name=normal(text), only_if=condition, tags=("written",))
