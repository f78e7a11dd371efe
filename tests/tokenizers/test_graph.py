"""Graphs: identifiers that do not depend on the solver, molecules that do not depend on how they are written."""

import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import Descriptors

from metatx import SampleError, create
from metatx.cli import main
from metatx.encoding.collate import collate
from metatx.layers.molecules import atom_numbers, bond_numbers

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
SMILES = [ASPIRIN, "CCO", "C", "[Na+].[Cl-]", "C1CC1", "N[C@@H](C)C(=O)O", "F/C=C/F", "c1ccc2ccccc2c1"]
TRIANGLE = {"edge_index": [[0, 1, 2, 3], [1, 2, 0, 0]], "x": [[1.0], [2.0], [3.0], [5.0]]}
make = partial(create, "tokenizers", "graph", 32)


def fitted(samples, **options):
    torch.manual_seed(0)
    return make(**options).learn(samples).eval()


def as_it_is(widths, **options):
    """A tokenizer that changes none of the numbers of a graph."""
    return make(**options).restore({"molecules": False, "widths": widths})


def identifiers_of(pairs, n, count):
    encoded = as_it_is([1, 0, 2], identifiers=count).encode({"edge_index": pairs.T, "num_nodes": n})
    return encoded["identifiers"].double().numpy()


def tokens_of(tokenizer, *samples):
    return tokenizer(collate([tokenizer.encode(sample) for sample in samples]))


@st.composite
def graphs(draw):
    """Edges between at most twelve nodes."""
    n = draw(st.integers(1, 12))
    node = st.integers(0, n - 1)
    pairs = draw(st.lists(st.tuples(node, node), max_size=30, unique=True))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), n


def laplacian(pairs, n):
    adjacency = np.zeros((n, n))
    for u, v in pairs:
        adjacency[u, v] = adjacency[v, u] = 1
    degrees = np.maximum(adjacency.sum(1), 1)
    return np.eye(n) - adjacency / np.sqrt(np.outer(degrees, degrees))


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_identifiers_are_orthogonal_eigenvectors_of_ascending_eigenvalues(drawn):
    pairs, n = drawn
    found = identifiers_of(pairs, n, n) / np.sqrt(n)
    kept = found[:, found.any(0)]
    gram = kept.T @ kept
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=3e-6)
    values = np.diag(kept.T @ laplacian(pairs, n) @ kept)
    np.testing.assert_allclose(laplacian(pairs, n) @ kept, kept * values, atol=1e-5)
    assert (np.diff(values) > -1e-5).all()
    assert kept.shape[1] >= n - 1, "but for the constant one of a connected graph all are there"


def test_identifiers_of_a_path_are_cosines():
    n = 7
    pairs = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    found = identifiers_of(pairs, n, 3)
    degrees = np.array([1, *[2] * (n - 2), 1])
    for k in range(3):
        cosine = np.cos((k + 1) * np.pi * np.arange(n) / (n - 1)) * np.sqrt(degrees)
        cosine *= np.sqrt(n) / np.linalg.norm(cosine)
        assert min(np.abs(found[:, k] - cosine).max(), np.abs(found[:, k] + cosine).max()) < 1e-6


def test_equal_eigenvalues_have_one_basis_whatever_the_solver_gives(monkeypatch):
    ring = np.array([(i, (i + 1) % 8) for i in range(8)])
    expected = identifiers_of(ring, 8, 7)
    solve, rng = np.linalg.eigh, np.random.default_rng(0)

    def other(matrix):
        """Another orthonormal basis of each eigenspace, signs included."""
        values, vectors = solve(matrix)
        for space in np.split(np.arange(len(values)), np.flatnonzero(np.diff(values) > 1e-6) + 1):
            vectors[:, space] = vectors[:, space] @ np.linalg.qr(rng.normal(size=(len(space),) * 2))[0]
        return values, vectors

    monkeypatch.setattr(np.linalg, "eigh", other)
    np.testing.assert_allclose(identifiers_of(ring, 8, 7), expected, atol=1e-6)


@pytest.mark.parametrize("smiles", SMILES)
def test_each_way_of_writing_a_molecule_gives_the_same_tokens(smiles):
    tokenizer = fitted(SMILES)
    molecule = Chem.MolFromSmiles(smiles)
    expected = tokens_of(tokenizer, smiles).embeddings
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(molecule.GetNumAtoms()).tolist()
        written = Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False)
        torch.testing.assert_close(tokens_of(tokenizer, written).embeddings, expected, atol=1e-4, rtol=1e-4)


