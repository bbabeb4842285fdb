"""`python -m cai.bench ppo --peer PYTHON`: time and memory of PPO, beside the last PPOTrainer that TRL had (1.12).

    ours           cai.train.PPOTrainer, in the precision that --dtype gives
    trl float32    trl.experimental.ppo.PPOTrainer of TRL 1.12, run by --peer, the Python of an environment that has it
    trl bfloat16   the same with all its models loaded in bfloat16

All train the same model, a new LoRA adapter on all its linear layers, on the same prompts by the same reward model (an
adapter with a head on the same base, as reward training leaves it; its head is random: what it prefers costs nothing).
The peer's critic is a second model with a head, which its trainer demands; ours is a head on the policy. What else the
peer was given, and why, stands in ppo_run.py.

Every run is a process of its own, and they take turns, so that a machine which others use as well slows all of them. A
ratio is that of one round, and what is printed is the median and the extremes over the rounds. Loading and a first
rollout are left out of the time. Memory is resident memory at its peak: of the process, and of it while it trained.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cai.bench.common import MedianRange, positive, show
from cai.bench.ppo_run import PHASES
from cai.config.sections import Data, Policy
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Chat
from cai.data.sources import read_source
from cai.models.architectures import lora
from cai.models.chat import chat_ids, plain, with_system
from cai.models.loading import load_reward, load_tokenizer, pick_device, pick_dtype, save
from cai.models.references import find, local

OURS, PEERS = "ours", ("trl float32", "trl bfloat16")
WAYS = (OURS, *PEERS)
VERSION = "1.12"
BATCH, TOKENS, EPOCHS = 4, 24, 2  # answers a rollout, tokens an answer, passes over a rollout
HOW = (
    "make one: python -m venv ENV; ENV/bin/pip install torch==2.13.0; ENV/bin/pip install trl==1.12.0 "
    "transformers==5.23.0 peft==0.21.2; then give --peer ENV/bin/python"
)
PEER_CHECK = "import importlib.metadata as m; print(m.version('trl'), m.version('torch'), m.version('peft'))"


@dataclass(frozen=True, slots=True)
class PpoRun:
    """One run. seconds: of its timed rollouts, and phases what of them is known. process, training: bytes."""

    seconds: float
    tokens: int
    phases: dict[str, float]
    process: int
    training: int | None
    rollouts: int
    trl: str
    threads: int

    @property
    def pace(self) -> float:
        """Seconds per 1,000 generated tokens."""
        return 1000 * self.seconds / self.tokens


@dataclass(frozen=True, slots=True)
class WayMeasured:
    """One way over all rounds. pace: seconds per 1,000 tokens; process, training: peak GB; phases: seconds a rollout.

    ratios: ours to this one, in pace, process and training; empty for ours.
    """

    name: str
    trl: str
    tokens: int
    pace: MedianRange
    process: MedianRange
    training: MedianRange | None
    phases: dict[str, float]
    ratios: dict[str, MedianRange]


# 1. What both are given -----------------------------------------------------------------------------------------------


def check_peer(python: str) -> str:
    """The version of TRL that this interpreter has. Raises UserError where it is not the one to compare with."""
    try:
        done = subprocess.run([python, "-I", "-c", PEER_CHECK], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"there is no Python that runs here ({error.strerror})", python, HOW) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"this Python lacks what the comparison needs: {last}", python, HOW)
    version = done.stdout.split()[0]
    if version.split(".")[:2] != VERSION.split("."):
        raise UserError(f"this Python has TRL {version}, and the comparison is with {VERSION}", python, HOW)
    return version


def some_prompts(source: str, count: int, tokenizer: Any) -> tuple[list[Chat], list[list[int]]]:
    """`count` prompts of about the same length, and their token ids.

    Those nearest to the median length: trainers batch them in orders of their own, and padding should cost all the
    same. Raises UserError where there are fewer.
    """
    prompts = read_source(Data(source=source), seed=0).prompts.values()
    chats = [with_system(p.messages, Policy().system) for p in sorted(prompts, key=lambda p: uniform("bench", p.id))]
    ids = [chat_ids(tokenizer, chat, answer=True) for chat in chats]
    if len(chats) < count:
        raise UserError(f"there are only {len(chats)} prompts", source, f"fewer --steps: {BATCH} prompts for each")
    middle = sorted(map(len, ids))[len(ids) // 2]
    near = sorted(range(len(ids)), key=lambda spot: abs(len(ids[spot]) - middle))[:count]
    return [chats[spot] for spot in near], [ids[spot] for spot in near]


def make_reward_model(model: str, folder: Path) -> None:
    """An adapter with a head on `model`, as reward training leaves it, but random (seed 0)."""
    import torch
    from peft import get_peft_model

    base = find(model)
    torch.manual_seed(0)
    plain_model: Any = load_reward(base, "float32", "cpu")
    rank = Policy().lora_rank
    wrapped: Any = get_peft_model(plain_model, lora(plain_model, rank, None, reward=True))
    for name, weight in wrapped.named_parameters():
        if weight.requires_grad and "lora_A" not in name:  # what is zero at first: half of each adapter, and the head
            torch.nn.init.normal_(weight, std=0.01)
    save(wrapped, load_tokenizer(base), folder)


def specification(args: argparse.Namespace, dtype: str, work: Path) -> dict[str, Any]:
    """What a run reads; `dtype` is ours until a peer's run says otherwise."""
    model = find(args.model)
    tokenizer = load_tokenizer(model)
    chats, ids = some_prompts(args.data, BATCH * (args.steps + 1), tokenizer)
    make_reward_model(args.model, work / "reward")
    adapter = json.loads((work / "reward" / "adapter_config.json").read_text())
    return {
        "model": args.model, "base": str(Path(local(model)).resolve()), "reward": str(work / "reward"),
        "prompts": [plain(tokenizer, chat) for chat in chats], "ids": ids,
        "lora": {name: adapter[name] for name in ("r", "lora_alpha", "lora_dropout", "target_modules")},
        "batch": BATCH, "tokens": TOKENS, "epochs": EPOCHS, "steps": args.steps, "threads": args.threads,
        "device": pick_device(args.device), "dtype": dtype, "folder": str(work / "out"),
    }  # fmt: skip


