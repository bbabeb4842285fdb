"""What is said of judges that were not seen to read, before the first number."""

from typing import Any

from cai.compare.caveats import caveat, caveats


def entry(arm: str, *unread: str, method: str = "channel", measured: bool = True) -> dict[str, Any]:
    found = {"arm": arm, "method": method, "measured": measured, "reads": measured and not unread}
    return found | {"unread": list(unread)}


def test_what_is_so_of_several_arms_is_said_once() -> None:
    even, harmless, other = (
        entry("even", "it is deaf"),
        entry("harmless-first", "it is deaf"),
        entry("other", "it is mute"),
    )
    checked = entry("sums", method="check", measured=False)
    assert caveats([entry("read"), even, other, harmless, checked]) == [
        "The AI labels of arms even and harmless-first do not come from their constitutions, as far as could be seen: "
        "it is deaf.",
        "The AI labels of arm other do not come from its constitution, as far as could be seen: it is mute.",
        "The labels of arm sums were computed by programs; no judge read the constitution.",
    ]
    assert caveats([entry("read")]) == []
    assert caveat(entry("a", measured=False), ["a", "b", "c"]) == (
        "Whether the AI labels of arms a, b and c come from their constitutions was not measured."
    )
