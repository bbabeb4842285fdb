"""Games that people judge: which answers to show them, and what they said.

    python -m cai.compare runs/quickstart --games-to-label games.jsonl       the first arm's answers beside the second's
    python -m cai.annotate games.jsonl --out said.jsonl                      people choose, in an order drawn by hash
    python -m cai.compare runs/quickstart --human-games said.jsonl           and the report says what it comes to

A game is known by its words: labels stay valid as long as both policies answer the same. Which answer is called a is
drawn by hash. People who stop early have judged a random part of the games, for the page's order is a hash's
(cai/annotate/sheet.py); whoever picked games otherwise has not, and `not_drawn` says so.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cai.compare.cells import Cell, Measured, with_policy
from cai.core.draws import identity, uniform
from cai.core.durable import write_whole
from cai.core.errors import UserError
from cai.core.records import Pair, Prompt, Response, read_jsonl
from cai.data.labels import read_labels
from cai.data.votes import name_aside, share

SKIPPED = 0.05  # the share of pairs that people may have passed over and still be said to have labelled a random part


@dataclass(frozen=True, slots=True)
class Game:
    """Two answers to a prompt, as people see them. turned: whether the pair's a is the second policy's answer."""

    pair: Pair
    first: str
    second: str
    turned: bool


def games_of(cells: Sequence[Cell], measured: Measured) -> list[Game]:
    """The games of the first arm against the second, seed by seed, in which the answers differ; none without two.

    In the order of the labelling page, so that they come in it whichever order is asked for there.
    """
    cells = with_policy(cells)
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    prompts = {row.id: row for row in read_jsonl(cells[0].data / "prompts.jsonl", Prompt)} if len(arms) > 1 else {}
    met = [
        (one.name, two.name)
        for one in cells
        for two in cells
        if arms[:2] == [one.arm, two.arm] and one.seed == two.seed
    ]
    made: dict[str, Game] = {}
    for first, second in met:
        ours, theirs = (
            {
                row.prompt_id: row.text
                for row in read_jsonl(measured.answers[name, "red-team"] / "responses.jsonl", Response)
            }
            for name in (first, second)
        )
        for prompt_id, text in ours.items():
            other = theirs.get(prompt_id)
            if other is None or text.strip() == other.strip():
                continue
            game_id = identity("game", prompt_id, text, other)
            turned = uniform("order", game_id) < 0.5
            a, b = (other, text) if turned else (text, other)
            made.setdefault(game_id, Game(Pair(game_id, prompts[prompt_id], a, b), first, second, turned))
    return sorted(made.values(), key=lambda game: page_order(game.pair.id))


def write_games(games: Sequence[Game], out: Path) -> None:
    """A file of pairs for `python -m cai.annotate`. Raises UserError where there is no game to judge."""
    if not games:
        problem = "the first two arms give the same answers to every prompt, or there is one arm"
        raise UserError(problem, str(out), "name a run of two arms")
    write_whole(out, "".join(json.dumps(asdict(game.pair), ensure_ascii=False) + "\n" for game in games))


def people_on(games: Sequence[Game], log: Path) -> dict[str, float]:
    """Game -> P(the first policy's answer is better), of the games that people judged; the mean over raters.

    Raises UserError where the log has no label of any of these games.
    """
    by_pair, aside = read_labels(log, [game.pair for game in games])
    name_aside(aside, "labels of games")
    turned = {game.pair.id: game.turned for game in games}
    said = {pair_id: share(votes) for pair_id, votes in by_pair.items()}
    return {pair_id: 1 - p if turned[pair_id] else p for pair_id, p in said.items()}


def not_drawn(asked: Iterable[str], labelled: Mapping[str, float]) -> str:
    """Why what people labelled cannot be taken for a random part of `asked`; "" where it is one.

    It is where they labelled the first pairs in the order of the labelling page, passing over one in twenty at most.
    """
    order = sorted(asked, key=page_order)
    known = [place for place, pair_id in enumerate(order) if pair_id in labelled]
    if not known:
        return "people labelled none of them"
    reached = known[-1] + 1
    passed_over = reached - len(known)
    if passed_over > max(1, SKIPPED * reached):
        return (
            f"people labelled {len(known)} of {len(order)}, and not the first ones in the order of the labelling page: "
            "which they are was not drawn by chance"
        )
    return ""


def page_order(pair_id: str) -> float:
    """As cai/annotate/sheet.py draws it."""
    return uniform("annotate", pair_id)
