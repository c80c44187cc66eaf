"""Values in a file are read before they are wanted, and nothing around them."""

import ctypes
import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from miracle_lib.training import read_ahead as module
from miracle_lib.training.read_ahead import nothing_around, read_ahead

PAGES = 64  # of a sample
OF_PAGE = mmap.PAGESIZE // 4  # values

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise"), reason="the system takes no such advice"
)


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Eight samples in a file of which nothing is in memory."""
    monkeypatch.setattr(module, "LARGE", 0)
    file = tmp_path / "values"
    np.arange(8 * PAGES * OF_PAGE, dtype=np.float32).tofile(file)
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    values = torch.from_numpy(np.memmap(file, np.float32, "r+", shape=(8, PAGES * OF_PAGE)))
    if _present(values).any():
        pytest.skip("this file system keeps all files in memory")
    return values


def _present(values: torch.Tensor) -> np.ndarray:
    """Which pages are in memory, samples x pages."""
    found = np.zeros(values.numel() // OF_PAGE, np.uint8)
    address, length = ctypes.c_void_p(values.data_ptr()), ctypes.c_size_t(values.nbytes)
    assert ctypes.CDLL(None).mincore(address, length, found.ctypes.data_as(ctypes.c_void_p)) == 0
    return (found & 1).astype(bool).reshape(len(values), -1)


def _waited(values: torch.Tensor, expected: np.ndarray) -> np.ndarray:
    """Which pages are in memory when those expected are, after ten seconds at most."""
    for _ in range(100):
        if (present := _present(values))[expected].all():
            break
        time.sleep(0.1)
    return present


def test_read_ahead_reads_a_strip_of_some_samples_and_nothing_else(mapped: torch.Tensor) -> None:
    read_ahead(mapped[:, 10 * OF_PAGE : 12 * OF_PAGE], np.array([1, 6]))
    expected = np.zeros((8, PAGES), bool)
    expected[np.ix_([1, 6], [10, 11])] = True
    np.testing.assert_array_equal(_waited(mapped, expected), expected)


def test_read_ahead_takes_parts_of_pages(mapped: torch.Tensor) -> None:
    read_ahead(mapped[:, 10 * OF_PAGE + 5 : 12 * OF_PAGE + 1], np.array([3]))
    expected = np.zeros((8, PAGES), bool)
    expected[3, 10:13] = True
    np.testing.assert_array_equal(_waited(mapped, expected), expected)


def test_read_ahead_leaves_small_values_to_the_system(
    mapped: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGE", 2**30)
    read_ahead(mapped, np.arange(8))
    time.sleep(0.2)
    assert not _present(mapped).any()


def test_nothing_around_reads_only_what_is_touched_until_it_ends(mapped: torch.Tensor) -> None:
    with nothing_around(mapped):
        assert mapped[2, 7 * OF_PAGE] == (2 * PAGES + 7) * OF_PAGE
        expected = np.zeros((8, PAGES), bool)
        expected[2, 7] = True
        np.testing.assert_array_equal(_present(mapped), expected)
    assert mapped[5, 7 * OF_PAGE] == (5 * PAGES + 7) * OF_PAGE
    assert _present(mapped).sum() > 2


def test_read_ahead_does_nothing_to_values_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    values = torch.arange(12.0).reshape(3, 4)
    read_ahead(values, np.arange(3))
    read_ahead(values[:, 4:], np.arange(3))
    torch.testing.assert_close(values, torch.arange(12.0).reshape(3, 4))
