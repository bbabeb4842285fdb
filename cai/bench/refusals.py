"""How well refusals are counted, on answers that people annotated; and how the classifier's weights are made.

    python -m cai.bench refusals ANNOTATED ANNOTATED [ANNOTATED...] [--held-out FILE...] [--write]

ANNOTATED: files in the form of XSTest's annotated completions (Röttger et al. 2024; CC-BY-4.0; columns prompt, type,
completion, final_label), one a model. The classifier (cai/core/refusals.py) is fitted to all of them but one and tried
on that one, in turn: whole, cut after 35 words, to safe and to unsafe prompts, and to prompts that it was not fitted
to either (five parts). Then it is fitted to all. Each fit learns from WRITTEN too: answers that the authors of this
project wrote in the styles of other assistants, which nothing is tried on. --held-out: more annotated answers that it
is only tried on, also in the form of PyRIT's (objective, assistant_response, human_score 0 or 1; PyRIT calls an answer
to another question a refusal as well). --write: keep the weights and what was measured as cai/core/refusals.json.

What was chosen by looking at results (patterns, penalties, thresholds, what WRITTEN holds) was chosen on the answers to
half of XSTest's prompts, by both models: those for which `chosen_on` is true. Figures of the other half are the honest
ones, and are printed by themselves.
"""

import argparse
import csv
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai.core.errors import UserError
from cai.core.refusals import KINDS, READ, START, classify, declines, features, of_words, tokens

WRITTEN = Path(__file__).parent / "refusals_written.csv"
CUT = 35  # words of the second form of each answer
KINDS_OF_PROMPTS = 6  # a word must be in answers to so many of the kinds of prompts (XSTest has 18, WRITTEN 24)
LEAST = 6  # forms of answers that a feature must be in
PENALTY_OF_WORDS, PENALTY = 30.0, 10.0  # of the squared weights, halved: of words and pairs, of all else
PARTS = 5  # of the prompts, where neither model nor prompt was learnt from
SMALL = 0.02  # weights that move nothing are not kept


@dataclass(frozen=True, slots=True)
class Annotated:
    """One answer as people annotated it. kind: a place in `KINDS`; about: XSTest's type of the prompt."""

    text: str
    kind: int
    about: str
    prompt: str = ""

    @property
    def unsafe(self) -> bool:
        """Whether the prompt deserves a refusal, as XSTest's types say."""
        return self.about.startswith("contrast")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotated", nargs="+", type=Path, metavar="ANNOTATED", help="annotated answers, a file a model"
    )
    parser.add_argument(
        "--held-out", nargs="*", default=[], type=Path, metavar="FILE", help="answers to try it on only"
    )
    parser.add_argument("--write", action="store_true", help="keep the weights as cai/core/refusals.json")


def run(args: argparse.Namespace) -> None:
    if len(args.annotated) < 2:
        raise UserError("one file: there is no other model to try it on", "ANNOTATED", "give two files or more")
    models = {path.stem: read_annotated(path) for path in args.annotated}
    ours = read_annotated(WRITTEN)
    print("fitted to all models but the one named; [95% intervals by Wilson], phrases alone in brackets")
    measured = []
    for name, rows in models.items():
        others = [row for other, theirs in models.items() if other != name for row in theirs]
        fitted = fit([*others, *ours])

        def by_fitted(row: Annotated, fitted: dict[str, Any] = fitted) -> str:
            return classify(row.text, fitted)

        scores = tell(name, rows, by_fitted)
        tell(f"{name}, prompts that nothing was chosen on", [row for row in rows if not chosen_on(row)], by_fitted)
        tell(f"{name}, safe prompts", [row for row in rows if not row.unsafe], by_fitted)
        tell(f"{name}, unsafe prompts", [row for row in rows if row.unsafe], by_fitted)
        tell(f"{name}, first {CUT} words", [replace(row, text=shorten(row.text)) for row in rows], by_fitted)
        unseen = without_its_prompt(others, ours)
        tell(f"{name}, not fitted to its prompts either", rows, unseen)
        measured.append({"model": name, **scores})
    whole = fit([*(row for rows in models.values() for row in rows), *ours])
    for path in args.held_out:
        tell(path.stem, read_annotated(path), lambda row: classify(row.text, whole))
    if args.write:
        home = Path(__file__).parents[1] / "core" / "refusals.json"
        home.write_text(written(whole | {"measured": measured}))
        print(f"{len(whole['weights'])} features -> {home}")


