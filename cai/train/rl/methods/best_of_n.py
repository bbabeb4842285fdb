"""No training: the SFT policy answers n times, and the reward model picks (Stiennon et al. 2020)."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from cai.core.store import Artifact, version
from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.criteria import Scorers
from cai.train.rl.given import Given


@version(1)
def best_of_n(out: Path, work: Workbench, *, sft: ModelRef, reward: Scorers, n: int) -> None:
    """counts.json and curves.json, and no model/: this policy is the best of n answers of another (`respond_best` in
    cai/train/respond.py).

    Its KL to that one is at most log n - (n - 1)/n nats an answer (Stiennon et al. 2020, appendix G.3).
    """
    bound = math.log(n) - (n - 1) / n
    counts = {"best of": n, "KL to the SFT policy at most, nats an answer": round(bound, 4)}
    (out / "curves.json").write_text(json.dumps({"step": [1], "kl": [bound]}))
    (out / "counts.json").write_text(json.dumps(counts, indent=1))
    (out / "policy.json").write_text(json.dumps({"answers of": sft.name, "picked by": reward.name, "n": n}, indent=1))


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    return stage(best_of_n, sft=given.start.ref, reward=given.reward_model, n=given.arm.rl.best_of)
