"""`constitution.why: train`: the policy is trained on the constitution's reasons, token by token, before SFT.

1. One document for each principle that gives its reason, in the words of prompts/reasons.jinja and in the model's own
   chat format. No value can forge a turn, as in any request.
2. Documents, in an order drawn by hash, are packed into blocks (packing.py), as in pretraining, with the token that
   ends a text between them.
3. The start model is trained on all of it, as `policy:` says (LoRA or whole), with the loss of pretraining.

SFT goes on from what this leaves. Drafts, revisions and reward models stay those of the start model, so that arms with
and without reasons learn the same answers and labels. Departs from Guan et al. (2024, "Deliberative alignment", arXiv
2412.16339), who have a model write reasoned answers with the text in its context and train on those: here the text
itself is learnt, as a further pretraining would.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai.config.load import Arm
from cai.config.reasons import ReasonTraining
from cai.constitution import Constitution
from cai.constitution.reasons import GivenReason, reasons_to_learn
from cai.core.draws import uniform
from cai.core.records import Chat
from cai.core.store import Artifact, version
from cai.core.templates import Template, load_template
from cai.models.chat import chat_ids, with_system
from cai.models.loading import load_tokenizer
from cai.models.references import trained
from cai.models.vocabulary import DOCUMENT_END
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.packing import learnt_tokens, rows_of
from cai.train.shares import split, together
from cai.train.starting import load_to_train
from cai.train.trainable import Trainable


@dataclass(frozen=True, slots=True)
class ReasonDocuments:
    """What is learnt, and in which words."""

    reasons: tuple[GivenReason, ...]
    template: Template

    def keyed(self) -> dict[str, Any]:
        return {"reasons": self.reasons, "template": self.template}

    def chats(self, seed: int) -> list[Chat]:
        """In an order drawn by hash."""
        ordered = sorted(self.reasons, key=lambda reason: uniform("pack", seed, reason.name))
        return [self.template.render(principle=reason) for reason in ordered]


def teach_reasons(
    stage: Callable[..., Artifact], arm: Arm, constitution: Constitution, start: Trainable
) -> tuple[Artifact | None, Trainable]:
    """(the start model once it has learnt the constitution's reasons, the same as SFT starts from it); None and the
    start model where none are to be learnt."""
    reasons = reasons_to_learn(constitution)
    if not reasons:
        return None, start
    documents, settings = ReasonDocuments(reasons, load_template("reasons")), arm.constitution.training
    made = stage(train_reasons, documents=documents, start=start, settings=settings, seed=arm.seed)
    return made, replace(start, ref=trained(made, "reasons"))


@launched
@version(1)
def train_reasons(
    out: Path, work: Workbench, *, documents: ReasonDocuments, start: Trainable, settings: ReasonTraining, seed: int
) -> None:
    """model/ (an adapter, or whole weights), curves.json, counts.json and documents.jsonl, the texts as the model reads
    them."""
    from peft import get_peft_model
    from transformers import TrainingArguments, default_data_collator

    from cai.train.common import fit, trainer_arguments
    from cai.train.sealed_trainer import SealedTrainer

    work.release()
    tokenizer = load_tokenizer(start.ref)
    chats = [with_system(chat, start.policy.system) for chat in documents.chats(seed)]
    ids = [[*chat_ids(tokenizer, chat, answer=False), _end(tokenizer)] for chat in chats]
    blocks = rows_of([token for one in ids for token in one], settings.max_length, tokenizer.pad_token_id)
    network, adapter = load_to_train(start, work.device)
    network = get_peft_model(network, adapter) if adapter else network
    rows, times = split(settings.batch_size, work.runtime, "constitution.training.batch_size", together())
    dtype = start.dtype if start.policy.training == "full" else "float32"
    given = TrainingArguments(
        **trainer_arguments(work, out, dtype, seed), output_dir=str(out / "trainer"),
        num_train_epochs=settings.epochs, per_device_train_batch_size=rows, gradient_accumulation_steps=times,
        learning_rate=settings.learning_rate, lr_scheduler_type="constant_with_warmup", warmup_steps=3,
        gradient_checkpointing=work.runtime.checkpointing,
    )  # fmt: skip
    data: Any = blocks
    trainer = SealedTrainer(model=network, args=given, data_collator=default_data_collator, train_dataset=data)
    counts = {"documents": len(chats), "tokens learnt from, an epoch": learnt_tokens(blocks), "blocks": len(blocks)}
    with (out / "documents.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": tokenizer.decode(one)}, ensure_ascii=False) + "\n" for one in ids)
    fit(trainer, "learn the reasons", out, tokenizer, {"loss": "loss"}, counts, section="constitution.training")


def _end(tokenizer: Any) -> int:
    """What ends a text: the token of pretraining where the model has it, else that of its turns."""
    known = tokenizer.get_vocab()
    return known.get(DOCUMENT_END, tokenizer.eos_token_id)
