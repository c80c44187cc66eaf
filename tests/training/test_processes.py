"""Two processes give the model of one; a killed one ends both, and the checkpoint continues."""

import importlib
import multiprocessing
import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from miracle_lib.model import MaskedLinear, MaskedVAE
from miracle_lib.training import member


@pytest.fixture(scope="module")
def start():
    """Start two processes, both from one that has imported everything once."""
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parent)
        patch.syspath_prepend(here)
        patch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["together"])
        target = importlib.import_module("together").run

        def both(folder, **options):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            processes = [
                context.Process(target=target, args=(number, port, folder), kwargs=options)
                for number in range(2)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join(240)
            return [process.exitcode for process in processes]

        yield both


@pytest.fixture(scope="module")
def alone(start):
    """The model of one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "PASS_VALUES", member.PASS_VALUES)  # put back afterwards
        return importlib.import_module("together").fit()


def assert_same(folder, alone):
    for number in range(2):
        with np.load(folder / f"{number}.npz") as found:
            for name, weight in alone.members_[0].state_dict().items():
                np.testing.assert_allclose(found[name], weight, atol=1e-5, err_msg=name)
        history = pd.read_csv(folder / f"{number}.csv", index_col=0)
        pd.testing.assert_frame_equal(history, alone.history_, rtol=1e-4, check_dtype=False)


def test_two_processes_give_the_model_of_one(start, alone, tmp_path):
    assert start(tmp_path) == [0, 0]
    assert_same(tmp_path, alone)


def test_a_killed_process_ends_both_and_the_checkpoint_continues(start, alone, tmp_path):
    kept = tmp_path / "checkpoints"
    assert start(tmp_path, dies_in=2, checkpoints=kept) == [0, -9]
    said = (tmp_path / "0.txt").read_text()
    assert said.startswith("another process of this training has ended")
    assert "\n" not in said
    (state,) = kept.glob("*.pt")
    assert state.stat().st_size > 0
    assert start(tmp_path, checkpoints=kept) == [0, 0]
    assert_same(tmp_path, alone)
    assert not list(kept.glob("*.pt"))


@pytest.mark.parametrize("kernel", ["sparse", "dense"])
def test_noise_that_is_skipped_is_the_noise_that_is_drawn(alone, kernel):
    hierarchy = alone.hierarchy_
    network = MaskedVAE(hierarchy, seed=0).train()
    network.gene_to_mean = MaskedLinear(hierarchy.gene_pathway, kernel=kernel)
    x = torch.randn(18, len(hierarchy.sites))
    torch.manual_seed(0)
    network(x)
    after = torch.rand(1)
    torch.manual_seed(0)
    network.skip(18)
    assert torch.rand(1) == after
