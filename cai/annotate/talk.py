"""Which policy of an experiment to talk to, and about what: by its file, from what its stages left in the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cai.compare.cells import Cell
from cai.config.load import Arm, read_experiment
from cai.constitution.each import expanded
from cai.core.errors import UserError, suggest
from cai.core.records import Prompt, read_jsonl
from cai.core.store import Artifact, Store
from cai.data.publics import with_publics
from cai.experiment.evaluate import picks
from cai.experiment.pipeline import train
from cai.models.engines import Sampling
from cai.models.references import ModelRef, trained
from cai.models.workbench import Workbench

if TYPE_CHECKING:
    from cai.annotate.voice import Voice


@dataclass(frozen=True)
class LivePolicy:
    """A policy that is there. home: the experiment's folder of results. prompts: to talk about, of the train split."""

    name: str
    home: Path
    model: ModelRef
    prompts: tuple[Prompt, ...]
    arm: Arm
    work: Workbench

    def voice(self) -> "Voice":
        """The policy, loaded. It samples as for `pairs.source: policy`, so several draws differ."""
        from cai.annotate.voice import Voice

        return Voice(
            self.model, dtype=self.work.dtype(self.arm), device=self.work.device, system=self.arm.policy.system,
            sampling=Sampling(self.arm.pairs.max_new_tokens, self.arm.pairs.temperature),
            batch_tokens=self.work.runtime.batch_tokens,
        )  # fmt: skip


def find_policy(file: Path, wanted: str, overrides: Sequence[str] = ()) -> LivePolicy:
    """The policy `sft`, or that of a cell ("ARM/SEED"). Nothing is trained for it.

    overrides: `key=value`, as the run itself was given them by --set.

    Raises UserError for a name that is none of them, for a stage that has not been run, and for a cell whose policy is
    no model of its own (`rl.method: best_of_n`).
    """
    experiment = expanded(with_publics(read_experiment(file, overrides)))
    work = Workbench.open(experiment.runtime)
    names = ["sft", *(f"{arm}/{seed}" for arm in experiment.arms for seed in experiment.seeds)]
    if wanted not in names:
        raise UserError(f'{experiment.name} has no policy "{wanted}"', "--policy", suggest(wanted, names))
    arm, _, seed = (names[1] if wanted == "sft" else wanted).rpartition("/")
    stage = Store(work.root, plan=True).stage_with(work)  # looks up and runs nothing
    cell = train(stage, work, arm, experiment.arms[arm], int(seed))
    if wanted != "sft" and picks(cell):
        remedy = "talk to sft, whose answers it picks from"
        raise UserError(f'"{wanted}" is the best of several answers of sft and no model', "--policy", remedy)
    made = cell.sft if wanted == "sft" else cell.policy
    if made is None:
        raise UserError(f'"{wanted}" has no policy: rl.method is none', "--policy", "talk to sft, or to another arm")
    if not made.cached:
        raise UserError(
            f'the policy "{wanted}" is not trained yet ({made.stage} has not been run as the file now stands)',
            str(file),
            f"python -m cai.experiment {file}{''.join(f' --set {override}' for override in overrides)} makes it",
        )
    prompts = [prompt for folder in _asked(cell) for prompt in read_jsonl(folder / "prompts.jsonl", Prompt)]
    return LivePolicy(
        name=experiment.name, home=work.root / experiment.name, model=trained(made, wanted),
        prompts=tuple(prompt for prompt in prompts if prompt.split == "train"), arm=cell.settings, work=work,
    )  # fmt: skip


def _asked(cell: Cell) -> list[Artifact]:
    """Training prompts alone: a result is reported on the others, and what a person says becomes a reward."""
    return [cell.data, *([cell.helpful] if cell.helpful else [])]
