"""Every architecture and chat template of tests/zoo.py through choosing, generating and all kinds of training.

Log-probabilities are held against plain forward passes of one row: no padding, no mask, nothing shared.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from fakes import ask

from cai.config.rl import Rl
from cai.config.runtime import Runtime
from cai.config.sections import Policy, Reward, Sft
from cai.core.errors import UserError
from cai.core.records import Label, Message, Pair, Prompt, Revision, write_jsonl
from cai.core.store import Artifact
from cai.models.chat import answer_ids, chat_ids
from cai.models.engines import Question, Request, Sampling
from cai.models.engines.transformers import TransformersEngine
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef, find
from cai.models.workbench import Workbench
from cai.train.dpo_trainer import SoftDPOTrainer
from cai.train.reward import train_reward
from cai.train.rl.given import OnlineRun, RewardModel
from cai.train.rl.groups import ResumableGRPO, ResumableRLOO
from cai.train.rl.methods.dpo import DpoSettings, train_dpo
from cai.train.rl.methods.grpo import train_grpo
from cai.train.rl.methods.ppo import train_ppo
from cai.train.rl.methods.rloo import train_rloo
from cai.train.rl.ppo import PPOTrainer
from cai.train.sft import Everyday, train_sft
from cai.train.still import give_positions
from cai.train.trainable import Labelled, Trainable

TEXTS = ("Hi", "Tell me at some length about the many kinds of bread.", "How do I boil an egg?", "What is red?")
ANSWERS = ("Yes, of course: take the bread.", "No.", "\nOne of the others, in the end!", "the thing")
PROMPTS = [Prompt(f"p{i}", (Message("user", text),), "s", "train") for i, text in enumerate(TEXTS)]
SYSTEM = "Be kind to all."


def artifact(folder: Path, **files: Any) -> Artifact:
    folder.mkdir(parents=True)
    for name, records in files.items():
        write_jsonl(folder / f"{name}.jsonl", records)
    return Artifact("made", "key", folder, "digest")


def alone(model: Any, start: list[int], tail: list[int]) -> list[float]:
    """Log-probabilities of a tail's tokens by a plain forward pass of one row."""
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([start + tail])).logits[0].float()
    return [logits_TV[len(start) - 1 + k].log_softmax(-1)[token].item() for k, token in enumerate(tail)]


@pytest.fixture
def overheard(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """method -> how far each log-probability that its trainer computed before the first update, of policy and of
    reference, is from what a plain forward pass of that row alone says (of DPO: of whole answers)."""
    off: dict[str, list[float]] = {}

    def compare(name: str, model: Any, ids: Any, mask: Any, answer: Any, logps: Any) -> None:
        for row, shown, tail, some in zip(ids, mask.bool(), answer.bool() & mask.bool(), logps, strict=True):
            expected = alone(model, row[shown & ~tail].tolist(), row[tail].tolist())
            got = some[tail[-len(some) :]].tolist() if some.dim() else [some.item()]
            expected = expected if some.dim() else [sum(expected)]
            off.setdefault(name, []).extend(abs(a - b) for a, b in zip(got, expected, strict=True))

    def listen(kind: Any, method: str, rows: Any) -> None:
        inner = getattr(kind, method)

        def heard(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            found = inner(trainer, *args, **kwargs)
            if trainer.state.global_step == 0:
                rows(trainer, found, *args)
            return found

        monkeypatch.setattr(kind, method, heard)

    def of_group(name: str) -> Any:
        def rows(trainer: Any, found: Any, model: Any, ids: Any, mask: Any, keep: int, *_: Any) -> None:
            answer = torch.zeros_like(ids)
            answer[:, -keep:] = 1
            compare(name, model, ids, mask, answer, found[0])

        return rows

    def of_ppo(trainer: Any, found: Any, rollout: Any) -> None:
        prompt, answer = rollout["prompt_mask"], rollout["completion_mask"]
        ids = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], 1)
        mask, tail = torch.cat([prompt, answer], 1), torch.cat([torch.zeros_like(prompt), answer], 1)
        for whose in ("old_logprobs", "ref_logprobs"):
            compare("ppo", trainer.model, ids, mask, tail, found[whose])

    def of_dpo(trainer: Any, found: Any, model: Any, inputs: Any) -> None:
        compare(
            "dpo", model, inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"], torch.cat(found)
        )

    for name, made in (("rloo", ResumableRLOO), ("grpo", ResumableGRPO)):
        listen(made, "_get_per_token_logps_and_entropies", of_group(name))
    listen(PPOTrainer, "_evaluate_rollout", of_ppo)
    listen(SoftDPOTrainer, "compute_ref_log_probs", of_dpo)
    return off


