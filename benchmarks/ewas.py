"""EWAS of a whole array: time and memory beside what you would use instead.

700 samples x 485,000 sites of simulated beta values, ten covariates, with and without missing
values, one thread. Beside it, in the same run: one matrix of M-values and one call of
``numpy.linalg.lstsq`` (no moderation, no missing values), and statsmodels' OLS site by site,
timed on 500 sites and extrapolated. Each in a process of its own, so that the peak is its own.
"""

import multiprocessing
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
from scipy.stats import t as student

from miracle_lib.interpretation import ewas
from miracle_lib.preprocessing.scale import beta_to_m

N_SAMPLES, N_SITES, N_COVARIATES, N_SLOW = 700, 485_000, 10, 500


def _data(gaps: float) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Beta values in float32, labels and covariates."""
    rng = np.random.default_rng(0)
    values = np.empty((N_SAMPLES, N_SITES), np.float32)
    for row in values:
        row[:] = rng.beta(2, 2, N_SITES)
        if gaps:
            row[rng.random(N_SITES) < gaps] = np.nan
    sites = [f"cg{i:08d}" for i in range(N_SITES)]
    covariates = pd.DataFrame(rng.normal(size=(N_SAMPLES, N_COVARIATES))).add_prefix("c")
    y = rng.integers(0, 2, N_SAMPLES).astype(float)
    return pd.DataFrame(values, columns=sites, copy=False), y, covariates


def here(X: pd.DataFrame, y: np.ndarray, covariates: pd.DataFrame) -> float:
    """Ours; returns the share of the work that was done."""
    ewas(X, y, covariates)
    return 1.0


def full_lstsq(X: pd.DataFrame, y: np.ndarray, covariates: pd.DataFrame) -> float:
    """All sites at once in double precision."""
    design = np.column_stack([np.ones(len(y)), covariates, y])
    m = beta_to_m(X.to_numpy(np.float64))
    coefficients, squares, *_ = np.linalg.lstsq(design, m, rcond=None)
    df = len(y) - design.shape[1]
    error = np.sqrt(squares / df * np.linalg.inv(design.T @ design)[-1, -1])
    student.sf(np.abs(coefficients[-1] / error), df)
    return 1.0


def statsmodels_ols(X: pd.DataFrame, y: np.ndarray, covariates: pd.DataFrame) -> float:
    """One model per site."""
    import statsmodels.api as sm

    design = np.column_stack([np.ones(len(y)), covariates, y])
    for site in X.columns[:N_SLOW]:
        m = beta_to_m(X[site].to_numpy(np.float64))
        _ = sm.OLS(m, design, missing="drop").fit().pvalues
    return N_SLOW / N_SITES


def _measured(method, gaps: float) -> tuple[float, float, float]:
    """Seconds of the whole array (wall and CPU), and peak memory in GB."""
    data = _data(gaps)
    wall, cpu = time.perf_counter(), time.process_time()
    share = method(*data)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return wall / share, cpu / share, peak


def main() -> None:
    print(f"{platform.machine()}, one thread; {N_SAMPLES} samples x {N_SITES:,} sites\n")
    print("| what | missing | wall s | CPU s | ratio of CPU s | peak GB | peak / matrix |")
    print("|---|---|---|---|---|---|---|")
    matrix = N_SAMPLES * N_SITES * 4 / 1024**3
    own = None
    for title, method, gaps in (
        ("ewas", here, 0.0),
        ("ewas", here, 0.01),
        ("numpy.linalg.lstsq, whole matrix", full_lstsq, 0.0),
        (f"statsmodels OLS per site, {N_SLOW} extrapolated", statsmodels_ols, 0.01),
    ):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            wall, cpu, peak = pool.submit(_measured, method, gaps).result()
        own = own or cpu
        print(
            f"| {title} | {gaps:.0%} | {wall:.1f} | {cpu:.1f} | {cpu / own:.1f} | {peak:.2f} "
            f"| {peak / matrix:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
