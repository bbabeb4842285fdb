"""Live feedback in an experiment: `rl.feedback` end to end, which policy is talked to, and the page in a browser."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from test_config import BASE, fault
from test_experiment import lay_out

from cai.annotate.__main__ import main as annotate
from cai.annotate.live import Session
from cai.annotate.talk import find_policy
from cai.annotate.voice import Voice
from cai.compare.cells import Cell
from cai.config.load import read_experiment
from cai.config.sections import Policy
from cai.core.errors import UserError
from cai.core.records import Message, Prompt
from cai.core.store import Store
from cai.data.feedback import FeedbackLog
from cai.experiment.command import main
from cai.experiment.pipeline import train
from cai.models.engines import Sampling
from cai.models.workbench import Workbench
from cai.train.live import tamer

pytest.importorskip("uvicorn", reason="the extra `annotate` is not installed")

SHARED = """
constitution: law.txt
labels: human
policy: {model: tiny-random, lora_rank: 4}
data: {source: pairs.jsonl, test: 0.3}
helpful: null
revise: {prompts: 4, rounds: 1, max_new_tokens: 8}
sft: {batch_size: 4}
pairs: {max_new_tokens: 10}
reward: {batch_size: 4}
rl: {steps: 2, batch_size: 4, max_new_tokens: 6, epochs: 2}
"""
ARMS = """arms:
  plain: {}
  told: {rl: {feedback: {log: feedback.jsonl, weight: 2, decay: 0.5}}}
