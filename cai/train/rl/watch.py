"""Looking at a policy while it is trained: its own answers for collapse, held-out prompts for over-optimisation, and
copies of it on the way.

A `Watch` goes with any of TRL's online trainers, as a callback and around the reward function:

    watch = Watch(tokenizer, held_out, snapshots)             # held_out: None to look at the rollouts alone
    trainer = PPOTrainer(model, watch.reading(reward), args, ..., callbacks=[watch])
    watch.reference = trainer.reference                       # within it the model is the policy of the beginning
    trainer.train(...)
    watch.leave(trainer.model, folder)

1. *Rollouts.* `reading` passes the rewards on and keeps the answers' statistics; each row of the log gets them as
   "answers". cai/train/rl/collapse.py says what is suspicious; it is said once, on stderr.
2. *Looks.* Before the first rollout, every few rollouts, and after the last, the policy answers the held-out prompts,
   each with the same random numbers every time, so that two looks are paired. A look has the proxy (the reward that is
   trained for), the gold reward, and the KL to the reference: at every token of these answers the exact KL between the
   two distributions over the vocabulary (not a sampled log-ratio), summed over the answer, at the training's
   temperature. A look is an entry "look" of the log. After each, cai/stats/alarm.py says whether the proxy has run
   away from gold; that is said once, on stderr, and nothing is stopped: `keep: best` keeps what was better.
3. *Snapshots.* After each rollout that is named the policy is copied, to be evaluated later (Bai et al. 2022, figures
   2, 3 and 8, evaluate it along training).

What is found lives in `trainer.state.log_history` and so in every checkpoint: a run that is killed and goes on has what
the run that was not killed has; weights lie beside the checkpoints, and are on disk before the checkpoint that follows
them. Neither a look nor a snapshot reads or moves the random state of the training.

Of several processes each looks at its part, and all know the whole; the first writes.
"""

import functools
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState
from trl.trainer.utils import pad

from cai.core.batching import by_length
from cai.core.durable import publish
from cai.core.records import Chat
from cai.models.chat import chat_ids, plain
from cai.models.engines import Sampling
from cai.models.engines.sampling import reply_of, sample_ids, stop_ids
from cai.models.loading import save
from cai.models.sharded import everyones, own_rows, place, shared_out, writes
from cai.stats.alarm import alarm, words
from cai.stats.overoptimisation import best_look, judge_run, sentence
from cai.train.rl.collapse import describe, lights_of

Reward = Callable[..., list[float | None]]
ALARM = "alarm"  # among what was warned of
PREDICTIONS = 512  # whose distributions over the vocabulary are held at one time, twice


@dataclass(frozen=True)
class HeldOut:
    """Prompts that are answered at every look, and what is made of the answers.

    ids: of the prompts. seeds: of the draws of each answer. gold: (answers, answers of the first look) -> how much
    better each is than the first look's to the same prompt; None where that cannot be said. by: who says so.
    every: rollouts between two looks. keep: which policy `Watch.leave` leaves.
    """

    ids: tuple[str, ...]
    chats: tuple[Chat, ...]
    seeds: tuple[int, ...]
    gold: Callable[[list[str], list[str]], list[float | None]]
    by: str
    every: int
    sampling: Sampling
    keep: Literal["best", "last"]
    batch_tokens: int = 4096


