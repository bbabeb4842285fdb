"""The numbers of a run put into words, and the table at the end of a run. The report uses the same words.

A difference counts as shown only when its interval excludes "no difference" *and* it is larger than the noise floor,
that is, larger than what two seeds of one and the same arm differ by; in the table also by Holm's correction over all
of its differences. Equivalent is what was shown to be smaller than a margin. The paper (Bai et al. 2022) reports none.

Input is the dictionary of results.json; its schema is in cai/compare/schema.py. An estimate is a dictionary
{"value", "low", "high", "n", "clusters"} in which NaN may be null. Unit "%" means a share in 0..1 shown as per cent.
"""

import io
from collections.abc import Mapping
from math import floor, isnan, log10
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cai.compare.caveats import caveats, spoken_of

PLAIN_WIDTH = 132
ASCII = str.maketrans("−–─…“”", '---.""')  # one for one: the columns keep their widths


def value(estimate: dict[str, Any] | None, unit: str = "%", *, sign: bool = False) -> str:
    """`52.1%`; with `sign`, as a difference: `+2.1 pts`; or `no data`, or `undefined`."""
    if estimate is None or not estimate["n"]:
        return "no data"
    if _missing(estimate["value"]):
        return "undefined"
    return number(estimate["value"], unit, digits=_digits(estimate, unit), sign=sign)


def interval(estimate: dict[str, Any] | None, unit: str = "%", *, sign: bool = False) -> str:
    """`[47.0, 57.3]`, in the unit of `value`; empty where there is no value."""
    if estimate is None or not estimate["n"] or _missing(estimate["value"]):
        return ""
    if _missing(estimate["low"]) or _missing(estimate["high"]):
        return "(no interval)"
    ends = (number(estimate[end], unit, digits=_digits(estimate, unit), sign=sign) for end in ("low", "high"))
    return "[" + ", ".join(end.removesuffix("%").removesuffix(" pts") for end in ends) + "]"


def sample(estimate: dict[str, Any] | None) -> str:
    """`n 236 in 118 prompts`; empty where there is nothing."""
    if estimate is None or not estimate["n"]:
        return ""
    return f"n {estimate['n']:,} in {_plural(estimate['clusters'], 'prompt')}"


def number(x: float | None, unit: str = "", *, digits: int | None = None, sign: bool = False) -> str:
    """A number for people: per cent with one decimal, anything else with three figures; a real minus, never -0."""
    if x is None or isnan(x):
        return "–"
    percent = unit == "%"
    scaled = 100 * x if percent else x
    if digits is None:
        digits = 1 if percent else _figures(abs(x))
    text = f"{round(scaled, digits) + 0.0:{'+' if sign else ''},.{digits}f}".replace("-", "−")
    return f"{text}{' pts' if sign else '%'}" if percent else text


def standing(estimate: dict[str, Any] | None, noise: float | None, null: float = 0.0) -> str:
    """What may be claimed of a difference from `null`.

    "no data", "no interval", "not shown" (the interval holds the null), "noise unknown" (it does not, but there is
    one seed only), "within noise" (two seeds of one arm differ by as much) or "shown".
    """
    if estimate is None or not estimate["n"] or _missing(estimate["value"]):
        return "no data"
    if _missing(estimate["low"]) or _missing(estimate["high"]):
        return "no interval"
    if estimate["low"] <= null <= estimate["high"]:
        return "not shown"
    if _missing(noise):
        return "noise unknown"
    return "shown" if abs(estimate["value"] - null) > float(noise or 0) else "within noise"


def noise_floor(difference: dict[str, Any], unit: str) -> str:
    """`±2.1 pts`, with the decimals of the difference it stands beside; or `unknown`."""
    if _missing(difference["noise"]):
        return "unknown"
    digits = _digits(difference["estimate"], unit)
    return "±" + number(difference["noise"], unit, digits=digits, sign=True).removeprefix("+")


def p_value(p: float | None) -> str:
    """`0.03`, `0.34`, `< 0.001`; never 0."""
    if p is None or isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def fell_out(difference: dict[str, Any]) -> str:
    """`rows fell out: 3 that ai lacks, 0 that human lacks`; empty where none did."""
    return fallen_out(difference.get("left_out") or {})


def fallen_out(lacking: Mapping[str, int]) -> str:
    """The same, of arm -> rows that it lacks."""
    if not any(lacking.values()):
        return ""
    parts = ", ".join(f"{count:,} that {arm} lacks" for arm, count in lacking.items())
    return f"rows fell out: {parts}"


