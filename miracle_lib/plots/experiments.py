"""The first experiments: what the autoencoder alone rebuilds."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter


def rebuilt_by_epochs(curve: pd.DataFrame) -> Figure:
    """Draw how much of held-out samples the autoencoder rebuilds, by epochs of training.

    Parameters
    ----------
    curve : DataFrame
        Result of :func:`miracle_lib.evaluation.first_experiments.reconstruction_curve`.

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
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    mean = curve.groupby("epochs")["share"].mean()
    axes.axhline(0, color="0.5", linestyle=":", label="training mean of each site")
    axes.plot(curve["epochs"], curve["share"], "o", color="#0072B2", alpha=0.5, label="fold")
    axes.plot(mean.index, mean, "-", color="#0072B2", label="mean of the folds")
    axes.set_xscale("log")
    axes.set_xticks(mean.index, [str(length) for length in mean.index])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="epochs of training", ylabel="variance of held-out samples rebuilt")
    axes.legend(frameon=False)
    return figure
