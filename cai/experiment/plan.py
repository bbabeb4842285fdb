"""`--plan`: what would run, how long, in how much memory and at what price, before the first minute is spent.

Stages of one name and model are one line; `--all` has a line for each, with its key. Each time says where it is from:
stages that ran here, a shipped table of a named machine, or a model of a card (cai/experiment/cards.py).
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cai.config.load import Experiment
from cai.config.served import Price
from cai.core.errors import UserError
from cai.core.progress import clock, total
from cai.core.store import Artifact
from cai.experiment.cards import CARDS, Card, Tokens, card_called, seconds_on, tokens_of
from cai.experiment.check_servers import with_revisers
from cai.experiment.executors import cards_of, cores, lanes_of
from cai.experiment.needs import Need, needs
from cai.experiment.timings import Expected, estimates
from cai.models.memory import GIB, on_device
from cai.models.workbench import Workbench, card_at

READERS = {"judge": "the judge", "critique": "the reviser", "train": "the policy, before SFT"}
SIGNS = {"modelled": " m", "elsewhere": " *", "here": ""}


@dataclass(frozen=True, slots=True)
class Plan:
    """ledger: every stage, in order; expected, needs: of each. device: by its name; capacity: its bytes, None where
    memory is not looked at. card: by which times are modelled, None for none. cards: how many there are. lanes: stages
    that this machine makes side by side."""

    ledger: Sequence[Artifact]
    expected: Sequence[Expected]
    needs: Sequence[Need | None]
    device: str
    capacity: float | None = None
    card: Card | None = None
    cards: int = 1
    lanes: int = 1


@dataclass(slots=True)
class Group:
    """Stages of one name and model. seconds: of those to run."""

    stage: str
    model: str
    cached: int = 0
    seconds: list[float | None] = field(default_factory=list)
    took: float = 0.0
    signs: set[str] = field(default_factory=set)
    peak: float = 0.0
    served: bool = False
    assumed: bool = False

    def add(self, artifact: Artifact, expected: Expected, need: Need | None) -> None:
        if artifact.cached:
            self.cached, self.took = self.cached + 1, self.took + artifact.seconds
            return
        self.seconds.append(expected.seconds)
        if expected.seconds:
            self.signs.add(SIGNS[expected.basis])
        if need:
            self.peak = max(self.peak, need.peak)
            self.served, self.assumed = need.served, need.shape.assumed and not need.served


def grouped(plan: Plan) -> list[Group]:
    """In the order of the pipeline."""
    # Of what is there already the model is not looked up: it goes with the first that is to run, which is nearly always
    # the only one.
    models: dict[str, str] = {}
    for artifact, need in zip(plan.ledger, plan.needs, strict=True):
        if need:
            models.setdefault(artifact.stage, need.model)
    groups: dict[tuple[str, str], Group] = {}
    for artifact, expected, need in zip(plan.ledger, plan.expected, plan.needs, strict=True):
        model = need.model if need else models.get(artifact.stage, "") if artifact.cached else ""
        groups.setdefault((artifact.stage, model), Group(artifact.stage, model)).add(artifact, expected, need)
    return list(groups.values())


def print_plan(experiment: Experiment, plan: Plan, every: bool = False) -> None:
    """The table of stages, or of every single one, and the sum of what is to run."""
    print(f"{experiment.name}: arms {', '.join(experiment.arms)}; seeds {', '.join(map(str, experiment.seeds))}")
    for name, arm in experiment.arms.items():
        labels = f"labels by {arm.labels}" if arm.rl.asks_labellers else "nobody is asked for a label"
        labels = "ends with its SFT policy" if arm.rl.ends_with_sft else labels
        learns = "" if arm.sft.learns == "revisions" else f"; SFT learns {arm.sft.learns}"
        why = arm.constitution
        learns += "" if why.why == "none" else f"; reasons ({why.reasons}) read by {READERS[why.why]}"
        weights = ", ".join(f"{criterion} {its.weight:g}" for criterion, its in arm.criteria.items())
        more = (f"; criteria {weights}" if weights else "") + (f"; {arm.rounds} rounds" if arm.rounds > 1 else "")
        panel = f"; {arm.judge.panel} for the AI judge" if arm.judge.panel and arm.asks_judge else ""
        panel += f"; by {arm.judge.rubric}" if arm.judge.rubric and arm.asks_judge else ""
        print(f"  arm {name}: {labels}{panel}{learns}{more}")
    if experiment.label_budget:
        print(f"  reward models from {', '.join(map(str, experiment.label_budget))} human labels as well")
    if experiment.publics:
        groups = (f"{name} ({len(raters)} people)" for name, raters in experiment.publics.groups.items())
        print(f"  held against the labels of {', '.join(groups)}")
    _print_each(plan) if every else _print_groups(plan)
    print_sum(plan)
    print_served(experiment, plan)


def _print_each(plan: Plan) -> None:
    for artifact, each in zip(plan.ledger, plan.expected, strict=True):
        if artifact.cached:
            print(f"  cached   {artifact.stage:<16} {artifact.key}   took {clock(artifact.seconds)}")
        else:
            about = (
                "unknown"
                if each.seconds is None
                else f"about {clock(each.seconds)}{SIGNS[each.basis] if each.seconds else ''}"
            )
            print(f"  to run   {artifact.stage:<16} {artifact.key}   {about}")


def _print_groups(plan: Plan) -> None:
    groups = grouped(plan)
    wide = max([len(group.model) for group in groups] + [5])
    print(
        f"  {'stage':<20}{'model':<{wide}}  to run  cached     each   in all" + "  memory" * (plan.capacity is not None)
    )
    for group in groups:
        line = f"  {group.stage:<20}{group.model:<{wide}}{len(group.seconds):>8}{group.cached:>8}"
        print((line + _times(group) + _memory(group, plan.capacity)).rstrip())


def _times(group: Group) -> str:
    known = [each for each in group.seconds if each is not None]
    if not group.seconds:
        return f"{'':>9}{clock(group.took):>9} taken"
    if group.served:
        return f"{'served':>9}{'':>9}"
    if not known:
        return f"{'unknown':>9}{'':>9}"
    apart = "≤ " if max(known) > 1.5 * min(known) + 1 else ""
    at_least = "≥ " if len(known) < len(group.seconds) else ""
    return f"{apart + clock(max(known)):>9}{at_least + clock(sum(known)):>9}{''.join(sorted(group.signs)):<2}"


def _memory(group: Group, capacity: float | None) -> str:
    if capacity is None or not group.seconds or not group.peak:
        return ""
    takes = on_device(group.peak)
    sign = "~" if group.assumed else ""
    return f"  {sign}{takes / GIB:.1f} GiB" + (" DOES NOT FIT" if takes > capacity else "")


def print_grid(grid: Sequence[Experiment], starts: Sequence[int], plan: Plan) -> None:
    """What each point of a sweep adds to the points before it. starts: where each one's stages begin in the ledger."""
    for experiment, start, end in zip(grid, starts, [*starts[1:], len(plan.ledger)], strict=True):
        new = sum(not artifact.cached for artifact in plan.ledger[start:end])
        about = total([each.seconds for each in plan.expected[start:end]])
        print(f"  {experiment.name}: {new} stages to run beside those of the points above, {about}")
    print_sum(plan)
    print_served(grid[0], plan)


