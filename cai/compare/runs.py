"""Finished runs read back: their settings, the cells they left in the store, and everything in which they differ."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.compare.cells import Cell, CriterionMade, Iteration, JudgeMade
from cai.compare.schema import AGAIN, Results, read_results
from cai.config.flat import flat, part_of, unlike
from cai.config.load import Arm, Experiment, read_experiment
from cai.config.publics import Publics
from cai.config.tree import show
from cai.config.validation import raise_all
from cai.constitution import read_constitution
from cai.constitution.each import expanded
from cai.core.errors import UserError, UserErrors
from cai.core.places import LONGEST
from cai.core.store import Artifact, digest_of, linked, root_of
from cai.data.publics import with_publics
from cai.train.learnt import Everyday

SHOWN = 60  # characters of a value in the list of differences
LABELS = ("labels", "simulated")  # what the comparison is about


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run. links: cell -> stage -> folder, as the run wrote them. root: of its store."""

    home: Path
    root: Path
    experiment: Experiment
    results: Results
    links: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        return self.home.resolve().relative_to(self.root.resolve()).as_posix().replace("/", ".")

    def arm_name(self, arm: str) -> str:
        """An arm among those of other runs: by its run's name, where that has one arm."""
        return self.name if len(self.experiment.arms) == 1 else f"{self.name}.{arm}"


def read_run(home: Path) -> FinishedRun:
    """Read a run's folder. Raises UserError where it is none, is not finished, or has lost its store."""
    if not home.is_dir():
        raise UserError("no such run", str(home), "name a folder like runs/quickstart")
    files = {name: home / name for name in ("results.json", "links.json", "config.yaml")}
    if not files["results.json"].is_file():
        begun = any(file.is_file() for file in files.values())
        problem = "this run is not finished" if begun else "this folder is no run: it holds no results.json"
        raise UserError(problem, str(home), "run its experiment to the end: python -m cai.experiment CONFIG")
    root = root_of(home)
    if root is None:
        raise UserError(
            "the store of this run is gone", str(home), "keep a run beside the `store` folder it was made in"
        )
    results = read_results(files["results.json"])
    try:
        changed, name = results.provenance["settings changed on the command line"], results.name
        kept = expanded(
            with_publics(read_experiment(files["config.yaml"], changed)),
            lambda arm, _: read_constitution(home / f"constitution-{arm}.txt"),
        )
        links = json.loads(files["links.json"].read_bytes())
        told = "said" in next(iter(links.values()))
    except (UserError, FileNotFoundError) as error:
        lines = error.errors if isinstance(error, UserErrors) else (error,)
        raise UserError(f"this run cannot be read: {lines[0]}", str(home), "run its experiment again") from None
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
        problem = "results.json or links.json is cut off, or was not written by a run"
        raise UserError(problem, str(home), AGAIN) from None
    if not told:
        raise UserError("an older version made this run", str(home), AGAIN)
    return FinishedRun(home, root, kept.model_copy(update={"name": name}), results, links)


def check(runs: Sequence[FinishedRun]) -> None:
    """Raises UserError, or UserErrors, where a comparison of the runs would be unsound or empty."""
    first = runs[0]
    for run in runs:
        for other in (other for other in runs if other is not run and other.name == run.name):
            if other.home.resolve() == run.home.resolve():
                raise UserError("a run is named twice", str(run.home), "name different runs")
            problem = f'{other.home} is called "{run.name}" as well'
            raise UserError(problem, str(run.home), "rename the folder of one")
    if len(runs) == 1 and len(first.experiment.arms) == 1:
        raise UserError("one run with one arm: there is nothing to compare it with", str(first.home), "name two runs")
    faults = [UserError("an older version made this run", str(run.home), AGAIN) for run in runs if _older(run, runs)]
    for run in runs[1:]:
        if run.root.resolve() != first.root.resolve():
            faults.append(
                UserError(
                    f"this run is in another store than {first.home}", str(run.home),
                    f"lay its store over the other's (nothing collides): cp -rn {run.root}/. {first.root}",
                )
            )  # fmt: skip
        elif not shared_seeds([first, run]):
            mine, others = (", ".join(map(str, one.experiment.seeds)) for one in (run, first))
            problem = f"no seed is in both runs: {mine} here, {others} in {first.home}"
            faults.append(UserError(problem, str(run.home), "run one of them with the other's seeds"))
        elif _held_out(run) != _held_out(first):
            faults.append(
                UserError(
                    f"its held-out prompts are not those of {first.home}: what one run holds out, the other may have "
                    "trained on", str(run.home), _why(first, run),
                )
            )  # fmt: skip
    raise_all(faults)


