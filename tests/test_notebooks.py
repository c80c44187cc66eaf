import ast
import inspect
import re
from base64 import b64decode

import nbformat
import pytest

from miracle_lib.config import ROOT, Parameters, load_profile
from miracle_lib.pipeline.notebooks import NOTEBOOKS, STEPS_OF, parameters_of
from miracle_lib.pipeline.run import STEPS
from miracle_lib.plots import ewas, interactive, interpretation

IMAGES = {"image/png", "image/svg+xml"}
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path, tag):
    return [cell for cell in code_cells(path) if tag in cell.metadata.get("tags", [])]


def test_there_is_one_notebook_per_chapter():
    assert [path.stem for path in PATHS] == list(STEPS_OF)


def test_every_step_of_a_chapter_exists():
    assert {name for steps in STEPS_OF.values() for name in steps} <= set(STEPS)


@EACH
def test_outputs_are_committed_and_hold_no_error(path):
    """Cells without an execution count are never compared, so nbval would pass on nothing."""
    for cell in code_cells(path):
        assert cell.execution_count
        assert not [output for output in cell.outputs if output.output_type == "error"]
        assert not [output for output in cell.outputs if output.get("name") == "stderr"]


@EACH
def test_the_kernel_is_one_that_everybody_has(path):
    assert read(path).metadata.kernelspec.name == "python3"


@EACH
def test_parameters_are_typed_commented_and_have_the_defaults_of_the_library(path):
    (cell,) = tagged(path, "parameters")
    defaults = {**Parameters().model_dump(), **load_profile("demo").parameters}
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+: (int|str|float) = [^#]+ {2}# \S.*", line), line
    for node in ast.parse(cell.source).body:
        assert ast.literal_eval(node.value) == defaults[node.target.id]
        assert Parameters.model_fields[node.target.id].annotation
    assert set(parameters_of(path)) >= {"profile", "run_dir", "seed"}


def used_by(step):
    """Parameters that change a step's result or that of a step before it."""
    return set(STEPS[step].uses).union(*map(used_by, STEPS[step].after))


@EACH
def test_a_notebook_declares_every_parameter_of_the_steps_it_shows(path):
    """It would otherwise look for results under the default, and make them anew."""
    for step in STEPS_OF[path.stem]:
        assert used_by(step) <= set(parameters_of(path))


@EACH
def test_no_algorithm_in_a_notebook(path):
    """Logic lives in the library: a notebook defines nothing and loops over nothing but figures."""
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.While | ast.Lambda)


@EACH
def test_pictures_name_at_the_false_discovery_rate_of_the_run(path):
    functions = {**vars(interpretation), **vars(interactive), **vars(ewas)}
    naming = {
        name
        for name, function in functions.items()
        if inspect.isfunction(function) and "q_value" in inspect.signature(function).parameters
    }
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in naming:
                assert "q_threshold" in ast.unparse(node), cell.source


@EACH
def test_every_figure_has_an_alternative_text(path):
    for cell in code_cells(path):
        if any(IMAGES & set(output.get("data", {})) for output in cell.outputs):
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40
            assert cell.metadata["mystnb"]["figure"]["caption"]


@EACH
def test_no_committed_figure_is_too_large_to_be_reviewed(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            for kind, content in output.get("data", {}).items():
                size = len(b64decode(content) if kind == "image/png" else content)
                assert size <= 150_000, cell.source[-80:]


@EACH
def test_a_notebook_names_no_place_on_a_machine(path):
    text = path.read_text()
    assert str(ROOT) not in text
    assert not re.search(r"/(home|root|tmp|Users)/", text)


@EACH
def test_a_notebook_says_what_its_numbers_were_computed_on(path):
    shown = [output for cell in code_cells(path) for output in cell.outputs if "data" in output]
    assert any("Simulated data." in str(output.data.get("text/markdown")) for output in shown)


@EACH
def test_a_chapter_opens_with_its_answer_and_what_it_cannot_show(path):
    banner, opening = code_cells(path)[1:3]
    assert banner.source.endswith("Markdown(run.banner)")
    (output,) = opening.outputs
    assert output.data["text/markdown"].startswith("**In short.** ")
    assert output.data["text/markdown"].count("*What it cannot show*: ") == 1


@EACH
def test_a_chapter_ends_with_takeaways_and_two_questions_whose_answers_are_folded(path):
    last = read(path).cells[-1]
    assert last.cell_type == "markdown"
    assert last.source.startswith("## Takeaways")
    asked = last.source.split("### Two questions to test yourself")[1]
    folded = re.findall(
        r"<details>\n<summary>([^<]+\?)</summary>\n\n(.+?)\n\n</details>", asked, re.DOTALL
    )
    assert len(folded) == 2
