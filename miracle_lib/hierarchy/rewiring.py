"""Random counterparts of a mask: same degrees, same size, or a share of edges held out."""

import numpy as np
from scipy.sparse import csr_matrix

_SWAPS_PER_EDGE = 10  # mean accepted swaps of an edge after which overlap is at chance level
_MAX_ROUNDS = 200


def permute_edges(mask: csr_matrix, rng: np.random.Generator) -> csr_matrix:
    """Shuffle the edges of ``mask`` while every row and column keeps its degree.

    Edges are paired at random and each pair (a, b), (c, d) is proposed as (a, d), (c, b), all
    pairs at once. A pair is swapped only if its two old and two proposed edges occur once among
    all old and proposed edges; this makes a round its own reverse, so that every graph of these
    degrees is equally likely in the limit.

    Parameters
    ----------
    mask : csr_matrix of bool, (n_rows, n_columns)
    rng : numpy.random.Generator

    Returns
    -------
    csr_matrix of bool
        Same shape, same row and column degrees.

    References
    ----------
    Edge switching: Rao, Jana & Bandyopadhyay 1996, Sankhya A 58:225; mixing in about ten swaps
    per edge: Milo et al. 2003, arXiv:cond-mat/0312028.

    Examples
    --------
    >>> mask = csr_matrix(np.eye(4, dtype=bool))
    >>> permute_edges(mask, np.random.default_rng(0)).sum(axis=1).A1.tolist()
    [1, 1, 1, 1]
    """
    rows, columns = _edges(mask)
    n_edges, width = len(rows), np.int64(mask.shape[1])
    n_pairs, swapped, rounds = n_edges // 2, 0, 0
    while n_pairs and swapped < _SWAPS_PER_EDGE * n_edges and rounds < _MAX_ROUNDS:
        order = rng.permutation(n_edges)
        first, second = order[:n_pairs], order[n_pairs : 2 * n_pairs]
        old = rows * width + columns
        proposed = np.stack(
            [rows[first] * width + columns[second], rows[second] * width + columns[first]]
        )
        repeated = _repeated(np.concatenate([old, proposed.ravel()]))
        blocked = np.isin(
            np.concatenate([proposed, old[first][None], old[second][None]]), repeated
        ).any(axis=0)
        first, second = first[~blocked], second[~blocked]
        columns[first], columns[second] = columns[second], columns[first]
        swapped += 2 * len(first)
        rounds += 1
    return _mask(rows, columns, mask.shape)


def random_edges(mask: csr_matrix, rng: np.random.Generator) -> csr_matrix:
    """Draw as many edges at random, with no regard to degree; no row or column is left empty.

    Parameters
    ----------
    mask : csr_matrix of bool, (n_rows, n_columns)
        Every row and every column has an edge.
    rng : numpy.random.Generator

    Returns
    -------
    csr_matrix of bool
        Same shape, same number of edges.

    Examples
    --------
    >>> mask = csr_matrix(np.ones((2, 3), dtype=bool))
    >>> random_edges(mask, np.random.default_rng(0)).nnz
    6
    """
    n_rows, n_columns = mask.shape
    longer, shorter = max(n_rows, n_columns), min(n_rows, n_columns)
    # every node gets an edge first: the shorter side once each, the rest of the longer at random
    partner = np.concatenate([np.arange(shorter), rng.integers(shorter, size=longer - shorter)])
    pair = [rng.permutation(longer), partner]
    rows, columns = pair if n_rows >= n_columns else pair[::-1]
    keys = rows.astype(np.int64) * n_columns + columns
    if mask.nnz > mask.shape[0] * mask.shape[1] // 2:
        free = np.setdiff1d(np.arange(n_rows * n_columns, dtype=np.int64), keys)
        keys = np.concatenate([keys, rng.choice(free, mask.nnz - len(keys), replace=False)])
    while len(keys) < mask.nnz:
        extra = rng.integers(n_rows * n_columns, size=2 * (mask.nnz - len(keys)) + 8)
        new = np.setdiff1d(extra, keys)
        keys = np.concatenate([keys, rng.permutation(new)[: mask.nnz - len(keys)]])
    return _mask(keys // n_columns, keys % n_columns, mask.shape)


def removable_edges(mask: csr_matrix, rng: np.random.Generator) -> np.ndarray:
    """Return, in random order, edges whose joint removal leaves no row and no column empty.

    Parameters
    ----------
    mask : csr_matrix of bool
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int
        Positions in the CSR (row-major) order of the edges.

    Examples
    --------
    >>> removable_edges(csr_matrix(np.eye(3, dtype=bool)), np.random.default_rng(0)).tolist()
    []
    """
    rows, columns = _edges(mask)
    order = rng.permutation(len(rows))
    kept = np.zeros(len(rows), dtype=bool)
    kept[order[np.unique(rows[order], return_index=True)[1]]] = True
    empty = ~np.isin(columns, columns[kept])  # columns still without a kept edge
    candidates = order[empty[order]]
    kept[candidates[np.unique(columns[candidates], return_index=True)[1]]] = True
    return order[~kept[order]]


def _edges(mask: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every edge, in CSR order, as int64."""
    rows = np.repeat(np.arange(mask.shape[0], dtype=np.int64), np.diff(mask.indptr))
    return rows, mask.indices.astype(np.int64)


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Values that occur more than once."""
    keys = np.sort(keys)
    return np.unique(keys[1:][keys[1:] == keys[:-1]])


def _mask(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """Boolean CSR with sorted indices from edge lists without repeats."""
    mask = csr_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=shape)
    mask.sort_indices()
    return mask
