"""A policy looked at while it is trained: lights of collapse by hand, looks that disturb nothing, the best one kept."""

import json
import math
import random
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_ppo import adapter, trainer
from test_resume import KilledAt
from test_score import tiny_policy, tiny_tokenizer

from cai.core.records import Message
from cai.models.engines import Sampling
from cai.stats.alarm import alarm
from cai.train.rl.collapse import POOL, Answers, collapses, describe, lights_of, mean, pool
from cai.train.rl.watch import HeldOut, Watch, as_found, divergence, updates_per_rollout

torch.set_num_threads(1)
YES, EOS = 8, 2
PROMPTS = ("hello w3", "w4", "w5 w6 w7", "stop w8")


def yes_share(prompts, completions, completion_ids, **_):
    return [ids.count(YES) / len(ids) for ids in completion_ids]


def held_out(gold, every=1, keep="best", count=4) -> HeldOut:
    return HeldOut(
        ids=PROMPTS[:count],
        chats=tuple((Message("user", text),) for text in PROMPTS[:count]),
        seeds=tuple(range(10, 10 + count)),
        gold=gold,
        by="a rule",
        every=every,
        sampling=Sampling(6, 1.0),
        keep=keep,
        batch_tokens=64,
    )


def watched(path: Path, held=None, callbacks=(), **options):
    watch = Watch(tiny_tokenizer(), held)
    taught = trainer(path, watch.reading(yes_share), callbacks=[watch, *callbacks], **options)
    watch.reference = taught.reference
    return watch, taught


def curve(taught) -> list[dict]:
    """What training logged, without times and without what only a watch adds."""
    return [
        {k: v for k, v in row.items() if "time" not in k and "per_second" not in k and k != "answers"}
        for row in taught.state.log_history
        if "reward" in row
    ]


# --- lights of collapse


def test_statistics_by_hand():
    # "a a a a a": 2 4-grams, 1 repeats. "b c": none. 2-grams: aa x 4, bc: 2 of 5 are distinct.
    found = describe(["a a a a a", "b c"], [[5, 5, 5, 5, 5], [6, 7, EOS]], {EOS})
    assert found == {"count": 2, "repetition": 0.25, "distinct_2": 0.4, "length": 4.0, "ended": 0.5}


SFT = Answers(1, 32, repetition=0.05, distinct_2=0.8, length=20.0, ended=0.5, kl=0.0, entropy=30.0)


@pytest.mark.parametrize(
    ("changed", "lights"),
    [
        ({}, []),
        ({"repetition": 0.29, "distinct_2": 0.41, "length": 39.0, "ended": 0.89, "kl": 29.0}, []),
        ({"length": 11.0, "ended": 0.11}, []),
        ({"repetition": 0.31}, ["repetition"]),
        ({"distinct_2": 0.39}, ["distinct"]),
        ({"length": 41.0}, ["length"]),
        ({"length": 9.0}, ["length"]),
        ({"ended": 0.95}, ["ended"]),
        ({"ended": 0.05}, ["ended"]),
        ({"kl": 31.0}, ["kl"]),
        ({"kl": None}, []),
        ({"repetition": 0.9, "distinct_2": 0.1}, ["repetition", "distinct"]),
    ],
)
def test_a_light_burns_beyond_its_bound_alone(changed, lights):
    assert list(collapses(replace(SFT, **changed), SFT)) == lights


def test_a_light_says_both_numbers():
    said = collapses(Answers(9, 32, 0.41, 0.8, 20.0, 0.5), SFT)
    assert said == {"repetition": "41% of 4-grams are repeated (SFT policy 5%)"}


def answers(count, repetition, **row) -> dict:
    values = {"count": count, "repetition": repetition, "distinct_2": 0.8, "length": 20.0, "ended": 0.5}
    return {"reward": 0.0, "answers": values, **row}


