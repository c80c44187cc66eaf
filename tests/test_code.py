"""What code a result depends on."""

import importlib
import os
import sys
import textwrap

import pytest

from miracle_lib import code as module
from miracle_lib.code import code_behind, code_of, digest
from miracle_lib.model.weighting import POLICIES
from miracle_lib.training import Trainer


def forget():
    module._text.cache_clear()
    module._source.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in the place of this one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    files = {
        "__init__.py": "",
        "steps.py": """
            from tiny import tools
            from tiny.plots.draw import line
            from tiny.other import unused
            from tiny.lazy import late, VERSION
            from tiny.public import offered
            import statistics as numbers
            import tiny.whole.part

            LIMIT = 3
            LIMIT += 0

            def helper(x):
                return tools.double(x) + LIMIT + late(x) + offered(x) + named(x)

            def named(x):
                return VERSION + numbers.fmean([x]) + tiny.whole.part.named(x)

            def make(run):
                "Make it."
                return helper(run)

            def neighbour(run):
                return unused(run)
        """,
        "tools.py": "from tiny.deep import twice\ndef double(x):\n    return twice(x)\n"
        "def triple(x):\n    return x\n",
        "lazy/__init__.py": "_PUBLIC = {'late': 'a', 'never': 'b'}\n"
        "def __getattr__(name): return 9\n",
        "lazy/a.py": "def late(x):\n    return x\n",
        "lazy/b.py": "def never(x):\n    return x\n",
        "whole/__init__.py": "",
        "whole/part.py": "def named(x):\n    return x\n",
        "public/__init__.py": "from tiny.public.a import offered\n"
        "from tiny.public.b import other\n",
        "public/a.py": "SIZES = {}\nSIZES['a'] = 1\ndef offered(x):\n    return SIZES\n",
        "public/b.py": "def other(x):\n    return x\n",
        "deep.py": "def twice(x):\n    return 2 * x\n",
        "other.py": "def unused(x):\n    return x\n",
        "plots/__init__.py": "",
        "plots/draw.py": "def line():\n    return 1\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "tiny")

    make = importlib.import_module("tiny.steps").make

    def key():
        forget()
        return code_of(make)

    yield folder, key
    forget()
    for name in [name for name in sys.modules if name.split(".")[0] == "tiny"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("steps.py", "return helper(run)", "return helper(run) + 1", True),
        ("steps.py", "LIMIT = 3", "LIMIT = 4", True),
        ("tools.py", "twice(x)", "twice(x) + 1", True),
        ("tools.py", "return x", "return x + 1", False),
        ("deep.py", "2 * x", "3 * x", True),
        ("steps.py", "LIMIT += 0", "LIMIT += 1", True),
        ("steps.py", "fmean", "mean", True),
        ("steps.py", "import statistics", "import other_statistics", True),
        ("lazy/a.py", "return x", "return x + 1", True),
        ("lazy/b.py", "return x", "return x + 1", False),
        ("lazy/__init__.py", "9", "10", True),
        ("whole/part.py", "return x", "return x + 1", True),
        ("public/a.py", "= 1", "= 2", True),
        ("public/b.py", "return x", "return x + 1", False),
        ("deep.py", "    return 2 * x", '    "Twice."\n    # a reason\n    return 2 * x', False),
        ("steps.py", "Make it.", "Make it well.", False),
        ("steps.py", "return unused(run)", "return unused(run) + 1", False),
        ("other.py", "return x", "return x + 1", False),
        ("plots/draw.py", "return 1", "return 2", False),
    ],
)
def test_a_step_is_made_again_when_code_that_it_uses_changes(package, file, old, new, again):
    folder, key = package
    before = key()
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    os.utime(folder / file, ns=(1, 1))  # the same second: nothing may rest on the time
    assert (key() != before) is again


def test_the_order_of_keys_is_no_content():
    assert digest({"a": [1, 2], "b": 3}) == digest({"b": 3, "a": [1, 2]})
    assert digest([1, 2]) != digest([2, 1])


def test_every_weighting_policy_is_code_of_the_trainer(monkeypatch):
    """A policy is chosen by its name: the table of names reaches them all."""
    forget()
    seen = set()
    digest_of = module.digest
    monkeypatch.setattr(module, "digest", lambda found: seen.update(found) or digest_of(found))
    code_of(Trainer)
    assert {f"{policy.__module__}.{policy.__name__}" for policy in POLICIES.values()} <= seen


def test_code_within_a_function_counts_with_all_of_its_module(package):
    folder, _ = package
    outer = "def outer():\n    def inner():\n        return 1\n    return inner\n"
    (folder / "nested.py").write_text(outer + "LIMIT = 1\n")
    inner = importlib.import_module("tiny.nested").outer()
    before = code_of(inner)
    (folder / "nested.py").write_text(outer + "LIMIT = 2\n")
    forget()
    assert code_of(inner) != before


def test_what_a_text_names_counts_with_what_it_draws(package):
    folder, _ = package
    text = "from tiny.plots import draw\nfrom tiny import tools\ndraw.line(tools.double(1))\n"
    before = code_behind(text)
    assert code_behind("# a remark\n" + text) == before
    for file, again in {"draw.py": True, "unused.py": False}.items():
        path = folder / "plots" / file
        path.write_text("def line():\n    return 3\n")
        forget()
        assert (code_behind(text) != before) is again
        before = code_behind(text)
