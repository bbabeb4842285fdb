"""What is said of judges that were not seen to read, before the first number."""

from typing import Any

import pytest
from reports import est, results, with_placebo

from cai.compare.caveats import caveat, caveats, spoken_of
from cai.compare.table import sentence


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
        "Whether the AI labels of arms a, b and c come from their constitutions was not measured "
        "(judge.preflight leaves it out)."
    )


def test_what_was_left_unmeasured_on_purpose_stands_first_only_of_arms_that_the_answer_is_about() -> None:
    """A placebo's labels are not in "ai beats human": what its config leaves out is no finding about that."""
    given = with_placebo()
    assert sentence(given).startswith("On 118 held-out prompts and 2 seeds, ai beats human in 52%")
    given["headline"]["arms"] = ["ai-placebo", "human"]
    assert sentence(given).startswith("Whether the AI labels of arm ai-placebo come from its constitution was not")
    deaf = {**given["reading"][0], "arm": "other", "reads": False, "unread": ["it is deaf"]}
    given["headline"]["arms"] = ["ai", "human"]
    given["reading"].append(deaf)
    assert sentence(given).startswith("The AI labels of arm other do not come from its constitution"), "it is a finding"


@pytest.mark.parametrize(
    ("given", "arms"),
    [
        ({}, {"ai", "human"}),
        ({"share": {"sentence": "s", "lines": [{"arm": "c", "over": "coin", "sentence": "s"}]}},
         {"ai", "human", "c", "coin"}),
        ({"headline": None, "measures": []}, {"ai", "human", "third"}),
        ({"headline": None, "measures": [
            {"key": "reward_accuracy", "title": "", "unit": "%", "better": None, "help": "", "arms": {},
             "difference": {"of": ["ai", "third"], "estimate": est(0.1), "noise": None}}]}, {"ai", "third"}),
    ],
)  # fmt: skip
def test_of_whom_the_answer_speaks(given: dict[str, Any], arms: set[str]) -> None:
    assert spoken_of(results() | {"arms": ["ai", "human", "third"]} | given) == arms


def test_a_criterion_or_a_judge_of_a_panel_is_its_arms() -> None:
    views = [entry("ai harmless", measured=False), entry("ai-b judge 1", measured=False)]
    assert caveats(views, {"ai"}) == [
        "Whether the AI labels of arm ai harmless come from its constitution was not measured "
        "(judge.preflight leaves it out)."
    ]
