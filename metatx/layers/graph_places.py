"""Places of a graph's tokens: its nodes and edges, drawn in the plane; molecules as chemists draw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metatx.layers.molecules import parsed
from metatx.places import Places, tints

__all__ = ["GraphPlaces"]


@dataclass(frozen=True)
class GraphPlaces(Places):
    """Nodes and edges of a graph, behind tokens of the whole.

    Attributes:
        positions: Places of the nodes in the plane, (n, 2).
        pairs: Nodes of each edge, int (E, 2). The last n + E tokens are nodes and edges.
        labels: Text at each node.
    """

    positions: np.ndarray
    pairs: np.ndarray
    labels: Sequence[str]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture, in inches."""
        return 6.0, 4.5

    @classmethod
    def of(cls, pairs: np.ndarray, count: int, whole: int, smiles: str | None) -> "GraphPlaces":
        """Places of ``whole`` tokens of a graph, and of ``count`` nodes and the edges between them, where it has any.

        Args:
            pairs: Nodes of each edge, int (E, 2).
            count: Number of nodes; 0 where the tokens are those of the whole alone.
            whole: Number of tokens of the whole.
            smiles: SMILES of a molecule whose canonical atoms are the nodes; None for another graph.
        """
        pairs = pairs if count else pairs[:0]
        if smiles is None or not count:
            labels = [str(node) for node in range(count)]
            positions = _spread(pairs, count)
        else:
            labels, positions = _drawn(smiles)
        names = [f"the whole ({number + 1})" for number in range(whole)]
        names += [f"node {label}" if smiles is None else f"atom {at} ({label})" for at, label in enumerate(labels)]
        names += [f"edge {labels[a]}-{labels[b]} ({a}-{b})" for a, b in pairs.tolist()]
        return cls(names, positions, pairs, labels)

    def draw(self, axes: Any, scores: np.ndarray) -> None:
        """Draw the graph, its nodes and edges on the colours of their scores."""
        if not len(self.positions):
            super().draw(axes, scores)
            return
        first = len(scores) - len(self.positions) - len(self.pairs)
        self.tell_others(axes, scores, np.arange(len(scores)) < first)
        colours = tints(scores[first:])
        nodes = colours[: len(self.positions)]
        edges = colours[len(self.positions) :]
        for pair, colour in zip(self.pairs, edges, strict=True):
            axes.plot(*self.positions[pair].T, color=colour, linewidth=11, solid_capstyle="round", zorder=1)
            axes.plot(*self.positions[pair].T, color="0.45", linewidth=1.2, zorder=2)
        axes.scatter(*self.positions.T, s=330, color="white", zorder=3, linewidths=0)
        axes.scatter(*self.positions.T, s=330, color=nodes, zorder=4, linewidths=0)
        for label, (x, y) in zip(self.labels, self.positions, strict=True):
            axes.text(x, y, label, ha="center", va="center", fontsize=9, zorder=5)
        axes.set_aspect("equal")
        axes.margins(0.12)
        axes.set_axis_off()


def _drawn(smiles: str) -> tuple[list[str], np.ndarray]:
    """Symbols of a molecule's atoms in canonical order, and their places in the plane (n, 2)."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor

    molecule = parsed(smiles)
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(Chem.MolToSmiles(molecule)) or molecule
        rdDepictor.Compute2DCoords(molecule)
    positions = np.asarray(molecule.GetConformer().GetPositions())[:, :2]
    return [atom.GetSymbol() for atom in molecule.GetAtoms()], positions


def _spread(pairs: np.ndarray, count: int) -> np.ndarray:
    """Places of nodes in the plane (n, 2), neighbours near one another."""
    import networkx  # type: ignore[import-untyped]

    graph = networkx.Graph(pairs.tolist())
    graph.add_nodes_from(range(count))
    places = networkx.spring_layout(graph, seed=0)
    return np.array([places[node] for node in range(count)]).reshape(count, 2)
