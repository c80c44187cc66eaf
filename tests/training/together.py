"""One of several processes of a training, in a module that processes can import."""

import os
import signal

import numpy as np
import pandas as pd
import torch

from miracle_lib import Hierarchy, MiracleClassifier, MiracleError, Training, simulate_cohorts
from miracle_lib.training import member, stages


def fit(checkpoints=None, epochs=(3, 3, 2)):
    """Fit on small passes, so that a batch has several parts."""
    torch.set_num_threads(1)
    member.PASS_VALUES = 20 * 200
    simulation = simulate_cohorts({"RA": 40}, n_sites=200, n_planted=1, effect=1.0)
    adata = simulation.cohorts["RA"]
    mask = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    training = Training(epochs=epochs, progress=False, checkpoint_dir=checkpoints)
    return MiracleClassifier(mask, device="cpu", training=training).fit(adata)


def run(number, port, folder, dies_in=None, checkpoints=None):
    """Fit as process ``number`` of two; leave the result, or what was said, in a folder."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "LOCAL_RANK": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if dies_in is not None and number == 1:
        of_stage = stages.GradientStage._step

        def step(self, rows, epoch, weights):
            if epoch == dies_in:
                os.kill(os.getpid(), signal.SIGKILL)
            return of_stage(self, rows, epoch, weights)

        stages.GradientStage._step = step
    try:
        model = fit(checkpoints)
    except MiracleError as error:
        (folder / f"{number}.txt").write_text(str(error))
        return
    weights = {name: w.numpy() for name, w in model.members_[0].state_dict().items()}
    np.savez(folder / f"{number}.npz", **weights)
    pd.DataFrame(model.history_).to_csv(folder / f"{number}.csv")
