"""Other methods on the same folds as ours: accuracy, cost, pathways, and agreement between seeds.

    MIRACLE_MIRROR=FOLDER MIRACLE_PEERS=FOLDER python -m benchmarks peers

Real cohorts of the mirror (by default ../shared/data/mirror), and simulations with planted
pathways. Peers that PyPI serves are installed into environments of their own under MIRACLE_PEERS
(default: the user's cache), pinned, and are no dependency of the project. Every method runs alone
in a process with one thread. What a pinned peer answered is kept there, so that a run that was
stopped goes on, and one after a change of ours trains only ours. ``PEERS_DATA`` and
``PEERS_METHODS`` choose some of them, separated by semicolons; ``PEERS_DRAWS`` (2) says how often
a real cohort is cut into three folds.
"""

import hashlib
import os
import shutil
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
from miracle_lib.evaluation import Fold, compare_methods, make_folds, scores_of, summarise
from miracle_lib.hierarchy import Hierarchy, load_annotation_source
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.samples import Samples

MIRROR = Path(os.environ.get("MIRACLE_MIRROR", "../shared/data/mirror"))
ADAPTERS = Path(__file__).parent / "adapters"
PEERS = Path(os.environ.get("MIRACLE_PEERS", cache_folder() / "peers"))
PINNED = {  # module of the adapter: environment, what pip installs
    "prominent": ("prominent", "prominent-methylation==0.1.10"),
    "ivae": ("pyvae", "pyvae==1.1.0"),
    "informed": ("binn", "binn==0.1.1"),
    "flexi": ("flexynesis", "flexynesis==1.1.14"),
}
OWN = "MIRACLE"
METHODS = {
    OWN: "own",
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
Split = Answer = dict[str, np.ndarray]
N_FOLDS, N_SEEDS, TOP = 3, 2, 10
N_DRAWS = int(os.environ.get("PEERS_DRAWS", "2"))


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
    "GSE42861 (rheumatoid arthritis)": lambda: [real("GSE42861")],
    "GSE66695 (breast cancer)": lambda: [real("GSE66695")],
    "GSE72774 (Parkinson's disease)": lambda: [real("GSE72774")],
    "GSE125105 (depression)": lambda: [real("GSE125105")],
    "simulated, five cohorts": lambda: [planted(seed) for seed in range(100, 105)],
}


class Result(NamedTuple):
    """What one method did on its folds, and how far its first pathways are right and the same."""

    held_out: list[pd.DataFrame]
    costs: list[tuple[float, float]]  # seconds of processor time, peak MB
    recovered: list[dict[str, float]]
    agreement: list[float]

    def scores(self) -> pd.DataFrame:
        """AUROC by study and fold, with the held-out predictions attached."""
        return scores_of(pd.concat(self.held_out, ignore_index=True))


@cache
def python_of(module: str) -> Path:
    """Interpreter that a method runs under; an environment of its own is made on the first call."""
    if module not in PINNED:
        return Path(sys.executable)
    name, wanted = PINNED[module]
    folder = PEERS / name
    interpreter = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        torch = "torch==2.13.0+cpu" if sys.platform == "linux" else "torch==2.13.0"
        subprocess.run([interpreter, "-m", "pip", "install", "-q", torch, wanted], check=True)
        # A torchvision that comes along is built for another torch, and nothing here sees pictures.
        subprocess.run([interpreter, "-m", "pip", "uninstall", "-qy", "torchvision"], check=True)
        (folder / "installed").touch()
    return interpreter


def split_of(study: Study, fold: Fold, seed: int) -> Split:
    """All that a method may see of one split; genes are means of their standardised sites."""
    hierarchy, values = study.hierarchy, study.samples.values
    standardizer = CohortStandardizer().fit(values.iloc[fold.train])
    z = standardizer.transform(values)
    site_gene = hierarchy.site_gene.tocoo()
    weights = hierarchy.site_gene.astype(float)
    genes = z[hierarchy.sites].to_numpy() @ weights / weights.sum(axis=0)
    columns = values.columns.get_indexer(hierarchy.sites)
    split = {
        "site_gene": np.column_stack([columns[site_gene.row], site_gene.col]),
        "mask": hierarchy.gene_pathway.toarray().astype(int),
        "seed": np.array(seed),
        "y_train": study.samples.labels.iloc[fold.train, 0].to_numpy(int),
    }
    for name, rows in (("train", fold.train), ("test", fold.test)):
        split[f"beta_{name}"] = values.iloc[rows].to_numpy()
        split[f"z_{name}"] = z.iloc[rows].to_numpy()
        split[f"genes_{name}"] = np.asarray(genes)[rows]
    return split


def answers(method: str, splits: list[Split]) -> list[Answer]:
    """Run a method on some splits in a process of its own; a pinned peer's answers are kept."""
    kept = [PEERS / "answers" / _name(method, split) for split in splits]
    new = [file for file in kept if method not in PINNED or not file.is_file()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, split in zip(kept, splits, strict=True):
            if file in new:
                np.savez(folder / file.name, **split)
        if new:
            _run(method, folder)
        for file in new:
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / file.name, file)
    return [dict(np.load(file)) for file in kept]