ONLINE = {"ppo": train_ppo, "rloo": train_rloo, "grpo": train_grpo}


def trained(folder: Path, source: ModelRef, policy: Policy, methods: Sequence[str]) -> dict[str, Path]:
    """What SFT, the reward model and each method leave; one rollout, one epoch."""
    work = Workbench(folder / "runs", Runtime(), "cpu")
    start = Trainable(source, policy, "float32")
    revised = artifact(folder / "r", revisions=[Revision(p, a, ()) for p, a in zip(PROMPTS, ANSWERS, strict=True)])
    pairs = [Pair(p.id, p, a, "Not so.") for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    labels = [Label(p.id, 0.8, "ai") for p in PROMPTS]
    labelled = Labelled((artifact(folder / "p", pairs=pairs),), (artifact(folder / "l", labels=labels),))
    out = {name: folder / "out" / f"{name}.partial" for name in ("sft", "reward", *methods)}
    for one in out.values():
        one.mkdir(parents=True)
    train_sft(out["sft"], work, revisions=revised, everyday=Everyday(), start=start, settings=Sft(batch_size=4), seed=0)
    sft = replace(start, ref=ModelRef("sft", str(out["sft"] / "model"), "sft"), role="sft")
    train_reward(
        out["reward"],
        work,
        labelled=labelled,
        start=start,
        settings=Reward(batch_size=4, epochs=3, learning_rate=0.01),
        seed=0,
    )
    if "dpo" in methods:
        dpo = DpoSettings(epochs=1, batch_size=4, learning_rate=1e-3, beta=0.1, max_length=384)
        train_dpo(out["dpo"], work, labelled=labelled, start=sft, settings=dpo, seed=0)
    asked_of = artifact(folder / "d", prompts=PROMPTS)
    for name in ONLINE.keys() & set(methods):
        run = OnlineRun(
            start=sft, data=asked_of, helpful=None, revisions=revised, gold=None, seed=0,
            settings=Rl(steps=1, batch_size=4, epochs=1, max_new_tokens=4, helpful=0),
        )  # fmt: skip
        reward = RewardModel(ModelRef("reward", str(out["reward"] / "model"), "reward"), 384)
        ONLINE[name](out[name], work, run=run, reward=reward)
    return out


@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_an_architecture_from_choice_to_policy(
    architecture: str, tmp_path: Path, overheard: dict[str, list[float]]
) -> None:
    source = find(str(zoo.make(tmp_path / "model", architecture, "chatml")))
    engine = TransformersEngine(source, dtype="float32", device="cpu", system=SYSTEM, batch_tokens=4096)

    # 1. Choices, of short rows and of long ones, are those of single rows.
    asked = [Question(ask(text), ("Yes", "No, never", "(A)")) for text in (*TEXTS, "word " * 25 + "Hi")]
    readings = dict(pair for batch in engine.choose(asked, 2048) for pair in batch)
    for place, question in enumerate(asked):
        start, tails = engine.option_ids(question)
        reading = readings[place]
        assert reading is not None
        assert reading.logprobs == pytest.approx([sum(alone(engine.model, start, tail)) for tail in tails], abs=1e-3)

    # 2. What is drawn in a batch is what is drawn alone, also where the batch begins alike.
    for system in (SYSTEM, SYSTEM * 8):
        asked_of, sampling = [ask(text, system=system) for text in TEXTS], Sampling(4)
        requests = [Request(chat, seed) for seed, chat in enumerate(asked_of)]
        together = dict(pair for batch in engine.generate(requests, sampling) for pair in batch)
        one_by_one = [next(engine.generate([request], sampling))[0][1] for request in requests]
        assert [together[place] for place in range(len(requests))] == one_by_one

    # 3. Every training runs, and begins where it must. RLOO and GRPO read rows alike (cai/train/rl/groups.py).
    methods = ["dpo", "ppo", ("rloo", "grpo")[list(zoo.ARCHITECTURES).index(architecture) % 2]]
    if architecture == "rwkv":  # has no mask: it would read the padding on the left of a prompt as text
        methods = ["dpo", "ppo"]
        with pytest.raises(UserError, match="reads the padding on the left"):
            trained(tmp_path / "refused", source, Policy(model=source.place, lora_rank=2), ["grpo"])
    out = trained(tmp_path / "out", source, Policy(model=source.place, lora_rank=2), methods)
    loss = {name: json.loads((out[name] / "curves.json").read_text())["loss"][0] for name in ("reward", "dpo")}
    assert loss == pytest.approx({"reward": math.log(2), "dpo": math.log(2)}, abs=1e-5)
    for name in methods[1:]:
        assert json.loads((out[name] / "curves.json").read_text())["kl"] == pytest.approx([0], abs=1e-4)

    # 4. And every log-probability of an answer is that of its row alone.
    assert {name: max(off) for name, off in overheard.items()} == pytest.approx(dict.fromkeys(methods, 0), abs=1e-3)


@pytest.mark.parametrize(("architecture", "by_groups"), [("gpt2", "grpo"), ("biogpt", "rloo")])
def test_the_reference_of_a_whole_model_reads_rows_as_the_policy_does(
    architecture: str, by_groups: str, tmp_path: Path, overheard: dict[str, list[float]]
) -> None:
    """TRL loads a second network for it."""
    methods = ["dpo", "ppo", by_groups]
    source = find(str(zoo.make(tmp_path / "model", architecture, "chatml")))
    trained(tmp_path / "out", source, Policy(model=source.place, training="full"), methods)
    assert {name: max(off) for name, off in overheard.items()} == pytest.approx(dict.fromkeys(methods, 0), abs=1e-3)


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_a_first_rollout_with_kl_stops_the_run(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a library's reference counts the padding and the policy does not."""
    policies: list[Any] = []

    def to_the_policy_alone(model: Any) -> None:
        policies.append(model)
        if len(policies) == 1:
            give_positions(model)

    monkeypatch.setattr("cai.train.rl.groups.give_positions", to_the_policy_alone)
    source = find(str(zoo.make(tmp_path / "model", "gpt2", "chatml")))
    with pytest.raises(UserError, match="log-probabilities differ from its own by up to"):
        trained(tmp_path / "out", source, Policy(model=source.place, training="full"), [method])


@pytest.fixture(scope="module", params=zoo.TEMPLATES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = zoo.make(tmp_path_factory.mktemp("templates") / "model", "llama", request.param)
    return load_tokenizer(find(str(folder), "plain" if request.param == "none" else None))


@pytest.mark.parametrize("answer", ["Yes, sir", "\nNo", "e", "Stop!", ""])
def test_a_template_says_all_and_an_answer_goes_on_from_what_is_asked(tokenizer: Any, answer: str) -> None:
    chat = (*ask("Hi", system=SYSTEM), Message("assistant", "Ho"), Message("user", "Why?"))
    text = tokenizer.decode(chat_ids(tokenizer, chat, answer=True))
    assert all(message.content in text for message in chat)
    start, end = answer_ids(tokenizer, chat, answer)
    assert start == chat_ids(tokenizer, chat, answer=True) and end
    assert answer.strip() in tokenizer.decode(start + end)
    assert tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id


def test_no_user_can_forge_a_turn_of_any_template(tokenizer: Any) -> None:
    """What the template writes between turns, put into a user's mouth, never comes out as it went in."""
    honest = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    forged = honest[honest.index("one") + 3 : honest.index("three")]
    text = tokenizer.decode(chat_ids(tokenizer, ask("Hi" + forged + "you"), answer=True))
    assert forged.strip() not in text


def test_a_base_model_without_a_template_is_told_of_the_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no chat template") as caught:
        load_tokenizer(find(str(zoo.make(tmp_path / "model", "gpt2", "none"))))
    assert "template: plain" in caught.value.remedy


def test_a_template_that_prints_the_date_says_the_same_every_day(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(find(str(zoo.make(tmp_path / "model", "llama", "llama3"))))
    assert "Today Date: 26 Jul 2024" in tokenizer.decode(chat_ids(tokenizer, ask("Hi"), answer=True))


def test_a_template_is_told_its_arguments_and_they_are_in_the_digest(tmp_path: Path) -> None:
    folder = str(zoo.make(tmp_path / "model", "llama", "thinking"))
    told = find(folder, {"enable_thinking": False})
    tokenizer = load_tokenizer(told)
    assert tokenizer.decode(chat_ids(tokenizer, ask("Hi"), answer=True)).endswith("<think>\n\n</think>\n\n")
    assert told.digest != find(folder).digest
