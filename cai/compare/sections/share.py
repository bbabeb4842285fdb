"""What share of what human labels give over a coin's do the judge's labels give? And how much of it the constitution?

An arm whose labels are `shuffled` is the null, one whose labels are `human` the reference; every other arm is held
against both, on each measure, with Fieller's interval over prompts and seeds (cai/stats/share.py):

    share = (arm - null) / (human - null)

Where two arms are labelled by judges that read different constitutions, such as a placebo, the first less the other is
shown on the same scale: what the text gives. The claim is about other held-out prompts and other seeds of reward model,
policy and coin, not about other prompts to train on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.measures import HeldOutPairs, Rows, average, by_judge, game_rows, outcomes, reward_rows
from cai.compare.section import ReportSection
from cai.config.labels import Who
from cai.core.records import Estimate, Number
from cai.stats.crossed import Contrast, contrast
from cai.stats.share import Form, Share, share


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLine:
    """One arm on one measure. over: the null, or the arm with another constitution that it is compared with.

    gain: arm less `over`; whole: reference less null. share: None where none can be given. value, form, low, high:
    Fieller's set as cai/stats/share.py has it, None for an end that there is not. unit: of gain and whole.
    """

    key: str
    title: str
    unit: str
    arm: str
    over: str
    gain: Estimate
    whole: Estimate
    share: Estimate | None
    value: Number
    form: Form
    low: float | None
    high: float | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """sentence: of the first arm that a judge labels (or the first of all) by the agreement of its reward models."""

    null: str
    reference: str
    seeds: int
    sentence: str
    lines: list[ShareLine]


@dataclass(frozen=True, slots=True)
class _Measure:
    """of: name of a cell -> outcomes, more of which is better. reach: how far apart two can be; None without end."""

    key: str
    title: str
    unit: str
    of: Callable[[str], Rows]
    cluster: Callable[[str], str] = lambda row: row
    of_policies: bool = True

    @property
    def reach(self) -> float | None:
        return 1.0 if self.unit == "%" else None


def shares(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> Shares | None:
    """None where the experiment has no arm labelled by a coin, none by people, or no third one."""
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    null, reference = _labelled_by(cells, "shuffled"), _labelled_by(cells, "human")
    others = [arm for arm in arms if arm not in (null, reference)]
    if null is None or reference is None or not others:
        return None
    names = {arm: [cell.name for cell in cells if cell.arm == arm] for arm in arms}
    pairs, acting = [(arm, null) for arm in others] + _constitutions(cells), {cell.arm for cell in with_policy(cells)}
    lines = [
        _line(measure, names, (arm, over), (reference, null))
        for measure in _measures(cells, measured, held_out, reference)
        for arm, over in pairs
        if not measure.of_policies or acting >= {arm, over, reference, null}
    ]
    lines = [line for line in lines if line.gain.n]
    if not lines:
        return None
    judge = _labelled_by(cells, "ai") or others[0]
    first = next((line for line in lines if line.arm == judge), lines[0])
    return Shares(
        null=null, reference=reference, seeds=len(names[null]), sentence=first.sentence, lines=lines,
    )  # fmt: skip


def _labelled_by(cells: Sequence[Cell], who: Who) -> str | None:
    """The first arm that this source alone labels."""
    return next((cell.arm for cell in cells if cell.settings.labels.all == (who,)), None)


def _constitutions(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """(first arm that a judge alone labels, each other such arm whose judge reads another text)."""
    judged = list({cell.arm: cell for cell in cells if cell.settings.labels.all == ("ai",)}.values())
    return [
        (judged[0].arm, other.arm) for other in judged[1:] if other.constitution.text != judged[0].constitution.text
    ]


def _measures(
    cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs, reference: str
) -> list[_Measure]:  # fmt: skip
    found = []
    if held_out.human and all(cell.reward for cell in cells):

        def agreement(name: str) -> Rows:
            return held_out.agreement(held_out.margins.get(name, {}), held_out.human)

        found.append(
            _Measure(
                "reward_accuracy",
                "reward model agrees with people",
                "%",
                agreement,
                held_out.cluster,
                of_policies=False,
            )
        )
    judges = [cell.name for cell in with_policy(cells) if cell.arm == reference and cell.reward]
    if judges:

        def rewards(name: str) -> Rows:
            return average([reward_rows(measured, judge, name) for judge in judges])

        found.append(_Measure(f"reward_{reference}", f"reward by the {reference} reward models, sd", "", rewards))
    wins = "wins against the SFT policy"
    found.append(_Measure("win_rate_vs_sft", wins, "%", lambda name: game_rows(measured, name, "sft")))
    if ("sft", "red-team") in measured.merits:
        found.append(_Measure("harmlessness", "harmlessness, log-odds", "", by_judge(measured, "red-team")))
    return found


def _line(
    measure: _Measure, names: dict[str, list[str]], of: tuple[str, str], whole: tuple[str, str]
) -> ShareLine:  # fmt: skip
    """of: (arm, what it is held against); whole: (reference, null)."""
    seeds = {arm: [measure.of(name) for name in names[arm]] for arm in dict.fromkeys((*of, *whole))}
    rows = list(average([one for replicas in seeds.values() for one in replicas]))
    table = {arm: outcomes(replicas, rows) for arm, replicas in seeds.items()}
    clusters = [measure.cluster(row) for row in rows]
    part, total = table[of[0]] - table[of[1]], table[whole[0]] - table[whole[1]]
    gain, gained = (contrast(one, clusters, reach=measure.reach) for one in (part, total))
    ratio = share(part, total, clusters)
    given = ratio.form == "interval" and gained.estimate.value > 0
    low, high = (end if abs(end) < float("inf") else None for end in (ratio.low, ratio.high))
    return ShareLine(
        key=measure.key, title=measure.title, unit=measure.unit, arm=of[0], over=of[1],
        gain=gain.estimate, whole=gained.estimate,
        share=Estimate(ratio.value, ratio.low, ratio.high, ratio.n, ratio.clusters) if given else None,
        value=ratio.value, form=ratio.form, low=None if low != low else low, high=None if high != high else high,
        sentence=_sentence(measure, ratio, (gain, gained), of, whole),
    )  # fmt: skip


def _sentence(
    measure: _Measure, ratio: Share, gains: tuple[Contrast, Contrast], of: tuple[str, str], whole: tuple[str, str]
) -> str:
    """What may be said, in words. gains: of the arm and of the reference."""
    gain, gained = gains
    (arm, over), (reference, null) = of, whole
    about = f"over {ratio.clusters} held-out prompts and {ratio.seeds} seeds"
    if ratio.seeds == 1:
        about = f"over {ratio.clusters} held-out prompts, for this seed only"
    named = f"“{measure.title}”"
    whole_gain = f"{reference} − {null} = {_number(gained.estimate, measure.unit)}"
    if ratio.form == "unknown":
        return f"By {named}: nothing varies, or there is one prompt, so a share has no interval."
    if ratio.form != "interval":
        where = {
            "outside": f"; a share would be at most {_percent(ratio.low)} or at least {_percent(ratio.high)}",
            "anything": "; every share would be believable",
        }[ratio.form]
        return (
            f"By {named}, what {reference} labels give over a coin's cannot be shown ({whole_gain}, {about}), "
            f"so no share is given{where}."
        )
    if gained.estimate.value < 0:
        return f"By {named}, {reference} labels give less than a coin's ({whole_gain}, {about}), so no share is given."
    what = f"{arm} labels give" if over == null else f"what {arm} labels give beyond those of {over} is"
    gain_of = f"{arm} − {over} = {_number(gain.estimate, measure.unit)}"
    return (
        f"By {named}, {what} {_percent(ratio.value)} [{_percent(ratio.low)}, {_percent(ratio.high)}] of what "
        f"{reference} labels give over a coin's ({gain_of}, {whole_gain}, {about})."
    )


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%".replace("-", "−")


def _number(e: Estimate, unit: str) -> str:
    """`+18.0 points [+9.1, +26.9]`"""
    scale, digits, word = (100, 1, " points") if unit == "%" else (1, 2, "")
    value, low, high = (f"{scale * x:+.{digits}f}".replace("-", "−") for x in (e.value, e.low, e.high))
    return f"{value}{word} [{low}, {high}]"


SECTION = ReportSection(
    "share", "The share of human labels", Shares, lambda run: shares(run.cells, run.measured, run.held_out),
    chapter="rewards", template="share.html.jinja",
)  # fmt: skip