def speaks_for(measure: dict[str, Any]) -> str | None:
    """The arm that is shown to be better, or, where neither is better, to differ; None where nothing is shown."""
    difference = measure.get("difference")
    if difference is None or difference.get("equivalent") or (difference.get("p_holm") or 0) >= 0.05:
        return None
    if standing(difference["estimate"], difference["noise"]) != "shown":
        return None
    first, second = difference["of"]
    if measure["better"] is None:
        return first
    return first if (difference["estimate"]["value"] > 0) == (measure["better"] == "higher") else second


def verdict(measure: dict[str, Any]) -> str:
    """What a measure's difference allows one to say, in a few words."""
    difference = measure.get("difference")
    if difference is None:
        return ""
    claim = standing(difference["estimate"], difference["noise"])
    if difference.get("equivalent"):
        return f"equivalent (within {number(difference['margin'], measure['unit'], digits=0, sign=True)[1:]})"
    if claim != "shown":
        return {
            "noise unknown": "excludes 0; one seed, noise unknown",
            "within noise": "within the noise floor",
        }.get(claim, claim)
    arm = speaks_for(measure)
    if arm is None:
        return "not shown, as one of many"
    return f"{arm} {'better' if measure['better'] else 'higher' if difference['estimate']['value'] > 0 else 'lower'}"


def sentence(results: dict[str, Any]) -> str:
    """The answer of the whole experiment, which claims no more than the numbers do.

    Before it stands where the labels come from, for arms whose judge was not seen to read (`caveats`).
    """
    return " ".join([*caveats(results.get("reading") or (), spoken_of(results)), answer(results)])


def answer(results: dict[str, Any]) -> str:
    """How the first arm does against the second, and where a coin is an arm, what share of what people's labels give
    those of the first judge do (cai/compare/sections/share.py): the sentence without where the labels come from."""
    share = results.get("share")
    return " ".join([_games(results), *([share["sentence"]] if share else ())])


def _games(results: dict[str, Any]) -> str:
    headline = results.get("headline")
    if headline is None and len(results["arms"]) > 1:
        return _reward_models(results)
    if headline is None:
        return f"A single arm ({', '.join(results['arms'])}): there is nothing to compare it with."
    estimate, noise, (first, second) = headline["estimate"], headline["noise"], headline["arms"]
    claim = standing(estimate, noise, null=0.5)
    if claim == "no data":
        return f"No game between {first} and {second} could be judged: there is nothing to compare."
    judge = f", judged by {headline['judge']}," if headline.get("judge") else ","
    start = (
        f"On {_plural(estimate['clusters'], 'held-out prompt')} and {_plural(len(results['seeds']), 'seed')}{judge} "
        f"{first} beats {second} in {_percent(estimate)} of games: "
    )
    floor_ = f"the noise floor of {number(noise, '%', sign=True).lstrip('+')}" if not _missing(noise) else ""
    winner, loser = (first, second) if estimate["value"] > 0.5 else (second, first)
    if headline.get("equivalent"):
        within = number(headline["margin"], "%", digits=0, sign=True)[1:-4]
        scope = " for these seeds" if len(results["seeds"]) == 1 else ""
        return f"{start}the arms are equivalent within the margin of {within} points{scope}."
    return start + {
        "no interval": "too few prompts for an interval, so nothing can be concluded.",
        "not shown": f"no difference can be shown at this size{_needed(headline, len(results['seeds']))}.",
        "noise unknown": "the interval excludes 50%, but no second seed tells how much of this is noise of training.",
        "within noise": f"the interval excludes 50%, but two seeds of one arm differ by as much ({floor_}), so no "
        "difference beyond the noise of training is shown.",
        "shown": f"{winner} wins more often than {loser}, by more than {floor_}.",
    }.get(claim, "")


def _reward_models(results: dict[str, Any]) -> str:
    """Where no arm has a policy."""
    measure = next((m for m in results["measures"] if m["key"] == "reward_accuracy"), None)
    if measure is None or not measure.get("difference"):
        return "No policy was trained (rl.method: none), and there is nothing to compare."
    first, second = measure["difference"]["of"]
    shares = [f"{arm} {_percent(measure['arms'][arm])}" for arm in (first, second)]
    return (
        f"No policy was trained (rl.method: none). Of held-out pairs, reward models agree with people on: "
        f"{', '.join(shares)}; the difference: {verdict(measure)}."
    )


def _needed(headline: dict[str, Any], seeds: int) -> str:
    """How many prompts would show a difference of this size, in two figures: it is no more than an order of magnitude.

    Empty where there is no difference to be shown.
    """
    if "prompts_needed" not in headline or abs(headline["estimate"]["value"] - 0.5) < 1e-9:
        return ""
    count = headline["prompts_needed"]
    if count is None:
        return "; with seeds that differ this much, only more seeds could show one like it"
    digits = 1 - floor(log10(count)) if count >= 10 else 0
    return f"; about {round(count, digits):,} prompts would be needed to see this one" + (
        " (for this seed only)" if seeds == 1 else ""
    )


