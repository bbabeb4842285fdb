"""Absolute harmfulness: numbers by hand, learning from ratings of training prompts alone, and what is then said."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_stages import artifact, prompt
from transformers import TrainingArguments

from cai.compare.cells import Measured
from cai.compare.report import write_report
from cai.compare.sections.harmfulness import correlation, harmfulness, lines_of_harmfulness, r_squared, within
from cai.config.load import read_experiment
from cai.config.runtime import Runtime
from cai.config.sections import Evaluate, Harmfulness, Policy
from cai.core.errors import UserError
from cai.core.records import Rating, Response, ratings_of, read_jsonl
from cai.core.store import Artifact, Store
from cai.experiment.checks import rated
from cai.experiment.evaluate import score_harm
from cai.models.loading import load_reward, load_tokenizer
from cai.models.workbench import Workbench
from cai.train.harm import rows_of, train_harm
from cai.train.rating_trainer import RatingCollator, RatingTrainer
from cai.train.scores import Score
from cai.train.trainable import Trainable


def close(value: float) -> Any:
    return pytest.approx(value, abs=1e-4)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_correlations_by_hand() -> None:
    # Deviations -1, 0, 1 and -1, 1, 0: 1 / sqrt(2 * 2).
    assert correlation([0, 1, 2], [0, 2, 1], list("abc")).value == close(0.5)
    # Ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5); distances do not matter.
    assert correlation([1, 1, 2, 99], [1, 2, 3, 4], list("abcd"), ranks=True).value == close(0.9487)
    assert correlation([1, 1, 2, 99], [1, 2, 3, 4], list("abcd")).value == close(0.7798)  # 147.5 / 189.14
    never = correlation([1, 1, 1], [1, 2, 3], list("abc"))
    assert never.value != never.value and never.low != never.low and correlation([], [], []).n == 0


def test_the_interval_draws_prompts_as_wholes() -> None:
    x, y = [0.1, 0.4, 0.3, 0.9, 0.6], [0.0, 0.2, 0.5, 0.8, 0.9]
    one, twice = correlation(x, y, list("abcde")), correlation([*x, *x], [*y, *y], list("abcdeabcde"))
    assert (twice.n, twice.clusters) == (10, 5)
    assert (twice.value, twice.low, twice.high) == (close(one.value), close(one.low), close(one.high))


def test_within_a_prompt_only_deviations_count() -> None:
    # Prompt a: -1, 1 and -1, 1. Prompt b: -1, 1 and 1, -1. Prompt c has one answer, whatever it is.
    found = within([0, 2, 10, 12, 99], [0, 2, 5, 3, 99], list("aabbc"))
    assert (found.value, found.n, found.clusters) == (close(0.0), 4, 2)
    assert within([0, 2, 10, 13], [0, 2, 5, 6], list("aabb")).value == close(3.5 / (6.5 * 2.5) ** 0.5)
    assert within([1, 2], [1, 2], list("ab")).n == 0


def test_r_squared_by_hand() -> None:
    assert r_squared([0.5, 0.5], [0, 1], list("ab"), mean=0.5).value == close(0)
    assert r_squared([0.25, 0.75], [0, 1], list("ab"), mean=0.5).value == close(0.75)  # 1 - 0.125 / 0.5
    assert r_squared([1, 0], [0, 1], list("ab"), mean=0.5).value == close(-3)
    assert r_squared([0, 0.5], [0, 1], list("ab"), mean=0).value == close(
        0.75
    )  # the mean of the training ratings, not theirs


# --- training ---------------------------------------------------------------------------------------------------------


def ratings(folder: Path, count: int = 24) -> Artifact:
    """Answers to prompts of both splits; those that say "bomb" were rated harmful. One is too long."""
    prompts = [prompt(f"{split}{n}", split) for split in ("train", "test") for n in range(count // 4)]
    rows = [
        Rating(p.id, f"{'bomb' if harm else 'bread'} {n}", "panel", (0.9, 1.0) if harm else (0.1, 0.0))
        for n, p in enumerate(prompts)
        for harm in (True, False)
    ]
    rows.insert(1, Rating("train0", "bomb " * 99, "panel", (1.0, 1.0)))
    return artifact(folder, prompts=prompts, ratings=rows)


POLICY = Policy(model="tiny-random", system=None, training="full")
SETTINGS = Harmfulness(epochs=12, learning_rate=3e-3, batch_size=4, max_length=200)


def test_only_training_prompts_are_learnt_from_and_what_is_left_out_is_counted(tmp_path, tiny):
    data, tokenizer = ratings(tmp_path / "data"), load_tokenizer(tiny)
    assert [one.id for one, _ in ratings_of(data, "test")][::2] == [f"test{n}" for n in range(6)]
    rows, counts = rows_of(data, tokenizer, POLICY, SETTINGS.model_copy(update={"answers": 10}), seed=0)
    texts = [tokenizer.decode(row["ids"]) for row in rows]
    assert len(rows) == 10 and not any("Question test" in text for text in texts)
    assert all(row["rating"] == close(0.95 if "bomb" in text else 0.05) for row, text in zip(rows, texts, strict=True))
    assert list(counts.values()) == [13, 1, 2]
    assert rows_of(data, tokenizer, POLICY, SETTINGS, seed=0)[0][:10] == rows  # a higher cap only adds
    assert rows_of(data, tokenizer, POLICY, SETTINGS, seed=1)[0][:10] != rows


def test_a_batch_is_read_in_parts_of_like_length_and_weighs_each_row_alike(tmp_path, tiny):
    rows = [{"ids": [1] * n, "rating": n / 100} for n in (20, 2, 19, 1)]
    parts = RatingCollator(0)(rows)["parts"]  # 20 and 19 pad 1 of 40, 2 and 1 would pad 1 of 4
    assert [part["attention_mask"].sum(1).tolist() for part in parts] == [[20, 19], [2], [1]]
    assert [part["ratings"].tolist() for part in parts] == [pytest.approx(r) for r in ([0.2, 0.19], [0.02], [0.01])]
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", remove_unused_columns=False)
    trainer = RatingTrainer(load_reward(tiny, "float32", "cpu"), args, rows, load_tokenizer(tiny), None)
    loss = trainer.compute_loss(trainer.model, {"parts": parts})  # a fresh head says 0 of everything
    assert loss.item() == close((0.2**2 + 0.19**2 + 0.02**2 + 0.01**2) / 4)


def test_nothing_to_learn_from_is_said(tmp_path, tiny):
    with pytest.raises(UserError, match="none of 13 rated answers") as caught:
        rows_of(ratings(tmp_path / "data"), load_tokenizer(tiny), POLICY, Harmfulness(max_length=5), seed=0)
    assert "max_length (5 tokens)" in caught.value.remedy
    none = artifact(tmp_path / "none", prompts=[prompt("one")], ratings=[])
    with pytest.raises(UserError, match="none of 0 rated answers"):
        rows_of(none, load_tokenizer(tiny), POLICY, SETTINGS, seed=0)


def cell(data: Artifact, name: str = "ai/0", **evaluate) -> Any:
    arm, _, seed = name.partition("/")
    settings = SimpleNamespace(
        evaluate=Evaluate(**evaluate), policy=POLICY, seed=0, data=SimpleNamespace(source="rated-answers"),
        labels=SimpleNamespace(file=None),
    )  # fmt: skip
    who = {"name": name, "names": (name,), "arm": arm, "seed": int(seed)}
    return SimpleNamespace(**who, settings=settings, data=data, labellers={arm: None}, policy="made", pretrained=None)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, tiny) -> tuple[Any, Measured]:
    """The stages as the pipeline runs them: people's ratings, the fit, held-out answers and two policies' own."""
    folder = tmp_path_factory.mktemp("harm")
    data, measured = ratings(folder / "data"), Measured(None)
    for name, word in (("start", "bomb"), ("ai/0", "bread")):
        said = [Response(f"test{n}", f"{word} {n}", name, "stop") for n in range(6)]
        measured.answers[name, "red-team"] = replace(artifact(folder / word, responses=said), digest=word)
    measured.answers["ai/0", "helpful"] = artifact(folder / "helpful", responses=[])
    work = Workbench.open(Runtime(root=str(folder / "runs"), device="cpu"))
    one = cell(data, harmfulness=SETTINGS)
    score_harm(Store(work.root).stage_with(work), [one], measured, "float32")
    return one, measured


def test_it_learns_what_people_find_harmful_and_policies_are_scored_by_it(scored):
    one, measured = scored
    found = harmfulness([one], measured)
    assert found is not None and found.trained_on == 12 and found.mean == close(0.5)
    assert (found.held_out, found.too_long, found.predicts) == (12, 0, True)
    score = found.checks[0]
    assert score.pearson.value > 0.9 and score.r2.low > 0.5 and score.within.value > 0.9
    harm = {row.policy: row.harmfulness.value for row in found.policies}
    assert list(harm) == ["start", "ai/0"] and harm["start"] > harm["ai/0"] + 0.5
    losses = json.loads((measured.harm["model"] / "curves.json").read_text())["loss"]
    assert max(losses[:3]) > 0.4 and losses[-1] < 0.05  # a zero head says 0, and is off by 0.95² for each bomb


def test_the_same_seed_makes_the_same_score(scored, tmp_path, tiny):
    one, measured = scored
    work = Workbench.open(Runtime(root=str(tmp_path), device="cpu"))
    given = {"start": Trainable(tiny, POLICY, "float32"), "settings": SETTINGS, "seed": 0}
    again = Store(tmp_path).stage(train_harm, runtime=work, ratings=one.data, **given)
    assert again.digest == measured.harm["model"].digest


def test_where_it_was_not_asked_for_nothing_is_done(tmp_path):
    measured = Measured(None)
    # pyrefly: ignore
    score_harm(lambda *_, **__: pytest.fail("a stage ran"), [cell(ratings(tmp_path / "data"))], measured, "float32")
    assert measured.harm == {} and harmfulness([], measured) is None and lines_of_harmfulness([], measured) == []


# --- what is made of the scores ---------------------------------------------------------------------------------------


def made(folder: Path, scores: list[float | None], sets: dict[str, list[float | None]]) -> Measured:
    """Three held-out prompts with two answers each: people say 0, 1; 0, 1; and two people 0 and 0.5 of both."""
    folder.mkdir()
    prompts = [prompt("train", "train"), *(prompt(name, "test") for name in "abc")]
    given = [("a", "no", (0.0,)), ("a", "yes " * 8, (1.0,)), ("b", "no", (0.0,)), ("b", "yes " * 9, (1.0,))]
    given += [("c", "I'm sorry, but I can't help.", (0.0, 0.5)), ("c", "no no no", (0.0, 0.5))]
    rows = [Rating(name, text, "panel", scores) for name, text, scores in given]
    measured = Measured(None)
    measured.harm["data"] = artifact(
        folder / "data", prompts=prompts, ratings=[Rating("train", "x", "p", (0.5,)), *rows]
    )
    measured.harm["model"] = artifact(folder / "model")
    (folder / "model/fit.json").write_text(json.dumps({"answers": 7, "mean": 0.5}))
    held = [Score(row.prompt_id, "", score) for row, score in zip(rows, scores, strict=True)]
    measured.harm["held-out"] = artifact(folder / "held", scores=held)
    for name, values in sets.items():
        found = [Score(prompt_id, "", value) for prompt_id, value in zip("abc", values, strict=True)]
        measured.harm_scores[name] = artifact(folder / name.replace("/", "-"), scores=found)
    return measured


POLICIES: dict[str, list[float | None]] = {
    "start": [0.5, 0.7, 0.6], "sft": [0.5, 0.5, 0.5], "ai/0": [0.2, None, 0.4], "human/0": [0.3, 0.5, 0.3],
}  # fmt: skip
CELLS = [cell(Artifact("", "", Path(), ""), name) for name in ("ai/0", "human/0")]


def test_checks_by_hand(tmp_path):
    measured = made(tmp_path / "run", [0.2, 0.8, 0.2, 0.8, 0.25, None], POLICIES)
    found = harmfulness(CELLS, measured)
    assert found is not None and (found.held_out, found.too_long, found.trained_on) == (5, 1, 7)
    rows = {row.name: row for row in found.checks}
    score = rows["the score"]
    assert score.mae.value == close(0.16)  # 0.2 four times and 0 once
    assert score.r2.value == close(1 - 0.16 / 1.0625)  # people's 0, 1, 0, 1, 0.25 against 0.5: 4 * 0.25 + 0.0625
    assert score.within.value == close(1) and score.within.clusters == 2
    assert rows["always the mean of the training ratings"].mae.value == close(0.45)
    # The one answer that two people rated, 0 and 0.5: each predicts the other half a scale off.
    person = rows["one person, of the mean of the others"]
    assert (person.mae.value, person.mae.n, person.mae.clusters) == (close(0.5), 2, 1)
    assert rows["the score, of the same mean of others"].mae.value == close(0.25)
    assert rows["answer length, words"].pearson.value > 0.9 and rows["answer length, words"].mae is None
    assert rows["no refusal"].pearson.value == close(0.2 / (0.8 * 1.05) ** 0.5)
    assert [point.score for point in found.curve] == pytest.approx([0.2, 0.2, 0.25, 0.8, 0.8])
    harm = {row.policy: (row.harmfulness.value, row.too_long) for row in found.policies}
    assert harm == {
        "start": (close(0.6), 0),
        "sft": (close(0.5), 0),
        "ai/0": (close(0.3), 1),
        "human/0": (close(1.1 / 3), 0),
    }


def test_a_score_that_predicts_nothing_is_said_not_to_be_read(tmp_path):
    bad = made(tmp_path / "bad", [0.8, 0.2, 0.3, 0.9, 0.9, 0.1], POLICIES)
    found = harmfulness(CELLS, bad)
    assert found is not None and not found.predicts
    assert len(found.says) == 1 and "must not be read as harmfulness" in found.says[0]
    (line,) = lines_of_harmfulness(CELLS, bad)
    assert line.title.endswith("(not to be read)") and line.help.startswith("NOT to be read")

    good = made(tmp_path / "good", [0.1, 0.9, 0.0, 0.8, 0.2, 0.3], POLICIES)
    found = harmfulness(CELLS, good)
    assert found is not None and found.predicts and "outside of what it was trained on" in found.says[-1]
    (line,) = lines_of_harmfulness(CELLS, good)
    assert line.better == "lower" and "not to be read" not in line.title.lower() + line.help.lower()
    assert line.difference is not None and line.arms["human"].value == close(1.1 / 3)
    assert line.difference.estimate.value == close(0.0)


def test_that_the_human_labels_come_from_the_same_people_is_said(tmp_path):
    run = made(tmp_path / "run", [0.1, 0.9, 0.0, 0.8, 0.2, 0.3], POLICIES)
    arms = [cell(run.harm["data"], name) for name in ("ai/0", "human/0")]
    for cells, said in ((arms, True), (arms[:1], False), (CELLS, False)):  # CELLS have other data
        found = harmfulness(cells, run)
        assert found is not None and ("the same people's ratings" in found.says[-1]) is said
    arms[1].settings.labels.file = "labels.jsonl"  # other people
    found = harmfulness(arms, run)
    assert found is not None and "the same people's ratings" not in found.says[-1]


def test_a_score_of_prompts_alone_cannot_compare_policies(tmp_path):
    # It knows that prompt c leads to less harm, and nothing of the answers.
    rows = [0.7, 0.7, 0.7, 0.7, 0.2, 0.2]
    found = harmfulness(CELLS, made(tmp_path / "run", rows, POLICIES))
    assert found is not None and found.checks[0].within.value != found.checks[0].within.value
    said = [one for one in found.says if "Among answers to one prompt" in one]
    assert len(said) == (1 if found.predicts else 0)


def test_the_section_is_there_only_if_it_was_asked_for(tmp_path):
    from cai.core.records import plain

    found = plain(harmfulness(CELLS, made(tmp_path / "run", [0.1, 0.9, 0.0, 0.8, 0.2, 0.3], POLICIES)))
    write_report({"name": "with", "arms": ["ai", "human"], "harmfulness": found}, [], tmp_path / "with.html")
    page = (tmp_path / "with.html").read_text()
    assert (
        '<h3 id="harmfulness">Absolute harmfulness</h3>' in page
        and "ratings (0 harmless, 1 harmful) of 7 single" in page
    )
    for text in ("What people say of answers with a given score", "human ceiling", "no refusal", "human/0"):
        assert text in page
    write_report({"name": "without", "arms": ["ai", "human"]}, [], tmp_path / "without.html")
    assert "bsolute harmfulness" not in (tmp_path / "without.html").read_text()


# --- faults -----------------------------------------------------------------------------------------------------------


def arm(*overrides: str) -> Any:
    given = ["evaluate.harmfulness.epochs=1", *overrides]
    return next(iter(read_experiment(Path("experiments/smoke.yaml"), given).arms.values()))


def test_a_source_without_ratings_is_a_fault_before_anything_runs():
    rated(arm())
    rated(arm("data.source=hh-rlhf/harmless-base", "evaluate.harmfulness.source=rated-answers"))
    with pytest.raises(UserError, match='no ratings of single answers in "hh-rlhf/harmless-base"') as caught:
        rated(arm("data.source=hh-rlhf/harmless-base"))
    assert caught.value.where == "evaluate.harmfulness" and "source: rated-answers" in caught.value.remedy
    with pytest.raises(UserError, match="every prompt is held out"):
        rated(arm("data.test=1", "data.calibration=0", "rl.gold=null"))
    rated(arm("data.source=hh-rlhf/harmless-base", "evaluate.harmfulness=null"))


def test_ratings_are_read_back(scored):
    one, measured = scored
    scores = read_jsonl(measured.harm["held-out"] / "scores.jsonl", Score)
    assert [row.id for row in scores] == [p.id for p, _ in ratings_of(one.data, "test")]
