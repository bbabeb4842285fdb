"""SL-CAI: fine-tune the policy on its own final revisions (Bai et al. 2022, section 3.1), answers only; or on other
answers (`sft.learns`), which stand in the same file.

Departure from the paper: the helpfulness mix answers helpful prompts in the start model's own words, where the paper
samples a helpful RLHF model. The start model is the policy itself, so the mix holds it in place.
"""

import json
from collections.abc import Callable
from pathlib import Path

from cai.config.sections import Sft
from cai.core.errors import UserError
from cai.core.store import Artifact, version
from cai.models.loading import load_tokenizer
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.learnt import WORDS, Everyday, rows_to_learn
from cai.train.starting import load_to_train
from cai.train.trainable import Trainable


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
