"""The judge as reward, comparing a prompt's answers: who meets whom, what an answer is worth, abstentions, faults."""

from types import SimpleNamespace

import pytest
from fakes import ScriptedJudge, asked_judge
from test_config import BASE, fault, written
from test_stages import prompt

from cai.config.load import read_experiment
from cai.config.sections import Judge
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import Abstained, Label
from cai.judge.asking import judge_pairs
from cai.train.rl.judged import compared_reward, games_of, win_shares

PROMPTS = [prompt("1"), prompt("2")]
# P(the first is better) by the words of the two; what is not here cannot be read.
P = {("good", "fair"): 0.75, ("good", "bad"): 1.0, ("fair", "bad"): 0.5, ("bad", "good"): 0.25, ("poor", "good"): 0.125}


def verdicts(pairs):
    return [
        Label(pair.id, P[pair.a, pair.b], "ai") if (pair.a, pair.b) in P else Abstained(pair.id, "it mumbled")
        for pair in pairs
    ]


def said(*texts: str) -> list:
    return [[{"role": "assistant", "content": f" {text}\n"}] for text in texts]


def test_who_meets_whom():
    assert games_of(3, "pairs") == [(0, 1), (0, 2), (1, 2)]
    assert games_of(3, "circle") == [(0, 1), (1, 2), (2, 0)]
    assert len(games_of(6, "pairs")) == 15 and games_of(6, "circle")[-2:] == [(4, 5), (5, 0)]
    assert games_of(2, "pairs") == games_of(2, "circle") == [(0, 1)], "two answers meet once"


@pytest.mark.parametrize(
    ("judging", "expected"),
    [
        ("pairs", [0.875, 0.375, 0.25]),  # good (0.75 + 1)/2, fair (0.25 + 0.5)/2, bad (0 + 0.5)/2
        ("circle", [0.75, 0.375, 0.375]),  # bad meets good first: good (0.75 + 0.75)/2, bad (0.5 + 0.25)/2
    ],
)
def test_three_answers_by_hand(judging, expected):
    reward, paid = compared_reward(verdicts, PROMPTS, games_of(3, judging))
    given = reward(prompt_id=["1"] * 3, completions=said("good", "fair", "bad"))
    assert given == expected and sum(expected) == 1.5
    assert paid() == {"judged": 3, "abstained": 0, "win_share": expected[0]}


def test_what_cannot_be_read_is_left_out_and_is_no_tie():
    assert win_shares({(0, 1): 0.75, (0, 2): None, (1, 2): None}, 3) == [0.75, 0.25, None]
    reward, paid = compared_reward(verdicts, PROMPTS, games_of(3, "pairs"))
    given = reward(prompt_id=["1"] * 3 + ["2"] * 3, completions=said("good", "fair", "hm", "hm", "ah", "eh"))
    assert given == [0.75, 0.25, None, None, None, None]
    assert paid() == {"judged": 6, "abstained": 5, "win_share": 0.75}, "of groups that have a game"


def test_the_same_words_are_a_draw_that_nobody_is_asked_about():
    asked = []

    def counted(pairs):
        asked.extend(pairs)
        return verdicts(pairs)

    reward, _ = compared_reward(counted, PROMPTS, games_of(3, "pairs"))
    assert reward(prompt_id=["1"] * 3, completions=said("good", "good", "bad")) == [0.75, 0.75, 0.0]
    assert [(pair.a, pair.b) for pair in asked] == [("good", "bad")], "asked once, though it is two games"
    assert reward(prompt_id=["1"] * 3, completions=said("a", "a", "a")) == [0.5, 0.5, 0.5] and len(asked) == 1


def test_on_held_out_prompts_the_reward_is_to_beat_the_sft_policy():
    reward, paid = compared_reward(verdicts, PROMPTS, games_of(4, "circle"))
    given = reward(prompt_id=["1", "2", "1"], completions=said("good", "poor", "hm"), baseline=["fair", "good", "bad"])
    assert given == [0.75, 0.125, None]
    assert paid() == {}, "of rollouts alone"


