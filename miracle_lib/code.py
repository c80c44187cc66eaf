"""The code that a function uses, as Python parses it: a part of what a result depends on.

A name stands for its definition, and for all that this names in turn, in whatever module of this
package it is defined. Comments, docstrings and layout are no part of it, nor is code that nothing
reaches.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "miracle_lib"
# What talks or stores changes no result; parameters are part of a key by their values.
ASIDE = ("cli", "code", "config", "errors", "extras", "files", "pipeline.run", "resources", "store")
DRAWS = ("plots",)
EVERY = "*"


def digest(value: Any) -> str:
    """Return the hash of anything that JSON holds, independent of the order of its keys.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_of(function: Callable[..., Any]) -> str:
    """Return the hash of a function or class and of all that it names, as Python parses it.

    A comment, a docstring or a blank line changes nothing; neither does code that only draws or
    talks.

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
        text = inspect.cleandoc(inspect.getsource(module or function))
        return digest(ast.dump(_without_docstrings(ast.parse(text))))
    # What is defined within another function may name all of the module.
    known = function.__name__ in _read(name, _text(name)).code
    return _digest([_Place(name, function.__name__ if known else EVERY)], (*ASIDE, *DRAWS))


def code_behind(text: str) -> str:
    """Return the hash of all that a text of Python names in this package, drawing included.

    Parameters
    ----------
    text : str
        Such as the code cells of a notebook; its own words are no part of the hash.

    Returns
    -------
    str
    """
    cells = _read("", text)
    return _digest((place for node in cells.always for place in _named(node, cells, "")), ASIDE)


class _Place(NamedTuple):
    """A name of a module, or every name of it."""

    module: str
    name: str


@dataclass
class _Definitions:
    """What the names of a module stand for: code of its own, or a name of another module."""

    code: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, list[_Place]] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)  # run when the module is imported


def _digest(start: Iterable[_Place], aside: tuple[str, ...]) -> str:
    """Hash of all definitions that can be reached."""
    found: dict[str, list[str]] = {}
    todo = list(start)
    while todo:
        place = todo.pop()
        key = ".".join(place)
        if key in found or _within(place.module, aside):
            continue
        found[key], more = _meaning(place, _text(place.module))
        todo.extend(more)
    return digest(found)


def _within(module: str, parts: tuple[str, ...]) -> bool:
    """Whether a module belongs to one of some parts of the package."""
    own = module.removeprefix(f"{PACKAGE}.")
    return any(own == part or own.startswith(f"{part}.") for part in parts)


@cache
def _meaning(place: _Place, text: str) -> tuple[list[str], list[_Place]]:
    """Code that a name stands for in a module of this text, and the places that this code names."""
    module, name = place
    known = _read(module, text)
    if name == EVERY:
        return [], [_Place(module, each) for each in (*known.code, *known.imported)]
    if name not in known.code:
        # Not imported either: what the module computes when asked, or it may be anything of it.
        unknown = _Place(module, "__getattr__" if "__getattr__" in known.code else EVERY)
        return [], known.imported.get(name, [unknown])
    nodes = known.code[name] + known.always
    return [ast.dump(node) for node in nodes], [p for n in nodes for p in _named(n, known, module)]


def _named(node: ast.AST, known: _Definitions, module: str) -> Iterator[_Place]:
    """Places that a piece of code names."""
    inside = list(ast.walk(node))
    members = {id(part.value): part.attr for part in inside if isinstance(part, ast.Attribute)}
    for part in inside:
        if isinstance(part, ast.Name):
            if part.id in known.code:
                yield _Place(module, part.id)
            for target, name in known.imported.get(part.id, []):
                # Of a module that is named, only the member that is asked for.
                whole = name == EVERY and not target.startswith(f"{part.id}.")
                yield _Place(target, members.get(id(part), name) if whole else name)
        yield from (place for _, place in _imports(part))


def _imports(node: ast.AST) -> Iterator[tuple[str, _Place]]:
    """Names that an import binds, and what they stand for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0], _Place(alias.name, EVERY)
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            place = _Place(inner, EVERY) if _source(inner) else _Place(node.module, alias.name)
            yield alias.asname or alias.name, place


@cache
def _read(module: str, text: str) -> _Definitions:
    """Sort the statements of a module by the names that they define."""
    found = _Definitions()
    tree = _without_docstrings(ast.parse(text))
    for node in tree.body:
        names = [name for name in _bound(node) if module]
        for name in names:
            found.code.setdefault(name, []).append(node)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.If):
            for name, place in (each for part in ast.walk(node) for each in _imports(part)):
                found.imported.setdefault(name, []).append(place)
        elif not names:
            found.always.append(node)
    if module and "__getattr__" in found.code:
        found.imported |= _looked_up(found, module)
    return found


def _bound(node: ast.stmt) -> list[str]:
    """Names that a definition or an assignment binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    else:
        return []
    return [part.id for t in targets for part in ast.walk(t) if isinstance(part, ast.Name)]


def _looked_up(known: _Definitions, package: str) -> dict[str, list[_Place]]:
    """Public names of a package that imports its modules when they are asked for."""
    (table,) = known.code["_PUBLIC"]
    homes = ast.literal_eval(ast.unparse(table).partition("=")[2].strip())
    return {
        name: [_Place(home if home.startswith(PACKAGE) else f"{package}.{home}", name)]
        for name, home in homes.items()
    }


@cache
def _text(module: str) -> str:
    """Source of a module of this package; empty where there is none of that name."""
    source = _source(module)
    return source.read_text("utf-8") if source else ""


@cache
def _source(module: str) -> Path | None:
    """File of a module of this package, None where there is none of that name."""
    if module.split(".")[0] != PACKAGE:
        return None
    try:
        spec = find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


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
