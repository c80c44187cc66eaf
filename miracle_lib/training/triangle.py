"""Lower triangles of symmetric matrices of labelled pairs: on disk where large, never copied.

At 10,000 pairs one matrix is 0.8 GB, and the heads keep several. They are computed in memory one
at a time; a large one is then kept in a temporary file without a name, which is gone when nothing
refers to it any more, however the process ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky
from scipy.linalg.blas import dtrmv, dtrsv

from miracle_lib.stored import scratch_array

IN_MEMORY = 2**24  # bytes of a matrix that stays in memory: 1,448 pairs
WIDTH = 256  # columns handled at a time: narrow strips compute little above the diagonal


def square(n: int) -> np.ndarray:
    """Return a matrix of zeros whose columns lie side by side, as LAPACK works on it in place."""
    return np.zeros((n, n), order="F")


def strips(n: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of rectangles that cover the lower triangle: bounds memory."""
    for start in range(0, n, WIDTH):
        yield slice(start, n), slice(start, min(start + WIDTH, n))


def kept(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix of `square` as it is, or in a temporary file if it is large.

    Raises
    ------
    MiracleError
        As `scratch_array`.
    """
    if matrix.nbytes <= IN_MEMORY:
        return matrix
    what = f"the inner products of {len(matrix):,} labelled samples"
    file = scratch_array(matrix.shape, what, np.float64).T
    file[:] = matrix
    return file


@dataclass(frozen=True)
class Root:
    """Lower triangle L with L L' a covariance, times a factor.

    Attributes
    ----------
    triangle : ndarray, shape (n_pairs, n_pairs)
    factor : float
    """

    triangle: np.ndarray
    factor: float = 1.0

    @classmethod
    def of(cls, covariance: np.ndarray) -> "Root":
        """Return the Cholesky root of a matrix of `square`, made safe against rounding.

        The covariance is overwritten.
        """
        diagonal = np.diag_indices_from(covariance)
        covariance[diagonal] += 1e-6 * covariance[diagonal].mean() + 1e-12
        return cls(kept(cholesky(covariance, lower=True, overwrite_a=True)))

    def __mul__(self, factor: float) -> "Root":
        return Root(self.triangle, self.factor * factor)

    def __matmul__(self, vector: np.ndarray) -> np.ndarray:
        return self.factor * dtrmv(self.triangle, vector, lower=1)

    def transposed(self, vector: np.ndarray) -> np.ndarray:
        """Return L' times a vector."""
        return self.factor * dtrmv(self.triangle, vector, lower=1, trans=1)

    def solve_transposed(self, vector: np.ndarray) -> np.ndarray:
        """Return the vector that L' takes to the given one."""
        return dtrsv(self.triangle, vector, lower=1, trans=1) / self.factor
