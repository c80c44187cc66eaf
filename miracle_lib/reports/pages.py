"""Writing a report: a page for the batch, and one for each sample that needs a look."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd

from miracle_lib import __version__
from miracle_lib.errors import MiracleError
from miracle_lib.estimator.reliability import RELIABLE
from miracle_lib.files import atomic_path, safe_name
from miracle_lib.limits import Limits
from miracle_lib.plots.style import HYPER, HYPO
from miracle_lib.plots.tables import p_text
from miracle_lib.reports.content import Batch, describe_rows, describe_samples, summarise
from miracle_lib.reports.evidence import Evidence

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier

INDEX, SAMPLES = "index.html", "samples"
MARK = '<meta name="generator" content="miracle report">'
MAX_PAGES = 100
MAX_WARNINGS = 20  # on top of the page of the batch; all are in its table


def write_report(
    folder: str | Path,
    model: MiracleClassifier,
    X: pd.DataFrame,
    result: pd.DataFrame,
    *,
    evidence: Evidence | None = None,
    cell_reference: pd.DataFrame | None = None,
    limits: Limits | None = None,
    max_pages: int = MAX_PAGES,
    title: str = "new samples",
) -> Path:
    """Write HTML pages on new samples that need no network and no script.

    Parameters
    ----------
    folder : str or Path
        Made if absent; a report that is there is replaced.
    model : MiracleClassifier
        The model that made ``result``.
    X : DataFrame, samples x sites
        Beta values, as `miracle_lib.predict` took them.
    result : DataFrame
        What it returned.
    evidence : Evidence, optional
        Pathways that survived their controls. Default: no pathway is named.
    cell_reference : DataFrame, optional
        Mean beta values of sorted blood cells, as `read_cell_reference` reads them; used where all
        cohorts of the training are blood. Default: cell fractions are not estimated.
    limits : Limits, optional
        As given to `miracle_lib.predict`.
    max_pages : int, default 100
        Samples with a page of their own. Of more samples those get one that have a warning or are
        reliable in no task, then the others, in the order of the table; all are in the table of
        the batch.
    title : str
        Of the batch, such as the name of its file.

    Returns
    -------
    Path
        The page of the batch, ``index.html``.

    Raises
    ------
    MiracleError
        The folder holds something that is not a report.

    Examples
    --------
    >>> import tempfile
    >>> import miracle_lib as ml
    >>> data = ml.simulate_cohorts({"RA": 40}, n_sites=200, random_state=0)
    >>> X, y = data.cohorts["RA"].to_df(), data.cohorts["RA"].obs["label"].rename("RA")
    >>> hierarchy = ml.Hierarchy.from_tables(data.site_gene, data.gene_sets)
    >>> model = ml.MiracleClassifier(hierarchy, training=ml.Training(epochs=(1, 5, 0))).fit(X, y)
    >>> new = X.iloc[:2]
    >>> page = write_report(tempfile.mkdtemp(), model, new, ml.predict(model, new))
    >>> page.name, len(list(page.parent.glob("samples/*.html")))
    ('index.html', 2)
    """
    folder = Path(folder)
    refuse_others(folder)
    batch = Batch(model, X, result, limits or Limits(), evidence, cell_reference)
    tasks = summarise(batch)
    pages = describe_samples(batch.take(_most_urgent(result, max_pages)), tasks)
    files = {
        page.name: f"{number:04d}-{safe_name(page.name)[:80]}.html"
        for number, page in enumerate(pages, start=1)
    }
    shared: dict[str, Any] = {
        "title": title,
        "model": model,
        "limits": batch.limits,
        "tasks": tasks,
        "evidence": evidence,
    }
    render = _renderer()
    index = render(
        "batch.html",
        files=files,
        rows=list(describe_rows(batch, files)),
        warned=list(result["warning"][result["warning"] != ""].items()),
        **shared,
    )
    _write(folder / INDEX, index)
    shutil.rmtree(folder / SAMPLES, ignore_errors=True)
    for page in pages:
        _write(folder / SAMPLES / files[page.name], render("sample.html", page=page, **shared))
    return folder / INDEX


def refuse_others(folder: str | Path) -> None:
    """Refuse a folder that holds something which is not a report.

    Raises
    ------
    MiracleError
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise MiracleError(f"{folder} is a file; expected a folder for the report.")
    there = sorted(path.name for path in folder.glob("*"))
    index = folder / INDEX
    if there and not (index.is_file() and MARK in index.read_text("utf-8", "replace")):
        raise MiracleError(f"{folder} holds {there[0]!r} and no report; name another folder.")


def _most_urgent(result: pd.DataFrame, n: int) -> pd.Index:
    """Samples that get a page, in the order of the table."""
    wanting = (result.filter(like="verdict[") != RELIABLE).all(axis=1) | (result["warning"] != "")
    first = np.argsort(~wanting.to_numpy(), kind="stable")[:n]
    return result.index[np.sort(first)]


def _renderer() -> Callable[..., str]:
    """Return a function that fills a template; what it shows is text, never markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("miracle_lib.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda share, digits=0: "–" if pd.isna(share) else f"{share:.{digits}%}",
        "number": lambda value, digits=2: f"{value:.{digits}f}" if np.isfinite(value) else "–",
        "signed": lambda value: f"{value:+.2f}".replace("-", "−"),
        "p": p_text,
        "address": quote,
    }
    environment.globals |= {"version": __version__, "most_warnings": MAX_WARNINGS}
    environment.globals["colours"] = {"up": HYPER, "down": HYPO}

    def render(name: str, **values: Any) -> str:
        return environment.get_template(name).render(**values)

    return render


def _write(path: Path, text: str) -> None:
    """Write a page so that it is never seen half-written."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
