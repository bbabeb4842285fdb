"""What a comparison of finished runs has of their own reports, and what it says it has not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cai.compare.carried import ComparedRuns
from cai.compare.contents import SECTIONS
from cai.compare.runs import FinishedRun, agreed_publics, check
from cai.config.load import Arm
from cai.config.publics import Publics
from cai.core.errors import UserError
from cai.core.store import Store, version

GROUPS = {"brief": ("ann",), "long": ("bob", "cleo")}


@version(1)
def say(out: Path, work: Any, *, what: str) -> None:
    (out / "labels.jsonl").write_text(what)


def a_run(root: Path, name: str, arm: Arm | None = None, links: dict | None = None, publics: Any = None) -> FinishedRun:
    experiment: Any = SimpleNamespace(publics=publics, seeds=(0,), arms={"one": arm} if arm else {})
    home = root / name
    home.mkdir(parents=True)
    return FinishedRun(home, root, experiment, SimpleNamespace(), {"one/0": links or {}})  # pyrefly: ignore


def said(store: Store, **what: str) -> dict[str, Any]:
    return {"publics": {group: str(store.stage(say, what=text).path) for group, text in what.items()}}


def test_what_is_not_carried_over_is_named_with_where_it_is() -> None:
    """Of a section that is empty here as well, nothing is lost."""
    own = {"runs/a": {"crossing", "labels", "publics"}, "runs/b": {"labels"}, "runs/c": {"crossing"}}
    here = {section.key: section.empty for section in SECTIONS} | {"labels": [1], "rounds": []}
    assert ComparedRuns(own=own).not_carried_over(here) == [
        "Not carried over from runs/a: How many human labels is the judge worth?; Several publics. Its own report has "
        "them: runs/a/report.html",
        "Not carried over from runs/c: How many human labels is the judge worth?. Its own report has it: "
        "runs/c/report.html",
    ]
    assert ComparedRuns().not_carried_over(here) == []


def test_publics_are_those_that_all_runs_with_any_agree_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publics, others = (Publics(file="l.jsonl", groups=groups) for groups in (GROUPS, {**GROUPS, "brief": ("dan",)}))
    monday = a_run(tmp_path, "monday", links=said(store, brief="a", long="b"), publics=publics)
    tuesday = a_run(tmp_path, "tuesday", links=said(store, brief="a", long="b"), publics=publics)
    plain = a_run(tmp_path, "plain")
    found, labels = agreed_publics([plain, monday, tuesday])
    assert found == publics and {group: (made / "labels.jsonl").read_text() for group, made in labels.items()} == {
        "brief": "a", "long": "b",
    }  # fmt: skip
    more = a_run(tmp_path, "more", links=said(store, brief="a", long="b, and later c"), publics=publics)
    dan = a_run(tmp_path, "dan", links=said(store, brief="a", long="b"), publics=others)
    old = a_run(tmp_path, "old", publics=publics)
    for runs in ([plain], [monday, more], [monday, dan], [old], [monday, old]):
        assert agreed_publics(runs) == (None, {})


def arm(**given: Any) -> Arm:
    return Arm.model_validate({"constitution": "x.txt", "data": {"source": "rated-answers"}} | given)


def test_a_run_without_what_the_comparison_reads_is_to_be_run_again(tmp_path: Path) -> None:
    """Each judge of a panel: else it would be said that nobody measured whether it reads."""
    panel = arm(judge={"panel": {"judges": [{}, {"method": "choice"}]}})
    distils, plain = arm(rl={"method": "self_distil"}), arm()
    new = {"everyday": {}, "panel": []}
    cases = [
        ((panel, {}), (panel, new), ["runs/0"]),
        ((plain, {}), (plain, new), []),
        ((plain, {}), (distils, new), ["runs/0"]),
        ((distils, new), (plain, {"everyday": {}}), []),
    ]
    for number, (*runs, old) in enumerate(cases):
        root = tmp_path / str(number)
        made = [a_run(root / "runs", str(place), *run) for place, run in enumerate(runs)]
        if old:
            with pytest.raises(UserError, match="an older version made this run") as error:
                check(made)
            assert error.value.where.endswith(old[0]) and "run its experiment again" in error.value.remedy
        else:
            check(made)
