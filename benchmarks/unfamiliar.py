"""What a model says of samples it has not seen: are intervals right, are wrong samples refused?

    MIRACLE_MIRROR=FOLDER python -m benchmarks unfamiliar

Five folds of each public series of the mirror. On four of them a model is trained and, by folds
within them, scored on held-out samples; on the fifth it is judged: as it is, with values changed,
and with sites left out. Printed: how often the classes that are named hold the true one, what
calibration does to the Brier score, what is left of a probability where weight is missing, and how
often samples are believed. Then blood that is moved to one of its cell types, another laboratory's
blood, breast against blood on the few sites that both series have, and the time that many samples
and one sample take.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

import miracle_lib as ml
from miracle_lib.estimator.reliability import REFUSED, RELIABLE, UNCERTAIN, site_weights
from miracle_lib.hierarchy import load_annotation_source
from miracle_lib.preprocessing import estimate_cell_fractions

SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
ELSEWHERE = {"GSE125105": "GSE72774", "GSE72774": "GSE125105"}
BLOOD, BREAST = "GSE42861", "GSE66695"
WEIGHTS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # shares that are left
MANY = 10_000  # samples of the timed batch
TASK = "case"
VERDICTS = (RELIABLE, UNCERTAIN, REFUSED)

Sets = dict[str, list[str]]


def wrong_samples(X: pd.DataFrame, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """What is no sample of the cohort, or one with values moved."""
    beta = X.to_numpy()
    changed = {
        "as it is": beta,
        "noise": rng.random(beta.shape),
        "zeros": np.zeros_like(beta),
        "1 - X": 1 - beta,
        "sites shuffled": rng.permuted(beta, axis=1),
        "half of the sites 0.5": np.where(rng.random(beta.shape) < 0.5, 0.5, beta),
        "half of the sites missing": np.where(rng.random(beta.shape) < 0.5, np.nan, beta),
        "0.1 added": np.clip(beta + 0.1, 0, 1),
    }
    return {name: pd.DataFrame(values, X.index, X.columns) for name, values in changed.items()}


def moved_to_cells(X: pd.DataFrame, reference: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Samples of blood as they would be of one cell type alone, all else of them kept."""
    mixture = estimate_cell_fractions(X, reference).rename(
        columns=lambda n: n.removeprefix("cell_")
    )
    mixture = mixture.div(mixture.sum(axis=1), axis=0)
    profiles = reference.reindex(X.columns).T
    rest = X - mixture @ profiles.loc[mixture.columns]
    return {f"moved to {cell}": (rest + profiles.loc[cell]).clip(0, 1) for cell in mixture}


