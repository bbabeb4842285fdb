"""`rl.method`: every way to make a policy, end to end; rewards by the judge itself; the best of n answers; faults."""

import json
import re
from pathlib import Path

import pytest
from fakes import ScriptedJudge, asked_judge
from test_another_method import BESIDE
from test_config import BASE, fault, written
from test_experiment import EXPERIMENT, lay_out, planned
from test_stages import Talker, artifact, prompt

from cai.config.load import read_experiment
from cai.config.rl import Rl
from cai.config.sections import Judge, Policy
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import Response, Revision, Round, read_jsonl
from cai.core.store import canonical
from cai.core.templates import load_template
from cai.experiment.command import main
from cai.judge.asking import judge_answers
from cai.models.engines import Reply, Sampling
from cai.models.references import ModelRef
from cai.train.respond import Picker, respond_best
from cai.train.rl.methods.best_of_n import best_of_n
from cai.train.rl.online import left_out
from cai.train.rl.rewards import judged_reward
from cai.train.trainable import Draws, PromptSet, Trainable

METHODS = ("ppo", "rloo", "grpo", "direct", "online_dpo", "dpo", "best_of_n")
ONLINE = ("ppo", "rloo", "grpo", "direct", "online_dpo")
JUDGED = ("direct", "online_dpo")
KEPT = dict.fromkeys(ONLINE, ", snapshots: 1")
ARMS = "arms:\n" + "".join(f"  {name}: {{rl: {{method: {name}{KEPT.get(name, '')}}}}}\n" for name in METHODS)
ARMS += "  circle: {rl: {method: rloo, judging: circle, num_generations: 4, gold: null}}\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """A folder in which all have run, as arms of one experiment."""
    folder = tmp_path_factory.mktemp("methods")
    lay_out(folder)
    shared = EXPERIMENT[: EXPERIMENT.index("arms:")].replace("max_new_tokens: 6, epochs: 1", "max_new_tokens: 6")
    shared = shared.replace("  helpful: 2\n  transcripts: 2\n", "  helpful: 0\n  transcripts: 1\n")
    for line in BESIDE:
        shared = shared.replace(line, "")
    (folder / "mine.yaml").write_text(shared + ARMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["mine.yaml"]) == 0
    return folder


def results(folder: Path) -> dict:
    return json.loads((folder / "runs/mine/results.json").read_text())


def test_every_method_leaves_a_policy_that_is_measured(finished):
    links = json.loads((finished / "runs/mine/links.json").read_text())
    for method in METHODS:
        policy = finished / links[f"{method}/0"]["policy"]
        assert (policy / "curves.json").is_file() and (policy / "counts.json").is_file()
        assert (policy / "model").is_dir() == (method != "best_of_n")
        assert ("reward" in links[f"{method}/0"]) == (method not in ("dpo", *JUDGED))
        assert ("labels" in links[f"{method}/0"]) == (method not in JUDGED)
    assert not {"reward", "labels"} & set(links["circle/0"])
    measures = {measure["key"]: measure["arms"] for measure in results(finished)["measures"]}
    for method in METHODS:
        assert measures["win_rate_vs_sft"][method]["n"] == 4 and measures["words"][method]["n"] == 4
        assert measures["reward_ppo"][method]["n"] == 4, "the reward model scores policies that did not learn from it"
    assert measures["reward_accuracy"]["direct"]["n"] == 0 < measures["reward_accuracy"]["rloo"]["n"]
    # Four arms have one reward model: it is trained, and shown, once.
    assert [key for key in measures if key.startswith("reward_")] == ["reward_accuracy", "reward_ppo"]
    assert [stage["stage"] for stage in results(finished)["stages"]].count("train_reward") == 1


def test_the_same_curves_where_they_mean_the_same(finished):
    curves = {(curve["title"], line["arm"]): line for curve in results(finished)["curves"] for line in curve["lines"]}
    online, ours = {*ONLINE, "circle"}, {"online_dpo", "circle"}
    for title, without in {
        "reward (normalised)": ours, "clip fraction": {"online_dpo"}, "answer length, tokens": set(),
        "entropy, nats a token": set(), "how sure the judge is of a prompt's better answer": online - ours,
    }.items():  # fmt: skip
        arms = {arm for name, arm in curves if name == f"policy: {title}"}
        assert arms == online - without | ({"dpo"} if "entropy" in title else set()), title
    for arm in online:
        line = curves["policy: KL to the SFT policy, nats an answer", arm]
        assert line["x"] == [1, 2], "one row a rollout, however many epochs are made of it"
        if arm != "grpo":  # whose KL is also that of the second epoch, after an update
            assert line["y"][0] == pytest.approx(0, abs=1e-6)
    bound = curves["policy: KL to the SFT policy, nats an answer", "best_of_n"]["y"]
    assert bound == [pytest.approx(1.386294 - 0.75, abs=1e-5)]  # log 4 - 3/4
    for arm in ("dpo", "online_dpo"):
        assert curves["DPO: loss on its own labels", arm]["y"][0] == pytest.approx(0.6931, abs=1e-4)
    page = (finished / "runs/mine/report.html").read_text()
    assert all(method in page for method in METHODS)


def test_every_online_method_keeps_policies_on_the_way(finished):
    links = json.loads((finished / "runs/mine/links.json").read_text())
    rows = results(finished)["snapshots"]
    for arm in ONLINE:
        policy = finished / links[f"{arm}/0"]["policy"]
        on_the_way, last = (
            (policy / name / "adapter_model.safetensors").read_bytes() for name in ("snapshots/1", "model")
        )
        kept = json.loads((policy / "gold.json").read_text())["kept"]  # what the random judge likes, and keeps
        assert (on_the_way == last) == (kept == 1)
        way = {row["policy"]: row for row in rows if row["arm"] == arm}
        assert {name: row["rollout"] for name, row in way.items()} == {"sft": 0, f"{arm}/0 at 1": 1, f"{arm}/0": kept}
        assert all(row["elo"]["n"] > 0 and row["harmlessness"]["n"] == 4 for row in way.values())
    assert len(rows) == 3 * len(ONLINE)


def test_the_counts_say_what_was_drawn_and_judged(finished):
    counts = {(row["what"], row["arm"]): row["n"] for row in results(finished)["counts"]}
    assert counts["red-team answers: drawn", "best_of_n/0"] == 16  # 4 prompts, 4 answers each
    assert counts["policy: judge: SFT answers it cannot read", "direct/0"] == 0
    assert counts["policy: best of", "best_of_n/0"] == 4
    for arm, judged in {"online_dpo/0": 2 * 2, "circle/0": 2 * 4}.items():  # two rollouts of four answers
        assert counts["policy: pairs judged", arm] == judged
        assert counts["policy: pairs that the judge could not read", arm] == 0


def test_a_plan_estimates_each_and_a_second_run_does_nothing(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert planned() == {}
    assert set(planned(["rl.learning_rate=1e-3"])) >= {f"train_{m}" for m in METHODS if m != "best_of_n"}
    again = {"best_of_n", "respond_best", "score_answers", "play", "rate_answers"}
    assert set(planned(["rl.best_of=3"])) == again
    assert main(["mine.yaml", "--plan", "--all", "--set", "rl.epochs=5000", "--set", "rl.best_of=900"]) == 0
    said = capsys.readouterr().out
    for stage in (
        "train_ppo",
        "train_rloo",
        "train_grpo",
        "train_direct",
        "train_online_dpo",
        "train_dpo",
        "respond_best",
    ):
        found = re.search(rf"to run +{stage} +[0-9a-f]+ +(?:at least |about )([\d.]+) (s|min|h)", said)
        assert found, f"{stage}:\n{said}"
        assert found[2] != "s" or float(found[1]) >= 3, f"{stage}, which is not in the table, is said to take 1 s"


def test_direct_alone_needs_neither_labels_nor_pairs_of_the_policy(finished, monkeypatch):
    monkeypatch.chdir(finished)
    stages = planned(['arms={"direct": {"rl": {"method": "direct"}}}', "rl.kl_coef=0.07"])
    assert "train_direct" in stages and not {"label_by_judge", "train_reward", "score_pairs"} & set(stages)


def test_the_method_is_the_stage_and_no_part_of_its_key():
    assert canonical(Rl(method="rloo", best_of=9)) == canonical(Rl())


# --- rewards by the judge ---------------------------------------------------------------------------------------------

KIND = Judging("kind", "Choose the response that is kind.", (), 1.0)
SAFE = Judging("safe", "Choose the response that is safe.", (), 3.0)
TEMPLATES = {"rate": load_template("rate"), "score": load_template("score")}
# (log P(Yes), log P(No)) by answer and principle; "mumbled" holds too little probability to be read.
SAID = {
    ("good", "kind"): (-0.5, -2.5), ("good", "safe"): (-1.0, -2.0),  # 2 and 1
    ("bad", "kind"): (-3.0, -1.0), ("bad", "safe"): (-2.0, -1.5),  # -2 and -0.5
    ("fair", "kind"): (-1.0, -1.0), ("fair", "safe"): (-9.0, -9.0),  # 0, and unreadable
}  # fmt: skip


def says(question):
    text = question.chat[-1].content
    answer = re.search(r"Assistant: (\w+)", text)[1]
    if answer == "mumbled":
        return (-9.0, -9.0)
    return SAID[answer, "kind" if "is kind." in text else "safe"]


def test_an_answer_is_worth_the_mean_log_odds_of_its_principles():
    engine = ScriptedJudge(says)
    answers = [(prompt("1"), text) for text in ("good", "bad", "fair", "mumbled", "good")]
    judge = asked_judge(Judge(principles="all", min_mass=0.1), (KIND, SAFE))
    found = judge_answers(engine, answers, judge, title="")
    # Weights 1 and 3: (2 + 3)/4, (-2 - 1.5)/4; of "fair" one principle can be read, of "mumbled" none.
    assert found == [1.25, -0.875, 0.0, None, 1.25]
    assert len(engine.questions) == 8, "two answers that are equal are asked about once"


def test_the_mean_rating_by_score():
    half = ScriptedJudge(lambda question: (-0.7,) + (-99.0,) * 8 + (-0.7,))
    found = judge_answers(half, [(prompt("1"), "x")], asked_judge(Judge(method="score"), [KIND]), title="")
    assert found == [pytest.approx(5.5)]


def test_direct_rewards_are_the_judges_log_odds_normalised_on_the_sft_answers():
    def revised(text: str) -> Revision:
        return Revision(prompt("known"), "draft", (Round("kind", "critique", text),))

    judge = Judge(principles="all", min_mass=0.1)
    known = [revised("good"), revised("bad"), revised("mumbled")]
    reward, found = judged_reward(
        ScriptedJudge(says), [prompt("1"), prompt("2")], known, asked_judge(judge, (KIND, SAFE))
    )
    # 1.25 and -0.875: mean 0.1875, spread 1.0625.
    assert found == {"mean": 0.1875, "spread": 1.0625, "SFT answers it cannot read": 1}
    answers = [[{"role": "assistant", "content": text}] for text in (" good\n", "mumbled", "fair")]
    given = reward(prompt_id=["1", "1", "2"], completions=answers, prompts=["not read"] * 3)
    assert given == [pytest.approx(1.0), None, pytest.approx(-0.1875 / 1.0625)]
    with pytest.raises(UserError, match="the judge can read no answer of the SFT policy"):
        judged_reward(ScriptedJudge(says), [], [revised("mumbled")] * 3, asked_judge(judge, [KIND]))


def test_answers_without_a_reward_are_counted():
    assert left_out([{"unscored": 0.25}, {"unscored": 0.0}, {"unscored": 0.125}], 8) == {"answers without a reward": 3}
    assert left_out([{"unscored": 0.0}], 8) == {}


# --- best of n --------------------------------------------------------------------------------------------------------


class Shelf:
    """Stands for the workbench: an engine by script, and a reward model that is not looked at."""

    def __init__(self, engine) -> None:
        self._engine, self.runtime = engine, type("Runtime", (), {"batch_tokens": 99})

    def engine(self, source, *, dtype, system):
        return self._engine

    def reward_model(self, source, dtype):
        return None


def test_the_best_of_three_is_the_one_that_the_reward_model_likes_best(tmp_path, tiny, monkeypatch):
    """Draw d of prompt n reads "n d"; of prompt 0 the last is liked best, of 1 only one can be scored, of 2 none, and
    of 3 all are liked alike. The first draw is the SFT policy's own."""
    rewards = {"0": (0.1, -1.0, 0.7), "1": (None, -5.0, None), "2": (None,) * 3, "3": (0.5, 0.5, 0.5)}
    asked: dict[str, list[int]] = {}

    def script(request, title):
        name = re.search(r"Question (\d)", request.chat[-1].content)[1]
        asked.setdefault(name, []).append(request.seed)
        return Reply(f"{name} {len(asked[name]) - 1}", "stop")

    def score(model, tokenizer, chats, **_):
        words = [chat[-1].content.split() for chat in chats]
        return [rewards[name][int(draw)] for name, draw in words]

    monkeypatch.setattr("cai.models.score.score", score)
    data = artifact(tmp_path / "data", prompts=[prompt(str(n), "test") for n in range(4)])
    common = {"prompts": PromptSet(data, "test"), "model": Trainable(tiny, Policy(), "float32")}
    common |= {"draws": Draws(Sampling(4), 0)}
    out = tmp_path / "out"
    out.mkdir()
    respond_best(out, Shelf(Talker(script)), picker=Picker(tiny, n=3, max_length=99), **common)  # pyrefly: ignore
    best = {row.prompt_id: row.text for row in read_jsonl(out / "responses.jsonl", Response)}
    assert best == {"0": "0 2", "1": "1 1", "2": "2 0", "3": "3 0"}
    counts = json.loads((out / "counts.json").read_text())
    drawn = {"drawn": 12, "could not be scored": 5, "prompts whose first answer is the best": 2}
    aside = {"answers without a word": 0, "prompts set aside: too long for the model": 0}
    assert counts == {"prompts asked": 4, **aside, **drawn}
    assert all(len(set(seeds)) == 3 for seeds in asked.values())

    from cai.train.respond import respond

    alone = Talker(lambda request, title: Reply("x", "stop"))
    (tmp_path / "alone").mkdir()
    respond(tmp_path / "alone", Shelf(alone), **common)  # pyrefly: ignore
    assert {request.seed for request in alone.asked} == {seeds[0] for seeds in asked.values()}, (
        "the SFT policy's own draw"
    )


