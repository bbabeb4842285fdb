"""In what two arms' settings differ."""

from cai.config.flat import part_of, unlike


def test_a_section_that_one_does_without_stands_for_what_the_other_has_in_it():
    with_it = {"judge.preflight.pairs": 40, "judge.preflight.least": 0.6, "judge.method": "rate", "seed": 0}
    without = {"judge.preflight": None, "judge.method": "choice", "seed": 0}
    assert unlike(with_it, without) == ["judge.method", "judge.preflight"]
    assert unlike(without, with_it) == ["judge.preflight", "judge.method"]
    assert unlike(with_it, with_it) == []
    assert (part_of(with_it, "judge.preflight"), part_of(without, "judge.panel")) == ("{…}", "–")
