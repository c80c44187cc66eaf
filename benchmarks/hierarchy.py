"""From annotation files to masks: time and memory, beside what a user would write with pandas.

Needs the real files: set MIRACLE_MIRROR to a folder that holds the 450K manifest and the GO sets.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from scipy.sparse import csr_matrix

from miracle_lib.hierarchy import Hierarchy, read_gene_sets, read_illumina_manifest

Clock = tuple[float, float]
ARRAY, SETS = "HumanMethylation450_15017482_v1-2.csv.gz", "GO_Biological_Process_2021.gmt"


def clock() -> Clock:
    """Wall time and CPU time: the second does not count who else uses the machine."""
    return time.perf_counter(), time.process_time()


def since(start: Clock) -> str:
    wall, cpu = (now - then for now, then in zip(clock(), start, strict=True))
    return f"{wall:.2f}|{cpu:.2f}"


def ours(mirror: Path, cache: str, n_sites: int) -> str:
    """Files to masks with miracle_lib; returns what was built."""
    start = clock()
    array = read_illumina_manifest(mirror / ARRAY, cache=cache or None)
    sets = read_gene_sets(mirror / SETS)
    sites = array.sites.iloc[:: len(array.sites) // n_sites] if n_sites else array.sites
    made = Hierarchy.from_tables(array.site_gene, sets, sites=sites)
    return f"{since(start)}|{made}"


def by_hand(mirror: Path, cache: str, n_sites: int) -> str:
    """The usual notebook: read_csv, explode, crosstab-like loops over sets."""
    start = clock()
    table = pd.read_csv(mirror / ARRAY, skiprows=7, low_memory=False)
    if n_sites:
        table = table.iloc[:: len(table) // n_sites]
    table = table.dropna(subset="UCSC_RefGene_Name")
    pairs = table.assign(gene=table["UCSC_RefGene_Name"].str.split(";")).explode("gene")
    pairs = pairs[["IlmnID", "gene"]].drop_duplicates()
    sets = {}
    for line in (mirror / SETS).read_text().splitlines():
        fields = line.split("\t")
        sets[fields[0]] = {gene for gene in fields[2:] if gene}
    on_array = set(pairs["gene"])
    sets = {name: genes & on_array for name, genes in sets.items()}
    sets = {name: genes for name, genes in sets.items() if 5 <= len(genes) <= 500}
    genes = sorted(set().union(*sets.values()))
    position = {gene: i for i, gene in enumerate(genes)}
    pairs = pairs[pairs["gene"].isin(position)]
    sites = sorted(pairs["IlmnID"].unique())
    row = {site: i for i, site in enumerate(sites)}
    first = csr_matrix(
        (np.ones(len(pairs), bool), (pairs["IlmnID"].map(row), pairs["gene"].map(position))),
        shape=(len(sites), len(genes)),
    )
    second = np.zeros((len(genes), len(sets)), dtype=bool)
    for column, name in enumerate(sorted(sets)):
        for gene in sets[name]:
            second[position[gene], column] = True
    counts = f"{len(sites):,} sites, {len(genes):,} genes, {len(sets):,} pathways"
    return f"{since(start)}|{counts}; {first.nnz:,} + {second.sum():,} edges"


def rewire(mirror: Path, cache: str, n_sites: int) -> str:
    """Permute both levels of the full mask."""
    array = read_illumina_manifest(mirror / ARRAY, cache=cache)
    made = Hierarchy.from_tables(array.site_gene, read_gene_sets(mirror / SETS))
    start = clock()
    permuted = made.permuted(0)
    seconds = since(start)
    kept = [a.multiply(b).nnz / a.nnz for a, b in zip(made.masks, permuted.masks, strict=True)]
    shares = " and ".join(f"{share:.4f}" for share in kept)
    return f"{seconds}|share of edges as before: {shares} (site-gene, gene-pathway)"


def curveball(mirror: Path, cache: str, n_sites: int) -> str:
    """Permute the gene-pathway level by Curveball trades in plain Python, 20 per pathway."""
    array = read_illumina_manifest(mirror / ARRAY, cache=cache)
    made = Hierarchy.from_tables(array.site_gene, read_gene_sets(mirror / SETS))
    columns = made.gene_pathway.tocsc()
    sets = [set(columns[:, i].indices) for i in range(columns.shape[1])]
    original = [set(genes) for genes in sets]
    rng = np.random.default_rng(0)
    start = clock()
    for _ in range(20 * len(sets)):
        i, j = rng.choice(len(sets), 2, replace=False)
        only_i, only_j = sets[i] - sets[j], sets[j] - sets[i]
        pool = rng.permutation(list(only_i | only_j)).tolist()
        both = sets[i] & sets[j]
        sets[i], sets[j] = both | set(pool[: len(only_i)]), both | set(pool[len(only_i) :])
    seconds = since(start)
    kept = sum(len(a & b) for a, b in zip(sets, original, strict=True)) / columns.nnz
    return f"{seconds}|share of edges as before: {kept:.4f} (gene-pathway only)"


CASES = [
    ("full array, files to masks", "ours", 0, False),
    ("full array, files to masks", "by_hand", 0, False),
    ("full array, annotation cached", "ours", 0, True),
    ("2,000 sites, annotation cached", "ours", 2_000, True),
    ("2,000 sites", "by_hand", 2_000, False),
    ("full mask permuted", "rewire", 0, True),
    ("full mask permuted", "curveball", 0, True),
]
NAMES = {
    "ours": "miracle_lib",
    "by_hand": "pandas, by hand",
    "rewire": "miracle_lib (both levels)",
    "curveball": "Curveball, plain Python (one level)",
}


def measure(what: str, mirror: Path, cache: str, n_sites: int) -> tuple[float, float, float, str]:
    """CPU seconds, seconds, peak memory in GB and what was made, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.hierarchy", what, str(mirror), cache, str(n_sites)]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        peak = 0
        while process.poll() is None:
            try:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)
        if process.wait():
            raise RuntimeError(f"{what} failed")
        output.seek(0)
        wall, cpu, made = output.read().strip().split("|")
    return float(cpu), float(wall), peak / 1e9, made


def main() -> None:
    mirror = Path(os.environ.get("MIRACLE_MIRROR", ""))
    if not (mirror / ARRAY).is_file():
        sys.exit(f"set MIRACLE_MIRROR to a folder with {ARRAY} and {SETS}")
    print("| task | by | seconds | CPU seconds | CPU, times ours | peak memory, GB | made |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        measure("ours", mirror, cache, 0)  # fills the cache
        reference = 1.0
        for task, what, n_sites, cached in CASES:
            runs = [measure(what, mirror, cache if cached else "", n_sites) for _ in range(3)]
            cpu, seconds, memory, made = sorted(runs)[1]
            reference = cpu if what in ("ours", "rewire") else reference
            print(
                f"| {task} | {NAMES[what]} | {seconds:.2f} | {cpu:.2f} | "
                f"{cpu / reference:.1f} | {memory:.2f} | {made} |",
                flush=True,
            )


if __name__ == "__main__":
    name, folder, cache_folder, sites = sys.argv[1:]
    print(
        {"ours": ours, "by_hand": by_hand, "rewire": rewire, "curveball": curveball}[name](
            Path(folder), cache_folder, int(sites)
        )
    )
