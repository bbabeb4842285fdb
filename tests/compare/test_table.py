"""Numbers put into words: what the terminal and the report say of an estimate, a difference and an experiment."""

import io

import pytest
from reports import est, results
from rich.console import Console

from cai.compare.report import duration
from cai.compare.table import (
    interval,
    number,
    p_value,
    print_table,
    sample,
    sentence,
    speaks_for,
    standing,
    value,
    verdict,
)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "value", "high", "noise", "says"),
    [
        (0.467, 0.524, 0.573, 0.03, "52% [47, 57] of games: no difference can be shown at this size."),
        (0.504, 0.55, 0.6, 0.03, "55.0% [50.4, 60.0] of games: ai wins more often than human, by more than the noise"),
        (
            0.31,
            0.4,
            0.48,
            0.03,
            "40% [31, 48] of games: human wins more often than ai, by more than the noise floor of",
        ),
        (
            0.51,
            0.55,
            0.6,
            0.08,
            "two seeds of one arm differ by as much (the noise floor of 8.0 pts), so no difference",
        ),
        (0.51, 0.55, 0.6, None, "the interval excludes 50%, but no second seed tells"),
        (None, 0.55, None, 0.03, "too few prompts for an interval"),
    ],
)
def test_sentence_claims_no_more_than_the_numbers(low, value, high, noise, says) -> None:
    headline = {"estimate": est(value, low, high), "noise": noise, "arms": ["ai", "human"]}
    said = sentence({"arms": ["ai", "human"], "seeds": [0, 1], "headline": headline})
    assert says in said and said.startswith("On 118 held-out prompts and 2 seeds, ai beats human in ")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"prompts_needed": 894}, "at this size; about 890 prompts would be needed to see this one."),
        ({"prompts_needed": 7}, "about 7 prompts would be needed"),
        ({"prompts_needed": None}, "at this size; with seeds that differ this much, only more seeds could show one"),
        ({"equivalent": True, "margin": 0.05}, "of games: the arms are equivalent within the margin of 5 points."),
    ],
)
def test_sentence_says_what_would_be_needed_or_that_the_arms_are_equivalent(more, says) -> None:
    headline = {"estimate": est(0.51, 0.48, 0.54), "noise": 0.03, "arms": ["ai", "human"], "equivalent": False} | more
    assert says in sentence({"arms": ["ai", "human"], "seeds": [0, 1, 2], "headline": headline})
    if more.get("prompts_needed"):
        assert "one (for this seed only)." in sentence({"arms": ["ai"], "seeds": [0], "headline": headline})


def test_verdict_heeds_equivalence_and_holms_correction() -> None:
    found = {"estimate": est(0.03, 0.01, 0.045), "noise": 0.0, "of": ["ai", "human"]}
    line = {"better": "higher", "unit": "%"}
    assert verdict({**line, "difference": {**found, "p_holm": 0.03}}) == "ai better"
    assert speaks_for({**line, "difference": {**found, "p_holm": 0.03}}) == "ai"
    assert speaks_for({**line, "difference": {**found, "p_holm": 0.05}}) is None
    assert verdict({**line, "difference": {**found, "p_holm": 0.05}}) == "not shown, as one of many"
    same = {**found, "p_holm": 0.03, "equivalent": True, "margin": 0.05}
    assert verdict({**line, "difference": same}) == "equivalent (within 5 pts)"


def test_sentence_without_games() -> None:
    headline = {"estimate": est(None, n=0, clusters=0), "noise": None, "arms": ["ai", "human"]}
    said = sentence({"arms": ["ai", "human"], "seeds": [0], "headline": headline})
    assert said == "No game between ai and human could be judged: there is nothing to compare."


def test_standing_needs_interval_and_noise_floor() -> None:
    assert standing(est(0.1, 0.02, 0.2), 0.05) == "shown"
    assert standing(est(-0.1, -0.2, -0.02), 0.05) == "shown"
    assert standing(est(0.1, 0.02, 0.2), 0.1) == "within noise"
    assert standing(est(0.1, -0.02, 0.2), 0.05) == "not shown"
    assert standing(est(0.1, 0.02, 0.2), None) == "noise unknown"
    assert standing(est(0.1), 0.05) == "no interval"
    assert standing(None, 0.05) == standing(est(None), 0.05) == "no data"


