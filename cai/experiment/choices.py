"""What a finished run left to be explained: what its pairs were labelled, what its reward models prefer, what its
policies choose. `python -m cai.constitution infer RUN` reads a constitution back out of each, side by side.

Nothing is trained, asked or written here: labels, scores and answers are taken from the run's store.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.compare.cells import Cell
from cai.compare.runs import FinishedRun, cell_of
from cai.core.errors import UserError, suggest
from cai.core.odds import sigmoid
from cai.core.records import Label, Pair, Prompt, Response, read_jsonl
from cai.core.store import Artifact, Store, linked
from cai.data.material import make_pair
from cai.data.shots import Shots
from cai.experiment.evaluate import picker_of, picks
from cai.experiment.generative import answering_stage
from cai.judge.combine import combine
from cai.judge.inferring.candidates import candidates
from cai.judge.inferring.command import Matter
from cai.judge.inferring.labelled import labelled
from cai.judge.inferring.voting import VoteTable
from cai.models.engines import Sampling
from cai.models.loading import pick_device, pick_dtype
from cai.models.references import answering, trained
from cai.train.scores import Score
from cai.train.trainable import Draws, PromptSet, Trainable

SEED = 0  # which answer of a pair is called a
Choices = tuple[str, list[tuple[Pair, float]]]  # whose they are, and each pair with P(a better)
PEOPLE = "people's labels"
WORDS = {"ai": "the judge's labels", "human": PEOPLE}


def matter_of(run: FinishedRun, arm: str | None, share: float) -> Matter:
    """The sets of one arm (None: the first), of all its seeds together.

    1. its labels, and people's of the same pairs  2. the choices of its reward models on held-out pairs  3. its
    policies' answers to held-out prompts, preferred to those of the SFT policy. What a run does not have is left out.
    share: of the prompts that are held out from the selection, the same in all sets; who learnt from which does not
    matter here.
    Raises UserError for an arm that is not there, for what the store has lost, and where nothing can be explained.
    """
    name = arm or next(iter(run.experiment.arms))
    if name not in run.experiment.arms:
        raise UserError(f'this run has no arm "{name}"', "--arm", suggest(name, list(run.experiment.arms)))
    settings = run.experiment.arms[name]
    cells = [replace(cell_of(run, name, settings, seed), arm=name) for seed in run.experiment.seeds]
    sets, notes = [], []
    if "ai" in cells[0].labellers:
        notes.append("the judge's labels are its own votes by the text: that they follow it is a check, no finding")
    for who, rows in (*_labels(cells[0]), *_rewards(run, cells), *_choices(run, cells)):
        try:
            sets.append(labelled(who, rows, share))
        except UserError as error:
            notes.append(f"{who} is left out: {error.problem}")
    if not sets:
        why = (
            "; ".join(note for note in notes if "left out" in note)
            or "it has no labels, no reward model and no policy of its own"
        )
        remedy = f"name another --arm ({', '.join(run.experiment.arms)}), or run with more evaluate.prompts"
        raise UserError(f'nothing of "{name}" can be explained: {why}', str(run.home), remedy)
    text = run.home / f"constitution-{name}.txt"
    return Matter(
        run.name, tuple(sets), text, settings.judge, notes=tuple(notes), stored=_stored_votes(cells[0], text)
    )  # fmt: skip


def _stored_votes(cell: Cell, text: Path) -> VoteTable | None:
    """What the judge made of each pair by the principles that were drawn for it; None where no judge has labelled."""
    if "ai" not in cell.labellers:
        return None
    names = tuple(row.name for row in candidates([str(text)]))
    odds = {}
    for label in read_jsonl(cell.labellers["ai"] / "labels.jsonl", Label):
        votes = {name: [vote for vote in label.votes if vote.principle == name] for name in names}
        values = (combine(votes[name], cell.settings.judge, {name: 1.0}) for name in names)
        odds[label.pair_id] = tuple(math.nan if value is None else value for value in values)
    return VoteTable(names, odds, frozenset())


def _labels(cell: Cell) -> Iterator[Choices]:
    """Those of the last round, and what people said of the same pairs; of an arm with `criteria:`, whose labels are
    several, none."""
    if cell.labels is None:
        return
    p_a = {label.pair_id: label.p_a for label in read_jsonl(cell.labels / "labels.jsonl", Label)}
    pairs = [pair for pair in read_jsonl(cell.pairs / "pairs.jsonl", Pair) if pair.id in p_a]
    who = ", ".join(WORDS.get(each, f"labels of {each}") for each in cell.labellers) or "labels"
    if list(cell.labellers) != ["human"] and (judged := [(p, p.human) for p in pairs if p.human is not None]):
        yield PEOPLE, judged
    yield who, [(pair, p_a[pair.id]) for pair in pairs]


def _rewards(run: FinishedRun, cells: list[Cell]) -> Iterator[Choices]:
    """P(a better) by the reward models: the mean over seeds of sigmoid(reward of a - reward of b)."""
    pairs = {pair.id: pair for pair in read_jsonl(cells[0].pairs / "pairs.jsonl", Pair)}
    sums: dict[str, list[float]] = {}
    for cell in cells:
        link = run.links[cell.name].get("scores")
        if not link:
            continue
        rewards: dict[tuple[str, str], float | None] = {
            (score.id, score.side): score.reward
            for score in read_jsonl(linked(run.root, str(link), run.home) / "scores.jsonl", Score)
        }
        for name in dict.fromkeys(name for name, _ in rewards):
            a, b = rewards.get((name, "a")), rewards.get((name, "b"))
            if a is not None and b is not None:
                sums.setdefault(name, []).append(sigmoid(a - b))
    rows = [(pairs[name], sum(ps) / len(ps)) for name, ps in sums.items() if name in pairs]
    if rows:
        yield "the reward model", rows


def _choices(run: FinishedRun, cells: list[Cell]) -> Iterator[Choices]:
    """Each policy's answers to held-out prompts, over those of the SFT policy: equal answers are no choice."""
    if cells[0].settings.rl.ends_with_sft or not (picks(cells[0]) or cells[0].policy):
        return  # SFT's own answers, or none
    first = next(iter(run.experiment.arms.values()))  # whose evaluation it was
    data, dtype = _data(run), pick_dtype(first.dtype, pick_device(run.experiment.runtime.device))
    prompts = {prompt.id: prompt for prompt in read_jsonl(data / "prompts.jsonl", Prompt)}
    before = _answers(run, data, Trainable(trained(cells[0].sft, "sft"), first.policy, dtype))
    rows: dict[str, tuple[Pair, float]] = {}
    for cell in cells:
        made = cell.sft if picks(cell) else cell.policy
        assert made is not None
        picker = picker_of(cell, dtype) if picks(cell) else None
        after = _answers(run, data, Trainable(trained(made, cell.name), cell.settings.policy, dtype), picker)
        for name in after.keys() & before.keys():
            if after[name].strip() != before[name].strip():
                pair = make_pair(prompts[name], after[name], before[name], 1.0, (), SEED)
                rows[pair.id] = (replace(pair, human=None), pair.human or 0.0)
    yield "the policy over sft", [rows[name] for name in sorted(rows)]


