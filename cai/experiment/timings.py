"""How long stages take, by what earlier ones took: manifests of the store, and a table measured on a named machine.

A stage's work is counted in what its inputs say: prompts, pairs, principles, rollouts, tokens (`COUNTS`). Seconds are
those of earlier stages of the same name, scaled by these counts; nothing is known of a stage of which there are none
that worked with a model of about the same size, on the same kind of device. Answers may end early, and what the call
cache has is not asked again, so an estimate is no promise.

timings.json holds `Took`s of the quickstart, the edit and the smoke experiment (`write`); it is made anew when `COUNTS`
changes, or when a stage becomes quicker.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from cai.core.store import MANIFEST, Artifact, digest_of
from cai.judge.methods import ALONE, ASKING
from cai.models.embedded import EMBEDDED, TINY

REFERENCE = Path(__file__).with_name("timings.json")
NEAREST = 4  # of the earlier stages, those of about the same count
RATINGS = 968  # of rated-answers (cai/data/sources/)
ALIKE = 1.6  # two sizes of models that are not further apart than this take about as long


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds that a stage will take, None where nothing is known. machine: whose they are, "" for this store's."""

    seconds: float | None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Took:
    """A finished stage. model: that does its work, "" where none does. count: of `COUNTS`. device: "" for unknown."""

    stage: str
    model: str
    dtype: str
    device: str
    count: float
    seconds: float


@dataclass(slots=True)
class Work:
    """How much each stage has to do.

    inputs: digest of what a stage leaves -> its name, its inputs, its folder. judged: questions that were counted.
    """

    inputs: dict[str, tuple[str, Mapping[str, Any], Path]] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)

    def add(self, digest: str, stage: str, inputs: Mapping[str, Any], folder: Path) -> None:
        self.inputs[digest] = (stage, inputs, folder)

    def count(self, stage: str, inputs: Mapping[str, Any]) -> float | None:
        """What a stage has to do; None where that is not known yet (a source that was not read, say)."""
        try:
            return COUNTS[stage](self, inputs) if stage in COUNTS else None
        except (KeyError, TypeError):  # a setting or a number of rows that is not known; an input of an older version
            return None

    def rows(self, given: Mapping[str, Any], split: str | None = None) -> float:
        """Rows that a stage left or will leave. Raises KeyError or TypeError where nobody knows."""
        stage, inputs, folder = self.inputs[given["digest"]]
        for name in ("pairs", "responses", "revisions", "labels", "prompts", "items"):
            if (file := folder / f"{name}.jsonl").is_file():
                return _lines(file, split if name in ("pairs", "prompts") else None)
        if stage in ("respond", "respond_best"):
            return _answers(self, inputs)
        if stage == "revise":
            return inputs["settings"]["prompts"]
        if stage == "load_data":
            return sum(inputs["data"][f"{name}_pairs"] for name in ([split] if split else ["train", "test"]))
        if stage == "sample_pairs":
            return inputs["count"] or self.rows(inputs["data"], split)
        if stage in ("draw_labels", "revise_controls"):
            return inputs["count"]
        return self.rows(inputs["pairs"], split)  # labels, whoever gave them

    def unjudged(self, inputs: Mapping[str, Any], *answers: str) -> float:
        """The share of a judge's questions about these answers that no earlier stage has asked; 0 to 1.

        Where a method asks about each answer by itself, games and ratings of the same answers share their questions.
        """
        judge = inputs["judge"]
        if judge["method"] not in ALONE:
            return 1.0
        question = [judge["method"], inputs["model"], inputs["judging"]]
        keys = [digest_of([*question, inputs[name]["digest"]]) for name in answers]
        share = sum(key not in self.judged for key in keys) / len(keys)
        self.judged.update(keys)
        return share


def _answers(work: Work, inputs: Mapping[str, Any]) -> float:
    return inputs["count"] or work.rows(inputs["prompts"], inputs["split"])