def _older(run: FinishedRun, runs: Sequence[FinishedRun]) -> bool:
    """Whether its links lack what a comparison with these runs reads: each judge of a panel, of which it would be said
    that nobody measured it; and what SFT learnt besides, by which arms that distil themselves are counted."""
    first, arms = next(iter(run.links.values())), run.experiment.arms
    panels = [name for name, arm in arms.items() if arm.judge.panel and arm.asks_judge]
    distils = any(arm.rl.method == "self_distil" for one in runs for arm in one.experiment.arms.values())
    lost = any("panel" not in run.links[f"{name}/{seed}"] for name in panels for seed in run.experiment.seeds)
    return lost or (distils and "everyday" not in first)


def _held_out(run: FinishedRun) -> set[tuple[str, str]]:
    """Contents of the data, and of the everyday prompts where a run has any, with their splits."""
    kinds = ("data", "helpful")
    return {
        (kind, _artifact(run, links[kind]).digest) for links in run.links.values() for kind in kinds if links.get(kind)
    }


def _why(first: FinishedRun, run: FinishedRun) -> str:
    settings = [line for arm in run.experiment.arms for key, line in _settings(first, run, arm).items()
                if key == "seed" or key.startswith("data.")]  # fmt: skip
    keys = [*settings, *_seeds(first, run)]
    return (
        f"set these alike: {'; '.join(keys)}" if keys else "the file that the data came from has changed: run one again"
    )


def shared_seeds(runs: Sequence[FinishedRun]) -> tuple[int, ...]:
    return tuple(seed for seed in runs[0].experiment.seeds if all(seed in run.experiment.seeds for run in runs))


def experiment_of(runs: Sequence[FinishedRun]) -> tuple[Experiment, list[Cell]]:
    """The runs as one experiment, arm by arm and seed by seed. Evaluated as the first run's first arm says."""
    seeds = shared_seeds(runs)
    arms = {run.arm_name(name): arm for run in runs for name, arm in run.experiment.arms.items()}
    first = runs[0].experiment
    experiment = Experiment(
        name=_short_name("compare-" + "-".join(run.name for run in runs)),
        question=f"How do the runs {', '.join(run.name for run in runs)} differ?",
        seeds=seeds,
        arms=arms,
        runtime=first.runtime.model_copy(update={"root": str(runs[0].root)}),
        publics=agreed_publics(runs)[0],
        text="\n".join(f"# {run.home}/config.yaml\n{run.experiment.text}" for run in runs),
        overrides=tuple(f"{run.name}: {one}" for run in runs for one in run.experiment.overrides),
    )
    return experiment, [
        cell_of(run, name, arm, seed) for run in runs for name, arm in run.experiment.arms.items() for seed in seeds
    ]


def agreed_publics(runs: Sequence[FinishedRun]) -> tuple[Publics | None, dict[str, Artifact]]:
    """The groups of raters, and what each said of the held-out pairs: of the runs that have any, where these are alike
    in all of them; else none."""
    having = [run for run in runs if run.experiment.publics]
    heard = [
        {group: _artifact(run, folder) for group, folder in next(iter(run.links.values())).get("publics", {}).items()}
        for run in having
    ]
    known = [
        (run.experiment.publics.groups, {group: made.digest for group, made in said.items()})
        for run, said in zip(having, heard, strict=True) if run.experiment.publics
    ]  # fmt: skip
    if not heard or not heard[0] or any(one != known[0] for one in known):
        return None, {}
    return having[0].experiment.publics, heard[0]


def _short_name(name: str) -> str:
    """A folder's name as file systems take it: of many runs it is cut, and told apart by its digest."""
    cut = name.encode()[:LONGEST].decode(errors="ignore")
    return name if cut == name else f"{cut}-{digest_of(name)[:8]}"


