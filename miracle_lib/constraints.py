"""What an option may be: declared as scikit-learn declares it, said in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions, make_constraint

from miracle_lib.errors import MiracleError

__all__ = ["AT_LEAST_ONE", "CLIP", "SHARE", "Interval", "StrOptions", "check_options"]

AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="both")
CLIP = Interval(Real, 0, 0.5, closed="neither")  # of beta values, at both ends


def check_options(options: Mapping[str, Any], allowed: Mapping[str, list[Any]]) -> None:
    """Refuse an option that is none of what is allowed.

    Parameters
    ----------
    options : dict
        Values by name.
    allowed : dict
        Constraints of each name, as scikit-learn declares those of its estimators.

    Raises
    ------
    MiracleError

    Examples
    --------
    >>> check_options({"progress": 5}, {"progress": [None, "boolean"]})
    Traceback (most recent call last):
    miracle_lib.errors.MiracleError: progress is 5; expected None or True or False
    """
    for name, value in options.items():
        if not any(_constraint(each).is_satisfied_by(value) for each in allowed[name]):
            *most, last = [_words(each) for each in allowed[name]]
            words = f"{', '.join(most)} or {last}" if most else last
            raise MiracleError(f"{name} is {value!r}; expected {words}")


def _constraint(each: Any) -> Any:
    """Return an object that tells whether a value satisfies it."""
    return each if hasattr(each, "is_satisfied_by") else make_constraint(each)


def _words(each: Any) -> str:
    """Say what a constraint allows."""
    if isinstance(each, StrOptions):
        names = sorted(each.options)
        few = len(names) < 3
        return " or ".join(map(repr, names)) if few else f"one of {', '.join(names)}"
    if isinstance(each, Interval):
        number = "a whole number" if each.type is Integral else "a number"
        if each.right is None:
            return f"{number} of at least {each.left}"
        to = "from {} to {}" if each.closed == "both" else "between {} and {}"
        return f"{number} {to.format(each.left, each.right)}"
    if each == "boolean":
        return "True or False"
    return each.__name__ if isinstance(each, type) else str(each)
