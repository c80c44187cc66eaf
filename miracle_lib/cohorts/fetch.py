"""Files from the network, resumed and checked, or from a mirror."""

import errno
import hashlib
import ipaddress
import json
import logging
import os
import shutil
import socket
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import pandas as pd
import requests
from tqdm import tqdm

from miracle_lib.cohorts.manifest import base_name, is_remote, load_manifest
from miracle_lib.errors import MiracleError
from miracle_lib.files import RememberedHashes, alone, atomic_path, sha256, write_json

if TYPE_CHECKING:
    import pooch

_log = logging.getLogger(__name__)
_ATTEMPTS = 5  # in a row without a single new byte
_CHUNK = 1 << 16  # bytes; at most so many are asked for again after a break
_PAUSE = 2.0  # seconds, times the number of failures
_REDIRECTS = 10
_TIMEOUT = 30  # seconds without an answer


def cache_folder() -> Path:
    """Folder of downloaded files: ``MIRACLE_CACHE``, or the user's cache folder."""
    import pooch  # prints a warning when imported inside a notebook

    return Path(os.environ.get("MIRACLE_CACHE") or pooch.os_cache("miracle"))


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, which is read anew only if its size or time of change is another."""
    return RememberedHashes(cache_folder() / "hashes.json")(path)


def fetch_file(
    url: str,
    mirror: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    checksum: str | None = None,
) -> Path:
    """Return the path of a file, downloaded once and checked every time.

    A download that breaks off continues where it stopped, in this call or in the next. The
    checksum found at the first download is kept in ``checksums.json`` in the cache and enforced
    from then on. Processes that want the same file download it once: the others wait.

    Parameters
    ----------
    url : str
        http(s) address, or path of a local file.
    mirror : str or Path, optional
        Folder or http(s) address where the file is looked up by its base name instead; default:
        the environment variable ``MIRACLE_MIRROR``. Files of a folder are read in place.
    cache : str or Path, optional
        Default: `cache_folder`.
    checksum : str, optional
        SHA-256 that the file must have.

    Returns
    -------
    Path

    Raises
    ------
    MiracleError
        The file is not there, is a web page, has another checksum, the connection fails for good,
        or the disk is full. Nothing half-written is left under the file's name.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("content")
    >>> fetch_file("https://example.org/data/a.txt", mirror=folder).name
    'a.txt'
    """
    mirror = mirror or os.environ.get("MIRACLE_MIRROR")
    name = base_name(url)
    mirrored = is_remote(url) and mirror
    if mirrored:
        url = f"{str(mirror).rstrip('/')}/{name}"
    if not is_remote(url):
        path = Path(url)
        if not path.is_file():
            place = "the mirror " if mirrored else ""
            raise MiracleError(f"{name} is not in {place}{path.parent}.")
        if checksum and (found := file_hash(path)) != checksum:
            raise MiracleError(f"{name} has SHA-256 {found}, the manifest says {checksum}.")
        return path
    return _download(url, Path(cache or cache_folder()), checksum)


def fetch_head(
    url: str,
    end: bytes,
    mirror: str | Path | None = None,
    *,
    cache: str | Path | None = None,
) -> Path:
    """Return a file that holds the lines of a text up to one that begins with ``end``.

    Parameters
    ----------
    url : str
        A file of text, plain or gzipped; one that is here already is returned as it is.
    end : bytes
        Beginning of the last line that is wanted; nothing behind it is downloaded.
    mirror, cache : str or Path, optional
        As in `fetch_file`.

    Returns
    -------
    Path

    Raises
    ------
    MiracleError
        The file is not there, or the connection fails.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("content")
    >>> fetch_head("https://example.org/data/a.txt", b"!end", mirror=folder).name
    'a.txt'
    """
    mirror = mirror or os.environ.get("MIRACLE_MIRROR")
    name, folder = base_name(url), Path(cache or cache_folder())
    if not is_remote(url) or (mirror and not is_remote(str(mirror))):
        return fetch_file(url, mirror, cache=cache)
    if mirror:
        url = f"{str(mirror).rstrip('/')}/{name}"
    whole = _place(url, folder)
    if whole.is_file():
        return whole
    head, inflate = b"", zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip
    try:
        with _get(url, {"Accept-Encoding": "identity"}) as answer:
            if not answer.ok:
                raise MiracleError(f"{name}: the server answered {answer.status_code} for {url}.")
            for block in answer.raw.stream(_CHUNK, decode_content=False):
                head += inflate.decompress(block) if name.endswith(".gz") else block
                at = head.find(b"\n" + end)
                if at >= 0 and (stop := head.find(b"\n", at + 1)) >= 0:
                    head = head[: stop + 1]
                    break
    except (requests.RequestException, zlib.error) as error:
        raise MiracleError(f"{name}: its first lines cannot be read from {url}.") from error
    path = _place(url, folder / "heads").with_name(name.removesuffix(".gz"))
    with atomic_path(path) as temporary:
        temporary.write_bytes(head)
    return path


def fetch_cohorts(
    names: Iterable[str | Path],
    mirror: str | Path | None = None,
    *,
    cache: str | Path | None = None,
) -> pd.DataFrame:
    """Fetch all files of several cohorts.

    Parameters
    ----------
    names : iterable of str or Path
        Names of manifests or YAML files, as in `load_cohort`.
    mirror, cache : str or Path, optional
        As in `fetch_file`.

    Returns
    -------
    DataFrame
        One row per file: ``cohort``, ``file``, ``bytes``, ``sha256``, ``path``.

    Raises
    ------
    MiracleError
        See `fetch_file`.

    Examples
    --------
    >>> fetch_cohorts(["GSE42861", "GSE106648"])  # doctest: +SKIP
    """
    rows = []
    for manifest in [load_manifest(name) for name in names]:
        for file in manifest.files:
            path = fetch_file(manifest.locate(file), mirror, cache=cache, checksum=file.sha256)
            rows.append((manifest.name, file.name, path.stat().st_size, file_hash(path), str(path)))
    return pd.DataFrame(rows, columns=["cohort", "file", "bytes", "sha256", "path"])


def _download(url: str, cache: Path, checksum: str | None) -> Path:
    """Fetch ``url`` into the cache with pooch, under the checksum of the lock file."""
    import pooch

    path, lock = _place(url, cache), cache / "checksums.json"
    known = checksum or _read_lock(lock).get(url)
    if known and path.is_file() and file_hash(path) == known:
        return path
    waiting = f"{path.name}: waiting for another process that downloads it"
    try:
        with alone(path, waiting):
            known = checksum or _read_lock(lock).get(url)
            key = path.relative_to(cache).as_posix()
            files = pooch.create(path=cache, base_url="", registry={key: known}, urls={key: url})
            files.fetch(key, downloader=_Resuming())
            if known is None:
                with alone(lock, waiting):
                    write_json(lock, _read_lock(lock) | {url: sha256(path)})
    except OSError as error:
        raise MiracleError(
            f"{base_name(url)} cannot be written to {cache} ({error.strerror}); MIRACLE_CACHE "
            "names another folder."
        ) from error
    except ValueError as error:
        if isinstance(error, MiracleError):
            raise
        raise MiracleError(
            f"{base_name(url)} has changed on the server: its SHA-256 is not {known}, which "
            f"{'the manifest gives' if checksum else f'{lock} recorded at the first download'}."
        ) from error
    return path


def _place(url: str, cache: Path) -> Path:
    """Where a download lies in the cache: by host, path and what is asked for behind a "?"."""
    parts = urlsplit(url)
    folder, _, name = unquote(parts.path).rstrip("/").rpartition("/")
    asked = f"/{hashlib.sha256(parts.query.encode()).hexdigest()[:16]}" if parts.query else ""
    path = cache / f"{parts.netloc}{folder}{asked}/{name}"
    if not path.resolve().is_relative_to(cache.resolve() / parts.netloc) or not parts.netloc:
        raise MiracleError(f"{url} leads out of the folder of downloads; it is not fetched.")
    return path


def _read_lock(lock: Path) -> dict[str, str]:
    """Checksums recorded so far, by address."""
    if not lock.is_file():
        return {}
    try:
        return json.loads(lock.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MiracleError(f"{lock} is no valid JSON ({error}); restore or delete it.") from error


class _Resuming:
    """A downloader for pooch that keeps what it got and asks for the rest."""

    def __call__(self, url: str, output_file: str, files: "pooch.Pooch") -> None:
        target = Path(files.abspath) / next(iter(files.registry))
        part = target.with_name(f".{target.name}.part")
        try:
            self._complete(url, part)
            with open(part, "rb") as file:
                head = file.read(400)
            if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
                _discard(part)
                raise MiracleError(
                    f"{target.name}: the server sent a web page in its place ({url})."
                )
            os.replace(part, output_file)
            _discard(part)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                _discard(part)
            raise

    def _complete(self, url: str, part: Path) -> None:
        """Ask for the rest of the file until nothing is missing."""
        failures = 0
        while True:
            before = _size(part)
            try:
                _receive(url, part)
                return
            except requests.RequestException as error:
                failures = 0 if _size(part) > before else failures + 1
                if failures == _ATTEMPTS:
                    raise MiracleError(
                        f"{base_name(url)}: the connection to {urlsplit(url).netloc} failed "
                        f"{failures} times ({type(error).__name__}); {_size(part):,} bytes are "
                        "kept, run the same again to continue."
                    ) from error
                _log.warning("%s: connection lost, continuing", base_name(url))
                time.sleep(failures * _PAUSE)


def _receive(url: str, part: Path) -> None:
    """Append to ``part`` what the server has beyond it."""
    start, tag = _size(part), _tag_file(part)
    headers = {"Accept-Encoding": "identity"}
    if start and tag.is_file():
        # If-Range: a file that has changed meanwhile is sent anew.
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text(encoding="utf-8")}
    with _get(url, headers) as answer:
        if answer.status_code == 416:  # nothing beyond what we have
            return
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            answer.raise_for_status()
        if not answer.ok:
            raise MiracleError(
                f"{base_name(url)}: the server answered {answer.status_code} {answer.reason} for "
                f"{url}."
            )
        resumed = answer.status_code == 206
        length = int(answer.headers.get("Content-Length", 0))
        _refuse_full_disk(length, part)
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if validator:
            tag.write_text(validator, encoding="utf-8")
        bar = tqdm(
            initial=start if resumed else 0,
            total=(length + (start if resumed else 0)) or None,
            unit="B",
            unit_scale=True,
            desc=base_name(url),
            disable=None,
        )
        with bar, open(part, "ab" if resumed else "wb") as file:
            for block in answer.iter_content(_CHUNK):
                file.write(block)
                bar.update(len(block))


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    """Ask a server, following redirects, but never from the network to this machine's own."""
    address = url
    for _ in range(_REDIRECTS):
        answer = requests.get(
            address, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False
        )
        if not answer.is_redirect:
            return answer
        answer.close()
        address = urljoin(address, answer.headers["Location"])
        if not is_remote(address) or (_is_local(address) and not _is_local(url)):
            raise MiracleError(
                f"{base_name(url)}: the server of {url} sends on to {address}, an address of the "
                "local network; it is not followed."
            )
    raise MiracleError(f"{base_name(url)}: more than {_REDIRECTS} redirects from {url}.")


def _is_local(url: str) -> bool:
    """Whether an address is on this machine or in a private network."""
    host = urlsplit(url).hostname or ""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(not ipaddress.ip_address(str(ip).split("%")[0]).is_global for ip in found)


def _refuse_full_disk(n_bytes: int, part: Path) -> None:
    """Stop before a download that cannot fit."""
    free = shutil.disk_usage(part.parent).free
    if n_bytes > free:
        raise MiracleError(
            f"{part.name[1:-5]} needs {n_bytes:,} bytes, but the disk of {part.parent} has "
            f"{free:,} left; set MIRACLE_CACHE to a folder with room."
        )


def _discard(part: Path) -> None:
    """Remove a partial download."""
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _tag_file(part: Path) -> Path:
    """Where the validator (ETag) of a partial download is kept."""
    return part.with_name(f"{part.name}.etag")