def test_a_molecule_is_its_atoms_bonds_and_descriptors():
    tokenizer = fitted(SMILES)
    encoded = tokenizer.encode(ASPIRIN)
    molecule = Chem.MolFromSmiles(ASPIRIN)
    assert len(encoded["nodes"]) == molecule.GetNumAtoms() == 13
    assert len(encoded["pairs"]) == len(encoded["edges"]) == molecule.GetNumBonds() == 13
    nodes, _, numbers = tokenizer.widths
    found = tokenizer.baseline_features(ASPIRIN)
    descriptors = Descriptors.CalcMolDescriptors(molecule)
    known = np.arcsinh(list(descriptors.values()))
    np.testing.assert_allclose(found[2:numbers], known, atol=1e-6)
    np.testing.assert_allclose(found[:2], np.log([14, 14]))
    # Contributions of the atoms, hydrogens added to theirs, sum to the descriptor.
    mean = found[numbers : numbers + nodes]
    assert 13 * mean[-2] == pytest.approx(descriptors["TPSA"])
    assert len(fitted(SMILES, descriptors=False).encode(ASPIRIN)["whole"]) == 2


def test_features_of_atoms_and_bonds_tell_apart_what_chemists_do():
    def features(smiles, index, bond=False):
        molecule = Chem.MolFromSmiles(smiles)
        # Without an atom's shares of the molecule's descriptors, its last four numbers, which tell apart still more.
        return (bond_numbers(molecule) if bond else atom_numbers(molecule)[:, :-4])[index].tolist()

    different = [("CC", "CN", 1), ("C=C", "CC", 0), ("c1ccccc1", "C1CCCCC1", 0), ("CC[O-]", "CCO", 2)]
    different += [("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O", 1), ("C1CC1", "C1CCC1", 0)]
    for one, other, atom in different:
        assert features(one, atom) != features(other, atom), (one, other)
    for one, other, bond in [("F/C=C/F", "F/C=C\\F", 1), ("C=C", "CC", 0), ("C=CC=C", "C=CCC=C", 1)]:
        assert features(one, bond, bond=True) != features(other, bond, bond=True), (one, other)


def test_numbering_nodes_otherwise_moves_tokens_and_changes_nothing_else():
    path = {"edge_index": [[0, 1, 2, 3], [1, 2, 3, 4]], "x": [[1.0], [4.0], [2.0], [2.5], [3.0]]}
    order = [3, 1, 4, 0, 2]  # new number of each node
    moved = {
        "edge_index": np.array(order)[np.array(path["edge_index"])],
        "x": np.array(path["x"])[np.argsort(order)],
    }
    tokenizer = fitted([path, TRIANGLE])
    one, other = tokenizer.encode(path), tokenizer.encode(moved)
    torch.testing.assert_close(one["nodes"], other["nodes"][order])
    turned = other["identifiers"][order]
    signs = (one["identifiers"] * turned).sum(0).sign()  # the pivot may be another node
    torch.testing.assert_close(one["identifiers"], turned * signs)


@torch.no_grad()
@pytest.mark.parametrize("directed", [False, True])
def test_a_node_has_its_identifier_twice_and_an_edge_those_of_its_ends(directed):
    tokenizer = fitted([TRIANGLE, TRIANGLE | {"x": [[4.0], [1.0], [3.0], [5.0]]}], directed=directed)
    encoded = tokenizer.encode(TRIANGLE)
    tokens = tokens_of(tokenizer, TRIANGLE).embeddings
    ids, (first, second) = tokenizer.identify(encoded["identifiers"]), encoded["pairs"].T
    node = tokenizer.maps["nodes"](encoded["nodes"]) + tokenizer.kinds[0] + 2 * ids
    edge = tokenizer.kinds[1] + ids[first] + ids[second]
    if directed:
        turns = tokenizer.direct(encoded["identifiers"])
        edge = edge + turns[first] - turns[second]
        assert encoded["pairs"].tolist() == [[0, 1], [1, 2], [2, 0], [3, 0]]
    torch.testing.assert_close(tokens[4:], torch.cat([node, edge]))


def test_direction_counts_only_where_asked():
    turned = TRIANGLE | {"edge_index": TRIANGLE["edge_index"][::-1]}
    for directed in (False, True):
        tokenizer = fitted([TRIANGLE, turned], directed=directed)
        one, other = (tokens_of(tokenizer, graph).embeddings for graph in (TRIANGLE, turned))
        assert torch.allclose(one, other, atol=1e-5) != directed


