"""Our PPO and TRL 1.12's, on the same models, answers and scores: what must agree, and each deliberate difference.

    CAI_TRL112=ENV/bin/python python -m pytest tests/train/test_parity.py      as tests
    PYTHONPATH=tests/train:tests/models python -m parity.compare ENV/bin/python             by hand: a table of all that
                                                                                            is compared

Both trainers themselves are run, not copies of their formulas: the peer in its own interpreter (peer.py), unmodified
and watched; ours on the rollout that the peer recorded, with the same weights of policy, reference and critic. Answers
are sampled by the peer in one case ("theirs"), by us in another ("ours"), and written by hand in the others. Plain
gradient descent for both, as Adam's first steps would blow up the rounding of gradients near 0.

Deliberate differences. [n] marks the check below that it is this difference and nothing else.

[1] Whitening. The peer divides by N - 1 where it estimates the variance of the advantages (and of the rewards, with
    `whiten_rewards`), we by N, as Huang et al. 2023 found it in OpenAI's code (`tf.nn.moments`). Both take all valid
    tokens of a rollout together.
[2] Where an answer that ends gets its score. The peer counts one state more, after the end-of-turn token: the score is
    paid there, and the critic's value of it is bootstrapped from and trained. We pay for the end-of-turn token itself:
    an answer is an episode, its end is worth 0 (Schulman et al. 2016), and no value of a padding position is learnt.
    Answers without end, and those whose end is the last column, are paid alike.
[3] pad == eos. The peer finds the end of an answer by looking for the padding token; where that is the end-of-turn
    token too, ending a turn is never trained. We go by lengths.
[4] A padding token that was sampled ends the answer for the peer, whose rest is not trained; for us it is a token like
    another.
[5] Missing EOS. The same penalty, subtracted by both before the rewards. The peer's log shows scores after it, ours
    before it: what the reward model said, and what is optimised, are different curves. Off by default there, 1 here.
    Without a stop token the peer's answers go on after an end-of-turn token, and one anywhere counts; ours stop there.
[6] Clip fraction. The peer counts tokens where the clipped loss is the larger one, we those whose ratio lies outside
    1 +- clip (Huang et al. 2023), a number that does not depend on the advantages.
[7] Approximate KL. The peer's is k2 = (log ratio)^2 / 2, ours k3 = (ratio - 1) - log ratio, which is unbiased and never
    negative (Schulman 2020). The peer's means of it, of the ratio and of the entropy include padding; ours do not.
[8] Variance of the ratio. The peer's is that of the means of minibatches (undefined for one), ours that of tokens.
[9] Gradient clipping. The peer has the setting `max_grad_norm` and does not read it; ours clips policy and critic
    together. Here the peer is told to clip at 1e-3, and its weights move as ours do without clipping.
[10] Optimizer groups. The peer trains the critic at the policy's learning rate, with its weight decay; ours has a group
    of its own, without decay, as its default is a fresh head on the policy. A separate critic is possible in both,
    and is what is compared here.
[11] Temperature: the peer divides by t + 1e-7. Below what is compared.

Not shown here: the learning rate schedule counts rollouts there and updates here; `kl_estimator="k3"` of the penalty is
the peer's alone (k1 is the one whose sum over an answer is its log-ratio); `num_mini_batches` has no counterpart, the
size of a minibatch has; the reward model reads ids there, at the end-of-turn token, and text here, at the end of the
rendered conversation, which is why scores are given to both; adaptive KL, early stop and resuming are ours alone.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from parity.runs import EOS, PAD, SCORES, SETTINGS, ask_peer, bessel_whiten, cases, run_ours
from safetensors.torch import load_file
from torch import Tensor

from cai.train.rl.ppo_math import gae, masked_mean, policy_loss, value_loss, whiten

TOLERANCE = 2e-5


@dataclass(frozen=True)
class Row:
    """One comparison. difference: the largest, relative to the largest value where that is more than 1.

    apart: these two must differ by more than a hundred tolerances, or the check that goes with it shows nothing.
    """

    case: str
    what: str
    difference: float
    apart: bool = False

    @property
    def right(self) -> bool:
        return self.difference > 100 * TOLERANCE if self.apart else self.difference <= TOLERANCE


def row(case: str, what: str, ours: Any, theirs: Any, apart: bool = False) -> Row:
    a, b = (torch.as_tensor(x).double() for x in (ours, theirs))
    assert a.shape == b.shape, f"{case}: {what}: {tuple(a.shape)} and {tuple(b.shape)}"
    return Row(case, what, ((a - b).abs().max() / b.abs().max().clamp(min=1)).item(), apart)


# 1. The functions, on what the peer computed --------------------------------------------------------------------------


def tensors(seen: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in seen.items() if isinstance(value, list) and name != "epochs"}


def functions(case: str, settings: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Row]:
    """Our mathematics on the peer's own numbers, in every case: its masks go in, whatever they are."""
    t = tensors(theirs)
    mask, mask_p1 = (~t["padding_mask"]).float(), (~t["padding_mask_p1"]).float()
    raw = t["returns"] - t["values"]
    yield row(case, "KL of each token", (t["logprobs"] - t["ref_logprobs"]) * mask, t["kl"])
    yield row(case, "GAE", gae(t["rewards"], t["values"], mask_p1, settings["gamma"], settings["lam"]), raw * mask_p1)
    yield row(case, "[1] advantages whitened by N - 1", bessel_whiten(raw, mask), t["advantages"])
    yield row(case, "[1] advantages whitened by N", whiten(raw, mask), t["advantages"], apart=True)
    for number, epoch in enumerate(theirs["epochs"], 1):
        e = tensors(epoch)
        rows, head = e["micro_batch_inds"], f"epoch {number}: "
        m, m1, ratio = mask[rows], mask_p1[rows], e["ratio"]
        clip, value_clip = settings["cliprange"], settings["cliprange_value"]
        yield row(case, head + "ratio", ((e["new_logprobs"] - t["logprobs"][rows]) * m).exp(), ratio)
        yield row(case, head + "policy loss", policy_loss(ratio, e["mb_advantage"], m, clip), epoch["pg_loss"])
        values = (e["vpred"], e["mb_values"], e["mb_return"], m1, value_clip)
        yield row(case, head + "value loss", value_loss(*values), epoch["vf_loss"])
        outside = ((ratio - 1).abs() > clip).float()
        worse = outside * ((ratio > 1) == (e["mb_advantage"] > 0))
        yield row(case, head + "[6] clip fraction", masked_mean(worse, m), t["pg_clipfrac_stats"][number - 1].squeeze())
        k2 = 0.5 * ratio.log() ** 2  # 0 on padding
        yield row(case, head + "[7] approximate KL", k2.mean(), t["approxkl_stats"][number - 1].squeeze())
        yield row(case, head + "[7] mean ratio", ratio.mean(), t["ratio_stats"][number - 1].squeeze())


