"""Beta values and M-values."""

from __future__ import annotations

from typing import Any

import numpy as np


def beta_to_m(beta: Any, clip: float = 0.001) -> Any:
    """Turn beta values into M-values, ``log2(beta / (1 - beta))``.

    Parameters
    ----------
    beta : array or DataFrame
        Beta values in [0, 1]; NaN stays NaN.
    clip : float, default 0.001
        Values are first limited to [clip, 1 - clip]; 0.001 bounds M-values at +-9.96.

    Returns
    -------
    array or DataFrame
        M-values, of the type and precision given.

    References
    ----------
    Du et al. 2010, BMC Bioinformatics 11:587.

    Examples
    --------
    >>> beta_to_m(np.array([0.5, 0.8, 0.0])).round(2).tolist()
    [0.0, 2.0, -9.96]
    """
    beta = beta.clip(clip, 1 - clip)
    return np.log2(beta / (1 - beta))


def m_to_beta(m: Any) -> Any:
    """Turn M-values into beta values, ``1 / (1 + 2**-m)``.

    Parameters
    ----------
    m : array or DataFrame
        M-values; NaN stays NaN.

    Returns
    -------
    array or DataFrame
        Beta values, of the type and precision given.

    Examples
    --------
    >>> m_to_beta(np.array([0.0, 2.0])).tolist()
    [0.5, 0.8]
    """
    return 1 / (1 + np.exp2(-m))
