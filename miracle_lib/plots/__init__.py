"""Figures of the book, one module per chapter; each function returns a matplotlib Figure."""

from miracle_lib.extras import needs

with needs("book", "A figure"):
    import matplotlib  # noqa: F401
    import PIL  # noqa: F401
