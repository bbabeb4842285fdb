"""A sweep's end: one long table of everything that was measured at every point, and a page of small plots.

    runs/<sweep>/sweep.csv, sweep.parquet    a row for each number (see `COLUMNS`)
    runs/<sweep>/sweep.html                  a plot for each measure, over the swept keys
    runs/<sweep>/<point>/                    each point's own report, as of any run

The long form is what R, pandas and DuckDB group by; no number is in the page that is not in the table.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.compare import table
from cai.compare.facets import write_page
from cai.config.sweep import text
from cai.core.durable import make_folders, whole, write_whole

# After a column for each swept key. seed: empty for what is over all seeds. low, high: of the 95% interval.
COLUMNS = ("arm", "seed", "measure", "value", "low", "high", "n", "clusters")
ENDS = ("value", "low", "high", "n", "clusters")
KINDS = {"judge": "labels", "reward": "reward_model", "baseline": "baseline", "ceiling": "people"}
# Of the many, those that are printed at the end.
PRINTED = ("labels_accuracy", "judge_first_shown", "reward_accuracy", "win_rate_vs_sft")

Row = dict[str, Any]


def finish_sweep(name: str, results: Sequence[Mapping[str, Any]], root: Path) -> list[Row]:
    """Write the long table and the page of a sweep, and print a summary. results: of each point."""
    home = root / name
    make_folders(home)
    axes = list(results[0]["point"])
    rows = [{**shown(one["point"]), **row} for one in results for row in long_rows(one)]
    write_csv(home / "sweep.csv", axes, rows)
    write_parquet(home / "sweep.parquet", axes, rows)
    write_page(home / "sweep.html", name, results[0]["question"], axes, rows, [one["name"] for one in results])
    for one in results:
        print(", ".join(f"{key} {value}" for key, value in shown(one["point"]).items()))
        for row in long_rows(one):
            if row["measure"] in PRINTED and row["seed"] is None and row["n"]:
                ends = f"{table.value(row)} {table.interval(row)}".translate(table.ASCII)
                print(f"    {row['measure']:<20} {row['arm']:<12} {ends}")
    print(f"\nplots: {home / 'sweep.html'}\nnumbers: {home / 'sweep.csv'}, {home / 'sweep.parquet'}")
    return rows


def shown(point: Mapping[str, Any]) -> dict[str, Any]:
    """Swept values as a table can hold them: numbers and truth values as they are, all else as text."""
    return {key: value if isinstance(value, bool | int | float) else text(value) for key, value in point.items()}


def long_rows(results: Mapping[str, Any]) -> Iterator[Row]:
    """Every number of a results.json with its interval, less the swept keys."""
    for line in results["measures"]:
        for arm, estimate in line["arms"].items():
            yield row(arm, None, line["key"], estimate)
        if line["difference"]:
            first, second = line["difference"]["of"]
            yield row(f"{first} - {second}", None, f"{line['key']}_difference", line["difference"]["estimate"])
    for line in results["replicas"]:
        for arm, estimate in line["arms"].items():
            yield row(arm, line["seed"], line["key"], estimate)
    for line in results["labels"]:
        if line["split"] == "train":
            continue  # what the reward models learned from, not what is reported
        arm = line["arm"] or line["name"]
        for key in ("accuracy", "balanced", "auc", "picks_shorter"):
            if line[key]:
                yield row(arm, line["seed"], f"{KINDS[line['kind']]}_{key}", line[key])
    for judge in results["judges"]:
        for key, estimate in judge["labels"].items():
            if isinstance(estimate, dict) and set(estimate) == set(ENDS):
                yield row(judge["arm"], None, f"judge_{key}", estimate)
    for rated in results["elo"]:
        named = rated["policy"] if rated["arm"] is None else f"{rated['arm']}/{rated['seed']}"
        if named == rated["policy"]:  # of several rounds, the last
            yield row(rated["arm"] or named, rated["seed"], "elo", rated["elo"])
    if results["headline"]:
        yield row(" vs ".join(results["headline"]["arms"]), None, "wins", results["headline"]["estimate"])
    for entry in results.get("audit", []):  # revisions 0 to n; without a number: the last one
        for step in (*entry["steps"], {**entry["steps"][-1], "step": None} if entry["steps"] else {}):
            for key, estimate in step.items():
                if isinstance(estimate, dict):
                    place = "" if step["step"] is None else f"@{step['step']}"
                    yield row(", ".join(entry["arms"]), None, f"revision_{key}{place}", estimate)
        if entry.get("followed"):
            effect = entry["followed"]["effect"]
            told = {"follows": effect["moved"]["less_placebo"], "turns": effect["moved"]["less_opposite"]}
            for key, estimate in {**told, "decided": effect["decided"]["placebo"]}.items():
                yield row(", ".join(entry["arms"]), None, f"revision_{key}", estimate)
    if results["crossing"]:
        found = results["crossing"]
        ends = {"value": found["at"]["labels"], **{end: found[end]["labels"] for end in ("low", "high")}}
        yield row(
            " vs ".join(found["arms"]), None, "crossing_labels", {**ends, **{k: found[k] for k in ("n", "clusters")}}
        )


def row(arm: str, seed: int | None, measure: str, estimate: Mapping[str, Any]) -> Row:
    return {"arm": arm, "seed": seed, "measure": measure, **{key: estimate[key] for key in ENDS}}


def write_csv(path: Path, axes: Sequence[str], rows: Sequence[Row]) -> None:
    """An empty field is a number that does not exist (no interval, no data); truth values are true and false."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*axes, *COLUMNS])
    for one in rows:
        cells = (one[name] for name in (*axes, *COLUMNS))
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in cells])
    write_whole(path, file.getvalue())


def write_parquet(path: Path, axes: Sequence[str], rows: Sequence[Row]) -> None:
    """Typed as the values are; a swept key whose values are of several types is text."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    types = {"arm": pa.string(), "seed": pa.int64(), "measure": pa.string(), "n": pa.int64(), "clusters": pa.int64()}
    columns = {}
    for name in (*axes, *COLUMNS):
        values = [one[name] for one in rows]
        if name in axes:
            kinds = {type(value) for value in values}
            kind = {frozenset({bool}): pa.bool_(), frozenset({int}): pa.int64()}.get(frozenset(kinds))
            kind = kind or (pa.float64() if kinds <= {int, float} else pa.string())
            values = [text(value) if kind == pa.string() else value for value in values]
        else:
            kind = types.get(name, pa.float64())
        columns[name] = pa.array(values, kind)
    with whole(path) as aside:
        write_table(pa.table(columns), aside)
