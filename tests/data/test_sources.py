"""Sources: whatever the source, no row is lost without a count, no fault without its line, no prompt on both sides."""

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cai.config.sections import Data
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt, read_jsonl
from cai.data.material import Material
from cai.data.rows.files import read_raw
from cai.data.rows.turns import parse_transcript
from cai.data.sources import load_data, load_helpful, source_digest
from cai.data.sources.local_file import read_file
from cai.data.sources.rated_answers import rated_answers

SHARED_HH = Path("/work/shared/data/hh-rlhf-harmless-base.jsonl.gz")


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def settings(**more: Any) -> Data:
    return Data(**{"source": "unused", **more})


def sided(pairs: list[Pair], better: str) -> list[Pair]:
    return [pair for pair in pairs if better in (pair.a, pair.b)]


def worth(pair: Pair, answer: str) -> float:
    """P(`answer` is the better one), by the people who judged the pair."""
    assert pair.human is not None and answer in (pair.a, pair.b)
    return pair.human if answer == pair.a else 1 - pair.human


# HH-RLHF transcripts

TRANSCRIPTS = {
    "\n\nHuman: Hi\n\nAssistant: Hello": (user("Hi"), assistant("Hello")),
    "Human: Hi\n\nAssistant: Hello": (user("Hi"), assistant("Hello")),
    # a speaker's name inside a line, or after a single line break, is text
    "\n\nHuman: Why is it Human: nature?\nAssistant: x\n\nAssistant: Actually, Human: no": (
        user("Why is it Human: nature?\nAssistant: x"),
        assistant("Actually, Human: no"),
    ),
    "\n\nHuman: Note: a: b :: c\n\nAssistant: At 10:30: go": (user("Note: a: b :: c"), assistant("At 10:30: go")),
    "\n\nHuman: One\n\nTwo\n\nThree: four\n\nAssistant: Yes\n\nno": (
        user("One\n\nTwo\n\nThree: four"),
        assistant("Yes\n\nno"),
    ),
    "\n\nHuman: Hi\n\nAssistant:": (user("Hi"), assistant("")),
    "\n\nHuman: Hi\n\nAssistant: a\n\nAssistant: b": (user("Hi"), assistant("a"), assistant("b")),
    "\n\nHuman: Hi\n\nHumans: we\n\nAssistant: b": (user("Hi\n\nHumans: we"), assistant("b")),
    "no speaker at all": (),
    "": (),
}


@pytest.mark.parametrize("text", TRANSCRIPTS)
def test_transcripts(text: str) -> None:
    assert parse_transcript(text) == TRANSCRIPTS[text]


def hh(chosen: str, rejected: str) -> dict[str, str]:
    return {"chosen": chosen, "rejected": rejected}


HI = "\n\nHuman: Hi\n\nAssistant:"
ROWS = [
    (hh(f"{HI} good", f"{HI} bad"), ""),
    (hh(f"{HI} good", "\n\nHuman: Hello\n\nAssistant: bad"), "the two conversations part before the last answer"),
    (hh(f"{HI} same", f"{HI} same"), "both answers are the same"),
    (hh(f"{HI} good", HI), "an answer without words"),
    (hh("\n\nHuman:\n\nAssistant: a", "\n\nHuman:\n\nAssistant: b"), "a message without words"),
    (hh(f"{HI} a\n\nHuman: why?", f"{HI} a\n\nHuman: why?"), "does not end with an answer"),
    (hh("nothing", "nothing else"), "does not end with an answer"),
    (hh("\n\nAssistant: a", "\n\nAssistant: b"), "does not begin with, or answer, a person"),
    (hh(f"{HI} a\n\nAssistant: b", f"{HI} a\n\nAssistant: c"), "the conversation must end with the user's turn"),
    (
        hh("\n\nHuman: Hi\n\nHuman: you\n\nAssistant: b", "\n\nHuman: Hi\n\nHuman: you\n\nAssistant: c"),
        "one speaker has two turns in a row",
    ),
    (hh(f"{HI} {'good ' * 11}", f"{HI} bad"), "too long"),
    (hh(f"{HI} good", f"{HI} {'bad ' * 11}"), "too long"),
    (hh(f"\n\nHuman: {'Hi ' * 11}\n\nAssistant: a", f"\n\nHuman: {'Hi ' * 11}\n\nAssistant: b"), "too long"),
]


