"""report.html: the whole experiment on one page that opens from disk, with no request to anywhere.

Model text is text: jinja escapes everything, and a content security policy lets nothing run but the page's own script
(by its hash) and nothing load at all. Plots are inline SVG whose colours are the page's CSS variables, so they follow
light, dark and print. Equal input gives a byte-identical file.

Schema of `results` (results.json; NaN is null; E is an estimate {"value", "low", "high", "n", "clusters"}):

    name, question        str
    arms                  [str]; the order decides the colours
    seeds                 [int]
    warnings              [str]
    headline              null | {"estimate": E of the first arm's win rate against the second, 0..1,
                          "noise": float | null, "arms": [first, second], "judge"?: str, T,
                          "length_controlled"?: E at answers of equal length}
    elo                   [{"policy", "elo": E}], best first; the SFT policy is 1000
    measures              [{"key", "title", "unit": "%" | "", "better": "higher" | "lower" | null, "help",
                          "arms": {arm: E}, "difference": null | {"estimate": E, "noise": float | null, "of": [x, y], T,
                          "p_holm": over the table, "p_these_seeds": exact McNemar | null}}]
    labels                [{"name", "kind": "judge" | "baseline" | "reward" | "ceiling", "split", "accuracy": E,
                          "balanced", "auc", "picks_shorter": E | null, "arm"?: str}]
    crossing              null | what cai/compare/budgets.py found of `label_budget:`
    replicas              [{"seed", "key", "unit", "arms": {arm: E}}]: the measures of each seed by itself
    point                 {swept key: value}; empty where nothing is swept
    sources               [{"arm", "said": str, "labelled": {source: int}}]: who labelled the training pairs
    rounds                [{"arm", "seed", "round", "keys": {stage: key}, "pairs": int, "labels": int,
                          "win_rate_vs_sft": E, "reward": E}]; empty where there is one round
    judges                [what cai/compare/judges.py makes of each AI judge]
    cross                 null | {"rows": [str], "columns": [str], "cells": [[E | null]]}
    counts                [{"what", "arm", "n", "of": int | null, "note"}]
    curves                [{"title", "x", "y", "lines": [{"arm", "seed", "x": [...], "y": [...]}]}]
    overoptimisation      [{"arm", "by", "lines": [{"seed", "rollout": [...], "root_kl": [...], "proxy": [...],
                          "gold": [...], "kept", "best", "last", "fell": E, "rose": E, "verdict", "sentence"}]}], see
                          cai/compare/overoptimisation.py
    stages                [{"stage", "key", "seconds", "cached"}]
    provenance            {"versions": {name: version}, "config": text, "constitution": text | {name: text}, ...}

    T stands for what cai/compare/crossed.py found over prompts and seeds: "p", "seeds", "margin", "p_equivalence",
    "equivalent", "prompts_needed" (null: none would do), "noise_floor": null | E (n: pairs of seeds).

and of `examples`:

    {"kind": "transcript", "prompt": [{"role", "content"}], "subset", "draft",
     "rounds": [{"principle", "critique", "revision"}], "answers": [{"arm", "seed", "text", "scores": {name: float}}]}
    {"kind": "label", "prompt": [...], "a", "b", "human": float | null, "ai": float | null, "reason",
     "votes": [{"method", "principle", "order", "p_a", "mass", "fault", "reply"}]}
"""

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cai.compare import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARM_COLOURS = 6
# Stand-ins that matplotlib accepts as colours, exchanged for the page's CSS variables afterwards.
INK, MUTED, RULE, BAND, PAPER = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
ARMS = [f"#a0b0c{i}" for i in range(ARM_COLOURS)]
CSS = {
    INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)", BAND: "var(--band)", PAPER: "var(--paper)",
    **{colour: f"var(--arm-{i})" for i, colour in enumerate(ARMS)},
}  # fmt: skip
MARKERS = ("o", "s", "^", "D")
DASHES = ("", "5 2", "1.5 1.5", "7 2 1.5 2")
BLANK: dict[str, Any] = {
    "name": "", "question": "", "arms": [], "seeds": [], "warnings": [], "headline": None, "measures": [],
    "labels": [], "sources": [], "rounds": [], "judges": [], "cross": None, "crossing": None, "counts": [],
    "curves": [], "overoptimisation": [], "stages": [], "provenance": {},
}  # fmt: skip


