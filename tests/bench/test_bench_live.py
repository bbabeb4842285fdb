"""The benchmark of live feedback on a tiny random model: that it runs, keeps its answers, and measures what it says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from cai.annotate.voice import Drawn
from cai.bench import live
from cai.bench.__main__ import main as bench
from cai.bench.live_forms import FORMS, Bank, best_possible, gains
from cai.bench.raters import MEASURES, on_topic, polite, short
from cai.core.errors import UserError
from cai.core.records import Message, Prompt
from cai.train.live.features import AnswerFeatures

IDS = [f"helpful-{number:03d}" for number in (1, 2, 4, 3, 6, 9)]  # three of train, three of test
SMALL = ["live", "--model", "tiny-random", "--candidates", "3", "--tokens", "8", "--ids", *IDS]


def test_measures_by_hand():
    assert short("", "one two three") == -3
    # Two courteous words of seven; of three words the share is of six.
    assert polite("", "Sure, I can say that to you") == pytest.approx(2 / 7)
    assert polite("", "Thank you all") == pytest.approx(2 / 6)
    # "sharpen" and "knives" take up two of the question's things, in four words, which count as six.
    assert on_topic("How do I sharpen a kitchen knife?", "Sharpening knives is fun") == pytest.approx((1 / 6) ** 0.5)
    assert on_topic("How do I sharpen a knife, and knives?", "Sharpening knives is fun") == pytest.approx(
        (2 / 6) ** 0.5
    )


def test_what_may_be_asked_for_is_what_there_is():
    assert (tuple(FORMS), tuple(MEASURES)) == (live.FORMS, live.TASTES)


def test_gains_are_over_the_mean_of_the_same_answers_in_sd_of_all():
    """Lengths 1, 2, 3 to each of two prompts: the sd is sqrt(2/3), and the shortest is 1 better than the mean."""
    chats = [(Message("user", "a"),), (Message("user", "b"),)]
    answers = [
        Drawn((1,), (" ".join("x" * n),), AnswerFeatures(np.full((1, 1), float(n)), np.zeros(1))) for n in (1, 2, 3)
    ]
    bank = Bank("d", dict.fromkeys(chats, answers), {"short": short})
    fresh = [Prompt(f"p{i}", chat, "all", "test") for i, chat in enumerate(chats)]
    likes = lambda sign: SimpleNamespace(  # noqa: E731
        predict=lambda read: (np.array([sign * answer.states_TD[0, 0] for answer in read]), None)
    )
    assert gains(bank, fresh, "short", likes(-1)) == pytest.approx([1.5**0.5] * 2)
    assert gains(bank, fresh, "short", likes(1)) == pytest.approx([-(1.5**0.5)] * 2)
    assert best_possible(bank, fresh, "short") == pytest.approx(1.5**0.5)


def test_it_runs_and_draws_its_answers_once(tmp_path, capsys, monkeypatch):
    words = [*SMALL, "--feedbacks", "4", "--raters", "2", "--bank", str(tmp_path), "--tastes", "short", "--json"]
    bench(words)
    first = json.loads(capsys.readouterr().out)
    assert len(list(tmp_path.glob("*.npz"))) == 6
    rows = {(row["form"], row["taste"]): row["gain"] for row in first["gains"]}
    assert set(rows) == {(form, taste) for form in ("pairs", "words", "thumbs") for taste in ("short", "all")}
    assert all(gain["clusters"] == 3 for gain in rows.values())
    monkeypatch.setattr("cai.bench.live_forms.open_voice", lambda *_: pytest.fail("it draws again"))
    bench(words)
    again = json.loads(capsys.readouterr().out)
    assert again["gains"][0]["gain"]["value"] == pytest.approx(first["gains"][0]["gain"]["value"], abs=0.2)


def test_what_a_policy_keeps_is_measured_and_a_run_goes_on(tmp_path, capsys):
    words = [*SMALL, "--feedbacks", "6", "--bank", str(tmp_path), "--tastes", "short", "--json", "--policy"]
    bench([*words, "1"])
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    bench([*words, "2"])  # from the first rollout's checkpoint
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(first["reward"]) == 1 and len(second["reward"]) == 2
    assert second["reward"][0] == pytest.approx(first["reward"][0]) and np.isfinite(second["gain"]["value"])
    assert (tmp_path / "short-6.jsonl").read_text().count('"chosen"') >= 6


def test_what_cannot_be_measured_is_said(tmp_path):
    with pytest.raises(UserError, match="it has no prompt helpful-999"):
        bench([*SMALL, "helpful-999"])
    with pytest.raises(UserError, match="1 of these prompts are of train"):
        bench([*SMALL[:-6], "helpful-001", "helpful-003", "helpful-006"])
    with pytest.raises(UserError, match="keeps its checkpoints"):
        bench([*SMALL, "--policy", "1"])
