"""What became of each AI judge: its preflight, its labels on the held-out pairs, its calibration and its principles.

Everything is computed from the votes that the label stage kept, so it costs no call. Calibration is measured where it
matters: fitted on the calibration split, its scores before and after are those of the held-out pairs.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell, by_each_judge
from cai.compare.section import ReportSection
from cai.config.rubric import RUBRIC
from cai.config.sections import Labeller
from cai.constitution import Constitution
from cai.core.errors import some
from cai.core.odds import sigmoid
from cai.core.records import Abstained, Estimate, Label, Pair, read_jsonl
from cai.core.store import Artifact
from cai.judge.checkers import ONE
from cai.judge.combine import CHECK, Levels, combine, weights_of
from cai.judge.diagnostics import by_principle, diagnose
from cai.judge.labels_file import verdicts_of
from cai.judge.methods import name_of, principles_for
from cai.judge.rubric import before
from cai.stats import calibration

HIGH = 0.2  # of the labels: beyond it an exploit is named in the report's warnings
SCORES = {"Brier score": calibration.brier, "ECE": calibration.ece, "log-loss": calibration.log_loss}


def judges(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One entry for each arm that an AI judge labelled; of a panel, one for each judge."""
    by_arm = {cell.arm: cell for cell in reversed(cells) if "ai" in cell.labellers}
    alone = [judge for cell in reversed(by_arm.values()) for judge in by_each_judge(cell)]
    return [judge_of(cell, cell.labellers["ai"]) for cell in alone]


def attacks_on(cell: Cell) -> dict[str, Any] | None:
    """What exploits do to the judge (`judge.attacks`): an `AttackReport`, as JSON has it."""
    return json.loads((cell.attacks / "attacks.json").read_text()) if cell.attacks else None


def gamed(cells: Sequence[Cell]) -> list[str]:
    """One line for each arm whose judge some exploit turns in more than a share `HIGH` of its labels."""
    notes = []
    for cell in {cell.arm: cell for cell in reversed(cells)}.values():
        exploits = (attacks_on(cell) or {"exploits": []})["exploits"]
        high = [row for row in exploits if (row["headroom"]["flips"]["value"] or 0) > HIGH]
        high.sort(key=lambda row: -row["headroom"]["flips"]["value"])
        if high:
            named = some([_in_words(row["name"], row["headroom"]) for row in high])
            notes.append(
                f"Arm {cell.arm}: its judge can be gamed. {len(high)} of {len(exploits)} exploits turn more than "
                f"{HIGH:.0%} of its right labels: {named}. A policy that learns from it may learn them."
            )
    return notes[::-1]


def _in_words(name: str, headroom: dict[str, Any]) -> str:
    flips, control = (headroom[of]["value"] or 0 for of in ("flips", "control_flips"))
    return f"{name} {flips:.0%} (an edit of that length that says nothing {control:.0%})"


def method_of(cell: Cell) -> str:
    """The method that labelled an AI arm, in words; of `auto`, the one that was picked."""
    if cell.panel:
        return " and ".join(method_of(judge) for judge in by_each_judge(cell))
    return name_of(asked(cell).method)


def asked(cell: Cell) -> Labeller:
    found = _preflight(cell)
    return cell.settings.judge.model_copy(update={"method": found["method"]} if found else {})


def _preflight(cell: Cell) -> dict[str, Any] | None:
    return json.loads((cell.preflight / "preflight.json").read_text()) if cell.preflight else None


def judge_of(cell: Cell, labels: Artifact) -> dict[str, Any]:
    held = {pair.id: pair for pair in read_jsonl(cell.pairs / "pairs.jsonl", Pair) if pair.prompt.split == "test"}
    verdicts = [verdict for verdict in verdicts_of(labels).values() if verdict.pair_id in held]
    pairs = [held[verdict.pair_id] for verdict in verdicts]
    said = {verdict.pair_id: verdict.p_a for verdict in verdicts if isinstance(verdict, Label)}
    people = [(said[pair.id], pair.human) for pair in pairs if pair.id in said and pair.human is not None]
    found, judge = _preflight(cell), asked(cell)
    order = cell.constitution.order
    by_rubric = judge.method == RUBRIC
    weights = weights_of(principles_for(cell.constitution, judge), judge, order.limits)
    return {
        "checks": [] if by_rubric else checked(cell.constitution, verdicts),
        "arm": cell.arm,
        "model": judge.model,
        "method": name_of(judge.method),
        "sentence": sentence(found),
        "preflight": found,
        "labels": diagnose(pairs, verdicts),
        "reliability": calibration.reliability([p for p, _ in people], [human for _, human in people]),
        "calibration": calibrated(pairs, verdicts, judge, (weights, order.levels), found["platt"])
        if found and found["platt"]
        else None,
        "principles": [] if by_rubric else by_principle(pairs, verdicts, judge, weights, order.levels),
        "attacks": attacks_on(cell),
    }


