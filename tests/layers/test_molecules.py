"""Molecules: what is too large, or too dense, is refused before anything is computed of it."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from rdkit import Chem

from metatx.errors import SampleError
from metatx.layers.molecules import STEEP, descriptor_numbers, parsed


def complete(count: int) -> str:
    """SMILES of atoms of which each is bound to each."""
    rings: dict[int, str] = dict.fromkeys(range(count), "")
    for number, (one, other) in enumerate(combinations(range(count), 2)):
        if other - one > 1:
            rings[one] += f"%({number + 10})"
            rings[other] += f"%({number + 10})"
    return "".join(f"[Fe]{rings[atom]}" for atom in range(count))


def walks(molecule) -> int:
    """Walks of four bonds that never go back at once, counted one by one."""
    near = {atom.GetIdx(): [other.GetIdx() for other in atom.GetNeighbors()] for atom in molecule.GetAtoms()}
    found = [(one, other) for one in near for other in near[one]]
    for _ in range(3):
        found = [(*walk[1:], step) for walk in found for step in near[walk[-1]] if step != walk[-2]]
    return len(found)


@pytest.mark.parametrize("smiles", ["C", "CC", "CCCCC", "CC(C)(C)C(C)(C)C", "C1CC1", "c1ccc2ccccc2c1", complete(5)])
def test_paths_are_counted_as_walks_without_return(smiles: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = walks(Chem.MolFromSmiles(smiles))
    monkeypatch.setenv("METATX_BOUNDS", f"paths={count + 0.5}")
    parsed(smiles, descriptors=True)
    if count:
        monkeypatch.setenv("METATX_BOUNDS", f"paths={count - 0.5}")
        with pytest.raises(SampleError, match=f" {count:,} paths of four bonds"):
            parsed(smiles, descriptors=True)


@pytest.mark.parametrize(
    ("smiles", "found"),
    [("C" * 301, "301 characters of a SMILES"), ("C" * 101, "101 atoms"), (complete(8), "12,096 paths of four bonds")],
)
def test_bounds_are_looked_at_before_anything_is_perceived(smiles, found, monkeypatch) -> None:
    monkeypatch.setenv("METATX_BOUNDS", "smiles=300,atoms=100,paths=12000")
    monkeypatch.setattr(Chem, "SanitizeMol", lambda *_: pytest.fail("was perceived"))
    read = Chem.MolFromSmiles
    monkeypatch.setattr(Chem, "MolFromSmiles", lambda text, sanitize: read(text, sanitize=sanitize))  # not without
    with pytest.raises(SampleError, match=f"{found}.*METATX_BOUNDS"):
        parsed(smiles, descriptors=True)


def test_branches_and_rings_inside_each_other_end_no_process() -> None:
    code = """
from metatx.layers.molecules import parsed
deep = "C(" * 5000
for smiles in (deep, "C(" * 3300 + "C" + ")" * 3300, "(" * 9999, "[" * 9999, "C%(99999)" * 1000, "C" + "1" * 9999):
    try:
        print(parsed(smiles, most=1000))
    except ValueError as error:
        print("refused")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["refused"] * 6


def test_what_is_large_has_no_steep_descriptors(monkeypatch):
    from rdkit.Chem import Descriptors

    called = []
    monkeypatch.setattr(
        Descriptors, "descList", [(name, lambda _: called.append(1) or 1.0) for name in ("Ipc", "MolWt")]
    )
    assert np.isfinite(descriptor_numbers(parsed("C" * 200))).all() and len(called) == 2
    assert np.isnan(descriptor_numbers(parsed("C" * 201))).tolist() == [True, False] and len(called) == 3


def test_names_of_steep_descriptors_are_rdkits():
    from rdkit.Chem import Descriptors

    assert {name for name, _ in Descriptors.descList} >= STEEP
