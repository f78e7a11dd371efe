"""Recipes without their data end in one line that names the source, and in no traceback."""

import runpy
import sys
from importlib import import_module

import pytest

from tests.recipes.common import RECIPES

NEEDED = {  # arguments that a script does not run without
    "align_chebi": ["--out", "o"],
    "align_roadscene": ["--out", "o"],
    "caption_flickr8k": ["--language", "nowhere"],
    "pretrain_contrastive": ["--out", "o"],
    "search_fashion": ["--out", "o"],
}
OF_OTHERS = (
    *("average_weights", "draw_priors", "embed_dataset", "pretrain_mixture", "token_probe", "transfer_report"),
    *("transfer_sets", "tuning_tiers"),
)
NAMES = sorted(path.stem for path in RECIPES.glob("*.py") if path.stem not in OF_OTHERS)
READERS = [name for name in NAMES if "RECIPE = " in (RECIPES / f"{name}.py").read_text()]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_without_data_names_their_source(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METATX_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *NEEDED.get(name, [])])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.count("\n") == 1 and said.startswith(f"{name}.py: {tmp_path}/nowhere/")
    assert "does not exist. Get the data from " in said


@pytest.mark.parametrize("name", READERS)
def test_an_empty_folder_is_refused_with_the_source(name, tmp_path):
    recipe = import_module(name).RECIPE
    with pytest.raises((FileNotFoundError, ValueError)) as refused:
        recipe.load(tmp_path)
    assert str(tmp_path) in str(refused.value) and recipe.source in str(refused.value)
