"""One style for every figure: drawn at the width at which a page shows it, readable there."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
import PIL.Image
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from IPython.display import SVG, Image

WIDTH = 8.0  # inches: the text column of a page, 768 pixels of 96 an inch
SHARPNESS = 2  # pixels of the file per pixel of the page
VECTOR = 80_000  # bytes up to which a figure is a vector graphic
SMALL = 9.0  # points: the smallest text, at the width shown
# Okabe and Ito's colours, told apart with any kind of colour vision; line styles when they run out.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
LINES = ("-", "--", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LABELS = {0: ("control", "#7F7F7F"), 1: ("case", "#882255")}
OWN, OTHER = "#0072B2", "#7F7F7F"  # the method that a picture is about, and those beside it
HYPER, HYPO = "#D55E00", "#0072B2"  # more methylation in cases, less
INK, PLAIN, BAND = "#222222", "#999999", "#DDDDDD"
_SETTINGS: dict[Any, Any] = {
    "font.size": SMALL,
    "axes.titlesize": SMALL + 1,
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "legend.frameon": False,
    "figure.titlesize": SMALL + 1,
    "figure.labelsize": SMALL,
    "axes.axisbelow": True,
    "svg.hashsalt": "miracle",  # the same figure is the same file
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw a figure in the style of the book."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return drawn


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure.

    Parameters
    ----------
    height : float
        Inches.
    width : float, default 8
        Inches; at most that of a page.

    Returns
    -------
    Figure

    Examples
    --------
    >>> new_figure(3).get_size_inches().tolist()
    [8.0, 3.0]
    """
    return Figure(figsize=(min(width, WIDTH), height), layout="constrained")


def empty_figure(text: str) -> Figure:
    """Make a figure that says why it is empty.

    Parameters
    ----------
    text : str

    Returns
    -------
    Figure

    Examples
    --------
    >>> empty_figure("no site has a known position").texts[0].get_text()
    'no site has a known position'
    """
    figure = new_figure(0.8)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def shorten(name: str, length: int) -> str:
    """Leave out the middle of a long name: names of pathways differ at both ends.

    Parameters
    ----------
    name : str
    length : int
        Most characters, at least 3.

    Returns
    -------
    str

    Examples
    --------
    >>> shorten("regulation of T cell activation (GO:0050863)", 20)
    'regulation…:0050863)'
    """
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail].rstrip()}…{name[len(name) - tail :].lstrip()}"


def displayed(figure: Figure, name: str) -> Image | SVG:
    """Return what a notebook shows of a figure.

    Parameters
    ----------
    figure : Figure
    name : str
        Of its file, without the ending; who executes the notebook keeps it under that name.

    Returns
    -------
    IPython.display.Image or SVG
    """
    from IPython.display import SVG, Image

    ending, picture = rendered(figure)
    about = {"metadata": {"file": f"{name}.{ending}"}}
    if ending == "svg":
        return SVG(picture.decode(), **about)
    width = int(96 * figure.get_figwidth())  # pixels of a page; the file has twice as many
    return Image(picture, width=width, **about)


def rendered(figure: Figure) -> tuple[str, bytes]:
    """Return a figure as a file: a vector graphic where that is small, else pixels.

    Parameters
    ----------
    figure : Figure

    Returns
    -------
    (str, bytes)
        ``"svg"`` or ``"png"``, and the content.

    Examples
    --------
    >>> rendered(new_figure(1))[0]
    'svg'
    """
    vector = svg(figure)
    return ("svg", vector) if len(vector) <= VECTOR else ("png", png(figure))


def svg(figure: Figure) -> bytes:
    """Return a figure as an SVG that looks the same on a machine without its fonts.

    Parameters
    ----------
    figure : Figure

    Returns
    -------
    bytes

    Examples
    --------
    >>> svg(new_figure(1))[:5]
    b'<?xml'
    """
    file = BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # no date: the same file again
    with mpl.rc_context(_SETTINGS):
        figure.savefig(file, format="svg", dpi=96 * SHARPNESS, facecolor="white", metadata=nothing)
    return re.sub(rb"<!--.*?-->\n", b"", re.sub(rb"\n +", b"\n", file.getvalue()))


def png(figure: Figure) -> bytes:
    """Return a figure as a small PNG, sharp on a screen of twice the resolution.

    Parameters
    ----------
    figure : Figure

    Returns
    -------
    bytes
        Reduced to 256 colours: a third of the size, no difference to be seen.

    Examples
    --------
    >>> png(new_figure(1))[:4]
    b'\\x89PNG'
    """
    full, reduced = BytesIO(), BytesIO()
    figure.savefig(full, format="png", dpi=96 * SHARPNESS, facecolor="white")
    colours = PIL.Image.open(full).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE)
    colours.save(reduced, format="png", optimize=True, dpi=(96 * SHARPNESS, 96 * SHARPNESS))
    return reduced.getvalue()
