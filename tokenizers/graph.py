"""Graphs, molecules among them: one token per node and per edge, told apart by node identifiers."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metatx.errors import SampleError, decoding, read_all, short
from metatx.json_schema import array_schema
from metatx.layers.graph_places import GraphPlaces
from metatx.layers.laplacian import laplacian_eigenvectors
from metatx.layers.molecules import (
    atom_numbers,
    bond_numbers,
    check_size,
    descriptor_numbers,
    parsed,
    substructure_counts,
)
from metatx.padded import PaddedTokens
from metatx.reading.arrays import finite_matrix, finite_numbers
from metatx.sequence import TokenSequence, sent
from metatx.tokenizer import Batch, Tokenizer, orthogonal_linear

__all__ = ["GraphTokenizer"]

FAR = 10.0  # standard deviations beyond which a number counts as so far
REMEMBERED = 200  # characters of SMILES whose molecules are kept for a while
PARTS = ("nodes", "edges", "whole")
NAMES = {"x": ("x", "node_feat"), "edge_attr": ("edge_attr", "edge_feat")}  # PyTorch Geometric's, OGB's
ANSWER = "y"  # both keep it beside the graph


@dataclass(frozen=True)
class Graph:
    """One graph as numbers: ``nodes`` (N, F), ``pairs`` (E, 2) of nodes, ``edges`` (E, G), ``whole`` (W,)."""

    nodes: np.ndarray
    pairs: np.ndarray
    edges: np.ndarray
    whole: np.ndarray


class GraphTokenizer(Tokenizer):
    """Tokens of nodes, of edges and of the graph as a whole (TokenGT, Kim et al. 2022, arXiv 2207.02505).

    A token is a linear map of what is known of the node, edge or graph, standardised by the training split, plus an
    embedding of which of the three it is. A node adds its identifier twice and an edge those of both ends, so that
    attention can tell which edges meet at which nodes. Identifiers are Laplacian eigenvectors of the smallest
    eigenvalues, their signs flipped at random in training.

    A sample is a molecule, as SMILES, read by RDKit (atoms in canonical order, so that each way of writing it gives the
    same tokens); or a dict, row or PyTorch Geometric ``Data`` with ``edge_index`` (2, E) and, where there are such,
    ``x`` (N, F), ``edge_attr`` (E, G) and ``num_nodes``; OGB's ``node_feat`` and ``edge_feat`` are the same. All
    samples of a task are of one kind.

    Args:
        dim: Width of the backbone.
        identifiers: Eigenvectors, K.
        directed: True where edges have a direction; if not, an edge that is there both ways is one.
        descriptors: True if the token of a molecule as a whole knows RDKit's 217 physico-chemical descriptors.
        fingerprint: Bits of a Morgan fingerprint (Rogers & Hahn 2010) whose counts the tokens of a molecule as a whole
            know too; 0: none. It helps where there are too few molecules to learn substructures from.
        structure: True if nodes and edges have tokens; otherwise a graph is its tokens as a whole, which cost less.
        summary: Tokens for the graph as a whole.
        max_tokens: Larger graphs are refused.
        token_rms_factor: RMS of the tokens at the start of training, in units of that of the stem's tokens, on a
            backbone that does not normalise its input.

    Raises:
        ValueError: If a number is out of its range.
    """

    guessed_from = None
    tunable = {"fingerprint": (0, 512), "summary": (1, 4)}
    isolated = True
    classical = "boosting"

    def __init__(
        self,
        dim: int,
        identifiers: int = 16,
        directed: bool = False,
        descriptors: bool = True,
        fingerprint: int = 0,
        structure: bool = True,
        summary: int = 4,
        max_tokens: int = 1024,
        token_rms_factor: float = 4.0,
    ) -> None:
        super().__init__(dim)
        for name, value in (("identifiers", identifiers), ("summary", summary), ("max_tokens", max_tokens)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if fingerprint < 0:
            raise ValueError(f"fingerprint is {fingerprint}; it must be at least 0.")
        if not token_rms_factor > 0:
            raise ValueError(f"token_rms_factor is {token_rms_factor}; it must be above 0.")
        self.count = identifiers
        self.directed = directed
        self.descriptors = descriptors
        self.fingerprint = fingerprint
        self.structure = structure
        self.summary = summary
        self.max_tokens = max_tokens
        self.augments = structure
        self.token_rms_factor = token_rms_factor
        self.identify = orthogonal_linear(identifiers, dim, bias=False) if structure else None
        self.not_exported = "a sample has any number of nodes and edges" if structure else ""
        self.direct = orthogonal_linear(identifiers, dim, bias=False) if directed and structure else None
        self.kinds = nn.Parameter(torch.randn(2 + summary, dim))
        self.maps = nn.ModuleDict()
        self.molecules = False
        self.widths: list[int] = []

    def build(self, molecules: bool, widths: list[int]) -> None:
        """Make the maps of what is known.

        Args:
            molecules: True if samples are SMILES.
            widths: Numbers known of a node, of an edge and of the whole: F, G and W.
        """
        self.molecules = molecules
        self.widths = widths
        for part, width in zip(PARTS, widths, strict=True):
            self.register_buffer(f"{part}_mean", torch.zeros(width, dtype=torch.float64))
            self.register_buffer(f"{part}_scale", torch.ones(width, dtype=torch.float64))
            if width and (self.structure or part == "whole"):
                self.maps[part] = orthogonal_linear(width, self.dim * (self.summary if part == "whole" else 1))
        if self.fingerprint:
            self.maps["fingerprint"] = orthogonal_linear(self.fingerprint, self.dim * self.summary, bias=False)

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """SMILES."""
        try:
            return isinstance(value, str) and bool(parsed(value))
        except SampleError:
            return False

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn of what kind and width the samples are, and means and deviations of their numbers.

        Raises:
            ValueError: If no sample is good.
        """
        molecules = any(isinstance(sample, str) for sample in samples)
        if self.fingerprint and not molecules:
            raise ValueError("A fingerprint is that of molecules, and no sample is SMILES; set fingerprint to 0.")
        graphs = read_all(lambda sample: self._read(sample, molecules), samples)
        widths = [_usual_width([getattr(graph, part) for graph in graphs]) for part in PARTS]
        graphs = [graph for graph in graphs if not _misfit(graph, widths)]
        learned: dict[str, Any] = {"molecules": molecules, "widths": widths}
        for part, width in ((part, width) for part, width in zip(PARTS, widths, strict=True) if width):
            rows = np.vstack([getattr(graph, part).reshape(-1, width) for graph in graphs])
            with warnings.catch_warnings(action="ignore"):  # of a number that no sample has
                mean = np.nanmean(rows, axis=0)
                spread = np.nanstd(rows, axis=0)
            learned[f"{part}_mean"] = torch.from_numpy(np.nan_to_num(mean))
            span = np.nanmax(rows, axis=0, initial=-np.inf) - np.nanmin(rows, axis=0, initial=np.inf)
            steady = ~(span > 1e-13 * np.maximum(np.abs(mean), 1e-6))  # constant but for rounding, or never there
            learned[f"{part}_scale"] = torch.from_numpy(np.where(steady, np.inf, spread))
        return learned

    def _read(self, sample: Any, molecules: bool) -> Graph:
        if isinstance(sample, str) != molecules:
            expected = "SMILES" if molecules else "a dict with edge_index"
            raise SampleError(f"graph is {short(sample)}; expected {expected}")
        most = self.max_tokens - self.summary
        return _molecule(sample, self.descriptors, most) if molecules else _arrays(sample, self.directed, most)

    def _fitting(self, sample: Any) -> Graph:
        graph = self._read(sample, self.molecules)
        misfit = _misfit(graph, self.widths)
        if misfit:
            raise SampleError(misfit)
        # Of no edge it is not known how many numbers it would have.
        return graph if len(graph.pairs) else replace(graph, edges=np.zeros((0, self.widths[1])))

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A graph to standardised ``nodes``, ``edges`` and ``whole``, ``pairs`` (E, 2), ``identifiers`` (N, K)."""
        graph = self._fitting(sample)
        encoded = {}
        for part, width in zip(PARTS, self.widths, strict=True):
            if width and (self.structure or part == "whole"):
                numbers = torch.from_numpy(np.asarray(getattr(graph, part), dtype=np.float64))
                mean = self.get_buffer(f"{part}_mean").cpu()
                scale = self.get_buffer(f"{part}_scale").cpu()
                encoded[part] = ((numbers - mean) / scale).nan_to_num(0.0).clamp(-FAR, FAR).float()
        if self.fingerprint:
            encoded["fingerprint"] = torch.from_numpy(np.log1p(substructure_counts(sample, self.fingerprint)))
        if self.structure:
            identifiers = laplacian_eigenvectors(graph.pairs, len(graph.nodes), self.count)
            encoded["pairs"] = torch.from_numpy(graph.pairs)
            encoded["identifiers"] = torch.from_numpy(identifiers).float()
        return encoded

    def json_schema(self) -> dict[str, Any]:
        """SMILES, or nodes and edges as arrays."""
        if self.molecules:
            return {"type": "string", "title": "SMILES", "minLength": 1, "examples": ["CC(=O)Oc1ccccc1C(=O)O"]}
        ends = {**array_schema("edges", cells={"type": "integer", "minimum": 0}), "minItems": 0}
        parts = {"edge_index": {**array_schema("from, to", cells=ends), "minItems": 2, "maxItems": 2}}
        example: dict[str, Any] = {"edge_index": [[0, 1], [1, 2]]}
        for name, count, width in (("x", 3, self.widths[0] - 1), ("edge_attr", 2, self.widths[1])):
            if width:
                row = {**array_schema("features"), "minItems": width, "maxItems": width}
                parts[name] = array_schema("rows", cells=row)
                example[name] = [[0.0] * width] * count
        return {"type": "object", "properties": parts, "required": list(parts), "examples": [example]}

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each identifier with either sign."""
        if not self.structure:
            return encoded
        signs = 1.0 - 2.0 * torch.randint(2, (self.count,))
        return {**encoded, "identifiers": encoded["identifiers"] * signs}

    def padded(self, batch: Batch) -> PaddedTokens:
        """Tokens (B, summary, D) of graphs without nodes and edges."""
        return PaddedTokens(self._whole(batch))

    def forward(self, batch: Batch) -> TokenSequence:
        """Graphs of any sizes to summary + N + E tokens each: the whole, nodes, edges; or to the summary alone."""
        whole = self._whole(batch)
        if self.identify is None:
            return TokenSequence.pack(whole)
        identifiers = list(batch["identifiers"])
        pairs = list(batch["pairs"])
        nodes = [len(each) for each in identifiers]
        edges = [len(each) for each in pairs]
        ids = self.identify(torch.cat(identifiers))
        begin = torch.tensor([0, *nodes[:-1]]).cumsum(0).repeat_interleave(torch.tensor(edges))
        ends = torch.cat(pairs) + sent(begin, ids.device)[:, None]
        node = self.kinds[0] + 2 * ids
        edge = self.kinds[1] + ids[ends[:, 0]] + ids[ends[:, 1]]
        if self.direct is not None:
            flat = self.direct(torch.cat(identifiers))
            edge = edge + flat[ends[:, 0]] - flat[ends[:, 1]]
        if "nodes" in batch:
            node = node + self._map("nodes", batch)
        if "edges" in batch:
            edge = edge + self._map("edges", batch)
        pieces = zip(whole, node.split(nodes), edge.split(edges), strict=True)
        embeddings = torch.cat([token for piece in pieces for token in piece])
        return TokenSequence(embeddings, tuple(self.summary + n + e for n, e in zip(nodes, edges, strict=True)))

    def _whole(self, batch: Batch) -> Tensor:
        """Tokens (B, summary, D) of the graphs as a whole."""
        parts = [part for part in ("whole", "fingerprint") if part in batch]
        whole = self.kinds[2:] if parts else self.kinds[2:].expand(len(next(iter(batch.values()))), -1, -1)
        for part in parts:
            whole = whole + self._map(part, batch).view(-1, *self.kinds[2:].shape)
        return whole

    def _map(self, part: str, batch: Batch) -> Tensor:
        numbers = torch.cat(list(batch[part])) if part in ("nodes", "edges") else batch[part]
        mapped: Tensor = self.maps[part](numbers)
        return mapped

    def token_places(self, sample: Any) -> GraphPlaces:
        """Nodes and edges, behind the tokens of the whole."""
        graph = self._fitting(sample)
        smiles = sample if self.molecules else None
        return GraphPlaces.of(graph.pairs, len(graph.nodes) * self.structure, self.summary, smiles)

    def baseline_features(self, sample: Any) -> np.ndarray:
        """Mean, deviation, least and largest of what is known of nodes and of edges, and of the graph as a whole."""
        graph = self._fitting(sample)
        with_none = [part if len(part) else np.full((1, part.shape[1]), np.nan) for part in (graph.nodes, graph.edges)]
        rows = [np.concatenate([p.mean(0), p.std(0), p.min(0), p.max(0)]) for p in with_none]
        counts = [np.log1p(substructure_counts(sample, self.fingerprint))] if self.fingerprint else []
        return np.concatenate([graph.whole, *rows, *counts])


