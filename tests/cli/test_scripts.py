"""The command line of a recipe: its own values as defaults, all options by the names of ``metatx train``."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

import metatx
from metatx.cli.scripts import command, recipe_command
from metatx.evaluation.recipe import Recipe


def recipe(*, columns: Literal["xyz", "all"] = "all") -> Recipe:
    """Pictures.

    Args:
        columns: Columns of a point.
    """
    return Recipe(
        name=f"pictures, {columns}",
        place="image/pictures",
        source="this test",
        grid=(14, 8),
        spec=metatx.TaskSpec(
            modality="image", head="classification", tokenizer_options={"crop_pct": 1.0}, head_options={"layers": 12}
        ),
        settings=metatx.TrainingSettings(epochs=8, lr=5e-3),
    )


@pytest.fixture
def ran(monkeypatch):
    """What was run: recipe, backbone and options."""
    calls = []
    monkeypatch.setattr(Recipe, "run", lambda *given, **options: calls.append((*given, options)))

    def run(words: str, what=recipe):
        monkeypatch.setattr("sys.argv", ["recipe.py", *words.split()])
        recipe_command(what)
        return calls.pop()

    return run


def test_without_options_a_recipe_is_run_as_it_stands(ran):
    for what in (recipe, recipe()):
        found, backbone, options = ran("", what)
        assert found == recipe() and backbone.spec == "nano" and backbone.pretrained
        assert options == {"data": None, "seeds": None, "budget": None, "baseline": True, "out": None}


def test_options_by_the_names_of_train(ran):
    words = (
        "--columns xyz --head.norm batch --tokenizer.augment light --grid 24,32 --epochs=3 --batch-size 4 --shard "
        "--tune lora --adapter.r 4 --pretrained false --seeds 1 --no-baseline --out runs/x --data FOLDER --budget 5"
    )
    found, backbone, options = ran(words)
    expected = recipe(columns="xyz").changed(
        head_options={"norm": "batch"},
        tokenizer_options={"augment": "light"},
        adapter_options={"r": 4},
        tune="lora",
        grid=(24, 32),
        epochs=3,
        batch_size=4,
        shard=True,
    )
    assert found == expected and not backbone.pretrained
    assert options == {"data": "FOLDER", "seeds": (1,), "budget": 5.0, "baseline": False, "out": "runs/x"}
    assert ran("--seeds=0,1 --grid 7")[2]["seeds"] == (0, 1)
    for former in ("--random-backbone", "--random_backbone=true", "--no-pretrained"):
        assert not ran(former)[1].pretrained


def test_help_explains_the_options_and_shows_the_recipes_own_values(ran, capsys):
    with pytest.raises(SystemExit):
        ran("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--epochs EPOCHS Number of passes over the training split" in shown
    assert "(whole number, default: 8)" in shown and "``" not in shown and "--batch-size" in shown
    assert "--head.layers LAYERS" in shown and "default: 12)" in shown
    assert "--columns {xyz,all} Columns of a point." in shown
    assert "--tokenizer.crop-pct" in shown and "--tokenizer.image-size" not in shown, "the grid says it"
    assert "_" not in "".join(re.findall(r"--[\w.-]+", shown)) and "--baseline {true,false}" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--head.norn batch", "Unknown option '--head.norn'. Did you mean '--head.norm'? Choices: --head.pooling, "),
        ("--epochz 3", "Unknown option --epochz. Did you mean --epochs? --help lists all."),
        ("--head.norm nosuch", "--head.norm is 'nosuch'; expected one of 'layer', 'batch'."),
        ("--epochs x", "--epochs is 'x'; expected a whole number."),
        ("--epochs --lr 1", "argument --epochs: expected one argument"),
        ("--lr -1 --epochs 0", "epochs is 0"),
    ],
)
def test_errors_are_a_line(ran, capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        ran(words)
    shown = capsys.readouterr().err
    assert stopped.value.code == 2 and shown.count("\n") == 1 and shown.startswith("recipe.py: ") and said in shown


def test_options_of_reading_and_splitting(ran):
    def read(folder: Path, *, rows: int | None = None) -> int | None:
        """Rows.

        Args:
            folder: Folder of the data.
            rows: Number of rows.
        """
        return rows

    what = replace(recipe(), name="rows", read=read, published={"others": {"accuracy": 0.5}})
    found, *_ = ran("--rows 7 --validation_share 0.25", what)
    assert (found.name, found.read(Path()), found.validation_share) == ("rows, rows 7", 7, 0.25)
    assert found.published == what.published
    found, *_ = ran("--split_column fold", what)
    assert (found.name, found.split_column, found.published) == ("rows, fold", "fold", {})
    found, *_ = ran("", what)
    assert found == what
    given = what.read_with(rows=3)
    found, *_ = ran("--epochs 2", given)
    assert found.read(Path()) == 3 and found.name == "rows, rows 3"


def test_a_function_is_a_command_too(monkeypatch, capsys):
    def main(
        *, seeds: tuple[int, ...] = (0,), index: str = "none", where: list[str] | None = None, fail: bool = False
    ) -> None:
        if fail:
            raise ValueError("No\nluck.")
        print(seeds, index, where)

    monkeypatch.setattr("sys.argv", ["script.py", "--seeds", "1,2"])
    command(main)
    assert capsys.readouterr().out.startswith("(1, 2) none None")
    monkeypatch.setattr("sys.argv", "script.py --index i --where a=1 --where b=2".split())
    command(main)
    assert capsys.readouterr().out.startswith("(0,) i ['a=1', 'b=2']")
    monkeypatch.setattr("sys.argv", ["script.py", "--fail", "true"])
    with pytest.raises(SystemExit):
        command(main)
    assert capsys.readouterr().err == "script.py: No luck.\n"


def test_a_recipe_of_several_inputs_has_their_options(ran):
    several = Recipe(
        name="pairs",
        place="pairs",
        source="this test",
        spec=metatx.TaskSpec(
            modality={"photo": "image", "facts": "tabular"},
            tokenizer_options={"facts": {"bins": 8}},
            fusion="mid",
            fusion_options={"at": 2, "dropout": 0.3},
        ),
        settings=metatx.TrainingSettings(epochs=1),
    )
    words = "--fusion.dropout 0.1 --main facts --tokenizer.photo.image_size 64 --tokenizer.facts.hide 0.5"
    found, _, _ = ran(words, several)
    assert found.spec.tokenizer_options == {"facts": {"bins": 8, "hide": 0.5}, "photo": {"image_size": 64}}
    assert (found.spec.fusion, found.spec.fusion_options) == ("mid", {"at": 2, "dropout": 0.1})
    assert found.arguments(metatx.load_backbone("nano"))["main"] == "facts"
    other, _, _ = ran("--fusion late --fusion.product 8", several)
    assert (other.spec.fusion, other.spec.fusion_options) == ("late", {"product": 8})
