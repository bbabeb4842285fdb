"""What a judge must show on a sample before it labels: `judge.preflight`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cai.config.section import Positive, Section, Share
from cai.config.validation import Fault


class Reads(Section):
    """What a judge must show before it is believed to read its constitution (cai/judge/reads/effect.py,
    cai/judge/reads/verdict.py)."""

    # The upper end of the turn's interval must be below this: the negation has been seen to turn the verdicts.
    turn: Annotated[float, Field(ge=-1, le=1)] = 0.0
    # Of the variance of its log-odds, at least so much must be the text's. From 0.05 on, with a turn of -1, the
    # negation of the text turns one label in six.
    share: Share = 0.05
    # The upper end of the gain's interval must be above this: it has not been seen to do worse than under a placebo.
    gain: Annotated[float, Field(ge=-1, le=1)] = 0.0


def _switch(value: Any) -> Any:
    """`off`, which YAML reads as false, and `on`."""
    if value is None or value is False or value == "off":
        return None
    if value is True or value == "on":
        return {}
    if not isinstance(value, dict | Reads):
        raise Fault(f"judge.preflight.reads is off, or a section of thresholds, not {value!r}", "write reads: off")
    return value


class Preflight(Section):
    """A sample is judged before all pairs are. Below one of these the run stops, and says what would do better.

    reads: off goes on with a judge that was not seen to read its constitution; the report then says so first.
    """

    pairs: Positive = 48
    # The median share of probability that the options have together.
    mass: Share = 0.05
    # How often both orders of a question name the same answer (methods that show both answers).
    consistency: Share = 0.5
    # Agreement with people, where people judged the sample.
    accuracy: Share = 0.5
    reads: Annotated[Reads | None, BeforeValidator(_switch)] = Reads()