"""


def trained_arms(overrides: Sequence[str] = (), plan: bool = False) -> tuple[dict[str, Cell], list[str]]:
    """The arms of mine.yaml as far as their policies, and the stages that had to be run, or would have to be."""
    experiment = read_experiment(Path("mine.yaml"), overrides)
    work = Workbench.open(experiment.runtime)
    store = Store(work.root, plan=plan)
    cells = {name: train(store.stage_with(work), work, name, arm, 0) for name, arm in experiment.arms.items()}
    return cells, [made.stage for made in store.ledger.values() if not made.cached]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """A folder in which two arms were trained: one without feedback, one with what was said of the start policy."""
    folder = tmp_path_factory.mktemp("live")
    lay_out(folder)
    (folder / "mine.yaml").write_text(SHARED + ARMS)
    voice = Voice(tiny, dtype="float32", device="cpu", system=Policy().system, sampling=Sampling(10), batch_tokens=4096)
    prompts = [Prompt(f"p{i}", (Message("user", f"Question {i}?"),), "all", "train") for i in range(6)]
    talk = Session("mine", voice, prompts, FeedbackLog(folder / "feedback.jsonl"), form="words")
    for number in range(6):
        (said,) = talk.say("ann", None, False)["answers"]
        shown = [0.1 * place for place in range(said["tokens"])]
        talk.press("ann", said["id"], 1 if number % 2 else -1, 60.0, shown, 0.1 * said["tokens"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained_arms()
    return folder


@pytest.fixture
def here(finished, monkeypatch):
    monkeypatch.chdir(finished)
    return finished


def test_a_policy_is_trained_with_a_persons_share_in_its_reward(here):
    cells, _ = trained_arms(plan=True)

    def of(arm: str, file: str) -> dict[str, Any]:
        return json.loads((cells[arm].policy / file).read_text())

    told, plain = of("told", "counts.json"), of("plain", "counts.json")
    assert (told["live feedback: feedbacks"], told["live feedback: good"], told["live feedback: bad"]) == (6, 3, 3)
    assert told["human reward spread on the SFT answers"] > 0
    assert not any("feedback" in name for name in plain)
    assert cells["told"].reward == cells["plain"].reward
    # The same first answers; what they are worth differs.
    rewards = [of(arm, "curves.json")["reward"] for arm in ("told", "plain")]
    assert len(rewards[0]) == 2 and rewards[0][0] != rewards[1][0]


def test_the_key_has_the_logs_contents_and_not_its_place(here, tmp_path):
    def stale(*overrides: str) -> list[str]:
        return trained_arms(overrides, plan=True)[1]

    assert stale() == []
    (tmp_path / "copy.jsonl").write_bytes((here / "feedback.jsonl").read_bytes())
    moved = f"arms.told.rl.feedback.log={tmp_path / 'copy.jsonl'}"
    assert stale(moved) == []
    assert stale("arms.told.rl.feedback.decay=0.6") == stale("arms.told.rl.feedback.weight=1.5") == ["train_ppo"]
    rows = (tmp_path / "copy.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "copy.jsonl").write_text("".join(rows[:-1]))
    assert stale(moved) == ["train_ppo"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rl: {method: dpo, feedback: {log: x}}\n", "mine.yaml:3: method: dpo has no reward model for live feedback"),
        ("rl: {feedback: {log: x, decay: 2}}\n", "mine.yaml:3: rl.feedback.decay must be"),
        ("rl: {feedback: {log: x, weight: 0}}\n", "mine.yaml:3: rl.feedback.weight must be"),
        ("rl: {feedback: {logs: x}}\n", 'did you mean "log"?'),
    ],
)
def test_faults_of_the_config(tmp_path, text, said):
    assert said in fault(tmp_path, BASE + text)


def test_a_log_that_is_not_there_is_a_fault_before_the_first_minute(here):
    with pytest.raises(UserError, match="no log of live feedback"):
        main(["mine.yaml", "--plan", "--set", "arms.told.rl.feedback.log=none.jsonl"])


def test_which_policy_is_talked_to(here):
    sft, told = (find_policy(Path("mine.yaml"), name) for name in ("sft", "told/0"))
    cells, _ = trained_arms(plan=True)
    assert Path(sft.model.place).parent == cells["plain"].sft.path
    assert Path(told.model.place).parent == cells["told"].policy.path
    assert {prompt.split for prompt in sft.prompts} == {"train"} and len(sft.prompts) > 5


def test_a_policy_of_a_run_with_set_is_talked_to_with_the_same_set(here, monkeypatch):
    """Without it, the file as it stands is another experiment, whose policy nobody has trained."""
    Path("set.yaml").write_text((SHARED + ARMS).replace("lora_rank: 4", "lora_rank: 2"))
    for place, given in (("set.yaml", "policy.lora_rank=4"), ("mine.yaml", "policy.lora_rank=4")):
        found = find_policy(Path(place), "told/0", [given])
        assert found.model == find_policy(Path("mine.yaml"), "told/0").model
    with pytest.raises(UserError, match="not trained yet"):
        find_policy(Path("set.yaml"), "told/0")
    served: list[Session] = []
    monkeypatch.setattr("cai.annotate.server.talking", lambda session, pace: served.append(session))
    monkeypatch.setattr("cai.annotate.__main__._open", lambda *_: None)
    with pytest.raises(UserError, match=r"set\.yaml: the policy .* is not trained yet"):
        annotate(["--live", "set.yaml", "--policy", "told/0", "--out", "set.jsonl"])
    words = ["--live", "set.yaml", "--policy", "told/0", "--out", "set.jsonl", "--set", "policy.lora_rank=4"]
    assert annotate([*words, "--set", "pairs.max_new_tokens=7"]) == 0
    (session,) = served
    assert session.form == "pairs"
    assert all(answer["tokens"] <= 7 for answer in session.say("ann", None, False)["answers"])
    with pytest.raises(UserError, match="did you mean"):
        annotate([*words, "--set", "policy.lora_rnk=4"])


def test_what_cannot_be_talked_to_is_said(here, capsys):
    for name, said in (("tld/0", 'did you mean "told/0"'), ("told/7", "no policy")):
        with pytest.raises(UserError) as error:
            annotate(["--live", "mine.yaml", "--policy", name])
        assert said in str(error.value)
    Path("best.yaml").write_text(SHARED + "arms: {best: {rl: {method: best_of_n}}}\n")
    with pytest.raises(UserError, match="the best of several answers of sft and no model"):
        annotate(["--live", "best.yaml", "--policy", "best/0"])
    with pytest.raises(UserError, match="cannot be shown"):
        annotate(["--live", "mine.yaml", "--pace", "0"])
    with pytest.raises(UserError, match="this file is no log of live feedback"):
        annotate(["--live", "mine.yaml", "--out", "pairs.jsonl"])
    Path("other.yaml").write_text(SHARED + "runtime: {root: elsewhere}\n")
    with pytest.raises(UserError) as error:
        annotate(["--live", "other.yaml"])
    assert "train_sft has not been run" in str(error.value)
    assert "python -m cai.experiment other.yaml makes it" in str(error.value)
    with pytest.raises(SystemExit):
        annotate(["--live", "mine.yaml", "--export", "x"])
    assert "--live talks to a policy" in capsys.readouterr().err


# The page -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def address(here, request, monkeypatch) -> Iterator[str]:
    """A server on the SFT policy, at a pace that a test can wait for, in the form of its parameter."""
    from cai.annotate.server import HOST, guarded_server, listen

    Path("talk.jsonl").unlink(missing_ok=True)
    apps: list[Any] = []
    monkeypatch.setattr("cai.annotate.__main__._open", lambda server, app, port: apps.append(app))
    assert annotate(["--live", "mine.yaml", "--pace", "8", "--out", "talk.jsonl", "--form", request.param]) == 0
    listener = listen(0)
    port = listener.getsockname()[1]
    server = guarded_server(apps[0], port, "secret")
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://{HOST}:{port}/?token=secret"
    server.should_exit = True
    thread.join()


@pytest.fixture
def goes_on(monkeypatch) -> Event:
    """Answers stop behind their fourth token until it is set, and no press is of the same feedback as the one before:
    so it plays no part how fast page and test are."""
    from cai.annotate import server

    flows, whole = Event(), server.events

    async def events(pieces: tuple[str, ...], pace: float) -> AsyncIterator[str]:
        number = 0
        async for event in whole(pieces, pace):
            while number == 4 and not flows.is_set():
                await asyncio.sleep(0.01)
            yield event
            number += 1

    monkeypatch.setattr(server, "events", events)
    monkeypatch.setattr(tamer, "BURST", -1.0)
    return flows


def wait_until(page: Any, holds: Any, what: str) -> None:
    """Playwright's own wait needs eval, which the page's policy forbids."""
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, f"{what}; {page.locator('#fault').inner_text()}"
        page.wait_for_timeout(20)


@pytest.mark.parametrize("address", ["words"], indirect=True)
def test_a_talk_in_a_browser(address, page, here, goes_on):
    log = lambda: FeedbackLog(Path("talk.jsonl"))  # noqa: E731
    presses = lambda: [one for rows in log().given.values() for one in rows]  # noqa: E731
    page.goto(address)
    page.locator("#name").fill("ann")
    page.keyboard.press("Enter")
    page.locator("#work:visible").wait_for()
    assert "token" not in page.url

    # The next prompt: its answer streams, and the arrows are feedback while it does.
    page.keyboard.press("Enter")
    wait_until(page, lambda: page.locator(".token").count() >= 4, "the answer does not appear")
    page.keyboard.press("ArrowDown")
    wait_until(page, lambda: len(presses()) == 1, "the press is not in the log")
    goes_on.set()
    (first,) = presses()
    (answer,) = log().answers.values()
    assert first.value == -1 and first.ended is None and 4 <= len(first.shown) <= len(answer.tokens)
    assert first.shown == tuple(sorted(first.shown)) and first.shown[-1] <= first.seconds
    wait_until(page, lambda: page.locator("#send").is_enabled(), "the answer does not end")
    assert page.locator("#chat .turn.assistant .text").inner_text().split() == answer.text.split()

    # After it has ended: + is feedback outside the text field, and a letter within it.
    page.keyboard.type("a+b")
    assert page.locator("#text").input_value() == "a+b" and len(presses()) == 1
    page.locator("#up").click()
    page.keyboard.press("+")
    wait_until(page, lambda: len(presses()) == 3, "the presses are not in the log")
    assert [one.value for one in presses()] == [-1, 1, 1] and presses()[2].ended is not None
    assert page.locator("#tally").inner_text() == "+1"
    wait_until(page, lambda: "2, 1" in page.locator("#facts").inner_text(), "the counts do not follow")
    assert page.locator(".token.good").count() > 0

    # Something of one's own, and text that tries to break out.
    page.locator("#text").fill("<img src=x onerror=alert(1)> hello")
    page.keyboard.press("Enter")
    wait_until(page, lambda: len(log().answers) == 2, "it is not answered")
    wait_until(page, lambda: page.locator("#send").is_enabled(), "the answer does not end")
    assert [message.role for message in list(log().answers.values())[1].messages] == ["user", "assistant", "user"]
    assert page.locator("#chat img").count() == 0 and page.faults == []

    # Who comes back finds the talk as it was.
    page.goto(address)
    page.locator("#names button", has_text="ann").click()
    wait_until(page, lambda: page.locator("#chat .turn").count() == 4, "the talk is gone")
    assert "3 feedbacks" in page.locator("#pace").inner_text()
    refused = page.context.request.get(
        address.partition("/?")[0] + "/api/stream?answer=x", headers={"sec-fetch-site": "cross-site"}
    )
    assert refused.status == 403


@pytest.mark.parametrize("address", ["pairs"], indirect=True)
def test_two_answers_in_a_browser(address, page, here):
    log = lambda: FeedbackLog(Path("talk.jsonl"))  # noqa: E731
    page.goto(address)
    page.locator("#name").fill("ann")
    page.keyboard.press("Enter")
    page.locator("#work:visible").wait_for()
    assert not page.locator("#signs").is_visible()

    # The next prompt: two answers, as they are in the log, and a key for one of them.
    page.keyboard.press("Enter")
    wait_until(page, lambda: page.locator("#right").is_enabled(), "the answers do not appear")
    wait_until(page, lambda: page.locator("#send").is_enabled(), "the page still waits")
    left, right = log().answers.values()
    shown = [page.locator(f"#{side} .text").inner_text().split() for side in ("left", "right")]
    assert shown == [left.text.split(), right.text.split()]
    page.wait_for_timeout(300)  # a key that quick was meant for something else
    page.keyboard.press("ArrowRight")
    wait_until(page, lambda: len(log().choices) == 1, "the choice is not in the log")
    (choice,) = log().choices.values()
    assert (choice.left, choice.right, choice.chosen) == (left.id, right.id, right.id) and 0.2 < choice.seconds < 60
    wait_until(page, lambda: page.locator("#right").is_disabled(), "a pair can be chosen from twice")
    assert page.locator("#chat .turn.assistant .text").inner_text().split() == right.text.split()
    wait_until(page, lambda: "1 feedback" in page.locator("#pace").inner_text(), "the counts do not follow")

    # Something of one's own goes on with the chosen one; a click is a choice too.
    page.locator("#text").fill("And <b>then</b>?")
    page.keyboard.press("Enter")
    wait_until(page, lambda: page.locator("#left").is_enabled(), "it is not answered")
    wait_until(page, lambda: page.locator("#send").is_enabled(), "the page still waits")
    page.wait_for_timeout(300)
    page.locator("#left").click()
    wait_until(page, lambda: len(log().choices) == 2, "the click is not in the log")
    third, _ = list(log().answers.values())[2:]
    assert [message.content for message in third.messages][-2:] == [right.text, "And <b>then</b>?"]
    assert log().choices[third.id, list(log().answers)[3]].chosen == third.id
    assert page.locator("#chat b").count() == 0 and page.faults == []

    # Who comes back finds the talk as it was.
    page.goto(address)
    page.locator("#names button", has_text="ann").click()
    wait_until(page, lambda: page.locator("#chat .turn").count() == 4, "the talk is gone")
