"""The one maker of folds: stratified, subjects kept whole."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold


def fold_numbers(
    strata: np.ndarray, subject: np.ndarray | None, n_folds: int, random_state: int
) -> np.ndarray:
    """Give each sample the number of the fold that holds it out.

    Parameters
    ----------
    strata : array of shape (n_samples,)
        What is spread evenly over the folds, such as labels.
    subject : array of shape (n_samples,), optional
        Samples that share a value are held out together.
    n_folds : int
    random_state : int
        Same order of samples, same seed: same folds.

    Returns
    -------
    ndarray of int, shape (n_samples,)
        0 to ``n_folds - 1``; few large subjects can leave a fold empty.

    Examples
    --------
    >>> folds = fold_numbers(np.array([0, 0, 1, 1]), None, 2, random_state=0)
    >>> sorted(folds[:2].tolist()), sorted(folds[2:].tolist())
    ([0, 1], [0, 1])
    """
    single = subject is None or len(np.unique(subject)) == len(subject)
    splitter = (StratifiedKFold if single else StratifiedGroupKFold)(
        n_folds, shuffle=True, random_state=random_state
    )
    numbers = np.empty(len(strata), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a stratum may be smaller than the folds
        for number, (_, held_out) in enumerate(splitter.split(strata, strata, subject)):
            numbers[held_out] = number
    return numbers
