"""Progress of long work on stderr, with the time that is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """Yield items behind a bar that shows the time left; no bar where nobody looks at a terminal.

    Parameters
    ----------
    items : iterable
    title : str
        What they are.
    total : int, optional
        Their number, where they do not have it.

    Examples
    --------
    >>> list(progress([1, 2], "cohorts"))
    [1, 2]
    """
    return tqdm(items, desc=title, total=total, disable=None, leave=False)
