"""Live feedback without a browser: the log, a session on it, and the human reward as a part of the reward in RL."""

import json
import threading
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_score import tiny_policy, tiny_tokenizer

from cai.annotate.live import Session, candidates
from cai.annotate.voice import Drawn, Voice, pieces
from cai.core.errors import UserError
from cai.core.records import Message, Prompt
from cai.data.feedback import Feedback, FeedbackLog, ShownAnswer
from cai.data.input_file import feedback_file
from cai.models.engines import Sampling
from cai.models.loading import load_tokenizer, save
from cai.train.live.features import AnswerFeatures, statistics
from cai.train.live.reward import Annealing, Shaped, of_log, read_answers, states_of

PROMPTS = [Prompt(f"p{i}", (Message("user", f"Question {i}?"),), "all", "train") for i in range(3)]
# One token a second, four tokens; the whole answer is credited long after its end.
TIMES = {"shown": (0.0, 1.0, 2.0, 3.0), "ended": 4.0, "seconds": 30.0}


class Kinds:
    """A voice whose answers are of two kinds, told apart by their one feature: draw n of a turn is good if n is odd."""

    digest, room = "d", 1000

    def ids(self, chat):
        return [0] * sum(len(message.content.split()) for message in chat)

    def answers(self, chat, seeds):
        return [self._drawn("good" if place % 2 else "bad") for place in range(len(seeds))]

    def _drawn(self, word):
        tokens = (1 if word == "good" else 0, 2, 3, 4)
        return Drawn(tokens, (word, " a", " b", " c"), self.read([(None, tokens)])[0])

    def read(self, answers):
        return [
            AnswerFeatures(np.full((4, 1), 1.0 if tokens[0] else -1.0, np.float32), np.zeros(1))
            for _, tokens in answers
        ]


def session(path, form="words", **options) -> Session:
    return Session("x", Kinds(), PROMPTS, FeedbackLog(path), form=form, **options)  # pyrefly: ignore


def say(talk, text=None, fresh=False, rater="ann"):
    """The id of the one answer, in the form `words`."""
    said = talk.say(rater, text, fresh)
    return said | {"answer": said["answers"][0]["id"]}


def press(talk, said, value, rater="ann", **times):
    return talk.press(rater, said["answer"], value, **TIMES | times)


# The log --------------------------------------------------------------------------------------------------------------


def test_rows_are_what_the_module_says(tmp_path):
    talk = session(tmp_path / "l")
    said = say(talk)
    press(talk, said, -1, seconds=2.5, shown=(0.0, 1.0, 2.0), ended=None)
    answer, feedback = map(json.loads, (tmp_path / "l").read_text().splitlines())
    assert answer.pop("at")[:2] == feedback.pop("at")[:2] == "20"
    assert answer.pop("id") == feedback.pop("answer") == said["answer"]
    first = talk.prompts[0]
    assert answer == {
        "rater": "ann", "policy": "d", "prompt_id": first.id, "candidates": 1, "predicted": None, "error": None,
        "messages": [{"role": "user", "content": first.messages[0].content}], "tokens": [0, 2, 3, 4],
        "pieces": ["bad", " a", " b", " c"],
    }  # fmt: skip
    assert feedback == {"rater": "ann", "value": -1, "seconds": 2.5, "shown": [0.0, 1.0, 2.0], "ended": None}


def test_a_press_is_on_the_disk_before_anything_is_learned(tmp_path, monkeypatch):
    talk = session(tmp_path / "l")
    said = say(talk)

    def fails(*_):
        assert (tmp_path / "l").read_text().count('"value"') == 1
        raise MemoryError

    monkeypatch.setattr("cai.annotate.live.learn", fails)
    with pytest.raises(MemoryError):
        press(talk, said, 1)
    assert (tmp_path / "l").read_text().count('"value"') == 1


