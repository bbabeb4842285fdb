"""The judge as the reward, asked as the policy learns: about each answer alone, or about a prompt's answers two by two.

    alone   d-RLAIF (Lee et al. 2023): its rating of each answer, normalised on the SFT answers (rewards.py)
    pairs   every answer of a group against every other; n (n - 1) / 2 games
    circle  each against its two neighbours, the last also against the first; n games

In a group an answer is worth its mean probability to win, over its games that could be read: 0 to 1, and 1/2 on the
mean of the group, whatever the judge thinks of the prompt. So the reward is relative already, which is all that RLOO
and GRPO learn from, and of a pair it is P(a better) and P(b better), of which `online_dpo` learns. It is not normalised
further: to be sure of a win is worth 1, under every judge. A game that cannot be read is left out of the mean, and an
answer without any game has no reward and takes no part. Both orders are asked, as for labels (cai/judge/asking.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from cai.config.rl import Judging
from cai.core.draws import identity
from cai.core.errors import UserError
from cai.core.records import Abstained, Label, Pair, Prompt, Revision, read_jsonl
from cai.core.store import Artifact
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.rubric_writing import criteria_for
from cai.models.workbench import Workbench
from cai.train.rl.given import Given, OnlineRun, RewardFunction
from cai.train.rl.online import COMPARED, MakeTrainer, Ready, begin, load_policy, optimise
from cai.train.rl.rewards import judged_reward

Game = tuple[int, int]  # two answers of a group, by their places
Verdicts = Callable[[Sequence[Pair]], Sequence[Label | Abstained]]


@dataclass(frozen=True, slots=True)
class RatedBy:
    """The judge whose opinions are the rewards, beside a policy that has a seed of its own."""

    judge: AskedJudge

    @classmethod
    def of(cls, stage: Callable[..., Artifact], given: Given) -> "RatedBy":
        """The arm's judge; of one by a rubric, with criteria for all training prompts. Raises UserError for what is not
        there."""
        arm, constitution, dtype = given.arm, given.constitution, given.start.dtype
        prompts = [given.data, *([given.helpful] if given.helpful else [])]
        criteria = criteria_for(stage, arm.judge, constitution, dtype, arm.seed, prompts=prompts)
        return cls(replace(AskedJudge.of(arm.judge, constitution, dtype, arm.seed), rubric=criteria))

    def keyed(self) -> dict[str, Any]:
        """As `keyed` in cai/core/store.py asks for it; the policy's dtype is the judge's."""
        parts = dict(self.judge.keyed())
        del parts["dtype"]
        return {"judge_model": parts.pop("model"), "judge_seed": parts.pop("seed"), **parts}


def learn_from_judge(
    out: Path, work: Workbench, run: OnlineRun, judge: AskedJudge, judging: Judging, make: MakeTrainer,
    columns: Sequence[str] = COMPARED,
) -> None:  # fmt: skip
    """Leaves what `learn_from_rewards` leaves. An answer that the judge cannot read takes no part.

    columns: of the curves, where answers are compared. The judge is asked through the call cache and stays in memory
    beside the policy.
    """
    tokenizer, prompts, counts = begin(work, run)
    asked = [*prompts, *read_jsonl(run.data / "prompts.jsonl", Prompt)]  # `rl.gold` looks at others than it trains on
    engine = judge.engine(work)
    if judging == "alone":
        known = read_jsonl(run.revisions / "revisions.jsonl", Revision)
        reward, scale = judged_reward(engine, asked, known, judge)
        counts |= {f"judge: {name}": round(value, 4) for name, value in scale.items()}
        ready = Ready(load_policy(work, run), tokenizer, prompts, reward, counts)
    else:
        games = games_of(run.settings.num_generations, judging)
        reward, paid = compared_reward(lambda pairs: judge_pairs(engine, pairs, judge, title="compare"), asked, games)
        ready = Ready(load_policy(work, run), tokenizer, prompts, reward, counts, paid, columns)
    optimise(out, work, run, ready, make)


def games_of(answers: int, judging: Judging) -> list[Game]:
    """Who meets whom in a group of so many answers. Of two answers a circle is one game, of three it is all pairs."""
    if judging == "pairs" or answers < 3:
        return list(combinations(range(answers), 2))
    return [(place, (place + 1) % answers) for place in range(answers)]


def win_shares(games: Mapping[Game, float | None], answers: int) -> list[float | None]:
    """The mean probability of each answer to win; None for one without a game that could be read.

    games: P(the first of the two is better), None where the judge abstained.
    """
    won: list[list[float]] = [[] for _ in range(answers)]
    for (a, b), p_a in games.items():
        if p_a is not None:
            won[a].append(p_a)
            won[b].append(1 - p_a)
    return [fmean(mine) if mine else None for mine in won]


def compared_reward(
    verdicts: Verdicts, prompts: Sequence[Prompt], games: Sequence[Game]
) -> tuple[RewardFunction, Callable[[], dict[str, float]]]:
    """(a reward function as TRL calls it, for rows with a column "prompt_id"; what its last call was made of).

    verdicts: the judge's, of pairs, in order. games: of each group; the answers of a group follow one another. With a
    column "baseline" there are no groups, and the reward is P(the answer is better than that one).

    What a call was made of: judged and abstained, the number of games and of those that the judge could not read, and
    win_share, the mean over the groups of their best answer's reward: 1/2 where the judge sees no difference.
    Raises UserError where it can read no game of the first rollout.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    size = 1 + max(max(game) for game in games)
    latest: dict[str, float] = {}

    def decided(pairs: Sequence[Pair]) -> tuple[list[float | None], list[str]]:
        """(P(a better) of each pair, why those that have none have none)."""
        # The same words twice are a draw by definition, whatever a judge makes of their places.
        differ = {pair.id: pair for pair in pairs if pair.a != pair.b}
        given = dict(zip(differ, verdicts(list(differ.values())), strict=True)) if differ else {}
        unread = [verdict.reason for verdict in given.values() if isinstance(verdict, Abstained)]
        p_a = {name: verdict.p_a for name, verdict in given.items() if isinstance(verdict, Label)}
        return [0.5 if pair.a == pair.b else p_a.get(pair.id) for pair in pairs], unread

    def reward(
        prompt_id: list[str], completions: list, baseline: Sequence[str] | None = None, trainer_state: Any = None,
        **_: Any,
    ) -> list[float | None]:  # fmt: skip
        texts = [turns[-1]["content"].strip() for turns in completions]  # as the evaluation will have them
        asked = [by_id[name] for name in prompt_id]
        if baseline is not None:
            rows = zip(asked, texts, (text.strip() for text in baseline), strict=True)
            return decided([pair_of(*row) for row in rows])[0]
        starts = range(0, len(texts), size)
        assert len(texts) % size == 0 and all(len(set(prompt_id[s : s + size])) == 1 for s in starts), "whole groups"
        pairs = [pair_of(asked[s], texts[s + a], texts[s + b]) for s in starts for a, b in games]
        p_a, unread = decided(pairs)
        if all(p is None for p in p_a) and trainer_state is not None and trainer_state.global_step == 0:
            problem = f"the judge can read no pair of the first answers: {unread[0]}"
            raise UserError(problem, "judge.min_mass", "lower it, name another judge.method, or reword the principles")
        groups = [p_a[start : start + len(games)] for start in range(0, len(p_a), len(games))]
        shares = [win_shares(dict(zip(games, group, strict=True)), size) for group in groups]
        best = [max(known) for group in shares if (known := [share for share in group if share is not None])]
        latest.clear()
        latest.update(judged=len(p_a), abstained=p_a.count(None), **({"win_share": fmean(best)} if best else {}))
        return [share for group in shares for share in group]

    return reward, lambda: dict(latest)


def pair_of(prompt: Prompt, a: str, b: str) -> Pair:
    return Pair(identity("group", prompt.id, a, b), prompt, a, b)
