"""Which cohort can test a model that was trained on others: another hospital, the same disease."""

from typing import Annotated

import pandas as pd
from pydantic import Field

from miracle_lib.manifest import Strict, read_manifest
from miracle_lib.resources import MANIFEST

PAIRS = MANIFEST / "pairs.yaml"


class Pair(Strict):
    """Cohorts to train on, and one that can test the result.

    Attributes
    ----------
    task : str
        The disease.
    train : list of str
        Names of cohorts.
    test : str
        Name of a cohort that is not among them.
    same_tissue : bool
        Whether the test was measured in the tissue of the training.
    known : str
        How the test differs.
    published : float, optional
        AUROC of hard labels that others report for this pair.
    """

    task: str = Field(min_length=1)
    train: Annotated[list[str], Field(min_length=1)]
    test: str
    same_tissue: bool
    known: str
    published: float | None = Field(default=None, ge=0, le=1)


def list_pairs() -> pd.DataFrame:
    """Table of the pairs that come with the project.

    Returns
    -------
    DataFrame
        One row per pair: ``task``, ``train`` (list of names), ``test``, ``same_tissue``,
        ``known``, ``published`` (NaN where nobody reports a score).

    Examples
    --------
    >>> pairs = list_pairs()
    >>> pairs.loc[pairs["task"] == "Multiple sclerosis", "test"].tolist()
    ['GSE219293']
    """
    pairs = read_manifest(PAIRS, list[Pair])
    table = pd.DataFrame([pair.model_dump() for pair in pairs])
    return table.astype({"published": float})
