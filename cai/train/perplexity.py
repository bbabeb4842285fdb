"""How likely a model finds the documents that pretraining held out: what each later stage kept of the language."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.progress import progress
from cai.core.records import read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.data.texts import Document
from cai.models.loading import shared_tokenizer
from cai.models.vocabulary import DOCUMENT_END, document_ids
from cai.models.workbench import Workbench
from cai.train.packing import UNLEARNT, blocks_of
from cai.train.trainable import Trainable


@dataclass(frozen=True, slots=True)
class TextScore:
    """nats: the negative log-likelihood of all its tokens, of which the last ends the document; bytes: of UTF-8."""

    document: str
    tokens: int
    bytes: int
    nats: float


@version(1)
def score_text(out: Path, work: Workbench, *, text: Artifact, model: Trainable) -> None:
    """scores.jsonl: a `TextScore` for each held-out document. text: what `pretrain` left.

    A document begins behind the token that ends the one before, and is read in blocks as in packing.
    """
    network = work.language_model(model.ref, model.dtype)
    tokenizer: Any = shared_tokenizer(model.ref)
    documents = read_jsonl(text / "held_out.jsonl", Document)
    context, rows = network.config.get_text_config().max_position_embeddings, []
    with progress("read held-out text", len(documents)) as step:
        for document in documents:
            ids = document_ids(tokenizer, document.text)
            stream = [tokenizer.convert_tokens_to_ids(DOCUMENT_END), *ids]
            blocks = list(blocks_of(stream, context))
            size = max(1, work.runtime.batch_tokens // context)
            nats = sum(_nats(network, blocks[at : at + size]) for at in range(0, len(blocks), size))
            rows.append(TextScore(document.id, len(ids), len(document.text.encode()), nats))
            step(1)
    write_jsonl(out / "scores.jsonl", rows)


def _nats(network: Any, blocks: Sequence[list[int]]) -> float:
    """Of all tokens of the blocks but the first of each, summed in float32. What fills a row up stands at its end,
    where no token of the text sees it."""
    import torch
    from torch.nn.functional import cross_entropy

    width = max(map(len, blocks))
    ids_BT = torch.tensor([block + [0] * (width - len(block)) for block in blocks], device=network.device)
    labels_BT = torch.tensor([block + [UNLEARNT] * (width - len(block)) for block in blocks], device=network.device)
    with torch.inference_mode():
        logits_NV = network(input_ids=ids_BT).logits[:, :-1].float().flatten(0, 1)
    return cross_entropy(logits_NV, labels_BT[:, 1:].flatten(), ignore_index=UNLEARNT, reduction="sum").item()
