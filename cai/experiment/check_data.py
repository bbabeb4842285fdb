"""Whether the data are enough for what an experiment does with them, found out before its first stage.

Rows are looked at as the stages will see them: split, limited, rendered by the model's own template and measured in its
tokens. Of each kind one row that will do is looked for, so a large file costs little. What is wrong is a UserError at
the key that mends it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cai.config.load import Arm
from cai.config.panel import is_labeller
from cai.config.rl import Rl
from cai.config.sections import Policy
from cai.constitution import Constitution, draw, read_constitution
from cai.core.draws import pick
from cai.core.errors import UserError
from cai.core.records import Chat, Pair, Prompt, Rating, SetAside, Split
from cai.data.labels import check_rule, label_file, labeller_of, read_labels
from cai.data.shots import ordered, too_few
from cai.data.sources import read_helpful, read_used
from cai.data.votes import why_so_few
from cai.judge.attack.exploits import read_exploits
from cai.judge.attack.measure import held_out
from cai.judge.methods import principles_for
from cai.judge.preflight import check_calibration
from cai.models.chat import answer_ids, answered, chat_ids, with_system
from cai.train.revise import revising
from cai.train.rl.rewards import fits, prompts_wanted

ENDING = 2  # tokens that an answer has at least: one of its own, and the end of its turn


@dataclass(frozen=True)
class Rows:
    """What the data stages will leave of an arm's sources."""

    prompts: list[Prompt]
    pairs: list[Pair]
    ratings: list[Rating]
    helpful: list[Prompt]
    aside: list[SetAside]

    def of(self, split: Split) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.split == split]

    def pairs_of(self, split: Split) -> list[Pair]:
        return [pair for pair in self.pairs if pair.prompt.split == split]


@dataclass(frozen=True)
class Reader:
    """How the policy's model reads. limit: the longest row, in tokens."""

    tokenizer: Any
    policy: Policy
    limit: int

    def prompt_tokens(self, chat: Chat) -> int:
        """Tokens of a conversation that is opened for an answer."""
        return len(chat_ids(self.tokenizer, with_system(chat, self.policy.system), answer=True))

    def scored(self, prompt: Prompt, answer: str) -> int:
        """Tokens of a conversation with its answer, as a reward model reads it."""
        return len(chat_ids(self.tokenizer, answered(prompt.messages, answer, self.policy.system), answer=False))

    def learnt(self, prompt: Prompt, answer: str) -> int:
        """Tokens of a conversation with its answer, as DPO reads it."""
        start, end = answer_ids(self.tokenizer, with_system(prompt.messages, self.policy.system), answer)
        return len(start) + len(end)


def rows_of(arm: Arm) -> Rows:
    """Raises UserError where a source cannot be read, or holds nothing."""
    material, pairs = read_used(arm.data, arm.seed)
    kind = read_helpful(arm.helpful.source, arm.data.test, arm.seed).prompts.values() if arm.helpful else ()
    return Rows(list(material.prompts.values()), pairs, material.ratings, list(kind), material.aside)


def data_checks(arm: Arm, rows: Rows, constitution: Constitution) -> list[Callable[[], object]]:
    """What can be said without a model."""
    return [
        lambda: check_splits(arm, rows),
        lambda: check_helpful(arm, rows),
        lambda: labelled(arm, rows),
        lambda: check_judged_split(arm, rows),
        lambda: check_ratings(arm, rows),
        lambda: check_shots(arm, rows),
        lambda: check_attacks(arm, rows),
        lambda: check_principles(arm, rows, constitution),
    ]


def length_checks(arm: Arm, rows: Rows, reader: Reader) -> list[Callable[[], object]]:
    """What is left when rows that are too long have been dropped."""
    return [
        lambda: check_rollouts(arm, rows, reader),
        lambda: check_gold(arm, rows, reader),
        lambda: check_reward(arm, rows, reader),
        lambda: check_harm(arm, rows, reader),
        lambda: check_answers(arm, rows, reader),
    ]


# 1. Splits and labels -------------------------------------------------------------------------------------------------