def print_sum(plan: Plan) -> None:
    ledger, expected = plan.ledger, plan.expected
    running = sum(not artifact.cached for artifact in ledger)
    about = total([each.seconds for each in expected])
    print(f"{running} of {len(ledger)} stages to run on {plan.device}, {about} in all")
    if plan.card:
        print(f"m modelled for a {plan.card.name}, not measured: by its data sheet's peak and bandwidth (cards.py)")
    seconds = sum(each.seconds or 0.0 for each in expected)
    if plan.cards > 1:
        best = clock(seconds / plan.cards)
        print(f"  one stage after another; side by side on {plan.cards} cards (runtime.executor) at best {best}")
    elif plan.lanes > 1 and seconds:
        best = clock(seconds / plan.lanes)
        print(f"  all added up; {plan.lanes} are made side by side (runtime.executor): at best {best}")
    elsewhere = {each.machine for each in expected if each.machine}
    for machine in sorted(elsewhere):
        print(f"* as measured on {machine}; the next plan goes by what stages took here")
    if plan.capacity is not None:
        has = plan.capacity / GIB
        print(f"memory: the most that a stage takes of one device, by its longest rows; there are {has:.0f} GiB")
        if any(need and need.shape.assumed and not need.served for need in plan.needs):
            print("~ a config.json was not at hand: the shape is that of most models of the size in its name")
    if any(each.seconds is None for each in expected):
        print("unknown: no such stage has run here with a model of this size, or its data are not counted yet")
    if running:
        print("what follows a stage that runs is counted as to run; where that stage comes out the same, it is skipped")


