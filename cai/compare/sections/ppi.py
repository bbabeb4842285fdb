"""Few human labels and many of the judge's: what both together say, and how many labels the judge is worth.

Prediction-powered inference (cai/stats/ppi.py) gives what people would say of all held-out pairs, from those that they
labelled and the judge's labels of all; so it is unbiased however the judge errs, *where the labelled ones are a random
part*. That is known of two kinds of parts and of no other, and where it is not known no number is given:

    labelled   people labelled the first pairs (or games) in the order of the labelling page, which a hash draws
    drawn      people labelled all; a quarter of the prompts is drawn by hash, as if they had labelled no more. The
               interval from all of people's labels stands beside it

The measures: how often the judge is right, for which its own confidence stands where people said nothing; how often an
arm's reward models are right (prompts and seeds), for which their agreement with the judge does; and how often the
first arm's policies win (`python -m cai.compare RUN --human-games LOG`), for which the evaluation's judge does. A pair
on which people are split counts one half here: of the pairs they have not seen nobody knows on which they would be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np

from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.human_games import games_of, not_drawn, people_on
from cai.compare.measures import HeldOutPairs, Rows, average
from cai.compare.section import ReportSection
from cai.core.draws import uniform
from cai.core.odds import side
from cai.core.records import Estimate, Label, Number, read_jsonl
from cai.stats.ppi import Powered, powered

Part = Literal["labelled", "drawn"]
QUARTER, FEWEST = 4, 10  # of the prompts; and how many there must be


@dataclass(frozen=True, slots=True, kw_only=True)
class PoweredLine:
    """One measure by people and the judge. both, alone: with the judge's labels, and by people's alone.

    part: how the labelled ones came to be. everything: from all of people's labels, where part is "drawn". weight: of
    the judge's labels, 0 to 1. worth: human labels more that would do as much; None where no number would.
    """

    title: str
    arm: str | None
    judge: str
    part: Part
    seeds: int
    both: Estimate
    alone: Estimate
    weight: float
    worth: Number | None
    everything: Estimate | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoweredReport:
    """refused: why there is no number where one might be looked for."""

    lines: list[PoweredLine]
    refused: list[str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One measure. human: row -> outcome in each seed by people, of the rows that they labelled; judge: by the judge,
    of all rows (NaN where it could not be read). whose: whose labels stand in for people's."""

    title: str
    arm: str | None
    whose: str
    human: Mapping[str, tuple[float, ...]]
    judge: Mapping[str, tuple[float, ...]]


