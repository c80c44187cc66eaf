import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from miracle_lib.evaluation.linear import RowSpace


@pytest.mark.parametrize("shape", [(40, 300), (40, 10)])
@pytest.mark.parametrize(
    "learner",
    [
        LogisticRegression(C=0.03, tol=1e-10, max_iter=5000),
        SVC(kernel="linear", C=0.01, tol=1e-8),
        KNeighborsClassifier(5, weights="uniform"),
    ],
    ids=["logistic", "svm", "knn"],
)
def test_row_space_gives_the_predictions_of_the_whole_table(learner, shape):
    rng = np.random.default_rng(0)
    X, new = rng.normal(1, 1, shape), rng.normal(1, 1, (25, shape[1]))
    y = (X[:, :5].sum(axis=1) + rng.normal(size=len(X)) > 5).astype(int)
    space = RowSpace().fit(X)

    def value(train, test):
        fitted = learner.fit(train, y)
        if hasattr(fitted, "decision_function"):
            return fitted.decision_function(test)
        return fitted.predict_proba(test)[:, 1]

    whole = value(X, new)
    assert whole.std() > 0
    assert value(space.transform(X), space.transform(new)) == pytest.approx(whole, abs=1e-5)


def test_coefficients_map_back_to_sites():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 200))
    y = (X[:, 0] > 0).astype(int)
    space = RowSpace().fit(X)
    small = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(space.transform(X), y)
    whole = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(X, y)
    assert space.components_ @ small.coef_[0] == pytest.approx(whole.coef_[0], abs=1e-5)
