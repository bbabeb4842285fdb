"""Does a generative reward model learn? A planted task: of two answers the one that begins with "!!" is better.

Every stage is the real one, on the tiny model with all weights trained. Its rationale is one byte, which tells nothing;
what it must find is in which place the mark stands. A model that has learnt nothing is right of half of the pairs.
"""

import json
import random
from pathlib import Path

from cai.config.runtime import Runtime
from cai.config.sections import Policy
from cai.constitution import Judging
from cai.core.records import Label, Message, Pair, Prompt, Split, read_jsonl, write_jsonl
from cai.core.store import Artifact, Store
from cai.core.templates import load_template
from cai.models.engines import Sampling
from cai.models.references import ModelRef, trained
from cai.models.workbench import Workbench
from cai.train.generative.asking import GenerativeReader, RationaleAsking
from cai.train.generative.comparing import Deliberated, Swap, compare_pairs
from cai.train.generative.stages import (
    PairsToJudge,
    RationaleTraining,
    draw_rationales,
    learn_rationales,
    prefer_rationales,
)
from cai.train.trainable import Labelled, Trainable

POLICY = Policy(model="tiny-random", training="full", system=None)


def pairs_of(split: Split, count: int, chance: random.Random) -> list[Pair]:
    rows = []
    for n in range(count):
        x, y = ("".join(chance.choice("abcdefgh") for _ in range(2)) for _ in "ab")
        marked = n % 2
        a, b = (f"!!{x}", f"..{y}") if marked else (f"..{x}", f"!!{y}")
        prompt = Prompt(f"q-{split}-{n}", (Message("user", "?"),), "all", split)
        rows.append(Pair(f"{split}-{n}", prompt, a, b, human=float(marked)))
    return rows


def test_it_learns_a_planted_difference(tmp_path: Path, tiny: ModelRef):
    # 1. 40 pairs to learn from, 20 to be tried on; questions of a few bytes.
    chance = random.Random(0)
    pairs = [*pairs_of("train", 40, chance), *pairs_of("test", 20, chance)]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "labels.jsonl", [Label(pair.id, pair.human or 0.0, "human") for pair in pairs])
    made = Artifact("made", "key", tmp_path, "digest")
    (tmp_path / "reason.jinja").write_text("## user\n{{ first }}{{ second }}\n")
    (tmp_path / "verdict.jinja").write_text("## messages\n\n## user\n?\n")
    asking = RationaleAsking(
        principles=(Judging("mark", "Choose the marked one.", (), 1.0),),
        templates={name: load_template(str(tmp_path / f"{name}.jinja")) for name in ("reason", "verdict")},
        sampling=Sampling(1, 1.0), samples=4, min_mass=0.0, max_length=400, seed=0,
    )  # fmt: skip
    work = Workbench.open(Runtime(root=str(tmp_path / "runs"), device="cpu"))
    stage = Store(tmp_path / "runs").stage_with(work)

    def right(model: Trainable) -> float:
        read = stage(compare_pairs, pairs=made, reader=GenerativeReader(model, asking, 0))
        verdicts = {row.pair_id: row.p_a for row in read_jsonl(read / "verdicts.jsonl", Deliberated)}
        judged = [(verdicts[pair.id], pair.human) for pair in pairs if pair.prompt.split == "test"]
        return sum(p is not None and (p > 0.5) == (human == 1.0) for p, human in judged) / len(judged)

    # 2. Think, learn, think again, prefer.
    start = Trainable(tiny, POLICY, "float32")
    settings = RationaleTraining(epochs=12, batch_size=8, learning_rate=5e-3, max_length=400, beta=0.1)
    shared = {"judged": PairsToJudge(Labelled((made,), (made,)), (), asking), "seed": 0}
    drawn = stage(draw_rationales, model=start, **shared)
    learnt = stage(learn_rationales, rationales=drawn, start=start, settings=settings, **shared)
    model = Trainable(trained(learnt, "learnt"), POLICY, "float32")
    again = stage(draw_rationales, model=model, **shared)
    preferred = stage(prefer_rationales, rationales=again, start=model, settings=settings, **shared)

    # 3. Of 20 held-out pairs: a coin is right of 14 or more in 6% of cases, of 18 in 0.02%.
    assert right(start) <= 0.7
    last = Trainable(trained(preferred, "preferred"), POLICY, "float32", role="reward")
    assert right(last) >= 0.9
    counts = json.loads((preferred / "counts.json").read_text())
    assert counts["rationales that led to the right verdict"] < 0.6 * counts["rationales drawn"]
    # The byte that it writes tells nothing, so its verdict does not follow another's.
    swaps = read_jsonl(stage(compare_pairs, pairs=made, reader=GenerativeReader(last, asking, 0)) / "swaps.jsonl", Swap)
    assert sum(abs(row.swapped - row.own) < 0.1 for row in swaps) > 0.9 * len(swaps)