class Watch(TrainerCallback):
    """See the module. tokenizer: the policy's. snapshots: rollouts after which the policy is copied."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, held_out: HeldOut | None = None, snapshots: Sequence[int] = ()
    ) -> None:
        self.tokenizer: Any = tokenizer
        self.held_out = held_out
        self.snapshots = tuple(snapshots)
        self.reference: Callable[[], AbstractContextManager[Any]] | None = None
        self._log: list[Any] = []  # the trainer's own
        self._answers: dict[str, Any] | None = None
        self._paid: dict[str, float] = {}
        self._warned: set[str] = set()

    def reading(self, reward: Reward, paid: Callable[[], dict[str, float]] = dict) -> Reward:
        """The reward function; it is also the proxy of the looks. paid: what it was made of, asked after each call."""
        self.proxy = reward

        @functools.wraps(reward)
        def read(prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **rest: Any) -> Any:
            texts = [c if isinstance(c, str) else "".join(turn["content"] for turn in c) for c in completions]
            everyone = everyones(list(zip(texts, completion_ids, strict=True)))
            self._answers = describe([text for text, _ in everyone], [ids for _, ids in everyone], self._stops)
            rewards = reward(prompts=prompts, completions=completions, completion_ids=completion_ids, **rest)
            self._paid = paid()
            return rewards

        return read

    # 1. When to look --------------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._stops = stop_ids(kwargs["model"], self.tokenizer)
        self._log, self._folder = state.log_history, Path(args.output_dir) / "looks"
        self._copies = Path(args.output_dir) / "snapshots"
        self._warned = {light["what"] for light in lights_of(self._log)}  # before the kill, where there was one
        if self.held_out:
            self._planned = -(-state.max_steps // (updates_per_rollout(args) * self.held_out.every))
            self._warned |= {ALARM} if alarm(self.looks, self._planned).rollout is not None else set()
        if self.held_out and state.global_step == 0:
            self._look(kwargs["model"], 0, state, args)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        rollout, rest = divmod(state.global_step, updates_per_rollout(args))
        last = state.global_step == state.max_steps
        if self.held_out and not rest and (last or rollout % self.held_out.every == 0):
            self._look(kwargs["model"], rollout, state, args)
        if not rest and rollout in self.snapshots:
            self._write(kwargs["model"], self._copies / str(rollout))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._answers is not None and "reward" in self._log[-1]:
            self._log[-1] |= {"answers": self._answers} | ({"paid": self._paid} if self._paid else {})
            self._answers = None
            self._warn()

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """No earlier checkpoint than this one will be gone on from: other weights than the best are needed no more."""
        if self._keeps_best and self.looks and writes():
            self._tidy()

    # 2. A look --------------------------------------------------------------------------------------------------------

    @property
    def looks(self) -> list[dict[str, Any]]:
        return [row["look"] for row in self._log if "look" in row]

    @property
    def _keeps_best(self) -> bool:
        return self.held_out is not None and self.held_out.keep == "best"

    def _look(self, model: Any, rollout: int, state: TrainerState, args: Any) -> None:
        assert self.held_out and self.reference, "set `watch.reference` before training"
        with as_found(model):
            look = measure(model, self.tokenizer, self.held_out, self.reference, self.proxy, self.looks)
        self._log.append({"look": {"rollout": rollout} | look, "step": state.global_step})
        self._warn()
        rung = alarm(self.looks, self._planned)
        if rung.rollout is not None:
            self._say(ALARM, rollout, words(rung))
        if self._keeps_best and best_look(self.looks) == len(self.looks) - 1:
            self._write(model, self._place(rollout))
            if args.save_strategy == "no" and writes():  # nothing will be gone on from
                self._tidy()

    def _write(self, model: Any, folder: Path) -> None:
        """To the side, then published: weights that are found are whole, also after a power cut."""
        aside = folder.with_name("partial")
        if writes():
            shutil.rmtree(aside, ignore_errors=True)
        save(model, self.tokenizer, aside)
        if writes():
            shutil.rmtree(folder, ignore_errors=True)
            publish(aside, folder)

    def _place(self, rollout: int) -> Path:
        return self._folder / f"rollout-{rollout}"

    def _tidy(self) -> None:
        kept = self._place(self.looks[best_look(self.looks)]["rollout"])
        for folder in self._folder.glob("rollout-*"):
            if folder != kept:
                shutil.rmtree(folder)

    def _warn(self) -> None:
        for light in lights_of(self._log):
            self._say(light["what"], light["rollout"], light["text"])

    def _say(self, what: str, rollout: int, text: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            if writes():
                print(f"warning: rollout {rollout}: {text}", file=sys.stderr, flush=True)

    # 3. At the end ----------------------------------------------------------------------------------------------------

    def leave(self, model: Any, folder: Path) -> dict[str, Any]:
        """model/ (the policy to keep), snapshots/<rollout>/, warnings.json, and gold.json where there were looks.

        Returns what to count. All is copied: a run that is killed from here on leaves again from its last checkpoint.
        """
        lights = lights_of(self._log)
        (folder / "warnings.json").write_text(json.dumps(lights, indent=1))
        counts: dict[str, Any] = {"warnings of collapse": len(lights)}
        for rollout in self.snapshots if writes() else ():
            shutil.copytree(self._copies / str(rollout), folder / "snapshots" / str(rollout))
        if self.held_out is None:
            save(model, self.tokenizer, folder / "model")
            return counts
        looks, run = self.looks, judge_run(self.looks)
        kept = run["best"] if self._keeps_best else run["last"]
        if kept == run["last"]:
            save(model, self.tokenizer, folder / "model")
        elif writes():
            shutil.copytree(self._place(kept), folder / "model")
        summary = {"by": self.held_out.by, "prompts": self.held_out.ids, "kept": kept, "best": run["best"]}
        summary |= {"says": sentence(run), "looks": looks}
        # Sorted, because a checkpoint sorts the keys of what it gives back.
        (folder / "gold.json").write_text(json.dumps(summary, indent=1, sort_keys=True))
        counts |= {"gold prompts": len(self.held_out.ids), "policy kept: after rollout": kept}
        unread = sum(gold is None for look in looks for gold in look["golds"])
        return counts | {"gold rewards that could not be read": unread}


def updates_per_rollout(args: Any) -> int:
    """Optimizer steps between two rollouts, of the arguments of any of TRL's online trainers."""
    return max(1, args.num_iterations * args.steps_per_generation // args.gradient_accumulation_steps)


@contextmanager
def as_found(model: Any) -> Iterator[None]:
    """Within: the model answers instead of learning. Afterwards it and all random states are as they were.

    Loading a judge, for one, draws weights for layers that are then overwritten.
    """
    training, python, numpy = model.training, random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        model.train(training)


def measure(
    model: Any,
    tokenizer: Any,
    held_out: HeldOut,
    reference: Callable[[], AbstractContextManager[Any]],
    proxy: Reward,
    before: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """One look. before: the earlier ones, of which the first is what gold compares with."""
    # 1. Answer.
    stops, count = stop_ids(model, tokenizer), len(held_out.ids)
    prompts = [chat_ids(tokenizer, chat, answer=True) for chat in held_out.chats]
    drawn: list[tuple[int, list[int]]] = []
    lengths = [len(ids) + held_out.sampling.max_new_tokens for ids in prompts]
    _, processes = place()
    for batch in map(own_rows, by_length(range(count), lengths, held_out.batch_tokens * processes)):
        rows, seeds = [prompts[i] for i in batch], [held_out.seeds[i] for i in batch]
        ids = sample_ids(model, rows, seeds, held_out.sampling, tokenizer.pad_token_id, stops)
        drawn += zip(batch, ids, strict=True)
    answers = in_order(drawn, count)
    texts = [reply_of(tokenizer, ids, stops).text for ids in answers]

    # 2. Compare with the reference, token by token.
    nats: list[tuple[int, tuple[float, float]]] = []
    rows_of = max(1, PREDICTIONS // held_out.sampling.max_new_tokens) * processes
    for batch in (own_rows(range(count)[start : start + rows_of]) for start in range(0, count, rows_of)):
        rows, replies = [prompts[i] for i in batch], [answers[i] for i in batch]
        temperature, padding = held_out.sampling.temperature, tokenizer.pad_token_id
        both = divergence(model, reference, rows, replies, temperature, padding)
        nats += zip(batch, zip(*both, strict=True), strict=True)
    kls, entropies = map(list, zip(*in_order(nats, count), strict=True))

    # 3. Rewards.
    chats = [plain(tokenizer, chat) for chat in held_out.chats]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    first = before[0]["texts"] if before else texts
    columns = {"prompts": chats, "completions": completions, "completion_ids": answers, "prompt_id": held_out.ids}
    columns |= {"baseline": first}  # for rewards that compare: the SFT policy's answers to the same prompts
    proxies = shared_out(
        range(count), lambda some: proxy(**{name: [column[i] for i in some] for name, column in columns.items()})
    )
    golds = held_out.gold(texts, first)
    return describe(texts, answers, stops) | {
        "kl": _mean(kls), "entropy": _mean(entropies), "proxy": _mean(proxies), "gold": _mean(golds),
        "proxies": proxies, "golds": golds, "kls": kls, "texts": texts,
    }  # fmt: skip


def in_order(numbered: Sequence[tuple[int, Any]], count: int) -> list[Any]:
    """All processes' items, in the order of their numbers."""
    known = dict(everyones(numbered))
    return [known[number] for number in range(count)]


def divergence(
    model: Any,
    reference: Callable[[], AbstractContextManager[Any]],
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    temperature: float,
    padding: int,
) -> tuple[list[float], list[float]]:
    """(KL(policy || reference), entropy of the policy) of each answer: sums over its tokens, in nats.

    Each term is exact: over the whole vocabulary, at the given temperature.
    """

    def padded(rows: Sequence[list[int]], side: str, value: int) -> Tensor:
        return pad([torch.tensor(row) for row in rows], value, side).to(model.device)

    ones = [[[1] * len(row) for row in rows] for rows in (prompts, answers)]
    mask_BT = padded(ones[1], "right", 0)
    attention = torch.cat([padded(ones[0], "left", 0), mask_BT], dim=1)
    ids = torch.cat([padded(prompts, "left", padding), padded(answers, "right", padding)], dim=1)
    width = mask_BT.size(1)
    inputs = {
        "input_ids": ids,
        "attention_mask": attention,
        "position_ids": (attention.cumsum(1) - 1).clamp(min=0),
        # A token is chosen one place before its own.
        "logits_to_keep": torch.arange(ids.size(1) - width - 1, ids.size(1) - 1, device=ids.device),
        "use_cache": False,
    }
    logp_BTV = (model(**inputs).logits.float() / temperature).log_softmax(-1)
    with reference():
        ref_logp_BTV = (model(**inputs).logits.float() / temperature).log_softmax(-1)
    p_BTV = logp_BTV.exp()
    kl_BT = (p_BTV * (logp_BTV - ref_logp_BTV)).sum(-1) * mask_BT
    entropy_BT = -(p_BTV * logp_BTV).sum(-1) * mask_BT
    return kl_BT.sum(1).tolist(), entropy_BT.sum(1).tolist()


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that there are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