def test_small_rollouts_are_pooled():
    rollouts = [Answers(n, 12, n / 10, 0.8, 20.0, 0.5, 1.0, None if n == 2 else 3.0) for n in (1, 2, 3, 4)]
    assert POOL == 32 and [some.rollout for some in pool(rollouts)] == [1, 2, 3]
    together = mean([rollouts[0], Answers(2, 36, 0.5, 0.4, 40.0, 1.0, 5.0, 3.0)])  # weights 1/4 and 3/4
    assert together == Answers(2, 48, pytest.approx(0.4), pytest.approx(0.5), 35.0, 0.875, 4.0, 3.0)
    assert mean(pool(rollouts)).entropy is None


def test_a_light_is_seen_once_where_it_first_burns():
    # Pools of two rollouts of 16: the first has 0, the second and third (0 + .4) / 2 = .2, the next .4, .5.
    log = [answers(16, r) for r in (0.0, 0.0, 0.4, 0.4, 0.6)]
    assert lights_of(log[:3]) == [] and lights_of(log[:2]) == []
    (light,) = lights_of(log)
    assert (light["rollout"], light["what"]) == (4, "repetition") and "40%" in light["text"]


def test_kl_of_rollouts_is_held_against_the_entropy_of_an_answer():
    # 0.5 nats a token, 20 tokens: 10 nats an answer at first.
    log = [answers(32, 0.0, kl=0.0, entropy=0.5), answers(32, 0.0, kl=9.0, entropy=0.1)]
    assert lights_of(log) == []
    assert [light["what"] for light in lights_of([*log, answers(32, 0.0, kl=11.0, entropy=0.1)])] == ["kl"]


def test_a_look_is_held_against_the_first_look():
    looks = [{"look": {"rollout": r, **vars_of(SFT), "length": n, "kl": 0.0}} for r, n in ((0, 20.0), (3, 50.0))]
    assert lights_of(looks[:1]) == []
    assert [(light["rollout"], light["what"]) for light in lights_of(looks)] == [(3, "length")]


def vars_of(some: Answers) -> dict:
    return {name: getattr(some, name) for name in Answers.__slots__ if name != "rollout"}


def test_a_policy_that_collapses_is_warned_of_once_on_stderr(tmp_path, capsys):
    # A reward for ending at once: the tiny policy learns it quickly from answers of up to 6 tokens.
    def short(prompts, completions, completion_ids, **_):
        return [-float(len(ids)) for ids in completion_ids]

    watch = Watch(tiny_tokenizer())
    options = {"rollouts": 8, "per_device_train_batch_size": 32, "kl_coef": 0.0, "learning_rate": 3e-2}
    taught = trainer(tmp_path, watch.reading(short), callbacks=[watch], num_generations=8, **options)
    taught.train()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: rollout")]
    counts = watch.leave(taught.model, tmp_path)
    lights = json.loads((tmp_path / "warnings.json").read_text())
    assert {light["what"] for light in lights} >= {"length", "ended"}
    assert len(lines) == len(lights) == counts["warnings of collapse"]
    assert lines[0] == f"warning: rollout {lights[0]['rollout']}: {lights[0]['text']}"
    assert not (tmp_path / "gold.json").exists() and (tmp_path / "model" / "config.json").is_file()


# --- one look


def test_the_kl_is_exact_over_the_vocabulary():
    """A policy whose logits do not depend on what it reads, so that the KL of a token can be written down."""
    policy = constant(math.log(3.0))

    @contextmanager
    def reference():
        logits, policy.logits = policy.logits, torch.zeros(4)
        yield
        policy.logits = logits

    # Token 0 is 3 times as likely as each of the others: 3/6, 1/6, 1/6, 1/6, against 1/4 each.
    kl = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    entropy = 0.5 * math.log(2) + 0.5 * math.log(6)
    found = divergence(policy, reference, [[1], [1, 2, 3]], [[0, 1], [3]], 1.0, 0)
    assert found == ([pytest.approx(2 * kl), pytest.approx(kl)], [pytest.approx(2 * entropy), pytest.approx(entropy)])
    # Temperature 2: sqrt(3) to 1. 4.7321 in all.
    p, q = 3**0.5 / (3**0.5 + 3), 1 / (3**0.5 + 3)
    (warm, *_), _ = divergence(policy, reference, [[1]], [[0]], 2.0, 0)
    assert warm == pytest.approx(p * math.log(4 * p) + 3 * q * math.log(4 * q), rel=1e-5)


