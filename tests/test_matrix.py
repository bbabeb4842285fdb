"""Every architecture and chat template of tests/zoo.py through choosing, generating and all kinds of training.

Log-probabilities are held against plain forward passes of one row: no padding, no mask, nothing shared.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from fakes import ask

from cai.chat import answer_ids, chat_ids
from cai.engines import Question, Request, Sampling
from cai.engines.transformers import TransformersEngine
from cai.errors import UserError
from cai.models import Source, find, load_tokenizer
from cai.records import Label, Message, Pair, Prompt, Revision, write_jsonl
from cai.rl_settings import Rl
from cai.settings import Policy, Reward, Runtime, Sft
from cai.stages.dpo import train_dpo
from cai.stages.policy import train_ppo
from cai.stages.reward import train_reward
from cai.stages.sft import train_sft
from cai.store import Artifact
from cai.workbench import Workbench

TEXTS = ("Hi", "Tell me at some length about the many kinds of bread.", "How do I boil an egg?", "What is red?")
ANSWERS = ("Yes, of course: take the bread.", "No.", "\nOne of the others, in the end!", "the thing")
PROMPTS = [Prompt(f"p{i}", (Message("user", text),), "s", "train") for i, text in enumerate(TEXTS)]
SYSTEM = "Be kind to all."


def artifact(folder: Path, **files: Any) -> Artifact:
    folder.mkdir(parents=True)
    for name, records in files.items():
        write_jsonl(folder / f"{name}.jsonl", records)
    return Artifact("made", "key", folder, "digest")


def log_p(model: Any, start: list[int], tail: list[int]) -> float:
    with torch.no_grad():
        logits_TV = model(torch.tensor([start + tail])).logits[0].float()
    return sum(logits_TV[len(start) - 1 + k].log_softmax(-1)[token].item() for k, token in enumerate(tail))


@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_an_architecture_from_choice_to_policy(architecture: str, tmp_path: Path) -> None:
    source = find(str(zoo.make(tmp_path / "model", architecture, "chatml")))
    engine = TransformersEngine(source, dtype="float32", device="cpu", system=SYSTEM, batch_tokens=4096)

    # 1. Choices, of short rows and of long ones, are those of single rows.
    asked = [Question(ask(text), ("Yes", "No, never", "(A)")) for text in (*TEXTS, "word " * 25 + "Hi")]
    readings = dict(pair for batch in engine.choose(asked, 2048) for pair in batch)
    for place, question in enumerate(asked):
        start, tails = engine.option_ids(question)
        reading = readings[place]
        assert reading is not None
        assert reading.logprobs == pytest.approx([log_p(engine.model, start, tail) for tail in tails], abs=1e-3)

    # 2. What is drawn in a batch is what is drawn alone.
    requests, sampling = [Request(ask(text), seed) for seed, text in enumerate(TEXTS)], Sampling(6)
    together = dict(pair for batch in engine.generate(requests, sampling) for pair in batch)
    alone = [next(engine.generate([request], sampling))[0][1] for request in requests]
    assert [together[place] for place in range(len(requests))] == alone

    # 3. Every training runs, and begins where it must.
    work = Workbench(tmp_path / "runs", Runtime(), "cpu")
    common: dict[str, Any] = {"policy": Policy(model=source.place, lora_rank=2), "dtype": "float32", "seed": 0}
    revised = artifact(tmp_path / "r", revisions=[Revision(p, a, ()) for p, a in zip(PROMPTS, ANSWERS, strict=True)])
    labelled = {
        "pairs": (
            artifact(
                tmp_path / "p",
                pairs=[Pair(p.id, p, a, "Not so.") for p, a in zip(PROMPTS, ANSWERS, strict=True)],
            ),
        ),
        "labels": (artifact(tmp_path / "l", labels=[Label(p.id, 0.8, "ai") for p in PROMPTS]),),
    }
    out = {name: tmp_path / "out" / name for name in ("sft", "reward", "dpo", "ppo.x")}
    for folder in out.values():
        folder.mkdir(parents=True)
    train_sft(
        out["sft"], work, revisions=revised, helpful=None, helpful_answers=None, model=source,
        settings=Sft(batch_size=4), **common,
    )  # fmt: skip
    sft = Source("sft", str(out["sft"] / "model"), "sft")
    train_reward(out["reward"], work, model=source, settings=Reward(batch_size=4), **labelled, **common)
    train_dpo(
        out["dpo"], work, sft=sft, epochs=1, batch_size=4, learning_rate=1e-3, kl=0.1, max_length=384, **labelled,
        **common,
    )  # fmt: skip
    train_ppo(
        out["ppo.x"], work, data=artifact(tmp_path / "d", prompts=PROMPTS), helpful=None, revisions=revised, sft=sft,
        reward=Source("reward", str(out["reward"] / "model"), "reward"), reward_max_length=384, gold=None,
        settings=Rl(steps=1, batch_size=4, epochs=1, max_new_tokens=6, helpful=0), **common,
    )  # fmt: skip
    loss = {name: json.loads((out[name] / "curves.json").read_text())["loss"][0] for name in ("reward", "dpo")}
    assert loss == pytest.approx({"reward": math.log(2), "dpo": math.log(2)}, abs=1e-5)
    assert json.loads((out["ppo.x"] / "curves.json").read_text())["kl"] == pytest.approx([0], abs=1e-4)


@pytest.fixture(params=zoo.TEMPLATES)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    zoo.make(tmp_path / "model", "llama", request.param)
    return load_tokenizer(find(str(tmp_path / "model"), "plain" if request.param == "none" else None))


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