def test_an_edge_both_ways_is_one_and_pytorch_geometric_s_data_is_read():
    data = SimpleNamespace(
        edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]),
        x=torch.tensor([[1.0], [2.0], [3.0]]),
        edge_attr=torch.tensor([[0.5], [0.5], [0.75], [0.75]]),
        num_nodes=3,
    )
    tokenizer = as_it_is([2, 1, 2])
    found = tokenizer.encode(data)
    assert found["pairs"].tolist() == [[0, 1], [1, 2]] and found["edges"].tolist() == [[0.5], [0.75]]
    assert len(as_it_is([2, 1, 2], directed=True).encode(data)["pairs"]) == 4
    expected = tokenizer.encode({"edge_index": [[0, 1], [1, 2]], "x": [1, 2, 3], "edge_attr": [0.5, 0.75]})
    assert found.keys() == expected.keys() == {"nodes", "pairs", "edges", "whole", "identifiers"}
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_graph_without_edges_and_one_without_numbers_have_tokens():
    tokenizer = fitted([{"edge_index": [[], []], "num_nodes": 3}, {"edge_index": [[0], [1]], "num_nodes": 2}])
    found = tokens_of(tokenizer, {"edge_index": [[], []], "num_nodes": 3}, {"edge_index": [[0, 1], [1, 2]]})
    assert found.lengths == (4 + 3, 4 + 5)
    atom = fitted(SMILES)
    assert tokens_of(atom, "C", "CC").lengths == (4 + 1, 4 + 3)


def test_augment_flips_whole_identifiers_and_nothing_else():
    tokenizer = fitted(SMILES)
    encoded = tokenizer.encode(ASPIRIN)
    torch.manual_seed(0)
    varied = [tokenizer.augment(encoded) for _ in range(200)]
    used = encoded["identifiers"].any(0)
    signs = torch.stack([(each["identifiers"] * encoded["identifiers"]).sum(0).sign()[used] for each in varied])
    assert used.sum() == 12 and (signs.mean(0).abs() < 0.25).all()
    for each in varied:
        torch.testing.assert_close(each["identifiers"].abs(), encoded["identifiers"].abs())
    assert all(torch.equal(each["nodes"], encoded["nodes"]) for each in varied)


def test_statistics_are_of_the_training_molecules():
    tokenizer = fitted(SMILES)
    stacked = torch.cat([tokenizer.encode(smiles)["nodes"] for smiles in SMILES])
    varying = tokenizer.nodes_scale.isfinite()
    torch.testing.assert_close(stacked.mean(0), torch.zeros(stacked.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(stacked.std(0, correction=0)[varying], torch.ones(int(varying.sum())))
    assert not stacked[:, ~varying].any()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("", "graph is '', which RDKit cannot read; expected SMILES"),
        ("C1CC", "graph is 'C1CC', which RDKit cannot read"),
        ("molecules.sdf", "which RDKit cannot read"),
        (None, "graph is None; expected SMILES"),
        (TRIANGLE, "expected SMILES"),
        (
            "C" * 600,
            "graph has 600 nodes and 599 edges; expected at most 1020 together (max_tokens; ",
        ),
        ("C" * 100_000, "has 100,000 characters of a SMILES; expected at most 10,000 (METATX_BOUNDS=smiles=...)"),
    ],
)
def test_what_is_no_molecule_is_told_in_one_line(sample, message, capfd):
    tokenizer = fitted(SMILES)
    with pytest.raises(SampleError) as caught:
        tokenizer.encode(sample)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not capfd.readouterr().err, "RDKit keeps quiet"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("CCO", "graph is 'CCO'; expected a dict with edge_index"),
        ({"x": [[1.0]]}, "expected edge_index (2, E)"),
        (3, "expected edge_index (2, E)"),
        (TRIANGLE | {"edge_index": [[0, 1, 2]]}, "edge_index is (1, 3); expected two rows (2, E) of whole numbers"),
        (TRIANGLE | {"edge_index": [[0.5], [1]]}, "of whole numbers"),
        (TRIANGLE | {"edge_index": [[0], [9]]}, "edge_index names node 9 of 4"),
        (TRIANGLE | {"edge_index": [[0], [-1]]}, "edge_index names node -1 of 4"),
        (TRIANGLE | {"x": [[1.0], [np.nan], [3.0], [4.0]]}, "x holds NaN or infinity; expected finite numbers"),
        (TRIANGLE | {"x": [["a"], ["b"], ["c"], ["d"]]}, "expected numbers, rows of equal length"),
        (TRIANGLE | {"x": [[1.0, 2.0]] * 4}, "nodes have 3 numbers each; expected 2"),
        (TRIANGLE | {"edge_attr": [[1.0]]}, "edge_attr has 1 rows; expected one for each of 4 edges"),
        ({"edge_index": [[], []], "num_nodes": "many"}, "num_nodes is 'many'; expected a whole number"),
        ({"edge_index": [[], []], "num_nodes": 0}, "graph has no node; expected at least one"),
        (
            {"edge_index": [[0], [1]], "x": np.ones((2000, 1))},
            "graph has 2000 nodes and 1 edges; expected at most 1020 together (max_tokens; ",
        ),
    ],
)
def test_what_is_no_graph_is_told_in_one_line(sample, message):
    tokenizer = fitted([TRIANGLE, TRIANGLE | {"x": [[4.0], [1.0], [3.0], [5.0]]}])
    with pytest.raises(SampleError) as caught:
        tokenizer.encode(sample)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["identifiers", "summary", "max_tokens", "token_rms_factor"])
