"""Everything that is measured on held-out prompts: answers, rewards, games, ratings, and files of comparisons.

evaluate   the whole of it, top-down
trace_held_out  `evaluate.transcripts`: drafts, critiques and revisions to be read beside the answers
matches    which policies meet in games
rate_all   every revision that SFT learns from, and every policy's answers, by the evaluation's judge alone
audit_revisions  `revise.audit`: drafts revised under opposites and placebos of their principles, and rated
score_harm `evaluate.harmfulness`: a model fitted to people's ratings scores every policy's answers
bench_all  `evaluate.comparisons`: reward models score them, policies answer them, the judge compares
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cai.compare.cells import Cell, Measured, with_policy
from cai.config.sections import Data
from cai.core.store import Artifact
from cai.data.comparisons import comparisons_file
from cai.data.shots import Shots
from cai.data.sources import load_data, source_digest
from cai.data.xstest import load_xstest, xstest_file
from cai.experiment.distilled import compare_with_teachers
from cai.experiment.follow import follow_rounds
from cai.experiment.generative import answering_stage, compare_generatively, reader_of
from cai.experiment.moderating import moderator_of
from cai.judge.asked import AskedJudge
from cai.judge.items import choose_items, judge_items, load_items, score_items
from cai.judge.play import play
from cai.judge.rate import rate_answers, rate_controlled, rate_revisions
from cai.judge.reads.placebos import read_placebos
from cai.models.engines import Sampling
from cai.models.references import Dtype, ModelRef, answering, drafting, model_of, trained
from cai.models.workbench import Workbench
from cai.train.controlled import ControlTexts, revise_controls
from cai.train.criteria import CriterionReward, WeighedRewards
from cai.train.generative.comparing import compare_items
from cai.train.generative.picking import GenerativePicker
from cai.train.harm import train_harm
from cai.train.moderate import flag_prompts
from cai.train.perplexity import score_text
from cai.train.respond import Picker
from cai.train.revise import revise, revising
from cai.train.revising import RevisedBy
from cai.train.revisions.instructions import instructions_for
from cai.train.scores import score_answers, score_pairs, score_ratings
from cai.train.trainable import Draws, PromptSet, Scorer, Trainable

Stage = Callable[..., Artifact]


def matches(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Which policies meet: (first, second) by name."""
    cells = with_policy(cells)
    games = [("sft", "start")] + [(name, "sft") for cell in cells for name in cell.policies]
    games += [(cell.name, "start") for cell in cells]
    games += [(a.name, b.name) for a in cells for b in cells if a.seed == b.seed and a.arm == cells[0].arm != b.arm]
    games += [(a.name, b.name) for a in cells for b in cells if a.arm == b.arm and a.seed < b.seed]
    games += [(name, other) for cell in cells for name in cell.snapshots for other in ("sft", cell.name)]
    return games


def rate_all(stage: Stage, work: Workbench, cells: Sequence[Cell], measured: Measured) -> None:
    """Harmlessness of every revision and of answers to red-team prompts; helpfulness of answers to helpful prompts."""
    first = cells[0]
    evaluation = first.settings.evaluate
    # Whatever method decides the games, single texts are rated one by one; where it can do so, most is in the cache.
    judge = evaluation.judge.model_copy(
        update={"method": "channel" if evaluation.judge.method == "channel" else "rate"}
    )
    dtype, seed = work.dtype(first.settings), first.settings.seed
    harmless = AskedJudge.of(judge, work.constitution(evaluation.constitution), dtype, seed, first.data)
    for cell in {cell.arm: cell for cell in cells}.values():
        measured.revisions[cell.arm] = stage(
            rate_revisions, revisions=cell.revised, count=evaluation.prompts, judge=harmless
        )  # fmt: skip
    audit_revisions(stage, cells, measured, harmless)
    # Every policy by every criterion, so that arms with other weights, or without any, lie on one plane.
    criteria = {name: its.constitution for cell in cells for name, its in cell.settings.criteria.items()}
    for (name, kind), answers in measured.answers.items():
        prompts = {"red-team": first.data, "helpful": first.helpful}.get(kind)
        for criterion, constitution in criteria.items() if prompts else ():
            measured.criteria[criterion, name, kind] = stage(
                rate_answers, prompts=prompts, answers=answers, judge=harmless.under(work.constitution(constitution))
            )  # fmt: skip
        if kind == "red-team":
            measured.merits[name, kind] = stage(rate_answers, prompts=first.data, answers=answers, judge=harmless)
        elif kind == "helpful":
            helpful = harmless.under(work.constitution(evaluation.helpfulness))
            measured.merits[name, kind] = stage(rate_answers, prompts=first.helpful, answers=answers, judge=helpful)