def _name(method: str, split: Split) -> str:
    """File of an answer: what was installed, how it was called, and what it saw."""
    module = method.partition(":")[0]
    content = hashlib.sha256(repr((method, PINNED.get(method))).encode())
    content.update((ADAPTERS / f"{module}.py").read_bytes())
    for name in sorted(split):
        content.update(name.encode() + np.ascontiguousarray(split[name]).tobytes())
    return f"{module}-{content.hexdigest()[:16]}.npz"


def _run(method: str, folder: Path) -> None:
    """Train a method on each split of a folder; its answer takes the place of the split."""
    command = [python_of(method.partition(":")[0]), ADAPTERS / "run.py", method, folder]
    path = os.pathsep.join([str(ADAPTERS.parents[1]), os.environ.get("PYTHONPATH", "")])
    known = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=known)
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr[-3000:]}")


def measured(studies: list[Study], method: str) -> Result:
    """Train a method on each fold of each study, and with further seeds on the first of each."""
    result = Result([], [], [], [])
    for number, study in enumerate(studies):
        draws = N_DRAWS if len(studies) == 1 else 1
        folds = list(make_folds(study.samples, n_splits=N_FOLDS, n_repeats=draws))
        runs = [(fold, 0) for fold in folds] + [(folds[0], seed) for seed in range(1, N_SEEDS)]
        found = answers(method, [split_of(study, *run) for run in runs])
        result.costs.extend((float(each["seconds"]), float(each["memory"])) for each in found)
        for fold, each in zip(folds, found, strict=False):
            result.held_out.append(_held_out(study, fold, each["score"], number))
        if found[0]["pathways"].size:
            evidence = [each["pathways"] for each in found]
            result.agreement.extend(_overlaps([evidence[0], *evidence[len(folds) :]]))
            if study.planted:
                result.recovered.extend(_recovered(study, each) for each in evidence[: len(folds)])
    return result


def _held_out(study: Study, fold: Fold, score: np.ndarray, number: int) -> pd.DataFrame:
    """Held-out scores of one fold; samples and task are numbered by study."""
    part = study.samples.take(fold.test)
    return pd.DataFrame(
        {
            "sample": [f"{number} {name}" for name in part.names],
            "group": [f"{number} {name}" for name in part.subject],
            "task": f"{part.tasks[0]} {number}",
            "repeat": fold.repeat,
            "fold": fold.fold,
            "label": part.labels.iloc[:, 0].to_numpy(),
            "score": score,
        }
    )


def _recovered(study: Study, evidence: np.ndarray) -> dict[str, float]:
    """How high a method ranks the planted pathways."""
    truth, ranked = study.hierarchy.pathways.isin(study.planted), _ranked(evidence)
    first = np.argsort(-ranked, kind="stable")[:TOP]
    return {
        "AUPRC": average_precision_score(truth, ranked),
        "found": truth[first].sum() / truth.sum(),
    }


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


def table_of(results: dict[str, Result]) -> pd.DataFrame:
    """Per method: AUROC, difference to ours by fold, cost of a training, and its pathways."""
    rows = {name: _row(result) for name, result in results.items()}
    if OWN in results and len(results) > 1:
        scores = {name: result.scores() for name, result in results.items()}
        compared = compare_methods(scores, OWN).query("task == 'all'").set_index("method")
        for name, found in compared.iterrows():
            rows[name][f"minus {OWN}"] = _interval(found["difference"], found, "+.3f")
    return pd.DataFrame(rows).T.fillna("-").rename_axis("method")


def _row(result: Result) -> dict[str, str]:
    """Cells of one method."""
    auroc = summarise(result.scores(), ("auroc",)).set_index("task").loc["all"]
    cells = {
        "AUROC": _interval(auroc["estimate"], auroc, ".3f"),
        f"minus {OWN}": "-",
        "seconds": f"{np.mean(result.costs, axis=0)[0]:.1f}",
        "peak MB": f"{np.max(result.costs, axis=0)[1]:.0f}",
    }
    if result.agreement:
        cells[f"same in top {TOP}, two seeds"] = f"{np.mean(result.agreement):.0%}"
    if result.recovered:
        recovered = pd.DataFrame(result.recovered)
        mean, spread = recovered.mean(), recovered.std()
        cells["AUPRC of planted"] = f"{mean['AUPRC']:.2f} ({spread['AUPRC']:.2f})"
        cells[f"planted in top {TOP}"] = f"{mean['found']:.0%} ({spread['found']:.0%})"
    return cells


def _interval(estimate: float, ends: pd.Series, style: str) -> str:
    """Estimate with the ends of its interval."""
    return f"{estimate:{style}} ({ends['low']:{style}} to {ends['high']:{style}})"


def main() -> None:
    for title in _chosen(DATA, "PEERS_DATA"):
        studies, results = DATA[title](), {}
        sizes = [
            f"{len(study.samples)} samples, {len(study.samples.sites)} sites, "
            f"{len(study.hierarchy.pathways)} pathways ({len(study.planted)} planted)"
            for study in studies
        ]
        print(f"\n## {title}\n\n" + "\n".join(sizes) + "\n", flush=True)
        for name in _chosen(METHODS, "PEERS_METHODS"):
            results[name] = measured(studies, METHODS[name])
            print(f"<!-- {name}: {_row(results[name])} -->", flush=True)
        print("\n" + table_of(results).to_markdown(), flush=True)
    print("\nNot run:\n")
    for name, why in ABSENT.items():
        print(f"- {name}: {why}.")


if __name__ == "__main__":
    main()
