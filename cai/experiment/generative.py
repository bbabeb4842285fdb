"""Where a reward model is generative: what reads its verdicts in the evaluation."""

from collections.abc import Callable

from cai.compare.cells import Cell, Measured
from cai.core.store import Artifact
from cai.models.references import Dtype, trained
from cai.train.generative.asking import RationaleAsking
from cai.train.generative.comparing import GenerativeReader, compare_pairs
from cai.train.generative.picking import GenerativePicker, respond_compared, score_beside
from cai.train.respond import Picker, respond, respond_best
from cai.train.trainable import Trainable


def reader_of(cell: Cell, dtype: Dtype) -> GenerativeReader:
    """The cell's reward model, and how it is asked."""
    arm = cell.settings
    assert cell.reward and arm.reward.generates
    model = Trainable(trained(cell.reward, cell.name), arm.policy, dtype, role="reward")
    asking = RationaleAsking.of(arm.reward, cell.constitution, arm.seed, samples=arm.reward.samples)
    return GenerativeReader(model, asking, arm.seed)


def answering_stage(picker: Picker | GenerativePicker | None) -> Callable[..., None]:
    """What a policy answers by. picker: of the best of several answers."""
    return respond if picker is None else respond_best if isinstance(picker, Picker) else respond_compared


def compare_generatively(
    stage: Callable[..., Artifact], cell: Cell, first: Cell, measured: Measured, dtype: Dtype
) -> None:
    """Its verdicts on the held-out pairs of the first cell, and on answers of policies beside the start model's, where
    a scalar reward model's scores would stand."""
    reader = reader_of(cell, dtype)
    measured.pair_scores[cell.name] = stage(compare_pairs, pairs=first.pairs, reader=reader)
    names = [name for name, kind in measured.answers if kind == "red-team"] if cell.policy else []
    for name in names:
        measured.scores[cell.name, name] = stage(
            score_beside, prompts=first.data, answers=measured.answers[name, "red-team"],
            beside=measured.answers["start", "red-team"], reader=reader,
        )  # fmt: skip
