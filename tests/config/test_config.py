"""Experiments: the files that are shipped, arms over a base, and the faults that a user makes."""

from pathlib import Path

import pytest

from cai.config.load import Arm, read_experiment
from cai.config.renamed import RENAMED
from cai.config.rl import Rl
from cai.core.errors import UserError
from cai.core.store import canonical

ROOT = Path(__file__).parents[2]
BASE = "constitution: constitutions/short.txt\ndata: {source: rated-answers}\n"


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def fault(tmp_path, text, overrides=()):
    with pytest.raises(UserError) as error:
        read_experiment(written(tmp_path, text), overrides)
    return str(error.value).replace(str(tmp_path) + "/", "")


def test_without_a_constitution_a_file_is_asked_for(tmp_path):
    """Of what may be written as a section or as the one key that most want of it, both are named."""
    told = fault(tmp_path, "data: {source: rated-answers}\n")
    assert 'missing key "constitution"\n  -> add "constitution: ..." (a file or a section of keys)' in told


EXPERIMENTS = sorted([*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "experiments/studies").glob("*.yaml")])


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_shipped_experiment_reads(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    experiment = read_experiment(path)
    assert experiment.name == path.stem
    assert experiment.arms
    for arm in experiment.arms.values():
        assert Path(arm.constitution.file).is_file() and Path(arm.evaluate.constitution).is_file()


def test_without_arms_the_file_is_one_arm_named_by_its_labels(tmp_path):
    experiment = read_experiment(written(tmp_path, BASE + "labels: human\n"))
    assert list(experiment.arms) == ["human"] and experiment.name == "mine" and experiment.seeds == (0,)


def test_arms_lay_over_the_base(tmp_path):
    text = BASE + "rl: {steps: 3, kl_coef: 0.5}\narms:\n  ai:\n  human: {labels: human, rl: {kl_coef: 0.1}}\n"
    arms = read_experiment(written(tmp_path, text)).arms
    assert (arms["ai"].labels.name, arms["ai"].rl.steps, arms["ai"].rl.kl_coef) == ("ai", 3, 0.5)
    assert (arms["human"].labels.name, arms["human"].rl.steps, arms["human"].rl.kl_coef) == ("human", 3, 0.1)


@pytest.mark.parametrize(
    ("rl", "said"),
    [
        ("{kl_horizon: 80}", "mine.yaml:3: kl_horizon says how fast a target is approached, and there is none"),
        ("{kl_target: 2, kl_coef: 0}", "mine.yaml:3: a price of 0 cannot be adapted"),
        ("{kl_target: 2, kl_horizon: 7}", "mine.yaml:3: kl_horizon (7) is less than the answers of one step (8)"),
    ],
)
def test_a_kl_target_that_cannot_be_held(tmp_path, rl, said):
    assert said in fault(tmp_path, BASE + f"rl: {rl}\n")


def test_one_line_swaps_the_labels(tmp_path):
    ai = read_experiment(written(tmp_path, BASE + "labels: ai\n")).arms["ai"]
    human = read_experiment(written(tmp_path, BASE + "labels: human\n")).arms["human"]
    assert {k for k, v in ai.model_dump().items() if v != human.model_dump()[k]} == {"labels"}


def test_an_override_takes_the_place_of_a_mapping(tmp_path):
    """What the file says of other arms, or of other methods of a mix, must not shine through."""
    file = written(tmp_path, BASE + "arms:\n  ai:\n  human: {labels: human}\n")
    found = read_experiment(file, ['arms={"one": {"judge": {"method": {"rate": 1, "choice": 1}}}}'])
    assert list(found.arms) == ["one"]
    again = read_experiment(file, [*found.overrides, 'arms.one.judge.method={"score": 1}'])
    assert again.arms["one"].judge.method == {"score": 1}


def test_overrides(tmp_path):
    experiment = read_experiment(written(tmp_path, BASE), ["sft.epochs=2", "seeds=[3, 4]", "data.source=x.jsonl.gz"])
    assert experiment.seeds == (3, 4)
    assert experiment.arms["ai"].sft.epochs == 2 and experiment.arms["ai"].data.source == "x.jsonl.gz"


def test_all_faults_at_once_with_their_lines(tmp_path):
    text = (
        BASE + "labels: robots\njudge: {metod: rate}\nrl:\n  steps: none\nseeds: [1, 1]\narms:\n  a b: {labels: ai}\n"
    )
    said = fault(tmp_path, text)
    assert [line for line in said.splitlines() if line.startswith("mine")] == [
        'mine.yaml:3: labels must be one of "ai", "human", "simulated", "shuffled", "shorter", or a section, not '
        '"robots"',
        'mine.yaml:4: unknown key "metod" in judge',
        'mine.yaml:6: rl.steps must be a whole number of at least 1, not "none"',
        'mine.yaml:9: an arm cannot be called "a b": it has other characters than letters, digits, - and _',
    ]
    assert 'did you mean "method"?' in said


def test_seeds_must_differ(tmp_path):
    assert fault(tmp_path, BASE + "seeds: [1, 1]\n").startswith("mine.yaml:3: a seed stands twice")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("seeds: [4294967296]", "seeds[0] must be a whole number of at least 0 and below 4294967296, not 4294967296"),
        ("judge: {temperature: 1.0e-300}", "judge.temperature must be a number of at least 0.01, not 1e-300"),
        ("rl: {temperature: 0.001}", "rl.temperature must be a number of at least 0.01, not 0.001"),
        ("evaluate: {temperature: 1.0e-300}", "a temperature of 1e-300 is too low to divide log-probabilities by"),
    ],
)
def test_numbers_that_would_become_infinite(tmp_path, key, said):
    assert fault(tmp_path, f"{BASE}{key}\n").startswith(f"mine.yaml:3: {said}")