def thinned(
    X: pd.DataFrame, weight: np.ndarray, share: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Samples of which sites, drawn by chance, are left that carry a share of a model's weight."""
    left = X.copy()
    for row in range(len(X)):
        order = rng.permutation(X.shape[1])
        left.iloc[row, order[weight[order].cumsum() > share + 1e-9]] = np.nan
    return left


def trained(hierarchy: ml.Hierarchy, X: pd.DataFrame, y: pd.Series) -> ml.MiracleClassifier:
    """A model that knows scores of samples held out within its training."""
    model = ml.MiracleClassifier(hierarchy, training=ml.Training(progress=False))
    scores = ml.cross_validate(model, X, y.to_frame(TASK))
    return model.fit(X, y.rename(TASK)).keep_held_out(scores)


def judged(
    series: str,
    X: pd.DataFrame,
    y: pd.Series,
    hierarchy: ml.Hierarchy,
    others: dict[str, pd.DataFrame],
) -> tuple:
    """Predictions of held-out samples with their labels, verdicts by kind, and the last model."""
    rng, answers = np.random.default_rng(0), []
    verdicts: dict[str, list[pd.Series]] = {}
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        model = trained(hierarchy, X.iloc[train], y.iloc[train])
        held_out = X.iloc[test]
        kinds = wrong_samples(held_out, rng) | {k: v.iloc[test] for k, v in others.items()}
        results = {what: ml.predict(model, new) for what, new in kinds.items()}
        for what, result in results.items():
            verdicts.setdefault(what, []).append(result[f"verdict[{TASK}]"])
        weight = site_weights(model, TASK).reindex(X.columns, fill_value=0.0).to_numpy()
        left = {
            f"left {share}": model.predict_proba(thinned(held_out, weight, share, rng))[:, 1]
            for share in WEIGHTS
        }
        answers.append(results["as it is"].assign(label=y.iloc[test], **left))
    shares = {what: shares_of(pd.concat(found)) for what, found in verdicts.items()}
    print(f"{series} done", file=sys.stderr)
    return pd.concat(answers), shares, model


def missing_weight(series: str, answers: pd.DataFrame) -> None:
    """Print rows of a table: what becomes of probabilities where weight is missing."""
    label, whole = answers["label"], answers["left 1.0"]
    base = label.mean() * (1 - label.mean())
    for share in WEIGHTS:
        score = answers[f"left {share}"]
        brier = np.square(score - label).mean()
        change = (score - whole).abs().quantile(0.95)
        sides = ((score > 0.5) != (whole > 0.5)).mean()
        print(f"| {series} | {share:.0%} | {brier:.3f} | {1 - brier / base:.2f} | {change:.3f} "
              f"| {sides:.1%} |")  # fmt: skip


def another_tissue(
    known: pd.DataFrame, y: pd.Series, other: pd.DataFrame, site_gene: pd.DataFrame, sets: Sets
) -> str:
    """Cells of a table: samples held out, and of another tissue, on the sites that both have."""
    sites = known.columns.intersection(other.columns)
    hierarchy = ml.Hierarchy.from_tables(site_gene, sets, sites=sites, min_genes=1)
    own, away = [], []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(known, y):
        model = ml.MiracleClassifier(hierarchy, training=ml.Training(progress=False))
        model.fit(known[sites].iloc[train], y.iloc[train].rename(TASK))
        for found, new in ((own, known[sites].iloc[test]), (away, other[sites])):
            found.append(ml.predict(model, new)[f"verdict[{TASK}]"])
    return f"{len(sites)} | {shares_of(pd.concat(own))} | {shares_of(pd.concat(away))}"


def head(*names: str) -> None:
    """Print the first two lines of a table."""
    print(f"\n| {' | '.join(names)} |\n{'|---' * len(names)}|")


def shares_of(verdicts: pd.Series) -> str:
    """Shares of reliable, uncertain and refused samples, as cells of a table."""
    return " | ".join(f"{(verdicts == each).mean():.1%}" for each in VERDICTS)


def coverage(series: str, answers: pd.DataFrame) -> str:
    """Row of a table: how often the named classes hold the true one, and what calibration gives."""
    answers = answers[answers[f"verdict[{TASK}]"] != REFUSED]
    case = answers["label"] == 1
    word = case.map({True: "case", False: "control"})
    named = answers[f"classes[{TASK}]"].str.split(" or ")
    held = pd.Series([w in n for w, n in zip(word, named, strict=True)], answers.index)
    error = 1.96 * np.sqrt(held.mean() * (1 - held.mean()) / len(held))
    brier = [np.square(answers[f"{n}[{TASK}]"] - case).mean() for n in ("score", "probability")]
    width = (answers[f"high[{TASK}]"] - answers[f"low[{TASK}]"]).median()
    one = (named.str.len() == 1) & (answers[f"classes[{TASK}]"] != "neither")
    cells = [f"{held.mean():.1%} ± {error:.1%}", f"{held[case].mean():.1%}"]
    cells += [f"{held[~case].mean():.1%}", f"{one.mean():.0%}", *(f"{b:.4f}" for b in brier)]
    return f"| {series} | {len(answers)} | {' | '.join(cells)} | {width:.3f} |"


def groups_of(answers: list[pd.DataFrame]) -> None:
    """Print predicted and observed share of cases, in fifths of the predicted probability."""
    table = pd.concat(answers).dropna(subset=[f"probability[{TASK}]"])
    part = pd.qcut(table[f"probability[{TASK}]"], 5, labels=False, duplicates="drop")
    head("fifth of the probability", "low", "high", "share of cases", "±")
    for number, rows in table.groupby(part):
        share = rows["label"].mean()
        error = 1.96 * np.sqrt(share * (1 - share) / len(rows))
        ends = [f"{rows[f'{end}[{TASK}]'].mean():.3f}" for end in ("low", "high")]
        print(f"| {number + 1:.0f} | {' | '.join(ends)} | {share:.3f} | {error:.3f} |")


def times(model: ml.MiracleClassifier, X: pd.DataFrame) -> None:
    """Print what many samples take once read, and one from a cold start of the command."""
    many = pd.DataFrame(np.tile(X.to_numpy(), (-(-MANY // len(X)), 1))[:MANY], columns=X.columns)
    start = time.perf_counter()
    ml.predict(model, many)
    print(f"\n{MANY:,} samples of {X.shape[1]:,} sites: {time.perf_counter() - start:.1f} s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "model")
        X.iloc[:1].to_csv(folder / "one.csv")
        command = [sys.executable, "-m", "miracle_lib.cli", "predict", str(folder / "one.csv")]
        command += ["--model", str(folder / "model"), "-o", str(folder / "answer.csv")]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
    print(f"one sample from a cold start: {time.perf_counter() - start:.1f} s")


def main() -> None:
    mirror = os.environ["MIRACLE_MIRROR"]
    array, sets, cells = (
        load_annotation_source(name, mirror=mirror)
        for name in ("illumina_450k", "go_bp", "blood_reference_6celltypes")
    )
    tables, labels, found = {}, {}, {}
    for name in SERIES:
        adata = ml.load_cohort(name, mirror=mirror, allow_subset=True)
        X, y = tables[name], labels[name] = adata.to_df(), adata.obs["label"].astype(float)
        hierarchy = ml.Hierarchy.from_tables(array.site_gene, sets, sites=adata.var_names)
        others = moved_to_cells(X, cells) if name == BLOOD else {}
        found[name] = judged(name, X, y, hierarchy, others)
    head("series", "samples", "true class named", "of cases", "of controls", "one class named",
         "Brier, score", "Brier, probability", "width")  # fmt: skip
    for name, (answers, _, _) in found.items():
        print(coverage(name, answers))
    groups_of([answers for answers, _, _ in found.values()])
    head("series", "weight left", "Brier", "skill", "change, 95 %", "sides changed")
    for name, (answers, _, _) in found.items():
        missing_weight(name, answers)
    head("series", "samples", *VERDICTS)
    for name, (_, shares, model) in found.items():
        for what, row in shares.items():
            print(f"| {name} | {what} | {row} |")
        if name in ELSEWHERE:
            other = ml.predict(model, tables[ELSEWHERE[name]])[f"verdict[{TASK}]"]
            print(f"| {name} | all of {ELSEWHERE[name]} | {shares_of(other)} |")
    head(
        "model of",
        "samples of",
        "sites",
        *(f"{who}: {v}" for who in ("held out", "other") for v in VERDICTS),
    )
    for one, two in ((BLOOD, BREAST), (BREAST, BLOOD)):
        row = another_tissue(tables[one], labels[one], tables[two], array.site_gene, sets)
        print(f"| {one} | {two} | {row} |")
    times(found[BLOOD][2], tables[BLOOD])


if __name__ == "__main__":
    main()
