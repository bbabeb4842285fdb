"""The second half of the evaluation: ratings of single texts, and files of comparisons that people have decided.

    matches    which policies meet in games
    rate_all   every revision that SFT learns from, and every policy's answers, by the evaluation's judge alone
    audit_revisions  `revise.audit`: drafts revised under opposites and placebos of their principles, and rated
    score_harm `evaluate.harmfulness`: a model fitted to people's ratings scores every policy's answers
    bench_all  `evaluate.comparisons`: reward models score them, policies answer them, the judge compares

Answers, rewards and games are in cai/experiment.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cai.cells import Cell, Measured
from cai.methods import principles_for, templates_for
from cai.models import Dtype, Source, model_of, trained
from cai.reads.instructions import instructions_for
from cai.reads.placebos import read_placebos
from cai.settings import Data
from cai.shipped import locate
from cai.sources import load_data, source_digest
from cai.stages.benchmarks import choose_items, judge_items, load_items, score_items
from cai.stages.controlled import revise_controls
from cai.stages.evaluate import score_answers, score_ratings
from cai.stages.harm import train_harm
from cai.stages.rate import rate_answers, rate_controlled, rate_revisions
from cai.stages.revise import asking
from cai.store import Artifact, digest_file
from cai.workbench import Workbench

Stage = Callable[..., Artifact]


def matches(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Which policies meet: (first, second) by name."""
    games = [("sft", "start")] + [(name, "sft") for cell in cells for name in cell.policies]
    games += [(cell.name, "start") for cell in cells]
    games += [(a.name, b.name) for a in cells for b in cells if a.seed == b.seed and a.arm == cells[0].arm != b.arm]
    games += [(a.name, b.name) for a in cells for b in cells if a.arm == b.arm and a.seed < b.seed]
    games += [(name, other) for cell in cells for name in cell.snapshots for other in ("sft", cell.name)]
    return games


def rate_all(stage: Stage, work: Workbench, cells: Sequence[Cell], measured: Measured) -> None:
    """Harmlessness of every revision and of answers to red-team prompts; helpfulness of answers to helpful prompts."""
    first = cells[0]
    ask = first.settings.evaluate
    # Whatever method decides the games, single texts are rated one by one; where it can do so, most is in the cache.
    judge = ask.judge.model_copy(update={"method": "channel" if ask.judge.method == "channel" else "rate"})
    asked: dict[str, Any] = {"judge": judge, "model": model_of(judge), "templates": templates_for(judge)}
    asked["dtype"] = work.dtype(first.settings)
    harmless = {"judging": principles_for(work.constitution(ask.constitution), judge), **asked}
    for cell in {cell.arm: cell for cell in cells}.values():
        measured.revisions[cell.arm] = stage(
            rate_revisions, revisions=cell.revised, count=ask.prompts, seed=first.settings.seed, **harmless
        )
    audit_revisions(stage, cells, measured, harmless)
    for (name, kind), answers in measured.answers.items():
        given = {"answers": answers, "seed": first.settings.seed}
        if kind == "red-team":
            measured.merits[name, kind] = stage(rate_answers, prompts=first.data, **given, **harmless)
        elif kind == "helpful":
            judging = principles_for(work.constitution(ask.helpfulness), judge)
            measured.merits[name, kind] = stage(
                rate_answers, prompts=first.helpful, judging=judging, **given, **asked
            )  # fmt: skip


def audit_revisions(stage: Stage, cells: Sequence[Cell], measured: Measured, harmless: Mapping[str, Any]) -> None:
    """harmless: how the evaluation's judge is asked about one text."""
    for cell in {cell.arm: cell for cell in reversed(cells)}.values():
        arm = cell.settings
        if not arm.revise.audit:
            continue
        said = asking(arm.revise)
        controlled = stage(
            revise_controls, revisions=cell.revised, count=arm.revise.audit, settings=arm.revise,
            instructions=instructions_for(cell.law), placebos=read_placebos(), policy=arm.policy, seed=arm.seed,
            dtype=harmless["dtype"], **{"reviser": model_of(arm.policy), **said},
        )  # fmt: skip
        measured.controlled[cell.arm] = controlled
        measured.controlled_merits[cell.arm] = stage(
            rate_controlled, prompts=cell.data, controlled=controlled, seed=cells[0].settings.seed, **harmless
        )


def score_harm(stage: Stage, cells: Sequence[Cell], measured: Measured, dtype: Dtype) -> None:
    """People's ratings of training prompts -> a model -> its scores of held-out rated answers and of every policy's."""
    first = cells[0]
    arm, ask = first.settings, first.settings.evaluate.harmfulness
    if ask is None:
        return
    model = {"policy": arm.policy, "dtype": dtype}
    rated = first.data
    if ask.source and ask.source != arm.data.source:
        own = Data(source=ask.source)
        rated = stage(load_data, data=own, contents=source_digest(own), seed=arm.seed)
    fitted = stage(train_harm, ratings=rated, model=model_of(arm.policy), settings=ask, seed=arm.seed, **model)
    scorer = {"reward": trained(fitted, "harmfulness"), "max_length": ask.max_length, **model}
    measured.harm.update({"data": rated, "model": fitted})
    measured.harm["held-out"] = stage(score_ratings, ratings=rated, **scorer)
    for (name, kind), answers in measured.answers.items():
        if kind == "red-team":
            measured.harm_scores[name] = stage(score_answers, prompts=first.data, answers=answers, **scorer)


def bench_all(
    stage: Stage, work: Workbench, cells: Sequence[Cell], policies: Mapping[str, Source], measured: Measured
) -> None:
    """Each file of `evaluate.comparisons`, by every reward model, policy and the evaluation's judge."""
    arm = cells[0].settings
    ask, judge, dtype = arm.evaluate, arm.evaluate.judge, work.dtype(arm)
    made_by = {cell.name: cell.settings.policy for cell in cells}
    judging = principles_for(work.constitution(ask.constitution), judge)
    for file in ask.comparisons:
        items = stage(load_items, file=file, contents=digest_file(locate(file)))
        measured.items[file] = items
        measured.opinions[file, "judge", ""] = stage(
            judge_items, items=items, judge=judge, model=model_of(judge), judging=judging,
            templates=templates_for(judge), dtype=dtype, seed=arm.seed,
        )  # fmt: skip
        for cell in cells:
            if cell.reward:
                reward, longest = trained(cell.reward, cell.name), cell.settings.reward.max_length
                measured.opinions[file, "reward", cell.name] = stage(
                    score_items, items=items, reward=reward, max_length=longest, policy=made_by[cell.name], dtype=dtype,
                )  # fmt: skip
        for name, source in policies.items():
            measured.opinions[file, "policy", name] = stage(
                choose_items, items=items, model=source, judge=judge, policy=made_by.get(name, arm.policy), dtype=dtype,
            )  # fmt: skip
