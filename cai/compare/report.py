"""report.html: the whole experiment on one page that opens from disk, with no request to anywhere.

Model text is text: jinja escapes everything, examples travel as JSON and reach the page through textContent, and a
content security policy lets nothing run but the page's own script (by its hash), and nothing load at all. Plots are SVG
in the page. Equal input gives a byte-identical file.

A section of the report has a template of its own, which may draw (cai/compare/section.py). What results.json holds is
said by cai/compare/schema.py and the sections; NaN is null.

Schema of `examples` (cai/compare/sections/examples.py says what disagree, against and gap are):

    {"kind": "transcript", "id", "prompt": [{"role", "content"}], "subset", "draft", "disagree": bool, "gap",
     "rounds": [{"principle", "critique", "revision"}], "answers": [{"arm", "seed", "text", "scores": {name: float}}]}
    {"kind": "label", "id", "prompt": [...], "subset", "a", "b", "human": float | null, "people": [[rater, p]],
     "ai": float | null, "reason", "opinions": [{"name", "arm", "p"}], "disagree": bool, "against": bool, "gap",
     "votes": [[method, principle, order, p_a, mass, fault, reply]]}
"""

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from cai.compare import contents, plots, report_plots, table, training_plots
from cai.compare.caveats import caveats, spoken_of
from cai.compare.overview import overview
from cai.core.durable import write_whole
from cai.core.pages import page_templates
from cai.core.refusals import stated

HERE = Path(__file__).parent
FOLDERS = (HERE, HERE / "sections")  # of templates
CHAPTERS = {
    "headline": "Answer", "labels": "Labels", "rewards": "Reward models", "training": "Training",
    "policies": "Policies", "revisions": "Revisions", "examples": "Examples", "provenance": "Provenance",
}  # fmt: skip
BLANK: dict[str, Any] = {
    "name": "", "question": "", "arms": [], "seeds": [], "differences": [], "warnings": [], "headline": None, "elo": [],
    "measures": [], "stages": [], "provenance": {}, "examples": {},
} | {section.key: section.empty for section in contents.SECTIONS}  # fmt: skip


def write_report(results: dict[str, Any], examples: list[dict[str, Any]], out: Path) -> None:
    """Write the report of one run to the file `out`."""
    results = BLANK | results
    assert len({row["id"] for row in examples}) == len(examples), "the page links to an example by its id"
    env = page_templates(*FOLDERS)
    env.filters |= {
        "value": table.value, "interval": table.interval, "sample": table.sample, "number": table.number,
        "verdict": table.verdict, "speaks_for": table.speaks_for, "noise_floor": table.noise_floor,
        "p_value": table.p_value, "fell_out": table.fell_out, "csp_hash": _csp_hash, "duration": duration,
        "spec": _spec, "code": _code,
    }  # fmt: skip
    arms = table.columns(results)
    filled = {section.chapter for section in contents.SECTIONS if section.template and results[section.key]}
    shared: Any = env.globals
    shared |= {"colour": lambda arm: f"var({plots.colour(arm, results['arms'])})", "plots": plots, "stated": stated}
    page = env.get_template("report.html.jinja").render(
        r=results,
        arms=arms,
        accents={arm: f"var({plots.colour(arm, results['arms'])})" for arm in results["arms"]},
        caveats=caveats(results.get("reading") or (), spoken_of(results)),
        answer=table.answer(results),
        counts=_together(results["counts"]),
        remaining=_remaining(results["headline"]),
        rows=examples,
        kinds={"transcript": 0, "label": 0} | Counter(row["kind"] for row in examples),
        shown=_shown(results),
        parts=[section for section in contents.SECTIONS if section.template],
        filled=filled,
        dashes=[(seed, plots.DASHES[training_plots.dash(seed, results["seeds"])]) for seed in results["seeds"]],
        chapters=[(key, title) for key, title in CHAPTERS.items() if key != "revisions" or key in filled],
    )
    # A lone surrogate (half an emoji cut off by a token limit) has no UTF-8 form: shown as its escape.
    write_whole(out, page)


def _shown(results: dict[str, Any]) -> dict[str, Any]:
    """Every plot of the report by its place in the templates; None where there is nothing to draw."""
    return {
        "overview": overview(results),
        "labels": report_plots.labels(results),
        "position": report_plots.position(results),
        "reliability": [p for judge in results["judges"] if (p := report_plots.reliability(judge, results["arms"]))],
        "principles": [p for judge in results["judges"] if (p := report_plots.principles(judge, results["arms"]))],
        "rewards": report_plots.rewards(results),
        "curves": training_plots.curves(results),
        "gold": training_plots.gold(results),
        "frontier": report_plots.frontier(results),
        "elo": report_plots.elo(results),
        "along": training_plots.along(results),
    } | {section.key: section.draw(results) for section in contents.SECTIONS if section.draw}


def _together(counts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts that are alike but for the arm or the policy, as one that names all of these."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for count in counts:
        alike.setdefault(tuple(count[key] for key in ("what", "n", "of", "note")), []).append(count["arm"])
    return [
        {"what": what, "n": n, "of": of, "note": note, "arms": list(dict.fromkeys(filter(None, arms)))}
        for (what, n, of, note), arms in alike.items()
    ]


def _spec(thing: Any) -> Markup:
    """Any data as JSON that is safe inside a <script>: it holds no "<", and nothing a parser trips over."""
    text = json.dumps(thing, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _code(text: str) -> Markup:
    """Text in which `backticks` stand for code."""
    parts = [escape(part) for part in str(text).split("`")]
    if len(parts) % 2 == 0:  # one of them has no partner
        return escape(text)
    return Markup("").join(Markup("<code>%s</code>") % part if i % 2 else part for i, part in enumerate(parts))


def duration(seconds: float | None) -> str:
    """`8.4 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _remaining(headline: dict[str, Any] | None) -> str:
    """How large an effect may still hide where none was shown."""
    if headline is None or table.standing(headline["estimate"], headline["noise"], null=0.5) != "not shown":
        return ""
    ends = headline["estimate"]["low"], headline["estimate"]["high"]
    return f"An effect of up to {100 * max(abs(end - 0.5) for end in ends):.0f} points either way is not ruled out."


def _csp_hash(script: str) -> Markup:
    """The source expression that lets exactly this inline script run."""
    return Markup("'sha256-" + base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode() + "'")
