"""The first figure of the report: every measure in a row, what each arm has and what two arms differ by.

Left, each policy's value with its 95% interval. Shares stand on one scale, 0 to 100%; anything else has a scale of its
own, whose ends are told. Right, the difference, in units of its own margin of error (half its 95% interval): measures
in different units stand on one axis, all whiskers are equally long, and one that touches the line at 0 shows nothing,
however large the number beside it looks. Shaded there: the noise floor, what two seeds of one arm differ by. Only what
`table.speaks_for` finds shown has the colour of the arm that it speaks for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cai.compare import plots, table
from cai.compare.figures import Axis, Mark, Strip, StripRow, Strips, axis_of, tick

Results = Mapping[str, Any]
# What a measure tells of, by how its key begins, and what its value is where there is no effect. Others come last.
GROUPS: Mapping[str, Mapping[str, float | None]] = {
    "Games": {"headline": 0.5, "length_controlled": 0.5, "win_rate": 0.5},
    "Learnt from the labels": {"reward_accuracy": 0.5, "reward_": 0.0},
    "Rated": {"harmlessness": None, "helpfulness": None, "harmfulness": None},
    "Refusals": {"refusal": None, "partial_refusals": None, "over_refusal": None, "borderline": None, "xstest": None},
    "Form of the answers": {"words": None, "repetition": None, "ended": None},
}
ENDS = ("value", "low", "high")
REST = "Other measures"
SHARES = Axis("", (-0.02, 1.02), ((0.0, "0%"), (0.5, "50%"), (1.0, "100%")))
LEAST, MOST = 1.6, 4.0  # margins of error that the axis of differences has to either side


def overview(r: Results) -> Strips | None:
    """A row a measure, in groups. None where nothing was measured. A single arm has no differences."""
    games = _games(r["headline"])
    measures = [*games, *r["measures"]]
    if not any(plots.known(e) for m in measures for e in m["arms"].values()):
        return None
    grouped = [(group, m) for name in (*GROUPS, REST) for m in measures if (group := _group(m["key"])[0]) == name]
    compared = [m["difference"] for m in measures if m["difference"]]
    axis = _differences(compared)
    rows, last = [], ""
    for group, m in grouped:
        strips: list[Strip | None] = [_values(m, r["arms"])]
        words: tuple[str, ...] = ()
        if compared:
            strips.append(_difference(m, axis, r["arms"]))
            words = _words(m)
        rows.append(StripRow(m["title"], tuple(strips), words, _help(m), group if group != last else ""))
        last = group
    alt = "Every measure. " + "; ".join(_said(m) for _, m in grouped)
    axes = (SHARES, axis) if compared else (SHARES,)
    columns = ("each policy, 95% interval", "difference, in margins of error") if compared else ("value, 95% interval",)
    head = ("share of games", "wins", "rows", "prompts")  # the other rows have a table of their own
    numbers = [
        (m["title"], plots.says(e), f"{e['n']:,}", f"{e['clusters']:,}") for m in games for e in m["arms"].values()
    ]
    return Strips("Every measure", alt, axes, tuple(rows), head, tuple(numbers), columns=columns)


def _games(headline: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The games of the first arm against the second as measures: their distance from one half is the difference."""
    if headline is None:
        return []
    first, second = headline["arms"]
    rows = [("headline", f"{first} wins against {second}", headline["estimate"], headline)]
    if headline.get("length_controlled"):
        rows.append(("length_controlled", "the same at equal length", headline["length_controlled"], {}))
    return [
        {
            "key": key, "title": title, "unit": "%", "better": "higher", "help": "", "arms": {"": estimate},
            "difference": {
                "estimate": {**estimate, **{k: v - 0.5 for k in ENDS if not plots.missing(v := estimate[k])}},
                "noise": headline["noise"], "of": [first, second],
                **{k: tests[k] for k in ("equivalent", "margin") if k in tests},
            },
        }
        for key, title, estimate, tests in rows
    ]  # fmt: skip


