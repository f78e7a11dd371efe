"""The layout holds: links, no shadowing, small files, a lock without addresses, one version."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

import metatx

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
CODE = ["metatx", "tokenizers", "heads", "recipes", "tests"]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """Name and version of every requirement of the lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))


@pytest.mark.parametrize("folder", ["tokenizers", "heads"])
def test_folder_is_the_links_target_and_no_package(folder: str) -> None:
    link = ROOT / "metatx" / folder
    assert link.is_symlink(), f"make it again: ln -s ../{folder} metatx/{folder}"
    assert str(link.readlink()) == f"../{folder}"
    assert not (ROOT / folder / "__init__.py").exists(), (
        f"{folder}/__init__.py makes `import {folder}` find this folder: remove it."
    )


def test_python_runs_this_checkout() -> None:
    assert metatx.__file__ is not None
    assert Path(metatx.__file__).resolve() == ROOT / "metatx" / "__init__.py"


@pytest.mark.parametrize("folder", ["tokenizers", "heads", "recipes"])
def test_file_names_hide_no_other_package(folder: str) -> None:
    """A script's own folder is first on its path, so recipes/datasets.py would hide datasets."""
    taken = sys.stdlib_module_names | importlib.metadata.packages_distributions().keys()
    assert not {path.stem for path in (ROOT / folder).rglob("*.py")} & taken


def test_no_file_is_longer_than_400_lines() -> None:
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 10
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in files}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    assert metatx.__version__ == version
    assert importlib.metadata.version("metatx") == version


def test_lock_holds_names_versions_and_hashes_only() -> None:
    """No address, path, index or comment: only ``name==version ; marker`` with its hashes."""
    requirement = r"[a-z0-9-]+==[\w.+!]+( ; [\w .'<>=!()]+)?"
    for entry in LOCK.replace(" \\\n", " ").splitlines():
        assert re.fullmatch(rf"{requirement}(\s+--hash=sha256:[0-9a-f]{{64}})+", entry), entry[:200]


def test_lock_covers_core_extras_and_dev() -> None:
    project = PROJECT["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    wanted = project["dependencies"] + extras + PROJECT["dependency-groups"]["dev"]
    names = {normalised(re.match(r"[\w.-]+", requirement)[0]) for requirement in wanted}
    assert names - {"metatx"} <= locked().keys()


def test_lock_pins_the_torch_set_that_works_together() -> None:
    for pin in PROJECT["tool"]["uv"]["constraint-dependencies"]:
        name, version = pin.split("==")
        assert locked()[name] == version
