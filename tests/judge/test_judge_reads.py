"""`python -m cai.judge reads` as a command: what it prints, and each fault of the user's by name, with exit code 2."""

import json
from pathlib import Path
from typing import Any

import pytest

from cai.core.errors import run_main
from cai.judge.__main__ import main
from cai.models.references import ModelRef

KIND = "- Choose the response that is kind.\n"
SECTION = "## {}\nCritique: c\nRevise: r\nPrefer: Choose the response that is {}.\n"
CRIME = SECTION.format("crime", "safe") + "Applies to: crime\n"
PLACEBOS = [str(path.resolve()) for path in sorted(Path("constitutions/placebo").glob("*.txt"))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pairs of category hate, a constitution, and another one to hold beside it."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n}?", "a": "Yes, I do.", "b": "No.", "human": n % 2, "subset": "hate"} for n in range(6)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("law.txt").write_text(KIND)
    Path("other.txt").write_text("- Choose the response that is brief.\n")
    return tmp_path


def command(model: str, *more: str) -> list[str]:
    given = [word for file in PLACEBOS[:3] for word in ("--placebo", file)] if "--placebo" not in more else []
    return ["reads", "law.txt", "pairs.jsonl", "--model", model, "--other", "other.txt", "--dtype", "float32",
            "--method", "contrast", *given, *more]  # fmt: skip


def fault(capsys: Any, model: str, *more: str) -> str:
    assert run_main(main, command(model, *more)) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and "Traceback" not in err and not out
    assert not Path("runs").exists()  # it is said before a model is loaded
    return err


