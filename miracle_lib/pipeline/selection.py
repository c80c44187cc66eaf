"""The run's choice of sites: once before a fit on all samples, anew inside every fold."""

from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from miracle_lib.pipeline.data import all_samples
from miracle_lib.pipeline.run import Run
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.samples import Samples


def site_selector(run: Run) -> SiteSelector | None:
    """Give the selector that the parameters describe, not fitted; None where all sites are used."""
    if run.parameters.selection == "none":
        return None
    return SiteSelector(run.parameters.selection, run.parameters.n_sites)


def selected(run: Run, method: BaseEstimator) -> BaseEstimator:
    """Put the selection before a method, so that it is fitted inside each fold."""
    selector = site_selector(run)
    return method if selector is None else make_pipeline(selector, method)


def chosen_samples(run: Run) -> Samples:
    """All samples of the run, of their sites only those that a model of all samples sees.

    The labels of all samples have a say in the choice: no score may come from them.
    """
    samples, selector = all_samples(run), site_selector(run)
    if selector is None:
        return samples
    return samples.replace(values=selector.fit_transform(samples.values, samples.labels))