def powered_report(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> PoweredReport | None:
    """None where no AI judge and no people label the same things."""
    lines: list[PoweredLine] = []
    refused: list[str] = []
    judge = next((cell for cell in cells if "ai" in cell.labellers), None)
    people, whose = _people(cells, held_out)
    if judge and people:
        said = held_out.of(judge.labellers["ai"])
        given = {row: people[row] for row in people if row in held_out.pairs}
        asked = _pairs(cells, held_out, judge.arm, said, given)
        if len(given) == len(held_out.pairs):
            kept = quarter({held_out.cluster(row) for row in given})
            for one in asked if kept else ():
                few = {row: y for row, y in one.human.items() if held_out.cluster(row) in kept}
                lines.append(_line(one, few, held_out.cluster, "drawn"))
        elif why := "which they are was not drawn by chance here" if not whose else not_drawn(held_out.pairs, given):
            of = f"{len(given)} of {len(held_out.pairs)} held-out pairs"
            refused.append(f"People labelled {of}; {why}. So no estimate is corrected by them.")
        else:
            lines += [_line(one, one.human, held_out.cluster, "labelled") for one in asked]
    if measured.human_games:
        _games(cells, measured, lines, refused)
    return PoweredReport(lines=lines, refused=refused) if lines or refused else None


def _people(cells: Sequence[Cell], held_out: HeldOutPairs) -> tuple[Rows, str]:
    """(what people said of held-out pairs, the file they said it in or ""). The data's labels go before a file's."""
    if held_out.human:
        return held_out.human, ""
    for cell in cells:
        if cell.settings.labels.file and "human" in cell.labellers:
            return held_out.of(cell.labellers["human"]), cell.settings.labels.file
    return {}, ""


def agree(claimed: float, truth: float) -> float:
    """1 where both are on one side, 0 where they are on two, one half where either is split."""
    return 0.5 + 0.5 * side(claimed, 0.5) * side(truth, 0.5)


def _pairs(
    cells: Sequence[Cell], held_out: HeldOutPairs, arm: str, said: Rows, people: Rows
) -> list[_Asked]:  # fmt: skip
    """How often the judge, and every arm's reward models, are right about held-out pairs. said: the judge's labels."""
    whose = f"the judge's labels (arm {arm})"
    confident = {row: (max(p, 1 - p),) for row, p in said.items()}
    right = {row: (agree(said[row], people[row]),) for row in said if row in people}
    asked = [_Asked("the judge's labels agree with people", arm, "the judge's own confidence", right, confident)]
    for name in dict.fromkeys(cell.arm for cell in cells if cell.reward):
        models = [held_out.margins[cell.name] for cell in cells if cell.arm == name and cell.name in held_out.margins]
        rows = list(average(models)) if models else []
        human = {row: tuple(agree(model[row], people[row]) for model in models) for row in rows if row in people}
        judge = {
            row: tuple(agree(model[row], said[row]) if row in said else nan for model in models) for row in rows
        }  # fmt: skip
        if human:
            asked.append(_Asked(f"reward models of arm {name} agree with people", name, whose, human, judge))
    return asked


def _games(cells: Sequence[Cell], measured: Measured, lines: list[PoweredLine], refused: list[str]) -> None:
    """How often the first arm wins, for these seeds: people choose game by game."""
    assert measured.human_games
    games = {game.pair.id: game for game in games_of(cells, measured)}
    people = people_on(list(games.values()), measured.human_games)
    if why := not_drawn(games, people):
        refused.append(f"Of the games between the first two arms {why}. So no win rate is corrected by them.")
        return
    verdicts = {
        (first, second): {row.pair_id: row.p_a for row in read_jsonl(folder / "games.jsonl", Label)}
        for (first, second), folder in measured.games.items()
        if any((game.first, game.second) == (first, second) for game in games.values())
    }

    def by_judge(game_id: str) -> float:
        game = games[game_id]
        p = verdicts[game.first, game.second].get(game.pair.prompt.id)
        return nan if p is None else 0.5 + 0.5 * side(p, 0.5)

    arm, other = list(dict.fromkeys(cell.arm for cell in with_policy(cells)))[:2]
    asked = _Asked(
        f"{arm} wins against {other}, where their answers differ", arm, "the evaluation's judge",
        {row: (0.5 + 0.5 * side(p, 0.5),) for row, p in people.items()}, {row: (by_judge(row),) for row in games},
    )  # fmt: skip
    clusters = {row: game.pair.prompt.id for row, game in games.items()}
    lines.append(_line(asked, asked.human, clusters.__getitem__, "labelled"))


def quarter(prompts: set[str]) -> set[str]:
    """A quarter of the prompts, ten at least, drawn by hash; none where that is more than half."""
    count = max(FEWEST, len(prompts) // QUARTER)
    if 2 * count > len(prompts):
        return set()
    return set(sorted(prompts, key=lambda prompt: uniform("few labels", prompt))[:count])


def _line(
    asked: _Asked, human: Mapping[str, tuple[float, ...]], cluster: Callable[[str], str], part: Part
) -> PoweredLine:
    rows = list(asked.judge)
    blank = (nan,) * len(next(iter(asked.judge.values())))
    clusters = [cluster(row) for row in rows]
    judge = np.array([asked.judge[row] for row in rows])
    found = powered(np.array([human.get(row, blank) for row in rows]), judge, clusters)
    everything = None
    if part == "drawn":
        everything = powered(np.array([asked.human.get(row, blank) for row in rows]), judge, clusters).alone
    return PoweredLine(
        title=asked.title, arm=asked.arm, judge=asked.whose, part=part, seeds=found.seeds, both=found.estimate,
        alone=found.alone, weight=found.weight, worth=found.worth, everything=everything,
        sentence=_sentence(asked, found, part, everything),
    )  # fmt: skip


def _sentence(asked: _Asked, found: Powered, part: Part, everything: Estimate | None) -> str:
    n, prompts, rows = found.alone.n, found.alone.clusters, found.estimate.n
    begins = f"{'With' if part == 'labelled' else 'As if with'} people's labels of {n} of {rows} ({prompts} prompts)"
    worth = (
        "no number of labels would do as much" if found.worth is None
        else f"{asked.whose} {'are' if asked.whose.endswith(')') else 'is'} worth about {found.worth:.0f} more of them"
    )  # fmt: skip
    ends = f" By people's labels of all {rows} it is {_percent(everything)}." if everything else ""
    both = f"{asked.title} {_percent(found.estimate)}; by these human labels alone, {_percent(found.alone)}"
    return f"{begins} and the judge's of all: {both}. So {worth}.{ends}"


def _percent(e: Estimate) -> str:
    """`81.0% [72.4, 88.0]`; without an interval, only the value."""
    return f"{100 * e.value:.1f}%" + ("" if e.low != e.low else f" [{100 * e.low:.1f}, {100 * e.high:.1f}]")


SECTION = ReportSection(
    "ppi", "Few human labels and many of the judge's", PoweredReport,
    lambda run: powered_report(run.cells, run.measured, run.held_out), chapter="labels", template="ppi.html.jinja",
)  # fmt: skip
