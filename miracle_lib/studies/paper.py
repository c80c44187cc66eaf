"""The paper's network and protocol beside ours: what each part adds to the score."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation.baselines import PerTaskBaseline
from miracle_lib.evaluation.grid import Cell, Data, Tables, run_grid
from miracle_lib.evaluation.splits import Fold, make_folds
from miracle_lib.evaluation.validation import evaluate_fold, scores_of
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import SiteImputer, SiteSelector
from miracle_lib.preprocessing.table import cohort_of
from miracle_lib.samples import Samples
from miracle_lib.studies.replicates import mean_interval
from miracle_lib.training.settings import PAPER, STAGES

# The protocols, from ours to the paper's: each adds one thing to the one before.
PROTOCOLS = {
    "ours": (),
    "split once, subjects on both sides": ("split",),
    "absent sites are 0": ("split", "zeros"),
    "sites chosen on all samples": ("split", "zeros", "leak"),
}
DESCRIBED, CODED = "paper, as described", "paper, as coded"
STRICT, OURS = "ours, strict bottleneck", "ours"
NETWORKS: dict[str, dict[str, Any]] = {
    DESCRIBED: {"preset": "paper"},
    CODED: {"preset": "paper_code"},
    STRICT: {"reads": ("pathways",)},
    OURS: {},
}
BASELINES = {
    "logistic regression, untuned": "logistic_untuned",
    "logistic regression, tuned": "logistic_l2",
}
# What is changed in the paper's network, alone and one after the other.
CHANGES: dict[str, dict[str, Any]] = {
    "heads read the mean, not a draw": {"sampled": False},
    "linear heads": {"head": "additive"},
    "no ReLU": {"activation": "identity"},
    "values standardised per cohort": {"scale": "m", "likelihood": "gaussian"},
    "starts from averages": {"start": "average"},
    "best epoch kept": {"training__keep": "best"},
    "one learning rate for all stages": {"training__learning_rate": "first"},
    "no Kullback-Leibler term": {"training__kl_weight": 0.0},
}
PATH = (
    "heads read the mean, not a draw",
    "values standardised per cohort",
    "starts from averages",
    "no ReLU",
    "linear heads",
    "one learning rate for all stages",
)
HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told here"
N_DRAWS = 2000  # of pathways named at random
N_SITES = 200  # per task, as the paper's code is shipped
N_SPLITS = {"small": 2, "full": 5}


def variants() -> dict[str, dict[str, Any]]:
    """Every network of the study, by name, as parameters of `MiracleClassifier`.

    Examples
    --------
    >>> variants()["paper, but: no ReLU"]
    {'preset': 'paper', 'activation': 'identity'}
    """
    paper = NETWORKS[DESCRIBED]
    alone = {f"paper, but: {name}": paper | change for name, change in CHANGES.items()}
    steps = accumulate((CHANGES[name] for name in PATH), lambda a, b: a | b)
    along = {f"and: {name}": paper | step for name, step in zip(PATH, steps, strict=True)}
    first = f"and: {PATH[0]}"  # which is a change alone
    return NETWORKS | alone | {name: each for name, each in along.items() if name != first}


def network(
    settings: dict[str, Any], hierarchy: Hierarchy, epochs: int, seed: int
) -> MiracleClassifier:
    """Make a network of the study; the paper's with fewer epochs and as much higher rates.

    Parameters
    ----------
    settings : dict
        An entry of `variants`.
    hierarchy : Hierarchy
    epochs : int
        Of each stage of the paper's network. Epochs times learning rate stay those of the paper.
    seed : int
    """
    settings = dict(settings)
    if settings.get("preset", "default") != "default":
        stages = [getattr(PAPER, name) for name in STAGES]
        rates = [stage.learning_rate * stage.epochs / epochs for stage in stages]
        if settings.get("training__learning_rate") == "first":
            rates = [rates[0]] * len(rates)
        settings |= {"training__epochs": (epochs,) * 3, "training__learning_rate": tuple(rates)}
    model = MiracleClassifier(hierarchy, random_state=seed, training=Training(progress=False))
    return model.set_params(**settings)


def tied_to_all(hierarchy: Hierarchy, site_gene: pd.DataFrame, sites: pd.Index) -> Hierarchy:
    """Return a hierarchy whose pathways have every gene of some sites that is in none.

    As the paper's code has it: what no gene set contains belongs to all of them.
    """
    inside = hierarchy.restrict(sites)
    here = site_gene[site_gene["site"].isin(sites)].dropna(subset=["gene"])
    rest = sorted(set(here["gene"]) - set(inside.genes))
    sets = {name: [*genes, *rest] for name, genes in inside.gene_sets().items()}
    return Hierarchy.from_tables(here, sites=sites, gene_sets=sets, min_genes=1, max_genes=10**9)


def random_splits(samples: Samples, n: int, random_state: int = 0) -> Iterator[Fold]:
    """Split the samples n times at random, three quarters to train, as the paper does once.

    Neither labels nor subjects count, so that samples of one subject may lie on both sides.
    """
    for number in range(n):
        order = np.random.default_rng(random_state + number).permutation(samples.order)
        test = round(len(order) / 4)
        yield Fold(0, number, np.sort(order[test:]), np.sort(order[:test]))


def training_sets(samples: Samples, n_splits: int, random_state: int = 0) -> Iterator[np.ndarray]:
    """Yield the positions of all samples, and of those that every split of a protocol trains on."""
    yield np.arange(len(samples))
    for splits in (_grouped_folds, random_splits):
        for fold in splits(samples, n_splits, random_state):
            yield fold.train


def absent_as_zero(samples: Samples) -> Samples:
    """Put 0 where a sample's cohort did not measure a site at all, as the paper's union of sites.

    Single missing values stay missing.

    Examples
    --------
    >>> values = pd.DataFrame({"cg1": [0.2, np.nan], "cg2": [np.nan, np.nan]}, list("ab"))
    >>> absent_as_zero(Samples(values, cohort="A")).values.to_numpy().tolist()
    [[0.2, 0.0], [nan, 0.0]]
    """
    cohort = cohort_of(samples.values, "all" if samples.cohort is None else samples.cohort)
    measured = samples.values.notna().groupby(cohort).transform("any")
    return samples.replace(values=samples.values.where(measured, 0.0))


def filled(samples: Samples, train: Samples) -> Samples:
    """Fill what is missing with the training's mean of the cohort, or of all where it has none.

    For networks that read beta values as they are; what standardises reads the mean anyway.
    """
    imputer = SiteImputer().fit(train.values, cohort=train.cohort)
    return samples.replace(values=imputer.transform(samples.values, samples.cohort))


def paper_cell(
    method: str,
    protocol: str,
    split: int,
    n_splits: int,
    n_sites: int,
    epochs: int,
    random_state: int,
    samples: Samples,
    hierarchy: Hierarchy,
    site_gene: pd.DataFrame,
) -> Tables:
    """Score one method on one split of one protocol."""
    parts = PROTOCOLS[protocol]
    splits = random_splits if "split" in parts else _grouped_folds
    fold = list(splits(samples, n_splits, random_state))[split]
    if "zeros" in parts:
        samples = absent_as_zero(samples)
    known = samples if "leak" in parts else samples.take(fold.train)
    chosen = SiteSelector("ttest", n_sites).fit(known.values, known.labels).sites_
    samples = samples.replace(values=samples.values[chosen])
    estimator: BaseEstimator
    if method in BASELINES:
        estimator = PerTaskBaseline(BASELINES[method], random_state=random_state)
    else:
        coded = method == CODED
        graph = tied_to_all(hierarchy, site_gene, chosen) if coded else hierarchy
        estimator = network(variants()[method], graph, epochs, random_state + split)
        if estimator.design.scale == "raw":
            samples = filled(samples, samples.take(fold.train))
    predictions, _ = evaluate_fold(estimator, samples, fold)
    return {"scores": scores_of(predictions)[["task", "auroc", "n"]]}


def _grouped_folds(samples: Samples, n: int, random_state: int) -> Iterator[Fold]:
    """Folds that keep subjects whole: every sample is tested once."""
    return make_folds(samples, n_splits=n, random_state=random_state)


def paper_reproduced(
    samples: Samples,
    hierarchy: Hierarchy,
    site_gene: pd.DataFrame,
    store: str | Path,
    scale: str = "small",
    epochs: int = 800,
    n_splits: int | None = None,
    n_sites: int = N_SITES,
    n_jobs: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Score the paper's network and ours under the paper's protocol and under ours.

    Networks and logistic regression under every protocol; the paper's network with one thing
    changed at a time, and with one after the other, under ours.

    Parameters
    ----------
    samples : Samples
    hierarchy : Hierarchy
    site_gene : DataFrame
        Columns site and gene: for genes that no pathway of the hierarchy has.
    store, n_jobs
        As in :func:`run_grid`.
    scale : {"small", "full"}, default "small"
        Number of splits where it is not given.
    epochs : int, default 800
        Of each stage of the paper's network; fewer at as much higher learning rates.
    n_splits : int, optional
        Folds of our protocol, and random splits of the paper's.
    n_sites : int, default 200
        Sites chosen per task by t-test.
    random_state : int, default 0

    Returns
    -------
    DataFrame
        method, protocol, split, task, auroc, n (samples tested).
    """
    data = Data(samples=samples, hierarchy=hierarchy, site_gene=site_gene[["site", "gene"]])
    crossed = [(m, p) for m in (*NETWORKS, *BASELINES) for p in PROTOCOLS]
    changed = [(m, "ours") for m in variants() if m not in NETWORKS]
    n_splits = N_SPLITS[scale] if n_splits is None else n_splits
    fixed = {"n_splits": n_splits, "n_sites": n_sites, "epochs": epochs}
    fixed["random_state"] = random_state
    cells = [
        Cell(paper_cell, {"method": method, "protocol": protocol, "split": split, **fixed}, data)
        for method, protocol in crossed + changed
        for split in range(n_splits)
    ]
    names = ("method", "protocol", "split")
    tables = [
        tables["scores"].assign(**{name: cell.settings[name] for name in names})
        for cell, tables in zip(cells, run_grid(cells, store, n_jobs), strict=True)
    ]
    return pd.concat(tables, ignore_index=True)[[*names, "task", "auroc", "n"]]