# 2. Measuring ---------------------------------------------------------------------------------------------------------


def run_once(way: str, spec: dict[str, Any], python: str, work: Path) -> PpoRun:
    """One run in a process of its own. Raises UserError with its last line where it fails."""
    file, result = work / "spec.json", work / "result.json"
    result.unlink(missing_ok=True)
    if way == OURS:
        command = [sys.executable, "-m", "cai.bench.ppo_run", "ours"]
    else:
        spec = spec | {"dtype": way.split()[1]}
        command = [python, "-I", str(Path(__file__).parent / "ppo_run.py"), "trl"]
    file.write_text(json.dumps(spec | {"result": str(result)}))
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    quiet |= {"TOKENIZERS_PARALLELISM": "false", "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "2000")}
    done = subprocess.run([*command, str(file)], env=os.environ | quiet, capture_output=True, text=True, check=False)
    if done.returncode or not result.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        log = Path(tempfile.gettempdir()) / f"cai-bench-ppo-{way.replace(' ', '-')}.log"
        log.write_text(done.stdout + done.stderr)
        raise UserError(f"the run of {way} failed: {last}", str(log), "the log says more; run the command again")
    return PpoRun(**json.loads(result.read_text()))


def summaries(runs: dict[str, list[PpoRun]]) -> list[WayMeasured]:
    """What the rounds say; the runs of one round stand at the same place of each list."""
    return [_summary(way, runs[way], [] if way == OURS else runs[OURS]) for way in runs]


def _summary(way: str, runs: list[PpoRun], ours: list[PpoRun]) -> WayMeasured:
    ratios = {
        name: MedianRange.of([measure(us) / measure(it) for us, it in zip(ours, runs, strict=True)])
        for name, measure in (("pace", lambda r: r.pace), ("process", lambda r: r.process), ("training", _training))
        if ours and all(measure(run) for run in [*ours, *runs])
    }
    rollouts = sum(run.rollouts for run in runs)
    known = {phase: sum(run.phases[phase] for run in runs) / rollouts for phase in PHASES}
    return WayMeasured(
        way,
        runs[0].trl,
        tokens=sum(run.tokens for run in runs),
        pace=MedianRange.of([run.pace for run in runs]),
        process=MedianRange.of([run.process / 1e9 for run in runs]),
        training=MedianRange.of([_training(run) / 1e9 for run in runs]) if all(map(_training, runs)) else None,
        phases=known | {"other": sum(run.seconds for run in runs) / rollouts - sum(known.values())},
        ratios=ratios,
    )


def _training(run: PpoRun) -> int:
    return run.training or 0


# 3. The program -------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", required=True, metavar="PYTHON", help=f"of an environment that has TRL {VERSION}")
    parser.add_argument("--data", default="rated-answers", help="where the prompts come from: as `data.source`")
    parser.add_argument("--steps", type=positive, default=3, help="timed rollouts of a run (default: 3)")
    parser.add_argument("--rounds", type=positive, default=3)


def run(args: argparse.Namespace) -> None:
    """The benchmark `ppo`."""
    check_peer(args.peer)
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    runs: dict[str, list[PpoRun]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        spec = specification(args, dtype, Path(name))
        for number in range(args.rounds):
            for way in WAYS[number % 3 :] + WAYS[: number % 3]:
                measured = run_once(way, spec, args.peer, Path(name))
                runs[way].append(measured)
                line = f"{measured.tokens} tokens in {measured.seconds:.1f} s, {measured.process / 1e9:.2f} GB"
                print(f"  round {number + 1}/{args.rounds}: {way}, {line}", file=sys.stderr, flush=True)
    lengths = [len(ids) for ids in spec["ids"]]
    about = {
        "model": args.model, "dtype": dtype, "device": device, "threads": runs[OURS][0].threads, "data": args.data,
        "prompt tokens": f"{min(lengths)}-{max(lengths)}", "answers": BATCH, "new tokens": TOKENS, "epochs": EPOCHS,
        "rollouts": args.steps, "rounds": args.rounds,
    }  # fmt: skip
    ways = summaries(runs)
    print(json.dumps(about | {"ways": [asdict(way) for way in ways]}, indent=1) if args.json else page(about, ways))


def page(about: dict[str, Any], ways: Sequence[WayMeasured]) -> str:
    """Three small tables: what it took, ours as a share of it, and where the time went."""
    lines = [", ".join(f"{name} {value}" for name, value in about.items()), ""]
    lines.append(f"  {'':12}  {'TRL':>6}  {'s/1,000 tokens':>20}  {'peak GB':>20}  {'while training':>20}")
    for way in ways:
        cells = [show(way.pace), show(way.process), show(way.training) if way.training else "not known"]
        lines.append(f"  {way.name:12}  {way.trl:>6}  " + "  ".join(f"{cell:>20}" for cell in cells))
    lines += ["", f"  {'ours is':12}  {'':>6}  {'of the time':>20}  {'of the peak':>20}  {'while training':>20}"]
    for way in ways:
        if way.ratios:
            cells = [show(way.ratios[n]) if n in way.ratios else "" for n in ("pace", "process", "training")]
            row = f"  {way.name:12}  {'':>6}  " + "  ".join(f"{cell:>20}" for cell in cells)
            lines.append(row.rstrip())
    lines += ["", f"  {'s/rollout':12}" + "".join(f"  {phase:>9}" for phase in ways[0].phases)]
    lines += [f"  {way.name:12}" + "".join(f"  {seconds:>9.2f}" for seconds in way.phases.values()) for way in ways]
    return "\n".join(lines)
