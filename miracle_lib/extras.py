"""Packages that only a part of the library needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from miracle_lib.errors import MiracleError


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Import what an extra brings; say in one sentence how to install it where it is absent.

    Parameters
    ----------
    extra : {"book", "interpret", "idat", "large", "cluster"}
        An extra of the package, see ``pyproject.toml``.
    purpose : str
        What the packages are wanted for.

    Raises
    ------
    MiracleError
        A package that is imported in the block is not installed.

    Examples
    --------
    >>> with needs("book", "A chart"):
    ...     import a_package_that_is_absent
    Traceback (most recent call last):
    ...
    miracle_lib.errors.MiracleError: A chart needs the package 'a_package_that_is_absent'; \
install it with: pip install "miracle_lib[book]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MiracleError(
            f"{purpose} needs the package {error.name!r}; install it with: "
            f'pip install "miracle_lib[{extra}]"'
        ) from None
