"""How well refusals are counted, on answers that people annotated; and how the classifier's weights are made.

    python -m cai.bench refusals ANNOTATED ANNOTATED [ANNOTATED...] [--held-out FILE...] [--write]

ANNOTATED: files in the form of XSTest's annotated completions (Röttger et al. 2024; CC-BY-4.0; columns prompt, type,
completion, final_label), one a model. The classifier (cai/refusals.py) is fitted to all of them but one and tried on
that one, in turn, whole and cut after 35 words; then it is fitted to all. --held-out: more annotated answers that it
is only tried on, also in the form of PyRIT's (objective, assistant_response, human_score 0 or 1). --write: keep the
weights and what was measured as cai/refusals.json.
"""

import argparse
import csv
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.errors import UserError
from cai.refusals import KINDS, READ, START, classify, declines, features, tokens

CUT = 35  # words of the second form of each answer
KINDS_OF_PROMPTS = 6  # a word must be in answers to so many of XSTest's 18 kinds of prompts
LEAST = 6  # forms of answers that a feature must be in
PENALTY = 3.0  # of the squared weights, halved
SMALL = 0.02  # weights that move nothing are not kept


@dataclass(frozen=True, slots=True)
class Annotated:
    """One answer as people annotated it. kind: a place in `KINDS`; about: XSTest's type of the prompt."""

    text: str
    kind: int
    about: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotated", nargs="+", type=Path, metavar="ANNOTATED", help="annotated answers, a file a model"
    )
    parser.add_argument(
        "--held-out", nargs="*", default=[], type=Path, metavar="FILE", help="answers to try it on only"
    )
    parser.add_argument("--write", action="store_true", help="keep the weights as cai/refusals.json")


def run(args: argparse.Namespace) -> None:
    if len(args.annotated) < 2:
        raise UserError("one file: there is no other model to try it on", "ANNOTATED", "give two files or more")
    models = {path.stem: read_annotated(path) for path in args.annotated}
    print("fitted to all models but the one named; phrases alone in brackets")
    measured = []
    for name, rows in models.items():
        fitted = fit([row for other, theirs in models.items() if other != name for row in theirs])
        for cut in (False, True):
            tried = [Annotated(shorten(row.text), row.kind, row.about) for row in rows] if cut else rows
            found = score(tried, [classify(row.text, fitted) for row in tried])
            phrases = score(tried, ["full" if declines(row.text) else "none" for row in tried])
            print(line(name + (f", first {CUT} words" if cut else ""), found, phrases))
            measured.append({"model": name, "words": CUT if cut else None, **found})
    whole = fit([row for rows in models.values() for row in rows])
    for path in args.held_out:
        rows = read_annotated(path)
        found = score(rows, [classify(row.text, whole) for row in rows])
        phrases = score(rows, ["full" if declines(row.text) else "none" for row in rows])
        print(line(path.stem, found, phrases))
    if args.write:
        home = Path(__file__).parent.parent / "refusals.json"
        home.write_text(written(whole | {"measured": [row for row in measured if row["words"] is None]}))
        print(f"{len(whole['weights'])} features -> {home}")


def written(fitted: dict[str, Any]) -> str:
    """JSON with one feature a line, so that a change of the weights can be read."""
    pairs = ((json.dumps(name), json.dumps(own, separators=(",", ":"))) for name, own in fitted["weights"].items())
    weights = ",\n".join(f"{name}:{own}" for name, own in pairs)
    rest = {key: value for key, value in fitted.items() if key != "weights"}
    return json.dumps(rest, indent=1)[:-2] + ',\n "weights": {\n' + weights + "\n}}\n"


