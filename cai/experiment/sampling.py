"""What the pipeline's models are asked and answer: prompts of both kinds, what SFT learns from, pairs to label."""

import math
from collections.abc import Callable

from cai.config.load import Arm
from cai.constitution import Constitution
from cai.core.records import Pair, read_jsonl
from cai.core.store import Artifact
from cai.core.templates import load_template
from cai.data.demonstrations import demonstrations_file, load_demonstrations, take_preferred
from cai.data.labels import check_rule
from cai.data.sources import load_data, load_helpful, source_digest
from cai.models.engines import Sampling
from cai.train.respond import Opposition, respond, sample_pairs
from cai.train.revise import revise, revising, take_drafts
from cai.train.sft import Everyday
from cai.train.trainable import Draws, PromptSet, Trainable

Stage = Callable[..., Artifact]


def load_prompts(stage: Stage, arm: Arm) -> tuple[Artifact, Artifact | None]:
    """(red-team prompts, with the pairs that people have judged; everyday prompts, if the arm has any).

    Raises UserError where `labels:` names somebody for whom there is no pair: known as soon as the pairs are, long
    before they are labelled. Of pairs to be sampled it is known when they are.
    """
    prompts = stage(load_data, data=arm.data, contents=source_digest(arm.data), seed=arm.seed)
    file = prompts / "pairs.jsonl"  # not there yet in a plan
    if arm.pairs.source == "data" and arm.labels.rule and file.is_file():
        pairs = [pair for pair in read_jsonl(file, Pair) if pair.prompt.split != "calibration"]
        check_rule(pairs, arm.labels.rule, arm.seed)
    if not arm.helpful:
        return prompts, None
    data = arm.data.model_copy(update={"source": arm.helpful.source})
    contents = source_digest(data)
    return prompts, stage(load_helpful, source=data.source, contents=contents, test=data.test, seed=arm.seed)


def answers_to_learn(
    stage: Stage, arm: Arm, constitution: Constitution, prompts: Artifact, helpful: Artifact | None, start: Trainable
) -> Artifact:
    """What SFT learns from (`sft.learns`), by whatever way: revisions.jsonl, of which it learns the last texts. Drafts
    alone where it learns nothing.

    start: who drafts, where anything is drafted. Raises UserError where there is nothing to learn from.
    """
    if arm.sft.file:
        file = demonstrations_file(arm.sft.file)
        return stage(load_demonstrations, file=file, prompts=prompts, helpful=helpful)
    if arm.sft.learns == "preferred":
        return stage(take_preferred, pairs=prompts)
    given = revising(constitution, arm.revise, arm.seed)
    if arm.sft.learns == "nothing":
        settings = arm.revise.model_copy(update={"rounds": 0, "critique": False, "model": None, "server": None})
        given = revising(constitution, settings, arm.seed) | {"principles": ()}
    revisions = stage(revise, data=prompts, split="train", start=start, **given)
    return stage(take_drafts, revisions=revisions) if arm.sft.learns == "drafts" else revisions


def answer_everyday_prompts(stage: Stage, arm: Arm, helpful: Artifact | None, start: Trainable) -> Everyday:
    """The start model's answers to as many everyday prompts as make `sft.helpful` of what SFT learns from.

    How much a file or people give is not known before it is read: then all are answered, and SFT takes what it needs.
    """
    share = arm.sft.helpful
    if not helpful or not share or arm.sft.learns == "nothing":
        return Everyday(helpful, None)
    count = math.ceil(arm.revise.prompts * share / (1 - share)) if arm.sft.revises else None
    asked = PromptSet(helpful, "train", count)
    draws = Draws(Sampling(arm.revise.max_new_tokens, arm.revise.temperature), arm.seed)
    return Everyday(helpful, stage(respond, prompts=asked, model=start, draws=draws))


def pairs_to_label(
    stage: Stage, arm: Arm, constitution: Constitution, prompts: Artifact, policy: Trainable, seed: int
) -> Artifact:
    """The pairs that came with the prompts, or two fresh answers of the policy (`pairs.source`).

    seed: other prompts and draws in each round.
    """
    if arm.pairs.source == "data":
        return prompts
    opposed = arm.pairs.source == "opposed"
    return stage(
        sample_pairs, data=prompts, count=arm.pairs.prompts, model=policy,
        draws=Draws(Sampling(arm.pairs.max_new_tokens, arm.pairs.temperature), seed),
        contrast=Opposition(constitution.contrasting, load_template("contrast")) if opposed else Opposition(),
    )  # fmt: skip
