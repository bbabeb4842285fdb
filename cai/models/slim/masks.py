"""Which weights of a matrix stay when the others become 0.

    magnitude   the largest of the whole matrix (Han et al. 2015; layer by layer, as Sun et al. 2024 compare with it)
    wanda       of each row, those with the largest |weight| x norm of the inputs that it is multiplied by (Sun et al.
                2024, "A Simple and Effective Pruning Approach for Large Language Models", section 3)

2:4 keeps two of every four neighbours of a row (Mishra et al. 2021), by the same scores.
"""

from typing import Literal

import torch
from torch import Tensor

Sparsity = float | Literal["2:4"]
GROUP, KEPT = 4, 2  # of 2:4


def magnitude(weight_OI: Tensor, sparsity: Sparsity) -> Tensor:
    """True where a weight stays, shape (outputs, inputs)."""
    scores_OI = weight_OI.abs()
    if sparsity == "2:4":
        return two_of_four(scores_OI)
    return highest(scores_OI.reshape(1, -1), sparsity).reshape(weight_OI.shape)


def wanda(weight_OI: Tensor, norms_I: Tensor, sparsity: Sparsity) -> Tensor:
    """True where a weight stays, shape (outputs, inputs). norms_I: of each input, its L2 norm over the tokens."""
    scores_OI = weight_OI.abs() * norms_I
    return two_of_four(scores_OI) if sparsity == "2:4" else highest(scores_OI, sparsity)


def highest(scores_RN: Tensor, sparsity: float) -> Tensor:
    """True for all but the lowest floor(sparsity * N) of each row; of equal ones the first goes first."""
    dropped = int(scores_RN.shape[1] * sparsity)
    order_RN = scores_RN.argsort(dim=1, stable=True)
    return torch.ones_like(scores_RN, dtype=torch.bool).scatter_(1, order_RN[:, :dropped], False)


def two_of_four(scores_OI: Tensor) -> Tensor:
    """True for the two highest of every four neighbours. Raises ValueError where a row is no whole number of fours."""
    outputs, inputs = scores_OI.shape
    if inputs % GROUP:
        raise ValueError(f"{inputs} inputs cannot be divided into groups of {GROUP}")
    return highest(scores_OI.reshape(-1, GROUP), 1 - KEPT / GROUP).reshape(outputs, inputs)
