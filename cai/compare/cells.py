"""What a run is made of: one cell for each arm and seed, and what was measured on the cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cai.config.load import Arm
from cai.config.panel import alone
from cai.constitution import Constitution
from cai.core.store import Artifact
from cai.train.sft import Everyday

NOTHING = Everyday()
ROUND = ("pairs", "labels", "reward", "policy")  # stages of one


@dataclass(frozen=True)
class CriterionMade:
    """What one round left for one of `criteria:`. labellers, preflight: as in `Cell`.

    scale: of its reward model; share: of the sum of weights (cai/train/criteria.py).
    """

    labels: Artifact | None
    labellers: Mapping[str, Artifact]
    preflight: Artifact | None
    reward: Artifact
    scale: Artifact
    share: float

    @property
    def artifacts(self) -> dict[str, Artifact]:
        made = {"labels": self.labels, "preflight": self.preflight, "reward": self.reward, "scale": self.scale}
        return {name: artifact for name, artifact in made.items() if artifact}


@dataclass(frozen=True)
class JudgeMade:
    """What one judge of a panel left. key: of its section in the config. labels: of pairs that it was asked about."""

    key: str
    name: str
    labels: Artifact
    preflight: Artifact | None


@dataclass(frozen=True)
class Iteration:
    """What one round of pairs -> labels -> reward model -> policy left.

    With `criteria:` there are labels and a reward model for each of them, and none besides.
    """

    pairs: Artifact
    labels: Artifact | None
    reward: Artifact | None
    policy: Artifact | None
    criteria: Mapping[str, CriterionMade] = field(default_factory=dict)

    def view(self, criterion: str) -> "Iteration":
        """As of an arm that has this criterion alone."""
        made = self.criteria[criterion]
        return Iteration(self.pairs, made.labels, made.reward, self.policy)


@dataclass(frozen=True)
class Cell:
    """One arm with one seed, and what its stages left; pairs, labels, reward and policy are those of its last round.

    revised: what SFT learnt, whoever wrote it (`sft.learns`). labellers: source of labels -> what it said of the last
    round's pairs. lineage: all rounds, the last one included.
    """

    arm: str
    seed: int
    settings: Arm
    constitution: Constitution
    data: Artifact
    helpful: Artifact | None
    revised: Artifact
    sft: Artifact
    pairs: Artifact
    preflight: Artifact | None
    # None where the arm's method does not need them: `direct` reads no labels, and `dpo` no rewards either.
    labels: Artifact | None
    reward: Artifact | None
    policy: Artifact | None  # nor a policy, where `rl.method: none` ends with the reward model
    labellers: dict[str, Artifact]
    lineage: tuple[Iteration, ...]
    pretrained: Artifact | None = None  # the start model, where it was made here
    taught: Artifact | None = None  # the start model that learnt the constitution's reasons (`why: train`)
    acceptance: Artifact | None = None  # of a judge that was slimmed
    panel: tuple[JudgeMade, ...] = ()  # of `judge.panel`, in its order; `labellers["ai"]` is what they say together
    attacks: Artifact | None = None  # what exploits do to the judge
    # `moderation:`: what was filtered -> what it left. `data` and `helpful` are as they were loaded.
    moderated: Mapping[str, Artifact] = field(default_factory=dict)
    everyday: Everyday = NOTHING  # what SFT learnt besides `revised`

    @property
    def policies(self) -> dict[str, Iteration]:
        """Name of the policy -> its round; the last one's is the cell's own."""
        names = [f"{self.name} round {number}" for number in range(1, len(self.lineage))]
        rounds = zip([*names, self.name], self.lineage, strict=True)
        return {name: iteration for name, iteration in rounds if iteration.policy}

    @property
    def path(self) -> dict[str, tuple[Iteration, int | None]]:
        """Name of each policy that RL passed through, in order -> its round, and after which rollout of that round it
        was kept; None for what the round left. Empty without `rl.snapshots`."""
        kept = self.settings.rl.kept_rollouts
        path: dict[str, tuple[Iteration, int | None]] = {}
        for name, iteration in self.policies.items() if kept else ():
            path |= {f"{name} at {rollout}": (iteration, rollout) for rollout in kept} | {name: (iteration, None)}
        return path

    @property
    def snapshots(self) -> tuple[str, ...]:
        """Of these, those on the way."""
        return tuple(name for name, (_, rollout) in self.path.items() if rollout is not None)

    @property
    def name(self) -> str:
        return f"{self.arm}/{self.seed}"

    @property
    def criteria(self) -> Mapping[str, CriterionMade]:
        """Of its last round; empty without `criteria:`."""
        return self.lineage[-1].criteria if self.lineage else {}

    @property
    def views(self) -> list["Cell"]:
        """The cell; with `criteria:` one for each, with the labels and the reward model of an arm that has it alone,
        and called "arm criterion"."""
        if not self.criteria:
            return [self]
        arms = self.settings.by_criterion()
        return [
            replace(
                self, arm=f"{self.arm} {name}", settings=arms[name], preflight=made.preflight, labels=made.labels,
                reward=made.reward, labellers=dict(made.labellers), lineage=tuple(it.view(name) for it in self.lineage),
            )
            for name, made in self.criteria.items()
        ]  # fmt: skip

    def reward_of(self, criterion: str) -> str:
        """What a criterion's reward model is called among the reward models of a run."""
        return f"{self.name} {criterion}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its policies: of every round, and on the way."""
        return (*self.policies, *self.path)

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All that its stages left, in the order of the pipeline."""
        rounds = [made for it in self.lineage for made in (it.pairs, it.labels, it.reward, it.policy)]
        rounds += [made for it in self.lineage for own in it.criteria.values() for made in own.artifacts.values()]
        first = (self.pretrained, self.taught, self.data, self.helpful, self.revised, self.sft, self.preflight)
        judged = (*self.labellers.values(), self.acceptance, self.attacks)
        return tuple(made for made in (*first, *judged, *rounds, *self.moderated.values()) if made)


def by_each_judge(cell: Cell) -> list[Cell]:
    """The cell; with `judge.panel` one for each judge, as of an arm that has it alone, and called "arm judge 1"."""
    if not cell.panel:
        return [cell]
    judges = cell.settings.judge.asked
    return [
        replace(
            cell, arm=f"{cell.arm} {made.name}", preflight=made.preflight, panel=(),
            settings=cell.settings.model_copy(update={"judge": alone(judges[made.key])}),
            labellers={**cell.labellers, "ai": made.labels},
        )
        for made in cell.panel
    ]  # fmt: skip


def with_policy(cells: Sequence[Cell]) -> list[Cell]:
    """Those whose policy answers, plays and is rated: all but those that end with their reward model."""
    return [cell for cell in cells if cell.policy]


@dataclass(frozen=True)
class Measured:
    """What the evaluation left; all of it on held-out prompts. traces: critiques and revisions to be read.
    Policies are named "start", "sft" and as in their cells; reward models as their cells, of those that have one.

    answers: (policy, "red-team" | "helpful" | "xstest") -> responses. pair_scores: reward model -> rewards of the
    held-out pairs. scores: (reward model, policy) -> rewards of its answers. games: (first policy, second policy) ->
    who won. xstest: its prompts. revisions: arm -> the judge's ratings of what its SFT learns from. merits: as answers
    -> the judge's ratings. items: file -> its comparisons. opinions: (file, "judge" | "reward" | "policy", who) ->
    which answer is better.
    """

    traces: Artifact | None
    answers: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    pair_scores: dict[str, Artifact] = field(default_factory=dict)
    scores: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    games: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    xstest: Artifact | None = None
    revisions: dict[str, Artifact] = field(default_factory=dict)
    # revise.audit: arm -> drafts revised under opposites and placebos of their principles, and the judge's ratings.
    controlled: dict[str, Artifact] = field(default_factory=dict)
    controlled_merits: dict[str, Artifact] = field(default_factory=dict)
    merits: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    items: dict[str, Artifact] = field(default_factory=dict)
    opinions: dict[tuple[str, str, str], Artifact] = field(default_factory=dict)
    # evaluate.harmfulness: "data" (whose ratings), "model" (fitted to them), "held-out" (its scores of rated answers);
    # policy -> its scores of the policy's answers to red-team prompts.
    harm: dict[str, Artifact] = field(default_factory=dict)
    harm_scores: dict[str, Artifact] = field(default_factory=dict)
    flagged: dict[str, Artifact] = field(default_factory=dict)  # arm -> what its `moderation:` says of XSTest's prompts
    # rounds: policy of a round -> the KL of its answers from the SFT policy's; (policy of a round, "people" | policy)
    # -> what the round's reward model says of pairs that people judged, or of that policy's round's fresh ones. Then
    # `scores` has each round's reward model as well, named as its policy.
    drift: dict[str, Artifact] = field(default_factory=dict)
    round_pairs: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    # label_budget: number of human labels -> the reward models trained on so many, one a seed; named as in pair_scores.
    budgets: dict[int, dict[str, Artifact]] = field(default_factory=dict)
    # criteria: (criterion, policy, "red-team" | "helpful") -> the judge's ratings of its answers by that constitution.
    criteria: dict[tuple[str, str, str], Artifact] = field(default_factory=dict)
    # publics: group -> its people's labels; (group, policy) -> games against SFT, judged by the group's constitution.
    publics: dict[str, Artifact] = field(default_factory=dict)
    public_games: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    # pretrain: policy -> how likely it finds the documents that were held out.
    text: dict[str, Artifact] = field(default_factory=dict)
    # rl.method: self_distil. (arm whose teacher it is, policy) -> how far the policy is from it; cell -> the tokens of
    # texts that its policy and reward model learnt from, and that were written for them.
    teacher_kl: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    tokens: dict[str, Artifact] = field(default_factory=dict)
    # Where people judged games of the first arm against the second (cai/compare/human_games.py).
    human_games: Path | None = None
    # And where they rated policies' answers (cai/compare/human_ratings.py).
    human_ratings: Path | None = None