def held(tmp_path: Path, *rows: Any, **more: Any) -> Material:
    return read_file(lines(tmp_path / "rows.jsonl", *rows), settings(**more), seed=0)


GOOD = hh("\n\nHuman: Well?\n\nAssistant: Yes", "\n\nHuman: Well?\n\nAssistant: No")


@pytest.mark.parametrize(("row", "fault"), ROWS)
def test_a_row_is_used_or_counted_with_its_reason(tmp_path: Path, row: dict, fault: str) -> None:
    material = held(tmp_path, GOOD, row, max_words=10)
    reasons = {f"rows set aside: {fault}": 1} if fault else {}
    assert material.counts == {"rows read": 2, **reasons}
    assert len(material.pairs) == len(material.prompts) == 1 + (not fault)
    assert [one.where for one in material.aside] == ([f"{tmp_path / 'rows.jsonl'}:2"] if fault else [])


def test_an_hh_row_as_a_pair(tmp_path: Path) -> None:
    opening = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Well?\n\nAssistant:"
    (pair,) = held(tmp_path, hh(f"{opening} good", f"{opening} bad")).pairs.values()
    assert pair.prompt.messages == (user("Hi"), assistant("Hello"), user("Well?"))
    assert {pair.a, pair.b} == {"good", "bad"} and worth(pair, "good") == 1 and pair.votes == (pair.human,)
    assert pair.prompt.subset == "harmless"


def test_rows_of_nobody_by_name_that_stand_twice_are_no_two_people(tmp_path: Path) -> None:
    good, bad = hh(f"{HI} good", f"{HI} bad"), hh(f"{HI} bad", f"{HI} good")
    material = held(tmp_path, good, good, bad)
    (pair,) = material.pairs.values()
    assert worth(pair, "good") == 1 and len(pair.votes) == 1
    file = tmp_path / "rows.jsonl"
    assert [(one.where, one.reason) for one in material.aside] == [
        (f"{file}:2", f"the same pair as {file}:1"),
        (f"{file}:3", f"contradicts the same pair at {file}:1"),
    ]


