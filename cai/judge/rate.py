"""The evaluation's judge rates single texts: drafts with each of their revisions, answers of a policy, and revisions
that were made under other texts to see what a principle does.

Every text is asked about alone (methods `rate` and `channel`, in log-odds, mean over principles), so that
revision 3 is rated without knowing the draft, and texts to one prompt are read by the same principles and can be
paired. Bai et al. (2022, figure 5) score revisions by preference models that are trained on people's labels; here a
judge does that, and nothing of it is trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai.config.sections import Judge
from cai.constitution import Judging
from cai.core.records import Controlled, Prompt, Response, Revision, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.judge.asking import judge_answers
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Merit:
    """How good one text is to the judge, in nats of log-odds of Yes; None where it could not be read.

    step: 0 for a draft or an answer, n for the revision of round n; of controlled revisions, the row's place from 0.
    """

    prompt_id: str
    step: int
    value: float | None


@version(1)
def rate_revisions(
    out: Path,
    work: Workbench,
    *,
    revisions: Artifact,
    count: int,
    judge: Judge,
    model: ModelRef,
    judging: tuple[Judging, ...],
    templates: Mapping[str, Template],
    dtype: Dtype,
    seed: int,
) -> None:
    """merits.jsonl: draft and every revision of the first `count` traces (they stand in an order drawn by hash)."""
    traces = read_jsonl(revisions / "revisions.jsonl", Revision)[:count]
    texts = [
        (trace.prompt, step, text)
        for trace in traces
        for step, text in enumerate((trace.draft, *(one.revision for one in trace.rounds)))
    ]
    _rate(out, work, texts, judge, model, judging, templates, dtype, seed, "rate the revisions")


@version(1)
def rate_controlled(
    out: Path,
    work: Workbench,
    *,
    prompts: Artifact,
    controlled: Artifact,
    judge: Judge,
    model: ModelRef,
    judging: tuple[Judging, ...],
    templates: Mapping[str, Template],
    dtype: Dtype,
    seed: int,
) -> None:
    """merits.jsonl: every revision of `controlled` that was made for a principle of the constitution."""
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    texts = [
        (by_id[row.prompt_id], place, row.revision)
        for place, row in enumerate(read_jsonl(controlled / "controlled.jsonl", Controlled))
        if row.origin == "constitution" and row.revision
    ]
    _rate(out, work, texts, judge, model, judging, templates, dtype, seed, "rate the audit's revisions")


@version(1)
def rate_answers(
    out: Path,
    work: Workbench,
    *,
    prompts: Artifact,
    answers: Artifact,
    judge: Judge,
    model: ModelRef,
    judging: tuple[Judging, ...],
    templates: Mapping[str, Template],
    dtype: Dtype,
    seed: int,
) -> None:
    """merits.jsonl: every answer of a policy."""
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    rows = read_jsonl(answers / "responses.jsonl", Response)
    texts = [(by_id[row.prompt_id], 0, row.text) for row in rows]
    _rate(out, work, texts, judge, model, judging, templates, dtype, seed, "rate the answers")


def _rate(
    out: Path, work: Workbench, texts: Sequence[tuple[Prompt, int, str]], judge: Judge, model: ModelRef,
    judging: tuple[Judging, ...], templates: Mapping[str, Template], dtype: Dtype, seed: int, title: str,
) -> None:  # fmt: skip
    engine = work.engine(model, dtype=dtype, system=judge.system)
    asked = [(prompt, text) for prompt, _, text in texts]
    values = judge_answers(engine, asked, judging, judge, templates, seed=seed, title=title)
    write_jsonl(
        out / "merits.jsonl",
        [Merit(prompt.id, step, value) for (prompt, step, _), value in zip(texts, values, strict=True)],
    )
