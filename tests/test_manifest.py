"""Hostile and mistaken YAML, whatever it describes."""

import time

import pytest

from miracle_lib.cohorts import load_manifest
from miracle_lib.config import load_profile
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import list_annotation_sources
from miracle_lib.interpretation import load_markers
from miracle_lib.manifest import read_manifest
from miracle_lib.studies import load_ablations

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = [
    ("title: ok\ntissue: Bl\xfct\n".encode("latin-1"), "line 2: found the byte 0xfc, .* UTF-8"),
    (b"\xff\xfea\x00", "line 1: found the byte 0xff, expected UTF-8 text"),
    (b"title: a\n450: b\n", "line 2: the key '450' is read as a number; .* put it in quotes"),
    (b"keep: {yes: b}\n", "line 1: the key 'yes' is read as true or false"),
    (b"? [a, b]\n: c\n", "line 1: the key .* is read as a list"),
    (b"a: &a [*a]\n", "line 1: an alias refers to the value that it is part of"),
    (b"a: &a {b: 1, c: *a}\n", "line 1: an alias refers"),
    (LAUGHS.encode(), "line 5: .* more than 100,000 values"),
    (MERGED.encode(), "more than 100,000 values"),
    (b"a: " + b"[" * 5000, "nested too deeply"),
    (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
    (b"a: 1\nb: {c: 2, c: 3}\n", "line 2: the key 'c' is given twice"),
    (b"a: 1\nb: [1, 2\nc: 3\n", "line 3: not valid YAML"),
    (b"a: 1\nb: \x07\n", "line 2: not valid YAML .special characters"),
    (b"a: 1\nb: 2024-13-40\n", "line 2: not valid YAML .'2024-13-40' is not a date"),
    (b"a: 0x" + b"f" * 9000, "is not a number"),
    (b"a: !!int many\n", "'many' is not a number"),
    (b"a: !!python/object/apply:os.system [ls]\n", "line 1: not valid YAML"),
    (b"a: *nowhere\n", "undefined alias"),
    (b"a: 1\n---\nb: 2\n", "line 2: not valid YAML"),
    (b"# " + b"x" * 1_000_000, "holds 1,000,002 bytes"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_hostile_yaml_is_refused_at_once_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(MiracleError, match=rf"^mine.yaml.*{message}") as raised:
        read_manifest(path, dict[str, object])
    assert time.monotonic() - started < 2
    assert "\n" not in str(raised.value)


READERS = [load_manifest, load_profile, load_ablations, load_markers, list_annotation_sources]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@pytest.mark.parametrize(
    ("content", "message"),
    [HOSTILE[0], HOSTILE[2], HOSTILE[5], HOSTILE[7], (b"just text", "keys with values are exp")],
)
def test_every_reader_of_yaml_refuses_it_in_the_same_words(tmp_path, read, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(MiracleError, match=f"^mine.yaml, .*{message}"):
        read(str(path))


def test_a_value_that_fills_the_screen_is_cut(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"a: {'x' * 5000}\n")
    with pytest.raises(MiracleError, match=r"line 1: a is 'x+\.\.\., but input should be"):
        read_manifest(path, dict[str, int])


def test_aliases_and_merged_keys_that_stand_for_little_are_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n")
    expected = {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert read_manifest(path, dict[str, dict[str, int]]) == expected
