"""The network without its biology: a dense autoencoder with a classifier on its code."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import nn
from torch.nn import functional


class DenseAutoencoder(ClassifierMixin, BaseEstimator):
    """Dense autoencoder, trained first to reconstruct and then to reconstruct and classify.

    Parameters
    ----------
    hidden : tuple of two ints, default (128, 32)
        Width of the hidden layer and of the code; give the numbers of genes and pathways of a
        masked network to compare equals.
    epochs : int, default 30
        Per phase.
    batch_size : int, default 64
    lr, weight_decay : float, default 1e-3
        Of AdamW.
    random_state : int, default 0
    """

    def __init__(
        self,
        hidden: tuple[int, int] = (128, 32),
        epochs: int = 30,
        batch_size: int = 64,
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray) -> "DenseAutoencoder":
        """Train on standardised, possibly rotated, values (n_samples, n_columns) and labels 0/1."""
        self.classes_ = np.array([0, 1])
        values = torch.as_tensor(np.asarray(X), dtype=torch.float32)
        # One factor for all columns: starting weights expect a variance of about 1.
        self.scale_ = float(values.std()) or 1.0
        values = values / self.scale_
        labels = torch.as_tensor(np.asarray(y), dtype=torch.float32)
        width, code = self.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            sites = values.shape[1]
            self.encoder_ = nn.Sequential(
                nn.Linear(sites, width), nn.ReLU(), nn.Linear(width, code)
            )
            self.decoder_ = nn.Sequential(
                nn.Linear(code, width), nn.ReLU(), nn.Linear(width, sites)
            )
            self.head_ = nn.Linear(code, 1)
            self._train(values, labels, classify=False)
            self._train(values, labels, classify=True)
        return self

    def _train(self, values: torch.Tensor, labels: torch.Tensor, classify: bool) -> None:
        """One phase of mini-batch training."""
        modules = nn.ModuleList([self.encoder_, self.decoder_, self.head_])
        optimiser = torch.optim.AdamW(
            modules.parameters(), lr=self.lr, weight_decay=self.weight_decay
        )
        for _ in range(self.epochs):
            for rows in torch.randperm(len(values)).split(self.batch_size):
                code = self.encoder_(values[rows])
                loss = functional.mse_loss(self.decoder_(code), values[rows])
                if classify:
                    loss = loss + functional.binary_cross_entropy_with_logits(
                        self.head_(code)[:, 0], labels[rows]
                    )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    @torch.no_grad()
    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities of control and case, (n_samples, 2)."""
        values = torch.as_tensor(np.asarray(X), dtype=torch.float32) / self.scale_
        case = torch.sigmoid(self.head_(self.encoder_(values))[:, 0]).numpy()
        return np.stack([1 - case, case], axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the label at the threshold 0.5."""
        return (self.predict_proba(X)[:, 1] >= 0.5).astype(int)
