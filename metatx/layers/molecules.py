"""Numeric features of RDKit molecules, their atoms and their bonds."""

from typing import Any

import numpy as np

from metatx.errors import SampleError, decoding, short
from metatx.reading.bounds import check_bound

__all__ = [
    *("atom_numbers", "bond_numbers", "check_size", "descriptor_numbers", "parsed", "substructure_counts"),
]

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P", "B", "Si", "Se")
HYBRIDS = ("SP", "SP2", "SP3")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
RADIUS = 2  # bonds from an atom to the edge of a substructure
RINGS = (3, 4, 5, 6, 7)
LARGE = 200  # most atoms for which steep descriptors are computed
# Steep descriptors: characteristic polynomials take N^4 steps (a minute for 1,000 atoms); others take dense
# eigenvalues, or loops over pairs of atoms.
BCUT = ("MWHI", "MWLOW", "CHGHI", "CHGLO", "LOGPHI", "LOGPLOW", "MRHI", "MRLOW")
STEEP = {"Ipc", "AvgIpc", "BertzCT", "BalabanJ", *(f"BCUT2D_{name}" for name in BCUT)}
TWISTS = {"STEREOZ": -1, "STEREOCIS": -1, "STEREOE": 1, "STEREOTRANS": 1}


def check_size(nodes: int, edges: int, most: int) -> None:
    """Refuse a graph of more than ``most`` nodes and edges. Raises SampleError."""
    if nodes + edges > most:
        raise SampleError(
            f"graph has {nodes} nodes and {edges} edges; expected at most {most} together (max_tokens; "
            "--tokenizer.max-tokens raises it)"
        )


def parsed(smiles: str, descriptors: bool = False, most: int | None = None) -> Any:
    """Parse a molecule, its atoms in the order of the text; bounds are checked before RDKit analyses it.

    Args:
        smiles: SMILES of the molecule.
        descriptors: True if descriptors will be computed, which take very long for large or dense molecules.
        most: Most atoms and bonds together; None for no limit.

    Raises:
        SampleError: If RDKit cannot read it, or it is beyond the bounds.
        ImportError: If RDKit is missing.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise ImportError("The graph tokenizer needs rdkit for molecules: pip install 'metatx[graph]'") from None

    check_bound("smiles", len(smiles), f"graph {short(smiles)}")
    with rdBase.BlockLogs(), decoding(f"graph is {short(smiles)}, which RDKit cannot read"):
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if molecule is not None:
            if most is not None:
                # RDKit takes minutes to find the canonical order of 100,000 atoms.
                check_size(molecule.GetNumAtoms(), molecule.GetNumBonds(), most)
            if descriptors:
                check_bound("atoms", molecule.GetNumAtoms(), f"graph {short(smiles)}")
                check_bound("paths", _paths(Chem.GetAdjacencyMatrix(molecule)), f"graph {short(smiles)}")
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or not molecule.GetNumAtoms():
            raise SampleError(f"graph is {short(smiles)}, which RDKit cannot read; expected SMILES")
        return molecule


def _paths(adjacency: np.ndarray) -> float:
    """Count the walks of four bonds without a step back: descriptors visit each, and dense graphs have very many."""
    bonds = adjacency.astype(np.float64)
    degrees = bonds.sum(1)
    last = bonds
    walks = bonds @ bonds - np.diag(degrees)
    for _ in range(2):
        longer = walks @ bonds - last * np.maximum(degrees - 1, 0)
        last = walks
        walks = longer
    return float(walks.sum())


def atom_numbers(molecule: Any) -> np.ndarray:
    """Element, bonding, rings, charge, mass, and share of logP, refractivity and surface of each atom (N, F)."""
    from rdkit.Chem import rdMolDescriptors

    crippen = np.array(rdMolDescriptors._CalcCrippenContribs(molecule))  # shares of logP and molar refractivity
    polar = np.array(rdMolDescriptors._CalcTPSAContribs(molecule))
    area = np.array(rdMolDescriptors._CalcLabuteASAContribs(molecule)[0])
    return np.column_stack([np.array([_atom(a) for a in molecule.GetAtoms()], float), crippen, polar, area])


def bond_numbers(molecule: Any) -> np.ndarray:
    """Kind, conjugation, rings and stereo configuration of each bond (E, G)."""
    rows = np.array([_bond(bond) for bond in molecule.GetBonds()], dtype=np.float64)
    return rows.reshape(molecule.GetNumBonds(), len(BONDS) + 3)


def descriptor_numbers(molecule: Any) -> np.ndarray:
    """Inverse hyperbolic sines of RDKit's descriptors of the molecule (D,).

    A descriptor is NaN if it is not defined, or if it is steep and the molecule has more than ``LARGE`` atoms.
    """
    from rdkit.Chem import Descriptors

    large = molecule.GetNumAtoms() > LARGE
    with np.errstate(all="ignore"):
        numbers = [
            np.nan if large and name in STEEP else _descriptor(calculate, molecule)
            for name, calculate in Descriptors.descList
        ]
    values = np.array(numbers, dtype=np.float64)
    # Some descriptors grow with a power of the size; arcsinh is a logarithm of large values.
    return np.where(np.isfinite(values), np.arcsinh(values), np.nan)


def substructure_counts(smiles: str, bits: int) -> np.ndarray:
    """Counts of a molecule's substructures of radius 2, hashed to so many numbers: float32 (bits,)."""
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=bits)
    counts: np.ndarray = generator.GetCountFingerprintAsNumPy(parsed(smiles)).astype(np.float32)
    return counts


def _descriptor(calculate: Any, molecule: Any) -> Any:
    try:
        return calculate(molecule)
    except Exception:  # RDKit's own loop over the descriptors does the same
        return None


def _atom(atom: Any) -> list[float]:
    return [
        *[atom.GetSymbol() == element for element in ELEMENTS],
        *[str(atom.GetHybridization()) == kind for kind in HYBRIDS],
        *[atom.IsInRingSize(size) for size in RINGS],
        *[atom.HasProp("_CIPCode") and atom.GetProp("_CIPCode") == code for code in "RS"],
        atom.GetIsAromatic(),
        atom.GetDegree(),
        atom.GetTotalNumHs(),
        atom.GetFormalCharge(),
        atom.GetNumRadicalElectrons(),
        atom.GetMass(),
    ]


def _bond(bond: Any) -> list[float]:
    kind = [str(bond.GetBondType()) == name for name in BONDS]
    stereo = str(bond.GetStereo())
    return [*map(float, kind), bond.GetIsConjugated(), bond.IsInRing(), TWISTS.get(stereo, 0)]
