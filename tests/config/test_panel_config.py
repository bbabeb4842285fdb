"""`judge.panel`: what it is short for, what each judge takes over, and what is refused, at its line."""

from pathlib import Path

import pytest
from test_config import BASE, fault, written

from cai.config.load import read_experiment
from cai.config.panel import alone
from cai.core.store import canonical


def judge(tmp_path, text, overrides=()):
    (arm,) = read_experiment(written(tmp_path, BASE + text), overrides).arms.values()
    return arm.judge


LIST = "judge:\n  model: tiny-random\n  principles: 2\n  panel:\n    - {}\n    - {method: choice}\n    - {turns: 1}\n"


def test_each_judge_says_only_what_it_does_otherwise(tmp_path):
    one, two, three = judge(tmp_path, LIST).panel.judges
    assert (one.model, one.method, one.principles) == ("tiny-random", "rate", 2)
    assert (two.model, two.method, two.principles) == ("tiny-random", "choice", 2)
    assert (three.turns, one.turns) == (1, None)


def test_a_list_is_short_for_its_judges(tmp_path):
    panel, judges = judge(tmp_path, LIST).panel, "{judges: [{}, {method: choice}, {turns: 1}]}"
    assert panel == judge(tmp_path, f"judge: {{model: tiny-random, principles: 2, panel: {judges}}}\n").panel
    assert panel.rule == "mean"


def test_an_arm_changes_a_key_of_the_files_panel(tmp_path):
    arms = "  plain:\n  weighed: {judge: {panel: {combine: reliability}}}\n  one: {judge: {panel: null}}\n"
    arms = read_experiment(written(tmp_path, BASE + LIST + "arms:\n" + arms)).arms
    assert arms["plain"].judge.panel.rule == "mean" and arms["weighed"].judge.panel.rule == "reliability"
    assert arms["weighed"].judge.panel.judges == arms["plain"].judge.panel.judges
    assert arms["one"].judge.panel is None and list(arms["one"].judge.asked) == ["judge"]
    assert list(arms["plain"].judge.asked) == [f"judge.panel.judges.{n}" for n in range(3)]


def test_a_judge_of_a_panel_is_keyed_as_the_one_of_an_arm(tmp_path):
    """So that the labels of both are one stage: what is a part of a key is the same, and the panel is none."""
    whole = judge(tmp_path, LIST)
    single = judge(tmp_path, "judge: {model: tiny-random, principles: 2}\n")
    assert canonical(whole.panel.judges[0]) == canonical(single) == canonical(whole)
    assert alone(whole.panel.judges[0]) == single


def test_set_reaches_it(tmp_path):
    changed = judge(tmp_path, LIST, ["judge.panel=[{}, {method: score}]"]).panel
    assert [each.method for each in changed.judges] == ["rate", "score"]


@pytest.mark.parametrize(
    ("panel", "says"),
    [
        ("[{method: rate}]", "mine.yaml:5: a panel of one judge has nothing to put together"),
        ("[]", "judge.panel.judges must be a list with at least 1 item"),
        ("[{}, {}]", "mine.yaml:5: judge 2 of the panel is judge 1 again"),
        ("[{}, {metod: choice}]", 'mine.yaml:5: unknown key "metod" in judge.panel.judges'),
        ("[{}, {method: chioce}]", "mine.yaml:5: judge.panel.judges[1].method must be"),
        ("[{}, {method: choice, panel: []}]", 'mine.yaml:5: unknown key "panel"'),
        ("{judges: [{}, {method: choice}], combin: mean}", 'mine.yaml:5: unknown key "combin" in judge.panel'),
        ("{judges: [{}, {method: choice}], combine: vote}", "mine.yaml:5: judge.panel.combine must be"),
        ("{combine: mean}", 'mine.yaml:5: missing key "judges" in judge.panel'),
        (
            "{judges: [{}, {method: choice}], combine: reliability}",
            "mine.yaml:5: combine: reliability goes by",
        ),
        ("{judges: [{}, {method: choice}], escalate: {}}", 'mine.yaml:5: missing key "below" in judge.panel.escalate'),
        ("{judges: [{}, {method: choice}], escalate: {below: 0.5}}", "mine.yaml:5: judge.panel.escalate.below must be"),
        ("{judges: [{}, {method: choice}], escalate: 0.7}", "mine.yaml:5: judge.panel.escalate must be a section"),
        (
            "{judges: [{}, {method: choice}], combine: mean, escalate: {below: 0.7}}",
            "mine.yaml:5: escalate lets the last judge that is asked decide",
        ),
        ("[{}, {slim: wanda}]", "mine.yaml:5: slim is of a judge that labels alone"),
        ("[{}, {attacks: 4}]", "mine.yaml:5: attacks is of a judge that labels alone"),
        ("[{}, {method: auto}]", "mine.yaml:5: judge.method needs human-labelled pairs"),
        ("[{}, {method: provenance}]", "mine.yaml:5: judge.method: provenance labels by which instruction"),
    ],
)
def test_what_is_refused(tmp_path, panel, says):
    said = fault(tmp_path, BASE + f"judge:\n  model: tiny-random\n  panel: {panel}\n")
    assert says in said and "\n    " not in said.splitlines()[0]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("rl: {method: direct}\n", "rl.method: direct asks one judge about each answer"),
        ("criteria: {kind: {constitution: constitutions/helpful.txt}}\n", "criteria are each labelled by one judge"),
    ],
)
def test_what_asks_one_judge_takes_no_panel(tmp_path, more, says):
    said = fault(tmp_path, BASE + "judge:\n  model: tiny-random\n  panel: [{}, {turns: 1}]\n" + more)
    assert said.startswith("mine.yaml:5: ") and says in said


def test_slim_of_the_whole_is_refused(tmp_path):
    said = fault(tmp_path, BASE + "judge:\n  slim: wanda\n  panel: [{}, {turns: 1}]\n")
    assert said.startswith("mine.yaml:4: slim is of a judge that labels alone, and judge.panel names some")


def test_the_shipped_experiment_reads():
    experiment = read_experiment(Path(__file__).parents[2] / "experiments/panel.yaml")
    rules = {name: arm.judge.panel.rule for name, arm in experiment.arms.items() if arm.judge.panel}
    assert set(rules.values()) == {"mean", "reliability", "last"}
