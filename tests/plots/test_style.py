import io
import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from miracle_lib.plots import style


def test_a_file_is_twice_as_wide_as_it_is_shown():
    figure = style.new_figure(2)
    figure.subplots().plot([0, 1])
    image = Image.open(io.BytesIO(style.png(figure)))
    assert image.size == (2 * 768, 2 * 192)


def lines(n):
    figure = style.new_figure(2)
    axes = figure.subplots()
    for k in range(n):
        axes.plot([0, 1, 0, 1, k])
    return figure


def test_a_small_figure_is_a_vector_graphic_and_a_large_one_pixels():
    ending, vector = style.rendered(lines(3))
    assert ending == "svg"
    assert b'width="576pt"' in vector  # 768 pixels of a page
    assert b"<text" not in vector  # letters are shapes: no font of this machine is needed
    ending, pixels = style.rendered(lines(600))
    assert ending == "png"
    assert pixels[:4] == b"\x89PNG"


def test_the_same_figure_is_the_same_vector_graphic():
    assert style.svg(lines(2)) == style.svg(lines(2))


def test_no_figure_is_wider_than_a_page():
    assert style.new_figure(3, width=30).get_figwidth() == style.WIDTH


def test_a_styled_figure_ignores_the_session_and_leaves_it_alone():
    @style.styled
    def draw() -> Figure:
        figure = style.new_figure(2)
        figure.subplots().set_title("title")
        return figure

    with mpl.rc_context({"axes.titlesize": 30}):
        title = draw().axes[0].title
        assert title.get_fontsize() == style.SMALL + 1
        assert mpl.rcParams["axes.titlesize"] == 30


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("T cell", "T cell"),
        ("regulation of T cell activation", "regulatio…ctivation"),
        ("0123456789 0123456789", "0123456789…123456789"),
    ],
)
def test_long_names_lose_their_middle(name, short):
    assert style.shorten(name, 19 if name[0] == "r" else 20) == short


def test_every_figure_of_a_chapter_is_made_by_the_style():
    """Made past it, a figure would have its own width and fonts."""
    for path in Path(style.__file__).parent.glob("*.py"):
        source = path.read_text()
        if path.name == "style.py" or "matplotlib" not in source:
            continue
        assert "Figure(" not in source, path.name
        for drawn in re.findall(r"\n\n\n(.*)\ndef [a-z]\w*\([^)]*\) -> Figure", source):
            assert drawn == "@styled", path.name