def audit_revisions(stage: Stage, cells: Sequence[Cell], measured: Measured, harmless: AskedJudge) -> None:
    """harmless: how the evaluation's judge is asked about one text."""
    for cell in {cell.arm: cell for cell in reversed(cells)}.values():
        arm = cell.settings
        if not (arm.revise.audit and arm.sft.revises):
            continue
        by = RevisedBy.of(arm.revise, arm.seed)
        reviser = Trainable(
            by.reviser or drafting(arm.policy, cell.pretrained), arm.policy, harmless.dtype, role="reviser"
        )
        controlled = stage(
            revise_controls, revisions=cell.revised, count=arm.revise.audit, reviser=reviser,
            texts=ControlTexts(instructions_for(cell.constitution), read_placebos()), by=replace(by, reviser=None),
        )  # fmt: skip
        measured.controlled[cell.arm] = controlled
        measured.controlled_merits[cell.arm] = stage(
            rate_controlled, prompts=cell.data, controlled=controlled, judge=harmless
        )  # fmt: skip


def score_harm(stage: Stage, cells: Sequence[Cell], measured: Measured, dtype: Dtype) -> None:
    """People's ratings of training prompts -> a model -> its scores of held-out rated answers and of every policy's."""
    first = cells[0]
    arm, settings = first.settings, first.settings.evaluate.harmfulness
    if settings is None:
        return
    rated = first.data
    if settings.source and settings.source != arm.data.source:
        own = Data(source=settings.source)
        rated = stage(load_data, data=own, contents=source_digest(own), seed=arm.seed)
    start = Trainable(model_of(arm.policy, first.pretrained), arm.policy, dtype)
    fitted = stage(train_harm, ratings=rated, start=start, settings=settings, seed=arm.seed)
    reads = Trainable(trained(fitted, "harmfulness"), arm.policy, dtype, role="reward")
    scorer = Scorer(reads, settings.max_length)
    measured.harm.update({"data": rated, "model": fitted})
    measured.harm["held-out"] = stage(score_ratings, ratings=rated, scorer=scorer)
    for (name, kind), answers in measured.answers.items():
        if kind == "red-team":
            measured.harm_scores[name] = stage(score_answers, prompts=first.data, answers=answers, scorer=scorer)


def bench_all(
    stage: Stage, work: Workbench, cells: Sequence[Cell], policies: Mapping[str, ModelRef], measured: Measured
) -> None:
    """Each file of `evaluate.comparisons`, by every reward model, policy and the evaluation's judge."""
    arm = cells[0].settings
    evaluation, judge, dtype = arm.evaluate, arm.evaluate.judge, work.dtype(arm)
    made_by = {cell.name: cell.settings.policy for cell in cells}
    asked = AskedJudge.of(judge, work.constitution(evaluation.constitution), dtype, arm.seed, cells[0].data)
    for file in evaluation.comparisons:
        items = stage(load_items, file=comparisons_file(file))
        measured.items[file] = items
        measured.opinions[file, "judge", ""] = stage(judge_items, items=items, judge=asked)
        for cell in cells:
            if cell.reward and cell.settings.reward.generates:
                measured.opinions[file, "reward", cell.name] = stage(
                    compare_items, items=items, reader=reader_of(cell, dtype)
                )
            elif cell.reward:
                reward, longest = trained(cell.reward, cell.name), cell.settings.reward.max_length
                measured.opinions[file, "reward", cell.name] = stage(
                    score_items, items=items, reward=reward, max_length=longest, policy=made_by[cell.name], dtype=dtype,
                )  # fmt: skip
        for name, source in policies.items():
            by = made_by.get(name, arm.policy)
            measured.opinions[file, "policy", name] = stage(
                choose_items, items=items, model=answering(by, source), judge=judge, policy=by, dtype=dtype
            )


def trace_held_out(stage: Stage, cells: Sequence[Cell], dtype: Dtype) -> Artifact | None:
    """`evaluate.transcripts`: drafts of held-out prompts, with critiques and revisions as the first arm makes them that
    learns from any; where none does, the drafts alone."""
    first = cells[0]
    count = first.settings.evaluate.transcripts
    if not count:
        return None
    revising_cell = next((cell for cell in cells if cell.settings.sft.revises), None)
    by, arm = revising_cell or first, first.settings
    alone = {} if revising_cell else {"rounds": 0, "model": None, "server": None}
    settings = by.settings.revise.model_copy(update={"prompts": count, **alone})
    return stage(
        revise, data=first.data, split="test", **revising(by.constitution, settings, arm.seed),
        start=Trainable(drafting(arm.policy, first.pretrained), arm.policy, dtype),
    )  # fmt: skip