def print_served(experiment: Experiment, plan: Plan) -> None:
    """Calls, tokens and cost of what servers answer; texts are taken to be half as long as their limits."""
    asked: dict[str, Tokens] = {}
    for artifact, expected, need in zip(plan.ledger, plan.expected, plan.needs, strict=True):
        if need and need.served and expected.count:
            new, so_far = tokens_of(need, artifact.inputs, expected.count), asked.get(need.model, Tokens(0, 0, 0))
            asked[need.model] = Tokens(so_far.calls + new.calls, so_far.read + new.read, so_far.written + new.written)
    prices, costs = experiment.runtime.prices, 0.0
    for model, tokens in asked.items():
        price = _price(prices, model, experiment)
        costs += (cost := (tokens.read * price.input + tokens.written * price.output) / 1e6 if price else 0.0)
        priced = f", about {cost:.2f} (runtime.prices)" if price else ", no price given"
        print(
            f"served {model}: about {tokens.calls:,.0f} calls, {tokens.read / 1e6:.1f} M tokens read, "
            f"{tokens.written / 1e6:.2f} M written{priced}; modelled, texts half as long as their limits"
        )
    limit = experiment.runtime.max_cost
    if limit is not None and costs > limit:
        print(f"  more than runtime.max_cost ({limit:g}): the run would stop there, and keep what it has")


def _price(prices: Mapping[str, Price], model: str, experiment: Experiment) -> Price | None:
    """By the model's name here, or at its server."""
    arms = experiment.arms.values()
    judges = (judge for arm in arms for judge in (*arm.judge.asked.values(), arm.evaluate.judge))
    names = [
        model,
        *(judge.server.name for judge in judges if judge.server and judge.model == model and judge.server.name),
    ]
    return next((prices[name] for name in names if name in prices), None)


# Where it is planned for ----------------------------------------------------------------------------------------------


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="with --plan: a line for each stage, with its key")
    parser.add_argument("--card", choices=CARDS, help="with --plan: for this card, by a model of its speed")
    parser.add_argument("--cards", type=int, default=1, metavar="N", help="with --plan: for so many of them")
    parser.add_argument("--device-memory", metavar="80GiB", help="with --plan: for a device of so much memory")


def plan_on(experiment: Experiment, ledger: Sequence[Artifact], work: Workbench, options: Namespace) -> Plan:
    """What would run on this machine, or on the one that the options name. Raises UserError."""
    card = CARDS.get(options.card or "")
    capacity = card.usable if card else None
    if about := card_at(work.device):
        card, capacity = card or card_called(about.name), capacity or float(about.total_memory)
    if options.device_memory:
        capacity = bytes_of(options.device_memory)
    ledger = with_revisers(experiment, ledger)
    wanted = needs(experiment, ledger)
    of_stage = {artifact.digest: one for artifact, one in zip(ledger, wanted, strict=True)}

    def modelled(artifact: Artifact, count: float) -> float | None:
        one = of_stage[artifact.digest]
        return seconds_on(card, one, artifact.inputs, count, experiment.runtime) if one and card else None

    device = "cuda" if options.card else work.device
    expected = estimates(ledger, work.root / "store", device, modelled)
    where = f"{options.cards} x {card.name}" if options.card and card else work.device
    runtime, lanes = work.runtime, 1
    if runtime.executor == "processes" and not options.card:
        lanes = lanes_of(runtime, cores(), len(cards_of(work.device)))
    return Plan(ledger, expected, wanted, where, capacity, card, options.cards, lanes)


def bytes_of(text: str) -> float:
    """Of "80GiB", "24 GB" or "512MiB". Raises UserError."""
    read = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG])(i?)B\s*", text)
    if not read:
        raise UserError(f'"{text}" is no amount of memory', "--device-memory", "write it like 80GiB")
    unit = (1024 if read[3] else 1000) ** (3 if read[2] == "G" else 2)
    return float(read[1]) * unit
