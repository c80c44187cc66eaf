"""Another hospital that a simulated disease is seen in, and how it differs from the first."""

from __future__ import annotations

from dataclasses import dataclass

from miracle_lib.errors import MiracleError


@dataclass(frozen=True)
class Hospital:
    """A further cohort of a task, with known differences to the first; each can be switched off.

    Attributes
    ----------
    n : int
        Samples.
    cases : float, default 0.5
        Share of the subjects who are cases; half of the first cohort's are.
    cohort_effect : float, default 0
        Standard deviation of the level of its sites, as in `simulate_cohorts`.
    granulocytes : float, default 0
        Another cell mix: how many more granulocytes its controls have, who are patients of other
        wards. At 1 as many more as the cases of a cohort have at most, which is about 0.07 of all
        cells.
    absent : float, default 0
        Another array: share of the sites that it does not have.

    Examples
    --------
    >>> Hospital(n=80, cases=0.3).granulocytes
    0.0
    """

    n: int
    cases: float = 0.5
    cohort_effect: float = 0.0
    granulocytes: float = 0.0
    absent: float = 0.0

    def __str__(self) -> str:
        """Say how it differs."""
        parts = {
            f"levels differ (SD {self.cohort_effect:g})": self.cohort_effect,
            f"controls have more granulocytes ({self.granulocytes:g})": self.granulocytes,
            f"{self.absent:.0%} of the sites are not on its array": self.absent,
            f"{self.cases:.0%} are cases": self.cases != 0.5,
        }
        return ", ".join(text for text, told in parts.items() if told) or "other people only"

    def __post_init__(self) -> None:
        if self.n < 8:
            raise MiracleError(f"n of a hospital is {self.n}; a cohort needs at least 8 samples.")
        if not 0 < self.cases < 1:
            raise MiracleError(f"cases of a hospital is {self.cases}; it must lie within 0 and 1.")
        if not 0 <= self.absent < 1:
            raise MiracleError(f"absent of a hospital is {self.absent}; it must lie in [0, 1).")
        for name in ("cohort_effect", "granulocytes"):
            if getattr(self, name) < 0:
                raise MiracleError(
                    f"{name} of a hospital is {getattr(self, name)}; it must not be negative."
                )