def test_a_temperature_of_0_takes_the_likeliest(tmp_path):
    assert (
        read_experiment(written(tmp_path, BASE + "evaluate: {temperature: 0}\n")).arms["ai"].evaluate.temperature == 0
    )


def test_human_labels_on_fresh_pairs_are_refused(tmp_path):
    said = fault(tmp_path, BASE + "pairs: {source: policy}\narms:\n  ai: {labels: ai}\n  human: {labels: human}\n")
    assert said.startswith("mine.yaml:6: labels: human needs pairs that people have judged")
    assert "use pairs.source: data, or labels: ai, or name a file of labels" in said


def test_a_fault_of_an_arm_stands_in_the_arm(tmp_path):
    said = fault(tmp_path, BASE + "arms:\n  one: {rl: {steps: 2}}\n  two:\n    rl:\n      stepz: 2\n")
    assert said.startswith('mine.yaml:7: unknown key "stepz" in rl')


def test_auto_and_calibration_need_labels_of_their_own(tmp_path):
    said = fault(tmp_path, BASE + "judge: {method: auto}\n")
    assert said.startswith("mine.yaml:3: judge.method needs human-labelled pairs that are used for nothing else")
    assert "set data.calibration" in said
    assert fault(tmp_path, BASE + "judge:\n  calibrate: true\n").startswith("mine.yaml:4: judge.calibrate needs")
    text = BASE.replace("rated-answers}", "rated-answers, calibration: 0.2}")
    assert read_experiment(written(tmp_path, text + "judge: {method: auto}\n")).arms["ai"].judge.method == "auto"
    assert "leave no prompt to train on" in fault(tmp_path, text.replace("0.2", "0.2, test: 0.8"))


def test_methods_may_be_mixed_and_a_wrong_one_is_named(tmp_path):
    judge = read_experiment(written(tmp_path, BASE + "judge: {method: {rate: 2, choice: 1}}\n")).arms["ai"].judge
    assert judge.method == {"rate": 2, "choice": 1}
    assert "mine.yaml:3" in fault(tmp_path, BASE + "judge: {method: {rate: 2, choise: 1}}\n")
    said = fault(tmp_path, BASE + "judge: {method: rat}\n")
    assert said.startswith("mine.yaml:3: judge.method must be") and 'did you mean "rate"?' in said
    assert "mine.yaml:3" in fault(tmp_path, BASE + "evaluate: {judge: {method: auto}}\n")  # it has no labels to pick by