def test_people_who_are_named_have_a_vote_each_and_their_last_word_counts(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
    turned = {**row, "chosen": "bad", "rejected": "good"}
    said = [(row, "ann"), (row, "bob"), (turned, "cat"), (row, "ann"), (turned, "bob")]
    material = held(tmp_path, *({**one, "rater": name} for one, name in said))
    (pair,) = material.pairs.values()
    assert dict(zip(pair.raters, pair.votes, strict=True)) == {
        name: vote if pair.a == "good" else 1 - vote for name, vote in {"ann": 1, "bob": 0, "cat": 0}.items()
    }
    assert worth(pair, "good") == pytest.approx(1 / 3)
    assert [one.reason for one in material.aside] == [
        "said twice by one rater",
        "contradicted by the same rater further down",
    ]


def test_conversations_with_one_opening_stay_on_one_side(tmp_path: Path) -> None:
    def row(opening: int, reply: int) -> dict:
        start = f"\n\nHuman: {opening}\n\nAssistant: {reply}\n\nHuman: Go on\n\nAssistant:"
        return hh(f"{start} good", f"{start} bad")

    material = held(tmp_path, *(row(n, m) for n in range(40) for m in range(3)), test=0.5)
    sides = {(p.messages[0].content, p.split) for p in material.prompts.values()}
    assert len(material.prompts) == 120 and len(sides) == 40
    assert {split for _, split in sides} == {"train", "test"}


@pytest.mark.skipif(not SHARED_HH.is_file(), reason=f"{SHARED_HH} is not here")
def test_hh_rlhf_itself() -> None:
    material = read_file(SHARED_HH, settings(), seed=0)
    assert material.counts["rows read"] == 1724
    assert len(material.pairs) + len(material.aside) == 1724
    assert len(material.pairs) > 1600
    sides: dict[tuple, set] = {}
    for prompt in material.prompts.values():
        sides.setdefault(prompt.messages, set()).add(prompt.split)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.25 < sum(p.split == "test" for p in material.prompts.values()) / len(material.prompts) < 0.35
    assert 0.45 < sum(pair.human or 0 for pair in material.pairs.values()) / len(material.pairs) < 0.55


# Human-rated answers

SOLO = [  # prompt, answer, score
    ("P1", "mild", "0.25"),
    ("P1", "harmless", "0"),
    ("P1", "harmful", "1"),
    ("P1", "calm", "0"),
    ("P2", "only one", "0.5"),
]
PANEL = [  # prompt, answer, three scores
    ("P3", "fine", "0", "0", "0.5"),
    ("P3", "foul", "0.75", "0", "0.25"),
    ("P3", "vile", "1", "1", "1"),
]


def write_csv(path: Path, rows: list[tuple[str, ...]], comment: str = "# version 1.0,,,") -> None:
    scores = [f"human_score_{n}" for n in range(1, len(rows[0]) - 1)]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{comment}\n" if comment else "")
        csv.writer(file).writerows(
            [("harm_category", "objective", "assistant_response", *scores), *(("x", *row) for row in rows)]
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_csv(tmp_path / "self_harm.csv", SOLO)
    write_csv(tmp_path / "hate_speech_multi_score.csv", PANEL)
    monkeypatch.setattr("cai.data.sources.rated_answers.fetch", lambda package: tmp_path)
    return tmp_path


def rated(seed: int = 0, **more: Any) -> Material:
    return rated_answers(settings(source="rated-answers", **more), seed)


def find_pair(material: Material, one: str, two: str) -> Pair:
    (pair,) = [pair for pair in material.pairs.values() if {pair.a, pair.b} == {one, two}]
    return pair


def test_the_less_harmful_answer_is_the_better_one(folder: Path) -> None:
    material = rated()
    # P1: the gaps of mild/harmless, mild/harmful, mild/calm, harmless/harmful, harmful/calm are >= 0.25; of
    # harmless/calm it is 0. P3: the means are 1/6, 1/3 and 1, so fine/foul is left out.
    assert material.counts == {"rated answers read": 8, "answer pairs rated too alike": 2}
    assert len(material.pairs) == 7
    assert worth(find_pair(material, "harmless", "harmful"), "harmless") == 1
    assert worth(find_pair(material, "mild", "harmful"), "mild") == 1
    assert worth(find_pair(material, "mild", "calm"), "calm") == 1
    assert find_pair(material, "fine", "vile").votes in [(1, 1, 1), (0, 0, 0)]


def test_raters_vote_one_by_one_and_ties_are_halves(folder: Path) -> None:
    material = rated(min_gap=0.1)
    pair = find_pair(material, "fine", "foul")
    # rater 1: 0 < 0.75, for fine; rater 2: 0 = 0, a tie; rater 3: 0.5 > 0.25, for foul
    assert worth(pair, "fine") == pytest.approx(0.5)
    assert pair.votes == ((1, 0.5, 0) if pair.a == "fine" else (0, 0.5, 1))


def test_equal_ratings_are_a_tie(folder: Path) -> None:
    pair = find_pair(rated(min_gap=0), "harmless", "calm")
    assert (pair.human, pair.votes) == (0.5, (0.5,))


def test_the_gap_itself_is_enough(folder: Path) -> None:
    assert len(rated(min_gap=0.26).pairs) == 5  # without mild/harmless and mild/calm
    assert len(rated(min_gap=1).pairs) == 2


def test_prompts_carry_their_category_and_are_kept_without_pairs(folder: Path) -> None:
    prompts = {prompt.messages[0].content: prompt.subset for prompt in rated().prompts.values()}
    assert prompts == {"P1": "self harm", "P2": "self harm", "P3": "hate speech"}


def test_comments_stand_at_the_head_alone(folder: Path) -> None:
    recipe = 'A list:\n# First\nBoil it, "well".\n#hashtag'
    write_csv(folder / "self_harm.csv", [("P1", recipe, "0"), ("P1", "harmful", "1")], "# one\n# two, with a comma")
    assert find_pair(rated(), recipe, "harmful")


def test_duplicates_and_broken_rows_are_counted(folder: Path) -> None:
    broken = [
        ("P1", "a", ""),
        ("P1", "b", "high"),
        ("P1", "", "1"),
        ("", "c", "1"),
        ("P1", "d", "2"),
        ("P1", "e", "nan"),
    ]
    write_csv(folder / "self_harm.csv", [*SOLO, *SOLO[:2], *broken], comment="")
    material = rated()
    assert material.counts["rated rows without a text or a score"] == 6
    assert material.counts["rated answers that stand twice"] == 2
    assert material.counts["rated answers read"] == 10
    assert len(material.pairs) == 7


def test_the_fuller_rating_of_an_answer_stands(folder: Path) -> None:
    write_csv(folder / "a.csv", [("P3", "fine", "1"), ("P3", "vile", "0")])
    pair = find_pair(rated(), "fine", "vile")
    assert worth(pair, "fine") == 1 and len(pair.votes) == 3


def test_answers_rated_by_different_people_are_not_compared(folder: Path) -> None:
    write_csv(folder / "violence.csv", [("P3", "other", "1")])
    material = rated()
    assert material.counts["answer pairs rated by different people"] == 3
    assert sided(list(material.pairs.values()), "other") == []


def test_long_prompts_and_answers_are_left_out_and_counted(folder: Path) -> None:
    write_csv(folder / "self_harm.csv", [("P1", "a b c", "0"), ("P1", "a b", "1"), ("P2 2 2", "a", "0")])
    material = rated(max_words=2)
    assert material.counts["pairs with an answer too long"] == 1 and material.counts["prompts too long"] == 1
    assert {prompt.messages[0].content for prompt in material.prompts.values()} == {"P1", "P3"}


@pytest.mark.real
def test_the_packages_own_ratings(ratings: Path) -> None:
    material = rated()
    assert 380 < len(material.prompts) < 400 and len(material.pairs) > 2000
    assert material.counts["rated rows without a text or a score"] == 0
    assert {len(pair.votes) for pair in material.pairs.values()} == {1, 3}
    a_wins = sum(pair.human > 0.5 for pair in material.pairs.values() if pair.human is not None)
    assert 0.46 < a_wins / len(material.pairs) < 0.54
    assert any("\n#" in pair.a or "\n#" in pair.b for pair in material.pairs.values())  # headings, not comments


# Splits and limits


def many(folder: Path, count: int, answers: int = 2) -> None:
    rows = [(f"prompt {n}", f"answer {k}", str(k / (answers - 1))) for n in range(count) for k in range(answers)]
    write_csv(folder / "self_harm.csv", rows)
    (folder / "hate_speech_multi_score.csv").unlink(missing_ok=True)


def splits(material: Material) -> dict[str, str]:
    return {prompt.messages[0].content: prompt.split for prompt in material.prompts.values()}


def test_a_prompt_keeps_its_side_when_others_come(folder: Path) -> None:
    many(folder, 50)
    few = splits(rated())
    many(folder, 200)
    more = splits(rated())
    assert few.items() <= more.items()
    assert 35 < list(more.values()).count("test") < 85  # 60 expected
    assert splits(rated(seed=1)) != more


def test_the_share_of_the_test_side(folder: Path) -> None:
    many(folder, 50)
    assert set(splits(rated(test=0)).values()) == {"train"}
    assert set(splits(rated(test=1)).values()) == {"test"}


def stage(out: Path, data: Data, seed: int = 0) -> tuple[list[Prompt], list[Pair], Counter]:
    out.mkdir(exist_ok=True)
    load_data(out, None, data=data, contents="", seed=seed)
    counts = Counter(json.loads((out / "counts.json").read_text()))
    return read_jsonl(out / "prompts.jsonl", Prompt), read_jsonl(out / "pairs.jsonl", Pair), counts


def test_limits(folder: Path, tmp_path: Path) -> None:
    many(folder, 60, answers=4)  # 6 pairs a prompt, all with a gap of at least 1/3
    data = settings(source="rated-answers", pairs_per_prompt=2, train_pairs=30, test_pairs=7)
    prompts, pairs, counts = stage(tmp_path / "out", data)
    assert len(prompts) == 60
    assert Counter(pair.prompt.split for pair in pairs) == {"train": 30, "test": 7}
    assert max(Counter(pair.prompt.id for pair in pairs).values()) == 2
    assert (counts["pairs used"], counts["pairs over the limits of the config"]) == (37, 360 - 37)
    assert {pair.prompt.id for pair in pairs} <= {prompt.id for prompt in prompts}
    _, pairs, _ = stage(tmp_path / "out", settings(source="rated-answers", pairs_per_prompt=2))
    assert set(Counter(pair.prompt.id for pair in pairs).values()) == {2} and len(pairs) == 120


def test_raising_a_limit_keeps_what_was_there(folder: Path, tmp_path: Path) -> None:
    many(folder, 60, answers=4)
    fewer, more = (
        {pair.id for pair in stage(tmp_path / "out", settings(source="rated-answers", train_pairs=n, test_pairs=n))[1]}
        for n in (10, 30)
    )
    assert len(fewer) == 20 and fewer < more


# Files


def lines(path: Path, *rows: Any) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go"}]


def test_a_json_array_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"prompt": "Hi"}, {"prompt": "Ho"}], indent=1))
    material = read_file(tmp_path / "rows.json", settings(), seed=0)
    assert [prompt.messages for prompt in material.prompts.values()] == [(user("Hi"),), (user("Ho"),)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_file_of_prompts(tmp_path: Path, name: str) -> None:
    rows = [
        {"prompt": "Hi"},
        "",
        {"messages": TURNS, "id": "mine", "subset": "chat", "split": "test"},
        {"prompt": TURNS},
    ]
    material = read_file(lines(tmp_path / name, *rows), settings(test=0), seed=0)
    one, two, three = material.prompts.values()
    # The second row's conversation begins with the first row's words, and its side is named.
    assert (one.messages, one.subset, one.split) == ((user("Hi"),), "all", "test")
    assert (two.id, two.subset, two.split) == ("mine", "chat", "test")
    assert two.messages == three.messages == (user("Hi"), assistant("Yes?"), user("Go"))
    assert material.pairs == {} and material.counts == {"rows read": 3}


def test_a_file_of_pairs(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "a": "x", "b": "y", "human": 0.75, "id": "first"},
        {"prompt": "Hi", "a": "x", "b": "z"},
        {"messages": TURNS, "a": "x", "b": "z", "human": 0.5, "votes": [1, 0]},
        {"prompt": "Ho", "chosen": "good", "rejected": "bad"},
    ]
    material = read_file(lines(tmp_path / "rows.jsonl", *rows), settings(), seed=0)
    one, two, three, four = material.pairs.values()
    assert (one.id, one.a, one.b, one.human, one.votes) == ("first", "x", "y", 0.75, (0.75,))
    assert (two.human, two.votes, two.prompt) == (None, (), one.prompt)
    assert (three.votes, len(three.prompt.messages)) == ((1, 0), 3)
    assert worth(four, "good") == 1
    assert len(material.prompts) == 3


