"""Alignments that commands name: those with the anchor of another model, and encoders that are none of theirs."""

import csv
import io
import shlex

import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.cli import main
from metatx.pretraining.encoders import FrozenEncoder, sentence_encoder
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


@pytest.fixture(scope="module")
def called(folder):
    """The same, of which the anchor is called caption, a name that no tokenizer has."""
    encoder = sentence_encoder(folder / "bert")
    alignment = metatx.Alignment(small_backbone(), size=16).add("image", coloured(2)["image"])
    alignment.anchor("caption", encoder).save_pretrained(folder / "called", about="random")
    line = f"--alignment {folder}/called --anchor.caption {folder}/bert"
    main(
        shlex.split(f"index {folder}/t.csv {line} --input file=image --input name=caption --out {folder}/called.index")
    )
    return line


def test_an_anchor_with_a_name_of_its_own_is_searched_and_shown(folder, called, capsys):
    capsys.readouterr()
    search = f"search {folder}/called.index 'blue photo' {called} --among caption -k 1"
    main(shlex.split(search))
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["name"], row["modality"]) == ("blue photo", "caption")
    main(shlex.split(f"{search} --out {folder}/hits.html"))
    assert "<b>blue photo</b>" in (folder / "hits.html").read_text()
    main(shlex.split(f"picture {folder}/called.index --out {folder}/map.html"))
    assert "blue photo" in (folder / "map.html").read_text()


def test_an_anchor_with_a_name_of_its_own_is_recalled(folder, called, capsys):
    line = f"recall {folder}/t.csv {called} --input file=image --input name=caption --no-baseline"
    main(shlex.split(line))
    assert "file (2) -> name (2)" in capsys.readouterr().out


def test_an_index_of_an_anchor_says_how_it_is_opened(folder, called):
    index = metatx.Index.open(folder / "called.index")
    with pytest.raises(
        ValueError, match="caption of .* is an anchor .*give its encoder.* index that alignment"
    ) as told:
        index.search(["blue photo"], modality="caption")
    assert "--anchor.caption FOLDER" in str(told.value) and "\n" not in str(told.value)
    opened = metatx.Alignment.from_pretrained(
        folder / "called", encoders={"caption": sentence_encoder(folder / "bert")}
    )
    assert len(metatx.Index.open(folder / "called.index", opened).search(["x"], modality="caption")[0]) == 2


def test_an_encoder_that_does_not_say_what_it_reads_is_embedded_but_not_guessed(folder, tmp_path):
    encoder = FrozenEncoder(function=lambda words: [[1.0, len(w)] for w in words], dim=2, fingerprint="1", name="long")
    alignment = metatx.Alignment(small_backbone(), size=2).anchor("words", encoder, mapped=False)
    with pytest.raises(ValueError, match="words is an anchor of long, which does not say what kind of samples"):
        alignment.kind("words")
    index = metatx.Index.build(tmp_path / "i", alignment, {"words": "name"}, {"name": ["a", "abc", "abcdef"]})
    assert index.search(["b"], modality="words", k=1)[0][0].item == 0
    index.picture(tmp_path / "map.html")
