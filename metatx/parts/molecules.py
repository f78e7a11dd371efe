"""What is known of an RDKit molecule, its atoms and its bonds, as numbers."""

from typing import Any

import numpy as np

__all__ = ["atom_numbers", "bond_numbers", "descriptor_numbers"]

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P", "B", "Si", "Se")
HYBRIDS = ("SP", "SP2", "SP3")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
RINGS = (3, 4, 5, 6, 7)
TWISTS = {"STEREOZ": -1, "STEREOCIS": -1, "STEREOE": 1, "STEREOTRANS": 1}


def atom_numbers(molecule: Any) -> np.ndarray:
    """Element, bonding, ring, charge and mass of each atom, and its share of logP, refractivity and surface (N, F)."""
    from rdkit.Chem import rdMolDescriptors

    crippen = np.array(rdMolDescriptors._CalcCrippenContribs(molecule))  # of logP and molar refractivity
    polar = np.array(rdMolDescriptors._CalcTPSAContribs(molecule))
    area = np.array(rdMolDescriptors._CalcLabuteASAContribs(molecule)[0])
    return np.column_stack([np.array([_atom(a) for a in molecule.GetAtoms()], float), crippen, polar, area])


def bond_numbers(molecule: Any) -> np.ndarray:
    """Kind, conjugation, ring and twist of each bond (E, G)."""
    rows = np.array([_bond(bond) for bond in molecule.GetBonds()], dtype=np.float64)
    return rows.reshape(molecule.GetNumBonds(), len(BONDS) + 3)


def descriptor_numbers(molecule: Any) -> np.ndarray:
    """RDKit's descriptors of the whole molecule (D,), their inverse hyperbolic sines; NaN where one is not defined."""
    from rdkit.Chem import Descriptors

    calculate: Any = Descriptors.CalcMolDescriptors  # has no types
    with np.errstate(all="ignore"):
        values = np.array(list(calculate(molecule).values()), dtype=np.float64)
    # Some grow with a power of the size: logarithms of what is large.
    return np.where(np.isfinite(values), np.arcsinh(values), np.nan)


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
