"""The ``miracle`` command, one small file per subcommand."""

from miracle_lib.cli.book import book
from miracle_lib.cli.check import check
from miracle_lib.cli.clean import clean
from miracle_lib.cli.common import app
from miracle_lib.cli.describe import describe
from miracle_lib.cli.fetch import fetch
from miracle_lib.cli.info import info
from miracle_lib.cli.init import init
from miracle_lib.cli.predict import predict
from miracle_lib.cli.run import run

# in the order of the help page
for command in (init, fetch, describe, check, run, book, clean, predict, info):
    app.command()(command)

__all__ = ["app"]