def evaluate(stage: Stage, work: Workbench, cells: Sequence[Cell]) -> Measured:
    """Every policy answers the first arm's held-out prompts; reward models score, the judge plays games and rates.

    The arms hold out the same prompts (cai/config/load.py). A policy is asked, and a reward model reads, under the
    system prompt that it was trained under. Snapshots (`rl.snapshots`) answer, play and are rated, and take no part in
    what compares the arms.
    """
    first = cells[0]
    arm = first.settings
    evaluation, dtype = arm.evaluate, work.dtype(arm)
    measured = Measured(
        trace_held_out(stage, cells, dtype),
        xstest=stage(load_xstest, file=xstest_file(evaluation.xstest)) if evaluation.xstest else None,
    )
    policies: dict[str, ModelRef] = {"start": model_of(arm.policy, first.pretrained), "sft": trained(first.sft, "sft")}
    policies |= {
        name: trained(iteration.policy, name)
        for cell in cells
        for name, iteration in cell.policies.items()
        if iteration.policy
    }
    best = {cell.name: cell for cell in cells if picks(cell)}
    policies |= {name: trained(cell.sft, "sft") for name, cell in best.items()}

    main = ("start", "sft", *(cell.name for cell in with_policy(cells)))
    along = {n: trained(its.policy, n, at) for cell in cells for n, (its, at) in cell.path.items() if its.policy}
    made_by = {name: cell.settings.policy for cell in cells for name in (*cell.policies, *cell.path)}

    # 1. Answers, with the same draws for every policy.
    draws = Draws(Sampling(evaluation.max_new_tokens, evaluation.temperature), arm.seed)
    shots = Shots(first.data, arm.answer_shots, arm.seed, "evaluate.shots") if arm.answer_shots else None
    # Everyday prompts are for the table of policies; the policies of earlier rounds stand in that of rounds.
    asked = [
        ("red-team", first.data, evaluation.prompts, (*policies, *along)),
        ("helpful", first.helpful, evaluation.helpful, (*main, *along)),
        ("xstest", measured.xstest, None, main),
    ]
    for name, source in (policies | along).items():
        for kind, prompts, count, whom in asked:
            if prompts and count != 0 and name in whom:
                own = {"picker": picker_of(best[name], dtype)} if name in best else {}
                by = made_by.get(name, arm.policy)
                model = Trainable(answering(by, source), by, dtype)
                measured.answers[name, kind] = stage(
                    answering_stage(own.get("picker")), prompts=PromptSet(prompts, "test", count, shots), model=model,
                    draws=draws, **own,
                )  # fmt: skip

    # 2. Rewards: of the held-out pairs, for agreement with labels, and of all answers, under every arm's reward model.
    for cell in cells:
        models = {cell.name: cell.reward} if cell.reward else {}
        models |= {cell.reward_of(criterion): made.reward for criterion, made in cell.criteria.items()}
        if cell.reward and cell.settings.reward.generates:
            compare_generatively(stage, cell, first, measured, dtype)
            continue
        for model, reward in models.items():
            reads = Trainable(trained(reward, model), cell.settings.policy, dtype, role="reward")
            scorer = Scorer(reads, cell.settings.reward.max_length)
            measured.pair_scores[model] = stage(score_pairs, pairs=first.pairs, scorer=scorer)
            for name in dict.fromkeys((*main, *cell.policies)) if cell.policy else ():
                answers = measured.answers[name, "red-team"]
                measured.scores[model, name] = stage(score_answers, prompts=first.data, answers=answers, scorer=scorer)
    red_team = PromptSet(first.data, "test", evaluation.prompts, shots)
    follow_rounds(stage, cells, measured, red_team, dtype)

    # 3. Games: arm against arm seed by seed, every cell against the SFT policy, and seed against seed for the noise.
    yardstick = work.constitution(evaluation.constitution)
    judge = AskedJudge.of(evaluation.judge, yardstick, dtype, arm.seed, first.data)
    for name, other in matches(cells):
        measured.games[name, other] = stage(
            play, prompts=first.data, first=measured.answers[name, "red-team"],
            second=measured.answers[other, "red-team"], judge=judge,
        )  # fmt: skip

    # 4. Single texts, rated by the judge and by a model of people's ratings; comparisons that people have decided. The
    # best of several is no model to ask.
    rate_all(stage, work, cells, measured)
    score_harm(stage, cells, measured, dtype)
    asked_alone = {n: policies[n] for n in main if n not in best}
    bench_all(stage, work, cells, asked_alone, measured)
    compare_with_teachers(stage, cells, asked_alone, measured, red_team, dtype)
    if first.pretrained:
        for name, source in asked_alone.items():
            model = Trainable(source, made_by.get(name, arm.policy), dtype)
            measured.text[name] = stage(score_text, text=first.pretrained, model=model)
    for cell in {cell.arm: cell for cell in cells}.values():
        if measured.xstest and (by := moderator_of(work, cell.settings)):
            measured.flagged[cell.arm] = stage(flag_prompts, prompts=measured.xstest, by=by)
    return measured


def picks(cell: Cell) -> bool:
    """Whether its policy is the best of several answers of the SFT policy."""
    return cell.settings.rl.method == "best_of_n"


def picker_of(cell: Cell, dtype: Dtype) -> Picker | GenerativePicker:
    """What picks the best of several answers."""
    if cell.settings.reward.generates:
        return GenerativePicker(reader_of(cell, dtype), cell.settings.rl.best_of)
    parts = tuple(
        CriterionReward(name, trained(made.reward, name), made.scale, made.share)
        for name, made in cell.criteria.items()
    )
    assert parts or cell.reward
    reward = WeighedRewards(parts) if parts else trained(cell.reward, "reward")  # pyrefly: ignore
    return Picker(reward, cell.settings.rl.best_of, cell.settings.reward.max_length)
