"""The whole pipeline, top-down: `train` makes one policy, `run` an experiment.

An experiment is arms x seeds. Each cell runs the same stages; what cells have in common is computed once, because the
store keys it the same. So two arms that differ in `labels:` alone share everything up to the labels: drafts,
revisions, the SFT policy, the pairs and their splits.
"""

from collections.abc import Callable
from dataclasses import replace

from cai.compare.cells import Cell, Iteration, Measured
from cai.config.load import Arm, Experiment
from cai.core.draws import seed_of_round
from cai.core.store import Artifact, Store
from cai.experiment.budgets import draw_budgets, train_budgets
from cai.experiment.criteria import apart, weighed
from cai.experiment.evaluate import evaluate
from cai.experiment.labelling import Labelling, label
from cai.experiment.moderating import Sieve
from cai.experiment.publics import hear_publics
from cai.experiment.sampling import answer_everyday_prompts, answers_to_learn, load_prompts, pairs_to_label
from cai.models.references import answering, drafting, model_of, trained
from cai.models.workbench import Workbench
from cai.train.generative.training import reward_model
from cai.train.pretrain import pretrained
from cai.train.reasons import teach_reasons
from cai.train.rl.given import Given
from cai.train.rl.gold import yardstick
from cai.train.rl.methods import method_of
from cai.train.sft import fine_tuned
from cai.train.trainable import Labelled, Trainable

Stage = Callable[..., Artifact]


def train(stage: Stage, work: Workbench, name: str, arm: Arm, seed: int) -> Cell:
    """Constitutional AI (Bai et al. 2022): a constitution and prompts -> a policy. seed: makes replicas of an arm."""
    constitution = work.constitution_of(arm)
    made_here = pretrained(stage, arm, work.dtype(arm))  # the start model, where it is made from nothing
    start = Trainable(model_of(arm.policy, made_here), arm.policy, work.dtype(arm))
    drafter = replace(start, ref=drafting(arm.policy, made_here))
    data, everyday_data = load_prompts(stage, arm)  # and the pairs that people have judged; split by prompt
    sieve = Sieve.of(stage, work, arm)  # `moderation:`; held-out prompts pass it, and everything where there is none
    prompts, helpful = sieve("prompts", data), everyday_data and sieve("prompts", everyday_data, name="helpful")

    # 1. SL-CAI (section 3.1). The start model drafts answers to red-team prompts, criticises and revises them by
    #    principles of the constitution, and is fine-tuned on the last revisions, with answers to everyday prompts; or
    #    on what people preferred or wrote (`sft.learns`).
    revisions = answers_to_learn(stage, arm, constitution, prompts, helpful, drafter)
    revisions = sieve("revisions", revisions)
    everyday = answer_everyday_prompts(stage, arm, helpful, drafter)
    everyday = replace(everyday, answers=everyday.answers and sieve("everyday", everyday.answers, helpful))
    replicated = seed if arm.rl.ends_with_sft else arm.seed  # else replicas part after SFT, which they share
    taught, learner = teach_reasons(stage, arm, constitution, start)  # `constitution.why: train`; else the start model
    sft = fine_tuned(stage, revisions, everyday, learner, arm.sft, replicated)

    # 2. RLAIF (section 4.1), or RLHF: only who labels differs. Further rounds sample pairs from the last policy and
    #    train a new reward model on the labels of all rounds so far (Ouyang et al. 2022, section 3.1). RL goes on from
    #    the last policy and is held near it, for its answers are what the reward model has just learnt to judge; Bai et
    #    al. ("Training a Helpful and Harmless Assistant", section 4.5) train each round's policy anew.
    #    Each of `criteria:` is labelled and learnt by itself, as the one thing that labels are about is without them.
    rounds: list[Iteration] = []
    policy, criteria = trained(sft, "sft"), arm.by_criterion()
    labelled, labelling = dict.fromkeys(criteria, Labelled()), dict.fromkeys(criteria, Labelling())
    alone = Labelling()  # the labelling of an arm without `criteria:`
    for number in range(arm.rounds):
        replica = seed_of_round(seed, number)
        latest = replace(start, ref=policy)

        # 2a. Sample pairs of answers, and label which is better; a judge passes its preflight once.
        sampled = replace(start, ref=answering(arm.policy, policy))
        pairs = pairs_to_label(stage, arm, constitution, prompts, sampled, seed_of_round(arm.seed, number))
        pairs = sieve("pairs", pairs, name=f"pairs {number + 1}") if pairs != prompts else pairs
        labelling = {
            name: label(stage, work, by, prompts, pairs, labelling[name], replica) for name, by in criteria.items()
        }
        labelled = {name: labelled[name].with_round(pairs, labelling[name].labels) for name in criteria}

        # 2b. Train a reward model on the labels. From here on nothing knows where they came from.
        rewards = {
            name: reward_model(stage, arm, constitution, labels, start, replica)
            for name, labels in labelled.items() if arm.rl.reads_rewards
        }  # fmt: skip
        total = weighed(stage, arm, rewards, revisions, start)

        # 2c. Train the policy against it, by PPO or another `rl.method`; against their weighed sum, where there are
        #     several.
        given = Given(
            arm=arm, constitution=constitution, start=replace(latest, role="sft"), data=prompts, helpful=helpful,
            revisions=revisions, sft=sft, labelled=labelled.get("", Labelled()), reward=rewards.get(""), weighed=total,
            gold=yardstick(arm, work), seed=replica,
        )  # fmt: skip
        made = method_of(arm.rl.method).policy(stage, given)
        policy = trained(made, f"round {number + 1}") if made else policy
        alone = labelling.get("", alone)
        rounds.append(Iteration(pairs, alone.labels, rewards.get(""), made, apart(labelling, rewards, total)))

    last = rounds[-1]
    return Cell(
        arm=name, seed=seed, settings=arm, constitution=constitution, data=data, helpful=everyday_data,
        revised=revisions, sft=sft, pairs=last.pairs, preflight=alone.preflight, labels=last.labels,
        reward=last.reward, policy=last.policy, labellers=alone.by_labeller, lineage=tuple(rounds),
        pretrained=made_here, taught=taught, acceptance=alone.acceptance, attacks=alone.attacks, panel=alone.panel,
        moderated=sieve.made, everyday=everyday,
    )  # fmt: skip


def run(experiment: Experiment, store: Store, work: Workbench) -> tuple[list[Cell], Measured]:
    """Train every arm with every seed, and measure all policies on held-out prompts."""
    stage = store.stage_with(work)
    drawn = draw_budgets(stage, experiment)
    cells = [train(stage, work, name, arm, seed) for name, arm in experiment.arms.items() for seed in experiment.seeds]
    measured = evaluate(stage, work, cells)
    train_budgets(stage, work, cells, drawn, measured)
    hear_publics(stage, work, cells, experiment, measured)
    return cells, measured
