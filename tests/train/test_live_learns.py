"""Does live feedback work? A scripted rater with a known taste, a person's delays and mistakes gives 60 feedbacks; then
the policy answers fresh prompts with and without what it learned, from the same draws."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raters import ScriptedRater
from scipy import stats
from test_score import tiny_policy, tiny_tokenizer

import cai.train.live.reward as human
from cai.annotate.live import CANDIDATES, Session
from cai.annotate.voice import Drawn, Voice, pieces
from cai.core.draws import seed_of
from cai.core.records import Chat, Message, Prompt
from cai.data.feedback import FeedbackLog
from cai.models.engines import Sampling
from cai.models.engines.sampling import sample_ids
from cai.models.loading import save
from cai.models.references import find
from cai.train.live.tamer import credit

FEEDBACKS, MOST = 60, CANDIDATES[-1][1]
AT_ONCE = (0.0, 0.17)  # credit for what is on the screen while the key is pressed: no delay, at 6 tokens a second
LIKED, DISLIKED = {"yes", "hello", "w0", "w1", "w2", "w3"}, {"no", "stop", "w8", "w9", "w10", "w11"}


class Recorded:
    """A voice whose answers were all drawn before, in few large batches: the same as drawing them turn by turn."""

    def __init__(self, voice: Voice, prompts: Sequence[Prompt], seed: int, batch: int = 256) -> None:
        self.digest, self.room, self.ids, self.states = voice.digest, voice.room, voice.ids, voice.states
        chats = [prompt.messages for prompt in prompts for _ in range(MOST)]
        seeds = [seed_of("recorded", seed, place) for place in range(len(chats))]
        self.told: dict[Chat, list[Drawn]] = {prompt.messages: [] for prompt in prompts}
        model, pad, stops = voice.model, voice.tokenizer.pad_token_id, voice._stops
        for start in range(0, len(chats), batch):
            some = chats[start : start + batch]
            rows = [voice.ids(chat) for chat in some]
            drawn = sample_ids(model, rows, seeds[start : start + batch], voice.sampling, pad, stops)
            tokens = [tuple(token for token in ids if token not in stops) for ids in drawn]
            states = voice.states(list(zip(some, tokens, strict=True)))
            for chat, ids, states_TD in zip(some, tokens, states, strict=True):
                self.told[chat].append(Drawn(ids, pieces(voice.tokenizer, ids), states_TD))

    def answers(self, chat: Chat, seeds: Sequence[int]) -> list[Drawn]:
        return self.told[chat][: len(seeds)]


def taught(
    voice: Any, asked: Sequence[Prompt], fresh: Sequence[Prompt], rater: ScriptedRater, log: Path, seed: int
) -> list[float]:
    """How much better, by the rater's own measure, each fresh prompt's best answer is than its answers on average.

    That average is what the policy without feedback is worth on the very same draws.
    """
    session = Session("a test", voice, asked, FeedbackLog(log), seed=seed)
    while (given := session.learned("ann")["feedbacks"]) < FEEDBACKS:
        said = session.say("ann", None, False)
        for press in rater.presses(session.shown(said["answer"]).pieces):
            session.press("ann", said["answer"], **press)
        assert session.learned("ann")["answers"] < 2 * FEEDBACKS, f"{given} feedbacks"
    learned = session.reward("ann")
    gains = []
    for prompt in fresh:
        told = [one for one in voice.answers(prompt.messages, range(MOST)) if one.tokens]
        best = np.argmax(learned.predict(np.stack([one.states_TD.mean(0) for one in told]))[0])
        worth = [rater.measure(one.pieces) for one in told]
        gains.append(worth[best] - float(np.mean(worth)))
    return gains


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95% interval over seeds, by Student's t."""
    middle, error = float(np.mean(values)), float(stats.sem(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return middle, middle - reach, middle + reach


def without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(human, "credit", lambda shown, at, ended: credit(shown, at, ended, AT_ONCE))


def words(piece: str) -> float:
    return float(piece.strip() in LIKED) - float(piece.strip() in DISLIKED)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> list[tuple[Recorded, list[Prompt], list[Prompt]]]:
    """Six seeds: for each (voice, prompts to teach on, fresh prompts)."""
    folder = tmp_path_factory.mktemp("words") / "model"
    save(tiny_policy(), tiny_tokenizer(), folder)
    sampling = Sampling(40, 1.0)
    voice = Voice(find(str(folder)), dtype="float32", device="cpu", system=None, sampling=sampling, batch_tokens=16384)
    made = []
    for seed in range(6):
        prompts = [Prompt(f"p{i}", (Message("user", f"w{i % 12} w{i // 12}"),), "all", "train") for i in range(60)]
        made.append((Recorded(voice, prompts, seed), prompts[:36], prompts[36:]))
    return made


def test_after_sixty_feedbacks_answers_are_better_by_the_raters_own_measure(recorded, tmp_path, monkeypatch):
    def gains(name: str) -> list[float]:
        return [
            float(
                np.mean(
                    taught(voice, asked, fresh, ScriptedRater(words, seed, moments=3), tmp_path / f"{name}{seed}", seed)
                )
            )
            for seed, (voice, asked, fresh) in enumerate(recorded)
        ]

    with_credit = gains("credit")
    middle, low, _ = interval(with_credit)
    print(f"with credit {interval(with_credit)}")
    assert low > 0
    # An answer is worth 0 on average, and the best of 8 about 0.25: this is not a trace of an effect.
    assert middle > 0.05
    # The ablation: without a delay, feedback is about words that the rater had not read.
    without_delay(monkeypatch)
    blind = gains("blind")
    print(f"without delay {interval(blind)}")
    assert np.mean(blind) < middle


def prose(piece: str) -> float:
    """The taste of somebody who wants to be talked to and cannot stand lists."""
    if re.search(r"[\n*#:\-\d]", piece):
        return -1.0
    return float(piece.strip().lower() in {"you", "your", "i", "we", "me", "my"})


@pytest.mark.slow
@pytest.mark.real
def test_a_real_policy_learns_to_talk_to_me(real, tmp_path, monkeypatch):
    file = Path(__file__).parents[2] / "experiments/data/helpful.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    prompts = [
        Prompt(row["id"], (Message("user", row["messages"][-1]["content"]),), "helpful", row["split"]) for row in rows
    ]
    asked = [prompt for prompt in prompts if prompt.split == "train"][:24]
    fresh = [prompt for prompt in prompts if prompt.split == "test"][:20]
    voice = Voice(
        real, dtype="bfloat16", device="cpu", system="You are a helpful assistant.", sampling=Sampling(40, 1.0),
        batch_tokens=4096,
    )  # fmt: skip
    held = Recorded(voice, [*asked, *fresh], 0, batch=64)
    every = [prose(piece) for told in held.told.values() for one in told for piece in one.pieces]
    level = float(np.mean(every))

    def gains(name: str) -> list[list[float]]:
        return [
            taught(held, asked, fresh, ScriptedRater(prose, seed, level, moments=4), tmp_path / f"{name}{seed}", seed)
            for seed in range(8)
        ]

    with_credit = np.array(gains("credit"))
    without_delay(monkeypatch)
    blind = np.array(gains("blind"))
    of = ScriptedRater(prose, 0, level).measure
    worth = [[of(one.pieces) for one in held.told[prompt.messages] if one.tokens] for prompt in fresh]
    best = [max(values) - np.mean(values) for values in worth]
    print(f"level {level:.3f}; the best answer of {MOST} would gain {np.mean(best):.3f}")
    print(f"with credit, over seeds {interval(with_credit.mean(1))}, over prompts {interval(with_credit.mean(0))}")
    print(f"without delay, over seeds {interval(blind.mean(1))}")
    assert interval(with_credit.mean(1).tolist())[1] > 0