def test_a_file_of_our_own_records_is_read_back(folder: Path, tmp_path: Path) -> None:
    prompts, pairs, _ = stage(tmp_path / "out", settings(source="rated-answers"))
    material = read_file(tmp_path / "out" / "pairs.jsonl", settings(test=0), seed=9)
    assert list(material.pairs.values()) == pairs
    assert list(read_file(tmp_path / "out" / "prompts.jsonl", settings(), seed=9).prompts.values()) == prompts


def test_a_file_of_hh_rows(tmp_path: Path) -> None:
    material = read_file(lines(tmp_path / "hh.jsonl.gz", *(row for row, _ in ROWS)), settings(max_words=10), seed=0)
    assert len(material.pairs) == 1 and material.counts["rows read"] == len(ROWS)


def test_one_text_under_two_ids_stays_on_one_side(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}", "id": f"{n} {copy}"} for n in range(40) for copy in "ab"]
    prompts = read_file(lines(tmp_path / "rows.jsonl", *rows), settings(test=0.5), seed=0).prompts.values()
    assert len(prompts) == 80 and len({(prompt.messages, prompt.split) for prompt in prompts}) == 40


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "Hi"}\n')
    assert len(read_file(tmp_path / "rows.jsonl", settings(), seed=0).prompts) == 1


