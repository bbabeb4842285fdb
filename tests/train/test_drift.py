"""KL of answers from the SFT policy: by hand, where distributions can be written down, and on the tiny random model."""

import math
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_criteria_section import made
from test_watch import constant

from cai.config.sections import Policy
from cai.core.records import Message, Prompt, Response, read_jsonl
from cai.models.loading import load_causal, shared_tokenizer
from cai.models.references import ModelRef, local
from cai.train import drift
from cai.train.distributions import AnswerDrift, as_sampled, blocks
from cai.train.drift import score_drift
from cai.train.rl.watch import divergence
from cai.train.trainable import PromptSet, Trainable

torch.set_num_threads(1)
# Token 0 is 3 times as likely as each of three others: 3/6, 1/6, 1/6, 1/6, against 1/4 each.
NATS_A_TOKEN = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
# At temperature 2 it is sqrt(3) times as likely: 0.366025 and 0.211325.
WARM = 0.366025 * math.log(4 * 0.366025) + 3 * 0.211325 * math.log(4 * 0.211325)


@pytest.mark.parametrize(
    ("written", "ended", "sampled"),
    [([5, 6, 2, 7], True, [5, 6, 2]), ([5, 6, 2, 7], False, [5, 6]), ([5, 6], True, [5, 6]), ([2, 7], False, [])],
)
def test_the_end_counts_where_the_policy_chose_it(written, ended, sampled):
    assert as_sampled(written, {2, 9}, ended=ended) == sampled


def test_blocks_have_room_for_their_distributions():
    assert list(blocks([("a", 3), ("b", 2), ("c", 9), ("d", 1), ("e", 4)], 5)) == [["a", "b"], ["c"], ["d", "e"]]
    assert list(blocks([], 5)) == []


class Workplace:
    """A workbench with room for one network at a time, as the real one: the last one that was given is spoilt."""

    def __init__(self, **networks: Any) -> None:
        self.networks, self.given = networks, []

    def language_model(self, ref: ModelRef, dtype: str) -> Any:
        self.given.append(ref.name)
        return self.networks[ref.name]


def run(tmp_path: Path, tiny: ModelRef, work: Workplace, temperature: float) -> dict[str, AnswerDrift]:
    prompts = [Prompt(name, (Message("user", f"Is it {name}?"),), "all", "test") for name in ("a", "b", "c")]
    answers = [
        Response("a", "It is not.", "mine", "stop"), Response("b", "One two", "mine", "length"),
        Response("c", "", "mine", "length"),
    ]  # fmt: skip
    given = {
        "prompts": PromptSet(made(tmp_path, "data", prompts=prompts), "test"),
        "answers": made(tmp_path, "answers", responses=answers),
        "model": Trainable(ModelRef("mine", str(local(tiny)), tiny.digest), Policy(), "float32"),
        "sft": ModelRef("sft", str(local(tiny)), tiny.digest), "temperature": temperature,
    }  # fmt: skip
    (tmp_path / "out").mkdir()
    score_drift(tmp_path / "out", work, **given)  # pyrefly: ignore
    return {row.prompt_id: row for row in read_jsonl(tmp_path / "out" / "drift.jsonl", AnswerDrift)}


def written_down(logit: float) -> Any:
    network: Any = constant(logit)
    network.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=4))
    network.generation_config = SimpleNamespace(eos_token_id=None)
    return network


@pytest.mark.parametrize(("temperature", "nats"), [(1.0, NATS_A_TOKEN), (2.0, WARM)])
def test_nats_are_summed_over_the_answer_and_its_end(tmp_path, tiny, monkeypatch, temperature, nats):
    """Of three answers one ended by itself, one was cut off, and one has no token at all."""
    work = Workplace(mine=written_down(math.log(3.0)), sft=written_down(0.0))
    monkeypatch.setattr(drift, "ROOM", 4 * 4 * 8)  # eight tokens of four logits: each answer is a block of its own
    rows = run(tmp_path, tiny, work, temperature)
    # The tiny model's tokens are bytes.
    assert {name: row.tokens for name, row in rows.items()} == {"a": len("It is not.") + 1, "b": len("One two")}
    assert rows["a"].kl == pytest.approx(11 * nats, rel=1e-4) and rows["b"].kl == pytest.approx(7 * nats, rel=1e-4)
    assert work.given == ["mine", "mine", "sft", "mine", "sft"]


def test_a_policy_that_did_not_move_has_no_drift_and_one_that_did_has_that_of_training(tmp_path, tiny):
    """The same as PPO's looks find (`divergence`), which pad their rows and hold both models at once."""
    mine, sft = (load_causal(tiny, "float32", "cpu").eval() for _ in range(2))
    (tmp_path / "still").mkdir()
    still = run(tmp_path / "still", tiny, Workplace(mine=mine, sft=sft), 0.7)
    assert {row.kl for row in still.values()} == {0.0}
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    moved = run(tmp_path, tiny, Workplace(mine=mine, sft=sft), 0.7)
    assert min(row.kl for row in moved.values()) > 0.001

    @contextmanager
    def reference():
        own = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
        mine.load_state_dict(sft.state_dict())
        yield
        mine.load_state_dict(own)

    tokenizer: Any = shared_tokenizer(tiny)
    system = "You are a helpful assistant."
    texts = {
        name: tokenizer.apply_chat_template(
            [{"role": "system", "content": system}, {"role": "user", "content": f"Is it {name}?"}],
            add_generation_prompt=True, tokenize=False,
        ) for name in "ab"
    }  # fmt: skip
    prompts = [tokenizer(texts[name], add_special_tokens=False)["input_ids"] for name in "ab"]
    answers = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("It is not.", "One two")]
    answers[0].append(tokenizer.eos_token_id)
    with torch.no_grad():
        kls, _ = divergence(mine, reference, prompts, answers, 0.7, tokenizer.pad_token_id)
    assert [moved["a"].kl, moved["b"].kl] == pytest.approx(kls, rel=1e-3)
