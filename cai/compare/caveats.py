"""What stands before a report's first number: where labels come from, if their judge was not seen to read."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cai.config.rubric import RUBRIC


def spoken_of(results: Mapping[str, Any]) -> set[str]:
    """The arms that the report's answer is about (cai/compare/table.py: `answer`)."""
    line = next((m for m in results.get("measures", ()) if m["key"] == "reward_accuracy" and m.get("difference")), None)
    compared = results["headline"]["arms"] if results.get("headline") else line and line["difference"]["of"]
    share = results.get("share") or {"lines": []}
    shares = [line for line in share["lines"] if line["sentence"] == share["sentence"]]
    return {*(compared or results["arms"]), *(arm for line in shares[:1] for arm in (line["arm"], line["over"]))}


def caveats(entries: Sequence[dict[str, Any]], spoken: Collection[str] | None = None) -> list[str]:
    """What a reader must know before the first number, once for all arms of which it is so.

    spoken: the arms that this number is about, None for all. Of others only that a judge was seen not to read: what
    their configs leave unmeasured, such as a placebo's labels, is no finding, and says nothing about the number.
    """
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        about = spoken is None or any(f"{entry['arm']} ".startswith(f"{arm} ") for arm in spoken)
        if not entry["reads"] and (about or entry["measured"]):
            alike.setdefault((entry["method"], entry["measured"], *entry["unread"]), []).append(entry)
    return [caveat(same[0], [entry["arm"] for entry in same]) for same in alike.values()]


def caveat(entry: dict[str, Any], arms: Sequence[str]) -> str:
    """What a reader must know first of arms whose judge was not seen to read; "" for one that was."""
    if entry["reads"]:
        return ""
    whose = f"arm {arms[0]}" if len(arms) == 1 else f"arms {', '.join(arms[:-1])} and {arms[-1]}"
    if entry["method"] == "provenance":
        wrote = "say under which instruction an answer was written"
        return f"The labels of {whose} {wrote}; no judge read the constitution."
    if entry["method"] == RUBRIC:
        return f"The labels of {whose} are scores by criteria; whether they come from a constitution was not measured."
    if entry["method"] == "check":
        return f"The labels of {whose} were computed by programs; no judge read the constitution."
    text = "its constitution" if len(arms) == 1 else "their constitutions"
    if not entry["measured"]:
        return f"Whether the AI labels of {whose} come from {text} was not measured (judge.preflight leaves it out)."
    return f"The AI labels of {whose} do not come from {text}, as far as could be seen: {'; '.join(entry['unread'])}."
