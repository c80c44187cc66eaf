"""The first experiments: what the autoencoder alone rebuilds."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from miracle_lib.plots.style import OTHER, OWN, new_figure, styled


@styled
def rebuilt_by_epochs(curve: pd.DataFrame) -> Figure:
    """Draw how much of held-out samples the autoencoder rebuilds, by epochs of training.

    Parameters
    ----------
    curve : DataFrame
        Result of :func:`miracle_lib.studies.first_experiments.reconstruction_curve`.

    Returns
    -------
    Figure
        One dot per fold, a line through their means; zero is the mean predictor.

    Examples
    --------
    >>> curve = pd.DataFrame({"fold": [0, 0], "epochs": [1, 20], "share": [0.01, 0.1]})
    >>> len(rebuilt_by_epochs(curve).axes)
    1
    """
    figure = new_figure(3.4, width=5.5)
    axes = figure.subplots()
    mean = curve.groupby("epochs")["share"].mean()
    axes.axhline(0, color=OTHER, linestyle=":", label="training mean of each site")
    axes.plot(curve["epochs"], curve["share"], "o", color=OWN, alpha=0.5, label="fold")
    axes.plot(mean.index, mean, "-", color=OWN, label="mean of the folds")
    axes.set_xscale("log")
    axes.set_xticks(mean.index, [str(length) for length in mean.index])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="epochs of training", ylabel="variance of held-out samples rebuilt")
    axes.legend()
    return figure
