"""The work of `python -m cai.bench live`: answers drawn once, raters who teach on them, and what that gained."""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cai.bench.raters import MEASURES, Measure, ScriptedRater, levels
from cai.config.runtime import Runtime
from cai.core.draws import identity, seed_of
from cai.core.durable import make_folders
from cai.core.errors import UserError
from cai.core.records import Chat, Estimate, Prompt
from cai.data.feedback import FeedbackLog
from cai.data.sources import read_helpful
from cai.models.engines import Sampling
from cai.models.loading import pick_device, pick_dtype
from cai.models.references import ModelRef, find
from cai.stats.crossed import contrast

if TYPE_CHECKING:
    from cai.annotate.live import Session
    from cai.annotate.voice import Drawn, Voice

FORMS = {"pairs": "pairs", "words": "words", "thumbs": "words"}  # -> the form of the page that takes them
MOST_TURNS = 10  # for each feedback that is wanted; a rater whom nothing moves would never be done


@dataclass(frozen=True, slots=True)
class TaughtGain:
    """What one form of feedback gained. taste: of the raters, "all" for all of them. gain: in sd of the measure."""

    form: str
    taste: str
    feedbacks: int
    gain: Estimate


def measured(args: argparse.Namespace) -> None:
    """Print what was gained, as lines or as one JSON object. Raises UserError."""
    taught_on, fresh = split_prompts(args)
    bank = draw_bank(args, [*taught_on, *fresh])
    if args.policy:
        return print(kept(bank, taught_on, fresh, args))
    rows = []
    for form in args.forms:
        rows += gains_of(bank, form, taught_on, fresh, args.raters, sorted(args.feedbacks))
        if not args.json:
            for row in [row for row in rows if row.form == form]:
                print(shown(row), flush=True)
    best = {taste: best_possible(bank, fresh, taste) for taste in bank.tastes}
    if args.json:
        print(json.dumps({"best possible": best, "gains": [asdict(row) for row in rows]}))
    else:
        print(
            f"the best of {args.candidates} by the raters' own measures: "
            + ", ".join(f"{k} {v:.2f}" for k, v in best.items())
        )


def kept(bank: "Bank", taught_on: Sequence[Prompt], fresh: Sequence[Prompt], args: argparse.Namespace) -> str:
    """What PPO keeps of a rater's log, by pairs (live_policy.py). Raises UserError without a folder for it."""
    from cai.bench.live_policy import KeptSettings, kept_gain

    if not args.bank:
        raise UserError("a run that trains keeps its checkpoints", "--bank", "give it a folder")
    taste = args.tastes[0]
    path = args.bank / f"{taste.replace(' ', '-')}-{args.feedbacks[-1]}.jsonl"
    log = FeedbackLog(path)
    if log.keys() < args.feedbacks[-1]:
        list(taught(bank, "pairs", taught_on, taste, 0, log, [args.feedbacks[-1]]))
    device = pick_device(args.device)
    settings = KeptSettings(
        model=find(args.model), dtype=pick_dtype(args.dtype, device), device=device, system=args.system,
        tokens=args.tokens, rollouts=args.policy, draws=args.candidates,
    )  # fmt: skip
    train = [prompt for prompt in read_helpful(args.prompts, 0.3, 0).prompts.values() if prompt.split == "train"]
    result = kept_gain(settings, bank.tastes[taste], log, train, fresh)
    if args.json:
        return json.dumps(asdict(result))
    gain, rewards = result.gain, ", ".join(f"{value:+.2f}" for value in result.reward)
    return (
        f"policy, {taste}, {log.keys()} feedbacks, {args.policy} rollouts: {gain.value:+.2f} "
        f"[{gain.low:.2f}, {gain.high:.2f}] sd; human reward by rollout {rewards}; KL {result.kl:.2f}"
    )


def shown(row: TaughtGain) -> str:
    gain = row.gain
    what = f"{row.form:7} {row.taste:9} {row.feedbacks:4} feedbacks"
    return f"{what}  {gain.value:+.2f} [{gain.low:.2f}, {gain.high:.2f}] sd"


