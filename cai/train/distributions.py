"""Distributions over the vocabulary at the tokens of held-out answers, and the KL between those of two models.

It is exact at every token, and summed over an answer, its end included where the policy ended it. Over the policy's own
answers that has the KL of whole answers for its mean, as the sampled log-ratio has, and varies less (Amini, Vieira &
Cotterell 2025, "Better estimation of the Kullback-Leibler divergence between language models").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

ROOM = 1 << 29  # bytes of distributions that are held while the other model is in memory
Row = tuple[list[int], list[int]]  # ids of a prompt, opened for an answer, and of the answer


@dataclass(frozen=True, slots=True)
class AnswerDrift:
    """kl: nats, over the whole answer. tokens: of the answer, with its end."""

    prompt_id: str
    kl: float
    tokens: int


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
