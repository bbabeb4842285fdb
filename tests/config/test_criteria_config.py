"""`criteria:`: what it takes, how arms weigh it, and every fault with its place."""

import pytest
from test_config import BASE, fault, written

from cai.config.comparable import opponents
from cai.config.flat import flat
from cai.config.load import read_experiment

TWO = "criteria:\n  kind: {constitution: kind.txt}\n  brief: {constitution: brief.txt, weight: 3}\n"


def test_arms_weigh_the_files_criteria_or_go_without(tmp_path):
    arms = "arms:\n  even: {}\n  kindest: {criteria: {kind: {weight: 9}}}\n  alone: {criteria: null}\n"
    experiment = read_experiment(written(tmp_path, BASE + TWO + arms))
    weights = {name: {c: its.weight for c, its in arm.criteria.items()} for name, arm in experiment.arms.items()}
    assert weights == {"even": {"kind": 1, "brief": 3}, "kindest": {"kind": 9, "brief": 3}, "alone": {}}
    assert flat(experiment.arms["kindest"])["criteria.kind.weight"] == 9


def test_each_is_labelled_as_by_an_arm_that_has_it_alone(tmp_path):
    (arm,) = read_experiment(written(tmp_path, BASE + TWO.replace("weight: 3", "labels: shorter"))).arms.values()
    views = arm.by_criterion()
    assert {name: (view.constitution.file, view.labels.name) for name, view in views.items()} == {
        "kind": ("kind.txt", "ai"), "brief": ("brief.txt", "shorter"),
    }  # fmt: skip
    assert arm.labellers == {"ai", "shorter"} and views["kind"].criteria == {}
    preflight = views["kind"].judge.preflight
    # People's labels are about one thing, so no judge is measured by them here; how it reads is measured all the same.
    assert preflight and preflight.accuracy == 0 and preflight.reads and preflight.reads.gain == -1
    assert preflight.reads.turn == arm.judge.preflight.reads.turn  # pyrefly: ignore
    assert arm.model_copy(update={"criteria": {}}).by_criterion()[""].judge.preflight == arm.judge.preflight


def test_people_may_label_one_criterion_or_each_from_a_file_of_its_own(tmp_path):
    own = "criteria:\n  kind: {constitution: kind.txt, labels: human}\n  brief: {constitution: brief.txt}\n"
    (arm,) = read_experiment(written(tmp_path, BASE + own)).arms.values()
    assert arm.labellers == {"human", "ai"}
    files = own.replace("brief.txt", "brief.txt, labels: {default: human, file: brief.jsonl}")
    files = files.replace("labels: human", "labels: {default: human, file: kind.jsonl}")
    (arm,) = read_experiment(written(tmp_path, BASE + files)).arms.values()
    assert arm.by_criterion()["brief"].labels.file == "brief.jsonl"


def test_an_arm_of_several_criteria_is_no_side_of_a_label_budget(tmp_path):
    arms = "arms:\n  both: {}\n  ai: {criteria: null}\n  human: {criteria: null, labels: human}\n"
    assert opponents(read_experiment(written(tmp_path, BASE + TWO + arms)).arms) == ("ai", "human")


@pytest.mark.parametrize(
    ("text", "place", "problem", "remedy"),
    [
        (TWO.replace("weight", "weigth"), "brief", 'unknown key "weigth" in criteria.brief', '"weight"'),
        (TWO.replace("3", "-3"), "brief", "criteria.brief.weight must be a number of at least 0, not -3", ""),
        (TWO.replace("3", "'3'"), "brief", "criteria.brief.weight must be a number", ""),
        (TWO.replace("constitution: kind.txt", "weight: 2"), "kind", 'missing key "constitution" in criteria.kind', ""),
        ("criteria: [kind.txt]\n", "criteria", "criteria must be a section of keys", ""),
        (TWO.replace("  kind", "  kind words"), "criteria", 'a criterion cannot be called "kind words"', "letters"),
        (TWO.replace("3}", "0}").replace("kind.txt}", "kind.txt, weight: 0}"), "criteria", "every weight is 0",
         "above 0"),
        (TWO.replace("weight: 3", "labels: peeple"), "brief", "labels must be one of", "write"),
        (TWO + "labels: human\n", "labels", "kind and brief would have the same labels: people judged each pair once",
         "criteria.brief.labels: {default: human, file: FILE}"),
        (TWO + "labels: shuffled\n", "labels", "would have the same labels: shuffled labels by no constitution", "ai"),
        (TWO.replace("weight: 3", "labels: human") + "pairs: {source: policy}\n", "brief", "labels: human needs pairs",
         "pairs.source: data"),
        (TWO.replace("weight: 3", "labels: simulated"), "brief", "simulated needs the judges", "pool"),
        (TWO + "rl: {method: dpo}\n", "rl:", "rl.method: dpo reads one label a pair", "ppo, rloo, grpo or best_of_n"),
        (TWO + "rl: {method: direct}\n", "rl:", "rl.method: direct reads the judge under one constitution", "ppo"),
        (TWO + "judge: {calibrate: true}\ndata: {source: rated-answers, calibration: 0.1}\n", "judge:",
         "judge.calibrate: true goes by people's labels, which are about one thing", "set it to false"),
        (TWO + "judge: {method: auto}\ndata: {source: rated-answers, calibration: 0.1}\n", "judge:",
         "judge.method: auto goes by people's labels", "name a method"),
        (TWO + "judge: {method: provenance}\npairs: {source: opposed}\n", "judge:", "the same for every criterion",
         "name another method"),
        (TWO + "without: kind\n", "without", "without leaves a principle out of `constitution:`", "under criteria"),
    ],
)  # fmt: skip
def test_faults(tmp_path, text, place, problem, remedy):
    base = BASE if "data:" not in text else "".join(line for line in BASE.splitlines(True) if "data:" not in line)
    said = fault(tmp_path, base + text)
    line = next(n for n, row in enumerate((base + text).splitlines(), 1) if row.strip().startswith(place))
    assert problem in said and remedy in said and f":{line}: " in said


def test_one_name_is_one_criterion_in_every_arm(tmp_path):
    arms = "arms:\n  one: {}\n  two: {criteria: {kind: {constitution: other.txt}}}\n"
    said = fault(tmp_path, BASE + TWO + arms)
    assert "criterion kind is other.txt in arm two, and kind.txt in arm one" in said and "another name" in said