def checked(constitution: Constitution, verdicts: Sequence[Label | Abstained]) -> list[dict[str, Any]]:
    """Of each principle with a check: how many pairs it decided, and why it did not decide the others."""
    votes = [vote for verdict in verdicts for vote in verdict.votes if vote.method == CHECK]
    return [
        {
            "principle": principle.name,
            "check": principle.check,
            "outcomes": dict(Counter(vote.fault or ONE for vote in votes if vote.principle == principle.name)),
        }
        for principle in constitution.principles
        if principle.check and not principle.never
    ]


def sentence(found: dict[str, Any] | None) -> str:
    """What the preflight says, in one sentence."""
    if found is None:
        return "It labelled without a preflight."
    where = f"{found['pairs']} pairs of {found['prompts']} prompts ({found['sample']})"
    ranked = sorted(found["tried"], key=lambda trial: -auc_of(trial))
    used = next(trial for trial in ranked if trial["method"] == found["method"])
    others = [trial for trial in ranked if trial is not used]
    if found["auto"] and others:
        ahead = auc_of(used) - auc_of(others[0])
        lead = f"ahead of {name_of(others[0]['method'])} by {ahead:.2f}" if ahead >= 0 else "the best that passed"
        text = f"{name_of(found['method'])} was picked from {len(ranked)} methods on {where}: "
        text += f"AUC {auc_of(used):.2f}, {lead}"
    else:
        text = f"{name_of(found['method'])} passed its preflight on {where}"
    accuracy = used["found"]["accuracy"]
    if accuracy["n"]:
        ends = f"[{100 * accuracy['low']:.0f}, {100 * accuracy['high']:.0f}]"
        text += f"; there it agrees with people on {accuracy['value']:.0%} {ends}"
        if accuracy["high"] < 0.5:
            text += ", less than a coin would"
        elif accuracy["low"] <= 0.5:
            text += ", which so small a sample cannot tell from a coin"
    by = " and ".join(word for word, so in (("picked", found["auto"]), ("calibrated", found["platt"])) if so)
    return text + (f". It was {by} by these human labels, which were used for nothing else." if by else ".")


def auc_of(trial: dict[str, Any]) -> float:
    return trial["found"]["auc"]["value"] if trial["found"]["auc"]["n"] else 0.0


def calibrated(
    pairs: Sequence[Pair], verdicts: Sequence[Label | Abstained], judge: Any, order: tuple[Any, Levels], platt: Any
) -> dict[str, Any]:
    """Slope, bias, and the scores of the held-out labels before and after; a reliability curve of both.

    order: weights and levels of the principles.
    """
    slope, bias = platt

    def odds_of(verdict: Label | Abstained) -> float | None:
        return before(verdict, platt) if judge.method == RUBRIC else combine(verdict.votes, judge, *order)

    rows = [
        (odds, pair.human, pair.prompt.id)
        for pair, verdict in zip(pairs, verdicts, strict=True)
        if pair.human is not None and (odds := odds_of(verdict)) is not None
    ]
    human, clusters = [row[1] for row in rows], [row[2] for row in rows]
    sides = {
        "before": [sigmoid(odds) for odds, _, _ in rows],
        "after": [sigmoid(slope * odds + bias) for odds, _, _ in rows],
    }
    scores: dict[str, dict[str, Estimate]] = {
        name: {side: score(p, human, clusters) for side, p in sides.items()} for name, score in SCORES.items()
    }
    curves = {side: calibration.reliability(p, human) for side, p in sides.items()} if rows else {}
    return {"slope": slope, "bias": bias, "scores": scores, "reliability": curves}


SECTION = ReportSection(
    "judges", "AI judges", list[dict], lambda run: judges(run.cells), empty=(),
    chapter="labels", template="judges.html.jinja",
)  # fmt: skip
