"""Pictures of a report on new samples."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from miracle_lib.plots.style import BAND, INK, LABELS, new_figure, styled, svg


@dataclass(frozen=True)
class Drawing:
    """A picture that a page holds as SVG, in which a line can be moved by the page.

    Attributes
    ----------
    svg : str
        Its elements have no id; the line, where there is one, has the class ``sample``.
    width : float
        Pixels of the picture from 0 to 1 of the horizontal axis.
    """

    svg: str
    width: float


@styled
def held_out_scores(control: np.ndarray, case: np.ndarray, new: np.ndarray | None = None) -> Figure:
    """Draw the scores of held-out samples: cases upwards, controls downwards.

    Parameters
    ----------
    control, case : ndarray
        Scores between 0 and 1.
    new : ndarray, optional
        Scores of new samples, one tick each. Default: a line at 0 for a page to move.

    Returns
    -------
    Figure
    """
    figure = new_figure(1.9, width=4.4)
    axes = figure.subplots()
    bins = np.linspace(0, 1, 26)
    for label, scores, sign in ((1, case, 1), (0, control, -1)):
        name, colour = LABELS[label]
        share = np.histogram(scores, bins)[0] / max(len(scores), 1)
        axes.bar(bins[:-1], sign * share, np.diff(bins), align="edge", color=colour)
        axes.annotate(
            f"{len(scores)} {name}s",
            (0.5, 1 if label else 0),
            xytext=(0, -2 * sign),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top" if label else "bottom",
            color=colour,
            weight="bold",
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(0, 1), yticks=[], xlabel="score of samples that the model had not seen")
    axes.margins(y=0.25)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(BAND)
    if new is None:
        axes.axvline(0, color=INK, linewidth=2, gid="sample", clip_on=False)
    else:
        axes.plot(new, np.zeros(len(new)), "|", color=INK, markersize=9, alpha=0.7)
    return figure


def as_svg(figure: Figure) -> Drawing:
    """Return a figure with one pair of axes as a part of a page.

    Examples
    --------
    >>> drawing = as_svg(held_out_scores(np.array([0.1]), np.array([0.9])))
    >>> drawing.svg[:4], drawing.svg.count('class="sample"')
    ('<svg', 1)
    """
    written = svg(figure).decode()
    written = written[written.index("<svg") :].replace('id="sample"', 'class="sample"')
    written = re.sub(r'<g id="[^"]*"', "<g", written)  # two pictures of a page would share them
    scale = 72 / figure.dpi  # an SVG has 72 pixels to an inch
    return Drawing(written, figure.axes[0].get_window_extent().width * scale)
