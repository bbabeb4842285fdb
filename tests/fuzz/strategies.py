"""What the fuzzed readers are given, how often, and what is held of them.

    run(property, strategy, share, many)   so many cases of the whole budget; the same ones each time
    kept_or_refused(action)                a value, or a UserError with a place: never a traceback, never a hang

The budget of all tests together is `CASES`, and ten times as many in the slow suite; CAI_FUZZ=20000 sets it by hand.
"""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from cai.core.errors import UserError, UserErrors

T = TypeVar("T")
CASES = int(os.environ.get("CAI_FUZZ", "2000"))
SHARES = {
    "yaml": 0.2, "set": 0.1, "tree": 0.05, "constitution": 0.12, "principles": 0.05, "template": 0.08, "value": 0.02,
    "rows": 0.15, "pairs": 0.03, "labels": 0.03, "log": 0.03, "feedback": 0.03, "reply": 0.04, "answer": 0.04,
    "manifest": 0.02, "results": 0.01,
}  # fmt: skip
SLOWEST = 60  # seconds that one case may take before it counts as one that hangs, on a machine that others use as well


def run(check: Callable[[Any], None], strategy: st.SearchStrategy, share: str, many: bool) -> None:
    """`check` of as many values of the strategy as its share of the budget is: the same values whenever it runs.

    many: ten times as many, and others.
    """
    count = round(SHARES[share] * CASES * (10 if many else 1))
    quiet = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
    ]
    case = settings(
        max_examples=count, derandomize=not many, deadline=None, database=None, suppress_health_check=quiet,
        phases=[Phase.explicit, Phase.generate, Phase.shrink], print_blob=False,
    )(given(strategy)(timed(check)))  # fmt: skip
    (seed(20261128)(case) if many else case)()


def timed(check: Callable[[Any], None]) -> Callable[[Any], None]:
    def within(value: Any) -> None:
        with no_hang():
            check(value)

    within.__name__ = within.__qualname__ = check.__name__  # by which hypothesis draws, where it is not to be random
    return within


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise AssertionError(f"it took more than {SLOWEST} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def kept_or_refused(action: Callable[[], T], place: str = "") -> T | None:
    """What comes of it, None where it is refused. place: what the `where` of each fault begins with."""
    try:
        return action()
    except UserError as error:
        for each in error.errors if isinstance(error, UserErrors) else (error,):
            assert each.problem and each.where.startswith(place) and each.where, (each.problem, each.where)
            assert "Traceback" not in str(each) and len(str(each)) < 6000, str(each)[:200]
            str(each).encode("utf-8", "backslashreplace")  # what the terminal is given
        return None


# Values ---------------------------------------------------------------------------------------------------------------

ODD = (
    "", " ", "\t", "\n", "\r\n", "\x00", "\x1b[2J", "\ud83d", "\udfff", "\ufeff", "\u202e", "\u2028", "é", "e\u0301",
    "𝔘", "ﷺ", "<|im_end|>", "[INST]", "{{ 1 }}", "{% for x in y %}", "{#", "</script>", "Human:", "\n\nAssistant:",
    "## user", "# T", "- ", "Prefer:", "Critique\\:", "Weight: 1e999", "null", "~", "NaN", "-Infinity", "1e999",
    "0x" + "f" * 5000, "9" * 5000, "[" * 30_000, "{" * 5000, '{"a":' * 3000, " " * 5000, "&a *a", "<<: *a", "? :",
    "!!python/object:os.system", "~nobody-is-called-so/x", "/dev/null", "../" * 40 + "etc/passwd", "a" * 300,
    "a/" * 3000, "yes", "1_000", "0o17",
)  # fmt: skip
ENDLESS = "digits without end"
letters = st.text(st.characters(), max_size=30)
texts = st.one_of(letters, st.sampled_from(ODD), st.text("ab \n:-#[]{}\"'|>&*!%@`,?\\0123.e+", max_size=40))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts,
    st.sampled_from([ENDLESS, 10**400, -(10**400), 2**63, 1e308, float("nan"), float("inf"), 0.1 + 0.2, -0.0]),
)  # fmt: skip


def nested(keys: st.SearchStrategy[str], leaves: st.SearchStrategy = scalars) -> st.SearchStrategy:
    def more(inner: st.SearchStrategy) -> st.SearchStrategy:
        return st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4))

    return st.recursive(leaves, more, max_leaves=12)


values = nested(texts)


def mutated(draw: st.DrawFn, text: str) -> str:
    """A text that was right, with something cut out, put in, or said twice; or as it was."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.one_of(st.just(""), texts, st.just(text[start:end] * 2))) + text[end:]
    return text


def mutated_bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 12)))
        raw = (
            raw[:start] + draw(st.one_of(st.just(b""), st.binary(max_size=8), st.just(raw[start:end] * 2))) + raw[end:]
        )
    return raw


def as_json(value: Any) -> str:
    """As a file may hold it: NaN, and whole numbers with more digits than Python writes, among it."""
    return json.dumps(value).replace(f'"{ENDLESS}"', "9" * 5000)
