"""Recipes: what is changed of one stays changed, options follow the backbone, and a run is told as it was."""

from dataclasses import replace

import pytest

import metatx
from metatx.evaluation.recipe import Recipe, dataset

RECIPE = Recipe(
    name="two kinds",
    place="tabular/kinds",
    source="this test",
    spec=metatx.TaskSpec(
        modality="tabular",
        target="kind",
        head="classification",
        tokenizer_options={"bins": 16},
        head_options={"layers": 12, "pooling": "mean"},
    ),
    settings=metatx.TrainingSettings(epochs=1, lr=3e-3),
)


def test_options_are_changed_by_name_and_the_recipe_stays_as_it_is():
    changed = RECIPE.changed(head_options={"layers": 2}, tune="lora", adapter_options={"r": 4}, epochs=3)
    assert changed.spec.head_options == {"layers": 2, "pooling": "mean"}
    assert changed.spec.tokenizer_options == {"bins": 16}
    assert (changed.spec.tune, changed.spec.adapter_options) == ("lora", {"r": 4})
    assert (changed.settings.epochs, changed.settings.lr) == (3, 3e-3)
    assert RECIPE.spec.head_options["layers"] == 12 and RECIPE.settings.epochs == 1
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        RECIPE.changed(epoch=3)


def test_options_follow_the_backbone(nano):
    assert RECIPE.spec_for(nano).head_options["layers"] == nano.depth
    assert "image_size" not in RECIPE.spec_for(nano).tokenizer_options
    patch = nano.stem.config.patch_size
    for grid, size in ((7, 7 * patch), ((3, 4), [3 * patch, 4 * patch])):
        assert replace(RECIPE, grid=grid).spec_for(nano).tokenizer_options == {"bins": 16, "image_size": size}


def test_a_run_a_seed_and_their_mean(nano, table, tmp_path, monkeypatch, capsys):
    place = tmp_path / "tabular" / "kinds"
    place.mkdir(parents=True)
    table.to_csv(place / "rows.csv", index=False)
    monkeypatch.setenv("METATX_DATA", str(tmp_path))
    recipe = replace(
        RECIPE.changed(lr=1e-2),
        read=lambda folder: folder / "rows.csv",
        published={"a person": {"accuracy": 0.75}},
        remarks=lambda report, data: f"read {data.name}, seed {report.seed}",
    )
    reports = recipe.run(nano, seeds=(0, 1), out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert [report.seed for report in reports] == [0, 1]
    assert [bool(report.baselines) for report in reports] == [True, False]
    assert reports[0].task.settings.lr == 1e-2 and reports[0].data == "two kinds"
    for report in reports:
        assert str(report) in printed and f"read rows.csv, seed {report.seed}" in printed
        assert (tmp_path / "out" / f"seed{report.seed}" / "task").is_dir()
    assert "a person" in printed and "two kinds, 2 seeds, nano: accuracy" in printed


def test_no_group_is_in_both_training_and_validation(tmp_path, table):
    grouped = table.assign(person=[f"p{row % 8}" for row in range(len(table))])
    recipe = replace(RECIPE, read=lambda folder: {"train": grouped}, group="person", validation_share=0.25)
    parts = recipe.load(tmp_path)
    train, held = (set(parts[split].person) for split in ("train", "validation"))
    assert len(train) == 6 and len(held) == 2 and not train & held
    assert sum(map(len, parts.values())) == len(table)
    assert set(replace(recipe, validation_share=0).load(tmp_path)) == {"train"}


def test_what_is_not_there_is_said_with_where_it_can_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("METATX_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="text/x does not exist. Get the data from somewhere.*--data"):
        dataset(None, "text/x", "somewhere")
    assert dataset(tmp_path, "text/x", "somewhere") == tmp_path