def check_splits(arm: Arm, rows: Rows) -> None:
    for split, remedy in (("train", "lower it, or give more prompts"), ("test", "raise it, or give more prompts")):
        if not rows.of(split):
            what = "to train on" if split == "train" else "held out, and results are of held-out prompts"
            raise UserError(f"none of the {len(rows.prompts)} prompts is {what}", "data.test", remedy)
    if arm.rl.gold and not rows.of("calibration"):
        problem = f"rl.gold looks at the calibration split, and none of the {len(rows.prompts)} prompts fell into it"
        raise UserError(problem, "data.calibration", "raise it, or give more prompts")


def check_attacks(arm: Arm, rows: Rows) -> None:
    """Are there exploits, and pairs to try them on, for `judge.attacks`?"""
    if not (arm.judge.attacks and arm.asks_judge):
        return
    if arm.criteria:
        problem = "the report shows attacks on the judge of an arm, and each of criteria: has a judge of its own"
        raise UserError(problem, "judge.attacks", "set it to 0; python -m cai.judge attack CONFIG attacks each of them")
    read_exploits()
    held_out(rows.pairs, 1, arm.seed, "judge.attacks")


def check_helpful(arm: Arm, rows: Rows) -> None:
    if not arm.helpful:
        return
    splits = {prompt.split for prompt in rows.helpful}
    wanted = {"sft.helpful": arm.sft.helpful, "rl.helpful": arm.rl.helpful * arm.rl.is_online}
    for key, share in wanted.items():
        if share and "train" not in splits:
            problem = f"{key} wants everyday prompts to train on, and all {len(rows.helpful)} are held out"
            raise UserError(problem, "helpful.source", f"give more of them, or set {key}: 0")
    if arm.evaluate.helpful and "test" not in splits:
        problem = f"evaluate.helpful wants everyday prompts that are held out, and none of {len(rows.helpful)} is"
        raise UserError(problem, "helpful.source", "give more of them, or set evaluate.helpful: 0")


def labelled(arm: Arm, rows: Rows) -> list[Pair] | None:
    """Training pairs that will have a label, as far as that depends on the data; None where none of them is read.

    Raises UserError where there are none of them, or none that are held out.
    """
    if arm.pairs.source != "data" or not arm.rl.reads_labels:
        return None
    for split, what in (("train", "to train on"), ("test", "held out")):
        if not rows.pairs_of(split):
            found = f"{len(rows.pairs)} pairs, of {len(rows.prompts)} prompts" + why_so_few(rows.aside)
            key, remedy = "data.test", f"{'lower' if split == 'train' else 'raise'} it, or give more pairs"
            if not rows.pairs:
                key, remedy = "data.source", "give a source that has pairs, or set pairs.source: policy to sample them"
            raise UserError(f"there are no pairs {what}: {found}", key, remedy)
    pairs = [pair for pair in rows.pairs if pair.prompt.split != "calibration"]
    rule = arm.labels.rule
    if rule and not rule.budget:
        check_rule(pairs, rule, arm.seed)
    judged, left = judged_by_people(arm, pairs) if "human" in arm.labels.all else (set(), "")

    def has_label(pair: Pair) -> bool:
        if rule is None or rule.budget:
            return arm.labels.all != ("human",) or pair.id in judged
        return labeller_of(pair, rule, arm.seed) != "human" or pair.id in judged

    training = [pair for pair in pairs if has_label(pair) and pair.prompt.split == "train"]
    if not training:
        problem = f"no person has judged one of the {len(rows.pairs_of('train'))} training pairs{left}"
        remedy = "use data with human labels (`human` in a pair, or HH-RLHF), name a file of labels, or labels: ai"
        raise UserError(problem, "labels", remedy)
    return training


def judged_by_people(arm: Arm, pairs: Sequence[Pair]) -> tuple[set[str], str]:
    """(ids of the pairs, what was set aside of the file: the end of a message)."""
    if arm.labels.file:
        votes, aside = read_labels(label_file(arm.labels.file).path, pairs, arm.labels.known)
        return set(votes), why_so_few(aside)
    return {pair.id for pair in pairs if pair.human is not None}, ""


def check_judged_split(arm: Arm, rows: Rows) -> None:
    for judge in arm.judge.asked.values() if arm.asks_judge else ():
        check_calibration(rows.pairs_of("calibration"), judge)


