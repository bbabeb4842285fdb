"""The gold reward: which prompts it looks at, what a judge and a reward model say of an answer, what decides it."""

from pathlib import Path

import pytest
from fakes import ScriptedJudge
from test_config import BASE
from test_score import tiny_reward_model, tiny_tokenizer
from test_stages import artifact, prompt

from cai.config.load import read_experiment
from cai.config.rl import Gold, Rl
from cai.config.runtime import Runtime
from cai.config.sections import Judge, Policy
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.store import canonical
from cai.core.templates import load_template
from cai.core.textstats import distinct
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef, find
from cai.models.workbench import Workbench
from cai.train.rl.given import OnlineRun
from cai.train.rl.gold import NO_WORDS, by_judge, by_reward_model, held_out, yardstick
from cai.train.trainable import Trainable

KIND = Judging("kind", "Choose the kind response.", (), 1.0)
SOURCE = ModelRef("a judge", "", "d")


class Bench:
    runtime = Runtime()
    device = "cpu"

    def __init__(self, engine=None) -> None:
        self._engine = engine

    def engine(self, source, *, dtype, system):
        return self._engine


def judged(script, **judge):
    judge = Judge(**{"principles": 1, "min_mass": 0.1} | judge)
    templates = {name: load_template(name) for name in ("rate", "choice")}
    asked = ScriptedJudge(script)
    stick = {"model": SOURCE, "judge": judge, "judging": (KIND,), "templates": templates, "seed": 0}
    prompts = [prompt("one", "calibration"), prompt("two", "calibration")]
    return by_judge(Bench(asked), prompts, Policy(), None, "float32", stick), asked


def rating(question) -> tuple[float, float]:
    """log P(Yes), log P(No) of an answer alone: 3 to 1 for one that thanks, even odds for any other."""
    text = question.chat[-1].content
    return (-0.2877, -1.3863) if "Thanks" in text else (-0.6931, -0.6931)


def test_a_judge_says_how_much_better_than_the_sft_policys_an_answer_is():
    gold, asked = judged(rating)
    # Prompt 1: 3 to 1 against even odds, log 3. Prompt 2: the same words as before.
    assert gold(["Thanks!", "Go."], ["Well.", "Go."]) == [pytest.approx(1.0986, abs=1e-3), 0.0]
    assert gold(["Well.", "Go."], ["Well.", "Go."]) == [0.0, 0.0]
    assert gold(["Go.", "Thanks!"], ["Thanks!", "Go."]) == [
        pytest.approx(-1.0986, abs=1e-3),
        pytest.approx(1.0986, abs=1e-3),
    ]
    assert all("kind response" in repr(question.chat) for question in asked.questions)


def test_a_method_that_shows_both_answers_can_be_gold_too():
    # Log-odds of 1 for thanks where they are shown first, of 0 where they are shown second: 0.5 on the whole.
    def choose(question):
        text = question.chat[-1].content
        return (-0.5, -1.5) if -1 < text.find("Thanks") < text.find("Well") else (-1.5, -1.5)

    gold, _ = judged(choose, method="choice")
    assert gold(["Thanks", "Go."], ["Well", "Go."])[0] == pytest.approx(0.5)


def test_an_answer_without_words_is_judged_and_what_cannot_be_read_is_left_out():
    gold, asked = judged(lambda question: None if "two" in repr(question.chat) else rating(question))
    assert gold(["", "Thanks"], ["Well", "Well"]) == [pytest.approx(0.0), None]
    assert any(NO_WORDS in question.chat[-1].content for question in asked.questions)


def test_a_judge_that_can_read_nothing_is_a_fault_at_the_first_look():
    gold, _ = judged(lambda question: (-9.0, -9.0))
    with pytest.raises(UserError, match="can read no answer: too little probability"):
        gold(["a", "b"], ["a", "b"])


def test_a_reward_model_says_it_by_the_difference_of_its_rewards(tmp_path):
    from cai.train.rl.reward_models import reward_function

    model, tokenizer = tiny_reward_model(3), tiny_tokenizer()
    model.save_pretrained(tmp_path / "gold")
    tokenizer.save_pretrained(tmp_path / "gold")
    prompts = [prompt("one", text="hello"), prompt("two", text="w3")]
    stick = {"model": find(str(tmp_path / "gold")), "seed": 0}
    gold = by_reward_model(Bench(), prompts, Policy(system=None), tokenizer, "float32", stick)
    score = reward_function(model, tokenizer, "cpu")
    chats = [[{"role": "user", "content": text}] for text in ("hello", "w3")]
    now, then = (
        score(chats, [[{"role": "assistant", "content": t}] for t in texts]) for texts in (["yes", "no"], ["no", "no"])
    )
    assert gold(["yes", "no"], ["no", "no"]) == [pytest.approx(now[0] - then[0], abs=1e-5), 0.0]
    assert abs(now[0] - then[0]) > 1e-3