def test_the_kl_of_best_of_n_is_bounded(tmp_path):
    best_of_n(tmp_path, None, sft=ModelRef("sft", "", ""), reward=ModelRef("r", "", ""), n=16)  # pyrefly: ignore
    (kl,) = json.loads((tmp_path / "curves.json").read_text())["kl"]
    assert kl == pytest.approx(2.772589 - 15 / 16, abs=1e-5)
    assert json.loads((tmp_path / "policy.json").read_text()) == {"answers of": "sft", "picked by": "r", "n": 16}


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rl: {method: pppo}\n", 'did you mean "ppo"?'),
        ("rl: {method: rloo, kl_target: 2}\n", "mine.yaml:3: method: rloo cannot hold a kl_target"),
        ("rl: {method: best_of_n, kl_stop: 0.1}\n", "mine.yaml:3: method: best_of_n cannot hold a kl_stop"),
        ("rl: {method: dpo, beta: 0}\n", "mine.yaml:3: rl.beta must be a number above 0"),
        ("rl: {method: best_of_n, best_of: 1}\n", "mine.yaml:3: rl.best_of must be"),
        ("rl: {method: direct}\njudge: {method: auto}\ndata: {calibration: 0.2}\n", ""),
        ("rl: {method: direct}\njudge: {combine: vote}\n", "there is nothing to vote on"),
        ("rl: {method: direct}\nlabels: human\n", "mine.yaml:4: rl.method: direct asks the judge about each answer"),
    ],
)
def test_faults_of_the_config(tmp_path, text, said):
    assert said in fault(tmp_path, BASE + text)


def test_direct_takes_a_mix_of_methods_that_read_one_answer(tmp_path):
    text = BASE + "rl: {method: direct}\njudge: {method: {rate: 1, score: 2}}\n"
    assert read_experiment(written(tmp_path, text)).arms["ai"].rl.method == "direct"
