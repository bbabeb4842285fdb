"""Has the policy collapsed? Plain statistics of its answers against those of the SFT policy, from which it started.

A reward model can be pleased by a policy that says one thing to everything, says it over and over, never stops, or
stops at once. The bounds are warning lights, set so wide that the noise of a batch does not reach them, and the same
for every experiment; a light says where to look and decides nothing.

The SFT policy's own figures are those of its answers on the same footing: for the rollouts the first `POOL` answers,
for held-out prompts the answers to the same prompts before training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cai.core.textstats import distinct, repetition

# A share among 32 answers has a standard error of at most 0.09, the difference of two such shares one of 0.125; smaller
# rollouts are pooled until there are as many.
POOL = 32
PAIRED = 16  # answers to the same prompts with the same draws differ by less: half a pool will do
REPEATED = 0.25  # more repeated 4-grams than the SFT policy: every fourth answer has become a loop
DISTINCT = 0.5  # of the SFT policy's distinct 2-grams: half of what it could say is gone
LENGTH = 2.0  # times as long, or as short
ENDED = 0.4  # change of the share of answers that end by themselves: three standard errors of a pool


@dataclass(frozen=True, slots=True)
class Answers:
    """Some answers of a policy. length: mean, in tokens. kl: to the SFT policy; entropy: the policy's own; both in nats
    an answer, None where they are not known."""

    rollout: int
    count: int
    repetition: float
    distinct_2: float
    length: float
    ended: float
    kl: float | None = None
    entropy: float | None = None


def describe(texts: Sequence[str], ids: Sequence[Sequence[int]], stops: set[int]) -> dict[str, Any]:
    """The statistics of answers that can be read off them. ids: their tokens; stops: those that end a turn."""
    count = len(texts)
    return {
        "count": count,
        "repetition": sum(map(repetition, texts)) / count,
        "distinct_2": distinct(texts),
        "length": sum(map(len, ids)) / count,
        "ended": sum(bool(row) and row[-1] in stops for row in ids) / count,
    }


def collapses(now: Answers, sft: Answers) -> dict[str, str]:
    """Which lights burn: name -> what is the matter, with both numbers."""
    lights = {}
    if now.repetition > sft.repetition + REPEATED:
        lights["repetition"] = f"{now.repetition:.0%} of 4-grams are repeated (SFT policy {sft.repetition:.0%})"
    if now.distinct_2 < DISTINCT * sft.distinct_2:
        lights["distinct"] = f"{now.distinct_2:.0%} of 2-grams are distinct (SFT policy {sft.distinct_2:.0%})"
    if not sft.length / LENGTH <= now.length <= sft.length * LENGTH:
        lights["length"] = f"answers have {now.length:.0f} tokens (SFT policy {sft.length:.0f})"
    if abs(now.ended - sft.ended) > ENDED:
        lights["ended"] = f"{now.ended:.0%} of answers end by themselves (SFT policy {sft.ended:.0%})"
    # KL = cross-entropy under the SFT policy - own entropy. Beyond the SFT policy's entropy, even a policy that always
    # says the same says what the SFT policy would say less often than whatever it usually says.
    if now.kl is not None and sft.entropy is not None and now.kl > sft.entropy:
        lights["kl"] = (
            f"the KL of {now.kl:.0f} nats an answer is more than the SFT policy's entropy ({sft.entropy:.0f})"
        )
    return lights


def lights_of(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each light when it first burns: {"rollout", "what", "text"}, from a trainer's log as cai/train/rl/watch.py
    writes it. The same log gives the same list."""
    first: dict[str, dict[str, Any]] = {}
    for now, sft in _comparisons(log):
        for what, text in collapses(now, sft).items():
            first.setdefault(what, {"rollout": now.rollout, "what": what, "text": text})
    return list(first.values())


def _comparisons(log: Sequence[dict[str, Any]]) -> Iterator[tuple[Answers, Answers]]:
    """(some answers, the SFT policy's) in the order in which they came."""
    rollouts: list[Answers] = []
    looks: list[Answers] = []
    for row in log:
        if "look" in row:
            looks.append(Answers(**{name: row["look"][name] for name in Answers.__slots__}))
            if len(looks) > 1 and looks[-1].count >= PAIRED:
                yield looks[-1], looks[0]
        elif "answers" in row:
            entropy = row.get("entropy")  # nats a token
            length = row["answers"]["length"]
            nats = None if entropy is None else entropy * length
            rollouts.append(Answers(len(rollouts) + 1, **row["answers"], kl=row.get("kl"), entropy=nats))
            first = pool(rollouts)
            if len(first) < len(rollouts):
                yield mean(pool(rollouts[::-1])), mean(first)


def pool(rollouts: Sequence[Answers]) -> list[Answers]:
    """The first of them that together have `POOL` answers, or all."""
    count = 0
    for place, some in enumerate(rollouts, 1):
        count += some.count
        if count >= POOL:
            return list(rollouts[:place])
    return list(rollouts)


def mean(pooled: Sequence[Answers]) -> Answers:
    """Weighted by the number of answers. Its rollout is the latest among them."""
    total = sum(some.count for some in pooled)

    def of(name: str) -> Any:
        values = [getattr(some, name) for some in pooled]
        if any(value is None for value in values):
            return None
        return sum(value * some.count for value, some in zip(values, pooled, strict=True)) / total

    means = {name: of(name) for name in Answers.__slots__ if name not in ("rollout", "count")}
    return Answers(max(some.rollout for some in pooled), total, **means)
