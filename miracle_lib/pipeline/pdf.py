"""The book on paper: its pages printed by a browser, in the order of the table of contents."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs
from miracle_lib.files import atomic_path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT = 120  # seconds per page


def print_book(index: str | Path) -> Path:
    """Print a built book into one PDF.

    Parameters
    ----------
    index : str or Path
        First page of the book, as `build_book` gives it.

    Returns
    -------
    Path
        ``book.pdf`` in the folder of the book.

    Raises
    ------
    MiracleError
        No Chromium is installed, or it prints nothing.
    """
    with needs("book", "The book as PDF"):
        import pypdf
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise MiracleError(
            f"the PDF is printed by Chromium, and none of {', '.join(BROWSERS)} is installed; "
            "install one, or print the pages from your own browser."
        )
    html = Path(index).parent
    book = html.parents[1]
    whole = pypdf.PdfWriter()
    with tempfile.TemporaryDirectory() as folder:
        for number, page in enumerate(_pages(book / "source" / "book" / "_toc.yml")):
            printed = Path(folder) / f"{number}.pdf"
            _print(browser, html / f"{page}.html", printed)
            whole.append(printed, outline_item=page)
        target = book / "book.pdf"
        with atomic_path(target) as temporary:
            whole.write(temporary)
    return target


def _pages(toc: Path) -> list[str]:
    """Pages in the order of the table of contents."""
    content = yaml.safe_load(toc.read_text(encoding="utf-8"))
    found = [content["root"]]
    for part in content["parts"]:
        for chapter in part["chapters"]:
            found += [chapter["file"], *(page["file"] for page in chapter.get("sections", []))]
    return found


def _print(browser: str, page: Path, target: Path) -> None:
    """Print one page."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-background-networking", f"--user-data-dir={profile}"]
        command += ["--no-pdf-header-footer", f"--print-to-pdf={target}", page.as_uri()]
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    if not target.is_file():
        raise MiracleError(f"{page.name} was not printed: {answer.stderr.strip()[-300:]}")
