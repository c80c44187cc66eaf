"""How far samples lie from a training cohort: by sites, in the latent, by reconstruction error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from miracle_lib.preprocessing.familiarity import (
    count_values,
    leave_one_out,
    profile_distance,
)
from miracle_lib.training.member import CHUNK

if TYPE_CHECKING:
    from miracle_lib.training.member import Member

# Each in units of about 1 within the cohort.
KINDS = {
    "distance": "distance",
    "latent": "distance in the latent",
    "reconstruction": "reconstruction error",
}


@dataclass
class Familiarity:
    """What the training cohorts look like to the first network, and held-out samples beside them.

    Attributes
    ----------
    mean, sd : DataFrame, cohorts x pathways
        Pathway activities of the samples the network was trained on.
    held_out : dict of str to dict of str to ndarray
        By kind and cohort, the sorted distances of samples that had no part in what they are
        measured by: all samples of the cohort, each from the statistics of the others, for
        ``"distance"``; for the others those that the first network was not trained on.
    """

    mean: pd.DataFrame
    sd: pd.DataFrame
    held_out: dict[str, dict[str, np.ndarray]]

    @classmethod
    def learn(
        cls,
        member: Member,
        z: Tensor,
        known: Tensor,
        cohort: np.ndarray,
        unseen: np.ndarray,
        pathways: pd.Index,
    ) -> Self:
        """Learn from standardised training samples.

        Parameters
        ----------
        member : Member
        z, known : Tensor
            Sites and covariates, as the network takes them.
        cohort : ndarray of str, shape (n_samples,)
        unseen : ndarray of bool, shape (n_samples,)
            Samples that the network was not trained on.
        pathways : Index
        """
        names = sorted(set(cohort))
        activity = pd.DataFrame(member.features(z, known)["pathways"].cpu().numpy())
        groups = activity[~unseen].groupby(cohort[~unseen])
        mean, sd = (
            table.reindex(names).set_axis(pathways, axis=1)
            for table in (groups.mean(), groups.std().clip(lower=1e-6))
        )
        learned = cls(mean, sd, {kind: {} for kind in KINDS})
        for name in names:
            found = learned._held_out(
                member, z, known, np.flatnonzero(cohort == name), unseen, name
            )
            for kind, distances in found.items():
                learned.held_out[kind][name] = np.sort(distances[np.isfinite(distances)])
        return learned

    def _held_out(
        self,
        member: Member,
        z: Tensor,
        known: Tensor,
        rows: np.ndarray,
        unseen: np.ndarray,
        name: str,
    ) -> dict[str, np.ndarray]:
        """Return the distances of a cohort's samples from its others, by kind."""
        found: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        n = count_values(z.cpu().numpy(), rows)
        for some in np.split(rows, range(CHUNK, len(rows), CHUNK)):
            left_out = leave_one_out(z[some].cpu().numpy(), n)
            away = np.flatnonzero(unseen[some][: len(left_out)])
            apart = torch.from_numpy(left_out[away]).to(z.device)
            found["distance"].append(profile_distance(left_out))
            for kind, of_kind in self.through_network(
                member, apart, known[some[away]], name
            ).items():
                found[kind].append(of_kind)
        return {kind: np.concatenate(parts) for kind, parts in found.items()}

    def measure(
        self, member: Member, z: Tensor, known: Tensor, cohort: str
    ) -> dict[str, np.ndarray]:
        """Return the distances of samples standardised by a cohort from it, by kind."""
        by_sites = {"distance": profile_distance(z.cpu().numpy())}
        return by_sites | self.through_network(member, z, known, cohort)

    @torch.no_grad()
    def through_network(
        self, member: Member, z: Tensor, known: Tensor, cohort: str
    ) -> dict[str, np.ndarray]:
        """Return the distances that the network sees, in chunks of samples."""
        network = member.network.eval()
        mean, sd = self.mean.loc[cohort].to_numpy(), self.sd.loc[cohort].to_numpy()
        latent, reconstruction = np.empty(len(z)), np.empty(len(z))
        for start in range(0, len(z), member.chunk):
            rows = slice(start, start + member.chunk)
            sites = member.sites(z, rows)
            output = network(sites, known[rows], sample=False)
            left = torch.where(sites == 0, 0.0, sites - output.reconstruction)
            activity = output.mean[:, : network.n_pathways].cpu().numpy()
            latent[rows] = profile_distance((activity - mean) / sd)
            reconstruction[rows] = profile_distance(left.cpu().numpy())
        return {"latent": latent, "reconstruction": reconstruction}

    def limit(self, kind: str, cohort: str, quantile: float) -> float:
        """Return how far a quantile of new samples is expected to lie, from the held-out ones.

        The larger of their own quantile and of the prediction limit of normal logarithms, which
        allows for how few they are: of 20 samples the farthest is no 99 % quantile. Infinite for
        fewer than three. Source: Hahn & Meeker 1991, doi 10.1002/9780470316771, section 4.
        """
        known = self.held_out[kind].get(cohort, np.empty(0))
        n = len(known)
        if n < 3:
            return np.inf
        logs = np.log(known)
        reach = stats.t.ppf(quantile, n - 1) * np.sqrt(1 + 1 / n) * logs.std(ddof=1)
        return float(max(np.quantile(known, quantile), np.exp(logs.mean() + reach)))
