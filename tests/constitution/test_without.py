"""A constitution less a principle, the arms that leave out each, and what is drawn and asked without it."""

from pathlib import Path

import pytest
from test_constitution import ROOT

from cai.config.load import read_experiment
from cai.constitution import draw, less, read_constitution
from cai.constitution.each import expanded, same_but_for_principle, slugs
from cai.core.errors import UserError, UserErrors

FULL = """# Two rules and a third

Notes.

## kind

Critique: Say where it is unkind.
Revise: Make it kind.
Prefer: Choose the kind response.

## short, please

Critique: Say where it
  rambles.
Revise: Shorten it.
Prefer: Choose the short response.

## true
Critique: Say what is false.
Revise: Mend it.
Prefer: Choose the true response.
Weight: 2
"""
SHORT = "# Three\n\n- Be kind,\n  always.\n# a remark\n- Be short.\n- Be true."


def constitution(tmp_path: Path, text: str):
    file = tmp_path / "mine.txt"
    file.write_text(text)
    return read_constitution(file)


def test_a_section_is_cut_out_and_nothing_else_moves(tmp_path) -> None:
    whole = constitution(tmp_path, FULL)
    smaller = less(whole, "short, please")
    assert smaller.text == FULL[: FULL.index("## short")] + FULL[FULL.index("## true") :]
    assert [p.name for p in smaller.principles] == ["kind", "true"]
    assert smaller.judging == (whole.judging[0], whole.judging[2]) and smaller.revising[1] == whole.revising[2]
    assert less(whole, None) is whole and [p.name for p in less(whole, "true").principles] == ["kind", "short, please"]


def test_of_the_short_form_a_wrapped_line_goes_as_a_whole(tmp_path) -> None:
    whole = constitution(tmp_path, SHORT)
    assert less(whole, "Be kind, always.").text == "# Three\n\n# a remark\n- Be short.\n- Be true."
    assert less(whole, "Be true.").text == SHORT.removesuffix("\n- Be true.")


@pytest.mark.parametrize("file", sorted((ROOT / "constitutions").glob("*.txt")), ids=lambda path: path.stem)
def test_every_principle_of_every_constitution_can_be_left_out(file) -> None:
    whole = read_constitution(file)
    for principle in whole.principles if len(whole.principles) > 1 else ():
        kept = [p.name for p in less(whole, principle.name).principles]
        assert kept == [p.name for p in whole.principles if p is not principle]


def test_a_principle_that_is_not_there_or_alone_is_said(tmp_path) -> None:
    with pytest.raises(UserError, match=r"(?s)is called \"knd\".*did you mean \"kind\""):
        less(constitution(tmp_path, FULL), "knd")
    with pytest.raises(UserError, match="the only principle"):
        less(constitution(tmp_path, "- Be kind."), "Be kind.")


def test_without_a_principle_no_other_draw_moves() -> None:
    """Where it was not drawn, the same two are; where it was, the other stays, and the third in line follows."""
    principles = read_constitution(ROOT / "constitutions" / "quickstart.txt").judging
    left = [p for p in principles if p.name != "no crime"]
    hit = 0
    for number in range(300):
        three = [p.name for p in draw(principles, seed=0, key=str(number), n=3)]
        two = [p.name for p in draw(left, seed=0, key=str(number), n=2)]
        hit += "no crime" in three[:2]
        assert two == [name for name in three if name != "no crime"][:2]
    assert 70 < hit < 130  # 100 of 300: two of six


def experiment(tmp_path: Path, arms: str, more: str = ""):
    (tmp_path / "rules.txt").write_text(FULL)
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"constitution: {tmp_path}/rules.txt\ndata: {{source: rated-answers, calibration: 0.1}}\narms:\n{arms}\n{more}"
    )
    return read_experiment(file)


def test_each_makes_an_arm_for_every_principle_behind_the_others(tmp_path) -> None:
    found = expanded(experiment(tmp_path, "  ai: {labels: ai, without: each}\n  human: {labels: human}"))
    assert list(found.arms) == ["ai", "human", "ai-without-kind", "ai-without-short-please", "ai-without-true"]
    assert [arm.without for arm in found.arms.values()] == [None, None, "kind", "short, please", "true"]
    whole, part = found.arms["ai"], found.arms["ai-without-kind"]
    assert same_but_for_principle(part, whole) and not same_but_for_principle(whole, part)
    assert not same_but_for_principle(part, found.arms["human"])
    # Its judge need not pass: what it is worth without the principle is the question.
    assert whole.judge.preflight is not None and part.judge.preflight is None
    assert found.where("ai-without-kind", "without").endswith("mine.yaml:4: without")


def test_where_slope_and_bias_are_fitted_the_preflight_stays_and_lets_all_through(tmp_path) -> None:
    found = expanded(experiment(tmp_path, "  ai: {labels: ai, without: each, judge: {calibrate: true}}"))
    preflight = found.arms["ai-without-true"].judge.preflight
    assert preflight and (preflight.accuracy, preflight.mass, preflight.reads) == (0, 0, None)


def test_nothing_to_expand_changes_nothing(tmp_path) -> None:
    given = experiment(tmp_path, "  ai: {labels: ai, without: kind}\n  b: {labels: ai}")
    assert expanded(given) is given


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ("  ai: {labels: ai, without: each, judge: {method: auto}}", "mine.yaml:4.*auto would pick another method"),
        ("  ai: {labels: ai, without: each}\n  ai-without-true: {labels: human}", 'called "ai-without-true" already'),
    ],
)
def test_arms_that_cannot_be_made(tmp_path, arms, says) -> None:
    with pytest.raises((UserError, UserErrors), match=says):
        expanded(experiment(tmp_path, arms))


def test_names_of_arms_are_told_apart() -> None:
    assert slugs(["No crime!", "no crime", "善良", "a" * 40]) == ["no-crime-1", "no-crime-2", "3", "a" * 32]
