"""Other methods on the same folds as ours: accuracy, cost, pathways, and agreement between seeds.

    MIRACLE_PEERS=FOLDER python -m benchmarks peers

Real cohorts of the mirror (MIRACLE_TEST_MIRROR) and simulations with planted pathways. Peers that
PyPI serves are installed into environments of their own under FOLDER (default: the user's cache),
pinned, and are no dependency of the project. Every method runs alone in a process with one thread.
``PEERS_DATA`` and ``PEERS_METHODS`` choose some of them, separated by semicolons.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from miracle_lib.cohorts import cache_folder, load_cohort, merge_cohorts, simulate_cohorts
from miracle_lib.evaluation import make_folds, scores_of, summarise
from miracle_lib.hierarchy import Hierarchy, load_annotation_source
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.samples import Samples

MIRROR = Path(os.environ.get("MIRACLE_TEST_MIRROR", "../shared/data/mirror"))
ADAPTERS = Path(__file__).parent / "adapters"
PINNED = {  # module of the adapter: environment, what pip installs
    "prominent": ("prominent", "prominent-methylation==0.1.10"),
    "ivae": ("pyvae", "pyvae==1.1.0"),
    "informed": ("binn", "binn==0.1.1"),
    "flexi": ("flexynesis", "flexynesis==1.1.14"),
}
METHODS = {
    "MIRACLE": "own",
    "L2 logistic regression": "own:logistic_l2",
    "gradient boosting": "own:gradient_boosting",
    "dense autoencoder, then classifier": "own:dense_autoencoder",
    "two stages, over pathways": "two_stage",
    "PROMINENT": "prominent",
    "pyvae": "ivae",
    "BINN": "informed",
    "Flexynesis": "flexi",
}
ABSENT = {
    "MethylNet": "needs R through rpy2; its idea (a dense autoencoder, then a head) stands in",
    "BioM2": "an R package: its idea (a learner per pathway, then one over pathways) stands in",
}
N_FOLDS, N_SEEDS, TOP = 3, 2, 10


class Study(NamedTuple):
    """Samples of one task, the mask over their sites, and what was planted."""

    samples: Samples
    hierarchy: Hierarchy
    planted: set[str]


def real(name: str) -> Study:
    """A cohort of the mirror under the mask of GO."""
    X, Y, obs = merge_cohorts([load_cohort(name, mirror=MIRROR, allow_subset=True)])
    array = load_annotation_source("illumina_450k", mirror=MIRROR)
    sets = load_annotation_source("go_bp", mirror=MIRROR)
    hierarchy = Hierarchy.from_tables(array.site_gene, sets, sites=X.columns)
    return Study(Samples(X, Y, subject=obs["subject"]), hierarchy, set())


def planted(seed: int) -> Study:
    """A simulated cohort of 150 samples with five planted pathways."""
    data = simulate_cohorts({"RA": 150}, n_sites=800, effect=0.25, random_state=seed)
    X, Y, obs = merge_cohorts(list(data.cohorts.values()))
    hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)
    truth = set(data.truth.pathways["pathway"]) & set(hierarchy.pathways)
    return Study(Samples(X, Y, subject=obs["subject"]), hierarchy, truth)


DATA = {
    "GSE42861 (rheumatoid arthritis)": lambda: real("GSE42861"),
    "GSE72774 (Parkinson's disease)": lambda: real("GSE72774"),
    "simulated, seed 100": lambda: planted(100),
    "simulated, seed 101": lambda: planted(101),
}


@cache
def python_of(module: str) -> Path:
    """Interpreter that a method runs under; an environment of its own is made on the first call."""
    if module not in PINNED:
        return Path(sys.executable)
    name, wanted = PINNED[module]
    folder = Path(os.environ.get("MIRACLE_PEERS", cache_folder() / "peers")) / name
    interpreter = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        torch = "torch==2.13.0+cpu" if sys.platform == "linux" else "torch==2.13.0"
        subprocess.run([interpreter, "-m", "pip", "install", "-q", torch, wanted], check=True)
        # A torchvision that comes along is built for another torch, and nothing here sees pictures.
        subprocess.run([interpreter, "-m", "pip", "uninstall", "-qy", "torchvision"], check=True)
        (folder / "installed").touch()
    return interpreter


def split_of(study: Study, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """All that a method may see of one split; genes are means of their standardised sites."""
    hierarchy, values = study.hierarchy, study.samples.values
    standardizer = CohortStandardizer().fit(values.iloc[train])
    z = standardizer.transform(values)
    site_gene = hierarchy.site_gene.tocoo()
    weights = hierarchy.site_gene.astype(float)
    genes = z[hierarchy.sites].to_numpy() @ weights / weights.sum(axis=0)
    columns = values.columns.get_indexer(hierarchy.sites)
    split = {
        "site_gene": np.column_stack([columns[site_gene.row], site_gene.col]),
        "mask": hierarchy.gene_pathway.toarray().astype(int),
        "seed": np.array(seed),
        "y_train": study.samples.labels.iloc[train, 0].to_numpy(int),
    }
    for name, rows in (("train", train), ("test", test)):
        split[f"beta_{name}"] = values.iloc[rows].to_numpy()
        split[f"z_{name}"] = z.iloc[rows].to_numpy()
        split[f"genes_{name}"] = np.asarray(genes)[rows]
    return split


def answer(method: str, split: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a method on a split in its own process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "split.npz", **split)
        command = [python_of(method.partition(":")[0]), ADAPTERS / "run.py", method, folder]
        path = os.pathsep.join([str(ADAPTERS.parents[1]), os.environ.get("PYTHONPATH", "")])
        known = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=known)
        if done.returncode:
            raise SystemExit(f"{method} failed:\n{done.stderr[-3000:]}")
        return dict(np.load(folder / "answer.npz"))


def measured(study: Study, method: str) -> dict[str, object]:
    """Folds of one method: AUROC with its interval, cost, pathways found, agreement of seeds."""
    tables, answers = [], []
    folds = list(make_folds(study.samples, n_splits=N_FOLDS))
    for fold in folds:
        answers.append(answer(method, split_of(study, fold.train, fold.test, seed=0)))
        part = study.samples.take(fold.test)
        tables.append(
            pd.DataFrame(
                {
                    "sample": part.names,
                    "group": part.subject.to_numpy(),
                    "task": part.tasks[0],
                    "repeat": 0,
                    "fold": fold.fold,
                    "label": part.labels.iloc[:, 0].to_numpy(),
                    "score": answers[-1]["score"],
                }
            )
        )
    scores = summarise(scores_of(pd.concat(tables, ignore_index=True)), ("auroc",)).iloc[0]
    row: dict[str, object] = {
        "AUROC": f"{scores['estimate']:.3f} ({scores['low']:.3f} to {scores['high']:.3f})",
        "seconds": f"{np.mean([float(each['seconds']) for each in answers]):.1f}",
        "peak MB": f"{max(float(each['memory']) for each in answers):.0f}",
    }
    if not answers[0]["pathways"].size:
        return row | {"pathways, AUPRC": "none", "top 10, two seeds": "none"}
    first = folds[0]
    seeds = [answers[0]["pathways"]] + [
        answer(method, split_of(study, first.train, first.test, seed))["pathways"]
        for seed in range(1, N_SEEDS)
    ]
    row["pathways, AUPRC"] = "unknown"
    if study.planted:
        truth = study.hierarchy.pathways.isin(study.planted)
        found = [average_precision_score(truth, _ranked(each["pathways"])) for each in answers]
        row["pathways, AUPRC"] = f"{np.mean(found):.2f} (chance {truth.mean():.2f})"
    return row | {"top 10, two seeds": f"{np.mean([*_overlaps(seeds)]):.0%}"}


def _ranked(evidence: np.ndarray) -> np.ndarray:
    """Evidence with the pathways that a method cannot see at the end."""
    return np.nan_to_num(evidence, nan=-np.inf, neginf=-1e9)


def _overlaps(evidence: list[np.ndarray]) -> Iterator[float]:
    """Share of the first ten pathways that two runs have in common."""
    tops = [{*np.argsort(-_ranked(each), kind="stable")[:TOP]} for each in evidence]
    for first, second in combinations(tops, 2):
        yield len(first & second) / TOP


def _chosen(names: dict, variable: str) -> list[str]:
    """All names, or those that a variable lists."""
    listed = os.environ.get(variable)
    return [*names] if listed is None else [name.strip() for name in listed.split(";")]


def main() -> None:
    for title in _chosen(DATA, "PEERS_DATA"):
        study = DATA[title]()
        sizes = f"{len(study.samples)} samples, {len(study.samples.sites)} sites"
        print(f"\n## {title}: {sizes}, {len(study.hierarchy.pathways)} pathways\n", flush=True)
        rows = {}
        for name in _chosen(METHODS, "PEERS_METHODS"):
            rows[name] = measured(study, METHODS[name])
            print(f"<!-- {name}: {rows[name]} -->", flush=True)
        print("\n" + pd.DataFrame(rows).T.rename_axis("method").to_markdown(), flush=True)
    print("\nNot run:\n")
    for name, why in ABSENT.items():
        print(f"- {name}: {why}.")


if __name__ == "__main__":
    main()
