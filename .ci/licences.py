"""Write the licence of every pinned package, as the installed package states it.

``python .ci/licences.py`` writes ``book/licences.csv``, in an environment made by ``make``.
"""

import csv
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTED = ROOT / "book" / "licences.csv"
LONGEST = 60  # letters: a longer field holds the text of a licence, not its name


def pinned() -> dict[str, str]:
    """Versions of ``constraints.txt`` by package."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def installed(name: str) -> Distribution | None:
    """A package, if it is here in the pinned version."""
    try:
        package = distribution(name)
    except PackageNotFoundError:  # of another Python or system
        return None
    return package if package.version.split("+")[0] == pinned()[name].split("+")[0] else None


def licence_of(package: Distribution) -> str:
    """The name of a package's licence, from the newest field of its metadata that has one."""
    about = package.metadata
    classifiers = about.get_all("Classifier") or []
    named = [
        c.split(" :: ")[-1] for c in classifiers if c.startswith("License :: OSI Approved :: ")
    ]
    short = (about.get("License") or "").strip()
    first = short.splitlines()[0].strip() if short else ""
    free = first if 0 < len(first) <= LONGEST and first != "UNKNOWN" else ""
    return about.get("License-Expression") or "; ".join(named) or free or _from_file(package)


def _from_file(package: Distribution) -> str:
    """The title of a licence file, where the metadata name nothing."""
    for file in package.files or []:
        if re.search(r"licen[cs]e|copying", file.name, re.IGNORECASE):
            lines = file.locate().read_text("utf-8", errors="replace").splitlines()
            return next((line.strip(" #=*") for line in lines if line.strip()), "not stated")
    return "not stated"


def main() -> None:
    """Write the list."""
    rows = [(name, licence_of(found)) for name in pinned() if (found := installed(name))]
    with LISTED.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("package", "licence"), *rows])


if __name__ == "__main__":
    main()