def test_provenance_needs_pairs_that_were_told(tmp_path):
    assert fault(tmp_path, BASE + "judge: {method: provenance}\n").startswith("mine.yaml:3: judge.method: provenance")
    text = BASE + "pairs: {source: opposed}\njudge: {method: provenance}\n"
    assert read_experiment(written(tmp_path, text)).arms["ai"].pairs.source == "opposed"


def sources(tmp_path, labels, more=""):
    experiment = read_experiment(written(tmp_path, BASE + f"labels: {labels}\n{more}"))
    (arm,) = experiment.arms.values()
    return list(experiment.arms), arm.labels


POOL = "simulated: {pool: [{method: rate}]}\n"


@pytest.mark.parametrize(
    ("labels", "name", "said"),
    [
        ("ai", "ai", "the AI judge"),
        ("simulated", "simulated", "simulated people"),
        ("shuffled", "shuffled", "a coin"),
        ("shorter", "shorter", "the rule that the shorter answer is better"),
        ("{shares: {human: 0.75, shuffled: 0.25}}", "mixed", "75% people, 25% a coin"),
        (
            "{budget: 20, default: shorter}", "mixed",
            "people for 20 training pairs drawn at random, the rule that the shorter answer is better elsewhere",
        ),
        ("{default: human, file: labels.jsonl}", "human", "people (labels.jsonl)"),
        ("{default: human, file: labels.jsonl, raters: [ann, bob]}", "human", "people (labels.jsonl, ann, bob)"),
        ("{subsets: {crime: ai, helpful: human}}", "mixed", "the AI judge for crime, people for helpful"),
        ("{subsets: {helpful: human}, default: ai}", "mixed", "people for helpful, the AI judge for the rest"),
        ("{shares: {ai: 0.9, human: 0.1}, file: x.jsonl}", "mixed", "90% the AI judge, 10% people (x.jsonl)"),
        ("{budget: 20, default: ai}", "mixed", "people for 20 training pairs drawn at random, the AI judge elsewhere"),
        (
            "{budget: 20, default: ai, order: uncertain}", "mixed",
            "people for 20 training pairs that the judge is least sure of, the AI judge elsewhere",
        ),
    ],
)  # fmt: skip
def test_the_forms_of_labels(tmp_path, labels, name, said):
    names, found = sources(tmp_path, labels, POOL)
    assert names == [name] and str(found) == said
    assert (found.rule is None) == (name != "mixed")
    assert found.comes_with_pairs == (labels == "human")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("humn", 'did you mean "human"?'),
        (
            "{subsets: {helpful: humam}}",
            'labels.subsets.helpful must be one of "ai", "human", "simulated", "shuffled", "shorter", not "humam"',
        ),
        ("suffled", 'did you mean "shuffled"?'),
        ("{default: shuffled, file: labels.jsonl}", "nobody asks them"),
        ("{budget: 20, default: shuffled, order: uncertain}", "nobody says how sure the judge is"),
        ("{shares: {ai: 0.9, human: 0.2}}", "the shares of labels add up to 1.1, not 1"),
        ("{shares: {ai: 0.5, human: 200}}", "labels.shares.human must be a number from 0 to 1, not 200"),
        ("{shares: {ai: 1, human: 0}}", "labels.shares.human is a share, above 0 and up to 1, not 0"),
        ("{shares: {ai: 0.9, human: 0.1}, default: ai}", "leave nothing for labels.default"),
        ("{budget: 20, default: ai, ordr: uncertain}", 'did you mean "order"?'),
        ("{budget: 20, default: ai, order: uncertian}", 'did you mean "uncertain"?'),
        ("{budget: 0, default: ai}", "of at least 1 or null, not 0"),
        ("{budget: 20}", "nobody labels the rest"),
        ("{budget: 20, default: human}", "people label them all already"),
        ("{budget: 20, default: simulated, order: uncertain}", "nobody says how sure the judge is"),
        ("{budget: 20, default: ai, shares: {ai: 0.5, human: 0.5}}", "each say who labels"),
        ("{default: ai, order: uncertain}", "labels.order is that of labels.budget, and there is none"),
        ("{shares: {ai: 1.0}, file: labels.jsonl}", "nobody asks them"),
        (
            "{subsets: {helpful: human}, default: ai, raters: [ann]}",
            "whose labels in a file are known, and there is none",
        ),
        ("{default: human, file: labels.csv}", "a file of labels is a .jsonl file"),
        ("{file: labels.jsonl}", "labels says nobody who labels"),
        ("{defualt: ai}", 'did you mean "default"?'),
        ("{}", "labels must be ai, human, simulated, shuffled, shorter, or the section"),
        ("simulated", "labels: simulated needs the judges that stand for people"),
        ("[ai]", "not a list of 1 item"),
    ],
)
def test_a_fault_of_labels_stands_at_its_line(tmp_path, labels, said):
    found = fault(tmp_path, BASE + f"labels: {labels}\n")
    assert found.startswith("mine.yaml:3: ") and said in found


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("{human: labels.jsonl}", "{default: human, file: labels.jsonl}"),
        ("{human: labels.jsonl, raters: [ann, bob]}", "{default: human, file: labels.jsonl, raters: [ann, bob]}"),
        ("{harmless: ai, helpful: human}", "{subsets: {harmless: ai, helpful: human}}"),
        ("{helpful: human, default: ai}", "{subsets: {helpful: human}, default: ai}"),
        ("{ai: 0.9, human: 0.1, file: x.jsonl}", "{shares: {ai: 0.9, human: 0.1}, file: x.jsonl}"),
        ("{human: 20, else: ai, order: uncertain}", "{budget: 20, default: ai, order: uncertain}"),
    ],
)
def test_an_older_shape_is_refused_with_what_to_write(tmp_path, before, now):
    said = fault(tmp_path, BASE + f"labels: {before}\n")
    assert said.startswith("mine.yaml:3: labels is written otherwise now") and said.endswith(f"write labels: {now}")
    assert sources(tmp_path, now)  # and that is read


