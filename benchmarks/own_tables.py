"""`miracle init` on tables of a whole 450K array: CSV and parquet, sites by samples."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

N_SITES, N_SAMPLES, TURNS = 485_000, 100, 3
OPTIONS = ["--label", "diagnosis", "--case", "PD", "--control", "HC"]
OPTIONS += ["--covariates", "age", "--tissue", "blood"]


def write(folder: Path) -> list[str]:
    """Write the tables of a user; return the names of those with values."""
    rng = np.random.default_rng(0)
    sites = [f"cg{i:08d}" for i in range(N_SITES)]
    samples = [f"S{i:03d}" for i in range(N_SAMPLES)]
    betas = pd.DataFrame(rng.beta(0.5, 0.5, (N_SITES, N_SAMPLES)).round(4), sites, samples)
    betas.to_csv(folder / "betas.csv")
    betas.to_parquet(folder / "betas.parquet")
    people = {"diagnosis": ["PD", "HC"] * (N_SAMPLES // 2), "age": rng.integers(30, 80, N_SAMPLES)}
    pd.DataFrame(people, samples).to_csv(folder / "pheno.csv")
    return ["betas.csv", "betas.parquet"]


def seconds(folder: Path, file: str) -> float:
    """Run the command once, as a user would; its start counts."""
    command = [sys.executable, "-m", "miracle_lib.cli", "init", file, "pheno.csv", *OPTIONS]
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    started = time.perf_counter()
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": path}
    )
    elapsed = time.perf_counter() - started
    for written in folder.glob("*.yaml"):
        written.unlink()
    return elapsed


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{N_SITES:,} sites x {N_SAMPLES} samples; {os.cpu_count()} cores, load", end=" ")
        print(f"{os.getloadavg()[0]:.1f}\n\n| table | MB | s (median of {TURNS}) |\n|---|---|---|")
        for file in write(folder):
            size = (folder / file).stat().st_size / 1e6
            times = [seconds(folder, file) for _ in range(TURNS)]
            print(f"| {file} | {size:.0f} | {np.median(times):.0f} |", flush=True)
