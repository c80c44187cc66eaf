"""Reading a 450K-shaped series matrix: `read_series_matrix` beside `pandas.read_csv`.

Every reading runs in a fresh process. The readers take turns, and a ratio is the median over the
turns, so that the load of the machine cancels. Inflating alone, with the standard library and as
the reader does it, shows how much of the time is left to gain.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

N_SITES, N_SAMPLES, TURNS = 485_000, 100, 5


def write(path: Path, decimals: int) -> None:
    """Write a series matrix of beta values."""
    rng = np.random.default_rng(0)
    number = f"%.{decimals}f"
    # Rows repeat only far beyond what gzip remembers (32 kB), so they compress as all new ones do.
    rows = [
        "\t".join([number % value for value in np.clip(row, 0, 1).tolist()])
        for row in rng.beta(0.5, 0.5, (10_000, 1)) + rng.normal(0, 0.03, (10_000, N_SAMPLES))
    ]
    samples = [f'"GSM{1_000_000 + i}"' for i in range(N_SAMPLES)]
    with gzip.open(path, "wb", compresslevel=6) as file:

        def put(*cells: str) -> None:
            file.write(("\t".join(cells) + "\n").encode())

        put("!Sample_geo_accession", *samples)
        put("!Sample_data_row_count", *[f'"{N_SITES}"'] * N_SAMPLES)
        put("!series_matrix_table_begin")
        put('"ID_REF"', *samples)
        for i in range(N_SITES):
            put(f'"cg{i:08d}"', rows[i % len(rows)])
        put("!series_matrix_table_end")


def read_ours(path: Path) -> int:
    from miracle_lib.cohorts import read_series_matrix

    start_clock()
    return read_series_matrix(path).table.values.nbytes


def read_pandas(path: Path) -> int:
    start_clock()
    return int(pd.read_csv(path, sep="\t", comment="!", index_col=0).memory_usage().sum())


def inflate_standard(path: Path) -> int:
    start_clock()
    with gzip.open(path) as file:
        return sum(len(block) for block in iter(lambda: file.read(1 << 21), b""))


def inflate_ours(path: Path) -> int:
    from miracle_lib.cohorts.delimited import open_text

    start_clock()
    with open_text(path) as file:
        return sum(len(block) for block in iter(lambda: file.read(1 << 21), b""))


READERS = {
    "read_series_matrix": read_ours,
    "pandas.read_csv": read_pandas,
    "inflating alone, as read_series_matrix": inflate_ours,
    "inflating alone, gzip of Python": inflate_standard,
}
_clock = {}


def start_clock() -> None:
    """Time and memory from here on: imports do not count."""
    _clock.update(time=time.perf_counter(), cpu=time.process_time(), memory=peak())


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, path: Path) -> dict[str, float]:
    """Run one reader in this process."""
    READERS[name](path)
    return {
        "seconds": time.perf_counter() - _clock["time"],
        "cpu": time.process_time() - _clock["cpu"],
        "bytes": peak() - _clock["memory"],
    }


def take_turns(path: Path) -> pd.DataFrame:
    """Seconds, CPU seconds and memory of every reader in every turn, and pandas' over them."""
    rows = []
    for turn in range(TURNS):
        for name in READERS:
            command = [sys.executable, "-m", "benchmarks.series_matrix", name, str(path)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows.append({"reader": name, "turn": turn, **json.loads(output)})
    table = pd.DataFrame(rows).set_index(["reader", "turn"])
    pandas = table.loc["pandas.read_csv", ["seconds", "cpu"]]
    ratios = pandas.reindex(table.index, level="turn") / table[["seconds", "cpu"]]
    return table.join(ratios.add_suffix(" ratio"))


def main() -> None:
    matrix = 4 * N_SITES * N_SAMPLES
    print(f"{N_SITES:,} sites x {N_SAMPLES} samples, float32 matrix of {matrix / 1e6:.0f} MB;")
    print(f"{os.cpu_count()} cores, load of the machine {os.getloadavg()[0]:.1f}\n")
    print(
        "| decimals | reader | s | ratio (lowest to highest) | CPU s | CPU ratio | peak / matrix |"
    )
    print("|---|---|---|---|---|---|---|")
    for decimals in (4, 7):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "GSE1_series_matrix.txt.gz"
            write(path, decimals)
            table = take_turns(path)
        for name, turns in table.groupby("reader", sort=False):
            middle, ratio = turns.median(), turns["seconds ratio"]
            print(
                f"| {decimals} | {name} | {middle['seconds']:.2f} | {ratio.median():.1f} "
                f"({ratio.min():.1f} to {ratio.max():.1f}) | {middle['cpu']:.2f} | "
                f"{middle['cpu ratio']:.1f} | {turns['bytes'].max() / matrix:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=READERS)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.name, arguments.path)))