def _group(key: str) -> tuple[str, float | None]:
    return next(
        ((group, null) for group, keys in GROUPS.items() for start, null in keys.items() if key.startswith(start)),
        (REST, None),
    )


def _values(m: Mapping[str, Any], arms: Sequence[str]) -> Strip | None:
    """Every policy's value: the arms filled, what they started from hollow, below them. None where none is known."""
    names = [*(arm for arm in m["arms"] if arm in arms or not arm), *(a for a in m["arms"] if a and a not in arms)]
    known = {name: m["arms"][name] for name in names if plots.known(m["arms"][name])}
    if not known:
        return None
    null = _group(m["key"])[1]
    values = [*plots.ends_of(*known.values()), *([] if null is None else [null])]
    marks = [
        plots.mark(
            name or m["title"], e, m["unit"], plots.colour(name, arms) if name else "--ink",
            hollow=bool(name) and name not in arms,
        )
        for name, e in known.items()
    ]  # fmt: skip
    return Strip(SHARES if m["unit"] == "%" else _own(values), tuple(marks), null)


def _own(values: Sequence[float]) -> Axis:
    """From a round number below all values to one above, both told."""
    axis = axis_of("", values)
    low, high = axis.ends
    return Axis("", axis.ends, ((low, table.number(low)), (high, table.number(high))))


def _margin(estimate: Mapping[str, Any]) -> float | None:
    reach = plots.reach(estimate)
    return (reach[1] - reach[0]) / 2 if reach else None


def _differences(compared: Sequence[Mapping[str, Any]]) -> Axis:
    """As wide as the furthest end, within bounds: what is further stands at the edge."""
    far = LEAST
    for difference in compared:
        margin = _margin(difference["estimate"])
        if margin and plots.known(difference["estimate"]):
            far = max(far, *(1.1 * abs(end) / margin for end in plots.ends_of(difference["estimate"])))
    far = min(far, MOST)
    whole = range(-int(far), int(far) + 1)
    return Axis("", (-far, far), tuple((float(n), tick(n)) for n in whole))


def _difference(m: Mapping[str, Any], axis: Axis, arms: Sequence[str]) -> Strip:
    """The difference over its margin of error; an empty strip where there is no interval to measure by.

    One that is 0 in every resample has a margin of 0, and stands at 0.
    """
    difference = m["difference"]
    margin = _margin(difference["estimate"]) if difference and plots.known(difference["estimate"]) else None
    if margin is None or (margin == 0 and difference["estimate"]["value"]):
        return Strip(axis, (), 0.0)
    estimate, noise = difference["estimate"], difference["noise"]
    margin = margin or 1.0
    low, high = (end / margin for end in plots.reach(estimate) or ())
    text = f"{m['title']}: {' − '.join(difference['of'])}\n{_words(m)[0]}\n"
    text += f"noise floor {table.noise_floor(difference, m['unit'])}"
    shade = plots.colour(table.speaks_for(dict(m)), arms)
    band = (-noise / margin, noise / margin) if noise and not plots.missing(noise) else None
    return Strip(axis, (Mark(estimate["value"] / margin, (low, high), text, shade),), 0.0, band)


def _words(m: Mapping[str, Any]) -> tuple[str, ...]:
    """The difference in its own unit, and what it allows one to say."""
    if not m["difference"]:
        return ("", "")
    estimate = m["difference"]["estimate"]
    ends = (table.value(estimate, m["unit"], sign=True), table.interval(estimate, m["unit"], sign=True))
    return " ".join(ends).strip(), table.verdict(dict(m))


def _help(m: Mapping[str, Any]) -> str:
    return m["help"] + (f" ({m['better']} is better)" if m["help"] and m["better"] else "")


def _said(m: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {plots.says(e, m['unit'])}".strip() for name, e in m["arms"].items() if plots.known(e))
    return f"{m['title']}: {values}" + (f"; difference {' '.join(_words(m))}" if m["difference"] else "")