def check_ratings(arm: Arm, rows: Rows) -> None:
    harmfulness = arm.evaluate.harmfulness
    train = {prompt.id for prompt in rows.of("train")}
    if (
        harmfulness
        and harmfulness.source in (None, arm.data.source)
        and not any(rating.prompt_id in train for rating in rows.ratings)
    ):
        problem = "no rated answer to a training prompt is left to learn harmfulness from"
        raise UserError(problem, "evaluate.harmfulness", "give another source, or set evaluate.harmfulness: null")


def check_shots(arm: Arm, rows: Rows) -> None:
    """Worked examples are people's verdicts on training pairs, one a prompt, and never on the prompt that is asked."""
    there = len(ordered(rows.pairs, arm.seed))
    wanted = {f"{key}.shots": judge.shots * arm.asks_judge for key, judge in arm.judge.asked.items()}
    wanted |= {"evaluate.shots": arm.answer_shots, "evaluate.judge.shots": arm.evaluate.judge.shots}
    for key, count in wanted.items():
        own = is_labeller(key)  # it labels training pairs too
        if count and count > there - own:
            raise too_few(key, count, max(0, there - own))


def check_principles(arm: Arm, rows: Rows, constitution: Constitution) -> None:
    """`Applies to:` must leave every subset that a principle is drawn for with one."""
    evaluation, train, test = arm.evaluate, rows.of("train"), rows.of("test")
    pairs = [pair.prompt for pair in rows.pairs if arm.pairs.source == "data"]
    fresh = [*train, *test] if arm.pairs.source != "data" else []
    uses: list[tuple[Sequence[Any], Iterable[Prompt], str]] = []
    if arm.sft.revises:
        revised = pick(train, "train", arm.revise.prompts, arm.seed)
        revised += pick(test, "test", evaluation.transcripts, arm.seed) if evaluation.transcripts else []
        uses.append((revising(constitution, arm.revise, arm.seed)["principles"], revised, "to revise by"))
    if arm.pairs.source == "opposed":
        uses.append((constitution.contrasting, fresh, "to answer by"))
    if arm.rl.asked and not arm.judge.rubric:
        kind = [prompt for prompt in rows.helpful if prompt.split == "train"] if arm.rl.helpful else []
        uses.append((principles_for(constitution, arm.judge), [*train, *kind], "to judge by"))
    elif arm.asks_judge and not arm.judge.rubric:
        asked = (judge for judge in arm.judge.asked.values() if judge.method != "provenance")
        uses += [(principles_for(constitution, judge), [*pairs, *fresh], "to judge by") for judge in asked]
    for principles, prompts, what in uses:
        if not principles and constitution.order.limits:  # they alone decide
            continue
        _check_subsets(principles, prompts, what, arm.constitution.file, "constitution")


def check_yardsticks(arm: Arm, rows: Rows) -> None:
    """As `check_principles`, for the constitutions of the evaluation."""
    evaluation = arm.evaluate
    yardstick = read_constitution(evaluation.constitution)
    gold = rows.of("calibration") if arm.rl.gold and arm.rl.gold.by == "judge" else []
    _check_subsets(
        principles_for(yardstick, evaluation.judge), [*rows.of("test"), *gold], "to judge by", evaluation.constitution,
        "evaluate.constitution",
    )  # fmt: skip
    kind = [prompt for prompt in rows.helpful if prompt.split == "test"]
    if evaluation.helpful and kind:
        helpfulness = read_constitution(evaluation.helpfulness)
        what, key = "to rate by", "evaluate.helpfulness"
        _check_subsets(principles_for(helpfulness, evaluation.judge), kind, what, evaluation.helpfulness, key)


def _check_subsets(principles: Sequence[Any], prompts: Iterable[Prompt], what: str, file: str, key: str) -> None:
    for subset in sorted({prompt.subset for prompt in prompts}):
        try:
            draw(principles, seed=0, key="", subset=subset)
        except UserError as error:
            problem = f'{file} leaves prompts of subset "{subset}" without a principle {what}'
            raise UserError(problem, key, error.remedy) from None


# 2. Lengths -----------------------------------------------------------------------------------------------------------


