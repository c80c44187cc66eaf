"""The transformers under scikit-learn's own checks."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from anndata import AnnData
from scipy import sparse, special
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import ClassifierTags
from sklearn.utils.estimator_checks import parametrize_with_checks

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import (
    CohortStandardizer,
    CovariateResidualizer,
    SiteImputer,
    SiteSelector,
)
from miracle_lib.samples import Samples


def as_beta(X):
    """Bring the numbers of the checks, which know no range, into [0, 1]; leave all else alone."""
    array = np.asarray(X)
    if array.ndim == 2 and array.dtype.kind in "fiu":
        return special.expit(array.astype(float) / 100)
    return X


class Beta:
    """Takes any numbers as beta values."""

    def fit(self, X, y=None):
        return super().fit(as_beta(X), y)

    def transform(self, X):
        return super().transform(as_beta(X))

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)


class Standardizer(Beta, CohortStandardizer):
    pass


class Imputer(Beta, SiteImputer):
    pass


class Selector(Beta, SiteSelector):
    def __sklearn_tags__(self):  # a task has two classes; the checks ask for that here
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


class Residualizer(CovariateResidualizer):
    """The first feature is the covariate."""

    def fit(self, X, y=None):
        return super().fit(X, y, _first(X))

    def transform(self, X):
        return super().transform(X, _first(X))

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)


@pytest.mark.parametrize("transformer", [CohortStandardizer(), SiteImputer(), SiteSelector(k=1)])
def test_every_kind_of_table_gives_the_same(transformer):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(0.1, 0.9, (12, 3)), columns=["cg1", "cg2", "cg3"])
    X.index = X.index.astype(str)
    X.iloc[0, 0] = np.nan
    y = np.arange(12) % 2
    want = transformer.fit(X, y).transform(X).to_numpy()
    nullable = X.astype("Float64")
    spare = X.astype(pd.SparseDtype(float, np.nan))
    for table in (X.to_numpy(), nullable, spare, AnnData(X), Samples(X)):
        got = transformer.fit(table, y).transform(table)
        np.testing.assert_allclose(got.to_numpy(), want)
        assert len(transformer.get_feature_names_out()) == want.shape[1]
    assert transformer.transform(X.iloc[:, ::-1]).columns.tolist() == got.columns.tolist()
    np.testing.assert_allclose(transformer.transform(X.to_numpy()).to_numpy(), want)
    with pytest.raises(MiracleError, match="X has 2 features, but .* is expecting 3"):
        transformer.transform(X.to_numpy()[:, :2])


def test_a_cohort_is_routed_to_the_steps_that_ask_for_it():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(0.1, 0.9, (20, 3)), columns=["cg1", "cg2", "cg3"])
    y, cohort = np.arange(20) % 2, np.repeat(["A", "B"], 10)
    with sklearn.config_context(enable_metadata_routing=True):
        standardizer = CohortStandardizer().set_fit_request(cohort=True)
        pipeline = make_pipeline(
            standardizer.set_transform_request(cohort=True), LogisticRegression()
        ).fit(X, y, cohort=cohort)
        assert pipeline[0].cohorts_ == ["A", "B"]
        z = CohortStandardizer().fit_transform(X, cohort=cohort)
        expected = LogisticRegression().fit(z, y).predict_proba(z)
        np.testing.assert_array_equal(pipeline.predict_proba(X, cohort=cohort), expected)


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (CohortStandardizer(scale="z"), "scale is 'z'; expected 'beta' or 'm'"),
        (CohortStandardizer(clip=0.5), "clip is 0.5; expected a number between 0 and 0.5"),
        (SiteImputer(n_neighbors="5"), "n_neighbors is '5'; expected a whole number of at least 1"),
        (SiteSelector(k=2.5), "k is 2.5; expected a whole number of at least 1"),
        (SiteSelector(k=None), "k is None"),
        (CovariateResidualizer(ridge=np.nan), "ridge is nan; expected a number of at least 0"),
    ],
)
def test_options_are_refused_before_any_work(transformer, message):
    with pytest.raises(MiracleError, match=message):
        transformer.fit(pd.DataFrame({"cg1": [0.1, 0.2, 0.3]}), [0, 1, 0])
    assert transformer.get_params().keys() == transformer._parameter_constraints.keys()


def _first(X):
    if sparse.issparse(X):
        return None
    array = np.asarray(X)
    usable = array.ndim == 2 and array.shape[1] and array.dtype.kind in "fiu"
    return pd.DataFrame({"age": array[:, 0] if usable else 0.0}, range(len(array)))


@parametrize_with_checks(
    [Standardizer(), Imputer(), Imputer("knn"), Selector(), Selector("variance"), Residualizer()]
)
def test_scikit_learn_finds_a_transformer(estimator, check):
    check(estimator)
