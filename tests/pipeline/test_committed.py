"""Which committed notebooks are executed again."""

import nbformat
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.pipeline import committed, notebooks
from miracle_lib.pipeline.inputs import READERS
from miracle_lib.resources import NOTEBOOKS

PARAMETERS = """profile: str = "demo"  # profile
run_dir: str = {!r}  # folder
seed: int = 3  # seed"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A chapter of its own, without steps."""
    tags = {"metadata": {"tags": ["parameters"]}}
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS.format(str(tmp_path / "run")), **tags),
        nbformat.v4.new_code_cell(
            "from miracle_lib.plots.style import shorten\nshorten('abc' * 9, seed)"
        ),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = tmp_path / "01_made.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), made)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "STEPS_OF", {"01_made": ()})
    return made


def edit(path, change):
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def current(path):
    return committed.is_current(path, committed.opened(path)[1])


def test_a_notebook_is_executed_when_something_changed_and_only_then(path, monkeypatch):
    assert committed.refresh() == ["01_made"]
    last = nbformat.read(path, as_version=4).cells[-1]
    assert last.outputs[0].data["text/plain"] == "'a…c'"
    assert "papermill" not in path.read_text()
    whole = path.read_bytes()
    assert committed.refresh() == []
    assert path.read_bytes() == whole

    def output_by_hand(notebook):
        notebook.cells[-1].outputs[0].data["text/plain"] = "'better'"

    def another_source(notebook):
        notebook.cells[-1].source += "  # as a reader wants it"

    def another_default(notebook):
        notebook.cells[0].source = notebook.cells[0].source.replace("= 3", "= 4")

    for change in (output_by_hand, another_source, another_default):
        edit(path, change)
        assert not current(path)
        path.write_bytes(whole)
        assert current(path)
    monkeypatch.setattr(notebooks, "environment", lambda: {"numpy": "9.9"})
    assert not current(path)


def test_the_code_behind_a_notebook_counts_and_other_code_does_not(path, monkeypatch):
    seen = []
    monkeypatch.setattr(notebooks, "code_behind", lambda text: seen.append(text) or "code")
    committed.opened(path)
    assert "shorten(" in seen[0]
    assert "style import displayed" in seen[0]  # how a run shows its figures


def test_what_a_notebook_reads_itself_counts_in_its_chapter_alone(path, monkeypatch):
    keys = []
    for published in (0.5, 0.6):
        monkeypatch.setitem(READERS, "pairs", lambda *_, found=published: found)
        keys += [committed.opened(path)[1]]
        with monkeypatch.context() as chapter:
            chapter.setattr(notebooks, "READ_BY", {"01_made": ("pairs",)})
            keys += [committed.opened(path)[1]]
    assert keys[0] == keys[2]
    assert len({*keys}) == 3


def test_every_manifest_that_a_notebook_reads_is_a_part_of_its_key():
    code = {
        path.stem: "".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        for path in NOTEBOOKS.glob("*.ipynb")
    }
    for kind, call in (("markers", "marker_audit("), ("pairs", "external.pairs(")):
        asking = {name for name, text in code.items() if call in text}
        assert asking == {name for name, kinds in notebooks.READ_BY.items() if kind in kinds}


def test_a_notebook_that_fails_stays_as_it_was(path):
    edit(path, lambda notebook: notebook.cells[-1].update(source="1 / 0"))
    before = path.read_bytes()
    with pytest.raises(MiracleError, match="01_made.ipynb: ZeroDivisionError"):
        committed.refresh()
    assert path.read_bytes() == before
