"""SL-CAI: fine-tune the policy on its own final revisions (Bai et al. 2022, section 3.1), answers only; or on other
answers (`sft.learns`), which stand in the same file.

Departure from the paper: the helpfulness mix answers helpful prompts in the start model's own words, where the paper
samples a helpful RLHF model. The start model is the policy itself, so the mix holds it in place.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.sections import Sft
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Chat, Prompt, Response, Revision, read_jsonl
from cai.core.store import Artifact, version
from cai.core.textstats import whole_sentences, wordless
from cai.models.chat import answer_ids, with_system
from cai.models.loading import load_tokenizer
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.starting import load_to_train
from cai.train.trainable import Trainable


@dataclass(frozen=True, slots=True)
class Everyday:
    """Helpful prompts and the start model's answers to them; None where nothing helpful is mixed in."""

    prompts: Artifact | None = None
    answers: Artifact | None = None

    def keyed(self) -> dict[str, Any]:
        return {"helpful": self.prompts, "helpful_answers": self.answers}


# The stage that made what is learnt -> what it is; their counts.json and set_aside.jsonl say what was left out.
WORDS = {"take_drafts": "drafts", "take_preferred": "preferred answers", "load_demonstrations": "demonstrations"}


@launched
@version(1)
def train_sft(
    out: Path, work: Workbench, *, revisions: Artifact, everyday: Everyday, start: Trainable, settings: Sft, seed: int
) -> None:
    """model/ (an adapter, or whole weights), curves.json and counts.json. revisions: what is learnt, by its last texts.

    Raises UserError where all of it is longer than `sft.max_length`.
    """
    from datasets import Dataset  # heavy: only when there is something to train
    from trl import SFTConfig

    from cai.train.common import fit, pass_arguments
    from cai.train.sft_trainer import AnswerTrainer

    work.release()
    tokenizer = load_tokenizer(start.ref)
    kept, counts = rows_to_learn(tokenizer, revisions, everyday, start.policy.system, settings, seed)
    if not kept:
        dropped = counts["dropped: too long"]
        raise UserError(
            f"none of {dropped} answers is left to fine-tune on: all are longer than {settings.max_length} tokens",
            "sft.max_length",
            "raise it, or give shorter prompts",
        )

    network, adapter = load_to_train(start, work.device)
    config = SFTConfig(
        max_length=settings.max_length,
        completion_only_loss=True,
        **pass_arguments(work, out, start, settings, seed, section="sft"),
    )
    data = Dataset.from_list(kept)
    trainer = AnswerTrainer(
        model=network, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapter
    )
    columns = {"loss": "loss", "mean_token_accuracy": "token accuracy", "entropy": "entropy"}
    fit(
        trainer,
        f"fine-tune on {WORDS.get(revisions.stage, 'revisions')}",
        out,
        tokenizer,
        columns,
        counts,
        section="sft",
    )


@version(1)
def leave_untrained(out: Path, work: Workbench, *, start: Trainable, seed: int) -> None:
    """`sft.learns: nothing`. model/ (the start model with an adapter that changes nothing yet, or its whole weights),
    and curves.json and counts.json without rows."""
    from peft import get_peft_model
    from transformers import set_seed

    from cai.models.loading import save

    work.release()
    network, adapter = load_to_train(start, work.device)
    set_seed(seed)  # half of a fresh adapter is drawn; the other half is 0, and so is what they come to
    save(get_peft_model(network, adapter) if adapter else network, load_tokenizer(start.ref), out / "model")
    (out / "curves.json").write_text(json.dumps({"step": [], "loss": []}))
    (out / "counts.json").write_text(json.dumps({}))


def fine_tuned(
    stage: Callable[..., Artifact], revisions: Artifact, everyday: Everyday, start: Trainable, settings: Sft, seed: int
) -> Artifact:
    """What SFT leaves, or the start model as it is where SFT learns nothing: what RL goes on from."""
    if settings.learns == "nothing":
        return stage(leave_untrained, start=start, seed=seed)
    return stage(train_sft, revisions=revisions, everyday=everyday, start=start, settings=settings, seed=seed)


def rows_to_learn(
    tokenizer: Any, revisions: Artifact, everyday: Everyday, system: str | None, settings: Sft, seed: int
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """(what SFT learns an epoch, as `encode` has it; counts). system: the policy's system prompt."""
    revised = [(r.prompt.messages, r.final) for r in read_jsonl(revisions / "revisions.jsonl", Revision)]
    mixed = helpful_rows(everyday, len(revised), settings.helpful, seed)
    rows = [encode(tokenizer, chat, answer, system) for chat, answer in [*revised, *mixed]]
    kept = [row for row in rows if len(row["input_ids"]) <= settings.max_length]
    what = WORDS.get(revisions.stage, "revisions")
    return kept, {what: len(revised), "helpful": len(mixed), "dropped: too long": len(rows) - len(kept)}


def helpful_rows(everyday: Everyday, revised: int, share: float, seed: int) -> list[tuple[Chat, str]]:
    """As many helpful answers as make up `share` of all rows (fewer when there are not so many); none without words."""
    prompts, answers = everyday.prompts, everyday.answers
    if prompts is None or answers is None or share == 0:
        return []
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    responses = [row for row in read_jsonl(answers / "responses.jsonl", Response) if not wordless(row.text)]
    responses.sort(key=lambda response: uniform("helpful", seed, response.prompt_id))
    wanted = math.ceil(revised * share / (1 - share))
    texts = [r.text if r.finish == "stop" else whole_sentences(r.text) for r in responses[:wanted]]
    return [(by_id[r.prompt_id].messages, text) for r, text in zip(responses, texts, strict=False)]


def encode(tokenizer: Any, chat: Chat, answer: str, system: str | None) -> dict[str, list[int]]:
    """input_ids of the whole conversation and completion_mask: 1 on the answer and the end of its turn, else 0."""
    chat = with_system(chat, system)
    start, end = answer_ids(tokenizer, chat, answer)
    return {"input_ids": start + end, "completion_mask": [0] * len(start) + [1] * len(end)}