def test_options_out_of_range(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be "):
        make(**{name: 0})


def test_nothing_to_learn_from():
    with pytest.raises(ValueError, match="No sample can be used; the first: graph is 'C1', which RDKit cannot read"):
        make().learn(["C1", "C("])


def test_rdkit_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"needs rdkit for molecules: pip install 'metatx\[graph\]'"):
        make().restore({"molecules": True, "widths": [1, 1, 1]}).encode("CCOCCNCCOCCN")  # which no test has read before


def test_train_on_smiles_and_on_arrays(tmp_path, capsys):
    chains = ["C" * n + "O" * (n % 2) for n in range(2, 26)]
    # The columns of PCQM4M's table.
    frame = pd.DataFrame({"idx": range(24), "smiles": chains, "homolumogap": [0.1 * len(s) for s in chains]})
    frame.to_csv(tmp_path / "chains.csv", index=False)
    quick = "--modality graph --epochs 2 --lr 3e-3 --batch_size 16"
    main(f"train {tmp_path}/chains.csv --target homolumogap {quick} --out {tmp_path}/a".split())
    rings = [{"edge_index": [list(range(n)), [*range(1, n), 0]], "x": [[1.0]] * n} for n in range(3, 20)]
    table = pd.DataFrame(rings).assign(label=["odd" if len(ring["x"]) % 2 else "even" for ring in rings])
    table.to_parquet(tmp_path / "rings.parquet")
    main(f"train {tmp_path}/rings.parquet {quick} --inputs edge_index,x --out {tmp_path}/b".split())
    capsys.readouterr()
    main(f"predict {tmp_path}/a/task {tmp_path}/chains.csv --out {tmp_path}/answer.csv".split())
    assert np.isfinite(pd.read_csv(tmp_path / "answer.csv").prediction).all()


def test_a_fingerprint_tells_substructures_apart_and_not_spellings():
    tokenizer = fitted(SMILES, fingerprint=64, descriptors=False)
    counts = [tokenizer.encode(smiles)["fingerprint"] for smiles in ("CCO", "OCC", "CCN")]
    assert counts[0].shape == (64,) and torch.equal(counts[0], counts[1]) and not torch.equal(counts[0], counts[2])
    assert torch.expm1(counts[0]).sum().item() == pytest.approx(6), "three atoms, each alone and with its neighbours"
    with pytest.raises(ValueError, match="no sample is SMILES"):
        fitted([TRIANGLE] * 2, fingerprint=64)
    with pytest.raises(ValueError, match="fingerprint is -1"):
        make(fingerprint=-1)


def test_without_structure_a_molecule_is_its_summary():
    tokenizer = fitted(SMILES, fingerprint=64, structure=False, summary=3)
    sequence = tokens_of(tokenizer, *SMILES)
    assert sequence.lengths == (3,) * len(SMILES)
    sequence.embeddings.square().sum().backward()
    assert all(weight.grad is not None for weight in tokenizer.parameters()), "nothing is there in vain"
    assert tokenizer.augment(tokenizer.encode(ASPIRIN)).keys() == {"whole", "fingerprint"}
