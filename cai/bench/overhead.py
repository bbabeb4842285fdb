"""`python -m cai.bench pipeline --by-hand`: what the pipeline costs beside its models' work.

The same small experiment is made twice, each a program of its own, from nothing but the model: through the pipeline
(`python -m cai.experiment`: checks, keys, a store that is synced to the disk, calls that are kept, intervals, a report)
and by one plain script of transformers, PEFT and TRL calls (cai/bench/by_hand.py), which keeps nothing. Both make
labels by a judge, SFT, a reward model, PPO, answers of three policies, their rewards and the judge's ratings.

The ratio of the two holds what the pipeline adds, and what its ways of reading and writing save; what it adds alone is
told apart: the seconds of the run that lie between its stages, where it ends them, begins them and compares.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.bench.common import MedianRange, Ratio, TimedTurn, cpu_seconds, run_program, seconds, show, take_turns
from cai.bench.labels import some_pairs
from cai.compare.schema import Results, read_results
from cai.config.sections import Policy
from cai.core.odds import logit
from cai.core.records import Label, Pair, read_jsonl
from cai.core.store import root_of
from cai.models.loading import pick_dtype, shared_tokenizer
from cai.models.references import find, local
from cai.train.scores_file import Score

PRINCIPLES = (
    "Choose the response that helps least with anything harmful, unethical or illegal.",
    "Choose the response that is most considerate of the people whom it is about.",
)
LONGEST = 900  # tokens of a prompt and its answer: no limit of either way is met
EXPERIMENT = """\
constitution: law.txt
seeds: [0]
arms: {ai: {labels: ai}}
dtype: DTYPE
policy: {model: MODEL, lora_layers: LAYERS}
data: {source: pairs.jsonl}
sft: {learns: preferred, helpful: 0, epochs: 1, batch_size: 8, learning_rate: 3e-4, max_length: 2048}
# Labels by a temperature near 0 are all but certain, as those that TRL's RewardTrainer learns.
judge: {model: MODEL, method: rate, principles: all, temperature: 0.01, min_mass: 0, max_length: 2048, preflight: null}
reward: {epochs: 1, batch_size: 8, learning_rate: 3e-4, max_length: 2048}
rl: {steps: STEPS, epochs: 2, batch_size: 8, learning_rate: 1e-3, max_new_tokens: TOKENS, max_prompt_tokens: 1024}
evaluate:
  constitution: law.txt
  prompts: TEST
  helpful: 0
  transcripts: 0
  max_new_tokens: TOKENS
  judge: {model: MODEL, method: rate, principles: all, temperature: 0.01, min_mass: 0, max_length: 2048}
runtime: {threads: 1}
"""


@dataclass(frozen=True, slots=True)
class OverheadSize:
    """pairs: to train on; test: held out. layers: the last so many have LoRA. steps: of PPO, of 8 answers each."""

    pairs: int = 32
    test: int = 12
    layers: int = 6
    steps: int = 2
    tokens: int = 24


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both ways gave. sides: of the labels, the share that name the same answer; odds: the largest difference in
    log-odds of a label; reward_losses, pair_rewards: the largest differences; sft_loss: of the means over the epoch,
    whose rows are in another order; kl: of the first rollout, by each way, 0 where PPO begins at its reference."""

    sides: float
    odds: float
    sft_loss: float
    reward_losses: float
    pair_rewards: float
    kl: dict[str, float]


@dataclass(frozen=True, slots=True)
class Overhead:
    """clock, cpu: seconds of each way. ratio: the pipeline to the script. between: seconds of the run by the clock that
    lie outside its stages, its beginning and the loading of libraries included; stages: how many it made."""

    clock: dict[str, MedianRange]
    cpu: dict[str, MedianRange]
    ratio: Ratio
    between: MedianRange
    stages: int
    agreement: Agreement


# 1. One experiment, said twice ----------------------------------------------------------------------------------------


def prepare(folder: Path, model: str, dtype: str, size: OverheadSize, pairs: Sequence[Pair]) -> None:
    """pairs.jsonl, law.txt, mine.yaml and spec.json: the same for both."""
    with (folder / "pairs.jsonl").open("w") as file:
        for number, pair in enumerate(pairs):
            row = {"id": f"pair {number}", "prompt": pair.prompt.messages[-1].content, "a": pair.a, "b": pair.b}
            split = "train" if number < size.pairs else "test"
            file.write(json.dumps(row | {"human": float((pair.human or 0) > 0.5), "split": split}) + "\n")
    (folder / "law.txt").write_text("".join(f"- {text}\n" for text in PRINCIPLES))
    words = {"MODEL": model, "DTYPE": dtype, "LAYERS": size.layers, "STEPS": size.steps, "TOKENS": size.tokens,
             "TEST": size.test}  # fmt: skip
    text = EXPERIMENT
    for word, value in words.items():
        text = text.replace(word, str(value))
    (folder / "mine.yaml").write_text(text)
    place, ref = local(find(model)), find(model)
    blocks = json.loads((Path(place) / "config.json").read_text())["num_hidden_layers"]
    passes = {"learning_rate": 3e-4, "batch_size": 8}
    spec = {
        "model": str(place), "dtype": dtype, "system": Policy().system, "pad": shared_tokenizer(ref).pad_token,
        "layers": list(range(max(0, blocks - size.layers), blocks)), "pairs": str(folder / "pairs.jsonl"),
        "principles": PRINCIPLES, "sft": passes, "reward": passes, "answers": {"max_new_tokens": size.tokens},
        "rl": {"learning_rate": 1e-3, "batch_size": 8, "steps": size.steps, "epochs": 2, "max_new_tokens": size.tokens},
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))


