"""Formulas as MathML, made when the book is built: they need no script and no network."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def _formula(node: nodes.Element, display: str) -> str:
    return convert(node.astext(), display=display)


def visit_math(translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(_formula(node, "inline"))
    raise nodes.SkipNode


def visit_math_block(translator, node: nodes.math_block) -> None:
    """Write a formula on a line of its own; a wide one scrolls."""
    translator.body.append(f'<div class="formula">{_formula(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