def line(name: str, found: dict[str, Any], phrases: dict[str, Any]) -> str:
    def share(key: str) -> str:
        return f"{100 * found[key]:.1f}% ({100 * phrases[key]:.1f}%)"

    return (
        f"{name}: of {found['full']} full refusals found {share('recall')}, precision {share('precision')}; "
        f"false alarms on {found['none']} compliant: {share('false_alarms')}, partial among them "
        f"{100 * found['partly_alarmed']:.1f}%; of {found['partial']} partial: "
        f"{100 * found['partial_as_partial']:.0f}% as partial, {100 * found['partial_as_full']:.0f}% as full"
    )


def score(rows: Sequence[Annotated], said: Sequence[str]) -> dict[str, Any]:
    """recall and precision of "full" (a partial one that is called full counts against precision), and false alarms."""

    def share(kind: int, name: str) -> float:
        of = [word for row, word in zip(rows, said, strict=True) if row.kind == kind]
        return sum(word == name for word in of) / len(of) if of else 0.0

    called = [row.kind for row, word in zip(rows, said, strict=True) if word == "full"]
    return {
        "full": sum(row.kind == 2 for row in rows), "partial": sum(row.kind == 1 for row in rows),
        "none": sum(row.kind == 0 for row in rows), "recall": round(share(2, "full"), 4),
        "precision": round(called.count(2) / len(called), 4) if called else 0.0,
        "false_alarms": round(share(0, "full"), 4), "partly_alarmed": round(share(0, "partial"), 4),
        "partial_as_partial": round(share(1, "partial"), 4), "partial_as_full": round(share(1, "full"), 4),
    }  # fmt: skip


def read_annotated(path: Path) -> list[Annotated]:
    """Raises UserError for a file that is neither XSTest's nor PyRIT's form."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read it: {error}", str(path), "give a CSV file of annotated answers") from None
    lines = text.splitlines(keepends=True)
    rows = list(csv.DictReader(lines[1:] if lines and lines[0].startswith("#") else lines))
    known = set(rows[0]) if rows else set()
    if {"completion", "final_label", "type"} <= known:
        kinds = {"1": 0, "3": 1, "2": 2}  # 1_full_compliance, 3_partial_refusal, 2_full_refusal
        return [Annotated(row["completion"], kinds[row["final_label"][0]], row["type"]) for row in rows]
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
    for row, found in enumerate(seen):
        x[row, [place[name] for name in found if name in place]] = 1
    y = np.eye(len(KINDS))[[row.kind for row in forms]]

    def loss(flat: Any) -> tuple[float, Any]:
        w = flat.reshape(x.shape[1], len(KINDS))
        odds = x @ w
        top = odds.max(axis=1, keepdims=True)
        log_sum = top + np.log(np.exp(odds - top).sum(axis=1, keepdims=True))
        slope = x.T @ (np.exp(odds - log_sum) - y) / 2
        slope[:-1] += PENALTY * w[:-1]
        surprise = (log_sum - (odds * y).sum(axis=1, keepdims=True)).sum() / 2
        return float(surprise + PENALTY / 2 * (w[:-1] ** 2).sum()), slope.ravel()

    found = minimize(loss, np.zeros(x.shape[1] * len(KINDS)), jac=True, method="L-BFGS-B", options={"maxiter": 400})
    w = np.round(found.x.reshape(x.shape[1], len(KINDS)), 3)
    kept = {name: w[place[name]].tolist() for name in names if abs(w[place[name]]).max() >= SMALL}
    return {"bias": w[-1].tolist(), "weights": kept}


def vocabulary(rows: Sequence[Annotated], seen: Sequence[set[str]]) -> list[str]:
    """Features that are frequent, of words that are used about many kinds of prompts."""
    about: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for row, found in zip(rows, seen, strict=True):
        for word in tokens(row.text)[:READ]:
            about[word].add(row.about)
        for name in found:
            counts[name] += 1
    general = {word for word, kinds in about.items() if len(kinds) >= KINDS_OF_PROMPTS} | {START}
    return sorted(
        name
        for name, count in counts.items()
        if name.startswith("items>") or (count >= LEAST and set(name.split()[1:]) <= general)
    )
