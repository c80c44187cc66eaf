"""The row space of a wide table: rotation-invariant learners need no more than n dimensions."""

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, TransformerMixin


class RowSpace(TransformerMixin, BaseEstimator):
    """Rotate samples into the space that the training samples span.

    Methods that depend on the centred samples only through inner products with the training
    samples (L2 logistic regression, linear support vector machines, principal components, the
    neighbour order of k-nearest neighbours) give the same predictions on the rotated table, which
    has at most n columns instead of hundreds of thousands.

    Attributes
    ----------
    mean_ : array of shape (n_features,)
    components_ : array of shape (n_features, rank)
        Orthonormal columns; ``components_ @ coefficients`` are coefficients per feature.

    References
    ----------
    Hastie & Tibshirani 2004, doi 10.1093/biostatistics/kxh010

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(10, 1000))
    >>> RowSpace().fit_transform(X).shape
    (10, 9)
    """

    def fit(self, X: np.ndarray, y: object = None) -> "RowSpace":
        """Find the space of ``X`` (n_samples, n_features)."""
        X = np.asarray(X, float)
        self.mean_ = X.mean(axis=0)
        centred = X - self.mean_
        if X.shape[0] >= X.shape[1]:
            self.components_ = np.eye(X.shape[1])
            return self
        values, vectors = linalg.eigh(centred @ centred.T)
        kept = values > values[-1] * 1e-10
        self.components_ = centred.T @ (vectors[:, kept] / np.sqrt(values[kept]))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the coordinates of ``X``, (n_samples, rank)."""
        return (np.asarray(X, float) - self.mean_) @ self.components_
