"""Effects planted into real controls, and nothing planted: what is named, and is it right?

Real values, real correlation between sites, real composition of blood: half of the controls of a
cohort are called cases. Nothing is planted (is anything named?), or every gene of three pathways
is changed at half of its sites by a known number of standard deviations (are they named?).
Pseudo-cases are drawn at random, or with more granulocytes. Compared: EWAS and over-representation
of its sites, with and without adjustment for composition, and the evidence of the network.

``MIRACLE_MIRROR`` names the folder with the series, the array annotation and the gene sets;
``SPLITS`` and ``NETWORK_SPLITS`` (100 and 25, in each cohort and of each kind) set how often the
controls are split, 0 for not at all; ``EFFECTS`` names the effects to plant, in SDs of the site
among controls (empty: nothing is planted).
"""

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from miracle_lib.cohorts import load_cohort
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.hierarchy import Hierarchy, load_annotation_source
from miracle_lib.interpretation import ewas, explain, overrepresentation
from miracle_lib.interpretation.association import separable_covariates
from miracle_lib.preprocessing import estimate_cell_fractions
from miracle_lib.preprocessing.scale import beta_to_m, m_to_beta
from miracle_lib.samples import Samples

TOP = 100  # sites called significant where a list of fixed length is tested
N_PLANTED = 3


@dataclass
class Background:
    """Real controls of one cohort, with their composition and the gene sets over their sites."""

    name: str
    beta: pd.DataFrame
    cells: pd.DataFrame
    hierarchy: Hierarchy
    pairs: pd.DataFrame
    gene_sets: dict[str, list[str]]


def backgrounds() -> Iterator[Background]:
    """Read the controls of two series."""
    mirror = os.environ["MIRACLE_MIRROR"]
    array = load_annotation_source("illumina_450k", mirror=mirror)
    go = load_annotation_source("go_bp", mirror=mirror)
    go = getattr(go, "gene_sets", go)
    for name in ("GSE42861", "GSE125105"):
        adata = load_cohort(name, mirror, allow_subset=True)
        adata = adata[adata.obs["label"].to_numpy(float) == 0]
        adata = adata[:, ~np.isnan(adata.X).any(axis=0)].copy()
        cells = adata.obs.filter(like="cell_")
        if cells.empty:
            reference = load_annotation_source("blood_reference_6celltypes", mirror=mirror)
            cells = estimate_cell_fractions(adata, reference)
        adata = adata[cells.notna().all(axis=1).to_numpy()]
        beta = adata.to_df()
        hierarchy = Hierarchy.from_tables(array.site_gene, go, sites=beta.columns)
        kept = {name: go[name] for name in hierarchy.pathways}
        pairs = array.site_gene[array.site_gene["site"].isin(beta.columns)]
        yield Background(name, beta, cells.loc[beta.index].astype(float), hierarchy, pairs, kept)


def pseudo_cases(background: Background, rng: np.random.Generator, shifted: bool) -> pd.Series:
    """Call half of the controls cases: any half, or one with more granulocytes."""
    score = rng.gumbel(size=len(background.beta))
    if shifted:
        granulocytes = background.cells.filter(regex="Gran|Neu").sum(axis=1)
        score += 1.5 * ((granulocytes - granulocytes.mean()) / granulocytes.std()).to_numpy()
    return pd.Series((score >= np.median(score)).astype(float), background.beta.index)


def planted(
    background: Background, y: pd.Series, effect: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[str]]:
    """Change half of the sites of every gene of some pathways in cases, each its own direction."""
    chosen = list(rng.choice(background.hierarchy.pathways, N_PLANTED, replace=False))
    m = beta_to_m(background.beta.astype(float))
    for pathway in chosen:
        direction = rng.choice([-1, 1])
        genes = background.pairs["gene"].isin(background.gene_sets[pathway])
        sites = background.pairs.loc[genes].drop_duplicates(["site", "gene"])
        sites = sites[sites["site"].isin(m.columns)]
        order = sites.assign(order=rng.random(len(sites))).sort_values("order")
        place = order.groupby("gene").cumcount()
        size = order.groupby("gene")["site"].transform("size")
        half = order.loc[place < np.ceil(size / 2), "site"].unique()
        m.loc[y == 1, half] += direction * effect * m[half].std()
    return m_to_beta(m), chosen


