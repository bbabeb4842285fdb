"""The comparison table, line by line: from the labels' effect on the reward models to the policies' behaviour."""

from collections.abc import Sequence

from cai.compare.cells import Cell, Measured
from cai.compare.measures import (
    HeldOutPairs,
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
from cai.compare.schema import Line, Replica
from cai.compare.sections.harmfulness import lines_of_harmfulness
from cai.core.refusals import partly_refuses, refuses, stated
from cai.core.store import Artifact
from cai.core.textstats import repetition, wordless, words


def measures(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> list[Line]:
    """The comparison table, from the labels' effect on the reward model to the policies' behaviour."""
    lines = []
    limit, margin = cells[0].settings.evaluate.max_new_tokens, cells[0].settings.evaluate.margin
    kinds = subsets(cells[0].helpful)

    def red(name: str) -> Artifact:
        return measured.answers[name, "red-team"]

    with_rewards = [cell for cell in cells if cell.reward]
    if held_out.human and with_rewards:
        lines.append(
            measure(
                "reward_accuracy", "reward model agrees with people",
                lambda name: held_out.agreement(held_out.margins.get(name, {}), held_out.human), cells, unit="%",
                better="higher", before=(), cluster=held_out.cluster,
                help="held-out pairs; chance is 50%, and the trivial baselines stand below", margin=margin,
            )
        )  # fmt: skip
    lines.append(
        measure(
            "win_rate_vs_sft", "wins against the SFT policy", lambda n: game_rows(measured, n, "sft"), cells, unit="%",
            better="higher", before=(), help="games decided by the evaluation judge; 50% is a draw", margin=margin,
        )
    )  # fmt: skip
    models: dict[tuple[str, ...], str] = {}  # arms that learn from the same labels have the same reward models
    for arm in dict.fromkeys(cell.arm for cell in with_rewards):
        models.setdefault(tuple(str(cell.reward.path) for cell in with_rewards if cell.arm == arm if cell.reward), arm)
    for arm in models.values():
        judges = [cell.name for cell in cells if cell.arm == arm]

        def rewards(name: str, judges: list[str] = judges) -> dict[str, float]:
            return average([reward_rows(measured, judge, name) for judge in judges])

        lines.append(
            measure(
                f"reward_{arm}", f"reward by the {arm} reward model", rewards, cells, better="higher",
                help="standard deviations of the SFT policy's rewards; its own arm is trained to raise it",
            )
        )  # fmt: skip
    texts = (
        ("refusals", "refuses red-team prompts", refuses, "%", None, stated()),
        ("partial_refusals", "partly refuses red-team prompts", partly_refuses, "%", None, stated("partial")),
        ("words", "answer length, words", words, "", None, f"cut off at {limit} tokens"),
        ("repetition", "repeated 4-grams", repetition, "%", "lower", "near 100% is a loop: a collapsed policy"),
    )  # fmt: skip
    for key, title, of, unit, better, help_ in texts:
        lines.append(
            measure(
                key, title, lambda n, of=of: text_rows(red(n), of), cells, unit=unit, better=better, help=help_,
                margin=margin,
            )
        )  # fmt: skip
    silent = {name: text_rows(red(name), wordless) for name in ("start", "sft", *(cell.name for cell in cells))}
    if any(any(rows.values()) for rows in silent.values()):  # where no policy is silent, no test is spent on it
        lines.append(
            measure(
                "empty", "answers without a word", silent.__getitem__, cells, unit="%", better="lower", margin=margin,
                help="an answer like any other: it loses its games, and has no words",
            )
        )  # fmt: skip
    ended = "answers that end by themselves"
    lines.append(measure("ended", ended, lambda n: ended_rows(red(n)), cells, unit="%", margin=margin))
    if ("sft", "helpful") in measured.answers:
        for key, title, keep in (
            ("over_refusal", "refuses everyday prompts", lambda row: kinds[row] != "borderline"),
            ("borderline", "refuses harmless prompts that look harmful", lambda row: kinds[row] == "borderline"),
        ):
            lines.append(
                measure(
                    key, title, lambda n, keep=keep: text_rows(measured.answers[n, "helpful"], refuses, keep), cells,
                    unit="%", better="lower", margin=margin,
                    help=f"over-refusal: these prompts deserve an answer; {stated()}",
                )
            )  # fmt: skip
    lines += lines_of_policies(cells, measured, margin) + lines_of_harmfulness(cells, measured)
    return adjusted(lines)


def lines_of_policies(cells: Sequence[Cell], measured: Measured, margin: float) -> list[Line]:
    """Lines of the comparison table, as `measure` makes them. margin: of shares."""
    found = [
        measure(
            "win_rate_vs_start", "wins against the start model", lambda n: game_rows(measured, n, "start"), cells,
            unit="%", better="higher", before=("sft",), margin=margin,
            help="games decided by the evaluation judge; 50% is a draw",
        )
    ]  # fmt: skip
    yardsticks = (
        ("red-team", "harmlessness", "the judge's log-odds that it would choose the answer, by the yardstick"),
        ("helpful", "helpfulness", "the same by evaluate.helpfulness, of answers to everyday prompts"),
    )
    for kind, key, help_ in yardsticks:
        if ("sft", kind) in measured.merits:
            of = by_judge(measured, kind)
            found.append(measure(key, f"{key}, log-odds", of, cells, better="higher", help=help_))
    kinds = subsets(measured.xstest)
    for label, better, title in (
        ("safe", "lower", "refuses safe prompts of XSTest"),
        ("unsafe", "higher", "refuses unsafe prompts of XSTest"),
    ):
        if measured.xstest:

            def refused(name: str, label: str = label) -> Rows:
                return text_rows(measured.answers[name, "xstest"], refuses, lambda row: kinds[row] == label)

            found.append(
                measure(
                    f"xstest_{label}", title, refused, cells, unit="%", better=better, margin=margin,
                    help=stated(),
                )
            )  # fmt: skip
    return found


def replicas(cells: Sequence[Cell], measured: Measured) -> list[Replica]:
    """The comparison table of each seed by itself, for tables and plots of single runs."""
    lines = []
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = [cell for cell in cells if cell.seed == seed]
        for line in measures(own, measured, HeldOutPairs(own, measured)):
            trained = {arm: e for arm, e in line.arms.items() if arm in {cell.arm for cell in own}}
            lines.append(Replica(seed, line.key, line.unit, trained))
    return lines
