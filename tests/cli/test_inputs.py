"""Tasks with several inputs on the command line: trained, saved, asked with inputs that are missing; and bad lines."""

import json
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import metatx
from metatx.cli import main
from tests.own_data.layouts import lines_told

told = pytest.fixture(lines_told)

SMALL = "--epochs 1 --no-baseline --tokenizer.front.image_size 16 --tokenizer.facts.bins 4"
INPUTS = "--input front,back=image --input facts=tabular:rooms,area"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A table of two pictures and a row a sample, and a task that was trained on it."""
    folder = tmp_path_factory.mktemp("houses")
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    rows = []
    for row in range(24):
        for side in ("front", "back"):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"pictures/{row}_{side}.png")
        names = {side: f"pictures/{row}_{side}.png" for side in ("front", "back")}
        rows.append({"number": row, **names, "rooms": row % 4, "area": 1e5 + 10.0 * row, "price": row / 7})
    table = pd.DataFrame(rows)
    table.loc[3, "back"] = None
    table.to_csv(folder / "t.csv", index=False)
    table.drop(columns=["front", "back"]).to_csv(folder / "facts.csv", index=False)
    _main(f"train {folder}/t.csv {INPUTS} --target price {SMALL} --fusion.dropout 0.2 --out {folder}/out")
    return folder


def _main(line):
    main(shlex.split(line))


def _fails(line, capsys):
    with pytest.raises(SystemExit) as caught:
        _main(line)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and not out
    assert err.startswith("metatx: ") and err.count("\n") == 1
    return err


def test_the_task_holds_what_the_line_said(run):
    task = metatx.Task.from_pretrained(run / "out/task")
    assert task.inputs == ["front", "back", "rooms", "area"] and task.fusion.name == "late"
    assert task.fusion.dropout == 0.2 and task.tokenizer.tokenizer("facts").options["bins"] == 4
    assert task.tokenizer.tokenizer("back") is task.tokenizer.tokenizer("front")


def test_config_runs_it_again(run, capsys):
    saved = yaml.safe_load((run / "out/config.yaml").read_text())
    assert saved["input"] == ["front,back=image", "facts=tabular:rooms,area"]
    _main(f"train --config {run}/out/config.yaml --out {run}/again")
    first, second = (json.loads((run / name / "metrics.json").read_text()) for name in ("out", "again"))
    assert first["test"] == second["test"]


def test_info_and_card_show_the_inputs(run, capsys):
    _main(f"info {run}/out/task")
    shown = capsys.readouterr().out
    assert "back       image: back, the tokenizer of front" in shown and "facts      tabular: rooms, area" in shown
    assert 'fusion     late {"product": 0, "dropout": 0.2' in shown
    card = (run / "out/task/README.md").read_text()
    assert "| facts | tabular | rooms, area |" in card and "Fusion: late" in card
    assert "- image\n- tabular\n" in card


def test_a_table_without_an_input_is_answered_with_the_others(run, capsys, told):
    _main(f"predict {run}/out/task {run}/facts.csv --out {run}/answers.csv")
    assert len(pd.read_csv(run / "answers.csv")) == 24
    assert [line for line in told if "missing" in line] == [
        "Inputs front and back are missing: the table has no such columns. The others are read."
    ]
    _main(f"evaluate {run}/out/task {run}/facts.csv")
    assert "r2 " in capsys.readouterr().out
    _main(f"embed {run}/out/task {run}/facts.csv --out {run}/vectors.npy")
    assert np.load(run / "vectors.npy").shape == (24, 192)


def test_the_guess_and_the_line_it_tells_train_the_same_task(run, told):
    small = "--epochs 1 --no-baseline --tokenizer.front.image_size 16 --target price"
    _main(f"train {run}/t.csv --modality auto {small} --out {run}/guessed")
    assert any("number" in line for line in told if line.startswith("Left out"))
    line = next(line for line in told if "--modality auto:" in line).partition("auto: ")[2]
    _main(f"train {run}/t.csv {line} {small} --out {run}/said")
    guessed, said = (json.loads((run / name / "task/config.json").read_text()) for name in ("guessed", "said"))
    assert guessed == said
    first, second = (json.loads((run / name / "metrics.json").read_text()) for name in ("guessed", "said"))
    assert first["test"] == second["test"]


def test_a_file_that_is_not_there_is_a_bad_sample_of_its_row(run, tmp_path, capsys):
    shutil.copytree(run / "pictures", tmp_path / "pictures")
    (tmp_path / "pictures/5_back.png").unlink()
    shutil.copy(run / "t.csv", tmp_path / "t.csv")
    assert "row 6: input back: " in _fails(f"predict {run}/out/task {tmp_path}/t.csv", capsys)
    _main(f"predict {run}/out/task {tmp_path}/t.csv --skip-bad-samples --out {tmp_path}/answers.csv")
    errors = pd.read_csv(tmp_path / "answers.csv").error
    assert errors.notna().sum() == 1 and "5_back.png" in errors[5]


def test_a_row_without_any_input_is_a_bad_sample(run, capsys):
    table = pd.read_csv(run / "t.csv")
    table.loc[1, ["front", "back", "rooms", "area"]] = None
    table.to_csv(run / "blank.csv", index=False)
    assert "row 2: all inputs are missing" in _fails(f"predict {run}/out/task {run}/blank.csv", capsys)


def test_words_in_a_column_of_pictures_are_told_with_their_row(run, capsys):
    table = pd.read_csv(run / "t.csv")
    table.loc[[2, 4], "front"] = "a red house"
    table.to_csv(run / "mixed.csv", index=False)
    said = _fails(f"train {run}/mixed.csv {INPUTS} --target price {SMALL} --out {run}/never", capsys)
    assert "row 3: input front: " in said and "a red house" in said and not (run / "never").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--input front=imag", "Unknown tokenizer 'imag'. Did you mean 'image'?"),
        ("--input front=image --input Front=image:back", "Two inputs are called front and Front"),
        ("--input front=image --input front=text", "Two inputs are called front and front"),
        ("--input front=image --input again=image:front", "Column front is read by front and by again"),
        ("--input front=image --input price=tabular", "Input price reads price, which is the target"),
        ("--input a=image:front,back --input facts=tabular:rooms", "--input a,a_2=image:front,back"),
        ("--modality image --inputs front,back", "image reads one. Make each an input, with one tokenizer for all"),
        ("--input front=image --input sky=image", "Unknown column of input sky: 'sky'"),
        ("--input front=image --modality image", "leave --modality out"),
        ("--input front=image --inputs front", "leave --inputs out"),
        ("--input front=image --fusion early", "--fusion early: the task has one input"),
        ("--modality image --inputs front --main front", "--main: the task has one input"),
        ("--modality tabular --fusion.dropout 0.1", "--fusion.dropout: the task has one input"),
        (f"{INPUTS} --fusion erly", "Unknown fusion 'erly'. Did you mean 'early'?"),
        (f"{INPUTS} --fusion.drop 0.1", "Unknown option of the late fusion 'drop'. Did you mean 'dropout'?"),
        (f"{INPUTS} --fusion.dropout much", "dropout is 'much'; expected a number"),
        (f"{INPUTS} --main side", "Unknown main input 'side'"),
        (f"{INPUTS} --tokenizer.side.bins 4", "Unknown input in the options of tokenizers 'side'"),
        (f"{INPUTS} --tokenizer.bins 4", "--tokenizer.bins names no input; write --tokenizer.front.bins"),
        ("--input front", "expected NAME=MODALITY"),
        ("--input", "--input"),
        ("", "--modality image, or --input NAME=MODALITY"),
    ],
)
def test_a_bad_line_is_one_line_and_nothing_is_written(run, capsys, options, said):
    assert said in _fails(f"train {run}/t.csv --target price {options} --out {run}/none", capsys)
    assert not (run / "none").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate {0}/out/task {0}/t.csv --missing ''", "--missing is '', of which a name is empty; give names"),
        ("evaluate {0}/out/task {0}/t.csv --missing front,", "--missing is 'front,', of which a name is empty"),
        ("predict {0}/out/task {0}/t.csv --keep ''", "--keep is '', of which a name is empty"),
        ("predict {0}/out/task {0}/t.csv --others nano", "--others is 'nano'; expected NAME=FILE"),
    ],
)
def test_lists_that_name_nothing(run, capsys, command, said):
    assert said in _fails(command.format(run), capsys)


def test_a_file_is_told_about_once_where_the_inputs_are_guessed(run, told):
    pd.read_csv(run / "t.csv").to_csv(run / "semicolons.csv", index=False, sep=";")
    small = "--epochs 1 --no-baseline --tokenizer.front.image_size 16 --target price"
    _main(f"train {run}/semicolons.csv --modality auto {small} --out {run}/once")
    assert sum("is read with ';'" in line for line in told) == 1


def test_a_sole_input_has_the_baselines_of_its_modality(run):
    small = "--epochs 1 --target price"
    _main(f"train {run}/t.csv --input facts=tabular:rooms,area {small} --out {run}/sole")
    _main(f"train {run}/t.csv --modality tabular --inputs rooms,area {small} --out {run}/plain")
    sole, plain = (json.loads((run / name / "task/config.json").read_text())["metrics"] for name in ("sole", "plain"))
    assert list(sole) == list(plain) and len(sole) > 2
    assert all(sole[name] == plain[name] for name in sole if name != "metatx")


def test_one_file_is_no_sample_of_several_inputs(run, capsys):
    assert "is one file, and the task reads several inputs" in _fails(
        f"predict {run}/out/task {run}/pictures/0_front.png", capsys
    )


def test_the_help_of_a_fusion_shows_its_options(capsys):
    for name, options in {"mid": ["--fusion.at AT", "--fusion.dropout DROPOUT"], "late": ["--fusion.product"]}.items():
        with pytest.raises(SystemExit):
            main(["train", "--fusion", name, "--help"])
        shown = capsys.readouterr().out
        assert f"options of --fusion {name}:" in shown and all(option in shown for option in options)
        assert "fusion_options" not in shown and "fusion-options" not in shown


def test_list_names_the_fusions(capsys):
    _main("list fusions")
    shown = capsys.readouterr().out
    assert shown.startswith("fusions:\n") and all(f"\n  {name} " in shown for name in metatx.names("fusions"))
