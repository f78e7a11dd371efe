"""Alignments that commands name: those with the anchor of another model, and encoders that are none of theirs."""

import csv
import io
import shlex

import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.cli import main
from metatx.pretraining.encoders import sentence_encoder
from tests.pairs import coloured, small_backbone
from tests.pretraining.anchors import bert_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures with names, a text encoder, and an alignment of which it is the anchor."""
    folder = tmp_path_factory.mktemp("anchored")
    pictures = coloured(2)["image"]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}.png")
    table = pd.DataFrame({"file": ["0.png", "1.png"], "name": ["red photo", "blue photo"]})
    table.to_csv(folder / "t.csv", index=False)
    encoder = sentence_encoder(bert_folder(folder / "bert"))
    alignment = metatx.Alignment(small_backbone(), size=16).add("image", pictures).anchor("text", encoder)
    alignment.save_pretrained(folder / "aligned", about="random")
    return folder


def test_an_anchor_indexes_and_searches(folder, capsys):
    line = f"--alignment {folder}/aligned --anchor.text {folder}/bert"
    main(shlex.split(f"index {folder}/t.csv {line} --input file=image --input name=text --out {folder}/i"))
    capsys.readouterr()
    main(shlex.split(f"search {folder}/i 'blue photo' {line} --modality text --among text -k 1"))
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["name"] == "blue photo"
    assert float(row["score"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--alignment {0}/aligned", "is an anchor of another model, bert"),
        ("--alignment {0}/aligned --anchor.image {0}/bert --anchor.text {0}/bert", "Unknown anchor of"),
        ("--alignment nano --anchor.text {0}/bert", "Unknown anchor of nano in --anchor 'text'. Choices: none."),
    ],
)
def test_encoders_that_are_no_anchors_are_named(folder, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(f"index {folder}/t.csv {options.format(folder)} --input file=image --out {tmp_path}/i"))
    err = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in err
    assert err.count("\n") == 1
