"""Values in a file, read before they are wanted.

What is touched of a mapped file is read then, and with it what the system takes to come next: for a
strip of features whole samples, and those again for the next strip where not all fits into memory.
"""

import ctypes
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from torch import Tensor

LARGE = 2**30  # bytes; what is smaller stays in the system's memory
NORMAL, RANDOM, WILL_NEED = 0, 1, 3  # POSIX_MADV_*, on Linux as on macOS


def _advise() -> Callable[[int, int, int], int]:
    """Return the system's function that takes an address, a length and what will be done there."""
    try:
        function = ctypes.CDLL(None).posix_madvise
    except (AttributeError, OSError, TypeError):  # Windows
        return lambda *_: 0
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


ADVISE = _advise()


def _takes_advice(values: Tensor) -> bool:
    """Whether values may lie in a file that is larger than memory."""
    return values.device.type == "cpu" and values.untyped_storage().nbytes() >= LARGE


def read_ahead(values: Tensor, rows: np.ndarray) -> None:
    """Have the system read some rows of values in a file, and nothing around them; do not wait.

    Nothing happens where the values are in memory or on another device.
    """
    if not _takes_advice(values):
        return
    step, size = values.stride(0) * values.element_size(), values.shape[1] * values.element_size()
    start = values.data_ptr() + rows * step
    page = start // mmap.PAGESIZE * mmap.PAGESIZE
    for first, length in zip(page.tolist(), (start + size - page).tolist(), strict=True):
        ADVISE(first, length, WILL_NEED)


@contextmanager
def nothing_around(values: Tensor) -> Iterator[None]:
    """Meanwhile the system reads of values in a file what is touched, and nothing around it."""
    if not _takes_advice(values):
        yield
        return
    storage = values.untyped_storage()
    first = storage.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    whole = first, storage.data_ptr() + storage.nbytes() - first
    ADVISE(*whole, RANDOM)
    try:
        yield
    finally:
        ADVISE(*whole, NORMAL)
