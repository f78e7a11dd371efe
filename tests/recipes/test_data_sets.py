"""Each data set is stated once, in its recipe, and whoever else uses it takes it from there."""

import ast
from collections import Counter
from dataclasses import replace
from importlib import import_module

import pytest
from transfer_sets import SETS

from metatx.registry import names
from tests.recipes.common import RECIPES

FILES = sorted(RECIPES.glob("*.py"))
LITERALS = [path.stem for path in FILES if "RECIPE = " in path.read_text()]


def test_no_data_set_is_stated_twice() -> None:
    """A place, such as ``text/sst2``, and the choices for a task stand in one file only."""
    places = {import_module(name).RECIPE.place for name in LITERALS}
    stated: Counter[str] = Counter()
    for path in FILES:
        tree = ast.parse(path.read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        stated.update(texts & places)
        bundles = sum(isinstance(node, ast.Attribute) and node.attr == "TaskSpec" for node in ast.walk(tree))
        assert bundles == (path.stem in LITERALS), f"{path.name} states {bundles} tasks"
    assert set(stated) == places and set(stated.values()) == {1}, stated


@pytest.mark.parametrize("name", LITERALS)
def test_a_recipe_says_what_it_is(name: str) -> None:
    module = import_module(name)
    recipe = module.RECIPE
    modalities = [each.modality for each in recipe.spec.several] or [recipe.spec.modality]
    assert set(modalities) <= set(names("tokenizers")) and recipe.spec.head in names("heads")
    assert name.startswith("fusion" if recipe.spec.several else recipe.spec.modality), (
        "the file is named by its modality"
    )
    assert f"python recipes/{name}.py" in module.__doc__


def test_each_of_the_twelve_modalities_is_compared() -> None:
    twelve = "text image point_cloud audio video infrared hyperspectral xray time_series graph tabular imu"
    assert {recipe.spec.modality for recipe in SETS.values()} == set(twelve.split())


def test_reports_compare_what_the_recipes_train() -> None:
    recipes = {recipe.place: recipe for recipe in (import_module(name).RECIPE for name in LITERALS)}
    changes: dict[str, dict[str, object]] = {"etth1": {"linear": 0}, "bbbp": {"class_weight": "balanced"}}
    for name in "cifar10_subset solar_modules speech_commands_v2_10 spsw_har clinc150 sst2 japanese_vowels".split():
        changes[name] = {"norm": "batch"}
    for name, recipe in SETS.items():
        own = recipes[recipe.place]
        head_options = {**own.spec.head_options, **changes.get(name, {})}
        assert recipe == replace(own, spec=replace(own.spec, head_options=head_options))