def _misfit(graph: Graph, widths: Sequence[int]) -> str:
    """The misfit of a graph's widths in words; empty where they fit."""
    for part, width in zip(PARTS, widths, strict=True):
        numbers = getattr(graph, part)
        if numbers.shape[-1] != width and (part != "edges" or len(numbers)):
            return f"{part} have {numbers.shape[-1]} numbers each; expected {width}, as in the training split"
    return ""


def _usual_width(parts: Sequence[np.ndarray]) -> int:
    """Numbers in each row, as most have it; of what has no rows it is not known."""
    counts = Counter(part.shape[-1] for part in parts if len(part))
    return counts.most_common(1)[0][0] if counts else 0


def _arrays(sample: Any, directed: bool, most: int) -> Graph:
    """A graph of a dict of arrays, or of an object with such attributes."""
    fields = _fields(sample)
    if fields.get("edge_index") is None:
        raise SampleError(f"graph is {short(sample)}; expected edge_index (2, E), x (N, F) and edge_attr (E, G)")
    pairs = finite_numbers("edge_index", fields["edge_index"])
    if pairs.size == 0:
        pairs = np.zeros((2, 0))
    if pairs.ndim != 2 or len(pairs) != 2 or (pairs != pairs.round()).any():
        turn = ": turn it" if pairs.ndim == 2 and pairs.shape[1] == 2 else ""
        raise SampleError(f"edge_index is {pairs.shape}; expected two rows (2, E) of whole numbers{turn}")
    pairs = pairs.T.astype(np.int64)
    x = None if fields.get("x") is None else finite_matrix("x", fields["x"])
    n = len(x) if x is not None else _node_count(fields.get("num_nodes"), pairs)
    if fields.get("num_nodes") is not None and _node_count(fields["num_nodes"], pairs) != n:
        raise SampleError(f"num_nodes is {short(fields['num_nodes'])}, but features are of {n} nodes")
    if n < 1:
        raise SampleError("graph has no node; expected at least one")
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n):
        raise SampleError(f"edge_index names node {pairs.max() if pairs.min() >= 0 else pairs.min()} of {n}")
    attr = None if fields.get("edge_attr") is None else finite_matrix("edge_attr", fields["edge_attr"])
    if attr is None:
        attr = np.zeros((len(pairs), 0))
    if len(attr) != len(pairs) and pairs.size:
        raise SampleError(f"edge_attr has {len(attr)} rows; expected one for each of {len(pairs)} edges")
    if not directed:
        pairs = np.sort(pairs, axis=1)
    pairs, kept = np.unique(pairs, axis=0, return_index=True)
    check_size(n, len(pairs), most)
    degrees = np.bincount(pairs.ravel(), minlength=n)[:, None]
    nodes = np.log1p(degrees) if x is None else np.hstack([x, np.log1p(degrees)])
    whole = np.log1p([n, len(pairs)])
    return Graph(nodes, pairs, attr[kept] if pairs.size else attr[:0], whole)


