"""Filters on texts: lists of words, classifiers, judges; what they remove, cannot read, and get wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ScriptedJudge, asked_judge
from test_config import BASE, fault

from cai.config.moderation import Moderation, ModerationClassifier, ModerationJudge
from cai.config.sections import Policy
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt, Rating, Response, Revision, Round, write_jsonl
from cai.core.shipped import HOME
from cai.core.store import Store, canonical, version
from cai.core.templates import load_template
from cai.judge.__main__ import main
from cai.judge.false_alarms import Flagged, rates
from cai.judge.moderation import (
    Classifier,
    Flag,
    ModeratedText,
    Moderator,
    hit,
    judge_messages,
    lowest,
    plain,
    read_words,
    removes,
)
from cai.models.references import ModelRef
from cai.train.moderate import moderate


def prompt(text: str, name: str = "", split: str = "train") -> Prompt:
    return Prompt(name or text, (Message("user", text),), "all", split)  # pyrefly: ignore


def words(*patterns: str) -> Moderator:
    return Moderator(words=tuple(map(plain, patterns)))


# --- lists of words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("How do I make a BOMB?", "bomb"),
        ("a bombastic speech", ""),  # whole words
        ("the b\u200bomb", "bomb"),  # a space without width
        ("the \uff42\uff4f\uff4d\uff42", "bomb"),  # full-width letters
        ("a bath\n  bomb", "bath bomb"),  # any gap; the first of the list
        ("STRASSE", "stra\u00dfe"),
        ("poisonous poisons", "poison*"),
        ("antipoison", ""),
        ("isn't it", "isn't"),
        ("isn\u2019t it", "isn't"),
        ("c++ code", "c++"),
        ("_bomb_", ""),
        ("", ""),
    ],
)
def test_whole_words_in_one_form(text, found):
    patterns = tuple(map(plain, ("bath bomb", "bomb", "Stra\u00dfe", "poison*", "isn't", "C++")))
    assert hit(text, patterns) == (plain(found) if found else "")


def test_a_list_is_read_with_its_notes_and_its_faults_have_lines(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("# notes\n\nBomb\n  bomb \nPipe   bomb\n")
    assert read_words(str(file)) == ("bomb", "pipe bomb")
    file.write_text("bomb\n*\n--\nmake * now\n")
    with pytest.raises(UserError) as error:
        read_words(str(file))
    assert [f"list.txt:{line}:" in str(error.value) for line in (1, 2, 3, 4)] == [False, True, True, True]
    file.write_text("# nothing\n")
    with pytest.raises(UserError, match="no pattern in this list"):
        read_words(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_words(str(file))
    with pytest.raises(UserError, match="there is no list of words: No such file"):
        read_words(str(tmp_path / "nope.txt"))


def test_the_shipped_list_is_read():
    patterns = read_words("experiments/data/blocked.txt")
    assert len(patterns) > 40 and (HOME / "experiments/data/blocked.txt").is_file()
    assert hit("How do I make a pipe bomb?", patterns) == "pipe bomb" and not hit("How do I kill time?", patterns)


# --- a judge, a classifier --------------------------------------------------------------------------------------------

KIND = Judging("kind", "Choose the response that is kind.", (), 1.0)
SAFE = Judging("safe", "Choose the response that is safe.", (), 3.0)


def test_a_judge_is_asked_about_a_message_before_it_is_answered():
    settings = ModerationJudge(constitution="x")
    judge = asked_judge(settings, [KIND, SAFE])
    judge = replace(judge, templates={**judge.templates, "moderate": load_template("moderate")})

    def script(question):
        asked = question.chat[-1].content
        assert question.options == ("Yes", "No") and "Human: How" in asked
        if "fast" in asked:
            return None  # too long
        # Yes and No: 0.6 and 0.2 by kind, 0.1 and 0.4 by safe.
        return (math.log(0.6), math.log(0.2)) if "kind" in asked else (math.log(0.1), math.log(0.4))

    found = judge_messages(ScriptedJudge(script), [prompt("How?"), prompt("How fast?")], judge)
    # (1 * log(0.2 / 0.6) + 3 * log(0.4 / 0.1)) / 4
    assert found == [pytest.approx((math.log(1 / 3) + 3 * math.log(4)) / 4), None]


def test_the_lowest_share_is_of_prompts_and_of_answers_by_themselves_and_only_of_what_could_be_read():
    values = {0: 0.9, 1: 0.5, 2: None, 3: -3.0, 4: -1.0, 5: -2.0, 6: 0.7, 7: 0.8}
    assert lowest(0.25, [0, 1, 2, 6, 7], values) == [1]  # one of the four that were read
    assert lowest(0.5, [3, 4, 5], values) == [3, 5]  # 1.5 of them, rounded to the even 2
    assert lowest(0.1, [3, 4, 5], values) == []


def test_a_judge_with_a_share_removes_the_lowest_though_all_lie_above_nought():
    judge = asked_judge(ModerationJudge(constitution="x", lowest=0.5), [KIND])
    judge = replace(judge, templates={**judge.templates, "moderate": load_template("moderate")})
    chances = {"one": 0.8, "two": 0.6, "six": 0.9, "ten": 0.7}  # P(No)

    class Scripted:
        def engine(self, work):
            def script(question):
                word = next(word for word in chances if word in question.chat[-1].content)
                return (math.log(1 - chances[word]), math.log(chances[word]))

            return ScriptedJudge(script)

        settings, principles, templates, seed = judge.settings, judge.principles, judge.templates, judge.seed

    by = Moderator(judge=Scripted())  # pyrefly: ignore
    flags = by.flags(None, [ModeratedText(prompt(word)) for word in chances])  # pyrefly: ignore
    assert [[flag.reason for flag in mine] for mine in flags] == [[], ["of the lowest 50%"], [], ["of the lowest 50%"]]


@pytest.mark.parametrize(("bounds", "removed"), [({"above": 0.5}, [True, False]), ({"below": 0.0}, [False, True])])
def test_a_classifier_removes_what_is_beyond_its_threshold_and_not_what_it_cannot_read(bounds, removed, monkeypatch):
    seen = []

    def score(model, tokenizer, chats, **limits):
        seen.extend(chats)
        return [0.6, -0.1, None]

    monkeypatch.setattr("cai.models.score.score", score)
    monkeypatch.setattr("cai.judge.moderation.shared_tokenizer", lambda ref: None)

    class Bench:
        class runtime:
            batch_tokens = 9

        def reward_model(self, model, dtype):
            return None

    by = Classifier(ModerationClassifier(model="m", **bounds), ModelRef("m", "", "m"), Policy(system="S"), "float32")
    texts = [ModeratedText(prompt("one")), ModeratedText(prompt("two"), "An answer."), ModeratedText(prompt("three"))]
    flags = Moderator(classifier=by).flags(Bench(), texts)  # pyrefly: ignore
    assert [removes(mine) for mine in flags] == [*removed, False]
    assert flags[2] == [Flag("classifier", "too long to be read", unread=True)]
    assert [[message.content for message in chat] for chat in seen[:2]] == [
        ["S", "one", ""],
        ["S", "two", "An answer."],
    ]


# --- as a stage -------------------------------------------------------------------------------------------------------


@version(1)
def put(out: Path, work, *, files: dict) -> None:
    for name, text in files.items():
        (out / name).write_text(text)


def lines(path: Path, *rows) -> str:
    write_jsonl(path / "rows", rows)
    return (path / "rows").read_text()


def moderated(tmp_path, kind, files, by, prompts=None):
    store = Store(tmp_path)
    rows = store.stage(put, files=files)
    given = store.stage(put, files=prompts) if prompts else None
    return store.stage(moderate, rows=rows, kind=kind, prompts=given, by=by)


def ids(made, name: str) -> list[str]:
    rows = [json.loads(line) for line in (made / name).read_text().splitlines()]
    return [row.get("id") or row.get("prompt_id") or row["prompt"]["id"] for row in rows]


def test_prompts_go_with_their_pairs_and_ratings_and_held_out_ones_stay(tmp_path):
    bad, good, held_out = prompt("A bomb!", "bad"), prompt("A cake?", "good"), prompt("A bomb?", "out", "test")
    files = {
        "prompts.jsonl": lines(tmp_path, bad, good, held_out),
        "pairs.jsonl": lines(tmp_path, *(Pair(f"p-{one.id}", one, "x", "y") for one in (bad, good, held_out))),
        "ratings.jsonl": lines(tmp_path, *(Rating(one.id, "x", "p", (0.0,)) for one in (bad, good, held_out))),
        "counts.json": "{}",
    }
    made = moderated(tmp_path, "prompts", files, words("bomb", "cak"))
    assert ids(made, "prompts.jsonl") == ids(made, "ratings.jsonl") == ["good", "out"]
    assert ids(made, "pairs.jsonl") == ["p-good", "p-out"] and (made / "counts.json").is_file()
    (row,) = [json.loads(line) for line in (made / "removed.jsonl").read_text().splitlines()]
    flag = {"filter": "words", "reason": "bomb", "value": None, "unread": False}
    assert row == {"id": "bad", "text": "A bomb!", "flags": [flag]}
    counts = json.loads((made / "moderation.json").read_text())
    assert counts == {"looked": 2, "removed": 1, "reasons": [["words", "bomb", 1]], "unread": []}


def test_of_what_models_wrote_the_last_revision_the_answer_and_either_of_two_answers_count(tmp_path):
    ask = prompt("A question about a bomb?", "q")
    traces = [
        Revision(ask, "A bomb.", (Round("kind", "", "A cake."),)),
        Revision(ask, "A cake.", (Round("kind", "", "A bomb."),)),
    ]
    made = moderated(tmp_path, "revisions", {"revisions.jsonl": lines(tmp_path, *traces)}, words("bomb"))
    assert json.loads((made / "revisions.jsonl").read_text())["draft"] == "A bomb."
    answers = [Response("q", "A bomb.", "m", "stop"), Response("q", "A cake.", "m", "stop")]
    given = {"prompts.jsonl": lines(tmp_path, ask)}
    made = moderated(tmp_path, "everyday", {"responses.jsonl": lines(tmp_path, *answers)}, words("bomb"), given)
    assert [json.loads(line)["text"] for line in (made / "responses.jsonl").read_text().splitlines()] == ["A cake."]
    pairs = [Pair("a", ask, "A bomb.", "A cake."), Pair("b", ask, "A cake.", "A bomb."), Pair("c", ask, "1", "2")]
    made = moderated(tmp_path, "pairs", {"pairs.jsonl": lines(tmp_path, *pairs)}, words("bomb"))
    assert ids(made, "pairs.jsonl") == ["c"]


def test_a_filter_that_leaves_nothing_to_train_on_is_refused(tmp_path):
    files = {"prompts.jsonl": lines(tmp_path, prompt("A bomb?"), prompt("Bomb.", "out", "test"))}
    with pytest.raises(UserError, match=r"moderation leaves none of the 1 rows to train on \(prompts\)"):
        moderated(tmp_path, "prompts", files, words("bomb"))


# --- how wrong it is --------------------------------------------------------------------------------------------------


def test_false_alarms_are_of_safe_prompts_and_hits_of_unsafe_ones():
    by_words, by_judge = Flag("words", "kill"), Flag("judge", "below 0", -1.0)
    unread = Flag("judge", "no readable vote", unread=True)
    flags = [("safe", [by_words]), ("safe", []), ("safe", [unread]), ("safe", []), ("unsafe", [by_words, by_judge])]
    flags += [("unsafe", [by_judge])]
    found = rates([Flagged(str(n), subset, tuple(mine)) for n, (subset, mine) in enumerate(flags)], ["words", "judge"])
    shares = [(rate.filter, rate.false_alarms.value, rate.hits.value) for rate in found]
    assert shares == [("words", 0.25, 0.5), ("judge", 0.0, 1.0), ("any of them", 0.25, 1.0)]
    assert found[0].false_alarms.low < 0.25 < found[0].false_alarms.high and found[0].false_alarms.n == 4


def test_a_filter_that_lets_everything_pass_is_shown_with_nothing_found():
    rows = [Flagged("1", "safe", (Flag("words", "kill"),)), Flagged("2", "unsafe", ())]
    found = rates(rows, ["judge", "words"])
    shares = [(rate.filter, rate.false_alarms.value, rate.hits.value) for rate in found]
    assert shares == [("words", 1.0, 0.0), ("judge", 0.0, 0.0), ("any of them", 1.0, 0.0)]


def test_the_command_measures_a_filter_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("kill\n")
    Path("xstest.csv").write_text("prompt,label\nHow do I kill time?,safe\nA cake?,safe\nHow do I kill Tim?,unsafe\n")
    Path("mine.yaml").write_text("constitution: law.txt\ndata: {source: pairs.jsonl}\nmoderation: {words: list.txt}\n")
    assert main(["moderate", "mine.yaml", "--xstest", "xstest.csv"]) == 0
    out = capsys.readouterr().out
    assert "any of them  false alarms 50.0% [" in out and "of 2, hits 100.0% [" in out and "of 1" in out
    with pytest.raises(UserError, match="no arm of this experiment has a `moderation:`"):
        main(["moderate", "mine.yaml", "--xstest", "xstest.csv", "--set", "moderation=null"])


# --- the section ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{}", "moderation has no filter: it needs words, classifier or judge"),
        ("{words: x.txt, at: []}", "moderation.at names each place once, and one at least"),
        ("{words: x.txt, at: [pairs, pairs]}", "moderation.at names each place once, and one at least"),
        ("{words: x.txt, at: [prompt]}", "moderation.at"),
        ("{judge: {constitution: x, lowest: 0.1, below: 0}}", "removes below a threshold, or the lowest share"),
        ("{judge: {constitution: x, lowest: 0.1}}", "in a chat (queries) there is one text at a time"),
        ("{classifier: {model: m}}", "a classifier removes what is above a score, or what is below one"),
        (
            "{classifier: {model: m, above: 1, below: 0}}",
            "a classifier removes what is above a score, or what is below",
        ),
        ("{judge: {model: m}}", "constitution"),
        ("{judge: {constitution: c.txt, method: choice}}", "moderation.judge looks at single texts by method: rate"),
        ("{word: x.txt}", "did you mean"),
    ],
)
def test_faults_of_the_section(tmp_path, section, problem):
    assert problem in fault(tmp_path, BASE + f"moderation: {section}\n")


def test_where_a_judges_constitution_stands_is_in_no_key():
    one, two = (Moderation(judge=ModerationJudge(constitution=name)) for name in ("a.txt", "b/a.txt"))
    assert canonical(one) == canonical(two)
