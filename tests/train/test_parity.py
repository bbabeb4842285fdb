"""Our PPO agrees with TRL 1.12's on the same rollouts, but for the differences that tests/train/parity/compare.py
names.

Needs an environment with TRL 1.12 beside this one (PPO was removed in 1.13):
    python -m venv ENV; ENV/bin/pip install torch==2.13.0
    ENV/bin/pip install trl==1.12.0 transformers==5.23.0 peft==0.21.2
    CAI_TRL112=ENV/bin/python python -m pytest tests/train/test_parity.py
"""

import os

import pytest
import torch
from safetensors.torch import load_file

from cai.bench.ppo import HOW, check_peer
from cai.core.errors import UserError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    python = os.environ.get("CAI_TRL112")
    if not python:
        pytest.skip(f"CAI_TRL112 names no Python that has TRL 1.12: {HOW.replace('give --peer', 'set CAI_TRL112 to')}")
    try:
        check_peer(python)
    except UserError as error:
        pytest.fail(str(error))
    from parity.compare import compare

    return compare(python, tmp_path_factory.mktemp("parity"))


CASES = ["theirs", "ours", "whitened rewards", "some end", "pad is eos", "pad sampled"]


@pytest.mark.parametrize("case", CASES)
def test_what_should_agree_does_and_each_difference_is_the_one_that_is_named(rows, case):
    seen = [row for row in rows if row.case == case]
    assert len(seen) >= 18
    assert [row for row in seen if not row.right] == []


def test_every_case_is_looked_at(rows):
    assert {row.case for row in rows} == set(CASES)


def test_our_half_runs_where_no_peer_is(tmp_path):
    """So that it is seen when it no longer does: the whole needs an environment that CI has not."""
    from parity.runs import FULL, PAD, PROMPTS, SCORES, cases, run_ours

    spec = cases(tmp_path)["some end"] | {"answers": None}
    found = run_ours(spec, {"pad": PAD, "queries": PROMPTS, "responses": FULL + FULL[::-1], "scores": SCORES})
    assert found["returns"].shape == (8, 5) and found["mask"].all()
    assert (found["logprobs"] - found["ref_logprobs"]).abs().max() > 0.1, "the policy was moved off its reference"
    before = load_file(f"{spec['policy']}/model.safetensors")
    moved = max((found["weights"][f"policy.{name}"] - weight).abs().max().item() for name, weight in before.items())
    assert moved > 1e-4
