"""Rows of every form, in files of every kind: what each says, written down by hand; what is not read, by its name."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from cai.config.sections import Data
from cai.core.draws import normal
from cai.core.errors import UserError
from cai.core.records import Pair
from cai.data.comparisons import read_comparisons
from cai.data.rows.reader import FileContents, read_file
from cai.data.rows.turns import transcript_in

CASES = Path(__file__).parents[1] / "cases" / "data"


def read(path: Path, **more: Any) -> FileContents:
    return read_file(path, Data(source=str(path), **more), seed=0)


def rows(tmp_path: Path, *held: Any, name: str = "rows.jsonl", **more: Any) -> FileContents:
    path = tmp_path / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in held))
    return read(path, **more)


def turns(pair: Pair) -> list[tuple[str, str]]:
    return [(message.role[0], message.content) for message in pair.prompt.messages]


def better(pair: Pair) -> str | None:
    """The answer that people prefer; "=" for a tie, None where nobody judged."""
    if pair.human is None or pair.human == 0.5:
        return None if pair.human is None else "="
    return pair.a if pair.human > 0.5 else pair.b


def one(reading: FileContents) -> Pair:
    (pair,) = reading.pairs.values()
    assert reading.aside == []
    return pair


def reasons(reading: FileContents) -> list[tuple[str, str]]:
    return [(aside.where.rpartition(":")[2], aside.reason) for aside in reading.aside]


# 1. The cases: file -> (pairs, what is set aside) ---

READ: dict[str, tuple[int, list[tuple[str, str]]]] = {
    "00_ok.jsonl": (6, []),
    "01_trl_explicit.jsonl": (6, []),
    "02_trl_implicit.jsonl": (6, []),
    "03_ultrafeedback.jsonl": (6, []),
    "04b_equal.jsonl": (30, [(str(n), "both answers are the same") for n in range(31, 41)]),
    "05_empty_answers.jsonl": (6, [("7", "an answer without words"), ("8", "an answer without words")]),
    "06a_tool_role.jsonl": (6, [("7", 'a turn of a tool (role "tool")')]),
    "06d_system_middle.jsonl": (6, [("7", "a system turn in the middle of the conversation")]),
    "06f_content_parts.jsonl": (7, []),
    "06g_sharegpt.jsonl": (1, []),
    "07_near_dupes.jsonl": (200, []),
    "08c_growing_hh.jsonl": (120, []),
    "09a_utf16.jsonl": (6, []),
    "09e.csv": (1, []),
    "09f.parquet": (6, []),
    "09l_cut.jsonl": (6, [("7", "a half-written last line")]),
    "09q_surrogate.jsonl": (6, [("7", "a \\u escape that is half of a character")]),
    "09r_nested.jsonl": (6, [("1", "not valid JSON: nested too deeply")]),
    "10a_alpacaeval.jsonl": (1, []),
    "10c_pku.jsonl": (1, []),
    "10d_helpsteer2.jsonl": (1, []),
    "10h_rm_static.jsonl": (6, []),
    "10i_llmbar.json": (4, [(f"row {n}", "`label` must be 1 or 2, the number of the better output") for n in (5, 6)]),
    "10l_icai.jsonl": (1, []),
    "10q_system_field.jsonl": (4, []),
    "11b_hh_crlf.jsonl": (6, []),
    "11d_hh_null.jsonl": (6, [("7", "chosen and rejected must be transcripts")]),
    "12b_ranks_float.jsonl": (12, []),
    "12e_dup_answer.jsonl": (12, [("5", "an answer stands twice in `answers`")]),
    "12g_one_answer.jsonl": (12, [("5", "`answers` must be a list of two or more texts")]),
    "14b_human_bool.jsonl": (4, []),
    "15_dup_rows.jsonl": (6, [(str(n), f"the same pair as 15_dup_rows.jsonl:{n - 6}") for n in range(7, 13)]),
    "16a_truthful.csv": (
        6,
        [("3", "no answer that is true alone"), ("4", '"Their skin" stands among the true and the false answers')],
    ),
    "16b_truthful_mc.json": (
        6,
        [
            ("row 3", "`mc1_targets` has 2 choices and 1 labels"),
            ("row 4", "each label of `mc1_targets` must be 1 (true) or 0"),
        ],
    ),
}


def test_every_case_is_tested() -> None:
    assert {path.name for path in CASES.iterdir()} == {*READ, "10n_labelstudio.json"}


@pytest.mark.parametrize("name", READ)
def test_a_case_is_read_alike_by_a_data_source_and_by_the_bench(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    pairs, aside = READ[name]
    reading, bench = read(Path(name)), read_comparisons(name)
    assert (len(reading.pairs), reasons(reading)) == (pairs, aside)
    assert [(where.rpartition(":")[2], why) for where, why in bench.faults] == aside
    assert [(pair.prompt.messages, pair.a, pair.b, pair.human) for pair in bench.pairs] == [
        (pair.prompt.messages, pair.a, pair.b, pair.human) for pair in reading.pairs.values()
    ]
    assert all(0 <= (pair.human or 0) <= 1 and len(pair.votes) == 1 for pair in reading.pairs.values())


@pytest.mark.parametrize(
    ("name", "asked", "best"),
    [
        ("01_trl_explicit.jsonl", [("u", "Q0?")], "Good."),
        ("02_trl_implicit.jsonl", [("u", "Q0?")], "Good."),
        ("03_ultrafeedback.jsonl", [("u", "Q0?")], "Good."),
        ("06g_sharegpt.jsonl", [("u", "Hi")], "Yes."),
        ("09e.csv", [("u", "Q?")], "Good."),
        ("10a_alpacaeval.jsonl", [("u", "Q?")], "y"),
        ("10c_pku.jsonl", [("u", "Q?")], "y"),
        ("10d_helpsteer2.jsonl", [("u", "Q?")], "x"),
        ("10i_llmbar.json", [("u", "Q0?")], "x"),
        ("10l_icai.jsonl", [("u", "Q?")], "x"),
        ("10q_system_field.jsonl", [("s", "Be brief."), ("u", "Q0?")], "x"),
        ("11b_hh_crlf.jsonl", [("u", "Q0")], "Good."),
        ("14b_human_bool.jsonl", [("u", "Q0?")], "x"),
        (
            "16a_truthful.csv",
            [("u", "Does salt make water boil in half the time?")],
            "No, it changes the boiling point by very little",
        ),
        (
            "16b_truthful_mc.json",
            [("u", "Can a spoon in the bottle keep sparkling wine fizzy?")],
            "No, a stopper does",
        ),
        (
            "10h_rm_static.jsonl",
            [("u", "Hello 0"), ("a", "Hi, what is it?"), ("u", "How do I bake bread?")],
            "Flour.",
        ),
    ],
)
def test_what_the_first_row_of_a_case_says(name: str, asked: list, best: str) -> None:
    pair = next(iter(read(CASES / name).pairs.values()))
    assert (turns(pair), better(pair)) == (asked, best)


def test_alpacaevals_preference_is_a_soft_label_of_its_annotator() -> None:
    (pair,) = read(CASES / "10a_alpacaeval.jsonl").pairs.values()
    assert (pair.human if pair.a == "y" else 1 - (pair.human or 0)) == pytest.approx(0.98)
    assert pair.raters == ("g",)


def test_every_true_answer_is_better_than_every_false_one(tmp_path: Path) -> None:
    hub = {
        "category": "Kitchen",
        "question": "Is water wet?",
        "best_answer": "Yes.",
        "correct_answers": ["Yes, it is.", "Yes.", ""],
        "incorrect_answers": ["No."],
    }
    reading = rows(tmp_path, hub)
    assert [(better(pair), min(pair.a, pair.b)) for pair in reading.pairs.values()] == [
        ("Yes.", "No."), ("Yes, it is.", "No."),
    ]  # fmt: skip
    assert {pair.prompt.subset for pair in reading.pairs.values()} == {"Kitchen"}
    # Parted by semicolons it says the same, and so does the form in which mc1 is a part of mc2.
    table = {
        "Question": "Is water wet?",
        "Best Answer": "Yes.",
        "Correct Answers": "Yes, it is.; Yes.",
        "Incorrect Answers": "No.",
    }
    two = {"mc1_targets": {"Yes.": 1, "No.": 0}, "mc2_targets": {"Yes.": 1, "Yes, it is.": 1, "No.": 0}}
    marked = {"question": "Is water wet?", **two}
    for other in (table, marked):
        assert {*rows(tmp_path, other).pairs} == {*reading.pairs}
    faults = {
        "each answer must be a text": hub | {"correct_answers": [3]},
        "`incorrect_answers` must be a list of texts, or texts parted by semicolons": hub | {"incorrect_answers": 3},
        "no answer that is false alone": hub | {"incorrect_answers": ["Yes."]},
        "`mc1_targets` must have `choices` and `labels`, or a label for each answer": {
            "question": "Q?",
            "mc1_targets": [1],
        },
    }
    for problem, row in faults.items():
        (aside,) = rows(tmp_path, row, hub | {"question": "Another?"}).aside
        assert aside.reason == problem


def test_what_is_not_read_is_refused_by_its_name() -> None:
    for reader in (lambda: read_comparisons(CASES / "10n_labelstudio.json"), lambda: _source("10n_labelstudio.json")):
        with pytest.raises(UserError, match="Label Studio") as caught:
            reader()
        assert "human" in caught.value.remedy


def _source(name: str) -> None:
    from cai.data.sources.local_file import read_file as source

    source(CASES / name, Data(source=name), 0)


@pytest.mark.parametrize(("name", "copies"), [("07_near_dupes.jsonl", 5), ("08c_growing_hh.jsonl", 3)])
def test_what_begins_alike_is_on_one_side(name: str, copies: int) -> None:
    reading = read(CASES / name, test=0.5)
    sides: dict[str, set[str]] = {}
    for prompt in reading.prompts.values():
        sides.setdefault(normal(prompt.messages[0].content), set()).add(prompt.split)
    assert len(sides) * copies == len(reading.prompts) * (2 if copies == 5 else 1)
    assert {len(side) for side in sides.values()} == {1}
    assert {side for of in sides.values() for side in of} == {"train", "test"}


FORMS_OF_ONE_TALK = [
    {"chosen": "\n\nHuman: Tell {n}\n\nAssistant: a", "rejected": "\n\nHuman: Tell {n}\n\nAssistant: b"},
    {"prompt": "TELL  {n}", "chosen": "a", "rejected": "b"},
    {"prompt": "\n\nHuman: tell {n}\n\nAssistant: x\n\nHuman: And?\n\nAssistant:", "a": "c", "b": "d", "human": 1},
    {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Tell\u00a0{n}"}]},
    {"prompt": "Tell {n}\u200b", "response": "r", "helpfulness": 3},
    {"conversations": [{"from": "human", "value": "Tell {n}"}], "answers": ["p", "q"], "ranking": [1, 2]},
]


def test_one_opening_in_every_form_is_on_one_side(tmp_path: Path) -> None:
    held = [json.loads(json.dumps(row).replace("{n}", str(n))) for n in range(40) for row in FORMS_OF_ONE_TALK]
    sides: dict[str, set[str]] = {}
    for prompt in rows(tmp_path, *held, test=0.5).prompts.values():
        opening = next(message.content for message in prompt.messages if message.role == "user")
        sides.setdefault(normal(opening).casefold(), set()).add(prompt.split)
    assert len(sides) == 40 and all(len(side) == 1 for side in sides.values())
    assert {side for of in sides.values() for side in of} == {"train", "test"}


# 2. Forms: a row -> (the conversation, the better answer) ---

Q = [("u", "Q?")]
ASK, YES, NO = (
    {"role": role, "content": text} for role, text in (("user", "Q?"), ("assistant", "x"), ("assistant", "y"))
)
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, ASK]
SAID = [("u", "Hi"), ("a", "Yes?"), ("u", "Q?")]

READ_FORMS: list[tuple[dict, list, str | None]] = [
    ({"prompt": "Q?", "chosen": "x", "rejected": "y", "subset": "chat", "id": 3}, Q, "x"),  # RewardBench
    ({"prompt": [ASK], "chosen": [YES], "rejected": [NO]}, Q, "x"),
    ({"prompt": TALK, "chosen": [YES], "rejected": [NO]}, SAID, "x"),
    ({"prompt": [ASK], "chosen": [ASK, YES], "rejected": [ASK, NO]}, Q, "x"),
    ({"chosen": [*TALK, YES], "rejected": [*TALK, NO], "system": "S"}, [("s", "S"), *SAID], "x"),
    ({"prompt": "Q?", "chosen": [*TALK, YES], "rejected": [*TALK, NO]}, SAID, "x"),
    ({"messages": TALK, "chosen": "x", "rejected": "y"}, SAID, "x"),
    ({"messages": [ASK, YES], "chosen": [ASK, YES], "rejected": [ASK, NO]}, Q, "x"),
    ({"prompt": "Q?", "messages": TALK, "chosen": "x", "rejected": "y"}, SAID, "x"),
    ({"system": "", "question": "Q?", "chosen": "x", "rejected": "y"}, Q, "x"),
    ({"instruction": "Sum up.", "input": "Text.", "chosen": "x", "rejected": "y"}, [("u", "Sum up.\n\nText.")], "x"),
    ({"instruction": "Q?", "history": [["Hi", "Yes?"]], "chosen": "x", "rejected": "y"}, SAID, "x"),
    ({"input": {"messages": TALK}, "preferred_output": [YES], "non_preferred_output": [NO]}, SAID, "x"),
    ({"question": "Q?", "response_j": "x", "response_k": "y"}, Q, "x"),
    ({"chosen": "User: Hi\nAssistant: Yes?\nUser: Q?\nAssistant: x",
      "rejected": "User: Hi\nAssistant: Yes?\nUser: Q?\nAssistant: y"}, SAID, "x"),
    ({"prompt": "Human: Hi\n\nAssistant: Yes?\n\nHuman: Q?\n\nAssistant:", "chosen": " x", "rejected": " y"}, SAID,
     "x"),
    ({"prompt": "Q?", "response_0": "x", "response_1": "y", "better_response_id": "0", "safer_response_id": 0.0},
     Q, "x"),
    ({"prompt": "Q?", "response_1": "x", "response_2": "y", "preference_strength": 2}, Q, "y"),
    ({"context": TALK, "response1": "x", "response2": "y", "overall_preference": -1}, SAID, "x"),
    ({"context": TALK, "response1": "x", "response2": "y", "overall_preference": 0}, SAID, "="),
    ({"history": "Q?", "human_ref_A": "x", "human_ref_B": "y", "labels": 0, "score_A": 9, "score_B": 1}, Q, "y"),
    ({"question_id": 1, "model_a": "m", "model_b": "n", "winner": "model_b", "judge": ["gpt-4", "pair"], "turn": 1,
      "conversation_a": [*TALK, YES], "conversation_b": [*TALK, NO]}, SAID, "y"),
    ({"winner": "tie (bothbad)", "conversation_a": [ASK, YES], "conversation_b": [ASK, NO]}, Q, "="),
    ({"prompt": '["Q?"]', "response_a": '["x"]', "response_b": '["y"]', "winner_model_a": 0, "winner_model_b": 1,
      "winner_tie": 0}, Q, "y"),
    ({"question": "Q?", "response_A": "x", "response_B": "y", "label": "B>A"}, Q, "y"),
    ({"question": "Q?", "response_A": "x", "response_B": "y", "label": "A>>B"}, Q, "x"),
    ({"question": {"full_text": "Q?"}, "answer_0": "x", "answer_1": "y", "score_0": -1.0, "score_1": 1.0}, Q, "y"),
    ({"instruction": "Q?", "output_1": "x", "output_2": "y", "preference": 1}, Q, "x"),
    ({"instruction": "Q?", "output_1": "x", "output_2": "y", "preference": 1.5}, Q, "="),
    ({"prompt": "Q?", "text_a": "x", "text_b": "y", "preferred_text": "text_b"}, Q, "y"),
    ({"prompt": "Q?", "a": "x", "b": "y", "winner": "b"}, Q, "y"),
    ({"prompt": "Q?", "a": "x", "b": "y", "human": "0"}, Q, "y"),
    ({"prompt": "Q?", "a": "x", "b": "y", "human": False}, Q, "y"),
    ({"prompt": "Q?", "a": "x", "b": "y"}, Q, None),
    ({"prompt": "Q?", "answers": ["x", "y"], "ranks": ["2", "1"]}, Q, "y"),
    ({"prompt": "\n\nHuman: Q?\n\nAssistant: ", "answers": [{"answer": "x", "rank": 1}, {"answer": "y", "rank": 2}]}, Q,
     "x"),  # Nectar
    ({"instruction": "Q?", "completions": [{"response": "x", "overall_score": 2},
      {"response": "y", "overall_score": 8}]},
     Q, "y"),  # UltraFeedback
    ({"message_tree_id": "t", "tree_state": "ready", "prompt": {"role": "prompter", "text": "Q?", "replies": [
        {"role": "assistant", "text": "x", "rank": 1, "replies": []}, {"role": "assistant", "text": "y", "rank": 0}]}},
     Q, "y"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "asked", "best"), READ_FORMS)
def test_a_form_is_read(tmp_path: Path, row: dict, asked: list, best: str | None) -> None:
    pair = one(rows(tmp_path, row))
    assert (turns(pair), {pair.a, pair.b}, better(pair)) == (asked, {"x", "y"}, best)


def test_the_best_of_four_is_better_than_each_other(tmp_path: Path) -> None:
    row = {"prompt": "Q?", "chosen": ["x"], "rejected": ["p", "q", "r"], "num_correct": 1, "subset": "Math"}
    pairs = rows(tmp_path, row).pairs.values()
    assert [({pair.a, pair.b} - {"x"}, better(pair)) for pair in pairs] == [({name}, "x") for name in "pqr"]
    assert {pair.prompt.subset for pair in pairs} == {"Math"}


def test_helpsteer3s_people_have_a_vote_each(tmp_path: Path) -> None:
    people = [{"score": score, "reasoning": "..."} for score in (-2, -1, 1)]
    row = {
        "context": [ASK],
        "response1": "x",
        "response2": "y",
        "overall_preference": -1,
        "individual_preference": people,
    }
    pair = one(rows(tmp_path, row))
    assert sorted(pair.votes) == ([0, 1, 1] if pair.a == "x" else [0, 0, 1]) and better(pair) == "x"
    assert (pair.human if pair.a == "x" else 1 - (pair.human or 0)) == pytest.approx(2 / 3)


def test_icais_annotated_pairs_are_labelled_by_people_and_not_by_principles(tmp_path: Path) -> None:
    held = {
        "metadata": {"version": "2.0", "default_annotator": "h1"},
        "annotators": {"h1": {"name": "Human", "type": "unknown"}, "p1": {"name": "be kind", "type": "principle"}},
        "comparisons": [
            {"id": "c1", "prompt": "Q?", "response_a": {"text": "x"}, "response_b": {"text": "y"},
             "annotations": {"h1": {"pref": "b"}, "p1": {"pref": "a"}}},
            {"id": "c2", "prompt": "R?", "response_a": {"text": "x"}, "response_b": {"text": "y"},
             "annotations": {"p1": {"pref": "a"}}},
        ],
    }  # fmt: skip
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(held, indent=1))
    reading = read(path)
    pair = one_of(reading)
    assert (better(pair), pair.raters) == ("y", ("Human",))
    assert reasons(reading) == [("comparisons 2", "which answer is better cannot be read from `annotations`")]


def one_of(reading: FileContents) -> Pair:
    (pair,) = reading.pairs.values()
    return pair


def test_rated_answers_a_row_are_compared_within_their_conversation_and_rater(tmp_path: Path) -> None:
    def rated(prompt: str, answer: str, value: Any, **more: Any) -> dict:
        return {"prompt": prompt, "completion": answer, "label": value, **more}

    reading = rows(
        tmp_path,
        rated("Q?", "x", True, rater="ann"), rated("Q?", "y", False, rater="ann"), rated("Q?", "z", True, rater="bob"),
        rated("R?", "x", 1), rated("R?", "y", "false"), rated("S?", "x", True), rated("R?", "y", False),
    )  # fmt: skip
    assert [({pair.a, pair.b}, better(pair), pair.raters) for pair in reading.pairs.values()] == [
        ({"x", "y"}, "x", ("ann",)),
        ({"x", "y"}, "x", ()),
    ]
    assert [reason.replace(str(tmp_path), "") for _, reason in reasons(reading)] == [
        "a rated answer with no other to compare it with",  # bob's, of Q?
        "the same rating as /rows.jsonl:5",
        "a rated answer with no other to compare it with",
    ]
    assert len(reading.prompts) == 3


def test_a_tree_that_stands_as_a_table_is_put_together(tmp_path: Path) -> None:
    def node(name: str, parent: str | None, text: str, rank: int | None = None) -> dict:
        role = "assistant" if len(name) % 2 == 0 else "prompter"
        return {"message_id": name, "parent_id": parent, "text": text, "role": role, "rank": rank, "deleted": False}

    reading = rows(
        tmp_path,
        node("ab", "a", "Yes?", 0), node("a", None, "Hi"), node("ac", "a", "No.", 1), node("abd", "ab", "Q?"),
        node("abde", "abd", "x", 1), node("abdf", "abd", "y", 0), node("abdg", "abd", "w"), node("zz", "z", "lost", 0),
    )  # fmt: skip
    first, second = reading.pairs.values()
    assert (turns(first), better(first)) == ([("u", "Hi")], "Yes?")
    assert (turns(second), {second.a, second.b}, better(second)) == (SAID, {"x", "y"}, "y")
    assert reasons(reading) == [("8", "an answer to a message that is not in the file")]


# 3. What is not read, and why ---

PARTS = [{"type": "image_url", "image_url": "x"}, {"type": "text", "text": "Q?"}]
TWO = {"chosen": "x", "rejected": "y"}
REFUSED: list[tuple[dict, str]] = [
    ({"prompt": "Q?", "response_0": "x", "response_1": "y", "better_response_id": 0, "safer_response_id": 1},
     "`better_response_id` and `safer_response_id` name different answers"),
    ({"prompt": "Q?", "response_0": "x", "response_1": "y", "is_response_0_safe": True}, "cannot be read from"),
    ({"prompt": "Q?", "a": "x", "b": "y", "label": 1}, "`label` names neither a nor b"),
    ({"prompt": "Q?", "a": "x", "b": "y", "my_rating": 1}, "cannot be read from `my_rating`"),
    ({"prompt": "Q?", "response": "x"}, "answers or judgements that are not read: `response`"),
    ({"prompt": "Q?", "label": 1}, "answers or judgements that are not read: `label`"),
    ({"messages": [ASK, YES]}, "must end with the user's turn"),
    ({"instruction": "Q?", "input": "", "output": "x"}, "not a comparison: its fields are instruction, input, output"),
    ({"text": "x", "label": 1}, "not a comparison: its fields are text, label"),
    ({"text_a": "x", "text_b": "y", "preferred_text": "text_a"}, "no prompt: `text_a` and `text_b`"),
    ({"instruction": "Q?", "output_1": "x", "output_2": "y", "preference": 0}, "`preference` must be from 1"),
    ({"context": [ASK], "response1": "x", "response2": "y", "overall_preference": -100}, "must be from -3 to 3"),
    ({"prompt": "Q?", "text_a": "x", "text_b": "y", "preferred_text": "text_c"}, "names neither text_a nor text_b"),
    ({"history": "Q?", "human_ref_A": "x", "human_ref_B": "y", "labels": 2}, "`labels` must be 1"),
    ({"prompt": "Q?", **TWO, "score_chosen": 5, "score_rejected": 5}, "have one score"),
    ({"prompt": "Q?", **TWO, "score_chosen": 2, "score_rejected": 5}, "lower score"),
    ({"prompt": "Q?", "chosen": [ASK, YES], "rejected": [{**ASK, "content": "R?"}, NO]}, "part before the last answer"),
    ({"prompt": "Other?", "chosen": [ASK, YES], "rejected": [ASK, NO]}, "`prompt` is not what"),
    ({"prompt": [ASK, ASK], **TWO}, "one speaker has two turns in a row"),
    ({"prompt": [YES, ASK], **TWO}, "does not begin with, or answer, a person"),
    ({"prompt": [{"role": "user", "content": PARTS}], **TWO}, 'a part of the type "image_url"'),
    ({"prompt": [ASK, {**YES, "tool_calls": [{"id": 1}]}, ASK], **TWO}, "`tool_calls` besides its text"),
    ({"prompt": "Q?", "images": ["x.png"], **TWO}, "a row with `images`"),
    ({"prompt": "Q?", "tools": [{"name": "f"}], **TWO}, "a row with `tools`"),
    ({"prompt": "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\n", **TWO}, "already rendered"),
    ({"system": "S", "prompt": [{"role": "system", "content": "T"}, ASK], **TWO}, "`system` is not the system turn"),
    ({"prompt": "Q?", "completions": ["x", "y"], "labels": [True, False]}, "stepwise supervision"),
    ({"pair_id": "p", "choice": "a"}, "a label, not a pair"),
    ({"prompt": "Q?", "answers": ["x", "y"], "ranking": [1, "first"]}, "a rank must be a whole number"),
    ({"message_tree_id": "t", "prompt": {"role": "prompter"}}, "a message of a tree needs"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "problem"), REFUSED)
def test_a_row_that_is_not_read_is_named_and_costs_no_other(tmp_path: Path, row: dict, problem: str) -> None:
    good = {"prompt": "Good?", **TWO}
    reading = rows(tmp_path, good, row, {**good, "prompt": "Better?"})
    ((line, reason),) = reasons(reading)
    assert line == "2" and problem in reason
    assert reading.aside[0].row == json.dumps(row)
    assert [pair.prompt.messages[0].content for pair in reading.pairs.values()] == ["Good?", "Better?"]


def test_too_long_is_left_out_in_every_form_and_in_every_script(tmp_path: Path) -> None:
    long = "word " * 11
    held = [
        {"prompt": "Q?", "chosen": "x", "rejected": long},
        {"prompt": long, "a": "x", "b": "y", "human": 1},
        {"prompt": long},
        {"prompt": "Q?", "answers": ["x", "y", long], "ranking": [1, 2, 3]},
        {"prompt": "你" * 11, "chosen": "x", "rejected": "y"},
        {"prompt": "你" * 10, "chosen": "x", "rejected": "y"},
    ]
    reading = rows(tmp_path, *held, max_words=10)
    assert sorted(reasons(reading)) == [(line, "too long") for line in "123445"]  # two of the pairs of row 4
    assert len(reading.pairs) == 2


def test_a_transcript_is_one_only_where_it_begins_with_a_speaker() -> None:
    assert transcript_in("Human: a\nAssistant: b\nHuman: c")[-1].content == "c"
    assert transcript_in("H: a\n\nA: b\n\nH: c")[0].content == "a"
    for text in ("Write: \n\nHuman: a\n\nAssistant: b", "Human: nature is odd", "The user: a\nAssistant: b", ""):
        assert transcript_in(text) == ()


# 4. Files ---

LINES = "".join(json.dumps({"prompt": f"Q{n}?", **TWO}) + "\n" for n in range(3))
ARRAY = json.dumps([json.loads(line) for line in LINES.splitlines()], indent=1)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("r.jsonl", LINES.encode()),
        ("r.json", LINES.encode()),
        ("r.json", ARRAY.encode()),
        ("r.jsonl", ARRAY.encode()),
        ("r.json", ('{"rows": ' + ARRAY + "}").encode()),
        ("r.jsonl", ("\ufeff" + LINES).encode()),
        ("r.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("r.jsonl", LINES.encode("utf-16")),
        ("r.jsonl", LINES.encode("utf-16-be")),
        ("r.jsonl", LINES.encode("utf-32")),
        ("r.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("r.jsonl", gzip.compress(LINES.encode(), mtime=0)),
        ("r.jsonl.bz2", bz2.compress(LINES.encode())),
        ("r.jsonl.xz", lzma.compress(LINES.encode())),
        ("r.csv", b"prompt,chosen,rejected\nQ0?,x,y\nQ1?,x,y\nQ2?,x,y\n"),
        ("r.csv", b"\xef\xbb\xbfprompt;chosen;rejected\r\nQ0?;x;y\r\nQ1?;x;y\r\nQ2?;x;y\r\n"),
        ("r.tsv", b"prompt\tchosen\trejected\nQ0?\tx\ty\nQ1?\tx\ty\nQ2?\tx\ty\n"),
        ("r.csv.gz", gzip.compress(b"prompt,chosen,rejected\nQ0?,x,y\nQ1?,x,y\nQ2?,x,y\n", mtime=0)),
    ],
)
def test_a_file_of_any_kind(tmp_path: Path, name: str, held: bytes) -> None:
    (tmp_path / name).write_bytes(held)
    reading = read(tmp_path / name)
    assert reading.aside == []
    assert [(turns(pair), better(pair)) for pair in reading.pairs.values()] == [
        ([("u", f"Q{n}?")], "x") for n in range(3)
    ]


def test_csv_cells_hold_lines_numbers_and_messages_and_a_torn_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    messages = json.dumps([ASK]).replace('"', '""')
    path.write_text(f'prompt,a,b,human\n"Two\nlines",x,y,1\nQ?,x,y\n"{messages}",x,y,0.25\n')
    reading = read(path)
    assert [(turns(pair)[0][1], pair.human) for pair in reading.pairs.values()] == [("Two\nlines", 1.0), ("Q?", 0.25)]
    assert reasons(reading) == [("4", "3 cells for 4 columns")]


@pytest.mark.parametrize(
    ("name", "held", "problem"),
    [
        ("r.xlsx", b"PK\x03\x04....", "Excel"),
        ("r.jsonl", b"PK\x03\x04....", "zip archive"),
        ("r.arrow", b"ARROW1\0\0", "Arrow"),
        ("r.jsonl.zst", b"\x28\xb5\x2f\xfd..", "zstd"),
        ("r.db", b"SQLite format 3\0", "SQLite"),
        ("r.jsonl", b"<!DOCTYPE html><html>", "HTML"),
        ("r.yaml", b"prompt: Q?\n", "YAML"),
        ("r.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("r.parquet", b"PAR1 and no more", "cannot be read on from here"),
        ("r.csv", b"prompt,prompt\nx,y\n", "two columns"),
        ("r.csv", b"prompt,a,b\ncaf\xe9,x,y\n", "not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_read_is_named_for_what_it_is(tmp_path: Path, name: str, held: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(held)
    with pytest.raises(UserError, match=problem) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in caught.value.where and caught.value.remedy


def test_an_array_that_is_cut_off_keeps_what_stands_before(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(ARRAY[:-30])
    reading = read(tmp_path / "r.json")
    assert len(reading.pairs) == 2 and reasons(reading)[0][0] == "row 3"
    assert "not valid JSON from here on" in reasons(reading)[0][1]


def test_half_a_character_and_deep_brackets_are_named_in_every_place(tmp_path: Path) -> None:
    deep = '{"prompt": "Q?", "a": "x", "b": "y", "human": 1, "x": ' + "[" * 3000 + "]" * 3000 + "}"
    (tmp_path / "r.json").write_text(
        f'[{{"prompt": "\\ud83d", "a": "x", "b": "y", "human": 1}}, {LINES.splitlines()[0]}]'
    )
    assert reasons(read(tmp_path / "r.json")) == [("row 1", "a \\u escape that is half of a character")]
    reading = rows(tmp_path, deep, *LINES.splitlines())
    assert (len(reading.pairs), reasons(reading)) == (3, [("1", "not valid JSON: nested too deeply")])
