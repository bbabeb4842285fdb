"""What the stages hand to models and trainers: the trace of a revision, the masks, the mixes, the rewards."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.rl import Rl
from cai.config.sections import Judge, Policy, Revise
from cai.constitution import Judging, Revising
from cai.core.errors import UserError
from cai.core.records import (
    Label,
    Message,
    Pair,
    Prompt,
    RaterVote,
    Response,
    Revision,
    SetAside,
    labelled_pairs,
    read_jsonl,
    write_jsonl,
)
from cai.core.store import Artifact
from cai.core.templates import load_template
from cai.judge.label import label_by_people
from cai.judge.play import play
from cai.models.engines import Reply, Sampling
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef
from cai.train.learnt import Everyday, encode, helpful_rows
from cai.train.respond import Opposition, respond, sample_pairs
from cai.train.revise import revise
from cai.train.revising import RevisedBy
from cai.train.rl.rewards import mix
from cai.train.trainable import Draws, PromptSet, Trainable

POLICY = Trainable(ModelRef("m", "", "m"), Policy(), "float32")
DRAWS = Draws(Sampling(4), 0)


def prompt(name: str, split: str = "train", text: str | None = None) -> Prompt:
    return Prompt(name, (Message("user", text or f"Question {name}?"),), "crime", split)  # pyrefly: ignore


def artifact(folder: Path, **files) -> Artifact:
    folder.mkdir(exist_ok=True, parents=True)
    for name, records in files.items():
        write_jsonl(folder / f"{name}.jsonl", records)
    return Artifact("made", "key", folder, "digest")


class Talker:
    """Stands for an engine: answers by a script and remembers what it was asked."""

    def __init__(self, script) -> None:
        self.script, self.asked = script, []

    def generate(self, requests, sampling, title):
        self.asked += requests
        return [self.script(request, title) for request in requests]


class Bench:
    """Stands for the workbench."""

    def __init__(self, engine) -> None:
        self._engine = engine

    def engine(self, source, *, dtype, system):
        return self._engine


ITS_OWN = {"rule": None, "file": None, "raters": (), "seed": 0}  # the labels that came with the pairs, all of them


def run_revise(tmp_path, talker, rounds=2, principles=None, prompts=("one", "two")):
    data = artifact(tmp_path / "data", prompts=[*map(prompt, prompts), prompt("held out", "test")])
    out = tmp_path / "out"
    out.mkdir()
    revise(
        out,
        Bench(talker),
        data=data,
        split="train",
        start=POLICY,
        principles=principles or (Revising("kind", "What is unkind?", "Rewrite it kindly.", "", (), 1.0),),
        by=RevisedBy.of(Revise(prompts=10, rounds=rounds), 0),
    )
    return read_jsonl(out / "revisions.jsonl", Revision), json.loads((out / "counts.json").read_text())


def test_the_whole_trace_is_kept_and_each_round_builds_on_the_last(tmp_path):
    talker = Talker(lambda request, title: Reply(f"{title} of {request.chat[-1].content[:14]}", "stop"))
    traces, counts = run_revise(tmp_path, talker)
    one = next(trace for trace in traces if trace.prompt.id == "one")
    assert one.draft == "drafts of Question one?"
    assert [r.principle for r in one.rounds] == ["kind", "kind"]
    assert [r.critique for r in one.rounds] == ["critiques 1 of What is unkind", "critiques 2 of What is unkind"]
    assert one.final == one.rounds[1].revision == "revisions 2 of Question one?"
    # The critique of round 2 is about the revision of round 1, and so is the draft that round 2 revises.
    second = [r.chat for r in talker.asked if any("revisions 1 of" in m.content for m in r.chat)]
    assert len(second) == 4 and counts["revised"] == 2 and counts["final revision is the draft"] == 0
    seeds = [request.seed for request in talker.asked]
    assert len(set(seeds)) == len(seeds) == 2 * 5  # every request has a draw of its own


def test_an_empty_critique_drops_the_trace_and_is_counted(tmp_path):
    def script(request, title):
        silent = title == "critiques 2" and any("Question one" in m.content for m in request.chat)
        return Reply("" if silent else "words", "stop")

    traces, counts = run_revise(tmp_path, Talker(script))
    assert [trace.prompt.id for trace in traces] == ["two"]
    assert counts["dropped: empty critique or revision in round 2"] == 1
    assert counts["prompts to revise"] == 2 and counts["revised"] == 1


def test_a_prompt_without_room_is_dropped_and_counted(tmp_path):
    traces, counts = run_revise(
        tmp_path, Talker(lambda r, title: None if "one" in r.chat[-1].content else Reply("words", "stop"))
    )
    assert [trace.prompt.id for trace in traces] == ["two"] and counts["dropped: no draft"] == 1


def test_sft_learns_the_answer_and_the_end_of_its_turn_alone(tiny):
    tokenizer = load_tokenizer(tiny)
    row = encode(tokenizer, (Message("user", "Hi"),), "Yes!", "Be kind.")
    learnt = [token for token, mask in zip(row["input_ids"], row["completion_mask"], strict=True) if mask]
    assert tokenizer.decode(learnt) == "Yes!<|im_end|>\n"
    rest = [token for token, mask in zip(row["input_ids"], row["completion_mask"], strict=True) if not mask]
    assert tokenizer.decode(rest) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_helpful_mix_has_the_wanted_share_in_whole_sentences(tmp_path):
    prompts = [prompt(str(n)) for n in range(20)]
    answers = [Response(p.id, f"Answer {p.id}. And", "m", "length" if p.id == "3" else "stop") for p in prompts]
    made = artifact(tmp_path / "helpful", prompts=prompts, responses=answers)
    rows = helpful_rows(Everyday(made, made), revised=12, share=0.25, seed=0)
    assert len(rows) == 4  # 4 of 16 is a quarter
    every = helpful_rows(Everyday(made, made), revised=100, share=0.5, seed=0)
    texts = {text for _, text in every}
    assert len(every) == 20 and {"Answer 3.", "Answer 4. And"} <= texts  # what was cut off ends with a whole sentence
    assert helpful_rows(Everyday(made, made), revised=12, share=0.0, seed=0) == []


def test_ppo_mixes_prompts_that_fit(tiny):
    settings = Rl(steps=4, batch_size=4, helpful=0.25, max_prompt_tokens=120)
    red = [prompt(f"r{n}", text="x" * (500 if n == 0 else 5)) for n in range(10)]
    kind = [prompt(f"h{n}", text="y" * 5) for n in range(10)]
    chosen, counts = mix(red, kind, load_tokenizer(tiny), Policy(system=None), settings, seed=0)
    assert len(chosen) == 8 == counts["prompts used"]  # 4 rollouts x 4 answers, two answers a prompt
    assert sum(p.id.startswith("h") for p in chosen) == 2 == counts["helpful among them"]
    assert counts["dropped: longer than rl.max_prompt_tokens"] == 1 and "r0" not in {p.id for p in chosen}
    again, _ = mix(red[::-1], kind[::-1], load_tokenizer(tiny), Policy(system=None), settings, seed=0)
    assert again == chosen


def test_a_comparison_carries_no_source_and_leaves_held_out_pairs_alone(tmp_path):
    pairs = [Pair(n, prompt(n, "test" if n == "t" else "train"), "a", "b", 1.0) for n in ("x", "y", "t")]
    labels = [Label("y", 0.2, "ai"), Label("t", 0.9, "ai"), Label("x", 0.7, "ai")]
    made = artifact(tmp_path / "made", pairs=pairs, labels=labels)
    comparisons = labelled_pairs((made,), (made,))
    assert [(c.pair.id, c.p_a) for c in comparisons] == [("x", 0.7), ("y", 0.2)]
    assert not hasattr(comparisons[0], "source")


def test_people_abstain_where_they_did_not_judge(tmp_path):
    pairs = [Pair("x", prompt("x"), "a", "b", 0.75, (1.0, 0.5)), Pair("y", prompt("y"), "a", "b")]
    out = tmp_path / "out"
    out.mkdir()
    label_by_people(out, None, pairs=artifact(tmp_path / "pairs", pairs=pairs), **ITS_OWN)
    (label,) = read_jsonl(out / "labels.jsonl", Label)
    assert label == Label("x", 0.75, "human", said=(RaterVote("", 1.0), RaterVote("", 0.5)))
    counts = json.loads((out / "counts.json").read_text())
    assert counts == {"labelled": 1, "labelled by human": 1, "abstained: no human judged this pair": 1}


def test_two_policies_get_the_same_draws(tmp_path):
    data = artifact(tmp_path / "data", prompts=[prompt(str(n), "test") for n in range(6)])
    asked = []
    for name in ("one", "two"):
        talker = Talker(lambda request, title: Reply("words", "stop"))
        (tmp_path / name).mkdir()
        respond(
            tmp_path / name, Bench(talker), prompts=PromptSet(data, "test", 4), draws=DRAWS,
            model=Trainable(ModelRef(name, "", name), Policy(), "float32"),
        )  # fmt: skip
        asked.append([(request.chat, request.seed) for request in talker.asked])
    assert asked[0] == asked[1] and len(asked[0]) == 4


def cut(words: dict[str, str | None]):
    """A talker who says to each question what is written for it; None where it is too long."""

    def script(request, title):
        text = words[request.chat[-1].content]
        return None if text is None else Reply(text, "stop")

    return Bench(Talker(script))


def test_an_answer_without_a_word_is_an_answer_and_one_that_did_not_fit_is_named(tmp_path):
    data = artifact(tmp_path / "data", prompts=[prompt(name, "test") for name in ("full", "silent", "long")])
    out = tmp_path / "out"
    out.mkdir()
    bench = cut({"Question full?": "Words.", "Question silent?": "", "Question long?": None})
    respond(
        out, bench, prompts=PromptSet(data, "test"), model=POLICY, draws=DRAWS,
    )  # fmt: skip
    assert {r.prompt_id: r.text for r in read_jsonl(out / "responses.jsonl", Response)} == {
        "full": "Words.",
        "silent": "",
    }
    left = "prompts set aside: too long for the model"
    assert json.loads((out / "counts.json").read_text()) == {"prompts asked": 3, "answers without a word": 1, left: 1}
    (aside,) = read_jsonl(out / "set_aside.jsonl", SetAside)
    assert (aside.where, aside.row) == ("prompt long", "Question long?")


def test_fresh_pairs_keep_an_empty_answer_and_count_what_they_leave_out(tmp_path):
    data = artifact(tmp_path / "data", prompts=[prompt(name) for name in ("one", "silent", "mute", "long")])
    said = {"one": ["Yes.", "No."], "silent": ["", "Words."], "mute": ["", ""], "long": [None, None]}
    turns = {f"Question {name}?": iter(texts) for name, texts in said.items()}

    def script(request, title):
        text = next(turns[request.chat[-1].content])
        return None if text is None else Reply(text, "stop")

    out = tmp_path / "out"
    out.mkdir()
    sample_pairs(
        out, Bench(Talker(script)), data=data, count=None, model=POLICY, draws=DRAWS, contrast=Opposition()
    )  # fmt: skip
    pairs = {pair.prompt.id: (pair.a, pair.b) for pair in read_jsonl(out / "pairs.jsonl", Pair)}
    assert pairs == {"one": ("Yes.", "No."), "silent": ("", "Words.")}
    assert json.loads((out / "counts.json").read_text()) == {
        "prompts asked": 4, "answers without a word": 3, "prompts set aside: too long for the model": 1,
        "pairs": 2, "pairs with one answer without a word": 1, "left out: both answers are the same": 1,
    }  # fmt: skip
    assert [one.where for one in read_jsonl(out / "set_aside.jsonl", SetAside)] == ["prompt long"]


def test_a_policy_that_has_gone_silent_loses_its_games_unasked(tmp_path):
    names = ("1", "2", "3")
    silent = [Response(name, "" if name != "3" else " \n", "m", "stop") for name in names]
    other = [Response("1", "words", "m", "stop"), Response("2", "words", "m", "stop"), Response("3", "", "m", "stop")]
    judge = ScriptedJudge(lambda question: (-2.0, -0.1))  # it would prefer whatever it is not asked about
    out = tmp_path / "out"
    out.mkdir()
    play(
        out, Bench(judge), prompts=artifact(tmp_path / "p", prompts=[prompt(name, "test") for name in names]),
        first=artifact(tmp_path / "one", responses=silent), second=artifact(tmp_path / "two", responses=other),
        judge=asked_judge(Judge(), [Judging("n", "Choose the response that is good.", (), 1.0)]),
    )  # fmt: skip
    games = {game.pair_id: (game.p_a, game.source) for game in read_jsonl(out / "games.jsonl", Label)}
    assert games == {"1": (0.0, "empty answer"), "2": (0.0, "empty answer"), "3": (0.5, "same answer")}
    assert judge.questions == []


def test_nobody_is_fine_tuned_on_an_answer_without_a_word(tmp_path):
    prompts = artifact(tmp_path / "p", prompts=[prompt(str(n)) for n in range(4)])
    texts = {"0": "", "1": "One.", "2": "  ", "3": "Three."}
    answers = artifact(tmp_path / "a", responses=[Response(n, text, "m", "stop") for n, text in texts.items()])
    assert {text for _, text in helpful_rows(Everyday(prompts, answers), 4, 0.5, 0)} == {"One.", "Three."}


def test_fresh_pairs_need_two_different_answers(tmp_path):
    data = artifact(tmp_path / "data", prompts=[prompt("1"), prompt("2", "test")])
    options: dict[str, Any] = {"data": data, "count": None, "model": POLICY, "draws": DRAWS, "contrast": Opposition()}
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match="no two different answers"):
        sample_pairs(out, Bench(Talker(lambda r, t: Reply("same", "stop"))), **options)
    sample_pairs(out, Bench(Talker(lambda r, t: Reply(str(r.seed), "stop"))), **options)
    pairs = read_jsonl(out / "pairs.jsonl", Pair)
    assert [pair.prompt.split for pair in pairs] == ["train", "test"] and all(pair.human is None for pair in pairs)


def test_opposed_pairs_remember_which_answer_was_told_to_keep_to_the_principle(tmp_path):
    def script(request, title):
        assert request.chat[0].role == "system" and request.chat[-1].role == "user"
        return Reply("rude" if "Insult everybody." in request.chat[0].content else "kind", "stop")

    out = tmp_path / "out"
    out.mkdir()
    sample_pairs(
        out, Bench(Talker(script)), data=artifact(tmp_path / "data", prompts=[prompt(str(n)) for n in range(20)]),
        count=None, model=POLICY, draws=DRAWS,
        contrast=Opposition(
            (Judging("k", "Choose the response that is kind.", (), 1.0, against="Insult everybody."),),
            load_template("contrast"),
        ),
    )  # fmt: skip
    pairs = read_jsonl(out / "pairs.jsonl", Pair)
    assert {(pair.a, pair.b, pair.prompted) for pair in pairs} == {("kind", "rude", 1.0), ("rude", "kind", 0.0)}
    assert len(pairs) == 20


def test_nobody_labels_the_calibration_split(tmp_path):
    pairs = [Pair("x", prompt("x"), "a", "b", 1.0), Pair("y", prompt("y", "calibration"), "a", "b", 1.0)]
    made = artifact(tmp_path / "pairs", pairs=pairs)
    (tmp_path / "people").mkdir()
    label_by_people(tmp_path / "people", None, pairs=made, **ITS_OWN)
    assert [label.pair_id for label in read_jsonl(tmp_path / "people/labels.jsonl", Label)] == ["x"]


def test_games_are_draws_for_the_same_words_and_are_known_by_their_prompt(tmp_path):
    prompts = [prompt("1", "test"), prompt("2", "test")]
    one = [Response("1", "same", "m", "stop"), Response("2", "good", "m", "stop")]
    two = [Response("1", "same", "m", "stop"), Response("2", "bad", "m", "stop")]
    out = tmp_path / "out"
    out.mkdir()
    play(
        out,
        Bench(ScriptedJudge(lambda q: (-0.1, -2.0) if "Assistant: good" in q.chat[-1].content else (-2.0, -0.2))),
        prompts=artifact(tmp_path / "p", prompts=prompts),
        first=artifact(tmp_path / "one", responses=one),
        second=artifact(tmp_path / "two", responses=two),
        judge=asked_judge(Judge(), [Judging("n", "Choose the response that is good.", (), 1.0)]),
    )
    games = {game.pair_id: game for game in read_jsonl(out / "games.jsonl", Label)}
    assert games["1"].p_a == 0.5 and games["1"].votes == ()
    assert games["2"].p_a == pytest.approx(1 / (1 + 2.718281828 ** -(1.9 + 1.8)))
