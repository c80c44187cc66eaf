"""PROMINENT 0.1.10: its network and training, without its test fold in the choice of the network.

Genes scaled to [0, 1] by the training part, SMOTE, Adam 0.001, at most 200 epochs, the best on a
ninth of the training part by AUROC. Pathways: gradient times activation, in place of SHAP.
"""

import copy

import numpy as np
import torch
from imblearn.over_sampling import SMOTE
from PROMINENT_methylation.model import PINNet
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler


def fit_predict(split: dict) -> tuple[np.ndarray, np.ndarray]:
    seed = int(split["seed"])
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    scaler = MinMaxScaler().fit(split["genes_train"])
    x, test = (scaler.transform(split[name]) for name in ("genes_train", "genes_test"))
    x, x_val, y, y_val = train_test_split(
        x, split["y_train"], test_size=1 / 9, random_state=seed, stratify=split["y_train"]
    )
    x, y = SMOTE(random_state=seed).fit_resample(x, y)
    x, x_val, test = (torch.as_tensor(part, dtype=torch.float32) for part in (x, x_val, test))
    y = torch.as_tensor(y)
    network = PINNet(x.shape[1], torch.as_tensor(split["mask"].T, dtype=torch.float32), 32)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    best, kept, waited = -1.0, None, 0
    for _ in range(200):
        network.train()
        for rows in torch.randperm(len(x)).split(64):
            if len(rows) > 1:  # its batch norm refuses a single sample
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimizer.step()
        network.eval()
        with torch.no_grad():
            score = roc_auc_score(y_val, network(x_val)[:, 1])
        waited = 0 if score > best else waited + 1
        if score > best:
            best, kept = score, copy.deepcopy(network)
        if waited == 20:
            break
    with torch.no_grad():
        answer = kept(test)[:, 1].numpy()
    return answer, _evidence(kept, x)


def _evidence(network: PINNet, x: torch.Tensor) -> np.ndarray:
    """Mean absolute product of each pathway's activation and the gradient there."""
    with torch.no_grad():
        genes = network.fc1(x)
        pathways = network.pw(network.pw_linear(x) / network.norm_gene)
    pathways.requires_grad_()
    network.fc3(network.fc2(torch.cat([genes, pathways], dim=1)))[:, 1].sum().backward()
    return (pathways.grad * pathways).abs().mean(dim=0).detach().numpy()
