"""Reading and checking YAML: one place, and one way to say what is wrong with a file."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from yaml.constructor import ConstructorError

from miracle_lib.errors import MiracleError

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000  # more, aliases written out, is no manifest
KINDS = {"int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}
KINDS |= {"timestamp": "a date", "seq": "a list", "map": "a mapping"}

Content = TypeVar("Content")


class Strict(BaseModel):
    """A part of a manifest: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_manifest(path: str | Path, content: type[Content]) -> Content:
    """Read a YAML file and check it against a type.

    Parameters
    ----------
    path : str or Path
        A UTF-8 YAML file.
    content : type
        What it must hold: a pydantic model, or any type that pydantic can check, such as
        ``dict[str, Model]``.

    Returns
    -------
    content

    Raises
    ------
    MiracleError
        The file cannot be read, is not UTF-8 or not YAML, repeats a key, has a key that is no
        text, refers to itself, holds too much, or does not fit ``content``; the sentence names
        file and line.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "sizes.yaml"
    >>> _ = path.write_text("RA: 49\\nSLE: 160\\n")
    >>> read_manifest(path, dict[str, int])
    {'RA': 49, 'SLE': 160}
    """
    path = Path(path)
    text = _read_text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _measure(node, path, {})
        value = None if node is None else loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise MiracleError(f"{path.name}, line {line}: not valid YAML ({error.reason}).") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path.name}, line {mark.line + 1}" if mark else path.name
        raise MiracleError(f"{place}: not valid YAML ({error.problem}).") from None
    except RecursionError:
        raise MiracleError(f"{path.name}: values are nested too deeply.") from None
    try:
        return TypeAdapter(content).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise MiracleError(_sentence(first, _line(node, first["loc"]), path)) from None


class _Loader(yaml.SafeLoader):
    """A safe loader that knows the line of a value that cannot be made, such as 2024-13-40."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                str(value)  # refuses more digits than can be said in a sentence
            return value
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:
            kind = node.tag.rsplit(":", 1)[-1]
            problem = f"{_short(node.value)} is not {KINDS.get(kind, kind)}"
            raise ConstructorError(None, None, problem, node.start_mark) from None


def _read_text(path: Path) -> str:
    """Text of a file, or one sentence why there is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MiracleError(f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise MiracleError(
            f"{path.name} holds {len(content):,} bytes; expected a manifest of at most "
            f"{MOST_BYTES:,}."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = content[error.start]
        raise MiracleError(
            f"{path.name}, line {line}: found the byte 0x{found:02x}, expected UTF-8 text."
        ) from None


def _measure(node: yaml.Node | None, path: Path, sizes: dict[int, int | None]) -> int:
    """Number of values below a node with every alias written out; refuses what is no manifest.

    YAML keeps the last of two equal keys without a word, and a few aliases of aliases stand for
    more values than fit into memory.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    place = f"{path.name}, line {node.start_mark.line + 1}"
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise MiracleError(f"{place}: an alias refers to the value that it is part of.")
        return size
    sizes[id(node)] = None  # being measured
    children = node.value
    if isinstance(node, yaml.MappingNode):
        _check_keys([key for key, _ in node.value], path)
        children = [value for _, value in node.value]
    size = 1 + sum(_measure(child, path, sizes) for child in children)
    if size > MOST_VALUES:
        raise MiracleError(
            f"{place}: with its aliases written out this holds more than {MOST_VALUES:,} values."
        )
    sizes[id(node)] = size
    return size


def _check_keys(keys: list[yaml.Node], path: Path) -> None:
    """Every key is a text and is given once."""
    seen = set()
    for key in keys:
        place = f"{path.name}, line {key.start_mark.line + 1}"
        kind = key.tag.rsplit(":", 1)[-1]
        if kind not in ("str", "merge"):
            raise MiracleError(
                f"{place}: the key {_short(key.value)} is read as {KINDS.get(kind, kind)}; "
                "expected text: put it in quotes."
            )
        if key.value in seen:
            raise MiracleError(f"{place}: the key {key.value!r} is given twice.")
        seen.add(key.value)


def _sentence(error: Any, line: int, path: Path) -> str:
    """One validation error as one sentence."""
    place = f"{path.name}, line {line}"
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key {where!r}."
    if error["type"] == "missing":
        return f"{place}: the key {where!r} is missing."
    if error["type"] in ("model_type", "dict_type"):
        return f"{place}: {where} is {_short(error['input'])}, but keys with values are expected."
    message = error["msg"].rstrip(".")
    if error["type"] == "value_error":
        message = message.removeprefix("Value error, ")
    else:
        message = message[0].lower() + message[1:]
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return f"{place}: {where}: {message}."
    return f"{place}: {where} is {_short(error['input'])}, but {message}."


def _short(value: Any) -> str:
    """A value as Python writes it, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Line of the deepest part of ``location`` that the YAML has."""
    line = node.start_mark.line if node else 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(item, item) for item in node.value[part : part + 1]]
        else:
            found = []
        if not found:
            break
        line, node = found[0][0].start_mark.line, found[0][1]
    return line + 1
