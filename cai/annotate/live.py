"""Talking to a policy that learns what a person likes, without any HTTP (TAMER style, Knox & Stone 2009).

A turn: the person says something, or takes the next prompt of the experiment, and the policy answers. In the form
`pairs` it answers twice, and the person chooses the better one, with which the talk goes on; in the form `words` the
answer appears word by word, and meanwhile and after the person presses up or down. Each key is in the log before
anything is learned from it, and then the human reward is learned anew from all feedback of that person
(cai/train/live/tamer.py). The log is all the state there is: who comes back goes on where they stopped, also after a
kill, and in either form.

*Re-ranking.* The policy draws n answers and the one that looks best to the human reward is shown. n grows with the
number of feedbacks (`CANDIDATES`): without feedback there is nothing to rank by, and with very little the ranking would
follow its noise.

*Exploration.* Which answer looks best is decided by one function drawn from the posterior for each turn (Thompson
sampling, `HumanReward.draw`), not by the mean: an answer of an unknown kind is shown now and then, and what is shown
is what feedback can teach about. The second of a pair is the best of the others under a second draw (Wu & Liu 2016,
"Double Thompson sampling for dueling bandits").
"""

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import RLock
from typing import Any, Literal

import numpy as np

from cai.annotate.desk import known_rater
from cai.annotate.voice import Drawn, Voice
from cai.core.draws import identity, seed_of, uniform
from cai.core.errors import UserError
from cai.core.records import Chat, Message, Prompt
from cai.data.feedback import AnswerChoice, Feedback, FeedbackLog, ShownAnswer, fault_of
from cai.train.live.features import AnswerFeatures
from cai.train.live.reward import learn
from cai.train.live.tamer import HumanReward, credit

Form = Literal["pairs", "words"]

CANDIDATES = ((0, 1), (5, 2), (10, 4), (20, 8))  # from so many feedbacks on, so many answers to choose from
LONGEST = 4000  # characters of what a person says


def candidates(feedbacks: int) -> int:
    """How many answers are drawn for a turn."""
    return max(n for at_least, n in CANDIDATES if feedbacks >= at_least)