def constant(top: float):
    class Constant(torch.nn.Module):
        device, logits = torch.device("cpu"), torch.tensor([top, 0.0, 0.0, 0.0])

        def forward(self, input_ids, logits_to_keep, **_):
            from types import SimpleNamespace

            return SimpleNamespace(logits=self.logits.expand(len(input_ids), len(logits_to_keep), 4))

    return Constant()


def test_padding_does_not_move_the_kl():
    policy, other = tiny_policy(1), tiny_policy(2)

    @contextmanager
    def reference():
        mine = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        policy.load_state_dict(other.state_dict())
        yield
        policy.load_state_dict(mine)

    prompts, texts = [[1, 6, 4, 12, 13], [1]], [[8, 2], [9, 10, 11, 12, 2]]
    with torch.no_grad():
        together = divergence(policy, reference, prompts, texts, 1.0, 0)
        alone = [divergence(policy, reference, [p], [a], 1.0, 0) for p, a in zip(prompts, texts, strict=True)]
    assert together[0] == pytest.approx([kl[0] for kl, _ in alone], abs=1e-5)
    assert together[1] == pytest.approx([entropy[0] for _, entropy in alone], abs=1e-5)
    assert min(together[0]) > 0


def test_a_look_leaves_all_random_states_and_the_mode_as_they_were():
    policy = tiny_policy().train()

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    with as_found(policy):
        assert not policy.training and not torch.is_grad_enabled()
        torch.rand(3), np.random.rand(3), random.random()
    assert states() == before and policy.training and torch.is_grad_enabled()


def test_updates_per_rollout():
    from trl import GRPOConfig, RLOOConfig

    common = {"output_dir": "x", "use_cpu": True, "bf16": False, "per_device_train_batch_size": 4, "num_generations": 2}
    for kind in (GRPOConfig, RLOOConfig):
        args = kind(**common, gradient_accumulation_steps=2, generation_batch_size=16, num_iterations=3)
        assert updates_per_rollout(args) == 6  # 4 minibatches, 3 times, 2 an update


# --- a whole run

RUN = {"rollouts": 5, "num_ppo_epochs": 2, "temperature": 1.3, "warmup_steps": 2}


@pytest.mark.parametrize("lora", [False, True])
def test_training_is_the_same_with_and_without_looks(tmp_path, lora):
    def gold(texts, first):
        torch.rand(5), np.random.rand(2), random.random()  # as the loading of a judge may
        return [float(len(text)) for text in texts]

    peft = {"peft_config": adapter()} if lora else {}
    plain = trainer(tmp_path / "plain", yes_share, **RUN, **peft)
    plain.train()
    watch, looked_at = watched(tmp_path / "watched", held_out(gold), **RUN, **peft)
    looked_at.train()
    assert curve(looked_at) == curve(plain) and len(curve(plain)) == 5
    mine = dict(looked_at.model.named_parameters())
    assert all(torch.equal(tensor, mine[name]) for name, tensor in plain.model.named_parameters())
    assert [look["rollout"] for look in watch.looks] == [0, 1, 2, 3, 4, 5]


