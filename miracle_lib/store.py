"""One place that decides what a result depends on, where it lies, and whether it is whole.

A result is a folder that a function has filled. Its name is the key: a hash of all that it depends
on, so that a result whose inputs are unchanged is found, and others lie beside it. A function
works in ``KEY.part``, which a killed run finds again; when it is done, a receipt with the checksum
of every file and the environment is written and the folder is renamed to ``KEY``.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import logging
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from miracle_lib.errors import MiracleError
from miracle_lib.files import alone, sha256, write_json

log = logging.getLogger(__name__)

PACKAGE = "miracle_lib"
RECEIPT = "receipt.json"
# Packages whose version can change a number.
COMPUTE = (
    "anndata",
    "captum",
    "gseapy",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "torch",
)
# What draws, talks or stores changes no result; parameters are part of a key by their values.
ASIDE = (
    "cli",
    "config",
    "errors",
    "extras",
    "files",
    "pipeline.run",
    "plots",
    "resources",
    "store",
)


def digest(value: Any) -> str:
    """Return the hash of anything that JSON holds, independent of the order of its keys.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def environment() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in COMPUTE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


def code_of(function: Callable[..., Any]) -> str:
    """Return the hash of the code that a function uses, as Python parses it.

    The function itself, the functions and values of its module that it names, and every module of
    this package that these import, directly or through another. A comment, a docstring or a blank
    line changes nothing; neither does code that only draws or talks.

    Parameters
    ----------
    function : callable
        Defined in a module of this package, or anywhere else (then its module alone counts).

    Returns
    -------
    str
    """
    module = inspect.getmodule(function)
    name = module.__name__ if module else ""
    if not name.startswith(PACKAGE):
        return digest(_parsed_text(inspect.getsource(module or function)))
    if not any(getattr(node, "name", "") == function.__name__ for node in _tree(name).body):
        # Defined within another function: what it names may come from all of the module.
        return digest({each: _module_digest(each) for each in sorted(_closure(name))})
    own, used = _reached(name, function.__name__)
    modules = sorted({found for start in used for found in _closure(start)})
    return digest([own, {each: _module_digest(each) for each in modules}])


def module_code(module: str) -> str:
    """Return the hash of a module, or of all modules of a package, as Python parses them.

    What only draws counts here: this is for those who show it.
    """
    source = _source(module)
    if source is None or source.name != "__init__.py":
        return _module_digest(module)
    names = [path.stem for path in sorted(source.parent.glob("*.py")) if path.name != source.name]
    return digest([_module_digest(module), *(_module_digest(f"{module}.{name}") for name in names)])


def _reached(module: str, name: str) -> tuple[list[str], set[str]]:
    """Code within a module that a name reaches, and the modules that this imports."""
    tree = _tree(module)
    defined = {node.name: node for node in tree.body if hasattr(node, "name")}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {t.id: node for t in targets if isinstance(t, ast.Name)}
    imported: dict[str, set[str]] = {}
    for node in tree.body:
        for alias, target in _imports(node, module):
            imported.setdefault(alias, set()).add(target)
    code, modules, todo, seen = [], set(), [name], set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        modules |= imported.get(current, set())
        if current not in defined:
            continue
        node = defined[current]
        code.append(ast.dump(node))
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                todo.append(part.id)
            modules |= {target for _, target in _imports(part, module)}
    return sorted(code), modules


