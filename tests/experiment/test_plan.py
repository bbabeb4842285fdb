"""What a plan counts, by hand."""

import pytest

from cai.config.load import Arm
from cai.experiment.plan import CPU, of_preflight, tokens_of

# A prompt of 60 tokens, an answer of 110, and 60 for what one principle asks behind them.


def arm(**judge: object) -> Arm:
    return Arm.model_validate(
        {"constitution": "constitutions/quickstart.txt", "labels": "ai", "judge": judge,
         "data": {"source": "rated-answers", "calibration": 0.1, "calibration_pairs": 32}}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("judge", "drawn", "expected"),
    [
        # Two principles, each as it is, negated and under two placebos, of two answers that are read once.
        ({"method": "rate", "principles": 2}, 2, 2 * (170 + 8 * 60)),
        ({"method": "rate", "principles": 2, "preflight": None}, 2, 2 * (170 + 2 * 60)),
        # Off: a judge that does not read is not stopped, but it is measured all the same.
        ({"method": "rate", "principles": 2, "preflight": {"reads": "off"}}, 2, 2 * (170 + 8 * 60)),
        # Of sixteen, three are put to the test: 16 + 3 * 3 questions.
        ({"method": "rate", "principles": "all"}, 16, 2 * (170 + 25 * 60)),
        # Both answers stand in a question, in either order.
        ({"method": "choice", "principles": 1}, 1, 2 * (280 + 4 * 60)),
        # The principle stands first: both answers are read anew under each of four texts, for and against.
        ({"method": "contrast", "principles": 1}, 1, 2 * 4 * (280 + 60)),
        ({"method": {"rate": 1, "choice": 1}, "principles": 1}, 1, 2 * (170 + 4 * 60) + 2 * (280 + 4 * 60)),
    ],
)
def test_a_preflight_counts_its_controls(judge: dict[str, object], drawn: int, expected: float) -> None:
    assert of_preflight(arm(**judge), drawn, 0.0) == expected
    assert tokens_of("preflight", arm(**judge), (88, 100)) == ("read", 32 * expected)


def test_chains_of_thought_are_written_for_every_text() -> None:
    judge = {"method": "reason", "principles": 1, "reason": {"max_new_tokens": 50, "samples": 1}}
    # Two orders of four texts, 50 tokens each, at the speed of writing.
    written = 4 * 2 * 50 * CPU["read"] / CPU["generate"]
    assert tokens_of("preflight", arm(**judge), (88, 100))[1] == pytest.approx(32 * (2 * (280 + 4 * 60) + written))
