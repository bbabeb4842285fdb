"""`reward: {kind: generative}`: what it reads, what is refused, at its line, and what stays in keys as it was."""

import pytest
from test_config import BASE, fault, written

from cai.config.comparable import opponents
from cai.config.load import read_experiment
from cai.core.store import canonical

SCALAR = {"group": "pair", "epochs": 1, "learning_rate": 1e-4, "batch_size": 8, "max_length": 384}


def arms(tmp_path, text):
    return read_experiment(written(tmp_path, BASE + text)).arms


def test_a_scalar_reward_model_is_keyed_as_before(tmp_path):
    (arm,) = arms(tmp_path, "rl: {method: none}\n").values()
    assert canonical(arm.reward) == SCALAR
    (arm,) = arms(tmp_path, "rl: {method: none}\nreward: {subsets: [crime]}\n").values()
    assert canonical(arm.reward) == SCALAR | {"subsets": ["crime"]}


def test_it_is_an_arms_key(tmp_path):
    both = arms(
        tmp_path,
        "rl: {method: none}\narms:\n  scalar: {labels: human}\n"
        "  generative: {labels: human, reward: {kind: generative, samples: 2, rationale_tokens: 40, dpo: false}}\n",
    )
    assert not both["scalar"].reward.generates and both["generative"].reward.samples == 2
    assert (both["generative"].reward.draws, both["generative"].reward.dpo) == (4, False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("reward: {kind: generative}\nrl: {method: ppo}\n", "kind: generative goes with rl: {method: none|best_of_n}"),
        ("reward: {kind: generative}\nrl: {method: direct}\n", "goes with rl: {method: none|best_of_n}"),
        ("reward: {kind: generative}\nrl: {method: rloo, judging: pairs}\n", "gives none a number"),
        ("reward: {kind: generative, group: prompt}\nrl: {method: none}\n", "a generative reward model has no group"),
        ("reward: {samples: 2}\nrl: {method: none}\n", "a scalar reward model has no samples"),
        ("reward: {dpo: false}\nrl: {method: none}\n", "remove it, or write kind: generative"),
        ("reward: {kind: generativ}\nrl: {method: none}\n", "reward.kind"),
        ("reward: {kind: generative, temperature: 0}\nrl: {method: none}\n", "the 4 draws of a rationale are one"),
        (
            "reward: {kind: generative}\nrl: {method: best_of_n}\n"
            "criteria: {one: {constitution: constitutions/short.txt}}\n",
            "criteria weigh numbers",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path, text, says):
    assert says in fault(tmp_path, BASE + text)


def test_a_label_budget_goes_by_scalar_reward_models(tmp_path):
    both = arms(
        tmp_path,
        "rl: {method: none}\narms:\n  ai: {labels: ai}\n  written: {labels: human, reward: {kind: generative}}\n"
        "  human: {labels: human}\n",
    )
    assert opponents(both) == ("ai", "human")
    del both["human"]
    assert opponents(both) is None