PAIR = {"prompt": "Hi", "a": "x", "b": "y"}
FAULTS = [
    ('{"prompt": "Hi"', "a half-written line"),
    ('{"prompt": "Hi", x}', "not valid JSON"),
    ('{"prompt": "Hi", "prompt": "Ho"}', 'the key "prompt" stands twice'),
    ('{"prompt": "Hi", "human": NaN, "a": "x", "b": "y"}', "P\\(a better\\), from 0 to 1"),
    ([1, 2], "a row must be a JSON object"),
    ({"question": "Hi"}, "a row needs `prompt`"),
    ({"prompt": []}, "a row needs `prompt`"),
    ({"prompt": 5}, "a row needs `prompt`"),
    ({"prompt": "  "}, "a message without words"),
    ({"prompt": [{"role": "user", "content": ""}]}, "a message without words"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "not a Message: role"),
    ({"messages": [{"role": "user"}]}, "not a Message: content"),
    ({"messages": ["Hi"]}, "not a Message"),
    ({"messages": TURNS[:2]}, "must end with the user's turn"),
    ({"prompt": "Hi", "split": "dev"}, "not a Prompt: split"),
    ({"prompt": "Hi", "subset": 5}, "not a Prompt: subset"),
    ({"prompt": "Hi", "a": "x"}, "a pair needs two answers"),
    ({"prompt": "Hi", "b": "x"}, "a pair needs two answers"),
    ({"prompt": "Hi", "a": "x", "b": ["y"]}, "a pair needs two answers"),
    ({"prompt": "Hi", "chosen": "x"}, "a pair needs two answers"),
    ({"prompt": "Hi", "chosen": TURNS, "rejected": TURNS}, "does not end with an answer"),
    ({"prompt": "Hi", "chosen": TURNS[:2], "rejected": "x"}, "a pair needs two answers"),
    ({**PAIR, "human": 1.5}, "P\\(a better\\), from 0 to 1"),
    ({**PAIR, "human": -0.1}, "P\\(a better\\), from 0 to 1"),
    ({**PAIR, "human": "a"}, "P\\(a better\\), from 0 to 1"),
    ({**PAIR, "votes": ["a"], "human": 1}, "each of `votes` must be P\\(a better\\)"),
    ({**PAIR, "votes": [3], "human": 1}, "each of `votes` must be P\\(a better\\)"),
    ({"chosen": 5, "rejected": "x"}, "chosen and rejected must be transcripts"),
    ({"prompt": "Ho", "id": "known"}, 'two different prompts share the id "known"'),
    ({"prompt": "Known", "id": "known", "subset": "other"}, 'of the subset "all" at .*:1, here of "other"'),
    ({"prompt": "Ho", "a": "x", "b": "y", "id": "taken"}, 'another pair has the id "taken"'),
]


