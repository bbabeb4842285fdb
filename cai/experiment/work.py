"""How much each stage has to do, in the unit of its kind: prompts, pairs, questions, rollouts, tokens (`COUNTS`).

It is read from what its inputs say: their settings, the files that earlier stages left, and of those that are still to
run, what they will leave.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.config.rubric import RUBRIC
from cai.core.store import digest_of
from cai.judge.methods import ALONE, ASKING

JUDGED = ("train_direct", "train_judged_rloo", "train_judged_grpo", "train_online_dpo")  # they ask a judge as they go
RATINGS = 968  # of rated-answers (cai/data/sources/)
XSTEST = 450.0  # prompts
ATTACKED = 51.0  # answers to a pair: as it was, by each of 25 exploits, and their controls
CRITERIA = 6.0  # of a prompt's rubric, as far as anybody knows


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
        if stage in ("respond", "respond_best", "respond_compared"):
            return _answers(self, inputs)
        if stage == "revise":
            return inputs["settings"]["prompts"]
        if stage == "load_data":
            return sum(inputs["data"][f"{name}_pairs"] for name in ([split] if split else ["train", "test"]))
        if stage == "moderate":  # all that it is given, as far as anybody knows
            return self.rows(inputs["rows"], split)
        if stage == "sample_pairs":
            return inputs["count"] * (1 if split else 2) if inputs["count"] else self.rows(inputs["data"], split)
        if stage == "take_drafts":
            return self.rows(inputs["revisions"])
        if stage == "take_preferred":  # at most
            return self.rows(inputs["pairs"], "train")
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
    if method in ("check", RUBRIC):
        return 0.0 if method == "check" else CRITERIA
    asked = sum(bool(principle["prefer"]) for principle in inputs["judging"])  # the others are checked by programs
    methods = list(ASKING) if method == "auto" else list(method) if isinstance(method, dict) else [method]
    principles = asked if judge["principles"] == "all" else judge["principles"] * asked / len(inputs["judging"])
    limits = len(inputs["order"]["limits"]) if "order" in inputs else 0
    thought = judge["reason"]["max_new_tokens"] * judge["reason"]["samples"]
    return limits + principles * sum(thought if name == "reason" else 1 for name in methods)


def _written(inputs: Mapping[str, Any]) -> float:
    """Tokens of a draft and of its rounds of critique and revision."""
    settings = inputs["settings"]
    return settings["max_new_tokens"] * (1 + settings["rounds"] * (2 if inputs["critique"] else 1))


def _rollouts(work: Work, inputs: Mapping[str, Any]) -> float:
    """Tokens that are sampled, and learnt from once an epoch."""
    settings = inputs["settings"]
    return settings["steps"] * settings["batch_size"] * settings["max_new_tokens"] * (1 + settings["epochs"])


def _distilled(work: Work, inputs: Mapping[str, Any]) -> float:
    """As `_rollouts`, of a run that ends with its tokens; a critique is about as long as an answer."""
    settings, distil = inputs["settings"], inputs["distil"]
    most = settings["steps"] * settings["batch_size"] * settings["max_new_tokens"]
    answers = min(most, distil["tokens"] / settings["epochs"]) if distil["tokens"] else most
    return answers * (1 + settings["epochs"] + distil["critique"])


def _learnt(work: Work, inputs: Mapping[str, Any]) -> float:
    """Labelled pairs of all rounds, once an epoch."""

    def training(labels: Mapping[str, Any], pairs: Mapping[str, Any]) -> float:
        drawn = work.inputs[labels["digest"]][0] == "draw_labels"  # so many of the training pairs, instead of all
        return work.rows(labels if drawn else pairs, "train")

    rounds = zip(inputs["labels"], inputs["pairs"], strict=True)
    return sum(training(labels, pairs) for labels, pairs in rounds) * inputs.get("settings", inputs)["epochs"]


def _thought(inputs: Mapping[str, Any]) -> float:
    """Tokens that a generative reward model writes about a pair, in both orders."""
    return 2 * inputs["samples"] * inputs["sampling"]["max_new_tokens"]


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
    **dict.fromkeys(("load_data", "load_helpful", "load_xstest", "load_items", "best_of_n", "slim_judge"), _once),
    "pretrain": lambda work, i: i["settings"]["epochs"],
    **dict.fromkeys(("load_demonstrations", "take_preferred", "take_drafts"), _once),
    **dict.fromkeys(("label_by_people", "label_by_coin", "label_by_length", "mix_labels", "draw_labels"), _once),
    "combine_panel": _once,
    "revise": lambda work, i: i["settings"]["prompts"] * _written(i),
    "revise_controls": lambda work, i: i["count"] * _written(i),
    "respond": lambda work, i: _answers(work, i) * i["sampling"]["max_new_tokens"],
    "respond_best": lambda work, i: _answers(work, i) * i["sampling"]["max_new_tokens"] * i["n"],
    "sample_pairs": lambda work, i: (
        # Two answers to each prompt, of training and held out.
        sum(i["count"] or work.rows(i["data"], split) for split in ("train", "test"))
        * 2 * i["sampling"]["max_new_tokens"]
    ),
    "write_rubrics": lambda work, i: (
        sum(work.rows(of) for of in i["pairs"]) + sum(work.rows(of, "train") for of in i["prompts"])
    ) * i["settings"]["max_new_tokens"],
    "train_reasons": lambda work, i: len(i["reasons"]) * i["settings"]["epochs"],
    "train_sft": lambda work, i: work.rows(i["revisions"]) / (1 - i["settings"]["helpful"]) * i["settings"]["epochs"],
    "preflight": _tried,
    **dict.fromkeys(("label_by_judge", "label_the_unsure"), lambda work, i: work.rows(i["pairs"]) * _asked(i)),
    # Asked about once, read and learnt from once an epoch: about three times as much a pair.
    "distil_judge": lambda work, i: i["teaching"]["pairs"] * _asked(i) * (1 + 3 * i["teaching"]["epochs"]),
    "accept_slim": lambda work, i: 2 * work.rows(i["pairs"], "test") * _asked(i),  # before and after
    "label_by_simulation": lambda work, i: work.rows(i["pairs"]),
    "attack_judge": lambda work, i: ATTACKED * i["count"] * _asked(i),
    "train_reward": _learnt,
    "draw_rationales": lambda work, i: _learnt(work, {**i, "epochs": 1}) * _thought(i),
    **dict.fromkeys(("learn_rationales", "prefer_rationales"), _learnt),  # at most: of one right rationale an order
    "compare_pairs": lambda work, i: work.rows(i["pairs"], "test") * _thought(i),
    "compare_items": lambda work, i: work.rows(i["items"]) * _thought(i),
    "score_beside": lambda work, i: work.rows(i["answers"]) * _thought(i),
    "respond_compared": lambda work, i: (
        _answers(work, i) * i["n"] * (i["sampling"]["max_new_tokens"] + (i["n"] - 1) / 2 * _thought(i["picker"]))
    ),
    "train_dpo": _learnt,
    **dict.fromkeys(("train_ppo", "train_rloo", "train_grpo", *JUDGED), _rollouts),
    "train_self_distil": _distilled,
    "scale_reward": lambda work, i: work.rows(i["revisions"]),
    "score_pairs": lambda work, i: work.rows(i["pairs"], "test"),
    "train_harm": _harm,
    "score_ratings": lambda work, i: _rated(work, i, "test"),
    "score_answers": lambda work, i: work.rows(i["answers"]),
    "play": lambda work, i: work.rows(i["first"]) * 2 * _asked(i) * work.unjudged(i, "first", "second"),
    "rate_answers": lambda work, i: work.rows(i["answers"]) * _asked(i) * work.unjudged(i, "answers"),
    "moderate": lambda work, i: work.rows(i["rows"]),
    "flag_prompts": lambda work, i: XSTEST,
    "rate_revisions": lambda work, i: i["count"] * _asked(i),
    "rate_controlled": lambda work, i: work.rows(i["controlled"]) * _asked(i),
    "score_text": _once,
    **dict.fromkeys(("score_drift", "score_teacher_kl"), lambda work, i: work.rows(i["answers"])),
    **dict.fromkeys(("leave_untrained", "count_tokens"), _once),
    "score_items": lambda work, i: work.rows(i["items"]),
    "choose_items": lambda work, i: work.rows(i["items"]),
    "judge_items": lambda work, i: work.rows(i["items"]) * _asked(i),
}  # fmt: skip


def _lines(file: Path, split: str | None) -> int:
    with file.open(encoding="utf-8") as lines:
        if split is None:
            return sum(1 for _ in lines)
        rows = [json.loads(line) for line in lines]
    return sum((row.get("prompt") or row)["split"] == split for row in rows)


def model_of(stage: str, inputs: Mapping[str, Any]) -> str:
    """The name of the model that does a stage's work, "" where none does."""
    labels = ("label_by_judge", "label_the_unsure", "accept_slim", "attack_judge", "distil_judge")
    judged = stage in ("preflight", "play", *labels) or stage.startswith(("rate_", "judge_"))
    if pool := inputs.get("pool"):
        return pool[0]["judge"]["model"]
    if stage == "revise" and "reviser" in inputs:  # beside whose work the drafts are little
        return inputs["reviser"].get("name", "")
    return inputs.get("judge" if judged else "policy", {}).get("model", "")