def test_only_a_trained_reward_model_will_do(tiny):
    stick = {"model": tiny, "seed": 0}
    with pytest.raises(UserError, match="no trained head"):
        by_reward_model(Bench(), [prompt("one")], Policy(), load_tokenizer(tiny), "float32", stick)


def look_at(tmp_path: Path, tiny, splits, gold: Gold | None, **rl):
    data = artifact(tmp_path / "data", prompts=[prompt(name, split) for name, split in splits])
    settings = Rl(gold=gold, **{"max_new_tokens": 5, "temperature": 0.5} | rl)
    stick = {"model": SOURCE, "judge": Judge(), "judging": (), "templates": {}, "seed": 4} if gold else None
    start = Trainable(tiny, Policy(system="Be kind."), "float32", role="sft")
    run = OnlineRun(start=start, data=data, helpful=None, revisions=data, settings=settings, gold=stick, seed=0)
    return held_out(Bench(), run, load_tokenizer(tiny))  # pyrefly: ignore


SPLITS = [(f"{split}{n}", split) for split in ("train", "test", "calibration") for n in range(6)]


def test_it_looks_at_calibration_prompts_alone_and_always_at_the_same(tmp_path, tiny):
    held = look_at(tmp_path, tiny, SPLITS, Gold(prompts=4, every=7, keep="last"))
    assert len(held.ids) == 4 == len(set(held.seeds)) and all(name.startswith("calibration") for name in held.ids)
    assert held.chats[0][0].content == "Be kind." and held.chats[0][1].content == f"Question {held.ids[0]}?"
    assert (held.every, held.keep, held.sampling.temperature, held.sampling.max_new_tokens) == (7, "last", 0.5, 5)
    assert held.by == "judge a judge"
    again = look_at(tmp_path, tiny, SPLITS[::-1], Gold(prompts=4))
    assert (again.ids, again.seeds) == (held.ids, held.seeds)
    assert look_at(tmp_path, tiny, SPLITS, None) is None


def test_too_few_prompts_are_a_fault(tmp_path, tiny):
    with pytest.raises(UserError, match=r"of its 0 prompts 0 fit.*\n.*raise it"):
        look_at(tmp_path, tiny, SPLITS[:12], Gold())
    with pytest.raises(UserError, match="of its 6 prompts 0 fit"):
        look_at(tmp_path, tiny, SPLITS, Gold(), max_prompt_tokens=3)


def test_gold_without_calibration_prompts_is_a_fault_of_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(BASE + "rl:\n  gold: {every: 2}\n")
    with pytest.raises(UserError, match=r"rl\.gold needs prompts that nothing else is trained or reported on"):
        read_experiment(file)


def test_the_yardstick_is_part_of_the_key_only_as_far_as_it_is_read():
    settings = {"constitution": "constitutions/short.txt", "data": {"source": "rated-answers", "calibration": 0.2}}
    from cai.config.load import Arm

    arm, work = Arm.model_validate(settings), Workbench.open(Runtime(device="cpu"))
    assert yardstick(arm, work) is None
    judge = yardstick(Arm.model_validate(settings | {"rl": {"gold": {}}}), work)
    assert judge is not None and set(judge) == {"model", "judge", "judging", "templates", "seed"}
    canonical(judge)
    model = yardstick(Arm.model_validate(settings | {"rl": {"gold": {"by": "tiny-random"}}, "seed": 3}), work)
    assert model == {"model": find("tiny-random"), "seed": 3}


def test_distinct_by_hand():
    # ab, bc, ab, cd: 3 of 4 are distinct; a, b, c, a, b, c, d: 4 of 7.
    assert distinct(["A b c", "a b", "c d"]) == 0.75
    assert distinct(["a b c", "a b", "c d"], n=1) == pytest.approx(4 / 7)
    assert distinct(["a", ""]) == 0
