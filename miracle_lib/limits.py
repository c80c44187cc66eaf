"""When a prediction is uncertain or refused; of no heavy import, so that a help page is quick."""

from __future__ import annotations

from dataclasses import dataclass

from miracle_lib.errors import MiracleError


@dataclass(frozen=True)
class Limits:
    """When a prediction is uncertain, and when it is refused.

    Defaults were chosen on held-out samples of four public series, see
    ``benchmarks/results/unfamiliar.md``.

    Attributes
    ----------
    sites : float, default 0.5
        Least share of the model's sites that must be measured in a sample.
    weight : float, default 0.5
        Least share of the model's weight that must rest on measured sites. At half of it, three
        quarters of what the Brier score gains over the share of cases are left.
    safe_weight : float, default 0.9
        Share of that weight below which a sample is uncertain. At 0.9, 19 of 20 probabilities
        move by less than 0.1.
    quantile : float, default 0.99
        Quantile of the distances of held-out training samples beyond which a sample is uncertain;
        with few of them the limit is wider.
    factor : float, default 1.25
        Multiple of that distance beyond which it is refused: noise, zeros, inverted and shuffled
        values lie beyond it and held-out samples within; another laboratory's samples may lie on
        either side.
    coverage : float, default 0.9
        Share of the cases, and of the controls, whose class must be among those that are named.

    Raises
    ------
    MiracleError
        A share outside 0 to 1, or a factor below 1.

    Examples
    --------
    >>> Limits(quantile=0.95).factor
    1.25
    """

    sites: float = 0.5
    weight: float = 0.5
    safe_weight: float = 0.9
    quantile: float = 0.99
    factor: float = 1.25
    coverage: float = 0.9

    def __post_init__(self) -> None:
        for name in ("sites", "weight", "safe_weight", "quantile", "coverage"):
            if not 0 <= getattr(self, name) <= 1:
                raise MiracleError(f"limit {name} is {getattr(self, name)!r}; expected 0 to 1.")
        if self.factor < 1:
            raise MiracleError(f"limit factor is {self.factor!r}; expected at least 1.")