def test_an_arms_labels_replace_those_of_the_file(tmp_path):
    text = (
        BASE
        + "labels: {shares: {ai: 0.9, human: 0.1}}\narms:\n  mixed:\n  budget: {labels: {budget: 5, default: ai}}\n"
    )
    arms = read_experiment(written(tmp_path, text)).arms
    assert arms["mixed"].labels.shares == {"ai": 0.9, "human": 0.1}
    assert arms["budget"].labels.budget == 5 and not arms["budget"].labels.shares


def test_the_simulated_people_say_only_what_they_do_otherwise(tmp_path):
    text = BASE + (
        "labels: simulated\njudge: {model: tiny-random, principles: 2, calibrate: false}\n"
        "simulated:\n  flip: 0.1\n  pool:\n    - {method: choice}\n    - {principles: all}\n"
    )
    one, two = read_experiment(written(tmp_path, text)).arms["simulated"].simulated.pool
    assert (one.model, one.method, one.principles) == ("tiny-random", "choice", 2)
    assert (two.model, two.method, two.principles) == ("tiny-random", "rate", "all")
    assert fault(tmp_path, text.replace("method: choice", "metod: choice")).startswith(
        'mine.yaml:8: unknown key "metod"'
    )


def test_rounds_need_fresh_pairs(tmp_path):
    said = fault(tmp_path, BASE + "rounds: 2\n")
    assert said.startswith("mine.yaml:3: rounds repeats") and "set pairs.source: policy" in said
    assert read_experiment(written(tmp_path, BASE + "rounds: 2\npairs: {source: policy}\n")).arms["ai"].rounds == 2


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("rounds: 0", "mine.yaml:4: rounds must be a whole number of at least 1, not 0"),
        ("rounds: two", 'rounds must be a whole number of at least 1, not "two"'),
        ("rounds: 2\nrl: {method: none}", "what a trained policy answers, and rl.method: none trains none"),
        ("rounds: 2\nrl: {method: sft}", "rl.method: sft trains none"),
        ("rounds: 2\nrl: {method: best_of_n}", "rl.method: best_of_n trains none"),
        ("rounds: 2\nrl: {method: direct}", "rl.method: direct reads no label"),
        ("rounds: 2\nlabels: human", "human"),
    ],
)
def test_rounds_that_cannot_be_are_refused(tmp_path, keys, says):
    said = fault(tmp_path, BASE + f"pairs: {{source: policy}}\n{keys}\n")
    assert says in said and said.startswith("mine.yaml:")


ARMS = "arms:\n  one:\n    labels: ai\n  two:\n    labels: human\n"


