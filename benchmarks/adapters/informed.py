"""BINN 0.1.1: sites, genes and pathways as its layers; 100 epochs at 0.001 in batches of 16.

Pathways: gradient times activation at the last hidden layer, in place of SHAP.
"""

import contextlib
import io

import numpy as np
import pandas as pd
import torch
from binn import BINN, BINNTrainer
from torch.utils.data import DataLoader, TensorDataset


def fit_predict(split: dict) -> tuple[np.ndarray, np.ndarray]:
    torch.manual_seed(int(split["seed"]))
    torch.set_num_threads(1)
    sites = [f"s{i}" for i in range(split["z_train"].shape[1])]
    genes, pathways = np.nonzero(split["mask"])
    reached = {*genes}
    with contextlib.redirect_stdout(io.StringIO()):
        network = BINN(
            data_matrix=pd.DataFrame({"Protein": sites}),
            mapping=pd.DataFrame(
                [(f"s{i}", f"g{j}") for i, j in split["site_gene"] if j in reached],
                columns=["input", "translation"],
            ),
            pathways=pd.DataFrame(
                [(f"g{i}", f"p{j}") for i, j in zip(genes, pathways, strict=True)],
                columns=["source", "target"],
            ),
            n_layers=2,
        )
        order = [int(name[1:]) for name in network.inputs]
        x = torch.as_tensor(split["z_train"][:, order], dtype=torch.float32)
        data = TensorDataset(x, torch.as_tensor(split["y_train"]))
        loader = DataLoader(data, 16, shuffle=True, drop_last=True)
        BINNTrainer(network).fit({"train": loader}, num_epochs=100, learning_rate=1e-3)
    network.eval()
    with torch.no_grad():
        new = torch.as_tensor(split["z_test"][:, order], dtype=torch.float32)
        score = torch.softmax(network(new), dim=1)[:, 1].numpy()
    return score, _evidence(network, x, split["mask"].shape[1])


def _evidence(network: BINN, x: torch.Tensor, n_pathways: int) -> np.ndarray:
    """Mean absolute product of each pathway's activation and the gradient there."""
    with torch.no_grad():
        hidden = network.layers[:-1](x)
    hidden.requires_grad_()
    network.layers[-1](hidden)[:, 1].sum().backward()
    found = np.full(n_pathways, np.nan)
    names = [int(name[1:]) for name in network.layer_names[2]]
    found[names] = (hidden.grad * hidden).abs().mean(dim=0).detach().numpy()
    return found
