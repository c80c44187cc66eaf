"""The directive ``scores``: what a run scored, and when, from a small file in ``book/gallery``."""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

FOLDER = Path(__file__).resolve().parents[1] / "gallery"
ABOUT = ("task", "patients", "cases")


def as_markdown(entry: dict) -> str:
    """One sentence and one table."""
    methods = [name for name in entry["auroc"][0] if name not in ABOUT]
    title = entry["title"][0].upper() + entry["title"][1:]
    said = (
        f"{title}, **{entry['data']} data**: AUROC on held-out folds with its 95% interval over "
        f"patients, by `{entry['command']}` on {entry['date']} (version {entry['version']})."
    )
    lines = [said, "", _line([*ABOUT, *methods]), _line(["---"] * (len(ABOUT) + len(methods)))]
    for row in entry["auroc"]:
        scores = ["{:.2f} ({:.2f} to {:.2f})".format(*row[name]) for name in methods]
        task = "mean of tasks" if row["task"] == "all" else row["task"]
        lines.append(_line([task, *(str(row.get(name, "")) for name in ABOUT[1:]), *scores]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


class Scores(Directive):
    """The scores of the entry that is named."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the file and write it out as Markdown."""
        path = FOLDER / f"{self.arguments[0]}.yaml"
        self.state.document.settings.env.note_dependency(str(path))
        text = as_markdown(yaml.safe_load(path.read_text(encoding="utf-8")))
        box = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), str(path)), 0, box)
        return box.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("scores", Scores)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