def test_a_table_and_the_same_as_json_from_the_cache(place: Path, sharp: ModelRef, capsys: Any) -> None:
    assert run_main(main, command(sharp.place)) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].endswith("float32 on cpu; law.txt, at most 3 of its principles a pair; 6 pairs of pairs.jsonl")
    (head,) = [line for line in lines if line.startswith("method")]
    assert head.split() == ["method", "gain", "turn", "share", "labels", "turned"]
    texts = [
        line.split("  ")[0] for line in lines if line.startswith(("the const", "placebos", "negated", "none", "an"))
    ]
    assert texts == ["the constitution", "placebos", "negated", "none (one neutral principle)",
                     "another constitution: other.txt"]  # fmt: skip
    assert "contrast: 6 pairs" in err

    assert run_main(main, command(sharp.place, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["principles"], found["other"], found["seed"]) == (6, "all", "other.txt", 0)
    assert found["placebos"] == ["bicycles", "pottery", "seasons"] and found["noted"] == []
    effect = found["methods"]["contrast"]
    assert effect["share"]["n"] == 6 and set(effect["agreement"]) == {"text", "negated", "none", "other", "placebo"}


def test_rows_that_are_left_out_are_named(place: Path, sharp: ModelRef, capsys: Any) -> None:
    """A download that was cut off in the middle of a row, and a pair that repeats one answer."""
    whole = Path("pairs.jsonl").read_text()
    Path("pairs.jsonl").write_text(whole + '{"prompt": "7?", "a": "No.", "b": "No.", "human": 1}\n' + whole[:40])
    assert run_main(main, command(sharp.place)) == 0
    out = capsys.readouterr().out
    assert "malformed rows: 2\n  pairs.jsonl:7: " in out and "\n  pairs.jsonl:8: " in out
    assert run_main(main, command(sharp.place, "--json")) == 0
    assert [row["where"] for row in json.loads(capsys.readouterr().out)["malformed"]] == [
        "pairs.jsonl:7",
        "pairs.jsonl:8",
    ]


def test_a_sample_by_one_principle_of_several(place: Path, sharp: ModelRef, capsys: Any) -> None:
    Path("law.txt").write_text(KIND + "- Choose the response that is honest.\n")
    assert run_main(main, command(sharp.place, "--limit", "4", "--principles", "1")) == 0
    assert "law.txt, principles: 1; 4 pairs of pairs.jsonl" in capsys.readouterr().out


def test_a_constitution_without_anything_to_negate(place: Path, tiny: ModelRef, capsys: Any) -> None:
    Path("law.txt").write_text("Kindness above all.\nHonesty as well.\n")
    assert (
        "law.txt: the constitution has nothing to negate: no principle has an `Against:`, and no rule knows"
        in fault(capsys, "tiny-random")
    )


def test_a_principle_without_a_negation_beside_others_is_a_note(place: Path, sharp: ModelRef, capsys: Any) -> None:
    Path("law.txt").write_text(KIND + "Kindness above all.\n")
    assert run_main(main, command(sharp.place)) == 0
    assert 'note: "Kindness above all." has no negation: write its `Against:`\n' in capsys.readouterr().out


def test_no_pair_of_a_category(place: Path, tiny: ModelRef, sharp: ModelRef, capsys: Any) -> None:
    Path("law.txt").write_text(CRIME)
    err = fault(capsys, "tiny-random")
    assert 'law.txt: no principle applies to the pairs of category "hate" (no pair is of crime)' in err
    assert 'change "Applies to:"' in err
    # Where other principles can be put to the test, it is a note.
    Path("law.txt").write_text(SECTION.format("all", "kind") + CRIME)
    assert run_main(main, command(sharp.place)) == 0
    note = 'note: no pair is of category "crime": the principles for it alone were not put to the test\n'
    assert note in capsys.readouterr().out


def test_a_placebo_that_is_the_constitution(place: Path, tiny: ModelRef, capsys: Any) -> None:
    Path("mine.txt").write_text(KIND)
    placebos = [word for file in ["mine.txt", *PLACEBOS[:2]] for word in ("--placebo", file)]
    assert 'mine: the placebo "mine" is the constitution: most of its principles stand there' in fault(
        capsys, "tiny-random", *placebos
    )
    Path("law.txt").write_text(Path(PLACEBOS[1]).read_text())
    assert 'the placebo "pottery" is the constitution' in fault(capsys, "tiny-random")


def test_placebos_that_speak_of_the_data_or_are_too_few(place: Path, tiny: ModelRef, capsys: Any) -> None:
    err = fault(capsys, "tiny-random", "--placebo", PLACEBOS[0])
    assert "placebos: 1 of 1 placebos have nothing to do with the data, and 2 are needed" in err
    Path("yes.txt").write_text("- Choose the response that oils the chain.\n")
    with Path("pairs.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "Who oils chains?", "a": "x", "b": "y", "subset": "hate"}) + "\n")
    err = fault(capsys, "tiny-random", "--placebo", PLACEBOS[2], "--placebo", "yes.txt")
    assert '"Choose the response that oils the chain." speaks of a prompt (chain, oil)' in err
    assert "two placebos of one name" in fault(capsys, "tiny-random", "--placebo", "yes.txt", "--placebo", "yes.txt")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--method", "provenance"], "--method: provenance asks the judge nothing, so it has no log-probabilities"),
        (["--method", "rate,provenance"], "so it has no log-probabilities and there is nothing to read"),
        (["--method", "chioce"], '--method: there is no method "chioce"\n  -> did you mean "choice"?'),
        (["--limit", "0"], "--limit: 0 is not a number from 1 on"),
        (["--max-length", "0"], "--max-length: 0 is not a number from 1 on"),
        (["--principles", "some"], "--principles: some is not a number from 1 on"),
        (["--model", "smollm"], 'there is no model "smollm"'),
        (["--other", "none.txt"], "none.txt"),
        (["--device", "cuda:7"], '--device: the device "cuda:7" is not there'),
        (["--cache", "law.txt"], "law.txt"),
    ],
)
def test_bad_arguments(place: Path, tiny: ModelRef, more: list[str], problem: str, capsys: Any) -> None:
    assert problem in fault(capsys, "tiny-random", *more)


def test_files_that_are_not_there(place: Path, tiny: ModelRef, capsys: Any) -> None:
    for name in ("law.txt", "pairs.jsonl"):
        Path(name).rename(f"{name}.away")
        assert f"{name}: " in fault(capsys, "tiny-random")
        Path(f"{name}.away").rename(name)
    Path("pairs.jsonl").write_text('{"prompt": "x"}\n')
    assert "no comparison in this file can be used" in fault(capsys, "tiny-random")
