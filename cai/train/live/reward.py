"""The reward that a person's live feedback teaches (cai/train/live/tamer.py), read from a policy's hidden states; and
as a part of the reward in reinforcement learning.

Features of a token are a hidden state of the frozen policy after it has read the token, those of an answer their mean
and what is counted of its text (features.py). A log can be learned from by any policy that reads the same tokens: the
states are computed anew.

In reinforcement learning (`Shaped`) the reward of an answer becomes

    reward model + weight * decay^rollout * human reward,

both normalised on the SFT policy's answers (Knox & Stone 2012, "Reinforcement learning from simultaneous human and MDP
reward", reward shaping with an annealed weight; 2010, method 1): the person leads at first, and the reward model has
the last word. Departure: there the human reward comes while the policy learns, here from the log of earlier talks.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import torch

from cai.core.batching import by_length
from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.data.feedback import FeedbackLog, ShownAnswer
from cai.models.architectures import head_width
from cai.models.chat import chat_ids, with_system
from cai.models.engines.sampling import stop_ids
from cai.models.trunk import looked_into
from cai.train.live.features import AnswerFeatures, statistics
from cai.train.live.tamer import Example, HumanReward, bursts, credit, fit

Row = tuple[list[int], list[int]]  # token ids of a prompt, opened for an answer, and of the answer
NO_TIME = "feedback before anything was on the screen"
NO_WORDS = "a choice of an answer without a word"


@torch.no_grad()
def states_of(model: Any, rows: Sequence[Row], padding: int, batch_tokens: int) -> list[np.ndarray]:
    """(T, D) in float32: the hidden state halfway up after each token of each answer. Batches hold rows of like length.

    The last states know what word comes next; those in the middle know better what has been said. Where a model has no
    stack of blocks to be halfway up, they are the last ones.
    """
    network: Any = getattr(model, "get_base_model", lambda: model)()  # PEFT's layers stand within the network
    reader = network.get_decoder()  # without the head: no logits are needed
    middle = _block_above_middle(network, reader)
    device = next(network.parameters()).device
    lengths = [len(prompt) + len(answer) for prompt, answer in rows]
    by_answer: list[np.ndarray | None] = [None] * len(rows)
    for batch in by_length([i for i, (_, answer) in enumerate(rows) if answer], lengths, batch_tokens, padding=0.2):
        width = max(lengths[i] for i in batch)
        ids = torch.tensor([[*rows[i][0], *rows[i][1], *[padding] * (width - lengths[i])] for i in batch])
        mask = torch.tensor([[1] * lengths[i] + [0] * (width - lengths[i]) for i in batch])
        states_BTD = _states_below(reader, middle, input_ids=ids.to(device), attention_mask=mask.to(device))
        for i, states_TD in zip(batch, states_BTD.float().cpu().numpy(), strict=True):
            by_answer[i] = states_TD[len(rows[i][0]) : lengths[i]]
    wide = next((states_TD.shape[1] for states_TD in by_answer if states_TD is not None), head_width(network))
    return [np.empty((0, wide), np.float32) if states_TD is None else states_TD for states_TD in by_answer]


class _HalfwayUp(Exception):
    """Thrown by the block above the middle: no more of the model is to be run."""


def _block_above_middle(network: Any, reader: Any) -> Any:
    count = network.config.get_text_config().num_hidden_layers
    stacks = [part for part in reader.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == count]
    return stacks[0][count // 2] if stacks else None


def _states_below(reader: Any, block: Any, **inputs: Any) -> torch.Tensor:
    """(B, T, D) what a block is given; None for the block: what the model ends with."""
    states: list[torch.Tensor] = []

    def keep(_: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])
        raise _HalfwayUp

    hook = block.register_forward_pre_hook(keep, with_kwargs=True) if block is not None else None
    try:
        with looked_into():
            return reader(**inputs, use_cache=False).last_hidden_state
    except _HalfwayUp:
        return states[0]
    finally:
        if hook:
            hook.remove()


def read_answers(
    model: Any, tokenizer: Any, answers: Sequence[tuple[Chat, Sequence[int]]], batch_tokens: int
) -> list[AnswerFeatures]:
    """What is read of each answer, given as the conversation (with its system prompt) and the answer's token ids."""
    rows = [(chat_ids(tokenizer, chat, answer=True), list(ids)) for chat, ids in answers]
    states = states_of(model, rows, tokenizer.pad_token_id, batch_tokens)
    return [
        AnswerFeatures(states_TD, statistics(chat, tokenizer.decode(list(ids))))
        for (chat, ids), states_TD in zip(answers, states, strict=True)
    ]


def learn(
    log: FeedbackLog, answers: Sequence[ShownAnswer], read: Sequence[AnswerFeatures], counts: Counter[str]
) -> HumanReward | None:
    """The human reward after all feedback on these answers; None where there is none. read: what is read of each.

    counts: is given how many presses and choices were learned from, and how many could not be.
    """
    examples = [*_presses(log, answers, counts), *_choices(log, answers, read, counts)]
    counts["feedbacks"] = len(examples)
    return fit(read, examples) if examples else None