def _data(run: FinishedRun) -> Artifact:
    """The first arm's, whose held-out prompts all policies of a run answer."""
    return linked(run.root, str(next(iter(run.links.values()))["data"]), run.home)


def _answers(run: FinishedRun, data: Artifact, model: Trainable, picker: Any = None) -> dict[str, str]:
    """Prompt -> answer, as the run's evaluation sampled it: the stage that cai/experiment/evaluate.py asks for, looked
    up and never made. Raises UserError where the store does not have it."""
    first = next(iter(run.experiment.arms.values()))
    evaluation = first.evaluate
    shots = Shots(data, first.answer_shots, first.seed, "evaluate.shots") if first.answer_shots else None
    asked = replace(model, ref=answering(model.policy, model.ref))
    made: Artifact = Store(run.root, plan=True).stage(
        answering_stage(picker), prompts=PromptSet(data, "test", evaluation.prompts, shots), model=asked,
        draws=Draws(Sampling(evaluation.max_new_tokens, evaluation.temperature), first.seed),
        **({"picker": picker} if picker else {}),
    )  # fmt: skip
    file = made / "responses.jsonl"
    if not file.is_file():
        remedy = "run its experiment again: what is lost is made anew"
        raise UserError(f"the store does not have the held-out answers of {model.ref.name}", str(run.home), remedy)
    return {row.prompt_id: row.text for row in read_jsonl(file, Response)}
