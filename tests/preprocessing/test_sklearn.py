"""The transformers under scikit-learn's own checks."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse, special
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
