"""The samples of one fit, their inner folds and mini-batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miracle_lib.errors import MiracleError
from miracle_lib.folds import fold_numbers


@dataclass(frozen=True)
class TrainingData:
    """Standardised samples of one fit.

    Attributes
    ----------
    x : Tensor, shape (n_samples, n_sites + n_residual)
        z-scores, 0 where missing; the sites of the hierarchy first, then the residual sites.
    labels : Tensor, shape (n_samples, n_tasks)
        0, 1, or NaN where a sample is not labelled for the task.
    covariates : Tensor, shape (n_samples, n_covariates)
        Centred; width 0 if there are none.
    groups : ndarray of int, shape (n_samples,)
        Samples of one group stay on one side of every inner split.
    """

    x: Tensor
    labels: Tensor
    covariates: Tensor
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


def label_patterns(labels: Tensor) -> np.ndarray:
    """Return one integer per sample that tells its labels of all tasks, NaN included."""
    codes = torch.nan_to_num(labels, nan=2).to(torch.int64).cpu().numpy()
    return np.unique(codes, axis=0, return_inverse=True)[1].ravel()


def inner_folds(labels: Tensor, groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each sample: stratified by the labels of all tasks, groups kept whole.

    The number of folds shrinks to the smallest class of any task, but not below 2.
    """
    table = labels.cpu().numpy()
    smallest = min(int((table[:, t] == c).sum()) for t in range(table.shape[1]) for c in (0, 1))
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise MiracleError("all samples are in one group; inner validation needs at least two")
    n_folds = max(2, min(n_folds, smallest, n_groups))
    patterns = label_patterns(labels)
    # A pattern rarer than the folds cannot be spread; together such samples can.
    rare = np.bincount(patterns)[patterns] < n_folds
    patterns = np.where(rare, -1, patterns)
    if rare.any() and rare.sum() < n_folds:
        patterns[rare] = np.bincount(patterns[~rare]).argmax() if (~rare).any() else 0
    # Few large groups can leave a fold empty.
    return np.unique(fold_numbers(patterns, groups, n_folds, seed), return_inverse=True)[1]


def mini_batches(labels: Tensor, batch_size: int | None, seed: int) -> list[Tensor]:
    """Return the rows of each mini-batch of one epoch; every task appears in every batch.

    Samples are dealt out evenly, grouped by the rarest task that each is labelled for; there are
    no more batches than the rarest task has samples. ``batch_size`` None gives one batch of all.
    """
    generator = torch.Generator().manual_seed(seed)
    labelled = labels.isnan().logical_not().cpu()
    sizes = labelled.sum(0)
    rarest = torch.where(labelled, sizes, len(labels) + 1).argmin(1)
    rarest[~labelled.any(1)] = -1
    wanted = 1 if batch_size is None else -(-len(labels) // batch_size)
    n_batches = min(wanted, int(sizes.min()))
    batch = torch.empty(len(labels), dtype=torch.int64)
    for task in rarest.unique().tolist():
        members = torch.nonzero(rarest == task).ravel()
        members = members[torch.randperm(len(members), generator=generator)]
        batch[members] = torch.arange(len(members)) * n_batches // len(members)
    return [torch.nonzero(batch == index).ravel() for index in range(n_batches)]


def joined(parts: Sequence[Tensor], least: int) -> list[Tensor]:
    """Return parts of some rows with those of fewer than ``least`` joined to their neighbours.

    Examples
    --------
    >>> [len(part) for part in joined(torch.arange(7).split(3), least=2)]
    [3, 4]
    """
    found: list[Tensor] = []
    for part in parts:
        if found and len(found[-1]) < least:
            part = torch.cat([found.pop(), part])
        found.append(part)
    if len(found) > 1 and len(found[-1]) < least:
        found[-2:] = [torch.cat(found[-2:])]
    return found


def balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each task's mean of sensitivity and specificity at probability one half.

    0.5 stands for a task that lacks a class here.
    """
    called = logits > 0
    rates = []
    for value in (0, 1):
        members = labels == value
        right = (members & (called == bool(value))).sum(0)
        rates.append(torch.where(members.any(0), right / members.sum(0).clamp_min(1), 0.5))
    return ((rates[0] + rates[1]) / 2).double()
