"""The directive ``command``: the help of a command of ``miracle``, as it prints it."""

import os
import subprocess
import sys

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

WIDTH = "88"  # columns that fit a page


def help_of(*words: str) -> str:
    """What ``miracle WORDS --help`` prints, without colours or boxes."""
    plain = {"COLUMNS": WIDTH, "TERM": "dumb", "NO_COLOR": "1", "TYPER_USE_RICH": "0"}
    program = "from miracle_lib.cli import app; app(prog_name='miracle')"
    answer = subprocess.run(
        [sys.executable, "-c", program, *words, "--help"],
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()


class Command(Directive):
    """The help of one command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Ask the command for its help."""
        text = help_of(*self.arguments)
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