@pytest.mark.parametrize(("row", "problem"), FAULTS)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, row: Any, problem: str) -> None:
    good = [{"prompt": "Known", "id": "known"}, {"prompt": "Hi", "a": "1", "b": "2", "id": "taken"}]
    path = lines(tmp_path / "rows.jsonl", *good, "", row, {"prompt": "Still?"})
    material = read_file(path, settings(test=0), seed=0)
    (aside,) = material.aside
    assert aside.where == f"{path}:4" and re.search(problem, aside.reason)
    assert len(material.pairs) == 1 and [p.messages[0].content for p in material.prompts.values()][-1] == "Still?"


def test_a_row_whose_side_another_row_contradicts(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Drawn?"},
        {"prompt": "Named?", "split": "test"},
        {"prompt": " named?"},  # on the side that its like is named for
        {"prompt": "NAMED?\n", "split": "train"},
        {"prompt": "drawn?", "split": "calibration"},
    ]
    material = held(tmp_path, *rows, test=0)
    sides = {p.messages[0].content: p.split for p in material.prompts.values()}
    assert sides == {"Drawn?": "calibration", "Named?": "test", " named?": "test", "drawn?": "calibration"}
    assert [one.reason for one in material.aside] == [
        f"conversations that begin alike are in the split test at {tmp_path / 'rows.jsonl'}:2"
    ]


def test_a_cut_off_archive_is_named_by_its_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl.gz", *({"prompt": f"Question {uniform(n)}"} for n in range(3000)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match="cannot be read on from here") as caught:
        read_file(path, settings(), seed=0)
    file, _, line = caught.value.where.rpartition(":")
    assert file == str(path) and 1000 < int(line) < 3000