def split_prompts(args: argparse.Namespace) -> tuple[list[Prompt], list[Prompt]]:
    """(prompts to teach on, prompts to measure on). Raises UserError for ids that are not there, and for too few."""
    prompts = list(read_helpful(args.prompts, 0.3, 0).prompts.values())
    wanted = args.ids or [prompt.id for prompt in prompts]
    if missing := sorted({*wanted} - {prompt.id for prompt in prompts}):
        raise UserError(f"it has no prompt {missing[0]}", args.prompts, "mend --ids")
    parts = {
        split: [prompt for prompt in prompts if prompt.id in wanted and prompt.split == split]
        for split in ("train", "test")
    }
    for split, some in parts.items():
        if len(some) < 2:
            raise UserError(f"{len(some)} of these prompts are of {split}", args.prompts, "give two or more of each")
    return parts["train"], parts["test"]


# 1. The answers -------------------------------------------------------------------------------------------------------


class Bank:
    """A voice (cai/annotate/voice.py) whose answers were all drawn before. by_chat: those to each conversation.

    tastes: of the raters who will teach. values: by taste, what each answer is worth.
    """

    room = 2**31

    def __init__(
        self, digest: str, by_chat: "dict[Chat, list[Drawn]]", tastes: Mapping[str, Measure] = MEASURES
    ) -> None:
        self.digest, self.by_chat, self.tastes = digest, by_chat, tastes
        self.values = {
            taste: {
                chat: [measure(chat[-1].content, "".join(answer.pieces)) for answer in drawn]
                for chat, drawn in by_chat.items()
            }
            for taste, measure in tastes.items()
        }

    def ids(self, chat: Chat) -> list[int]:
        return []  # every conversation is one prompt, and fits

    def answers(self, chat: Chat, seeds: Sequence[int]) -> "list[Drawn]":
        """As many as there are seeds, without repetition; the first seed says which."""
        order = np.random.default_rng(seeds[0]).permutation(len(self.by_chat[chat]))
        return [self.by_chat[chat][place] for place in order[: len(seeds)]]

    def read(self, answers: Sequence[Any]) -> list[Any]:
        assert not answers, "a session reads again what it has not drawn itself"
        return []

    def spread(self, taste: str) -> float:
        """Standard deviation of a taste's measure over all answers; NaN where they are all the same to it."""
        return float(np.std([value for values in self.values[taste].values() for value in values])) or nan

    def rater(self, taste: str, seed: int) -> ScriptedRater:
        """One who knows these answers."""
        parts = [(chat[-1].content, answer.pieces) for chat, drawn in self.by_chat.items() for answer in drawn]
        level, local = levels(self.tastes[taste], parts)
        local = None if taste == "short" else local
        return ScriptedRater(self.tastes[taste], seed_of("rater", taste, seed) % 2**32, level, local)


def draw_bank(args: argparse.Namespace, prompts: Sequence[Prompt]) -> Bank:
    """The answers of --model to prompts: those in --bank, and the others drawn, and kept there."""
    model = find(args.model)
    voices: list[Voice] = []

    def drawn(prompt: Prompt) -> "list[Drawn]":
        if not voices:
            voices.append(open_voice(model, args))
        numbers = [seed_of("bank", prompt.id, number) for number in range(args.candidates)]
        return [answer for answer in voices[0].answers(prompt.messages, numbers) if answer.tokens]

    def answers(prompt: Prompt) -> "list[Drawn]":
        if not args.bank:
            return drawn(prompt)
        made_by = (model.digest, args.system, str(args.tokens), str(args.candidates))
        path = args.bank / f"{identity('answers', prompt.id, *made_by)}.npz"
        if not path.is_file():
            make_folders(args.bank)
            keep(path, drawn(prompt))
        return stored(path, prompt.messages)

    tastes = {taste: MEASURES[taste] for taste in args.tastes}
    return Bank(model.digest, {prompt.messages: answers(prompt) for prompt in prompts}, tastes)


def open_voice(model: ModelRef, args: argparse.Namespace) -> "Voice":
    import torch  # only where something is to be drawn

    from cai.annotate.voice import Voice

    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    return Voice(
        model, dtype=pick_dtype(args.dtype, device), device=device, system=args.system,
        sampling=Sampling(args.tokens, 1.0), batch_tokens=Runtime().batch_tokens,
    )  # fmt: skip


def keep(path: Path, answers: "Sequence[Drawn]") -> None:
    """The file is there whole, or not at all."""
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial, tokens=json.dumps([answer.tokens for answer in answers]),
        pieces=json.dumps([answer.pieces for answer in answers]),
        states=np.concatenate([answer.read.states_TD for answer in answers]).astype(np.float16),
    )  # fmt: skip
    partial.rename(path)


