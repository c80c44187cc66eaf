"""What is ablated: the levels of every comparison, and the estimator that each one names."""

from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field, model_validator
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from miracle_lib.errors import MiracleError
from miracle_lib.estimator import MiracleClassifier
from miracle_lib.estimator.options import check_settings
from miracle_lib.evaluation.baselines import BASELINES, PerTaskBaseline
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.manifest import Strict, read_manifest
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.resources import MANIFEST
from miracle_lib.studies.single_task import SingleTask

ABLATIONS = MANIFEST / "ablations.yaml"
WIDE = 50_000  # sites above which no level sees all of them: a fold of one would take an hour


class Variant(Strict):
    """One model to score; see the head of ``data_manifest/ablations.yaml``."""

    baseline: str | None = None
    tasks: Literal["multi", "single"] = "multi"
    mask: Literal["biological", "permuted", "random", "fully_connected"] = "biological"
    n_sites: int | None = Field(None, ge=1)
    selection: Literal["ttest", "variance", "none"] = "ttest"
    protocol: Literal["nested", "leaky"] = "nested"
    model: dict[str, Any] = Field(default_factory=dict)
    small: bool = True

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        if self.baseline is not None and self.baseline not in BASELINES:
            raise ValueError(f"unknown baseline {self.baseline!r}; known: {', '.join(BASELINES)}")
        check_settings(self.model)
        if self.protocol == "leaky" and self.n_sites is None:
            raise ValueError("a leaky protocol needs n_sites")
        if self.selection == "variance" and self.n_sites is None:
            raise ValueError("selection 'variance' needs n_sites")
        if self.selection == "none" and self.n_sites is not None:
            raise ValueError("selection 'none' takes no n_sites")
        return self

    def under(self, selector: SiteSelector | None) -> Self:
        """Return what is scored where a run chooses sites: its choice, unless the level has one."""
        if selector is None or self.n_sites is not None or self.selection == "none":
            return self
        return self.model_copy(update=selection_of(selector))


class Comparison(Strict):
    """A question, the level that the others are compared with, and all levels."""

    question: str
    reference: str
    levels: dict[str, Variant]
    small: bool = True

    @model_validator(mode="after")
    def _reference_exists(self) -> Self:
        if self.reference not in self.levels:
            raise ValueError(f"the reference {self.reference!r} is not among the levels")
        return self


class Scale(Strict):
    """How many folds and repeats, and arguments that every network gets."""

    n_splits: int = Field(ge=2)
    n_repeats: int = Field(1, ge=1)
    model: dict[str, Any] = Field(default_factory=dict)


class AblationGrid(Strict):
    """All comparisons, at every scale."""

    scales: dict[str, Scale]
    comparisons: dict[str, Comparison]

    def at(self, scale: str, n_sites: int, only: list[str] | None = None) -> "AblationGrid":
        """Return the comparisons of one scale that make sense for so many sites.

        Parameters
        ----------
        scale : str
            A name in ``scales``; "small" leaves out what is marked ``small: false``.
        n_sites : int
            Levels that would select more sites than there are are left out; above 50,000 also those
            that see all sites, whose place as a reference the level with the most sites takes.
        only : list of str, optional
            Names of the comparisons wanted.
        """
        if scale not in self.scales:
            raise MiracleError(
                f"Unknown scale {scale!r}; expected one of {', '.join(self.scales)}."
            )
        unknown = set(only or ()) - set(self.comparisons)
        if unknown:
            raise MiracleError(
                f"Unknown comparison {sorted(unknown)[0]!r}; expected one of "
                f"{', '.join(self.comparisons)}."
            )
        kept = {}
        for name, comparison in self.comparisons.items():
            levels = {
                label: level
                for label, level in comparison.levels.items()
                if (level.n_sites or 0) < n_sites
                and (level.small or scale != "small")
                and (level.selection != "none" or n_sites <= WIDE)
            }
            reference = comparison.reference
            if levels and n_sites > WIDE and comparison.levels[reference].selection == "none":
                reference = max(levels, key=lambda label: levels[label].n_sites or 0)
            wanted = (only is None or name in only) and (comparison.small or scale != "small")
            if wanted and reference in levels and len(levels) > 1:
                update = {"levels": levels, "reference": reference}
                kept[name] = comparison.model_copy(update=update)
        return AblationGrid(scales={scale: self.scales[scale]}, comparisons=kept)

    def choices(self, selector: SiteSelector | None) -> list[SiteSelector] | None:
        """Return selectors that together choose all that any level does.

        Parameters
        ----------
        selector : SiteSelector, optional
            Of levels that say nothing of their sites; default: these see all sites.

        Returns
        -------
        list of SiteSelector, or None
            One per method, with its largest number of sites; None where a level sees all sites.
        """
        most: dict[str, int] = {}
        for comparison in self.comparisons.values():
            for level in (each.under(selector) for each in comparison.levels.values()):
                if level.n_sites is None:
                    return None
                most[level.selection] = max(level.n_sites, most.get(level.selection, 0))
        return [SiteSelector(method, k) for method, k in most.items()]


def load_ablations(path: str | Path = ABLATIONS) -> AblationGrid:
    """Read the grid of ablations from a YAML file.

    Raises
    ------
    MiracleError
        A missing file, or an unknown key or value, named with its place.

    Examples
    --------
    >>> load_ablations().comparisons["mask"].reference
    'biological'
    """
    return read_manifest(path, AblationGrid)


class FullyConnected(MiracleClassifier):
    """A network with every edge between the sites, genes and pathways that its mask has.

    The edges are made when the sites are known: over all sites of an array they would be billions.
    """

    def _arrange_sites(self, sites: pd.Index) -> None:
        super()._arrange_sites(sites)
        self.hierarchy_ = self.hierarchy_.fully_connected()


def network(hierarchy: Hierarchy, mask: str, seed: int) -> MiracleClassifier:
    """Return the network on the hierarchy or on one of its controls."""
    controls = {
        "biological": lambda: MiracleClassifier(hierarchy),
        "permuted": lambda: MiracleClassifier(hierarchy.permuted(seed)),
        "random": lambda: MiracleClassifier(hierarchy.random(seed)),
        "fully_connected": lambda: FullyConnected(hierarchy),
    }
    return controls[mask]()


def selection_of(selector: SiteSelector | None) -> dict[str, Any]:
    """Say what a selector does as the fields of a variant."""
    return {} if selector is None else {"selection": selector.method, "n_sites": selector.k}


def build(variant: Variant, hierarchy: Hierarchy, seed: int = 0) -> BaseEstimator:
    """Make the estimator of a variant.

    Parameters
    ----------
    variant : Variant
    hierarchy : Hierarchy
        The biological one.
    seed : int, default 0
        Of the network, and of the control masks.

    Returns
    -------
    MiracleClassifier, PerTaskBaseline, SingleTask, or a Pipeline that selects sites first
    """
    if variant.baseline is not None:
        options = None
        if variant.baseline == "dense_autoencoder":
            options = {"hidden": (len(hierarchy.genes), len(hierarchy.pathways))}
        estimator = PerTaskBaseline(variant.baseline, options=options, random_state=seed)
    else:
        settings = {"random_state": seed, "training__progress": False} | variant.model
        estimator = network(hierarchy, variant.mask, seed).set_params(**settings)
    if variant.n_sites is not None:
        selector = SiteSelector(variant.selection, k=variant.n_sites)
        estimator = make_pipeline(selector, estimator)
    return SingleTask(estimator) if variant.tasks == "single" else estimator