@pytest.mark.parametrize(
    ("key", "own"),
    [
        ("seed", "seed: 7"),
        ("data", "data: {test: 0.4}"),
        ("data", "data: {source: other.jsonl}"),
        ("helpful", "helpful: {source: other.jsonl}"),
        ("evaluate", "evaluate: {prompts: 7}"),
    ],
)
@pytest.mark.parametrize("arm", ["one", "two"])
def test_arms_that_hold_out_or_are_asked_other_prompts_are_not_compared(tmp_path, key, own, arm):
    labels = "    labels: ai\n" if arm == "one" else "    labels: human\n"
    said = fault(tmp_path, BASE + ARMS.replace(labels, f"{labels}    {own}\n"))
    assert said.startswith(f"mine.yaml:{6 if arm == 'one' else 8}: arms one and two differ in `{key}`")
    assert f"set `{key}` once, beside `arms`" in said


@pytest.mark.parametrize(
    "own", ["data: {train_pairs: 5}", "helpful: null", "evaluate: {prompts: 60}", "policy: {system: Be brief.}"]
)
def test_arms_may_differ_in_what_moves_no_held_out_prompt(tmp_path, own):
    arms = read_experiment(written(tmp_path, BASE + ARMS + f"    {own}\n")).arms
    assert list(arms) == ["one", "two"]


# --- keys that had another name -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kl", "kl_coef"),
        ("clip", "cliprange"),
        ("value_clip", "cliprange_value"),
        ("value_weight", "vf_coef"),
        ("gae_lambda", "lam"),
        ("no_eos_penalty", "missing_eos_penalty"),
    ],
)
def test_an_old_key_is_refused_with_its_new_name(tmp_path, old, new):
    said = f"rl.{old} is now rl.{new}"
    assert fault(tmp_path, BASE + f"rl:\n  steps: 3\n  {old}: 0.5\n").startswith(f"mine.yaml:5: {said}")
    assert f"write {new}: ..." in fault(tmp_path, BASE, [f"rl.{old}=0.5"])
    assert fault(tmp_path, BASE, [f"rl.{old}=0.5"]).startswith(f"--set rl.{old}: {said}")
    in_an_arm = BASE + f"arms:\n  ai:\n    rl: {{{old}: {{sweep: [0.1, 0.2]}}}}\n"
    assert fault(tmp_path, in_an_arm).startswith(f"mine.yaml:5: {said}")
    (arm,) = read_experiment(written(tmp_path, BASE), [f"rl.{new}=0.5"]).arms.values()
    assert getattr(arm.rl, new) == 0.5
    assert canonical(arm.rl)[old] == 0.5 and new not in canonical(arm.rl), "keys of the store keep the first name"


def test_every_new_name_of_a_key_is_one():
    for old, (new, _) in RENAMED.items():
        section, key = old.split(".")
        known = Arm.model_fields[section].annotation.model_fields
        assert new in known and key not in known


def test_the_price_of_kl_was_also_dpos_beta(tmp_path):
    assert "(where method is dpo: beta)" in fault(tmp_path, BASE + "rl: {method: dpo, kl: 0.1}\n")
    assert canonical(Rl(beta=0.2)) == canonical(Rl())  # the stage of dpo is given it by itself


def test_the_size_of_a_group_is_in_a_key_only_where_it_is_not_two(tmp_path):
    assert "num_generations" not in canonical(Rl()) and canonical(Rl(num_generations=4))["num_generations"] == 4
    assert Rl(batch_size=12, num_generations=4).prompts_a_rollout == 3
    said = fault(tmp_path, BASE + "rl:\n  num_generations: 3\n  batch_size: 8\n")
    assert said.startswith("mine.yaml:5: batch_size (8 answers) is no multiple of num_generations")
    assert "write batch_size: 9, for there are 3 answers to each prompt" in said
    assert fault(tmp_path, BASE + "rl: {num_generations: 1}\n").startswith("mine.yaml:3: rl.num_generations must be")
    odd = read_experiment(written(tmp_path, BASE + "rl: {method: dpo, batch_size: 5}\n"))
    assert odd.arms["ai"].rl.batch_size == 5, "a step of DPO is so many pairs, and there are no groups"