# 2. The trainers ------------------------------------------------------------------------------------------------------


def rollouts(case: str, settings: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Row]:
    """What both trainers made of the same answers, on the tokens that both hold valid."""
    t = tensors(theirs)
    mask = (~t["padding_mask"]).float()
    assert mask.shape == ours["mask"].shape, case
    both = mask * ours["mask"]
    for name in ("logprobs", "ref_logprobs", "values"):
        yield row(case, name, ours[name] * both, t[name] * both)
    yield row(case, "KL of each token", (ours["logprobs"] - ours["ref_logprobs"]) * both, t["kl"] * both)
    last = ours["mask"].sum(dim=1).long() - 1
    ended = t["responses"][torch.arange(len(last)), last] == EOS
    before = t["scores"] + settings["missing_eos_penalty"] * ~ended
    yield row(case, "[5] our reward before the penalty", ours["each"]["reward"], before.mean().reshape(1))


def whole(case: str, spec: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Row]:
    """Answers of full length: the whole of it, to the weights after both epochs, once whitening is the peer's [1]."""
    t, each, settings = tensors(theirs), ours["each"], spec["settings"]
    assert not t["padding_mask"].any(), f"{case}: a padding token was sampled, [4] would show: take another seed"
    yield row(case, "rewards", ours["rewards"], t["rewards"])
    yield row(case, "returns", ours["returns"], t["returns"])
    yield row(case, "advantages before whitening", ours["raw_advantages"], t["returns"] - t["values"])
    yield row(case, "[1] advantages", ours["advantages"], t["advantages"])
    same = {"policy_loss": "pg_loss", "value_loss": "vf_loss"}
    for name, other in same.items():
        yield row(case, f"{name} of both epochs", each[name], [epoch[other] for epoch in theirs["epochs"]])
    yield row(case, "[11] entropy", each["entropy"], t["entropy_stats"].flatten())
    ratios = [torch.tensor(epoch["ratio"]) for epoch in theirs["epochs"]]
    outside = [((r - 1).abs() > settings["cliprange"]).float().mean() for r in ratios]
    yield row(case, "[6] our clip fraction", each["clip_fraction"], outside)
    yield row(case, "[7] our approximate KL", each["approx_kl"], [(r - 1 - r.log()).mean() for r in ratios])
    yield row(case, "[8] our variance of the ratio", each["ratio_variance"], [r.var(correction=0) for r in ratios])
    yield row(case, "[9] norm of the gradient", ours["norms"], [epoch["norm"] for epoch in theirs["epochs"]])
    assert min(ours["norms"]) > 10 * settings["max_grad_norm"], "or clipping would not show"
    after = load_file(spec["result"] + ".safetensors")
    before = load_file(f"{spec['policy']}/model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    yield row(case, "[9] weights before and after", before[name], after[f"policy.{name}"], apart=True)
    assert after.keys() == ours["weights"].keys(), after.keys() ^ ours["weights"].keys()
    for name in ("policy", "critic"):
        flat = [
            torch.cat([w[n].flatten() for n in sorted(after) if n.startswith(name)]) for w in (ours["weights"], after)
        ]
        yield row(case, f"[9] weights of the {name} after both epochs", *flat)


def where_the_score_goes(case: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Row]:
    """[2]: the peer's score, moved back by one token, is ours; its extra state is why the advantages differ."""
    t = tensors(theirs)
    rewards, mask = t["rewards"].clone(), ours["mask"]
    assert torch.equal(mask.bool(), ~t["padding_mask"]), "both hold the same tokens valid"
    last = mask.sum(dim=1).long() - 1
    moved = 0
    for b, end in enumerate(last.tolist()):
        if end + 1 < rewards.size(1):
            rewards[b, end] += rewards[b, end + 1]
            rewards[b, end + 1], moved = 0.0, moved + 1
    assert moved == 3
    yield row(case, "[2] rewards, as they stand", ours["rewards"], t["rewards"], apart=True)
    yield row(case, "[2] rewards, paid for the end itself", ours["rewards"], rewards)
    settings = (SETTINGS["gamma"], SETTINGS["lam"])
    without = gae(rewards, t["values"], mask, *settings)
    yield row(case, "[2] advantages, as they stand", ours["raw_advantages"], t["returns"] - t["values"], apart=True)
    yield row(case, "[2] advantages without the extra state", ours["raw_advantages"], without)


def masks_of(
    case: str, spec: dict[str, Any], theirs: dict[str, Any], length: Callable[[list[int]], int]
) -> Iterator[Row]:
    """[3] and [4]: how many tokens of each answer the peer trains, and how many we do (all)."""
    by_prompt = dict(zip(map(tuple, spec["prompts"]), spec["answers"], strict=True))
    answers = [by_prompt[tuple(id for id in ids if id != theirs["pad"])] for ids in theirs["queries"]]
    trained = (~torch.tensor(theirs["padding_mask"])).sum(dim=1)
    yield row(case, "tokens that the peer trains", [length(answer) for answer in answers], trained)
    yield row(case, "tokens of the answers", [len(answer) for answer in answers], trained, apart=True)


# 3. All of it ---------------------------------------------------------------------------------------------------------


def compare(python: str, folder: Path) -> list[Row]:
    """Every comparison. python: the peer's interpreter; folder: for models and what was seen."""
    specs = cases(folder)
    theirs = ask_peer(python, specs, folder)
    rows = [r for name, spec in specs.items() for r in functions(name, spec["settings"], theirs[name])]
    for name in ("theirs", "ours", "whitened rewards"):
        ours = run_ours(specs[name], theirs[name], bessel_whiten)
        rows += rollouts(name, specs[name]["settings"], ours, theirs[name])
        rows += whole(name, specs[name], ours, theirs[name])
    ours = run_ours(specs["some end"], theirs["some end"])
    rows += rollouts("some end", SETTINGS, ours, theirs["some end"])
    rows += where_the_score_goes("some end", ours, theirs["some end"])
    their_scores = [s for s in theirs["some end"]["scores"] if s not in SCORES]
    rows.append(
        row("some end", "[5] scores less the penalty", sorted(their_scores), sorted(s - 0.5 for s in SCORES[:4]))
    )
    rows += masks_of(
        "pad is eos", specs["pad is eos"], theirs["pad is eos"], lambda answer: len(answer) - (EOS in answer)
    )
    rows += masks_of("pad sampled", specs["pad sampled"], theirs["pad sampled"],
                     lambda answer: answer.index(PAD) if PAD in answer else len(answer))  # fmt: skip
    groups = theirs["ours"]["groups"]
    rows.append(
        row(
            "ours",
            "[10] one learning rate for all",
            [lr for lr, _ in groups],
            [SETTINGS["learning_rate"]] * len(groups),
        )
    )
    return rows


def main(python: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(python, Path(folder))
    for r in rows:
        expected = f"more than {100 * TOLERANCE:.0e}" if r.apart else f"at most {TOLERANCE:.0e}"
        print(f"{'ok  ' if r.right else 'NOT '} {r.case:17} {r.what:45} {r.difference:9.1e}, {expected}")
    return sum(not r.right for r in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