def cell_of(run: FinishedRun, name: str, arm: Arm, seed: int) -> Cell:
    """What an arm of the run left with one of its seeds. Raises UserError for what the store has lost."""
    links = run.links[f"{name}/{seed}"]

    def made(stage: str, of: Mapping[str, Any] = links) -> Artifact | None:
        return _artifact(run, of[stage]) if of.get(stage) else None

    def needed(stage: str, of: Mapping[str, Any] = links) -> Artifact:
        return _artifact(run, of[stage])

    law = read_constitution(run.home / f"constitution-{name}.txt")
    earlier = [
        links[key] for key in sorted((key for key in links if key.startswith("round ")), key=lambda key: int(key[6:]))
    ]
    lineage = tuple(
        Iteration(
            needed("pairs", one),
            made("labels", one),
            made("reward", one),
            made("policy", one),
            {
                criterion: CriterionMade(
                    labels=made("labels", own),
                    preflight=made("preflight", own),
                    reward=needed("reward", own),
                    scale=needed("scale", own),
                    share=own["share"],
                    labellers={who: _artifact(run, folder) for who, folder in own["said"].items()},
                )
                for criterion, own in one.get("criteria", {}).items()
            },
        )
        for one in (*earlier, links)
    )
    last = lineage[-1]
    return Cell(
        run.arm_name(name), seed, arm, law, needed("data"), made("helpful"), needed("revised"), needed("sft"),
        last.pairs, made("preflight"), last.labels, last.reward, last.policy,
        {who: _artifact(run, folder) for who, folder in links["said"].items()}, lineage,
        pretrained=made("pretrained"), taught=made("taught"), acceptance=made("acceptance"), attacks=made("attacks"),
        moderated={name: _artifact(run, folder) for name, folder in links.get("moderated", {}).items()},
        panel=tuple(
            JudgeMade(one["key"], one["name"], needed("labels", one), made("preflight", one))
            for one in links.get("panel", ())
        ),
        everyday=Everyday(made("prompts", links.get("everyday", {})), made("answers", links.get("everyday", {}))),
    )  # fmt: skip


def _artifact(run: FinishedRun, folder: str) -> Artifact:
    return linked(run.root, folder, run.home)


# --- in what runs differ ----------------------------------------------------------------------------------------------


def differences(runs: Sequence[FinishedRun]) -> list[str]:
    """Everything but the labels in which a run's arm is not the first run's first arm, and the runs' own circumstances.

    `judge.method: "rate" in monday.ai, "choice" in tuesday.ai`
    """
    found = []
    first = runs[0]
    base_name = next(iter(first.experiment.arms))
    text = (first.home / f"constitution-{base_name}.txt").read_text(encoding="utf-8")
    for run in runs:
        for name in run.experiment.arms:
            found += _settings(first, run, name).values()
            if (run.home / f"constitution-{name}.txt").read_text(encoding="utf-8") != text:
                here, there = first.arm_name(base_name), run.arm_name(name)
                found.append(f"constitution: another text in {there} than in {here}")
            found += _stages(first, base_name, run, name)
        if run is not first:
            found += _circumstances(first, run)
    return found


def _settings(first: FinishedRun, run: FinishedRun, name: str) -> dict[str, str]:
    """Each setting but those of the labels in which an arm is not the first run's first arm -> both values in words."""
    base, arm = next(iter(first.experiment.arms.items())), run.experiment.arms[name]
    here, there = first.arm_name(base[0]), run.arm_name(name)
    mine, others = flat(base[1]), flat(arm)
    return {
        key: f"{key}: {_of(mine, key)} in {here}, {_of(others, key)} in {there}"
        for key in unlike(mine, others)
        if key.partition(".")[0] not in (*LABELS, "constitution")
    }


def _of(settings: dict[str, Any], key: str) -> str:
    return _short(settings[key]) if key in settings else part_of(settings, key)


def _seeds(first: FinishedRun, run: FinishedRun) -> list[str]:
    if first.experiment.seeds == run.experiment.seeds:
        return []
    left = ", ".join(map(str, shared_seeds([first, run])))
    mine, others = (", ".join(map(str, one.experiment.seeds)) for one in (first, run))
    return [f"seeds: {mine} in {first.name}, {others} in {run.name}; compared on {left}"]


def _stages(first: FinishedRun, base: str, run: FinishedRun, name: str) -> list[str]:
    """Inputs that both arms should share and do not, which no setting may show: a changed file, another version."""
    seed = shared_seeds([first, run])
    if not seed or (run is first and name == base):
        return []
    one, two = first.links[f"{base}/{seed[0]}"], run.links[f"{name}/{seed[0]}"]
    return [
        f"{words}: other contents in {run.arm_name(name)} than in {first.arm_name(base)}"
        for stage, words in (("helpful", "helpful prompts"), ("sft", "the SFT policy"), ("pairs", "the labelled pairs"))
        if bool(one.get(stage)) != bool(two.get(stage))
        or (one.get(stage) and _artifact(first, one[stage]).digest != _artifact(run, two[stage]).digest)
    ]


def _circumstances(first: FinishedRun, run: FinishedRun) -> list[str]:
    found = _seeds(first, run)
    here, there = (one.results.provenance for one in (first, run))
    facts = [(f"{name} (package)", here["versions"][name], there["versions"].get(name)) for name in here["versions"]]
    for name, one, two in (*facts, *((key, here[key], there[key]) for key in ("device", "dtype"))):
        if one != two:
            found.append(f"{name}: {one} in {first.name}, {two} in {run.name}")
    return found


def _short(value: Any) -> str:
    text = show(value) if value is None or isinstance(value, str | int | float | bool) else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
