"""The stages of `judge.slim`: the smaller judge, taught by the whole one or not, and what it is worth beside it."""

import json
from dataclasses import asdict
from pathlib import Path

from cai.config.slim import Distil, Slim
from cai.core.records import Chat, Message, Pair, Prompt, plain, read_jsonl
from cai.core.store import Artifact, version
from cai.judge.asked import AskedJudge
from cai.judge.slimming.acceptance import accept
from cai.models.references import ModelRef
from cai.models.workbench import Workbench


@version(1)
def slim_judge(out: Path, work: Workbench, *, model: ModelRef, how: Slim, data: Artifact | None) -> None:
    """model/: the smaller model. data: whose training conversations it is calibrated on; None where it reads none."""
    from cai.models.slim.make import slim  # torch: only where there is something to make

    work.release()
    texts = calibration_texts(data) if data else []
    slim(model, how, texts, work.device, out / "model")


@version(1)
def distil_judge(
    out: Path, work: Workbench, *, judge: AskedJudge, student: ModelRef, how: Slim, teaching: Distil, data: Artifact
) -> None:
    """model/: the student, taught what the judge says of training pairs (`slim.distil`). how: the student was made."""
    from cai.judge.slimming.distil import distil  # torch: only here

    pairs = [pair for pair in read_jsonl(data / "pairs.jsonl", Pair) if pair.prompt.split == "train"]
    distil(work, judge, student, how.model_copy(update={"distil": teaching}), pairs, out / "model")


@version(1)
def accept_slim(
    out: Path, work: Workbench, *, pairs: Artifact, preflight: Artifact | None, judge: AskedJudge, slimmed: ModelRef,
    margin: float,
) -> None:  # fmt: skip
    """acceptance.json: a `SlimAcceptance` over the held-out pairs.

    judge: as it is before slimming, with the templates of `choice`. preflight: the slimmed judge's; the method that it
    chose is put to both.
    """
    chosen = json.loads((preflight / "preflight.json").read_text()) if preflight else {}
    judge = judge.by(chosen.get("method", judge.settings.method))
    held_out = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split == "test"]
    made = accept(work, judge, slimmed, held_out, margin)
    (out / "acceptance.json").write_text(json.dumps(plain(asdict(made)), indent=1))


def calibration_texts(data: Artifact) -> list[Chat]:
    """Training conversations, one of each prompt: with the first answer of its first pair where there are pairs."""
    texts: dict[str, Chat] = {}
    for pair in read_jsonl(data / "pairs.jsonl", Pair):
        if pair.prompt.split == "train":
            texts.setdefault(pair.prompt.id, (*pair.prompt.messages, Message("assistant", pair.a)))
    prompts = read_jsonl(data / "prompts.jsonl", Prompt)
    return [*texts.values(), *(p.messages for p in prompts if p.split == "train" and p.id not in texts)]