def check_answers(arm: Arm, rows: Rows, reader: Reader) -> None:
    """Every model answers prompts: one at least must leave it room to."""
    answers = [("revise.max_new_tokens", "train", arm.revise.max_new_tokens)] if arm.sft.drafts else []
    answers += [("evaluate.max_new_tokens", "test", arm.evaluate.max_new_tokens)]
    if arm.pairs.source != "data":
        answers.append(("pairs.max_new_tokens", "train", arm.pairs.max_new_tokens))
    for key, split, room in answers:
        prompts = rows.of(split)  # pyrefly: ignore
        if prompts and not any(reader.prompt_tokens(prompt.messages) + room <= reader.limit for prompt in prompts):
            problem = f"no prompt leaves the model room for an answer: it reads {reader.limit} tokens, and {key} is"
            raise UserError(f"{problem} {room}", key, "lower it, or give shorter prompts")


def check_rollouts(arm: Arm, rows: Rows, reader: Reader) -> None:
    """Online RL takes `batch_size` / `num_generations` prompts a rollout, of those that fit."""
    rl = arm.rl
    if not rl.is_online:
        return
    needed, wanted = prompts_wanted(rl)
    kind = [prompt for prompt in rows.helpful if prompt.split == "train"]
    red = _count(rows.of("train"), reader, rl, needed - wanted)
    some = red + _count(kind, reader, rl, wanted)
    if not some:
        problem = f"no training prompt fits in {rl.max_prompt_tokens} tokens"
        raise UserError(problem, "rl.max_prompt_tokens", "raise it, or give shorter prompts")
    if some < rl.prompts_a_rollout:
        raise UserError(
            f"a rollout of {rl.batch_size} answers takes {rl.prompts_a_rollout} prompts, and {some} are short enough "
            f"(rl.max_prompt_tokens: {rl.max_prompt_tokens})",
            "rl.batch_size",
            "lower it, give more prompts, or raise rl.max_prompt_tokens",
        )


def _count(prompts: Iterable[Prompt], reader: Reader, rl: Rl, most: int) -> int:
    """How many are short enough to be trained on, as far as anybody asks."""
    most = min(most, rl.batch_size)
    short = (prompt for prompt in prompts if fits(prompt, reader.tokenizer, reader.policy, rl))
    return sum(1 for _ in islice(short, most))


def check_gold(arm: Arm, rows: Rows, reader: Reader) -> None:
    calibration = rows.of("calibration")
    if arm.rl.gold and arm.rl.is_online and calibration and _count(calibration, reader, arm.rl, 2) < 2:
        raise UserError(
            f"rl.gold looks at two prompts or more of the calibration split, and of its {len(calibration)} fewer fit "
            f"in rl.max_prompt_tokens ({arm.rl.max_prompt_tokens})",
            "data.calibration",
            "raise it, or rl.max_prompt_tokens",
        )


def check_reward(arm: Arm, rows: Rows, reader: Reader) -> None:
    """A reward model, or DPO, needs a training pair that it can read whole; agreement needs a held-out one."""
    try:
        training = labelled(arm, rows)
    except UserError:  # told already
        return
    if training is None:
        return
    length = reader.learnt if arm.rl.method == "dpo" else reader.scored
    splits = [("training", training)] + ([("held-out", rows.pairs_of("test"))] if arm.rl.reads_rewards else [])
    for what, pairs in splits:
        if not any(_fits_whole(pair, length, arm.reward.max_length) for pair in pairs):
            raise UserError(
                f"none of the {len(pairs)} {what} pairs is left: all have an answer that ends beyond "
                f"{arm.reward.max_length} tokens",
                "reward.max_length",
                "raise it, or give shorter prompts and answers",
            )


def _fits_whole(pair: Pair, length: Callable[[Prompt, str], int], most: int) -> bool:
    return all(length(pair.prompt, answer) <= most for answer in (pair.a, pair.b))


def check_harm(arm: Arm, rows: Rows, reader: Reader) -> None:
    harmfulness = arm.evaluate.harmfulness
    train = {prompt.id: prompt for prompt in rows.of("train")}
    rated = [rating for rating in rows.ratings if rating.prompt_id in train]
    if not harmfulness or harmfulness.source not in (None, arm.data.source) or not rated:
        return
    if not any(reader.scored(train[rating.prompt_id], rating.answer) <= harmfulness.max_length for rating in rated):
        problem = f"none of {len(rated)} rated answers ends within {harmfulness.max_length} tokens"
        raise UserError(problem, "evaluate.harmfulness.max_length", "raise it")