def programs(folder: Path) -> dict[str, Callable[[], Any]]:
    """Each gives what it left: of the pipeline the folder of its run, of the script what it printed."""
    count = iter(range(1_000_000))

    def through() -> Path:
        root = folder / f"runs {next(count)}"
        run_program(["cai.experiment", "mine.yaml", "--set", f"runtime.root={root}"], folder)
        return root / "mine"

    def by_hand() -> Any:
        return json.loads(run_program(["cai.bench.by_hand", "spec.json"], folder).splitlines()[-1])  # behind the logs

    return {"pipeline": through, "by hand": by_hand}


# 2. Do both give the same? --------------------------------------------------------------------------------------------


def agreement(run: Path, by_hand: Mapping[str, Any]) -> Agreement:
    root = root_of(run)
    assert root

    def made(stage: str) -> Path:
        (folder,) = (root / "store").glob(f"{stage}-*")
        return folder

    # A label's P is by log-odds over the temperature: where it is all but certain, only its side is left.
    labels = {label.pair_id: label for label in read_jsonl(made("label_by_judge") / "labels.jsonl", Label)}
    odds = {name: _odds(label) for name, label in labels.items()}
    hand = by_hand["labels"]
    scores = [score.reward or 0.0 for score in read_jsonl(made("score_pairs") / "scores.jsonl", Score)]
    curves = {stage: json.loads((made(stage) / "curves.json").read_text()) for stage in
              ("train_sft", "train_reward", "train_ppo")}  # fmt: skip
    sft = [sum(losses) / len(losses) for losses in (curves["train_sft"]["loss"], by_hand["sft losses"])]
    return Agreement(
        sides=sum((odds[name] > 0) == (hand[name] > 0) for name in hand) / len(hand),
        odds=max(abs(odds[name] - hand[name]) for name in hand),
        sft_loss=abs(sft[0] - sft[1]),
        reward_losses=largest(curves["train_reward"]["loss"], by_hand["reward losses"]),
        pair_rewards=largest(scores, by_hand["pair rewards"]),
        kl={"pipeline": curves["train_ppo"]["kl"][0], "by hand": by_hand["rollouts"][0]["kl"]},
    )


def _odds(label: Label) -> float:
    """The mean over the principles of the log-odds that a is better, as their votes have them."""
    return sum(logit(vote.p_a) for vote in label.votes) / len(label.votes)


def largest(ours: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(x - y) for x, y in zip(ours, others, strict=True))


# 3. Measuring ---------------------------------------------------------------------------------------------------------


def measure(model: str, dtype: str, size: OverheadSize, rounds: int, source: str) -> Overhead:
    """model: a name or a folder; dtype: "auto" for what suits this machine. source: of the pairs."""
    dtype = pick_dtype(dtype, "cpu")
    tokenizer = shared_tokenizer(find(model))

    def fits(pair: Pair) -> bool:
        text = f"{pair.prompt.messages[-1].content} {max(pair.a, pair.b, key=len)}"
        short = len(pair.prompt.messages) == 1 and len(tokenizer(text)["input_ids"]) < LONGEST
        return short and pair.human not in (None, 0.5)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, model, dtype, size, some_pairs(source, size.pairs + size.test, fits))
        took = take_turns(programs(folder), rounds, f"{size.pairs} pairs")
        return overhead(took)


def overhead(took: Mapping[str, Sequence[TimedTurn]]) -> Overhead:
    runs = [(turn, read_results(turn.result / "results.json")) for turn in took["pipeline"]]
    return Overhead(
        clock={name: seconds(turns) for name, turns in took.items()},
        cpu={name: cpu_seconds(turns) for name, turns in took.items()},
        ratio=Ratio.of(took["pipeline"], took["by hand"]),
        between=MedianRange.of([turn.seconds - in_stages(results) for turn, results in runs]),
        stages=len(runs[0][1].stages),
        agreement=agreement(took["pipeline"][0].result, took["by hand"][0].result),
    )


def in_stages(results: Results) -> float:
    return sum(made.seconds or 0.0 for made in results.stages)


def page(found: Overhead) -> list[str]:
    same = found.agreement
    return [
        *(f"{name:9} {show(found.clock[name])} s, {show(found.cpu[name])} CPU seconds" for name in found.clock),
        f"the pipeline takes {show(found.ratio.clock)} of the script's time ({show(found.ratio.cpu)} in CPU seconds)",
        f"  {show(found.between)} s of it outside its {found.stages} stages, libraries loaded included",
        f"labels of the same side: {same.sides:.1%}, log-odds at most {same.odds:.2g} apart",
        f"losses: of the reward model at most {same.reward_losses:.2g} apart, of SFT {same.sft_loss:.2g} in the mean; "
        f"rewards of held-out answers at most {same.pair_rewards:.2g}",
        f"KL of PPO's first rollout: {same.kl['pipeline']:.2g} and {same.kl['by hand']:.2g}",
    ]
