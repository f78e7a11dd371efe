"""An input that another backbone reads first, on the command line."""

import shlex

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.cli import main

LINE = "--input photo=image --input facts=tabular:rooms --target price --epochs 1 --no-baseline"
SMALL = "--tokenizer.photo.image_size 16"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of a picture and a number a row."""
    folder = tmp_path_factory.mktemp("houses")
    rng = np.random.default_rng(0)
    for row in range(16):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{row}.png")
    rows = [{"photo": f"{row}.png", "rooms": row % 4, "price": row / 7} for row in range(16)]
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return folder


def _main(line):
    main(shlex.split(line))


@pytest.mark.parametrize(
    "way",
    [
        "--through.photo.backbone nano --through.photo.pretrained false --through.photo.bridge grid "
        "--through.photo.side 2",
        """--through.photo '{"backbone": "nano", "pretrained": false, "bridge": "grid", "side": 2}'""",
    ],
)
def test_a_task_is_trained_described_and_asked(folder, way, tmp_path, capsys):
    _main(f"train {folder}/t.csv {LINE} {SMALL} {way} --out {tmp_path}/run")
    task = metatx.Task.from_pretrained(tmp_path / "run/task")
    through = task.tokenizer.through("photo")
    assert (through.bridge.name, through.bridge.side) == ("grid", 2)
    assert not through.other.pretrained
    frozen = task.backbone.num_parameters + through.other.num_parameters
    assert f" trained on {frozen:,} frozen ones in " in capsys.readouterr().out
    _main(f"info {tmp_path}/run/task")
    said = f"read first by backbone nano with random weights (fingerprint {through.other.fingerprint[:16]})"
    assert said in capsys.readouterr().out
    assert said.removeprefix("read first ") in (tmp_path / "run/task/README.md").read_text()
    _main(f"predict {tmp_path}/run/task {folder}/t.csv --out {tmp_path}/p.csv")
    assert len(pd.read_csv(tmp_path / "p.csv")) == 16


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{LINE} --through.foto.backbone nano", "Unknown input in --through 'foto'. Did you mean 'photo'?"),
        ("--modality image --target price --through.photo.backbone nano", "--through names an input"),
        (f"{LINE} --through.photo.bridge mlp", "through of input photo is"),
        (f"{LINE} --through.backbone nano", "--through.backbone names no input; write --through.photo.backbone, or of"),
        (LINE + """ --through '{"backbone": "nano"}'""", "--through.backbone names no input; write --through.photo.b"),
        (LINE + """ --through '{"photo": "nano"}'""", "or --through.photo.backbone nano."),
        (f"{LINE} --through.photo.backbone nano --through.photo.chekpoint x", "Did you mean 'checkpoint'?"),
        (f"{LINE} --through.photo.backbone nanno", "Unknown backbone 'nanno'"),
        (f"{LINE} --through.photo.backbone nano --through.photo.side 2", "Unknown option of the linear bridge 'side'"),
    ],
)
def test_mistakes_are_one_line(folder, line, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        _main(f"train {folder}/t.csv {line} --out {tmp_path}/run")
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and not out
    assert said in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_list_names_the_bridges(capsys):
    _main("list bridges")
    shown = capsys.readouterr().out
    assert shown.startswith("bridges:\n") and all(f"\n  {name} " in shown for name in metatx.names("bridges"))