def _asked(inputs: Mapping[str, Any]) -> float:
    """Questions about one text or pair: principles times methods, and the length of a chain of thought."""
    judge = inputs["judge"]
    method = judge["method"]
    methods = list(ASKING) if method == "auto" else list(method) if isinstance(method, dict) else [method]
    principles = len(inputs["judging"]) if judge["principles"] == "all" else judge["principles"]
    thought = judge["reason"]["max_new_tokens"] * judge["reason"]["samples"]
    return principles * sum(thought if name == "reason" else 1 for name in methods)


def _written(inputs: Mapping[str, Any]) -> float:
    """Tokens of a draft and of its rounds of critique and revision."""
    settings = inputs["settings"]
    return settings["max_new_tokens"] * (1 + settings["rounds"] * (2 if inputs["critique"] else 1))


def _rollouts(work: Work, inputs: Mapping[str, Any]) -> float:
    """Tokens that are sampled, and learnt from once an epoch."""
    settings = inputs["settings"]
    return settings["steps"] * settings["batch_size"] * settings["max_new_tokens"] * (1 + settings["epochs"])


def _learnt(work: Work, inputs: Mapping[str, Any]) -> float:
    """Labelled pairs of all rounds, once an epoch."""

    def training(labels: Mapping[str, Any], pairs: Mapping[str, Any]) -> float:
        drawn = work.inputs[labels["digest"]][0] == "draw_labels"  # so many of the training pairs, instead of all
        return work.rows(labels if drawn else pairs, "train")

    rounds = zip(inputs["labels"], inputs["pairs"], strict=True)
    return sum(training(labels, pairs) for labels, pairs in rounds) * inputs.get("settings", inputs)["epochs"]


def _tried(work: Work, inputs: Mapping[str, Any]) -> float:
    """The questions about the sample that a judge is tried on: the calibration split, or so many training pairs."""
    data = work.inputs[inputs["data"]["digest"]][1]["data"]
    pairs = work.rows(inputs["data"], "calibration") if data["calibration"] else inputs["judge"]["preflight"]["pairs"]
    controls = inputs["controls"] or {}  # each principle again, negated and under its placebos
    return pairs * _asked(inputs) * (1 + bool(controls) + len(controls.get("placebos", ())))


def _rated(work: Work, inputs: Mapping[str, Any], split: str) -> float:
    """People's ratings of single answers in one split, of which there is one source, with `RATINGS` of them."""
    data = work.inputs[inputs["ratings"]["digest"]][1]["data"]
    return RATINGS * (data["test"] if split == "test" else 1 - data["test"] - data["calibration"])


def _harm(work: Work, inputs: Mapping[str, Any]) -> float:
    settings = inputs["settings"]
    return min(settings["answers"] or RATINGS, _rated(work, inputs, "train")) * settings["epochs"]


def _once(work: Work, inputs: Mapping[str, Any]) -> float:
    return 1.0


