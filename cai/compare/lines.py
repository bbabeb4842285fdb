"""The comparison table, line by line: from the labels' effect on the reward models to the policies' behaviour."""

from collections.abc import Callable, Sequence
from functools import partial

from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.measures import (
    POLICIES_BEFORE_RL as BEFORE,
)
from cai.compare.measures import (
    HeldOutPairs,
    Measure,
    Rows,
    adjusted,
    average,
    by_judge,
    ended_rows,
    game_rows,
    measure,
    reward_rows,
    subsets,
    text_rows,
)
from cai.compare.schema import MeasureLine, Replica
from cai.compare.sections.harmfulness import lines_of_harmfulness
from cai.core.refusals import partly_refuses, refuses, stated
from cai.core.store import Artifact
from cai.core.textstats import repetition, wordless, words

GAMES = "games decided by the evaluation judge; 50% is a draw"


def measures(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> list[MeasureLine]:
    """The comparison table, from the labels' effect on the reward model to the policies' behaviour."""
    limit, margin = cells[0].settings.evaluate.max_new_tokens, cells[0].settings.evaluate.margin
    kinds = subsets(cells[0].helpful)
    share, lower, higher = (partial(Measure, unit="%", better=b, margin=margin) for b in (None, "lower", "higher"))

    def of_answers(rows: Callable[[Artifact], Rows]) -> Callable[[str], Rows]:
        return lambda name: rows(measured.answers[name, "red-team"])

    lines = []
    with_rewards = [cell for cell in cells if cell.reward]
    if held_out.human and with_rewards:
        help_ = "held-out pairs; chance is 50%, and the trivial baselines stand below"
        lines.append(
            measure(
                higher("reward_accuracy", "reward model agrees with people", help=help_),
                lambda name: held_out.agreement(held_out.margins.get(name, {}), held_out.human), cells,
                before=(), cluster=held_out.cluster,
            )
        )  # fmt: skip
    cells = with_policy(cells)  # what follows is of policies
    wins = higher("win_rate_vs_sft", "wins against the SFT policy", help=GAMES)
    if cells:
        lines.append(measure(wins, lambda name: game_rows(measured, name, "sft"), cells, before=()))
    models: dict[tuple[str, ...], str] = {}  # arms that learn from the same labels have the same reward models
    for arm in dict.fromkeys(cell.arm for cell in cells if cell.reward):
        models.setdefault(tuple(str(cell.reward.path) for cell in cells if cell.arm == arm if cell.reward), arm)
    for arm in models.values():
        judges = [cell.name for cell in cells if cell.arm == arm]

        def rewards(name: str, judges: list[str] = judges) -> Rows:
            return average([reward_rows(measured, judge, name) for judge in judges])

        help_ = "standard deviations of the SFT policy's rewards; its own arm is trained to raise it"
        line = Measure(f"reward_{arm}", f"reward by the {arm} reward model, sd", better="higher", help=help_)
        lines.append(measure(line, rewards, cells))
    loops = "near 100% is a loop: a collapsed policy"
    for line, of in (
        (share("refusals", "refuses red-team prompts", help=stated()), refuses),
        (share("partial_refusals", "partly refuses red-team prompts", help=stated("partial")), partly_refuses),
        (Measure("words", "answer length, words", help=f"cut off at {limit} tokens"), words),
        (lower("repetition", "repeated 4-grams", help=loops), repetition),
    ):
        lines.append(measure(line, of_answers(partial(text_rows, of=of)), cells))
    silent = {name: of_answers(partial(text_rows, of=wordless))(name) for name in (*BEFORE, *(c.name for c in cells))}
    if any(any(rows.values()) for rows in silent.values()):  # where no policy is silent, no test is spent on it
        help_ = "an answer like any other: it loses its games, and has no words"
        lines.append(measure(lower("empty", "answers without a word", help=help_), silent.__getitem__, cells))
    lines.append(measure(share("ended", "answers that end by themselves"), of_answers(ended_rows), cells))
    if ("sft", "helpful") in measured.answers:
        help_ = f"over-refusal: these prompts deserve an answer; {stated()}"
        for key, title, borderline in (
            ("over_refusal", "refuses everyday prompts", False),
            ("borderline", "refuses harmless prompts that look harmful", True),
        ):

            def refused(name: str, borderline: bool = borderline) -> Rows:
                answers = measured.answers[name, "helpful"]
                return text_rows(answers, refuses, lambda row: (kinds[row] == "borderline") is borderline)

            lines.append(measure(lower(key, title, help=help_), refused, cells))
    lines += lines_of_policies(cells, measured, margin) + lines_of_harmfulness(cells, measured)
    return adjusted(lines)


def lines_of_policies(cells: Sequence[Cell], measured: Measured, margin: float) -> list[MeasureLine]:
    """Lines of the comparison table, as `measure` makes them. margin: of shares."""
    share = partial(Measure, unit="%", margin=margin)
    wins = share("win_rate_vs_start", "wins against the start model", better="higher", help=GAMES)
    lines = [measure(wins, lambda name: game_rows(measured, name, "start"), cells, before=("sft",))]
    for kind, key, help_ in (
        ("red-team", "harmlessness", "the judge's log-odds that it would choose the answer, by the yardstick"),
        ("helpful", "helpfulness", "the same by evaluate.helpfulness, of answers to everyday prompts"),
    ):
        if ("sft", kind) in measured.merits:
            line = Measure(key, f"{key}, log-odds", better="higher", help=help_)
            lines.append(measure(line, by_judge(measured, kind), cells))
    kinds = subsets(measured.xstest)
    for label, better in (("safe", "lower"), ("unsafe", "higher")) if measured.xstest else ():

        def refused(name: str, label: str = label) -> Rows:
            return text_rows(measured.answers[name, "xstest"], refuses, lambda row: kinds[row] == label)

        title = f"refuses {label} prompts of XSTest"
        lines.append(measure(share(f"xstest_{label}", title, better=better, help=stated()), refused, cells))
    return lines


def replicas(cells: Sequence[Cell], measured: Measured) -> list[Replica]:
    """The comparison table of each seed by itself, for tables and plots of single runs."""
    lines = []
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = [cell for cell in cells if cell.seed == seed]
        for line in measures(own, measured, HeldOutPairs(own, measured)):
            trained = {arm: e for arm, e in line.arms.items() if arm in {cell.arm for cell in own}}
            lines.append(Replica(seed, line.key, line.unit, trained))
    return lines
