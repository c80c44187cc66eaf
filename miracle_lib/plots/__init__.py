"""Figures of the book, one module per chapter; each function returns a matplotlib Figure."""
