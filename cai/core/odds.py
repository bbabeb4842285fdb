"""Probabilities and log-odds of one number, and which side of a middle it lies on."""

import math

EXACT = 1 - 1e-15  # as sure as a logit may be where nothing but infinity is to be kept away


def sigmoid(x: float) -> float:
    """Log-odds -> probability, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def logit(p: float, most: float = EXACT) -> float:
    """Log-odds of a probability, which is taken to be no surer than `most` either way."""
    p = min(max(p, 1 - most), most)
    return math.log(p / (1 - p))


def side(value: float, middle: float = 0.0) -> int:
    """1 above the middle, -1 below it, 0 on it (and for NaN). Of P(a better), the middle is 0.5."""
    return (value > middle) - (value < middle)