def test_looks_are_taken_at_the_start_every_few_rollouts_and_at_the_end(tmp_path):
    calls = []

    def gold(texts, first):
        calls.append((texts, first))
        return [None, 0.25, 0.75, 1.25]

    watch, taught = watched(tmp_path, held_out(gold, every=2), **RUN)
    taught.train()
    looks = watch.looks
    assert [look["rollout"] for look in looks] == [0, 2, 4, 5]
    assert [texts for texts, _ in calls] == [look["texts"] for look in looks]
    assert all(first == looks[0]["texts"] for _, first in calls)
    first, *later = looks
    assert first["kl"] == 0 and first["kls"] == [0.0] * 4 and first["entropy"] > 1
    assert all(look["kl"] > 0 and look["kl"] == pytest.approx(sum(look["kls"]) / 4) for look in later)
    assert first["gold"] == 0.75 and first["count"] == 4  # the mean of the three that could be read
    assert first["proxy"] == pytest.approx(sum(first["proxies"]) / 4)
    # Greedy in nothing: the same seeds and the same weights give the same answers, another policy others.
    again, fresh = watched(tmp_path / "again", held_out(gold, every=5), **RUN)
    fresh.train()
    assert again.looks[0] == first and again.looks[1] == looks[-1]
    assert looks[-1]["texts"] != first["texts"]