def named_by_ewas(background: Background, X: pd.DataFrame, y: pd.Series) -> dict[str, pd.Index]:
    """Name pathways from the sites at q <= 0.05, and from a list of fixed length."""
    found = {}
    cells = separable_covariates(background.cells)
    for title, covariates in (("EWAS", None), ("EWAS, cells adjusted", cells)):
        table = ewas(X, y, covariates)
        lists = {"q ≤ 0.05": table.index[table["q_value"] <= 0.05]}
        lists[f"top {TOP}"] = table["p_value"].nsmallest(TOP).index
        for kind, sites in lists.items():
            found[f"{title}: {kind}"] = _enriched(background, sites, X.columns)
    return found


def _enriched(background: Background, sites: pd.Index, universe: pd.Index) -> pd.Index:
    """Gene sets over-represented at q <= 0.05."""
    if not len(sites):
        return pd.Index([])
    table = overrepresentation(sites, universe, background.pairs, background.gene_sets)
    return table.index[table["q_value"] <= 0.05]


def named_by_network(background: Background, X: pd.DataFrame, y: pd.Series) -> dict[str, pd.Index]:
    """Name pathways by the evidence of a network, with and without composition adjusted for."""
    found = {}
    cells = separable_covariates(background.cells)
    for title, covariates in (("network", None), ("network, cells adjusted", cells)):
        samples = Samples(X, y.rename("case"), covariates=covariates)
        training = Training(progress=False)
        model = MiracleClassifier(background.hierarchy, training=training, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = explain(model.fit(samples), samples, "case")
        found[title] = table.index[table["q_value"] <= 0.05]
    return found


def false_names(background: Background, named: pd.Index, truth: list[str]) -> int:
    """Count named pathways that share no measured gene with a planted one."""
    h = background.hierarchy
    genes = {p: set(background.gene_sets[p]) & set(h.genes) for p in [*truth, *named]}
    changed = set().union(*(genes[p] for p in truth))
    return sum(not genes[p] & changed for p in named)


def null_table(background: Background, name, n_splits: int) -> pd.DataFrame:
    """Count splits in which anything is named although nothing was planted."""
    rows = {}
    for kind, shifted in (("any half", False), ("more granulocytes", True)):
        counts: dict[str, list[int]] = {}
        for seed in range(n_splits):
            rng = np.random.default_rng(seed)
            y = pseudo_cases(background, rng, shifted)
            for method, pathways in name(background, background.beta, y).items():
                counts.setdefault(method, []).append(len(pathways))
        for method, values in counts.items():
            silent = f"{sum(not v for v in values)} of {n_splits}"
            rows[kind, method] = {"silent splits": silent, "mean named": np.mean(values)}
    return pd.DataFrame(rows).T.rename_axis(["pseudo-cases", "method"])


def recovery_table(
    background: Background, name, n_splits: int, effects: list[float]
) -> pd.DataFrame:
    """Share of planted pathways named, and how many named ones share no gene with them."""
    rows = {}
    for effect in effects:
        scores: dict[str, list[tuple[float, int, int]]] = {}
        for seed in range(n_splits):
            rng = np.random.default_rng(1000 + seed)
            y = pseudo_cases(background, rng, False)
            X, truth = planted(background, y, effect, rng)
            for method, pathways in name(background, X, y).items():
                found = sum(p in set(pathways) for p in truth) / N_PLANTED
                score = found, len(pathways), false_names(background, pathways, truth)
                scores.setdefault(method, []).append(score)
        for method, values in scores.items():
            rows[effect, method] = dict(
                zip(
                    ("share found", "named", "of these false"), np.mean(values, axis=0), strict=True
                )
            )
    return pd.DataFrame(rows).T.rename_axis(["effect (SD)", "method"])


def _print(title: str, table: pd.DataFrame) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print(table.reset_index().to_markdown(index=False, floatfmt=".2f"), flush=True)


def main() -> None:
    n_splits = int(os.environ.get("SPLITS", "100"))
    n_network = int(os.environ.get("NETWORK_SPLITS", "25"))
    effects = [float(each) for each in os.environ.get("EFFECTS", "0.5 1 1.5 2").split()]
    for background in backgrounds():
        h = background.hierarchy
        print(
            f"\n## {background.name}: {len(background.beta)} controls, {len(background.beta.T):,} "
            f"sites, {len(h.pathways)} pathways of {len(h.genes)} genes"
        )
        for method, splits in ((named_by_ewas, n_splits), (named_by_network, n_network)):
            if not splits:
                continue
            started = time.monotonic()
            kind = method.__name__.replace("named_by_", "")
            _print(
                f"Nothing planted, {kind}, {splits} splits", null_table(background, method, splits)
            )
            if effects:
                few = max(5, splits // 5)
                _print(
                    f"{N_PLANTED} pathways planted, {kind}, {few} splits an effect",
                    recovery_table(background, method, few, effects),
                )
            print(f"\n{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
