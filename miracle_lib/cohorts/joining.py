"""Which column of a table of values belongs to which sample."""

import logging
import re
from collections.abc import Collection, Iterator

import pandas as pd

from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)
_NAMING = ["title", "source_name", "description", "sentrix"]  # tried before other characteristics
_X_OF_R = re.compile(r"^x(?=\d)")  # R puts it before names that begin with a digit


def join_columns(columns: Collection[str], samples: pd.DataFrame, source: str) -> pd.Series:
    """Join columns to samples by the field of the samples that names most of them, one to one.

    Fields are the sample's own name (accession), title, source name, description, Sentrix position
    and every other characteristic; each is tried as a whole, without an ending and without a
    beginning that several samples share. Case, punctuation and R's "X" before a digit do not count.

    Parameters
    ----------
    columns : collection of str
        Names of the columns; one that occurs twice belongs to no sample.
    samples : DataFrame, n_samples x characteristics
        Indexed by sample.
    source : str
        Name of the file, for messages.

    Returns
    -------
    Series of str
        Name of the column of each sample; samples without a column are left out.

    Raises
    ------
    MiracleError
        No field names a column, or every one that does names some column more than once.

    Examples
    --------
    >>> samples = pd.DataFrame({"title": ["P1 [blood]", "P2 [blood]"]}, index=["GSM1", "GSM2"])
    >>> join_columns(["P2", "P1"], samples, "values.txt").to_dict()
    {'GSM1': 'P1', 'GSM2': 'P2'}
    """
    folded = pd.Series(list(columns), index=[fold(name) for name in columns], dtype=object)
    repeated = set(folded.index[folded.index.duplicated()])
    best, how, refused = pd.Series(dtype=object), "", ""
    for field, names in _candidates(samples, set(folded.index)):
        twice = names[names.duplicated(keep=False) | names.isin(repeated)]
        if len(twice):
            refused = refused or f"; {field} names column {folded[[twice.iloc[0]]].iloc[0]!r} twice"
        elif len(names) > len(best):
            best, how = names, field
    if best.empty:
        sample = samples.iloc[0].reindex(["title", "source_name"]).dropna().map(repr)
        called = " ".join([str(samples.index[0]), *sample])
        raise MiracleError(
            f"{source}: its columns ({', '.join(list(columns)[:4])}, ... ({len(columns)})) are "
            f"named by no field of the samples ({called}, ... ({len(samples)})) one to one"
            f"{refused}."
        )
    _log.info("%s: %d of %d samples joined by %s", source, len(best), len(samples), how)
    return best.map(folded)


def fold(name: str) -> str:
    """A name for comparison: case, punctuation and an "X" before a digit do not count."""
    return _X_OF_R.sub("", " ".join(re.findall(r"[^\W_]+", name.casefold())))


def _candidates(samples: pd.DataFrame, columns: set[str]) -> Iterator[tuple[str, pd.Series]]:
    """Each way to name columns, with the (folded) column of every sample that it finds one for."""
    first = [name for name in _NAMING if name in samples]
    fields = {"accession": samples.index.to_series()}
    fields |= {name: samples[name] for name in [*first, *samples.columns.difference(first)]}
    for field, texts in fields.items():
        words = texts.dropna().map(lambda text: fold(str(text)).split())
        yield field, _found(words.map(" ".join), columns)
        yield f"{field} without its ending", _cut(words, columns, from_end=True)
        yield f"{field} without its beginning", _cut(words, columns, from_end=False)


def _found(names: pd.Series, columns: set[str]) -> pd.Series:
    return names[names.isin(columns)]


def _cut(words: pd.Series, columns: set[str], from_end: bool) -> pd.Series:
    """The longest part that is a column, where other samples share what was cut off."""
    kept, rest = {}, {}
    for sample, parts in words.items():
        for n in range(len(parts), 0, -1):
            part = " ".join(parts[:n] if from_end else parts[-n:])
            if part in columns:
                kept[sample] = part
                rest[sample] = " ".join(parts[n:] if from_end else parts[:-n])
                break
    shared = pd.Series(rest, dtype=object).duplicated(keep=False)
    return pd.Series(kept, dtype=object)[shared]