def test_the_policy_at_the_peak_of_gold_is_kept(tmp_path):
    """Gold by script: 0, 1, 3, 2, 3, 1. The peak is after rollout 2; the second 3 is no better."""
    whole = {}

    from transformers import TrainerCallback

    class Copies(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            whole[state.global_step] = {n: p.detach().clone() for n, p in kwargs["model"].named_parameters()}

    watch, taught = watched(tmp_path, held_out(script_of([0, 1, 3, 2, 3, 1])), [Copies()], **RUN)
    taught.train()
    counts = watch.leave(taught.model, tmp_path)
    kept = load_file(tmp_path / "model" / "model.safetensors")
    then, last = whole[4], whole[10]  # two updates a rollout
    names = [name for name in kept if name in then]
    assert len(names) > 10
    assert all(torch.equal(kept[name], then[name]) for name in names)
    assert not all(torch.equal(kept[name], last[name]) for name in names)
    assert counts["policy kept: after rollout"] == 2 and counts["gold prompts"] == 4
    found = json.loads((tmp_path / "gold.json").read_text())
    assert (found["kept"], found["best"], found["by"]) == (2, 2, "a rule")
    # Gold of every prompt fell by 2 and no proxy is part of the script.
    assert "from rollout 2 to 5 gold fell by 2.00 [2.00, 2.00]" in found["says"]
    # Only the best weights are on disk while nothing can be gone on from.
    assert [path.name for path in (tmp_path / "looks").iterdir()] == ["rollout-2"]


def script_of(values):
    """The n-th look is liked as the n-th value says."""
    said = iter(values)

    def gold(texts, first):
        value = next(said)
        return [float(value)] * len(texts)

    return gold


def test_keep_last_leaves_the_last_policy_and_says_which_was_best(tmp_path):
    watch, taught = watched(tmp_path, held_out(script_of([0, 5, 1]), every=3, keep="last"), **RUN)
    taught.train()
    counts = watch.leave(taught.model, tmp_path)
    kept = load_file(tmp_path / "model" / "model.safetensors")
    mine = dict(taught.model.named_parameters())
    assert all(torch.equal(tensor, mine[name]) for name, tensor in kept.items() if name in mine)
    found = json.loads((tmp_path / "gold.json").read_text())
    assert (counts["policy kept: after rollout"], found["kept"], found["best"]) == (5, 5, 3)
    assert not (tmp_path / "looks").exists()


def left_by(folder: Path, lora: bool, killed_at: int | None = None) -> dict[str, bytes]:
    """What a run leaves that saves every rollout, and was killed once. name -> contents."""

    def gold(texts, first):  # a rule of the answers alone, so that it is the same in another process
        return [float(sum(map(ord, text)) % 7) - 0.5 * text.count("yes") for text in texts]

    options = RUN | {"save_strategy": "steps", "save_steps": 2} | ({"peft_config": adapter()} if lora else {})
    if killed_at is not None:
        _, killed = watched(folder, held_out(gold), [KilledAt(killed_at)], **options)
        with pytest.raises(KeyboardInterrupt):
            killed.train()
    watch, taught = watched(folder, held_out(gold), **options)
    taught.train(resume_from_checkpoint=True if killed_at and killed_at > 1 else None)
    (folder / "out").mkdir()
    watch.leave(taught.model, folder / "out")
    files = [file for file in sorted((folder / "out").rglob("*")) if file.is_file()]
    left = {file.relative_to(folder / "out").as_posix(): file.read_bytes() for file in files}
    folders = [path.name for path in (folder / "looks").iterdir()]
    assert folders == [f"rollout-{json.loads(left['gold.json'])['best']}"]
    return left


@pytest.mark.parametrize(("lora", "kills"), [(False, (5, 1)), (True, (7,))])
def test_a_killed_run_has_the_looks_and_the_policy_of_one_that_was_not(tmp_path, lora, kills):
    """Killed in the middle of a rollout. Gold is liked best after rollout 2: before the kill, or after it."""
    whole = left_by(tmp_path / "whole", lora)
    assert {"gold.json", "warnings.json"} <= set(whole)
    for killed_at in kills:
        assert left_by(tmp_path / f"killed at {killed_at}", lora, killed_at) == whole, killed_at


def test_weights_of_an_earlier_best_wait_for_the_checkpoint(tmp_path):
    """Killed after a new best was found and before the checkpoint: the old best is still there to go back to."""
    saving = RUN | {"save_strategy": "steps", "save_steps": 4}
    _, killed = watched(tmp_path, held_out(script_of([0, 1, 2, 3, 4, 5])), [KilledAt(6)], **saving)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    # The checkpoint is of rollout 2 (4 updates); since then the look after rollout 3 was better.
    assert sorted(path.name for path in (tmp_path / "looks").iterdir()) == ["rollout-2", "rollout-3"]
    again, taught = watched(tmp_path, held_out(script_of([-1, -1, -1])), **saving)
    taught.train(resume_from_checkpoint=True)
    assert [look["rollout"] for look in again.looks] == [0, 1, 2, 3, 4, 5]
    again.leave(taught.model, tmp_path)
    assert json.loads((tmp_path / "gold.json").read_text())["kept"] == 2


def test_it_goes_with_another_trainer(tmp_path):
    """TRL's own GRPO: a callback and a reward function are all that a watch needs."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        str(tmp_path), max_steps=4, per_device_train_batch_size=4, num_generations=2, max_completion_length=6,
        use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True, beta=0.0,
        learning_rate=1e-2, gradient_checkpointing=False,
    )  # fmt: skip
    watch = Watch(tiny_tokenizer(), held_out(script_of([0, 1, 2]), every=2))
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in PROMPTS])
    taught = GRPOTrainer(
        tiny_policy(), watch.reading(yes_share), args, train_dataset=rows, processing_class=tiny_tokenizer(),
        callbacks=[watch],
    )  # fmt: skip
    watch.reference = nullcontext  # here: no reference, so a KL of 0
    taught.train()
    assert [look["rollout"] for look in watch.looks] == [0, 2, 4]
    assert [row["answers"]["count"] for row in taught.state.log_history if "answers" in row] == [4] * 4


def test_an_alarm_is_said_once_where_the_proxy_runs_away_from_gold(tmp_path, capsys):
    """Gold falls everywhere by as much as can be; whatever the proxy does, it does not keep up."""
    many = held_out(script_of([0, -1, -2, -3, -4, -5]))
    wide = replace(many, ids=tuple(map(str, range(12))), chats=many.chats * 3, seeds=tuple(range(12)))
    watch, taught = watched(tmp_path, wide, **RUN)
    taught.train()
    lines = [line for line in capsys.readouterr().err.splitlines() if "run away" in line or "proxy has gained" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: rollout ") and "and gold −3.0" in lines[0]
    watch.leave(taught.model, tmp_path)
    assert "alarm" not in (tmp_path / "warnings.json").read_text()  # what the stage leaves is what it was
    rung = alarm(watch.looks)
    assert lines[0].startswith(f"warning: rollout {rung.rollout}: ") and watch._planned == 5
