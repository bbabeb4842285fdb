"""The evaluation's judge rates single texts: drafts with each of their revisions, answers of a policy, and revisions
that were made under other texts to see what a principle does.

Every text is asked about alone (methods `rate` and `channel`, in log-odds, mean over principles), so that
revision 3 is rated without knowing the draft, and texts to one prompt are read by the same principles and can be
paired. Bai et al. (2022, figure 5) score revisions by preference models that are trained on people's labels; here a
judge does that, and nothing of it is trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cai.core.records import Controlled, Prompt, Response, Revision, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_answers
from cai.models.workbench import Workbench


@dataclass(frozen=True, slots=True)
class TextRating:
    """How good one text is to the judge, in nats of log-odds of Yes; None where it could not be read.

    step: 0 for a draft or an answer, n for the revision of round n; of controlled revisions, the row's place from 0.
    """

    prompt_id: str
    step: int
    value: float | None


@version(1)
def rate_revisions(out: Path, work: Workbench, *, revisions: Artifact, count: int, judge: AskedJudge) -> None:
    """merits.jsonl: draft and every revision of the first `count` traces (they stand in an order drawn by hash)."""
    traces = read_jsonl(revisions / "revisions.jsonl", Revision)[:count]
    texts = [
        (trace.prompt, step, text)
        for trace in traces
        for step, text in enumerate((trace.draft, *(made.revision for made in trace.rounds)))
    ]
    _rate(out, work, texts, judge, "rate the revisions")


@version(1)
def rate_controlled(out: Path, work: Workbench, *, prompts: Artifact, controlled: Artifact, judge: AskedJudge) -> None:
    """merits.jsonl: every revision of `controlled` that was made for a principle of the constitution."""
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    texts = [
        (by_id[row.prompt_id], place, row.revision)
        for place, row in enumerate(read_jsonl(controlled / "controlled.jsonl", Controlled))
        if row.origin == "constitution" and row.revision
    ]
    _rate(out, work, texts, judge, "rate the audit's revisions")


@version(1)
def rate_answers(out: Path, work: Workbench, *, prompts: Artifact, answers: Artifact, judge: AskedJudge) -> None:
    """merits.jsonl: every answer of a policy."""
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    rows = read_jsonl(answers / "responses.jsonl", Response)
    texts = [(by_id[row.prompt_id], 0, row.text) for row in rows]
    _rate(out, work, texts, judge, "rate the answers")


def _rate(
    out: Path, work: Workbench, texts: Sequence[tuple[Prompt, int, str]], judge: AskedJudge, title: str
) -> None:  # fmt: skip
    """texts: (prompt, step, text)."""
    values = judge_answers(judge.engine(work), [(prompt, text) for prompt, _, text in texts], judge, title=title)
    ratings = [TextRating(prompt.id, step, value) for (prompt, step, _), value in zip(texts, values, strict=True)]
    write_jsonl(out / "merits.jsonl", ratings)