def stored(path: Path, chat: Chat) -> "list[Drawn]":
    from cai.annotate.voice import Drawn
    from cai.train.live.features import AnswerFeatures, statistics

    with np.load(path) as file:
        tokens, pieces = json.loads(str(file["tokens"])), json.loads(str(file["pieces"]))
        ends = np.cumsum([len(ids) for ids in tokens])[:-1]
        states = np.split(file["states"].astype(np.float32), ends)
    return [
        Drawn(tuple(ids), tuple(texts), AnswerFeatures(states_TD, statistics(chat, "".join(texts))))
        for ids, texts, states_TD in zip(tokens, pieces, states, strict=True)
    ]


# 2. Teaching ----------------------------------------------------------------------------------------------------------


def gains_of(
    bank: Bank, form: str, taught_on: Sequence[Prompt], fresh: Sequence[Prompt], raters: int, after: Sequence[int]
) -> list[TaughtGain]:
    """After each number of feedbacks, for so many raters of each taste, and for all of them."""
    every = {}
    with tempfile.TemporaryDirectory() as folder:
        for taste in bank.tastes:
            for seed in range(raters):
                log = FeedbackLog(Path(folder) / f"{taste}{seed}.jsonl")
                for feedbacks, reward in taught(bank, form, taught_on, taste, seed, log, after):
                    every[taste, seed, feedbacks] = gains(bank, fresh, taste, reward)
    made, names = [], [prompt.id for prompt in fresh]
    for feedbacks in after:
        for taste in (*bank.tastes, "all"):
            columns = [
                column for (of, _, number), column in every.items() if number == feedbacks and taste in (of, "all")
            ]
            estimate = contrast(np.stack(columns, axis=1), names).estimate
            made.append(TaughtGain(form=form, taste=taste, feedbacks=feedbacks, gain=estimate))
    return made


def taught(
    bank: Bank, form: str, prompts: Sequence[Prompt], taste: str, seed: int, log: FeedbackLog, after: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    """(feedbacks, the human reward), once there are as many as each number of `after`, which ascends.

    Raises UserError for a rater who gives so few that it would never end.
    """
    from cai.annotate.live import Session

    session = Session("bench", bank, prompts, log, seed=seed, form=FORMS[form])  # pyrefly: ignore
    rater, waiting = bank.rater(taste, seed), list(after)
    for _ in range(MOST_TURNS * after[-1]):
        given = turn(session, rater, form)
        while waiting and given >= waiting[0]:
            yield waiting.pop(0), session.reward("rater")
        if not waiting:
            return
    raise UserError(f"a rater of {taste} gave too few feedbacks in {MOST_TURNS * after[-1]} turns", "--feedbacks", "")


def turn(session: "Session", rater: ScriptedRater, form: str) -> int:
    """One answer, or two, and what the rater says of it. How many feedbacks there are then."""
    said = session.say("rater", None, False)
    prompt, answers = said["messages"][-1]["content"], said["answers"]
    if form == "pairs":
        choice = rater.choice(prompt, *(answer["text"] for answer in answers)) if len(answers) == 2 else None
        if choice is not None:
            session.choose("rater", answers[0]["id"], answers[1]["id"], answers[choice]["id"], 1.0)
    else:
        pieces = session.shown(answers[0]["id"]).pieces
        for press in (rater.thumb if form == "thumbs" else rater.presses)(prompt, pieces):
            session.press("rater", answers[0]["id"], **press)
    return session.learned("rater")["feedbacks"]


# 3. Measuring ---------------------------------------------------------------------------------------------------------


def gains(bank: Bank, fresh: Sequence[Prompt], taste: str, reward: Any) -> list[float]:
    """For each fresh prompt how much better than its answers the one is that looks best, in sd of the measure."""
    made, sd = [], bank.spread(taste)
    for prompt in fresh:
        values = bank.values[taste][prompt.messages]
        best = int(np.argmax(reward.predict([answer.read for answer in bank.by_chat[prompt.messages]])[0]))
        made.append((values[best] - float(np.mean(values))) / sd)
    return made


def best_possible(bank: Bank, fresh: Sequence[Prompt], taste: str) -> float:
    values = [bank.values[taste][prompt.messages] for prompt in fresh]
    return float(np.mean([max(row) - np.mean(row) for row in values])) / bank.spread(taste)
