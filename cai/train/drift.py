"""How far a policy has moved from the SFT policy that it began as: the KL of each of its held-out answers.

At every token of an answer the exact KL between both models' distributions over the vocabulary, summed over the answer,
its end included where the policy ended it. Over the policy's own answers that has the KL of whole answers for its mean,
as the sampled log-ratio has, and varies less (Amini, Vieira & Cotterell 2025, "Better estimation of the
Kullback-Leibler divergence between language models"). It is that of what was sampled: both at the temperature of the
answers. PPO's own penalty is against the policy that its round began with, which in later rounds is another one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.progress import progress
from cai.core.records import Prompt, Response, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.chat import answer_ids, with_system
from cai.models.loading import shared_tokenizer
from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.trainable import PromptSet, Trainable

ROOM = 1 << 29  # bytes of distributions that are held while the other model is in memory
Row = tuple[list[int], list[int]]  # ids of a prompt, opened for an answer, and of the answer


@dataclass(frozen=True, slots=True)
class AnswerDrift:
    """kl: nats, over the whole answer. tokens: of the answer, with its end."""

    prompt_id: str
    kl: float
    tokens: int


@version(1)
def score_drift(
    out: Path, work: Workbench, *, prompts: PromptSet, answers: Artifact, model: Trainable, sft: ModelRef,
    temperature: float,
) -> None:  # fmt: skip
    """drift.jsonl: an `AnswerDrift` for each answer that has a token.

    answers: of `model`, to these prompts, sampled at this temperature. sft: the policy that it is compared with.
    """
    from cai.models.engines.sampling import stop_ids  # heavy

    network, tokenizer = work.language_model(model.ref, model.dtype), shared_tokenizer(model.ref)
    asked = {prompt.id: prompt for prompt in read_jsonl(prompts.prompts / "prompts.jsonl", Prompt)}
    stops, rows = stop_ids(network, tokenizer), {}
    for answer in read_jsonl(answers / "responses.jsonl", Response):
        chat = with_system(prompts.asked(asked[answer.prompt_id]), model.policy.system)
        start, written = answer_ids(tokenizer, chat, answer.text)
        if ids := as_sampled(written, stops, ended=answer.finish == "stop"):
            rows[answer.prompt_id] = start, ids
    vocabulary = network.config.get_text_config().vocab_size

    drifts: list[AnswerDrift] = []
    with progress("compare with the SFT policy", len(rows)) as step:
        for names in blocks([(name, len(ids)) for name, (_, ids) in rows.items()], ROOM // (4 * vocabulary)):
            network = work.language_model(model.ref, model.dtype)
            own = [log_distributions(network, rows[name], temperature) for name in names]
            network = work.language_model(sft, model.dtype)
            for name, logp_TV in zip(names, own, strict=True):
                kl = divergence_from(logp_TV, log_distributions(network, rows[name], temperature))
                drifts.append(AnswerDrift(name, kl, len(logp_TV)))
            step(len(names))
    write_jsonl(out / "drift.jsonl", drifts)


def as_sampled(written: Sequence[int], stops: set[int], *, ended: bool) -> list[int]:
    """What a policy sampled of an answer as the template writes it: up to the token that ends the turn, which is a
    choice of the policy's where it ended the answer."""
    end = next((place for place, token in enumerate(written) if token in stops), len(written))
    return list(written[: end + ended])


def blocks(lengths: Sequence[tuple[str, int]], most: int) -> Iterator[list[str]]:
    """Names in their order, with at most so many tokens together; a longer answer goes alone."""
    block, used = [], 0
    for name, length in lengths:
        if block and used + length > most:
            yield block
            block, used = [], 0
        block.append(name)
        used += length
    if block:
        yield block


def log_distributions(network: Any, row: Row, temperature: float) -> Any:
    """(T, V): the log-probabilities at each of the answer's T tokens, in float32.

    A row goes alone: padded into a batch, bfloat16 would round it otherwise for one model than for the other.
    """
    import torch

    start, answer = row
    ids_1T = torch.tensor([[*start, *answer]], device=network.device)
    chosen_at_T = torch.arange(len(start) - 1, ids_1T.shape[1] - 1, device=network.device)  # one place before its own
    with torch.inference_mode():
        logits_TV = network(input_ids=ids_1T, logits_to_keep=chosen_at_T, use_cache=False).logits[0]
        return (logits_TV.float() / temperature).log_softmax(-1)


def divergence_from(logp_TV: Any, reference_TV: Any) -> float:
    """KL of the first from the second, summed over the answer, in nats."""
    return (logp_TV.exp() * (logp_TV - reference_TV)).sum().item()