def _fields(sample: Any) -> dict[str, Any]:
    """The parts of a graph by PyTorch Geometric's names. Raises SampleError for what is no part of one."""
    if not isinstance(sample, dict):
        return {name: getattr(sample, name, None) for name in ("edge_index", "num_nodes", *NAMES)}
    given = {str(name): value for name, value in sample.items() if value is not None}
    fields: dict[str, Any] = {name: given.pop(name) for name in ("edge_index", "num_nodes") if name in given}
    for name, spellings in NAMES.items():
        found = [spelling for spelling in spellings if spelling in given]
        if len(found) > 1:
            raise SampleError(f"graph has both {' and '.join(found)}; expected one of them")
        if found:
            fields[name] = given.pop(found[0])
    given.pop(ANSWER, None)
    if given and "edge_index" in fields:
        known = ", ".join(["edge_index", "num_nodes", *(" or ".join(each) for each in NAMES.values())])
        raise SampleError(f"graph has {', '.join(given)}, which is not read; a graph has {known}: leave the rest out")
    return fields


def _node_count(given: Any, pairs: np.ndarray) -> int:
    """The number of nodes that is given, or else enough for the nodes that edges name."""
    if given is None:
        return int(pairs.max(initial=-1)) + 1
    number = np.nan if isinstance(given, bool | str) else finite_numbers("num_nodes", given)
    if np.size(number) != 1 or not float(np.ravel(number)[0]).is_integer():
        raise SampleError(f"num_nodes is {short(given)}; expected a whole number")
    return int(np.ravel(number)[0])


