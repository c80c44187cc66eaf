"""The run's choice of sites: once before a fit on all samples, anew inside every fold."""

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from miracle_lib.pipeline.data import tables
from miracle_lib.pipeline.run import Run
from miracle_lib.preprocessing import SiteSelector


def site_selector(run: Run) -> SiteSelector | None:
    """Give the selector that the parameters describe, not fitted; None where all sites are used."""
    if run.parameters.selection == "none":
        return None
    return SiteSelector(run.parameters.selection, run.parameters.n_sites)


def selected(run: Run, method: BaseEstimator) -> BaseEstimator:
    """Put the selection before a method, so that it is fitted inside each fold."""
    selector = site_selector(run)
    return method if selector is None else make_pipeline(selector, method)


def chosen_tables(run: Run) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables of the run, of the beta values only what a model of all samples sees.

    The labels of all samples have a say in the choice: no score may come from these tables.
    """
    X, Y, obs = tables(run)
    selector = site_selector(run)
    return (X if selector is None else selector.fit_transform(X, Y)), Y, obs
