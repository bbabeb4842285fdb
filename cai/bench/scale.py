"""`python -m cai.bench scale`: what grows as work grows: time and memory by the numbers of pairs and of principles.

judge    so many pairs are labelled by a judge under so many principles
people   so many pairs that people have labelled, to a reward model and the report

Each is an experiment of its own on the tiny random model, through the pipeline, from nothing: what a model costs is
known (`python -m cai.bench labels`), and here is measured what the pipeline adds. The reward model reads all pairs and
learns from a few. Seconds are the processor's, of the stage that grows; memory is the most that the process held, and
that of the stage; `grows` is the power of the number of pairs by which seconds grow from one size to the next, where
all the pipeline adds is as it should be 1 or less (what does not grow with pairs at all counts too).
"""

import argparse
import json
import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cai.bench.common import positive, run_program
from cai.compare.schema import Results, read_results

WORDS = ("bread", "bake", "kind", "safe", "plain", "answer", "water", "cold", "open", "light", "never", "river")
EXPERIMENT = """\
constitution: law.txt
seeds: [0]
policy: {model: tiny-random, lora_rank: 2}
data: {source: pairs.jsonl, test: 0.2}
helpful: {source: helpful.jsonl}
revise: {prompts: 2, rounds: 1, max_new_tokens: 4}
sft: {helpful: 0, batch_size: 2}
judge: {model: tiny-random, principles: all, min_mass: 0.0, preflight: {mass: 0, accuracy: 0, reads: off}}
reward: {batch_size: 16, epochs: 0.01}
rl: {method: none}
evaluate: {prompts: 2, helpful: 0, max_new_tokens: 4, judge: {model: tiny-random, min_mass: 0.0}}
arms: {WHO: {labels: WHO}}
"""
LABELS = {"ai": "label_by_judge", "human": "label_by_people"}
MB = 1e6


@dataclass(frozen=True, slots=True)
class GrownRun:
    """One experiment. seconds: by the clock, the whole; cpu: of all its stages; label: of the labels' stage, CPU
    seconds; most: bytes that the process held at most; stages: the most that it held in each kind of stage."""

    who: str
    pairs: int
    principles: int
    seconds: float
    cpu: float
    label: float
    most: float
    stages: dict[str, float]
    report: int

    @property
    def grown(self) -> float:
        """CPU seconds of what grows: of a judge its labels, of people all stages."""
        return self.label if self.who == "ai" else self.cpu


def make(folder: Path, pairs: int, principles: int, who: str) -> None:
    """Three pairs a prompt, of some 80 letters an answer; people's verdicts are a coin."""
    chance = random.Random(0)

    def text(count: int) -> str:
        return " ".join(chance.choices(WORDS, k=count))

    with (folder / "pairs.jsonl").open("w") as file:
        for number in range(pairs):
            row = {"prompt": f"Question {number // 3}?", "a": text(14), "b": text(14), "human": chance.randint(0, 1)}
            file.write(json.dumps(row) + "\n")
    (folder / "helpful.jsonl").write_text('{"prompt": "How do I bake?", "subset": "everyday"}\n' * 2)
    law = [f"- Choose the response that is {WORDS[n % len(WORDS)]} and {text(4)}.\n" for n in range(principles)]
    (folder / "law.txt").write_text("".join(law))
    (folder / "mine.yaml").write_text(EXPERIMENT.replace("WHO", who))


def measure(pairs: int, principles: int, who: str) -> GrownRun:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, pairs, principles, who)
        run_program(["cai.experiment", "mine.yaml"], folder)
        run = folder / "runs" / "mine"
        report = (run / "report.html").stat().st_size
        return labelled(read_results(run / "results.json"), pairs, principles, who, report)


def labelled(results: Results, pairs: int, principles: int, who: str, report: int) -> GrownRun:
    stages: dict[str, float] = {}
    for made in results.stages:
        stages[made.stage] = max(stages.get(made.stage, 0), made.used.get("memory", 0))
    return GrownRun(
        who=who,
        pairs=pairs,
        principles=principles,
        seconds=results.provenance["wall time, s"],
        cpu=sum(made.used["cpu"] for made in results.stages),
        label=sum(made.used["cpu"] for made in results.stages if made.stage == LABELS[who]),
        most=(results.provenance["memory at most, MB"] or 0) * MB,
        stages=stages,
        report=report,
    )


def power(before: GrownRun, now: GrownRun) -> float:
    """p where seconds grow as the number of pairs to the power of p."""
    return math.log(now.grown / before.grown) / math.log(now.pairs / before.pairs)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=positive, nargs="*", default=[100, 1000], help="that a judge labels")
    parser.add_argument("--principles", type=positive, nargs="+", default=[1, 4, 16])
    parser.add_argument("--people", type=positive, nargs="*", default=[1000, 10_000], help="pairs that people labelled")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> None:
    """The benchmark `scale`."""
    cases = [("ai", pairs, principles) for principles in sorted(args.principles) for pairs in sorted(args.pairs)]
    cases += [("human", pairs, 1) for pairs in sorted(args.people)]
    found = [measure(pairs, principles, who) for who, pairs, principles in cases]
    print(json.dumps([asdict(one) for one in found], indent=1) if args.json else "\n".join(page(found)))


def page(found: Sequence[GrownRun]) -> list[str]:
    lines = [f"{'labels':8}{'principles':>11}{'pairs':>9}{'CPU s':>9}{'ms a pair':>11}{'grows':>7}{'most MB':>9}"
             f"{'labels MB':>11}{'report MB':>11}"]  # fmt: skip
    before: dict[tuple[str, int], GrownRun] = {}
    for one in found:
        last = before.get((one.who, one.principles))
        grows = "" if last is None else f"{power(last, one):.2f}"
        lines.append(
            f"{one.who:8}{one.principles:>11}{one.pairs:>9,}{one.grown:>9.2f}{1000 * one.grown / one.pairs:>11.2f}"
            f"{grows:>7}{one.most / MB:>9.0f}{one.stages[LABELS[one.who]] / MB:>11.0f}{one.report / MB:>11.2f}"
        )
        before[one.who, one.principles] = one
    return lines