def _molecule(smiles: str, descriptors: bool, most: int) -> Graph:
    # Long ones would fill the memory that strangers' molecules may take there.
    read = _remembered if len(smiles) <= REMEMBERED else _remembered.__wrapped__
    return read(smiles, descriptors, most)


@lru_cache(maxsize=4096)  # fit, encode and baseline_features each ask for it, and descriptors take 10 ms
def _remembered(smiles: str, descriptors: bool, most: int) -> Graph:
    molecule = parsed(smiles, descriptors, most)
    with decoding(f"graph is {short(smiles)}, which RDKit cannot read"):
        return _known(molecule, descriptors)


def _known(molecule: Any, descriptors: bool) -> Graph:
    """A molecule as a graph, with what RDKit knows of it."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(Chem.MolToSmiles(molecule)) or molecule
    e = molecule.GetNumBonds()
    nodes = atom_numbers(molecule)
    edges = bond_numbers(molecule)
    pairs = np.array([[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] for bond in molecule.GetBonds()], dtype=np.int64)
    whole = np.log1p([molecule.GetNumAtoms(), e])
    if descriptors:
        with rdBase.BlockLogs():
            whole = np.concatenate([whole, descriptor_numbers(molecule)])
    return Graph(nodes, pairs.reshape(e, 2), edges, whole)
