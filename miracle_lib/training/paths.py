"""What the labels say of single sites, written along the paths: site, gene, pathway, task.

Heads that read pathways alone hear of a site only through its genes and their pathways. Encoders
trained without labels average there, and what many gene sets share is loudest. But a path has a
weight per site and gene, per gene and pathway, and per pathway and task, so that for one task any
effect of the sites can be had exactly: a site's own effect is divided among its genes, and that of
a gene among its pathways in proportion to the variances that these explain. Several tasks share the
activity of a node; it takes the direction, over the tasks, that its inputs have most in common.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from miracle_lib.model import TaskHeads
from miracle_lib.training.convex import Block
from miracle_lib.training.convex_heads import ConvexHeads
from miracle_lib.training.pathway_variances import fit_variances
from miracle_lib.training.relatives import ones_of

LEAST = 1e-9  # variance of a pathway that explains nothing: a gene in no other is divided too


def common_direction(
    effects: np.ndarray, node: np.ndarray, n_nodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight per edge and a direction per node whose products are nearest to the effects.

    Parameters
    ----------
    effects : ndarray, shape (n_edges, n_tasks)
        What each edge is to contribute in each task.
    node : ndarray of int, shape (n_edges,)
        Where the edge ends.
    n_nodes : int

    Returns
    -------
    weight : ndarray, shape (n_edges,)
        Those of a node add up to at least 0.
    direction : ndarray, shape (n_nodes, n_tasks)
        Of length 1: the first singular vector of the effects that end at the node.

    Examples
    --------
    >>> weight, direction = common_direction(np.array([[2.0, 0], [1, 0], [0, 3]]), [0, 0, 1], 2)
    >>> weight.tolist(), direction.tolist()
    ([2.0, 1.0, 3.0], [[1.0, 0.0], [0.0, 1.0]])
    """
    ends = sp.csr_matrix((np.ones(len(node)), (node, np.arange(len(node)))), (n_nodes, len(node)))
    products = [ends @ (effects * column[:, None]) for column in effects.T]
    direction = np.linalg.eigh(np.stack(products, axis=1))[1][..., -1]
    weight = (effects * direction[node]).sum(1)
    sign = np.where(ends @ weight < 0, -1.0, 1.0)
    return weight * sign[node], direction * sign[:, None]


def shares_of_pathways(
    association: np.ndarray, site_gene: sp.csr_matrix, gene_pathway: sp.csr_matrix
) -> np.ndarray:
    """Return which share of a gene's effect is each of its pathways', (n_edges, n_tasks).

    Parameters
    ----------
    association : ndarray, shape (n_sites, n_tasks)
        Moderated t statistics, NaN where a task did not measure a site.
    site_gene, gene_pathway : csr_matrix
        Masks of ones; the edges are those of the second, row by row.
    """
    squares, measured = np.nan_to_num(association**2), 1.0 - np.isnan(association)
    found = fit_variances(site_gene.T @ squares, site_gene.T @ measured, gene_pathway)
    found = found + LEAST
    gene, pathway = gene_pathway.nonzero()
    return found[pathway] / (gene_pathway @ found)[gene]


class PathHeads(ConvexHeads):
    """Effects of single sites, solved for exactly, then written along the paths to the tasks.

    Parameters
    ----------
    *args
        As for `ConvexHeads`; the one block of the problem are the sites of the hierarchy.
    settle : callable
        Called when the encoder has its weights, for what depends on it.
    """

    def __init__(self, *args: Any, settle: Callable[[], None]) -> None:
        super().__init__(*args)
        self.settle = settle

    @torch.no_grad()
    def finish(self) -> None:
        """Set encoder and heads to the solution on all samples."""
        network, heads = self.member.network, cast(TaskHeads, self.member.heads)
        layers = network.site_to_gene, network.gene_to_mean
        masks = [ones_of(layer.csr_weight()) for layer in layers]
        shares = shares_of_pathways(self._block.association, *masks)
        if network.covariates_to_gene is not None:
            network.covariates_to_gene.weight.zero_()  # they are conditions, no predictors
        effects = self._site_effects()
        site, _ = masks[0].nonzero()
        genes = self._set_layer("genes", (effects / masks[0].sum(1).A)[site])
        gene, _ = masks[1].nonzero()
        pathways = self._set_layer("pathways", shares * genes[gene])
        output = heads.blocks["pathways"].output
        output.shared.zero_()
        output.specific[:, 0] = torch.from_numpy(pathways.T).to(output.specific)
        pairs = self.problem.pairs
        logits = heads(self._features()).double().cpu().numpy()[pairs.row, pairs.task]
        self._shift_biases(logits - self.problem.logits(-1, self.solutions[-1]))
        self.settle()

    @property
    def _block(self) -> Block:
        """The sites."""
        return self.problem.blocks["sites"]

    def _site_effects(self) -> np.ndarray:
        """Return what a site of the solution adds to each logit, (n_sites, n_tasks)."""
        heads = TaskHeads({"sites": self.member.network.n_sites}, len(self.tasks))
        heads = heads.to(self._block.values.device)
        self.problem.write(self.solutions[-1], heads)
        return heads.blocks["sites"].output.weight[:, 0].T.double().cpu().numpy()

    def _features(self) -> dict[str, Tensor]:
        """Return what the encoder makes of the samples; covariates have no say."""
        x = self._block.values
        return self.member.features(x, x.new_zeros(len(x), self.member.network.n_covariates))

    def _set_layer(self, name: str, effects: np.ndarray) -> np.ndarray:
        """Set the layer before some nodes, which then vary by 1, to the effects of its edges.

        Returns what the nodes add to each logit, (n_nodes, n_tasks).
        """
        network = self.member.network
        layer = {"genes": network.site_to_gene, "pathways": network.gene_to_mean}[name]
        end = layer.edge_output.cpu().numpy()
        weight, direction = common_direction(effects, end, layer.out_features)
        layer.weight.copy_(torch.from_numpy(weight))
        cast(Tensor, layer.bias).zero_()
        spread = self._features()[name].std(0)
        spread = torch.where(spread > 0, spread, 1.0)
        layer.weight.div_(spread[layer.edge_output])
        return direction * spread.double().cpu().numpy()[:, None]