COUNTS: dict[str, Callable[[Work, Mapping[str, Any]], float]] = {
    **dict.fromkeys(("load_data", "load_helpful", "load_xstest", "load_items", "best_of_n"), _once),
    **dict.fromkeys(("label_by_people", "label_by_coin", "label_by_length", "mix_labels", "draw_labels"), _once),
    "revise": lambda work, i: i["settings"]["prompts"] * _written(i),
    "revise_controls": lambda work, i: i["count"] * _written(i),
    "respond": lambda work, i: _answers(work, i) * i["sampling"]["max_new_tokens"],
    "respond_best": lambda work, i: _answers(work, i) * i["sampling"]["max_new_tokens"] * i["n"],
    "sample_pairs": lambda work, i: (
        (i["count"] or work.rows(i["data"], "train")) * 2 * i["sampling"]["max_new_tokens"]
    ),
    "train_sft": lambda work, i: work.rows(i["revisions"]) / (1 - i["settings"]["helpful"]) * i["settings"]["epochs"],
    "preflight": _tried,
    "label_by_judge": lambda work, i: work.rows(i["pairs"]) * _asked(i),
    "label_by_simulation": lambda work, i: work.rows(i["pairs"]),
    "train_reward": _learnt,
    "train_dpo": _learnt,
    **dict.fromkeys(("train_ppo", "train_rloo", "train_grpo", "train_direct"), _rollouts),
    "score_pairs": lambda work, i: work.rows(i["pairs"], "test"),
    "train_harm": _harm,
    "score_ratings": lambda work, i: _rated(work, i, "test"),
    "score_answers": lambda work, i: work.rows(i["answers"]),
    "play": lambda work, i: work.rows(i["first"]) * 2 * _asked(i) * work.unjudged(i, "first", "second"),
    "rate_answers": lambda work, i: work.rows(i["answers"]) * _asked(i) * work.unjudged(i, "answers"),
    "rate_revisions": lambda work, i: i["count"] * _asked(i),
    "rate_controlled": lambda work, i: work.rows(i["controlled"]) * _asked(i),
    "score_items": lambda work, i: work.rows(i["items"]),
    "choose_items": lambda work, i: work.rows(i["items"]),
    "judge_items": lambda work, i: work.rows(i["items"]) * _asked(i),
}  # fmt: skip

# Stages whose time is that of their model calls, of which the call cache may have some.
CALLS = (
    *("revise", "revise_controls", "respond", "sample_pairs", "preflight", "label_by_judge", "label_by_simulation"),
    *("play", "rate_answers", "rate_revisions", "rate_controlled", "judge_items", "choose_items"),
)


def _lines(file: Path, split: str | None) -> int:
    with file.open(encoding="utf-8") as lines:
        if split is None:
            return sum(1 for _ in lines)
        rows = [json.loads(line) for line in lines]
    return sum((row.get("prompt") or row)["split"] == split for row in rows)


def model_of(stage: str, inputs: Mapping[str, Any]) -> str:
    """The name of the model that does a stage's work, "" where none does."""
    judged = stage in ("preflight", "play", "label_by_judge") or stage.startswith(("rate_", "judge_"))
    if pool := inputs.get("pool"):
        return pool[0]["judge"]["model"]
    return inputs.get("judge" if judged else "policy", {}).get("model", "")


def known(store: Path, work: Work) -> list[Took]:
    """What the finished stages of a store took; each is added to `work`. A manifest that cannot be read is skipped."""
    manifests = []
    for file in sorted(store.glob(f"*-*/{MANIFEST}")):
        if file.parent.suffix:  # what was set aside, or is being made
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):  # half a manifest, or one that had no inputs yet
            made = json.loads(file.read_bytes())
            work.add(made["digest"], made["stage"], made["inputs"], file.parent)
            manifests.append(made)
    timings = []
    for made in manifests:
        stage, inputs, calls = made["stage"], made["inputs"], made.get("calls", {})
        made_by_model, cached = calls.get("asked", 0), calls.get("found", 0)
        if stage in CALLS and cached >= 4 * made_by_model:  # answered from the call cache: that tells nothing
            continue
        fresh = Work(work.inputs)  # what it asked itself is what its calls say
        if count := fresh.count(stage, inputs):
            share = made_by_model / (made_by_model + cached) if stage in CALLS else 1.0
            timings.append(
                Took(
                    stage=stage,
                    model=model_of(stage, inputs),
                    dtype=inputs.get("dtype", ""),
                    device=made.get("device", ""),
                    count=count * share,
                    seconds=float(made["seconds"]),
                )
            )
    return timings


def reference() -> tuple[str, list[Took]]:
    """(the machine, what stages took on it): for a store that has none of its own yet."""
    table = json.loads(REFERENCE.read_text(encoding="utf-8"))
    return table["machine"], [Took(**row) for row in table["stages"]]