def test_verdict_names_the_better_arm() -> None:
    def say(value: float, better: str | None) -> str:
        difference = {"estimate": est(value, value - 0.01, value + 0.01), "noise": 0.0, "of": ["ai", "human"]}
        return verdict({"better": better, "difference": difference})

    assert [say(0.1, "higher"), say(0.1, "lower"), say(-0.1, None)] == ["ai better", "human better", "ai lower"]


def test_numbers_for_people() -> None:
    shown = [number(x) for x in (148.2, 12.345, 1.2345, 0.01234, -0.5, 0, 1234.5, None, float("nan"))]
    assert shown == ["148", "12.3", "1.23", "0.0123", "−0.500", "0", "1,234", "–", "–"]
    assert [number(-0.0004, "%", sign=True), number(0.5214, "%")] == ["+0.0 pts", "52.1%"]
    assert value(est(0.5, 0.4, 0.6)) + " " + interval(est(0.5, 0.4, 0.6)) == "50.0% [40.0, 60.0]"
    assert interval(est(12, 9.87, 104.2), "") == "[10, 104]"
    assert [value(est(None)), value(est(None, n=0)), value(None)] == ["undefined", "no data", "no data"]
    assert sample(est(1, 1, 1, 1, 1)) == "n 1 in 1 prompt"
    assert [duration(8.44), duration(125), duration(12000)] == ["8.4 s", "2 min 5 s", "3 h 20 min"]


def test_p_values_are_never_zero() -> None:
    said = [p_value(p) for p in (0.0, 0.0004, 0.0312, 0.34, 1.0, None, float("nan"))]
    assert said == ["< 0.001", "< 0.001", "0.031", "0.34", "1.00", "–", "–"]


def test_table_without_a_terminal_is_plain_ascii_of_limited_width() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_table({**results(), "arms": ["ai", "human"]}, Console(file=file))
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert max(map(len, text.splitlines())) <= 132
    assert "On 118 held-out prompts and 2 seeds, ai beats human in 52% [47, 57]" in " ".join(text.split())
    assert (
        "56.1%" in text
        and "n 236/118" in text
        and "[50.1, 61.1]" in text
        and "-8.9 pts" in text
        and "[-12.9, -5.4]" in text
    )
    assert "ai better" in text and "warning: The judge is SmolLM2" in text


def test_six_columns_of_two_runs_keep_their_names_and_their_verdicts() -> None:
    names = {"ai": "quickstart.ai", "human": "quickstart.human", "sft": "sft"}
    made = results()
    for measure in made["measures"]:
        arms = {names[arm]: estimate for arm, estimate in measure["arms"].items() if arm in names}
        more = dict.fromkeys(("quickstart.ai-placebo", "quickstart.shuffled", "start"), est(0.5, 0.4, 0.6))
        measure["arms"] = arms | more
    made["arms"] = [*names.values(), "quickstart.ai-placebo", "quickstart.shuffled", "start"]
    file = io.StringIO()
    print_table(made, Console(file=file))
    lines = file.getvalue().splitlines()
    place = next(number for number, line in enumerate(lines) if line.strip().startswith("measure"))
    heads = "".join("".join(line.split()) for line in lines[place - 2 : place + 3])
    for name in ("ai", "human", "ai-placebo", "shuffled", "start", "difference", "noise", "readsas"):
        assert name in heads, heads
    assert heads.count("quickstart") == 4 and max(map(len, lines)) <= 132
    assert "ai better" in file.getvalue() and "[-12.9, -5.4]" in file.getvalue()


def test_table_on_a_terminal_has_colour() -> None:
    file = io.StringIO()
    print_table(results(), Console(file=file, force_terminal=True, width=140, color_system="standard"))
    assert "\x1b[" in file.getvalue() and "[50.1, 61.1]" in file.getvalue()