def test_faulty_rows_are_named_and_nothing_else_is_lost(tmp_path):
    path = tmp_path / "l"
    talk = session(path)
    said = say(talk)
    press(talk, said, 1)
    answer, good = map(json.loads, path.read_text().splitlines())
    rows = [good | {"answer": "none"}, good | {"value": 0}, good | {"value": 1e9}, good | {"seconds": -1}, good]
    rows += [good | {"shown": [0.0, 3.0, 1.0, 4.0]}, good | {"shown": [0.0]}, good | {"rater": "ben"}, answer, [1]]
    with path.open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows) + '{"answer": "answer-')
    log = FeedbackLog(path)
    assert len(log.given[said["answer"]]) == 2
    assert log.count() == {
        "feedback on an answer that is not in the log": 1, "a value out of range": 2, "seconds out of range": 1,
        "times that no answer can have been shown at": 2, "feedback by another rater than the answer was shown to": 1,
        "an answer that stands twice": 1, "a row that is no feedback": 1, "a half-written line": 1,
    }  # fmt: skip
    assert log.faults[-1] == (f"{path}:13", "a half-written line")
    before = path.read_text()
    press(session(path), said, -1)  # closes the torn line off
    assert path.read_text().startswith(before + "\n")
    assert [one.value for one in FeedbackLog(path).given[said["answer"]]] == [1, 1, -1]
    assert session(path).learned("ann")["faults"]["a half-written line"] == 1