def _presses(log: FeedbackLog, answers: Sequence[ShownAnswer], counts: Counter[str]) -> Iterator[Example]:
    for place, answer in enumerate(answers):
        presses = log.given[answer.id]
        for at, value in bursts([(press.seconds, press.value) for press in presses]):
            # What had appeared by then is the same in all presses that are later; the last one knows the most.
            last = presses[-1]
            credit_T = credit(last.shown, at, last.ended)
            if credit_T is None:
                counts[NO_TIME] += 1
                continue
            whole_T = np.zeros(len(answer.tokens))
            whole_T[: len(credit_T)] = credit_T
            counts["good" if value > 0 else "bad"] += 1
            yield Example(place, value, whole_T)


def _choices(
    log: FeedbackLog, answers: Sequence[ShownAnswer], read: Sequence[AnswerFeatures], counts: Counter[str]
) -> Iterator[Example]:
    places = {answer.id: place for place, answer in enumerate(answers)}
    for choice in log.choices.values():
        if choice.left not in places or choice.right not in places:
            continue
        left, right = places[choice.left], places[choice.right]
        if not (read[left].tokens and read[right].tokens):
            counts[NO_WORDS] += 1
            continue
        counts["choices"] += 1
        yield Example(left, 1.0 if choice.chosen == choice.left else -1.0, over=right)


def of_log(
    log: FeedbackLog, model: Any, tokenizer: Any, system: str | None, batch_tokens: int
) -> tuple[HumanReward, Counter[str]]:
    """What everybody in a log taught, by the features of this policy, and counts.

    Raises UserError for a log without feedback, or one of answers in another tokenizer's tokens.
    """
    answers = log.of()
    strange = [a for a in answers if tokenizer.decode(list(a.tokens)) != a.text]
    if strange:
        raise UserError(
            f"{len(strange)} of its {len(answers)} answers are in the tokens of another model",
            str(log.path),
            "give live feedback on a policy of this experiment",
        )
    counts = log.count()
    chats = [(with_system(answer.messages, system), answer.tokens) for answer in answers]
    reward = learn(log, answers, read_answers(model, tokenizer, chats, batch_tokens), counts)
    if reward is None:
        raise UserError("there is no feedback in this log", str(log.path), "python -m cai.annotate --live adds some")
    return reward, counts


@dataclass(frozen=True, slots=True)
class Annealing:
    """How much the human reward weighs. updates: optimizer steps a rollout."""

    weight: float
    decay: float
    updates: int

    def share(self, step: int) -> float:
        return self.weight * self.decay ** (step // self.updates)


class Shaped:
    """A reward function as TRL calls it: another one, and the human reward with a weight that decays.

    reward: the other one. human: see `of_log`, and `normalise`. reference: within it the model is the policy that the
    features are of; without one it is so as it stands. An answer without a word has no human reward: it counts 0, the
    SFT mean. Where no trainer asks (`Watch` looking from outside) there is no rollout, and the other reward stands
    alone: looks are compared with each other, which a weight that changes would not allow.
    """

    def __init__(
        self, reward: Callable[..., list[float | None]], human: HumanReward, model: Any, tokenizer: Any,
        annealing: Annealing, batch_tokens: int,
    ) -> None:  # fmt: skip
        self.reward, self.human, self.model, self.tokenizer = reward, human, model, tokenizer
        self.annealing, self.batch_tokens = annealing, batch_tokens
        self.reference: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.mean, self.spread = 0.0, 1.0
        self._stops = stop_ids(model, tokenizer)

    def normalise(self, answers: Sequence[tuple[Chat, Sequence[int]]]) -> dict[str, float]:
        """Take mean and spread from these answers, and say them. answers: as `read_answers` takes them."""
        known = [value for value in self._rewards(answers) if value is not None]
        self.mean, self.spread = fmean(known), max(pstdev(known), 1e-6)
        return {"mean": self.mean, "spread": self.spread}

    def _rewards(self, answers: Sequence[tuple[Chat, Sequence[int]]]) -> list[float | None]:
        training = self.model.training
        self.model.eval()
        with self.reference():
            read = read_answers(self.model, self.tokenizer, answers, self.batch_tokens)
        self.model.train(training)
        with_words = [place for place, answer in enumerate(read) if answer.tokens]
        rewards: list[float | None] = [None] * len(answers)
        if with_words:
            mean_M, _ = self.human.predict([read[place] for place in with_words])
            for place, value in zip(with_words, mean_M.tolist(), strict=True):
                rewards[place] = value
        return rewards

    def __call__(
        self, prompts: list, completions: list, completion_ids: list[list[int]], trainer_state: Any = None, **rest: Any
    ) -> list[float | None]:
        """Rewards of answers; None where the other reward has none."""
        scores = self.reward(prompts=prompts, completions=completions, completion_ids=completion_ids, **rest)
        if trainer_state is None:
            return scores
        share = self.annealing.share(trainer_state.global_step)
        chats = [tuple(Message(turn["role"], turn["content"]) for turn in prompt) for prompt in prompts]
        answers = [[token for token in ids if token not in self._stops] for ids in completion_ids]
        rewards = self._rewards(list(zip(chats, answers, strict=True)))
        human = [0.0 if h is None else (h - self.mean) / self.spread for h in rewards]
        return [None if s is None else s + share * h for s, h in zip(scores, human, strict=True)]