def columns(results: dict[str, Any]) -> list[str]:
    """The arms, then whatever else the measures were taken on (such as the SFT policy), in order of appearance."""
    return list(dict.fromkeys([*results["arms"], *(arm for measure in results["measures"] for arm in measure["arms"])]))


def print_table(results: dict[str, Any], console: Console | None = None) -> None:
    """Print the answer and the table of measures; plain ASCII, 132 columns wide, where the output is no terminal."""
    console = console or Console()
    if console.is_terminal:
        console.print(_page(results))
        return
    plain = Console(file=io.StringIO(), width=PLAIN_WIDTH, color_system=None, force_terminal=False)
    with plain.capture() as captured:
        plain.print(_page(results))
    text = "\n".join(line.rstrip() for line in captured.get().translate(ASCII).splitlines())
    encoding = getattr(console.file, "encoding", None) or "utf-8"
    console.file.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def _page(results: dict[str, Any]) -> Group:
    """All text goes in as `Text`: rich would read `[47, 57]` in a plain string as markup."""
    parts: list[Any] = [Text(sentence(results), style="bold")]
    parts += _at_equal_length(results.get("headline"))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in results.get("warnings", [])]
    if results.get("crossing"):
        parts += [Text(results["crossing"]["sentence"], style="bold")]
    parts += [Text(f"AI judge of arm {judge['arm']}: {judge['sentence']}") for judge in results.get("judges", [])]
    if results["measures"]:
        parts += [Text(), _measures(results), Text(NOTE, style="dim")]
    return Group(*parts)


def _at_equal_length(headline: dict[str, Any] | None) -> list[Text]:
    controlled = (headline or {}).get("length_controlled")
    if not controlled or not controlled["n"]:
        return []
    return [Text(f"With answers of equal length it would be {value(controlled)} {interval(controlled)}.")]


NOTE = (
    "n: rows/prompts. [low, high]: 95% interval over prompts, of a difference over prompts and seeds. "
    "noise: what two seeds of one arm differ by."
)


def _measures(results: dict[str, Any]) -> Table:
    arms = columns(results)
    compared = any(measure.get("difference") for measure in results["measures"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("measure", min_width=14)
    for arm in arms:
        # Of more than four, `run.arm` stands in two lines: else the last columns are pushed out of the page.
        wide = len(arms) <= 4
        name = arm if wide else arm.replace(".", "\n.")
        table.add_column(Text(name), no_wrap=wide, max_width=None if wide else 11, overflow="fold")
    if compared:
        table.add_column("difference", no_wrap=True)
        table.add_column("noise", no_wrap=True)
        table.add_column("reads as", width=12)
    for measure in results["measures"]:
        unit = measure["unit"]
        cells = [Text(measure["title"]), *(_cell(measure["arms"].get(arm), unit) for arm in arms)]
        difference = measure.get("difference")
        if compared and difference:
            style = "bold" if speaks_for(measure) else ""
            cells += [
                _cell(difference["estimate"], unit, sign=True),
                Text(noise_floor(difference, unit).strip("±").removesuffix(" pts")),
                Text(verdict(measure), style=style),
            ]
        table.add_row(*cells)
    return table


def _cell(estimate: dict[str, Any] | None, unit: str, *, sign: bool = False) -> Text:
    if estimate is None:
        return Text("")
    ends = interval(estimate, unit, sign=sign)
    size = f"n {estimate['n']:,}/{estimate['clusters']:,}" if ends and not sign else ""
    return Text.assemble(
        value(estimate, unit, sign=sign), "\n" + ends if ends else "", ("\n" + size if size else "", "dim")
    )


def _percent(estimate: dict[str, Any]) -> str:
    """`52% [47, 57]`, with decimals only where rounding would put an end of the interval onto 50."""
    ends = [end for end in (estimate["low"], estimate["high"]) if not _missing(end)]
    digits = next((d for d in (0, 1, 2) if all(end == 0.5 or round(100 * end, d) != 50 for end in ends)), 3)
    shown = [f"{100 * x:.{digits}f}" for x in (estimate["value"], *ends)]
    return f"{shown[0]}%" + (f" [{shown[1]}, {shown[2]}]" if len(ends) == 2 else "")


def _digits(estimate: dict[str, Any], unit: str) -> int:
    """Decimals that suit value, low and high alike."""
    shown = [abs(estimate[key]) for key in ("value", "low", "high") if not _missing(estimate[key])]
    return 1 if unit == "%" else _figures(max(shown, default=0))


def _figures(size: float) -> int:
    return min(6, max(0, 2 - floor(log10(size)))) if size > 0 else 0


def _missing(x: float | None) -> bool:
    return x is None or isnan(x)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
