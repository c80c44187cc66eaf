"""Flexynesis 1.1.14: its command, model supervised_vae, on sites; 5 rounds of its own tuning.

All sites go in (its own filters would keep a fifth of them). It has no pathways. Licence:
noncommercial, so it is run here and nowhere else in the project.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

OPTIONS = {
    "model_class": "supervised_vae",
    "target_variables": "y",
    "data_types": "meth",
    "hpo_iter": 5,
    "features_top_percentile": 100,
    "features_min": 100_000,
    "variance_threshold": 0,
    "correlation_threshold": 1,
    "device": "cpu",
    "threads": 1,
    "prefix": "job",
}


def fit_predict(split: dict) -> tuple[np.ndarray, np.ndarray]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "test"):
            _write(folder / part, part, split)
        options = OPTIONS | {"data_path": name, "outdir": name}
        command = [str(Path(sys.executable).with_name("flexynesis")), "--disable_marker_finding"]
        command += [text for key, value in options.items() for text in (f"--{key}", str(value))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        table = pd.read_csv(folder / "job.predicted_labels.csv")
    table = table[(table["split"] == "test") & (table["class_label"].astype(str) == "case")]
    table = table.set_index("sample_id")["probability"]
    return table.loc[[f"test{i}" for i in range(len(split["z_test"]))]].to_numpy(), np.empty(0)


def _write(folder: Path, part: str, split: dict) -> None:
    """Its layout: one table of values, sites x samples, and one of labels."""
    folder.mkdir()
    z = split[f"z_{part}"]
    samples = [f"{part}{i}" for i in range(len(z))]
    pd.DataFrame(z.T, [f"s{i}" for i in range(z.shape[1])], samples).to_csv(folder / "meth.csv")
    # Its command wants labels of the test part, to score them; these are none.
    known = split["y_train"] if part == "train" else np.arange(len(z)) % 2
    label = np.where(known == 1, "case", "control")
    pd.DataFrame({"y": label}, samples).to_csv(folder / "clin.csv")
