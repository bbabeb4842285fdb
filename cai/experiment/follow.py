"""What is measured where an arm goes through several rounds: each round's policy and reward model, held against the
start and the rounds beside it. What they come to is in cai/compare/sections/over_rounds.py."""

from collections.abc import Callable, Sequence

from cai.compare.cells import Cell, Measured
from cai.core.store import Artifact
from cai.models.references import Dtype, trained
from cai.train.drift import score_drift
from cai.train.scores import score_answers, score_pairs
from cai.train.trainable import PromptSet, Scorer, Trainable

Stage = Callable[..., Artifact]


def follow_rounds(stage: Stage, cells: Sequence[Cell], measured: Measured, asked: PromptSet, dtype: Dtype) -> None:
    """Nothing where every arm has one round. asked: the held-out prompts that every policy has answered.

    The arms with one round are measured as well, so that all stand on the same scales.
    """
    if all(len(cell.lineage) == 1 for cell in cells):
        return
    first = cells[0]
    temperature = first.settings.evaluate.temperature or 1.0  # the most probable words alone have no KL
    for cell in cells:
        arm, names = cell.settings, list(cell.policies)
        for number, (name, its) in enumerate(cell.policies.items()):
            if its.policy and arm.rl.trains:
                measured.drift[name] = stage(
                    score_drift, prompts=asked, answers=measured.answers[name, "red-team"],
                    model=Trainable(trained(its.policy, name), arm.policy, dtype), sft=trained(cell.sft, "sft"),
                    temperature=temperature,
                )  # fmt: skip
            if not its.reward or arm.reward.generates:  # `dpo` has none, and each of `criteria:` one of its own
                continue
            reads = Trainable(trained(its.reward, name), arm.policy, dtype, role="reward")
            scorer = Scorer(reads, arm.reward.max_length)
            # On pairs that people have judged, on its own round's fresh pairs, and on those of the policy that learnt
            # from it, which are the next round's.
            fresh = {other: cell.policies[other].pairs for other in names[number : number + 2]}
            for what, pairs in {"people": first.data, **fresh}.items():
                measured.round_pairs[name, what] = stage(score_pairs, pairs=pairs, scorer=scorer)
            for policy in ("sft", name):
                answers = measured.answers[policy, "red-team"]
                measured.scores[name, policy] = stage(score_answers, prompts=first.data, answers=answers, scorer=scorer)
