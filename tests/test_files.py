import json
import os
from contextlib import suppress

import pytest

from miracle_lib import files
from miracle_lib.files import (
    RememberedHashes,
    atomic_path,
    put_back,
    safe_name,
    sha256,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("before", "fails"), [("old", True), ("old", False), (None, True)])
def test_a_file_is_put_back_where_what_is_done_with_the_new_one_fails(tmp_path, before, fails):
    target = tmp_path / "table.csv"
    if before:
        target.write_text(before)
    with suppress(RuntimeError), put_back(target):
        target.write_text("new")
        if fails:
            raise RuntimeError
    left = [path.read_text() for path in tmp_path.iterdir()]
    assert left == [before if fails else "new"] * bool(before or not fails)


def test_json_is_sorted_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"b": 1, "a": [2]})
    text = (tmp_path / "deep" / "a.json").read_text()
    assert json.loads(text) == {"a": [2], "b": 1}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected


def test_a_safe_name_stands_for_one_text_and_stays_where_it_is_put():
    names = [
        "RA",
        "SLE/DLE",
        "SLE%2FDLE",
        "../../x",
        "..",
        ".",
        "",
        " ",
        "a\\b",
        "Böck",
        "%",
        "a\nb",
    ]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    for name in safe:
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\\n")
        assert not name.startswith(".")
    assert safe_name("Crohn disease_1.2") == "Crohn disease_1.2"


def test_a_file_is_read_again_only_when_its_size_or_time_has_changed(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or sha256(path))
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    os.utime(path, (1e9, 1e9))
    first = RememberedHashes(tmp_path / "hashes.json")(path)
    assert first == sha256(path)
    assert RememberedHashes(tmp_path / "hashes.json")(path) == first  # as another process would
    assert read == [path]
    path.write_bytes(b"abd")
    os.utime(path, (2e9, 1e9 + 1))
    assert RememberedHashes(tmp_path / "hashes.json")(path) == sha256(path) != first
    assert read == [path, path]


def test_a_file_written_this_moment_is_not_remembered(tmp_path):
    path, hashes = tmp_path / "abc", RememberedHashes(tmp_path / "hashes.json")
    path.write_bytes(b"abc")
    hashes(path)
    assert not hashes.memory.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}'])
def test_a_damaged_memory_of_hashes_is_no_more_than_slow(tmp_path, content):
    (tmp_path / "hashes.json").write_text(content)
    (tmp_path / "abc").write_bytes(b"abc")
    os.utime(tmp_path / "abc", (1e9, 1e9))
    assert RememberedHashes(tmp_path / "hashes.json")(tmp_path / "abc") == sha256(tmp_path / "abc")
