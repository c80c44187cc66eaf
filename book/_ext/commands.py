"""The directive ``commands``: the help of each command of ``miracle``, as it prints it."""

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


class Commands(Directive):
    """One section per command of ``miracle``."""

    def run(self) -> list[nodes.Node]:
        """Ask the command for its help, then each of its commands."""
        from miracle_lib.cli import app

        names = [info.name or info.callback.__name__ for info in app.registered_commands]
        return [self._section(name) for name in sorted(names)]

    def _section(self, name: str) -> nodes.section:
        text = help_of(name)
        title = nodes.title(text=f"miracle {name}")
        block = nodes.literal_block(text, text, language="text")
        return nodes.section("", title, block, ids=[f"miracle-{name}"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
