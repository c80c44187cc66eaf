"""``python -m miracle_lib.cli``."""

from miracle_lib.cli import app

app(prog_name="miracle")