def test_two_sessions_that_write_at_once_lose_nothing_and_learn_from_each_other(tmp_path):
    talks = [session(tmp_path / "l") for _ in range(2)]

    def chat(talk):
        for _ in range(10):
            press(talk, say(talk), 1)

    threads = [threading.Thread(target=chat, args=(talk,)) for talk in talks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = FeedbackLog(tmp_path / "l")
    assert (len(log.answers), sum(map(len, log.given.values())), log.faults) == (20, 20, [])
    assert [talk.state("ann")["learned"]["feedbacks"] for talk in talks] == [20, 20]


def test_the_contents_of_a_log_are_its_digest(tmp_path):
    talk = session(tmp_path / "l")
    said = say(talk)
    (tmp_path / "copy").write_bytes((tmp_path / "l").read_bytes())
    first, copy = feedback_file(str(tmp_path / "l")), feedback_file(str(tmp_path / "copy"))
    press(talk, said, 1)
    assert first.digest == copy.digest != feedback_file(str(tmp_path / "l")).digest
    with pytest.raises(UserError, match="no log of live feedback"):
        feedback_file(str(tmp_path / "none"))


# A session ------------------------------------------------------------------------------------------------------------


def test_more_answers_are_drawn_as_more_is_known(tmp_path):
    assert [candidates(n) for n in (0, 4, 5, 9, 10, 19, 20, 500)] == [1, 1, 2, 2, 4, 4, 8, 8]
    talk = session(tmp_path / "l")
    shown = []
    for _ in range(16):
        said = say(talk)
        good = talk.shown(said["answer"]).pieces[0] == "good"
        shown.append((said["candidates"], good))
        press(talk, said, 1 if good else -1)
    assert [n for n, _ in shown] == [1] * 5 + [2] * 5 + [4] * 6
    # Until something else than "bad" has been shown nothing is known of it: it is found by exploration, and kept.
    assert not any(good for _, good in shown[:5]) and all(good for _, good in shown[-5:])
    last = talk.log.of("ann")[-1]
    assert last.predicted > 0 and last.error > 0


def test_who_comes_back_goes_on_where_they_stopped(tmp_path):
    talk = session(tmp_path / "l")
    first = say(talk)
    press(talk, first, 1)
    say(talk, "And then?")
    told, again = talk.state("ann"), session(tmp_path / "l").state("ann")
    assert again == told
    roles = [message["role"] for message in again["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert again["messages"][2]["content"] == "And then?"
    assert again["suggestion"][0]["content"] == talk.prompts[1].messages[0].content
    assert (again["prompts"], again["learned"]["feedbacks"]) == ({"seen": 1, "total": 3}, 1)
    assert session(tmp_path / "l").welcome()["raters"] == [{"name": "ann", "done": 1}]
    fresh = session(tmp_path / "l").say("ann", "Hi", True)
    assert fresh["messages"] == [{"role": "user", "content": "Hi"}]


def test_prompts_come_round_again_and_silence_teaches_nothing(tmp_path):
    talk = session(tmp_path / "l")
    order = [talk.shown(say(talk)["answer"]).prompt_id for _ in range(5)]
    assert order[:3] == [prompt.id for prompt in talk.prompts] and order[3:] == order[:2]
    assert talk.learned("ann") == {
        "feedbacks": 0, "good": 0, "bad": 0, "choices": 0, "answers": 5, "silent": 5, "correlation": None,
        "candidates": 1, "faults": {},
    }  # fmt: skip
    assert talk.reward("ann") is None


def test_each_rater_teaches_for_themselves(tmp_path):
    talk = session(tmp_path / "l")
    said = say(talk)
    press(talk, said, 1)
    assert talk.learned("ben")["feedbacks"] == 0
    with pytest.raises(UserError, match="shown to ann"):
        press(talk, said, 1, rater="ben")


def test_a_press_says_what_it_was_about_and_several_add(tmp_path):
    talk = session(tmp_path / "l")
    said = say(talk)
    # Of seconds 0 to 2.3: one each of the first two tokens, 0.3 of the third.
    told = press(talk, said, 1, seconds=2.5, shown=(0.0, 1.0, 2.0), ended=None)
    assert told["credit"] == pytest.approx([1 / 2.3, 1 / 2.3, 0.3 / 2.3], abs=1e-4)
    told = press(talk, said, 1, seconds=2.7, shown=(0.0, 1.0, 2.0), ended=None)
    assert (told["feedbacks"], told["good"]) == (1, 1)
    assert talk.reward("ann").values_N.tolist() == [2.0]
    assert press(talk, said, -1, seconds=0.1, shown=(0.0,), ended=None)["credit"] == []
    assert talk.learned("ann")["feedbacks"] == 1, "nobody can have read anything by then"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": 0}, "value out of range"),
        ({"value": float("nan")}, "value out of range"),
        ({"seconds": -1.0}, "seconds out of range"),
        ({"shown": (0.0,) * 5}, "times that no answer"),
        ({"shown": (0.0,)}, "times that no answer"),  # it cannot have ended with tokens to come
    ],
)
def test_a_press_that_cannot_be_is_refused_and_not_logged(tmp_path, change, said):
    talk = session(tmp_path / "l")
    answer = say(talk)["answer"]
    with pytest.raises(UserError, match=said):
        talk.press("ann", answer, **{"value": 1, **TIMES, **change})
    assert (tmp_path / "l").read_text().count("\n") == 1


def test_what_cannot_be_answered_is_said(tmp_path):
    talk = session(tmp_path / "l", raters=("ann",))
    for text, said in (("  ", "say something"), ("x" * 5000, "at most 4000"), ("word " * 1500, "at most 4000")):
        with pytest.raises(UserError, match=said):
            talk.say("ann", text, True)
    with pytest.raises(UserError, match="too long for this policy"):
        talk.say("ann", "x " * 1400, True)
    with pytest.raises(UserError, match="did you mean"):
        talk.say("anne", None, False)
    with pytest.raises(UserError, match="no such answer"):
        talk.shown("answer-0")


# Two answers ----------------------------------------------------------------------------------------------------------


def both(talk, text=None, rater="ann", likes="good"):
    """A turn in the form `pairs`, and the choice of the answer that begins with this word (the left one of equals)."""
    said = talk.say(rater, text, False)
    left, right = said["answers"]
    chosen = right if right["text"].startswith(likes) and not left["text"].startswith(likes) else left
    return said, talk.choose(rater, left["id"], right["id"], chosen["id"], 1.5), chosen


def test_of_two_answers_one_is_chosen_and_the_talk_goes_on_with_it(tmp_path):
    talk = session(tmp_path / "l", form="pairs")
    said, after, _ = both(talk)
    left, right = said["answers"]
    assert (said["candidates"], left["text"], right["text"]) == (2, "bad a b c", "good a b c")
    row = json.loads((tmp_path / "l").read_text().splitlines()[2])
    assert row.pop("at")[:2] == "20"
    assert row == {"left": left["id"], "right": right["id"], "chosen": right["id"], "rater": "ann", "seconds": 1.5}
    assert after["messages"][-1] == {"role": "assistant", "content": "good a b c"}
    assert (after["feedbacks"], after["choices"], after["silent"], after["answers"]) == (1, 1, 0, 2)
    said = talk.say("ann", "And then?", False)
    assert [message["content"] for message in said["messages"][-2:]] == ["good a b c", "And then?"]
    again = session(tmp_path / "l", form="pairs")
    assert again.state("ann") == talk.state("ann")
    assert again.welcome()["raters"] == [{"name": "ann", "done": 1}] and again.welcome()["form"] == "pairs"


def test_choices_teach_what_is_shown_next(tmp_path):
    talk = session(tmp_path / "l", form="pairs")
    for _ in range(25):
        both(talk)
    good, bad = (talk.reward("ann").predict([talk.voice._drawn(word).read])[0][0] for word in ("good", "bad"))
    assert good - bad > 0.3
    # Eight answers, four of them good: once that is known, two good ones stand beside each other.
    assert all(answer.pieces[0] == "good" for answer in talk.log.of("ann")[-6:])
    assert talk.learned("ann")["correlation"] is None or talk.learned("ann")["correlation"] <= 1


def test_the_last_choice_between_two_answers_stands(tmp_path):
    talk = session(tmp_path / "l", form="pairs")
    said, _, _ = both(talk)
    left, right = (answer["id"] for answer in said["answers"])
    after = talk.choose("ann", left, right, left, 9.0)
    assert after["feedbacks"] == 1 and talk.reward("ann").values_N.tolist() == [1.0]
    assert session(tmp_path / "l").reward("ann").values_N.tolist() == [1.0]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"left": "answer-0"}, "a choice between answers that are not in the log"),
        ({"chosen": "answer-0"}, "a choice of neither answer"),
        ({"seconds": -1.0}, "seconds out of range"),
        ({"seconds": float("inf")}, "seconds out of range"),
        ({"rater": "ben"}, "a choice by another rater than the answers were shown to"),
        ({"right": "same"}, "a choice between answers that are not two to one conversation"),
        ({"right": "other"}, "a choice between answers that are not two to one conversation"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_and_in_a_file_it_is_named(tmp_path, change, fault):
    path = tmp_path / "l"
    talk = session(path, form="pairs")
    other = talk.say("ann", None, False)["answers"][0]["id"]
    left, right = (answer["id"] for answer in talk.say("ann", None, False)["answers"])
    given = {"rater": "ann", "left": left, "right": right, "chosen": left, "seconds": 1.0} | change
    given["right"] = {"same": left, "other": other}.get(given["right"], given["right"])
    with pytest.raises(UserError, match=fault):
        talk.choose(**given)
    assert path.read_text().count("\n") == 4
    with path.open("a") as file:
        file.write(json.dumps(given | {"at": ""}) + "\n")
    assert FeedbackLog(path).faults == [(f"{path}:5", fault)]


# Features -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voice(tmp_path_factory) -> Voice:
    from cai.models.references import find

    folder = tmp_path_factory.mktemp("words") / "model"
    model = tiny_policy()
    for name, weight in model.named_parameters():
        weight.data *= 1 if "norm" in name else 8  # so that what comes before a token moves its state
    save(model, tiny_tokenizer(), folder)
    sampling = Sampling(12, 1.0)
    return Voice(find(str(folder)), dtype="float32", device="cpu", system=None, sampling=sampling, batch_tokens=60)


def test_states_are_those_after_each_token_whatever_the_batch(voice):
    rows = [([1, 5, 8], [9, 10]), ([1, 5], [8, 9, 9, 11]), ([1, 6, 6, 6], []), ([1], [12])]
    found = states_of(voice.model, rows, 0, 20)
    assert [one.shape for one in found] == [(2, 32), (4, 32), (0, 32), (1, 32)]
    for (prompt, answer), states_TD in zip(rows, found, strict=True):
        for place in range(len(answer)):
            ids = torch.tensor([[*prompt, *answer[: place + 1]]])
            alone = voice.model(ids, output_hidden_states=True).hidden_states[1][
                0, -1
            ]  # of two layers, below the second
            assert states_TD[place] == pytest.approx(alone.detach().numpy(), abs=1e-4)


def test_a_voice_draws_by_seed_and_says_what_it_drew(voice):
    chat = (Message("user", "hello"),)
    drawn = voice.answers(chat, [1, 2, 3])
    (alone,) = voice.answers(chat, [2])
    assert alone.tokens == drawn[1].tokens
    assert alone.read.states_TD == pytest.approx(drawn[1].read.states_TD, abs=1e-4)
    assert len({one.tokens for one in drawn}) > 1 and 2 not in {token for one in drawn for token in one.tokens}
    assert "".join(drawn[0].pieces) == voice.tokenizer.decode(list(drawn[0].tokens))
    (read,) = voice.read([(chat, drawn[0].tokens)])
    assert read.states_TD == pytest.approx(drawn[0].read.states_TD, abs=1e-4)
    assert read.statistics_F.tolist() == statistics(chat, "".join(drawn[0].pieces)).tolist()


def test_a_character_of_several_tokens_comes_with_the_last(tiny):
    tokenizer = load_tokenizer(tiny)
    ids = tokenizer("aé€b")["input_ids"]
    assert len(ids) == 7
    assert pieces(tokenizer, ids) == ("a", "", "é", "", "", "€", "b")
    assert "".join(pieces(tokenizer, ids[:-2])) == tokenizer.decode(ids[:-2])


# In reinforcement learning --------------------------------------------------------------------------------------------


def test_the_persons_share_decays_and_is_normalised(voice):
    chat = [{"role": "user", "content": "hello"}]
    base = lambda prompts, completions, **_: [0.25, None, -1.0]  # noqa: E731
    said = (Message("user", "hello"),)
    yes, no = (read_answers(voice.model, voice.tokenizer, [(said, [token])], 99)[0].about() for token in (8, 9))
    near = lambda answer, to: ((answer.about() - to) ** 2).sum()  # noqa: E731
    known = SimpleNamespace(
        predict=lambda read: (np.array([3.0 if near(one, yes) < near(one, no) else 1.0 for one in read]), None)
    )
    reward = Shaped(
        base,
        known,
        voice.model,
        voice.tokenizer,
        Annealing(weight=2.0, decay=0.5, updates=3),
        batch_tokens=99,  # pyrefly: ignore
    )
    # Of the SFT answers three are "yes" and one "no": mean 2.5, spread sqrt(0.75).
    assert reward.normalise([(said, [8])] * 3 + [(said, [9]), (said, [])]) == pytest.approx(
        {"mean": 2.5, "spread": 0.75**0.5}
    )
    asked = {
        "prompts": [chat] * 3, "completions": [[{"role": "assistant", "content": "x"}]] * 3,
        "completion_ids": [[8, 2], [8, 2], [2]],
    }  # fmt: skip
    for step, share in ((0, 2.0), (2, 2.0), (3, 1.0), (8, 0.5)):
        given = reward(**asked, trainer_state=SimpleNamespace(global_step=step))
        # "yes" is 0.5 above the mean; the second has no reward; the third said nothing.
        assert given == [pytest.approx(0.25 + share * 0.5 / 0.75**0.5, abs=1e-5), None, -1.0]
    assert reward(**asked) == [0.25, None, -1.0], "a look from outside has no rollout"


def test_features_are_the_reference_policys(voice):
    said, inside = (Message("user", "hello"),), []

    class Reference:
        def __enter__(self):
            inside.append("in")

        def __exit__(self, *_):
            inside.append("out")

    seen = SimpleNamespace(predict=lambda read: (inside.append("read"), np.zeros(len(read)))[::-1])
    # pyrefly: ignore
    reward = Shaped(None, seen, voice.model, voice.tokenizer, Annealing(1, 1, 1), 99)
    reward.reference = Reference  # pyrefly: ignore
    voice.model.train()
    reward._rewards([(said, [8])])
    assert inside == ["in", "out", "read"] and voice.model.training
    voice.model.eval()


def logged(tmp_path, voice, rows) -> FeedbackLog:
    """A log of answers, given by their token ids, with a feedback on each."""
    log = FeedbackLog(tmp_path / "l")
    for place, (ids, value) in enumerate(rows):
        told = pieces(voice.tokenizer, ids)
        chat = (Message("user", "hello"),)
        log.append(ShownAnswer(f"a{place}", "ann", "d", "", chat, tuple(ids), told, 1, None, None, ""))
        times = tuple(float(second) for second in range(len(ids)))
        log.append(Feedback(f"a{place}", "ann", value, 60.0, times, float(len(ids)), ""))
    return log


def test_a_log_is_learned_from_by_the_policys_own_features(voice, tmp_path):
    log = logged(tmp_path, voice, [([8, 12], 1.0), ([9, 12], -1.0)] * 6)
    reward, counts = of_log(log, voice.model, voice.tokenizer, None, 99)
    said = (Message("user", "hello"),)
    yes, no = reward.predict(read_answers(voice.model, voice.tokenizer, [(said, [8]), (said, [9])], 99))[0]
    assert yes > 0.3 and no < -0.3
    assert counts == {"feedbacks": 12, "good": 6, "bad": 6}


def test_a_log_that_cannot_be_learned_from_is_a_fault(voice, tmp_path):
    log = logged(tmp_path, voice, [([8], 1.0)])
    (tmp_path / "silent").write_text((tmp_path / "l").read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="no feedback in this log"):
        of_log(FeedbackLog(tmp_path / "silent"), voice.model, voice.tokenizer, None, 99)
    row = asdict(log.answers["a0"]) | {"id": "a1", "pieces": ["other"]}
    with (tmp_path / "l").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="1 of its 2 answers are in the tokens of another model"):
        of_log(FeedbackLog(tmp_path / "l"), voice.model, voice.tokenizer, None, 99)
