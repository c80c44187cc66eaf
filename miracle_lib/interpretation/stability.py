"""Does a ranking come back with another seed, and is it more than the shape of the mask?"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.comparison import shuffle_labels
from miracle_lib.evaluation.validation import fitted
from miracle_lib.interpretation.attribution import task_attributions
from miracle_lib.parallel import spread
from miracle_lib.samples import Samples, as_samples

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier
    from miracle_lib.hierarchy import Hierarchy

CONTROLS = ("permuted mask", "shuffled labels", "every site predictive")


def refit_attributions(
    make_model: Callable[["Hierarchy", int], "MiracleClassifier"],
    hierarchy: "Hierarchy",
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    *,
    kinds: Sequence[str] = ("real", *CONTROLS),
    n_seeds: int = 3,
    random_state: int = 0,
    **parts: pd.Series | pd.DataFrame,
) -> pd.DataFrame:
    """Train the whole model again on real and on control data and attribute each time.

    The controls: ``"permuted mask"`` (every node keeps its degree, its neighbours are random),
    ``"shuffled labels"`` (within cohorts and over subjects) and ``"every site predictive"`` (all
    sites follow the label equally, so that only the shape of the network is left to rank by).

    Parameters
    ----------
    make_model : callable
        Takes a hierarchy and a seed, returns an unfitted model.
    hierarchy : Hierarchy
        The real mask.
    X : Samples or DataFrame, samples x sites
        Beta values. A Samples holds all that a fit takes.
    Y : DataFrame, samples x tasks, optional
        1, 0 or NaN.
    kinds : sequence of str
        Which of "real" and the three controls.
    n_seeds : int, default 3
        Trainings of each kind.
    random_state : int, default 0
        First seed.
    **parts
        ``cohort``, ``covariates`` and ``groups`` as `MiracleClassifier.fit` takes them.

    Returns
    -------
    DataFrame
        Tidy: kind, seed, task, pathway, attribution (cases minus controls), rank (1 = largest).

    References
    ----------
    Esser-Skala and Fortelny 2023, doi:10.1038/s41540-023-00310-8.
    """
    samples = as_samples(X, Y, **parts)
    samples = samples.take(samples.order)  # controls are drawn by it
    runs = [(kind, seed) for kind in kinds for seed in range(random_state, random_state + n_seeds)]
    jobs = [
        (make_model(_mask(kind, hierarchy, seed), seed), samples, kind, seed) for kind, seed in runs
    ]
    rows = list(spread(_refit, jobs, [samples], title="refits"))
    columns = ["kind", "seed", "task", "pathway", "attribution", "rank"]
    return pd.concat(rows, ignore_index=True)[columns]


def _refit(model: "MiracleClassifier", samples: Samples, kind: str, seed: int) -> pd.DataFrame:
    """Train on one kind of data and attribute."""
    data, rows = _control(kind, samples, seed), []
    scores = task_attributions(fitted(model, data), data).drop(columns="shared")
    for task, score in scores.items():
        table = score.rename("attribution").rename_axis("pathway").reset_index()
        rank = table["attribution"].rank(ascending=False)
        rows.append(table.assign(kind=kind, seed=seed, task=task, rank=rank))
    return pd.concat(rows)


def _mask(kind: str, hierarchy: "Hierarchy", seed: int) -> "Hierarchy":
    """Mask of one kind of control."""
    if kind not in ("real", *CONTROLS):
        raise MiracleError(f"There is no control {kind!r}; expected one of {', '.join(CONTROLS)}.")
    return hierarchy.permuted(seed) if kind == "permuted mask" else hierarchy


def _control(kind: str, samples: Samples, seed: int) -> Samples:
    """Samples of one kind of control."""
    rng = np.random.default_rng(seed)
    if kind == "shuffled labels":
        return samples.replace(labels=shuffle_labels(samples, rng))
    if kind == "every site predictive":
        case = samples.labels.max(axis=1).fillna(0).to_numpy()[:, None]
        noise = rng.normal(0, 0.05, samples.values.shape)
        values = np.clip(0.4 + 0.2 * case + noise, 0.01, 0.99).astype(np.float32)
        return samples.replace(values=pd.DataFrame(values, samples.names, samples.sites))
    return samples


def against_controls(refits: pd.DataFrame, task: str) -> pd.DataFrame:
    """Compare each pathway's rank with its ranks in the control trainings.

    Parameters
    ----------
    refits : DataFrame
        From :func:`refit_attributions`, with kind "real" and at least one control.
    task : str
        The task.

    Returns
    -------
    DataFrame
        Indexed by pathway: rank and rank_sd over seeds, one column of mean ranks per control,
        p_value (attribution in the real trainings against all control trainings other than "every
        site predictive", scaled to unit root mean square per training; node by node, pooled tail),
        q_value. With few seeds the p-values are coarse: ``explain`` has a finer test.
    """
    table = refits[refits["task"] == task]
    scale = table.groupby(["kind", "seed"])["attribution"].transform(
        lambda v: np.sqrt((v**2).mean()) or 1.0
    )
    table = table.assign(scaled=table["attribution"] / scale)
    ranks = table.pivot_table(index="pathway", columns="kind", values="rank")
    real = table[table["kind"] == "real"].groupby("pathway")
    result = pd.DataFrame({"rank": real["rank"].mean(), "rank_sd": real["rank"].std()})
    result = result.join(ranks.drop(columns="real"))
    control = table[table["kind"].isin(("permuted mask", "shuffled labels"))]
    if control.empty:
        return result.sort_values("rank")
    by_node = control.groupby("pathway")["scaled"]
    centre, spread = by_node.mean(), by_node.std().clip(lower=by_node.std().median())
    null = (control["scaled"] - control["pathway"].map(centre)) / control["pathway"].map(spread)
    z = (real["scaled"].mean() - centre) / spread
    null = np.sort(null.to_numpy())
    p = (1 + len(null) - np.searchsorted(null, z.to_numpy())) / (1 + len(null))
    result["p_value"] = pd.Series(p, z.index)
    result["q_value"] = false_discovery_control(result["p_value"])
    return result.sort_values("rank")


def top_overlap(rankings: Mapping[object, pd.Series], k: int = 10) -> pd.DataFrame:
    """Share of the top k that each pair of rankings has in common, beside chance.

    Parameters
    ----------
    rankings : mapping of any to Series
        Importance of the same nodes, one ranking per seed or fold; larger is more important.
    k : int, default 10
        Top nodes.

    Returns
    -------
    DataFrame
        One row per pair: first, second, overlap (0 to 1), chance (k / nodes).

    Raises
    ------
    MiracleError
        If there are fewer than two rankings or fewer than k nodes.

    Examples
    --------
    >>> first = pd.Series([3.0, 2.0, 1.0], index=["A", "B", "C"])
    >>> top_overlap({0: first, 1: first[::-1] * [3, 1, 1]}, k=2)["overlap"].tolist()
    [0.5]
    """
    if len(rankings) < 2:
        raise MiracleError(f"{len(rankings)} ranking was given; expected at least two.")
    n = min(len(r) for r in rankings.values())
    if n < k:
        raise MiracleError(f"A ranking has {n} nodes; expected at least k = {k}.")
    top = {name: set(ranking.nlargest(k).index) for name, ranking in rankings.items()}
    rows = [(a, b, len(top[a] & top[b]) / k, k / n) for a, b in combinations(top, 2)]
    return pd.DataFrame(rows, columns=["first", "second", "overlap", "chance"])


def degree_dependence(explanation: pd.DataFrame) -> pd.Series:
    """Spearman correlation of attribution and of evidence with the number of genes.

    Parameters
    ----------
    explanation : DataFrame
        From ``explain``.

    Returns
    -------
    Series
        "attribution" and "z".
    """
    return explanation[["attribution", "z"]].corrwith(explanation["degree"], method="spearman")