def _imports(node: ast.AST, module: str) -> Iterator[tuple[str, str]]:
    """Names that an import binds, and the modules of this package that they come from."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith(f"{PACKAGE}."):
                yield alias.asname or alias.name.split(".")[0], alias.name
    elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            target = inner if _source(inner) else node.module
            if target != PACKAGE:
                yield alias.asname or alias.name, target


@cache
def _closure(module: str) -> frozenset[str]:
    """A module and every module of this package that it imports, directly or not."""
    found, todo = set(), [module]
    while todo:
        current = todo.pop()
        if current in found or current == PACKAGE or _is_aside(current):
            continue
        found.add(current)
        for node in ast.walk(_tree(current)):
            todo.extend(target for _, target in _imports(node, current))
        source = _source(current)
        if source and source.name == "__init__.py" and "__getattr__" in source.read_text():
            # Its names are looked up when they are used: all of its modules may be.
            todo.extend(f"{current}.{path.stem}" for path in source.parent.glob("[!_]*.py"))
    return frozenset(found)


def _is_aside(module: str) -> bool:
    """Whether a module draws, talks or stores."""
    part = module.removeprefix(f"{PACKAGE}.")
    return any(part == name or part.startswith(f"{name}.") for name in ASIDE)


@cache
def _source(module: str) -> Path | None:
    """File of a module, None where there is none of that name."""
    try:
        spec = find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@cache
def _tree(module: str) -> ast.Module:
    """A module as Python parses it, without docstrings."""
    source = _source(module)
    return _without_docstrings(ast.parse(source.read_text("utf-8") if source else ""))


@cache
def _module_digest(module: str) -> str:
    return digest(ast.dump(_tree(module)))


def _parsed_text(text: str) -> str:
    return ast.dump(_without_docstrings(ast.parse(inspect.cleandoc(text))))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


@dataclass(frozen=True)
class Store:
    """A folder of results.

    Parameters
    ----------
    folder : Path
        Made when the first result is.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> def fill(folder): _ = (folder / "a.txt").write_text("done")
    >>> (store.make("letters", digest("first"), fill) / "a.txt").read_text()
    'done'
    """

    folder: Path

    def place(self, name: str, key: str) -> Path:
        """Where a result lies, or would lie."""
        return self.folder / name / key

    def find(self, name: str, key: str) -> Path | None:
        """Return a finished result; None where there is none, or where it is damaged.

        Reads only: what is damaged stays as it is until it is made again, and is said in a warning.
        """
        place = self.place(name, key)
        if not place.is_dir():
            return None
        problems = _problems(place)
        if problems:
            file, problem = next(iter(problems.items()))
            log.warning("%s: %s %s; it is made again", name, file, problem)
            return None
        return place

    def make(self, name: str, key: str, fill: Callable[[Path], None]) -> Path:
        """Return a finished result, made now if it is not there.

        Parameters
        ----------
        name : str
            What it is, a name of this package.
        key : str
            From `digest`.
        fill : callable
            Fills the folder that it is given, which holds what an earlier call left unfinished.

        Returns
        -------
        Path
        """
        place = self.place(name, key)
        work = place.with_name(f"{key}.part")
        work.mkdir(parents=True, exist_ok=True)
        with alone(place, f"{name}: waiting for who makes it"):
            if (found := self.find(name, key)) is not None:  # made meanwhile
                shutil.rmtree(work, ignore_errors=True)
                return found
            if place.is_dir():
                _reopen(place, work)
            work.mkdir(exist_ok=True)
            fill(work)
            files = _sums(work)
            receipt = {"environment": environment(), "files": files, "sum": digest(files)}
            write_json(work / RECEIPT, receipt)
            work.replace(place)
        return place

    def receipt(self, name: str, key: str) -> dict[str, Any]:
        """What a finished result was made with: environment, and the checksum of each file."""
        return json.loads((self.place(name, key) / RECEIPT).read_text("utf-8"))

    def clean(self, needed: Iterable[tuple[str, str]]) -> list[Path]:
        """Remove every result, finished or not, that is not among those needed.

        Parameters
        ----------
        needed : iterable of (name, key)

        Returns
        -------
        list of Path
            What was removed.
        """
        kept = {self.place(name, key) for name, key in needed}
        removed = []
        for place in sorted(self.folder.glob("*/*")):
            finished = place.with_name(place.name.removesuffix(".part"))
            if place.is_dir() and finished not in kept:
                shutil.rmtree(place)
                removed.append(place)
        return removed


@contextmanager
def only_one(folder: Path, command: str = "run") -> Iterator[None]:
    """Keep a second command out of a folder; say so in one sentence.

    Parameters
    ----------
    folder : Path
    command : str
        For the message.

    Raises
    ------
    MiracleError
        Another process is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MiracleError(
            f"{folder} is in use by another {command}; wait until it is finished, or name "
            "another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _sums(folder: Path) -> dict[str, str]:
    """Checksum of every file below a folder."""
    files = sorted(
        path
        for path in folder.rglob("*")
        # What desktops leave is hidden, and no part of a result.
        if path.is_file() and path != folder / RECEIPT and not path.name.startswith(".")
    )
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _problems(place: Path) -> dict[str, str]:
    """What is wrong with the files of a finished result, by name; empty if it is whole."""
    try:
        receipt = json.loads((place / RECEIPT).read_text("utf-8"))
        files, whole = receipt["files"], receipt["sum"] == digest(receipt["files"])
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        return {RECEIPT: "is missing or damaged"}
    found = _sums(place)
    problems = {name: "is missing" for name in files if name not in found}
    problems |= {name: "is not part of it" for name in found if name not in files}
    changed = (name for name in found if name in files and found[name] != files[name])
    return problems | dict.fromkeys(changed, "is damaged")


def _reopen(place: Path, work: Path) -> None:
    """Turn a damaged result into unfinished work that holds what of it is sound."""
    problems = _problems(place)
    shutil.rmtree(work)
    if RECEIPT in problems:  # nothing says what is sound
        shutil.rmtree(place)
        return
    for name in problems:
        (place / name).unlink(missing_ok=True)
    place.replace(work)
    (work / RECEIPT).unlink()