class Session:
    """One policy, its prompts and a log; any number of raters, each with a human reward of their own.

    raters: the names allowed; empty for any. seed: of the draws. form: of the turns to come.
    """

    def __init__(
        self,
        name: str,
        voice: Voice,
        prompts: Sequence[Prompt],
        log: FeedbackLog,
        raters: Sequence[str] = (),
        seed: int = 0,
        form: Form = "pairs",
    ) -> None:
        self.name, self.voice, self.log, self.raters, self.seed = name, voice, log, tuple(raters), seed
        self.form: Form = form
        self.prompts = sorted(prompts, key=lambda prompt: uniform("live", seed, prompt.id))
        self.lock = RLock()  # one model, and one turn at a time
        self._read: dict[str, AnswerFeatures] = {}
        self._learned: dict[str, tuple[tuple[int, int, str], HumanReward | None, Counter[str]]] = {}

    # Who and where --------------------------------------------------------------------------------------------------

    def welcome(self) -> dict[str, Any]:
        """What the page needs before a rater has a name."""
        with self.lock:
            self.log.refresh()
            presses = Counter(given.rater for rows in self.log.given.values() for given in rows)
            presses += Counter(choice.rater for choice in self.log.choices.values())
            names = list(self.raters) or sorted({answer.rater for answer in self.log.of()})
        return {
            "name": self.name,
            "raters": [{"name": name, "done": presses[name]} for name in names],
            "open": not self.raters,
            "form": self.form,
        }

    def state(self, rater: str) -> dict[str, Any]:
        """The conversation so far, the prompt to go on with, and what has been learned."""
        with self.lock:
            rater = known_rater(rater, self.raters)
            self.log.refresh()
            mine = self.log.of(rater)
            prompt = self._next(mine)
            return {
                "rater": rater,
                "messages": _plain(self._after(mine[-1])) if mine else [],
                "suggestion": _plain(prompt.messages) if prompt else None,
                "prompts": {"seen": len(self._seen(mine)), "total": len(self.prompts)},
                "learned": self.learned(rater),
            }

    def _seen(self, mine: Sequence[ShownAnswer]) -> set[str]:
        return {answer.prompt_id for answer in mine} & {prompt.id for prompt in self.prompts}

    def _next(self, mine: Sequence[ShownAnswer]) -> Prompt | None:
        """The first prompt that this rater has seen least often."""
        seen = Counter(answer.prompt_id for answer in mine)
        return min(self.prompts, key=lambda prompt: seen[prompt.id], default=None)

    # Turns ----------------------------------------------------------------------------------------------------------

    def say(self, rater: str, text: str | None, fresh: bool) -> dict[str, Any]:
        """The policy's answers to what a rater says, chosen and logged: one, or two in the form `pairs`.

        text: None for the next prompt. fresh: begin a conversation, instead of going on with the last one; a prompt
        always does.
        """
        with self.lock:
            rater = known_rater(rater, self.raters)
            self.log.refresh()
            mine = self.log.of(rater)
            chat, prompt_id = self._turn(mine, text, fresh)
            reward, counts = self._human(rater)
            wanted = 2 if self.form == "pairs" else 1
            n = max(wanted, candidates(counts["feedbacks"]))
            turn = (self.seed, rater, len(mine), [m.content for m in chat])
            drawn = self.voice.answers(chat, [seed_of("live", number, *turn) for number in range(n)])
            spoken = [answer for answer in drawn if answer.tokens] or drawn
            known = reward if spoken[0].tokens else None
            shown = [
                self._show(spoken[place], known, rater, chat, prompt_id, n)
                for place in _chosen(spoken, known, min(wanted, len(spoken)), turn)
            ]
            return {
                "answers": [{"id": answer.id, "text": answer.text, "tokens": len(answer.tokens)} for answer in shown],
                "messages": _plain(chat),
                "candidates": n,
            }

    def _show(
        self, answer: Drawn, reward: HumanReward | None, rater: str, chat: Chat, prompt_id: str, n: int
    ) -> ShownAnswer:
        """Log an answer as the next one that a rater sees."""
        predicted, error = (float(values[0]) for values in reward.predict([answer.read])) if reward else (None, None)
        at = _now()
        shown = ShownAnswer(
            id=identity("answer", rater, at, str(os.getpid())), rater=rater, policy=self.voice.digest,
            prompt_id=prompt_id, messages=chat,
            tokens=answer.tokens, pieces=answer.pieces, candidates=n, predicted=predicted, error=error, at=at,
        )  # fmt: skip
        self.log.append(shown)
        self._read[shown.id] = answer.read
        return shown

    def _turn(self, mine: Sequence[ShownAnswer], text: str | None, fresh: bool) -> tuple[Chat, str]:
        """(what is to be answered, the id of the prompt that it began with or "")."""
        if text is None:
            prompt = self._next(mine)
            if prompt is None:
                raise UserError("this experiment has no prompts to take", "", "type something")
            chat, prompt_id = prompt.messages, prompt.id
        else:
            text = text.strip()
            if not text or len(text) > LONGEST:
                raise UserError(f"say something, in at most {LONGEST} characters", "", "type it below")
            before = () if fresh or not mine else self._after(mine[-1])
            chat, prompt_id = (*before, Message("user", text)), "" if fresh or not mine else mine[-1].prompt_id
        if len(self.voice.ids(chat)) > self.voice.room:
            raise UserError("the conversation is too long for this policy", "", "begin a new one")
        return chat, prompt_id

    def _after(self, last: ShownAnswer) -> Chat:
        """The conversation that a rater's last answer leaves: with the one of two that was chosen."""
        for choice in reversed(self.log.choices_of(last.rater)):
            if last.id in (choice.left, choice.right):
                last = self.log.answers[choice.chosen]
                break
        return (*last.messages, Message("assistant", last.text))

    def shown(self, answer: str) -> ShownAnswer:
        """An answer by its id, for the stream."""
        with self.lock:
            if answer not in self.log.answers:
                raise UserError("there is no such answer", "", "reload the page")
            return self.log.answers[answer]

    # Feedback -------------------------------------------------------------------------------------------------------

    def press(
        self, rater: str, answer: str, value: float, seconds: float, shown: Sequence[float], ended: float | None
    ) -> dict[str, Any]:
        """Write one press to the log, learn from all of them anew, and say what is known. See cai/data/feedback.py for
        times."""
        with self.lock:
            rater, of = known_rater(rater, self.raters), self.shown(answer)
            fault = fault_of(value, seconds, shown, ended, len(of.tokens))
            if of.rater != rater:
                fault = f"this answer was shown to {of.rater}"
            if fault:
                raise UserError(fault, "", "reload the page")
            self.log.append(
                Feedback(
                    answer=answer, rater=rater, value=value, seconds=seconds, shown=tuple(shown), ended=ended, at=_now()
                )
            )
            about_T = credit(shown, seconds, ended)
            return self.learned(rater) | {"credit": [] if about_T is None else about_T.round(4).tolist()}

    def choose(self, rater: str, left: str, right: str, chosen: str, seconds: float) -> dict[str, Any]:
        """Write to the log which of two answers is the better one, and learn from all feedback anew."""
        with self.lock:
            rater = known_rater(rater, self.raters)
            if fault := self.log.fault_of_choice(left, right, chosen, rater, seconds):
                raise UserError(fault, "", "reload the page")
            self.log.append(
                AnswerChoice(left=left, right=right, chosen=chosen, rater=rater, seconds=seconds, at=_now())
            )
            return self.learned(rater) | {"messages": _plain(self._after(self.shown(chosen)))}

    def learned(self, rater: str) -> dict[str, Any]:
        """Counts of a rater's feedback, and how well each is predicted when its answer is left out."""
        reward, counts = self._human(rater)
        answers, choices = self.log.of(rater), self.log.choices_of(rater)
        spoken_of = {answer for choice in choices for answer in (choice.left, choice.right)}
        return {
            "feedbacks": counts["feedbacks"],
            "good": counts["good"],
            "bad": counts["bad"],
            "choices": counts["choices"],
            "answers": len(answers),
            "silent": sum(not self.log.given[answer.id] and answer.id not in spoken_of for answer in answers),
            "correlation": reward.correlation() if reward else None,
            "candidates": candidates(counts["feedbacks"]),
            "faults": dict(self.log.count()),
        }

    def _human(self, rater: str) -> tuple[HumanReward | None, Counter[str]]:
        """The rater's reward by all that is in the log now, also what another session wrote there."""
        answers = [a for a in self.log.of(rater) if a.policy == self.voice.digest]
        presses = sum(len(self.log.given[answer.id]) for answer in answers)
        size = len(answers), presses, max((choice.at for choice in self.log.choices_of(rater)), default="")
        if rater not in self._learned or self._learned[rater][0] != size:
            missing = [answer for answer in answers if answer.id not in self._read]
            read = self.voice.read([(answer.messages, answer.tokens) for answer in missing])
            self._read |= {answer.id: features for answer, features in zip(missing, read, strict=True)}
            counts: Counter[str] = Counter()
            reward = learn(self.log, answers, [self._read[answer.id] for answer in answers], counts)
            self._learned[rater] = size, reward, counts
        return self._learned[rater][1:]

    def reward(self, rater: str) -> HumanReward | None:
        """What a rater has taught so far."""
        with self.lock:
            return self._human(rater)[0]


def _chosen(drawn: Sequence[Drawn], reward: HumanReward | None, wanted: int, turn: tuple) -> list[int]:
    """Which of the answers to show: the best under a function drawn for each; without a reward, the first ones."""
    if reward is None:
        return list(range(wanted))
    places: list[int] = []
    for number in range(wanted):
        values = reward.draw(
            [answer.read for answer in drawn], seed_of("thompson", *turn, *([number] if number else []))
        )
        values[places] = -np.inf
        places.append(int(np.argmax(values)))
    # The sides are drawn as well: the better one by the first draw is not always on the left.
    return places if uniform("sides", *turn) < 0.5 else places[::-1]


def _plain(chat: Chat) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in chat]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
