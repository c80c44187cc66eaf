"""Pages on new samples: what a saved model says of them, and why it may be wrong."""

from miracle_lib.extras import needs

with needs("book", "A report"):
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401

from miracle_lib.reports.evidence import Evidence
from miracle_lib.reports.pages import refuse_others, write_report

__all__ = ["Evidence", "refuse_others", "write_report"]
