"""Pruning that mends what it takes away: SparseGPT (Frantar & Alistarh 2023, algorithm 1).

Column by column, from the first input to the last: a weight that becomes 0 leaves an error in what the layer gives, and
the columns that are still to come are changed so that the error over the calibration texts is least. With H the sum of
x x' over the inputs, U the upper Cholesky factor of its inverse, and e = w / U_ii the error of column i, column j is
changed by -e U_ij. Which weights go is decided by w^2 / U_ii^2: for a block of columns at a time over all rows, or for
2:4 among four columns of each row. What llm-compressor does as well, which asks for an older transformers than ours.
"""

import torch
from torch import Tensor

from cai.models.slim.masks import GROUP, Sparsity, highest, two_of_four

BLOCK = 128  # columns for which the weights that go are chosen together
DAMP = 0.01  # of the mean of H's diagonal, added to it: H of few texts has no inverse


def sparse_gpt(weight_OI: Tensor, gram_II: Tensor, sparsity: Sparsity, damp: float = DAMP) -> Tensor:
    """The pruned weights, shape (outputs, inputs). gram_II: H. Raises ValueError as `two_of_four` does."""
    w_OI, h_II = weight_OI.double().clone(), gram_II.double().clone()
    inputs = w_OI.shape[1]
    if sparsity == "2:4" and inputs % GROUP:
        two_of_four(w_OI)
    unused = h_II.diagonal() == 0  # inputs that were never anything but 0: their weights do nothing
    h_II[unused, unused] = 1
    w_OI[:, unused] = 0
    h_II.diagonal().add_(damp * h_II.diagonal().mean())
    u_II = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h_II)), upper=True)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors_OB = torch.zeros_like(w_OI[:, start:end])
        stays_OB = torch.ones_like(errors_OB, dtype=torch.bool)
        if sparsity != "2:4":
            scores_OB = (w_OI[:, start:end] / u_II.diagonal()[start:end]).square()
            stays_OB = highest(scores_OB.reshape(1, -1), sparsity).reshape(scores_OB.shape)
        for place in range(end - start):
            i = start + place
            if sparsity == "2:4" and place % GROUP == 0:
                scores_OG = (w_OI[:, i : i + GROUP] / u_II.diagonal()[i : i + GROUP]).square()
                stays_OB[:, place : place + GROUP] = two_of_four(scores_OG)
            kept_O = w_OI[:, i] * stays_OB[:, place]
            errors_OB[:, place] = (w_OI[:, i] - kept_O) / u_II[i, i]
            w_OI[:, i:end] -= errors_OB[:, place, None] * u_II[i, i:end]
            w_OI[:, i] = kept_O
        w_OI[:, end:] -= errors_OB @ u_II[start:end, end:]
    return w_OI.to(weight_OI.dtype)