def write_report(results: dict[str, Any], examples: list[dict[str, Any]], out: Path) -> None:
    """Write the report of one run to the file `out`."""
    results = BLANK | results
    here = Path(__file__).parent
    env = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters |= {
        "value": table.value, "interval": table.interval, "sample": table.sample, "number": table.number,
        "verdict": table.verdict, "noise_floor": table.noise_floor,
        "csp_hash": _csp_hash, "duration": duration, "by_seed": _by_seed,
    }  # fmt: skip
    page = env.get_template("report.html.jinja").render(
        r=results,
        arms=table.columns(results),
        colour=lambda arm: f"--c: {_colour(arm, results['arms'], css=True)}",
        sentence=table.sentence(results),
        remaining=_remaining(results["headline"]),
        transcripts=[example for example in examples if example["kind"] == "transcript"],
        labelled=[example for example in examples if example["kind"] == "label"],
        plots=_plots(results),
        dashes=[(seed, DASHES[i % len(DASHES)]) for i, seed in enumerate(results["seeds"])],
    )
    # A lone surrogate (half an emoji cut off by a token limit) has no UTF-8 form: shown as its escape.
    out.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def duration(seconds: float | None) -> str:
    """`8.4 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _by_seed(answers: list[dict[str, Any]]) -> list[tuple[int | None, list[dict[str, Any]]]]:
    """(seed, its answers side by side), in order of appearance; a policy without a seed has None."""
    seeds = dict.fromkeys(answer["seed"] for answer in answers)
    return [(seed, [answer for answer in answers if answer["seed"] == seed]) for seed in seeds]


def _remaining(headline: dict[str, Any] | None) -> str:
    """How large an effect may still hide where none was shown."""
    if headline is None or table.standing(headline["estimate"], headline["noise"], null=0.5) != "not shown":
        return ""
    ends = headline["estimate"]["low"], headline["estimate"]["high"]
    return f"An effect of up to {100 * max(abs(end - 0.5) for end in ends):.0f} points either way is not ruled out."


def _csp_hash(script: str) -> Markup:
    """The source expression that lets exactly this inline script run."""
    return Markup("'sha256-" + base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode() + "'")


def _colour(arm: str | None, arms: list[str], *, css: bool = False) -> str:
    """One accent an arm; muted for whatever is no arm of the experiment, such as the SFT policy."""
    colour = ARMS[arms.index(arm) % ARM_COLOURS] if arm in arms else MUTED
    return CSS[colour] if css else colour


def _plots(results: dict[str, Any]) -> dict[str, Any]:
    import matplotlib as mpl

    settings = {
        "svg.fonttype": "none",  # text stays text: it takes the page's font and colour, and can be searched
        "svg.hashsalt": "cai",
        "text.parse_math": False,  # a "$" in a name is a dollar
        "font.size": 9, "text.color": INK, "axes.edgecolor": RULE, "axes.linewidth": 0.8, "axes.labelcolor": MUTED,
        "xtick.color": RULE, "ytick.color": RULE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
        "axes.spines.top": False, "axes.spines.right": False, "xtick.major.size": 3, "ytick.major.size": 3,
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    }  # fmt: skip
    with mpl.rc_context(settings):
        return {
            "headline": _headline_plot(results["headline"], results["arms"]),
            "labels": _labels_plot(results["labels"], results["arms"]),
            "curves": [
                _curve_plot(curve, results["arms"], results["seeds"], f"c{i}")
                for i, curve in enumerate(results["curves"])
            ],
            "gold": [
                _gold_plot(plot, results["arms"], results["seeds"], f"g{i}")
                for i, plot in enumerate(results["overoptimisation"])
            ],
        }


def _axes(width: float, height: float) -> "tuple[Figure, Axes]":
    """Sizes in inches. No pyplot: it would pick a window system and keep every figure alive."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _headline_plot(headline: dict[str, Any] | None, arms: list[str]) -> Markup:
    if headline is None or not headline["estimate"]["n"]:
        return Markup()
    estimate, noise, (first, second) = headline["estimate"], headline["noise"], headline["arms"]
    figure, axes = _axes(5.2, 0.95)
    if noise:
        axes.axvspan(50 - 100 * noise, 50 + 100 * noise, color=BAND, linewidth=0)
    axes.axvline(50, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    _dot(axes, estimate, 0, INK, size=7)
    axes.set(xlim=(0, 100), ylim=(-1, 1), yticks=[], xticks=[0, 25, 50, 75, 100])
    axes.set_xticklabels(["0%", "25%", "50%", "75%", "100%"])
    axes.text(0, 0.2, f"{second} wins more", color=_colour(second, arms))
    axes.text(100, 0.2, f"{first} wins more", color=_colour(first, arms), ha="right")
    axes.spines["left"].set_visible(False)
    text = f"Win rate of {first} against {second}: {table.value(estimate)} {table.interval(estimate)}"
    return _svg(figure, "h", text + (f"; noise floor {table.number(noise, '%')} around 50%" if noise else ""))


def _labels_plot(labels: list[dict[str, Any]], arms: list[str]) -> Markup:
    """A row a source: filled dot for accuracy, hollow one below it for length-balanced accuracy."""
    rows = [label for label in labels if label["accuracy"] and label["accuracy"]["value"] is not None]
    if not rows:
        return Markup()
    figure, axes = _axes(5.6, 0.6 + 0.3 * len(rows))
    ends = [50.0]
    for y, label in enumerate(rows):
        colour = {"judge": INK, "reward": INK}.get(label["kind"], MUTED)
        colour = _colour(label["arm"], arms) if label.get("arm") in arms else colour
        if label["kind"] == "ceiling" and label["accuracy"]["low"] is not None:
            axes.axvspan(100 * label["accuracy"]["low"], 100 * label["accuracy"]["high"], color=BAND, linewidth=0)
        ends += _dot(axes, label["accuracy"], y - 0.12, colour)
        if label["balanced"] and label["balanced"]["value"] is not None:
            ends += _dot(axes, label["balanced"], y + 0.2, colour, hollow=True)
    axes.axvline(50, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    splits = {label["split"] for label in rows}
    names = [label["name"] + (f" ({label['split']})" if len(splits) > 1 else "") for label in rows]
    axes.set_yticks(range(len(rows)), names, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(max(0, min(ends) // 10 * 10), min(101, -(-max(ends) // 10) * 10)))
    axes.set_xlabel("agreement with people, %")
    parts = (f"{name}: {table.value(label['accuracy'])}" for name, label in zip(names, rows, strict=True))
    return _svg(figure, "l", "Agreement with people's preferences. " + "; ".join(parts))


def _dot(
    axes: "Axes", estimate: dict[str, Any], y: float, colour: str, *, size: float = 5, hollow: bool = False
) -> list:
    """A dot and its interval, in per cent; returns the numbers drawn."""
    ends = [100 * estimate[key] for key in ("low", "high") if estimate[key] is not None]
    if len(ends) == 2:
        axes.plot(ends, [y, y], color=colour, linewidth=1 if hollow else 1.6, solid_capstyle="butt")
    fill = PAPER if hollow else colour
    axes.plot([100 * estimate["value"]], [y], "o", markersize=size - hollow, color=colour, markerfacecolor=fill)
    return [*ends, 100 * estimate["value"]]


def _curve_plot(curve: dict[str, Any], arms: list[str], seeds: list[int], key: str) -> Markup:
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(3.5, 2.1)
    last = []
    for line in curve["lines"]:
        y = [float("nan") if point is None else point for point in line["y"]]
        dash = DASHES[seeds.index(line["seed"]) % len(DASHES)] if line["seed"] in seeds else ""
        style = (0, tuple(float(part) for part in dash.split())) if dash else "-"
        marker = "o" if len(y) == 1 else ""
        axes.plot(line["x"], y, color=_colour(line["arm"], arms), linewidth=1.3, linestyle=style, marker=marker, ms=4)
        if y:
            last.append(f"{line['arm']} seed {line['seed']} ends at {table.number(y[-1])}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(curve["x"])
    axes.set_ylabel(curve["y"])
    return _svg(figure, key, f"{curve['title']}: {curve['y']} by {curve['x']}. " + "; ".join(last))


def _gold_plot(plot: dict[str, Any], arms: list[str], seeds: list[int], key: str) -> Markup:
    """Proxy (solid) and gold (dashed) over sqrt(KL); zeros stand at one height, the scales are each one's own.

    A marker a seed. A ring is round the look whose policy was kept.
    """
    from matplotlib.ticker import MaxNLocator

    figure, left = _axes(3.9, 2.3)
    right, said = left.twinx(), []
    for axes, name, style in ((left, "proxy", "-"), (right, "gold", (0, (4, 2)))):
        colour = _colour(plot["arm"], arms) if name == "proxy" else INK
        for line in plot["lines"]:
            marker = MARKERS[seeds.index(line["seed"]) % len(MARKERS)] if line["seed"] in seeds else "o"
            drawn = list(zip(line["root_kl"], line[name], strict=True)) if line[name] else []
            axes.plot(*zip(*drawn, strict=True), color=colour, linewidth=1.3, linestyle=style, marker=marker, ms=3)
            kept = [point for point, rollout in zip(drawn, line["rollout"], strict=False) if rollout == line["kept"]]
            axes.plot(*zip(*kept, strict=True), "o", color=colour, markerfacecolor="none", ms=8)
            if drawn:
                said.append(f"seed {line['seed']}: {name} ends at {table.number(drawn[-1][1], sign=True)}")
        values = [abs(y) for line in plot["lines"] for y in line[name]]
        most = 1.15 * max([*values, 1e-6])
        axes.set_ylim(-most, most)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.tick_params(axis="y", labelcolor=colour)
    left.axhline(0, color=RULE, linewidth=0.8)
    left.set_xlabel("√KL to the SFT policy, √nats")
    left.set_ylabel("proxy (solid)")
    right.set_ylabel("gold (dashed)")
    return _svg(figure, key, f"{plot['arm']}: proxy and gold reward over the root of the KL. " + "; ".join(said))


def _svg(figure: "Figure", key: str, title: str) -> Markup:
    """The figure as inline SVG: page colours, a title for screen readers, ids made unique by `key`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    for colour, variable in CSS.items():
        text = text.replace(colour, variable)
    text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{key}-", text)
    text = text.replace('xlink:href="', 'href="')
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert size
    head = f'<svg viewBox="{size[0][9:-1]}" style="max-width: {float(size[1]) * 1.25:.0f}pt" role="img">'
    return Markup(f"{head}<title>{escape(title)}</title>{text[text.index('>') + 1 :]}")
