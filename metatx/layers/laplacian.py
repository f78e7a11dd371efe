"""Laplacian eigenvectors of graphs, as identifiers of their nodes."""

import numpy as np

__all__ = ["laplacian_eigenvectors"]

EQUAL = 1e-6  # eigenvalues that differ by less are one


def laplacian_eigenvectors(pairs: np.ndarray, n: int, count: int) -> np.ndarray:
    """Eigenvectors (N, K) of the normalised Laplacian, least eigenvalues first, of mean square 1; then zeros.

    That of eigenvalue 0 is left out where it is the only one: it says no more than that the graph is connected.
    Signs, and the basis where eigenvalues are equal, do not depend on the solver: of each eigenspace, vectors are
    taken one by one, each the space's projection of the node that it holds most of (of equals, the first).
    """
    adjacency = np.zeros((n, n))
    adjacency[pairs[:, 0], pairs[:, 1]] = adjacency[pairs[:, 1], pairs[:, 0]] = 1
    root = np.sqrt(np.maximum(adjacency.sum(1), 1))
    values, vectors = np.linalg.eigh(np.eye(n) - adjacency / root[:, None] / root)
    starts = np.flatnonzero(np.diff(values, prepend=-np.inf) > EQUAL)
    spaces = np.split(vectors, starts[1:], axis=1)
    if values[0] < EQUAL and spaces[0].shape[1] == 1:
        spaces = spaces[1:]
    found: list[np.ndarray] = []
    for space in spaces:
        if len(found) >= count:
            break
        projection = space @ space.T
        for _ in range(min(space.shape[1], count - len(found))):
            held = projection.diagonal()
            pivot = np.flatnonzero(held > held.max() - EQUAL)[0]
            vector = projection[pivot] / np.sqrt(held[pivot])
            projection = projection - np.outer(vector, vector)
            found.append(vector)
    identifiers = np.zeros((n, count))
    if found:
        identifiers[:, : len(found)] = np.stack(found, axis=1) * np.sqrt(n)
    return identifiers
