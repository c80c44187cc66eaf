import errno
import hashlib
import json
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from miracle_lib import files
from miracle_lib.cohorts import fetch, fetch_cohorts, fetch_file
from miracle_lib.errors import MiracleError

CHUNK = fetch._CHUNK
CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves one content, with ranges; can drop connections, fail, or change."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.status = CONTENT, '"one"', 200
        self.drop_after: list[int] = []  # bytes after which the next connections are dropped
        self.requests: list[str | None] = []
        self.go_on = threading.Event()  # answers wait for it after the first block
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/folder/data.bin"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.send_header("ETag", server.etag)
        self.end_headers()
        body = server.content[start:]
        if server.drop_after:
            body = body[: server.drop_after.pop(0)]
        if not server.go_on.is_set():
            self.wfile.write(body[:CHUNK])
            body = body[CHUNK:]
            server.go_on.wait(60)
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "_PAUSE", 0.0)
    monkeypatch.delenv("MIRACLE_MIRROR", raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_download_dropped_half_way_is_resumed_where_it_stopped(server, tmp_path):
    half = len(CONTENT) // 2
    server.drop_after = [half, CHUNK]
    path = fetch_file(server.url, cache=tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={half}-", f"bytes={half + CHUNK}-"]
    assert files_in(tmp_path) == ["checksums.json", "data.bin"]


def test_a_download_that_fails_for_good_is_continued_by_the_next_call(server, tmp_path):
    server.drop_after = [CHUNK, *[0] * fetch._ATTEMPTS]
    with pytest.raises(MiracleError, match=r"data.bin: the connection .* 65,536 bytes are kept"):
        fetch_file(server.url, cache=tmp_path)
    assert "data.bin" not in files_in(tmp_path)
    server.requests.clear()
    assert fetch_file(server.url, cache=tmp_path).read_bytes() == CONTENT
    assert server.requests == [f"bytes={CHUNK}-"]


def test_addresses_that_differ_behind_the_question_mark_are_different_files(server, tmp_path):
    one = fetch_file(f"{server.url}?file=one", cache=tmp_path)
    server.content, server.etag = CONTENT[::-1], '"two"'
    two = fetch_file(f"{server.url}?file=two", cache=tmp_path)
    assert (one.read_bytes(), two.read_bytes()) == (CONTENT, CONTENT[::-1])
    assert one.name == two.name == "data.bin"
    assert fetch_file(f"{server.url}?file=one", cache=tmp_path) == one


def test_a_file_that_changed_while_interrupted_is_fetched_anew(server, tmp_path):
    server.drop_after = [CHUNK, *[0] * fetch._ATTEMPTS]
    with pytest.raises(MiracleError):
        fetch_file(server.url, cache=tmp_path)
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert fetch_file(server.url, cache=tmp_path).read_bytes() == CONTENT[::-1]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    fetch_file(server.url, cache=tmp_path)
    fetch_file(server.url, cache=tmp_path)
    assert len(server.requests) == 1


FETCH = (
    "import logging, sys; logging.basicConfig(level=logging.INFO);"
    "from miracle_lib.cohorts import fetch_file;"
    "print(fetch_file(sys.argv[1], cache=sys.argv[2]))"
)


def test_two_processes_download_a_file_once_and_both_get_all_of_it(server, tmp_path):
    server.go_on.clear()
    command = [sys.executable, "-c", FETCH, server.url, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        # Whichever comes second says so; only then does the server send the rest.
        waiting, other = _first_to_wait([first, second])
        server.go_on.set()
        paths = {Path(process.stdout.read().strip()) for process in (waiting, other)}
    assert waiting.returncode == other.returncode == 0
    (path,) = paths
    assert path.read_bytes() == CONTENT
    assert server.requests == [None]
    assert files_in(tmp_path) == ["checksums.json", "data.bin"]


def _first_to_wait(processes):
    """The process that says that it waits for another, and that other one."""
    said = queue.Queue()

    def listen(process):
        for line in process.stderr:
            if "waiting for another process" in line:
                said.put(process)
                return

    for process in processes:
        threading.Thread(target=listen, args=(process,), daemon=True).start()
    found = said.get(timeout=60)
    (other,) = [process for process in processes if process is not found]
    return found, other


def test_files_fetched_at_the_same_time_are_all_recorded(server, tmp_path):
    urls = [server.url.replace("data", f"data{i}") for i in range(16)]
    with ThreadPoolExecutor(len(urls)) as pool:
        list(pool.map(lambda url: fetch_file(url, cache=tmp_path), urls))
    assert set(json.loads((tmp_path / "checksums.json").read_text())) == set(urls)


def test_a_cache_that_cannot_be_written_is_enough_for_files_that_are_there(
    server, tmp_path, monkeypatch
):
    path = fetch_file(server.url, cache=tmp_path)

    def read_only(name):
        raise OSError(errno.EROFS, "Read-only file system", str(name))

    monkeypatch.setattr(files, "FileLock", read_only)
    assert fetch_file(server.url, cache=tmp_path) == path
    path.unlink()
    with pytest.raises(MiracleError, match=r"data.bin cannot be written .*Read-only file system"):
        fetch_file(server.url, cache=tmp_path)


def test_the_first_checksum_is_recorded_and_enforced(server, tmp_path):
    path = fetch_file(server.url, cache=tmp_path)
    lock = json.loads((tmp_path / "checksums.json").read_text())
    assert lock == {server.url: hashlib.sha256(CONTENT).hexdigest()}
    path.write_bytes(b"damaged on disk")
    assert fetch_file(server.url, cache=tmp_path).read_bytes() == CONTENT
    path.unlink()
    server.content, server.etag = b"replaced on the server", '"two"'
    with pytest.raises(MiracleError, match=r"data.bin has changed on the server: its SHA-256"):
        fetch_file(server.url, cache=tmp_path)
    assert files_in(tmp_path) == ["checksums.json"]


def test_a_checksum_that_the_manifest_gives(server, tmp_path):
    with pytest.raises(MiracleError, match="which the manifest gives"):
        fetch_file(server.url, cache=tmp_path, checksum="0" * 64)
    assert files_in(tmp_path) == []
    local = tmp_path / "local.csv"
    local.write_text("x")
    with pytest.raises(MiracleError, match=r"local.csv has SHA-256 .*, the manifest says 000"):
        fetch_file(str(local), checksum="0" * 64)


def test_a_damaged_lock_file(server, tmp_path):
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(MiracleError, match=r"checksums.json is no valid JSON"):
        fetch_file(server.url, cache=tmp_path)


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_the_server_does_not_have(server, tmp_path, status):
    server.status = status
    with pytest.raises(MiracleError, match=rf"data.bin: the server answered {status}"):
        fetch_file(server.url, cache=tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [503, 429])
def test_a_server_in_trouble_is_asked_again(server, tmp_path, status):
    server.status = status
    with pytest.raises(MiracleError, match="failed 5 times"):
        fetch_file(server.url, cache=tmp_path)
    assert len(server.requests) == fetch._ATTEMPTS


def test_an_error_page_is_not_taken_for_the_file(server, tmp_path):
    server.content = b"\n<!DOCTYPE html><html>try later</html>"
    with pytest.raises(MiracleError, match=r"data.bin: the server sent a web page in its place"):
        fetch_file(server.url, cache=tmp_path)
    assert files_in(tmp_path) == []


def test_no_room_on_the_disk(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MiracleError, match=r"data.bin needs 1,048,576 bytes, .* has 10 left"):
        fetch_file(server.url, cache=tmp_path)
    assert files_in(tmp_path) == []


def test_a_disk_that_fills_up_meanwhile(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    server.drop_after = [CHUNK]
    monkeypatch.setattr(fetch.tqdm, "update", full)  # called after every block is written
    with pytest.raises(MiracleError, match=r"data.bin cannot be written .*No space left"):
        fetch_file(server.url, cache=tmp_path)
    assert files_in(tmp_path) == []


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MiracleError, match=r"data.bin cannot be written to .*MIRACLE_CACHE"):
        fetch_file(server.url, cache=tmp_path / "file")


def test_a_mirror_folder_is_searched_by_base_name(server, tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "data.bin").write_bytes(b"from the mirror")
    assert fetch_file(server.url, folder).read_bytes() == b"from the mirror"
    monkeypatch.setenv("MIRACLE_MIRROR", str(folder))
    assert fetch_file(server.url).read_bytes() == b"from the mirror"
    with pytest.raises(MiracleError, match=rf"own.csv is not in {tmp_path}"):
        fetch_file(str(tmp_path / "own.csv"))  # which no mirror has
    with pytest.raises(MiracleError, match=r"other.bin is not in the mirror"):
        fetch_file("https://example.org/a/other.bin")
    assert server.requests == []


def test_a_mirror_address_replaces_the_server(server, tmp_path):
    mirror = server.url.rsplit("/", 1)[0] + "/"
    path = fetch_file("https://example.org/a/b/data.bin", mirror, cache=tmp_path)
    assert path.read_bytes() == CONTENT


def test_fetch_cohorts_lists_every_file(write_series, write_manifest, tmp_path):
    path = write_series([[0.5, 0.5]])
    table = fetch_cohorts([write_manifest()])
    assert table.loc[0, ["cohort", "file"]].tolist() == ["GSE1", path.name]
    assert table.loc[0, "sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert table.loc[0, "bytes"] == path.stat().st_size


@pytest.mark.parametrize(
    "url",
    ["http://host/..%2f..%2fvictim", "http://host/a/..%2F..%2F..%2Fx.txt", "http:///etc/passwd"],
)
def test_an_address_that_leads_out_of_the_cache_is_refused(tmp_path, url):
    cache = tmp_path / "deep" / "cache"
    with pytest.raises(MiracleError, match="leads out of the folder of downloads"):
        fetch_file(url, cache=cache)
    assert not list(tmp_path.rglob("*victim*"))


def test_a_redirect_to_this_machine_is_not_followed(tmp_path, monkeypatch):
    asked = []

    class Answer:
        is_redirect = True

        def __init__(self):
            self.headers = {"Location": "http://127.0.0.1:1/secret"}

        def close(self):
            pass

    def get(url, **options):
        asked.append(url)
        return Answer()

    monkeypatch.setattr(fetch.requests, "get", get)
    monkeypatch.setattr(fetch, "_is_local", lambda url: "127.0.0.1" in url)
    with pytest.raises(MiracleError, match="an address of the local network; it is not followed"):
        fetch_file("http://example.org/data.bin", cache=tmp_path)
    assert asked == ["http://example.org/data.bin"]


def test_addresses_of_this_machine_and_of_private_networks_are_local():
    assert fetch._is_local("http://127.0.0.1:80/a")
    assert fetch._is_local("http://10.1.2.3/a")
    assert fetch._is_local("http://[::1]/a")
    assert fetch._is_local("http://169.254.169.254/latest")
    assert not fetch._is_local("http://8.8.8.8/a")