def write(machine: str, *stores: Path) -> None:
    """timings.json from the stores of finished runs: of stages with the same count the median."""
    alike: dict[Took, list[float]] = {}
    for stage in (stage for store in stores for stage in known(store, Work())):
        alike.setdefault(replace(stage, count=round(stage.count, 1), device="cpu", seconds=0.0), []).append(
            stage.seconds
        )
    stages = [asdict(replace(stage, seconds=round(median(took), 2))) for stage, took in alike.items()]
    rows = ",\n".join(f"  {json.dumps(stage)}" for stage in sorted(stages, key=lambda stage: tuple(stage.values())))
    text = f'{{"machine": {json.dumps(machine)}, "stages": [\n{rows}\n]}}\n'
    REFERENCE.write_text(text, encoding="utf-8")


def seconds_of(stage: str, model: str, dtype: str, count: float, earlier: Sequence[Took]) -> float | None:
    """Seconds by the earlier stages of about the same count, scaled; None where there is none that tells."""
    of_stage = [timing for timing in earlier if timing.stage == stage]
    same = [timing for timing in of_stage if timing.model == model or _alike(timing.model, model)]
    same = [timing for timing in same if timing.dtype == dtype] or same
    same = [timing for timing in same if timing.model == model] or same
    if not same:
        return None
    if not count:  # the call cache will have it all
        return min(1.0, *(timing.seconds for timing in same))
    near = sorted(same, key=lambda timing: max(timing.count / count, count / timing.count))[:NEAREST]
    return median(timing.seconds * count / timing.count for timing in near)


def estimates(ledger: Iterable[Artifact], store: Path, device: str) -> list[Expected]:
    """What each stage of a plan will take; 0 seconds where it is there already."""
    ledger = list(ledger)
    if all(artifact.cached for artifact in ledger):
        return [Expected(0.0) for _ in ledger]
    work = Work()
    own = [took for took in known(store, work) if took.device in ("", device)]
    for artifact in ledger:
        if not artifact.cached:
            work.add(artifact.digest, artifact.stage, artifact.inputs, artifact.path)
    machine, measured = reference() if device == "cpu" else ("", [])
    return [_expected(artifact, work, own, machine, measured) for artifact in ledger]


def _expected(artifact: Artifact, work: Work, own: Sequence[Took], machine: str, measured: Sequence[Took]) -> Expected:
    stage, inputs = work.inputs.get(artifact.digest, (artifact.stage, artifact.inputs, artifact.path))[:2]
    count = work.count(stage, inputs)  # of a finished one too: what it asked, later ones find in the call cache
    if artifact.cached:
        return Expected(0.0)
    if count is None:
        return Expected(None)
    like = (stage, model_of(stage, inputs), inputs.get("dtype", ""), count)
    seconds = seconds_of(*like, own)
    if seconds is not None:
        return Expected(seconds)
    seconds = seconds_of(*like, measured)
    return Expected(seconds, machine if seconds is not None else "")


def _alike(first: str, second: str) -> bool:
    sizes = parameters(first), parameters(second)
    return None not in sizes and max(sizes) <= ALIKE * min(sizes)  # pyrefly: ignore


def parameters(model: str) -> float | None:
    """How large a model is: from its config.json, or from the "8B" in its name; None where neither says it."""
    if model in EMBEDDED:
        return EMBEDDED[model].parameters
    if model == TINY:
        return 1e5
    config = Path(model).expanduser() / "config.json"
    if model and config.is_file():
        return _from_config(json.loads(config.read_text()))
    named = re.search(r"(\d+(?:\.\d+)?)\s*([BM])\b", model.rpartition("/")[2], re.IGNORECASE)
    return float(named[1]) * (1e9 if named[2].upper() == "B" else 1e6) if named else None


def _from_config(config: Mapping[str, Any]) -> float:
    """Attention 4 h^2 and a gated MLP 3 h m a layer, plus the embedding."""
    hidden = config.get("hidden_size", 1024)
    layer = 4 * hidden**2 + 3 * hidden * config.get("intermediate_size", 4 * hidden)
    return float(config.get("num_hidden_layers", 12) * layer + config.get("vocab_size", 50_000) * hidden)
