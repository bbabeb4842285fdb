"""Who wins: the games of the first arm against the second, and a rating of every policy that played."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.measures import average, game_rows, left_out, longer_rows, outcomes, tested, text_rows
from cai.compare.schema import Headline, Rated
from cai.core.textstats import words
from cai.judge.methods import name_of
from cai.stats.crossed import contrast, noise_floor
from cai.stats.games import elo, length_controlled


def headline(cells: Sequence[Cell], measured: Measured) -> Headline | None:
    """Games of the first arm against the second, seed by seed, and the same between two seeds of one arm."""
    cells = with_policy(cells)
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    if len(arms) < 2:
        return None
    asked = cells[0].settings.evaluate
    met = [
        (one.name, two.name)
        for one in cells
        for two in cells
        if (one.arm, two.arm) == (arms[0], arms[1]) and one.seed == two.seed
    ]
    games = [game_rows(measured, one, two) for one, two in met]
    prompts = list(average(games))
    found = contrast(outcomes(games, prompts), prompts, null=0.5, margin=asked.margin, reach=0.5)
    longer = [longer_rows(measured, one, two) for one, two in met]
    twins = [(one, two) for one, two in combinations(cells, 2) if one.arm == two.arm]
    replicas = [game_rows(measured, one.name, two.name) for one, two in twins]
    gaps = [math.fsum(rows.values()) / len(rows) - 0.5 for rows in replicas if rows]
    floor = noise_floor(gaps, sum(cell.arm == other.arm for other, cell in pairwise(cells)))
    first, second = arms[:2]
    return Headline(
        **tested(found),
        length_controlled=length_controlled(outcomes(games, prompts), outcomes(longer, prompts), prompts),
        noise=floor.value if floor else None,
        noise_floor=floor,
        arms=(first, second),
        left_out=left_out(
            {
                arm: [text_rows(measured.answers[c.name, "red-team"], words) for c in cells if c.arm == arm]
                for arm in arms
            },
            (first, second),
        ),
        judge=f"{asked.judge.model} ({name_of(asked.judge.method)})",
    )


def ratings(cells: Sequence[Cell], measured: Measured) -> list[Rated]:
    """Elo of every policy that played, best first; the SFT policy is 1000."""
    games = [
        (one, two, prompt, outcome)
        for one, two in measured.games
        for prompt, outcome in game_rows(measured, one, two).items()
    ]
    found = sorted(elo(games).items(), key=lambda rated: -rated[1].value if rated[1].n else math.inf)
    of = {name: cell for cell in cells for name in (*cell.policies, *cell.path)}
    return [
        Rated(name, estimate, of[name].arm, of[name].seed) if name in of else Rated(name, estimate)
        for name, estimate in found
    ]