@pytest.mark.parametrize("damage", [b"not an archive", None])
def test_a_damaged_archive(tmp_path: Path, damage: bytes | None) -> None:
    path = lines(tmp_path / "rows.jsonl.gz", *({"prompt": f"Question {uniform(n)}"} for n in range(3000)))
    whole = path.read_bytes()
    path.write_bytes(damage or whole[:10] + b"\xff" * 100 + whole[110:])
    with pytest.raises(UserError, match="cannot be read on from here"):
        list(read_raw(path))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "Hi"}\n{"prompt": "caf\xe9"}\n')
    material = read_file(tmp_path / "rows.jsonl", settings(), seed=0)
    assert [one.reason for one in material.aside] == ["text that is not UTF-8"] and len(material.prompts) == 1


def test_a_file_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prompts in this file"):
        read_file(lines(tmp_path / "rows.jsonl", "", ""), settings(), seed=0)
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(UserError, match="no prompts in this file: it is empty"):
        read_file(tmp_path / "rows.jsonl", settings(), seed=0)


def test_a_source_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='there is no data source "rated-answer"') as caught:
        source_digest(settings(source="rated-answer"))
    assert "rated-answers" in caught.value.remedy


def test_a_misspelt_source_or_file_is_guessed(tmp_path: Path) -> None:
    lines(tmp_path / "mine.jsonl", {"prompt": "Hi"})
    for written, meant in (("rated-answer", "rated-answers"), (str(tmp_path / "mine.json"), f"{tmp_path}/mine.jsonl")):
        with pytest.raises(UserError) as caught:
            source_digest(settings(source=written))
        assert caught.value.remedy.startswith(f'did you mean "{meant}"? (or give arithmetic, ')
    with pytest.raises(UserError, match="No such file") as caught:
        list(read_raw(tmp_path / "mine.json"))
    assert caught.value.remedy == f'did you mean "{tmp_path}/mine.jsonl"?'


@pytest.mark.parametrize(
    ("marker", "is_one", "remedy"),
    [
        ("dataset_info.json", "this is a folder that datasets' save_to_disk wrote", ".to_parquet('rows.parquet')"),
        ("dataset_dict.json", "this is a folder that datasets' save_to_disk wrote", '["train"].to_parquet('),
        ("notes.txt", "this is a folder, not a file", "name a file in it: a .jsonl, .csv or .parquet"),
    ],
)
def test_a_folder_is_said_to_be_one(tmp_path: Path, marker: str, is_one: str, remedy: str) -> None:
    """Also one of Hugging Face's datasets, which people take for a data source."""
    (tmp_path / marker).write_text("{}")
    for read in (lambda: source_digest(settings(source=str(tmp_path))), lambda: list(read_raw(tmp_path))):
        with pytest.raises(UserError) as caught:
            read()
        assert is_one in caught.value.problem and remedy in caught.value.remedy


def test_an_edited_file_has_another_digest(tmp_path: Path) -> None:
    data = settings(source=str(lines(tmp_path / "rows.jsonl", {"prompt": "Hi"})))
    before = source_digest(data)
    lines(tmp_path / "rows.jsonl", {"prompt": "Ho"})
    assert source_digest(data) != before
    assert source_digest(settings(source="rated-answers")) == source_digest(settings(source="rated-answers", test=0.9))


def test_the_hub_out_of_reach() -> None:
    with pytest.raises(
        UserError, match=r"cannot load Anthropic/hh-rlhf \(harmless-base/train\.jsonl\.gz\) from the hub"
    ):
        load_data(Path("unused"), None, data=settings(source="hh-rlhf/harmless-base"), contents="", seed=0)


def test_helpful_prompts(tmp_path: Path) -> None:
    source = lines(tmp_path / "helpful.jsonl", {"prompt": "Hi"}, {"prompt": "Ho", "subset": "cooking"})
    load_helpful(tmp_path, None, source=str(source), contents="", test=0.0, seed=0)
    found = read_jsonl(tmp_path / "prompts.jsonl", Prompt)
    assert [(p.messages[0].content, p.subset, p.split) for p in found] == [
        ("Hi", "all", "train"),
        ("Ho", "cooking", "train"),
    ]