def without_its_prompt(others: Sequence[Annotated], ours: Sequence[Annotated]) -> Callable[[Annotated], str]:
    """Classifies an answer by a fit to other models' answers to other prompts."""
    fits = [fit([*(row for row in others if part(row) != number), *ours]) for number in range(PARTS)]
    return lambda row: classify(row.text, fits[part(row)])


def part(row: Annotated) -> int:
    return int(hashlib.sha256(row.prompt.encode()).hexdigest()[:8], 16) % PARTS


def chosen_on(row: Annotated) -> bool:
    """Whether answers to this prompt were looked at when the classifier was designed."""
    return hashlib.sha256(row.prompt.encode()).digest()[0] % 2 == 0


def tell(name: str, rows: Sequence[Annotated], how: Callable[[Annotated], str]) -> dict[str, Any]:
    """Score, print and return."""
    scores = score(rows, [how(row) for row in rows])
    print(line(name, scores, score(rows, ["full" if declines(row.text) else "none" for row in rows])))
    return scores


def written(fitted: dict[str, Any]) -> str:
    """JSON with one feature a line, so that a change of the weights can be read."""
    pairs = ((json.dumps(name), json.dumps(own, separators=(",", ":"))) for name, own in fitted["weights"].items())
    weights = ",\n".join(f"{name}:{own}" for name, own in pairs)
    rest = {key: value for key, value in fitted.items() if key != "weights"}
    return json.dumps(rest, indent=1)[:-2] + ',\n "weights": {\n' + weights + "\n}}\n"


def line(name: str, scores: Mapping[str, Any], phrases: Mapping[str, Any]) -> str:
    from cai.stats.intervals import wilson  # heavy: numpy

    def share(key: str, of: int) -> str:
        low, high = wilson(scores[key], of) if of else (0.0, 1.0)
        return f"{100 * scores[key]:.1f}% [{100 * low:.0f}, {100 * high:.0f}] ({100 * phrases[key]:.1f}%)"

    return (
        f"{name}: of {scores['full']} full refusals found {share('recall', scores['full'])}, "
        f"precision {share('precision', scores['called_full'])}; "
        f"false alarms on {scores['none']} compliant: {share('false_alarms', scores['none'])}, partial among them "
        f"{100 * scores['partly_alarmed']:.1f}%; of {scores['partial']} partial: "
        f"{100 * scores['partial_recall']:.0f}% as partial (precision {100 * scores['partial_precision']:.0f}%), "
        f"{100 * scores['partial_as_full']:.0f}% as full"
    )


def score(rows: Sequence[Annotated], called: Sequence[str]) -> dict[str, Any]:
    """recall and precision of "full" (a partial one that is called full counts against precision), false alarms.

    Counts: full, partial, none as people annotated; called_full as the classifier did. All else are shares; a share of
    nothing is 0.
    """

    def share(kind: int, name: str) -> float:
        return _share(word == name for row, word in zip(rows, called, strict=True) if row.kind == kind)

    def precision(kind: int) -> float:
        return _share(row.kind == kind for row, word in zip(rows, called, strict=True) if word == KINDS[kind])

    return {
        "full": sum(row.kind == 2 for row in rows), "partial": sum(row.kind == 1 for row in rows),
        "none": sum(row.kind == 0 for row in rows), "called_full": sum(word == "full" for word in called),
        "recall": share(2, "full"), "precision": precision(2),
        "false_alarms": share(0, "full"), "partly_alarmed": share(0, "partial"),
        "partial_recall": share(1, "partial"), "partial_precision": precision(1), "partial_as_full": share(1, "full"),
    }  # fmt: skip


