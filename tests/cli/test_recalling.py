"""``metatx recall``: its table and its numbers, and lines that cannot be answered."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from metatx.cli import main
from tests.pairs import COLOURS, colour_alignment, coloured, small_backbone

INPUTS = "--input photo=image:file --input caption=text:first,second"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures with two captions each, of which one is missing, and an alignment without training."""
    folder = tmp_path_factory.mktemp("recall")
    samples = coloured(36)
    rows = []
    for number, picture in enumerate(samples["image"]):
        Image.fromarray(picture).save(folder / f"{number}.png")
        name = list(COLOURS)[int(np.argmax([name in samples["text"][number] for name in COLOURS]))]
        split = ("train", "train", "test")[number % 3]
        rows.append({"file": f"{number}.png", "first": f"all is {name}", "second": f"so {name}", "split": split})
    rows[2]["second"] = None
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    alignment = colour_alignment(small_backbone(), {**samples, "text": [row["first"] for row in rows]})
    alignment.save_pretrained(folder / "aligned", about="random")
    return folder


def _fails(line, capsys):
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(line))
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and not out
    assert err.startswith("metatx: ") and err.count("\n") == 1
    return err


def test_the_table_and_the_file_say_the_same(folder, tmp_path, capsys) -> None:
    main(shlex.split(f"recall {folder}/pairs.csv --alignment {folder}/aligned {INPUTS} --out {tmp_path}/r"))
    out = capsys.readouterr().out
    metrics = json.loads((tmp_path / "r/metrics.json").read_text())
    assert "photo (12) -> caption (23)" in out and "caption (23) -> photo (12)" in out, "an empty cell is no caption"
    way = metrics["photo_to_caption"]
    assert way["queries"] == 12 and way["answers"] == 23 and metrics["alignment"] == f"{folder}/aligned"
    for line in ("aligned", "untrained", "CCA, classical features", "CCA, frozen features", "chance"):
        assert f"{way[line]['mrr']:.4f}" in next(row for row in out.splitlines() if row.startswith(f"  {line} "))


def test_without_a_train_split_there_is_no_cca(folder, tmp_path, capsys) -> None:
    table = pd.read_csv(folder / "pairs.csv").query("split == 'test'").drop(columns="split")
    table["file"] = [str(folder / name) for name in table["file"]]
    table.to_csv(tmp_path / "test.csv", index=False)
    main(shlex.split(f"recall {tmp_path}/test.csv --alignment {folder}/aligned {INPUTS}"))
    assert "CCA" not in capsys.readouterr().out


def test_lines_that_cannot_be_answered(folder, tmp_path, capsys) -> None:
    data = f"recall {folder}/pairs.csv --alignment {folder}/aligned"
    assert "two inputs or more" in _fails(f"{data} --input photo=image:file", capsys)
    assert "colunm" in _fails(f"{data} --input photo=image:file --input caption=text:colunm", capsys)
    assert "audio" in _fails(f"{data} --input photo=image:file --input voice=audio:first", capsys)
    assert "missing.csv does not exist" in _fails(
        f"recall {tmp_path}/missing.csv --alignment {folder}/aligned {INPUTS}", capsys
    )
    assert "no aligned modalities" in _fails(f"recall {folder}/pairs.csv --alignment {tmp_path} {INPUTS}", capsys)
    broken = pd.read_csv(folder / "pairs.csv")
    broken.loc[5, "file"] = "gone.png"
    broken["file"] = [str(folder / name) for name in broken["file"]]
    broken.to_csv(tmp_path / "broken.csv", index=False)
    line = f"recall {tmp_path}/broken.csv --alignment {folder}/aligned {INPUTS}"
    told = _fails(line, capsys)
    assert "row 6, photo: " in told and "gone.png" in told and "(--skip-bad-samples)" in told


def test_bad_samples_are_left_out_where_that_is_asked_for(folder, tmp_path, capsys, caplog) -> None:
    table = pd.read_csv(folder / "pairs.csv")
    table.loc[[0, 5], "file"] = "gone.png"
    table["file"] = [str(folder / name) for name in table["file"]]
    table.to_csv(tmp_path / "broken.csv", index=False)
    line = f"recall {tmp_path}/broken.csv --alignment {folder}/aligned {INPUTS} --skip-bad-samples"
    with caplog.at_level("INFO", logger="metatx"):
        main(shlex.split(line))
    assert "photo (11) -> caption (23)" in capsys.readouterr().out, "the captions stay: other pictures may be asked"
    told = [message for message in caplog.messages if "cannot be used" in message]
    assert len(told) == 2 and "row 6, photo: " in told[0] and "row 1, photo: " in told[1], "of the test and train split"