def by_protocol(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC of every method under every protocol, and what the paper's adds.

    Parameters
    ----------
    scores : DataFrame
        Result of `paper_reproduced`.

    Returns
    -------
    DataFrame
        method, protocol, mean, sd (over splits, of the mean over tasks), adds (against the protocol
        before).
    """
    crossed = scores[scores["method"].isin([*NETWORKS, *BASELINES])]
    table = _over_splits(crossed, ["method", "protocol"])
    order = {"method": [*NETWORKS, *BASELINES], "protocol": list(PROTOCOLS)}
    index = pd.MultiIndex.from_product(order.values(), names=list(order))
    table = table.reindex(index)
    table["adds"] = table.groupby("method", sort=False)["mean"].diff()
    return table.reset_index()


def by_change(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC of the paper's network with parts changed, under our protocol.

    Parameters
    ----------
    scores : DataFrame
        Result of `paper_reproduced`.

    Returns
    -------
    DataFrame
        how ("alone" or "one after the other"), change, mean, sd (over splits, of the mean over
        tasks), difference, sd_difference (against the paper's network, split by split).
    """
    scores = scores[scores["protocol"] == "ours"]
    paper = scores.loc[scores["method"] == DESCRIBED].set_index(["split", "task"])["auroc"]
    scores = scores.assign(
        difference=scores["auroc"]
        - paper.reindex(pd.MultiIndex.from_frame(scores[["split", "task"]])).to_numpy()
    )
    means, gains = (_over_splits(scores, ["method"], each) for each in ("auroc", "difference"))
    table = means.join(gains.rename(columns={"mean": "difference", "sd": "sd_difference"}))
    rows = [("alone", DESCRIBED, DESCRIBED)]
    rows += [("alone", name, f"paper, but: {name}") for name in CHANGES]
    rows += [("one after the other", PATH[0], f"paper, but: {PATH[0]}")]
    rows += [("one after the other", name, f"and: {name}") for name in PATH[1:]]
    rows += [("one after the other", name, name) for name in (STRICT, OURS)]
    names = pd.DataFrame(rows, columns=["how", "change", "method"])
    return names.join(table, on="method").drop(columns="method")


def _over_splits(scores: pd.DataFrame, by: list[str], what: str = "auroc") -> pd.DataFrame:
    """Mean and SD over splits of the mean over tasks."""
    split = scores.groupby([*by, "split"])[what].mean()
    return split.groupby(by).agg(mean="mean", sd="std")


def verdicts(scores: pd.DataFrame, effects: pd.DataFrame, named: pd.DataFrame) -> pd.DataFrame:
    """Judge the sentences of the paper by what a run has found.

    Parameters
    ----------
    scores : DataFrame
        Result of `paper_reproduced`.
    effects : DataFrame
        Result of :meth:`Ablations.effects`.
    named : DataFrame of bool, pathways x tasks
        Which pathways the evidence names.

    Returns
    -------
    DataFrame
        sentence, verdict (holds, does not hold, cannot be told here, by construction), evidence.
    """
    baseline = "logistic regression, tuned"
    no_term = "paper, but: no Kullback-Leibler term"
    mean_read = "paper, but: heads read the mean, not a draw"
    rows = [
        ("Higher accuracy than baselines", *_better(scores, DESCRIBED, baseline)),
        ("... of its network as coded", *_better(scores, CODED, baseline)),
        ("... of ours", *_better(scores, OURS, baseline)),
        ("Common functions of methylation across diseases", *_shared(named)),
        (
            "Learning the tasks together improves prediction",
            *_effect(effects, "tasks", "multi-task", 1),
        ),
        (
            "Masked layers keep to annotated edges, so that every weight has a name",
            "by construction",
            "there is no weight off the mask; that the names matter is the next sentence",
        ),
        ("The annotation is what predicts", *_effect(effects, "mask", "permuted", -1)),
        (
            "Sampling and the Kullback-Leibler term prevent overfitting",
            *_effect(effects, "latent", "plain autoencoder", -1),
        ),
        ("... sampling, in the paper's network", *_better(scores, DESCRIBED, mean_read)),
        (
            "... the Kullback-Leibler term, in the paper's network",
            *_better(scores, DESCRIBED, no_term),
        ),
        (
            "Interpretation is robust, and carries over to other arrays and tissues",
            UNKNOWN,
            "not asked here, but in chapters 5 (seeds, permuted masks, other libraries) and 8",
        ),
    ]
    return pd.DataFrame(rows, columns=["sentence", "verdict", "evidence"])


def _better(scores: pd.DataFrame, method: str, other: str) -> tuple[str, str]:
    """Whether a method scores above another under our protocol, and by how much."""
    ours = scores[scores["protocol"] == "ours"]
    wide = ours.pivot_table(index=["split", "task"], columns="method", values="auroc")
    gain = mean_interval(wide[method] - wide[other])
    over = f"{len(ours['task'].unique())} tasks x {len(ours['split'].unique())} folds"
    return _judged(gain, 1), f"{_words(gain)} against {other}, over {over} of our protocol"


def _shared(named: pd.DataFrame) -> tuple[str, str]:
    """Whether more pathways are named in several tasks than where each task names any as many."""
    shared, rng = int((named.sum(axis=1) > 1).sum()), np.random.default_rng(0)
    drawn = (rng.permuted(named.to_numpy(bool), axis=0) for _ in range(N_DRAWS))
    chance = np.array([(draw.sum(axis=1) > 1).sum() for draw in drawn])
    low, high = np.quantile(chance, [0.025, 0.975])
    verdict = HOLDS if shared > high else FAILS if shared < low else UNKNOWN
    return verdict, (
        f"{shared} of {int(named.any(axis=1).sum())} pathways named are named in several tasks; "
        f"{chance.mean():.1f} (95% {low:.0f} to {high:.0f}) if each task named as many at random"
    )


def _effect(effects: pd.DataFrame, comparison: str, level: str, sign: int) -> tuple[str, str]:
    """Whether a level differs from its reference in a direction, and by how much."""
    here = effects[(effects["comparison"] == comparison) & (effects["task"] == "all")]
    row = here.set_index("level").loc[level]
    found = row.rename({"difference": "mean"})
    return _judged(found, sign), f"{_words(found)} for {level} against {row['reference']}"


def _judged(found: pd.Series, sign: int) -> str:
    """Say what an interval says of a difference of that sign."""
    low, high = sorted(sign * found[["low", "high"]].to_numpy(float))
    return HOLDS if low > 0 else FAILS if high < 0 else UNKNOWN


def _words(found: pd.Series) -> str:
    """A difference in AUROC with its interval."""
    low, high = found["low"], found["high"]
    return f"{found['mean']:+.3f} AUROC (95% interval {low:+.3f} to {high:+.3f})"