def _share(values: Iterable[bool]) -> float:
    kept = list(values)
    return round(sum(kept) / len(kept), 4) if kept else 0.0


def read_annotated(path: Path) -> list[Annotated]:
    """Raises UserError for a file that is neither XSTest's nor PyRIT's form."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read it: {error}", str(path), "give a CSV file of annotated answers") from None
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        del lines[0]
    rows = list(csv.DictReader(lines))
    known = set(rows[0]) if rows else set()
    if {"completion", "final_label", "type"} <= known:
        kinds = {"1": 0, "3": 1, "2": 2}  # 1_full_compliance, 3_partial_refusal, 2_full_refusal
        return [
            Annotated(row["completion"], kinds[row["final_label"][0]], row["type"], row.get("prompt") or "")
            for row in rows
        ]
    if {"assistant_response", "human_score"} <= known:
        return [Annotated(row["assistant_response"] or "", 2 * int(row["human_score"]), "") for row in rows]
    problem = "no annotated answers: it needs `completion`, `type` and `final_label`"
    raise UserError(problem, str(path), "see https://github.com/paul-rottger/xstest, or PyRIT's refusal.csv")


def shorten(text: str) -> str:
    return "".join(re.findall(r"\S+\s*", text)[:CUT])


def fit(rows: Sequence[Annotated]) -> dict[str, Any]:
    """{"bias": [of each kind], "weights": {feature: [of each kind]}}: penalised maximum likelihood, by L-BFGS.

    Every answer counts half whole and half cut.
    """
    import numpy as np
    from scipy.optimize import minimize

    forms = [*rows, *(Annotated(shorten(row.text), row.kind, row.about) for row in rows)]
    seen = [features(row.text) for row in forms]
    names = vocabulary(forms, seen)
    place = {name: number for number, name in enumerate(names)}
    x = np.zeros((len(forms), len(names) + 1))
    x[:, -1] = 1
    for row, present in enumerate(seen):
        x[row, [place[name] for name in present if name in place]] = 1
    y = np.eye(len(KINDS))[[row.kind for row in forms]]
    penalty = np.array([*(PENALTY_OF_WORDS if of_words(name) else PENALTY for name in names), 0.0])[:, None]

    def loss(flat: Any) -> tuple[float, Any]:
        w = flat.reshape(x.shape[1], len(KINDS))
        odds = x @ w
        top = odds.max(axis=1, keepdims=True)
        log_sum = top + np.log(np.exp(odds - top).sum(axis=1, keepdims=True))
        slope = x.T @ (np.exp(odds - log_sum) - y) / 2 + penalty * w
        surprise = (log_sum - (odds * y).sum(axis=1, keepdims=True)).sum() / 2
        return float(surprise + (penalty * w**2).sum() / 2), slope.ravel()

    fitted = minimize(loss, np.zeros(x.shape[1] * len(KINDS)), jac=True, method="L-BFGS-B", options={"maxiter": 400})
    w = np.round(fitted.x.reshape(x.shape[1], len(KINDS)), 3)
    kept = {name: w[place[name]].tolist() for name in names if abs(w[place[name]]).max() >= SMALL}
    return {"bias": w[-1].tolist(), "weights": kept}


def vocabulary(rows: Sequence[Annotated], seen: Sequence[set[str]]) -> list[str]:
    """Features that are frequent, of words that are used about many kinds of prompts."""
    about: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for row, present in zip(rows, seen, strict=True):
        for word in tokens(row.text)[:READ]:
            about[word].add(row.about)
        for name in present:
            counts[name] += 1
    general = {word for word, kinds in about.items() if len(kinds) >= KINDS_OF_PROMPTS} | {START}
    return sorted(
        name
        for name, count in counts.items()
        if count >= LEAST and (not of_words(name) or set(name.split()[1:]) <= general)
    )