def test_a_judge_that_reads_nothing_stops_the_first_rollout_and_no_later_one():
    reward, _ = compared_reward(verdicts, PROMPTS, games_of(2, "pairs"))
    rows = {"prompt_id": ["1", "1"], "completions": said("hm", "ah")}
    with pytest.raises(UserError, match="can read no pair of the first answers: it mumbled"):
        reward(**rows, trainer_state=SimpleNamespace(global_step=0))
    assert reward(**rows, trainer_state=SimpleNamespace(global_step=1)) == [None, None]


def test_both_orders_are_asked_so_that_a_liking_for_a_place_is_worth_nothing():
    """Log-odds 2 for what is shown first, and 1 for "kind" in either place: P = sigmoid(1)."""

    def script(question):
        shown = question.chat[-1].content
        return (2.0 + (1 if shown.index("kind words") < shown.index("a shrug") else -1), 0.0)

    engine = ScriptedJudge(lambda question: tuple(x - 5 for x in script(question)))
    judge = asked_judge(Judge(method="choice", min_mass=0.0), [Judging("k", "Choose the better.", (), 1.0)])
    by_judge = lambda pairs: judge_pairs(engine, pairs, judge, title="")  # noqa: E731
    reward, _ = compared_reward(by_judge, PROMPTS, games_of(2, "pairs"))
    given = reward(prompt_id=["1", "1"], completions=said("kind words", "a shrug"))
    assert given == pytest.approx([0.731059, 0.268941], abs=1e-6) and len(engine.questions) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rl: {method: online_dpo, batch_size: 7}\n", "mine.yaml:3: batch_size (7 answers) is no multiple"),
        ("rl: {method: online_dpo, num_generations: 4}\n", "mine.yaml:3: method: online_dpo learns from pairs"),
        ("rl: {method: grpo, judging: pairs, num_generations: 1}\n", "mine.yaml:3: rl.num_generations must be"),
        ("rl: {method: grpo, judging: rank}\n", "mine.yaml:3: rl.judging"),
        ("rl: {method: ppo, judging: pairs}\n", "judging says how the judge compares the answers of a group, and"),
        ("rl: {method: direct, judging: pairs}\n", "and method: direct has none"),
        ("rl: {method: online_dpo}\nlabels: human\n", "asks the judge about fresh answers and reads no label"),
        ("rl: {method: rloo, judging: circle}\nlabels: human\n", "rl.method: rloo asks the judge about fresh answers"),
        ("rl: {method: rloo, judging: alone}\njudge: {combine: vote}\n", "there is nothing to vote on"),
        ("rl: {method: online_dpo}\njudge: {method: choice, shots: 2}\n", "judge.shots are for labels"),
        ("rl: {method: online_dpo}\njudge: {slim: wanda}\n", "slim: is measured on its labels"),
        ("rl: {method: online_dpo}\njudge: {method: auto}\n", "judge.method: auto knows only"),
        ("rl: {method: online_dpo}\njudge: {calibrate: true}\n", "calibrate: is for labels"),
        ("rl: {method: online_dpo}\npairs: {source: policy}\nrounds: 2\n", "online_dpo reads no label"),
        ("rl: {method: online_dpo, kl_target: 2}\n", "method: online_dpo cannot hold a kl_target"),
        ("rl: {method: grpo, judging: pairs, feedback: {log: x}}\n", "method: grpo with judging has no reward model"),
        ("rl: {method: grpo, judging: pairs}\ncriteria: {a: {constitution: c.txt}}\n", "grpo reads the judge"),
    ],
)  # fmt: skip
def test_faults_of_the_config(tmp_path, text, expected):
    (tmp_path / "c.txt").write_text("- Choose the response that is good.\n")
    assert expected in fault(tmp_path, BASE.replace("answers}", "answers, calibration: 0.2}") + text)


def test_a_judge_that_compares_needs_no_labels_and_no_reward_model(tmp_path):
    text = BASE + "judge: {method: choice, combine: vote}\narms:\n  a: {rl: {method: online_dpo}}\n"
    arms = read_experiment(written(tmp_path, text + "  b: {rl: {method: rloo, judging: circle}}\n")).arms
    assert [arm.rl.asked for arm in arms.values()] == ["pairs", "circle"]
    assert not any(arm.rl.reads_labels or arm.rl.reads_rewards for arm in arms.values())
