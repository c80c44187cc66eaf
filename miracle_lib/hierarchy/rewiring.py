"""Random counterparts of a mask: same degrees, same size, or a share of edges held out."""

import numpy as np
from scipy.sparse import csr_matrix

_SWAPS_PER_EDGE = 10  # after five, overlap with real masks was at the level of chance
_PILOT_ROUNDS = 3  # to learn which share of the proposals is accepted
_MIN_ROUNDS, _MAX_ROUNDS = 100, 300  # the least applies to small masks, where it costs nothing


def permute_edges(mask: csr_matrix, rng: np.random.Generator) -> csr_matrix:
    """Shuffle the edges of ``mask`` while every row and column keeps its degree.

    In each round the edges are paired at random and each pair (a, b), (c, d) is proposed as
    (a, d), (c, b), all pairs at once. A pair is swapped only if its two old and two proposed edges
    occur once among all old and proposed edges. A round is then as likely as its reverse, so that
    in the limit every graph of these degrees is equally likely.

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
    Edge switching: Rao, Jana & Bandyopadhyay 1996, Sankhya A 58:225; number of swaps:
    Milo et al. 2003, arXiv:cond-mat/0312028.

    Examples
    --------
    >>> mask = csr_matrix(np.eye(4, dtype=bool))
    >>> permute_edges(mask, np.random.default_rng(0)).sum(axis=1).A1.tolist()
    [1, 1, 1, 1]
    """
    n_cells = mask.shape[0] * mask.shape[1]
    if mask.nnz > n_cells // 2:  # the gaps of a dense mask are easier to move than its edges
        gaps = csr_matrix(~mask.toarray())
        return csr_matrix(~permute_edges(gaps, rng).toarray())
    rows, columns = _edges(mask)
    width = np.int64(mask.shape[1])
    pilot = sum(_swap_round(rows, columns, width, rng) for _ in range(_PILOT_ROUNDS))
    accepted = max(pilot / max(1, _PILOT_ROUNDS * len(rows)), 1e-9)
    n_rounds = min(_MAX_ROUNDS, int(np.ceil(_SWAPS_PER_EDGE / accepted)))
    n_rounds = max(n_rounds, _MIN_ROUNDS if len(rows) < 10_000 else 1)
    # set in advance: to stop when something is reached would favour some graphs; and an even or
    # odd number at random, because a graph of two edges would else end where it began
    for _ in range(n_rounds + rng.integers(2)):
        _swap_round(rows, columns, width, rng)
    return _mask(rows, columns, mask.shape)


def _swap_round(
    rows: np.ndarray, columns: np.ndarray, width: np.int64, rng: np.random.Generator
) -> int:
    """Swap column ends between random pairs of edges, in place; return how many edges moved."""
    order = rng.permutation(len(rows))
    n_pairs = len(rows) // 2
    if n_pairs and rng.random() < 0.25:  # some graphs can only be left by fewer swaps at a time
        n_pairs = int(rng.integers(1, n_pairs + 1))
    first, second = order[:n_pairs], order[n_pairs : 2 * n_pairs]
    old = rows * width + columns
    proposed = (rows[first] * width + columns[second], rows[second] * width + columns[first])
    everything = np.sort(np.concatenate([old, *proposed]))
    repeated = everything[1:][everything[1:] == everything[:-1]]
    blocked = np.zeros(n_pairs, dtype=bool)
    if len(repeated):
        for keys in (*proposed, old[first], old[second]):
            at = np.searchsorted(repeated, keys).clip(max=len(repeated) - 1)
            blocked |= repeated[at] == keys
    first, second = first[~blocked], second[~blocked]
    columns[first], columns[second] = columns[second], columns[first]
    return 2 * len(first)


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


def _mask(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """Boolean CSR with sorted indices from edge lists without repeats."""
    mask = csr_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=shape)
    mask.sort_indices()
    return mask
