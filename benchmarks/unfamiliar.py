"""What a model says of samples it has not seen: are intervals right, are wrong samples refused?

    MIRACLE_MIRROR=FOLDER python -m benchmarks unfamiliar

Five folds of each public series of the mirror. On four of them a model is trained and, by folds
within them, scored on held-out samples; on the fifth it is judged, as it is and with its values
changed. Printed: how often the classes that are named hold the true one, what calibration does to
the Brier score, and how often samples are believed. Last, another laboratory's blood and the time
that many samples and one sample take.
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
from miracle_lib.estimator.reliability import REFUSED, RELIABLE, UNCERTAIN
from miracle_lib.hierarchy import load_annotation_source

SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
ELSEWHERE = {"GSE125105": "GSE72774", "GSE72774": "GSE125105", "GSE66695": "GSE42861"}
MANY = 10_000  # samples of the timed batch
TASK = "case"


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


def trained(hierarchy: ml.Hierarchy, X: pd.DataFrame, y: pd.Series) -> ml.MiracleClassifier:
    """A model that knows scores of samples held out within its training."""
    model = ml.MiracleClassifier(hierarchy, training=ml.Training(progress=False))
    scores = ml.cross_validate(model, X, y.to_frame(TASK))
    return model.fit(X, y.rename(TASK)).keep_held_out(scores)


def judged(series: str, X: pd.DataFrame, y: pd.Series, hierarchy: ml.Hierarchy) -> tuple:
    """Predictions of held-out samples with their labels, verdicts by kind, and the last model."""
    rng, answers = np.random.default_rng(0), []
    verdicts: dict[str, list[pd.Series]] = {}
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        model = trained(hierarchy, X.iloc[train], y.iloc[train])
        for what, new in wrong_samples(X.iloc[test], rng).items():
            result = ml.predict(model, new)
            verdicts.setdefault(what, []).append(result[f"verdict[{TASK}]"])
            if what == "as it is":
                answers.append(result.assign(label=y.iloc[test]))
    shares = {what: shares_of(pd.concat(found)) for what, found in verdicts.items()}
    print(f"{series} done", file=sys.stderr)
    return pd.concat(answers), shares, model


def shares_of(verdicts: pd.Series) -> str:
    """Shares of reliable, uncertain and refused samples, as cells of a table."""
    return " | ".join(f"{(verdicts == each).mean():.1%}" for each in (RELIABLE, UNCERTAIN, REFUSED))


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
    print("\n| fifth of the probability | low | high | share of cases | ± |\n|---|---|---|---|---|")
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
    array = load_annotation_source("illumina_450k", mirror=mirror)
    sets = load_annotation_source("go_bp", mirror=mirror)
    tables, found = {}, {}
    for name in SERIES:
        adata = ml.load_cohort(name, mirror=mirror, allow_subset=True)
        tables[name] = adata.to_df()
        hierarchy = ml.Hierarchy.from_tables(array.site_gene, sets, sites=adata.var_names)
        found[name] = judged(name, tables[name], adata.obs["label"].astype(float), hierarchy)
    print("| series | samples | true class named | of cases | of controls | one class named "
          "| Brier, score | Brier, probability | width |")  # fmt: skip
    print("|---" * 9 + "|")
    for name, (answers, _, _) in found.items():
        print(coverage(name, answers))
    groups_of([answers for answers, _, _ in found.values()])
    print("\n| series | samples | reliable | uncertain | not to be used |\n|---|---|---|---|---|")
    for name, (_, shares, model) in found.items():
        for what, cells in shares.items():
            print(f"| {name} | {what} | {cells} |")
        if name in ELSEWHERE:
            other = ml.predict(model, tables[ELSEWHERE[name]])[f"verdict[{TASK}]"]
            print(f"| {name} | all of {ELSEWHERE[name]} | {shares_of(other)} |")
    times(found["GSE42861"][2], tables["GSE42861"])


if __name__ == "__main__":
    main()
