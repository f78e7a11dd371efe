"""Recall of an alignment beside chance, the untrained backbone and CCA."""

import numpy as np
import pytest

from metatx.errors import SampleError
from metatx.pretraining.encoders import FrozenEncoder
from metatx.retrieval.recall import Paired, recall
from tests.pairs import COLOURS, colour_alignment, coloured, small_backbone

SIDES = ("image", "text")


def paired(count: int, seed: int) -> Paired:
    """Pictures of different colours; each colour has two captions."""
    samples = coloured(count, seed)
    captions = [text for name in COLOURS for text in (f"a photo of something {name}", f"all is {name}")]
    colours = [list(COLOURS).index(text.rsplit(" ", 1)[1]) for text in samples["text"]]
    return Paired(
        {"image": samples["image"], "text": captions}, {"image": colours, "text": np.repeat(range(6), 2).tolist()}
    )


@pytest.fixture(scope="module")
def aligned():
    samples = coloured(24)
    samples["text"] += [f"all is {name}" for name in COLOURS]
    return colour_alignment(small_backbone(), samples)


@pytest.fixture(scope="module")
def report(aligned):
    return recall(aligned, paired(30, 1), train=paired(60, 0), validation=paired(20, 2))


def test_each_way_has_all_lines(report) -> None:
    assert list(report.lines) == [SIDES, SIDES[::-1]]
    for lines in report.lines.values():
        assert list(lines) == ["aligned", "untrained", "CCA, classical features", "CCA, frozen features", "chance"]
        for values in lines.values():
            assert list(values) == ["recall@1", "recall@5", "recall@10", "mrr", "median_rank"]


def test_cca_finds_what_there_is_to_find(report) -> None:
    for lines in report.lines.values():
        assert lines["CCA, classical features"]["recall@1"] > 3 * lines["chance"]["recall@1"]


def test_chance_knows_how_many_partners_there_are(report) -> None:
    assert report.lines[SIDES]["chance"]["recall@1"] == pytest.approx(2 / 12)


def test_the_table_and_the_json_say_the_same(report) -> None:
    values = report.as_json()["image_to_text"]
    assert values["queries"] == 30 and values["answers"] == 12
    line = next(row for row in str(report).splitlines() if row.startswith("  aligned"))
    assert f"{values['aligned']['recall@1']:.4f}" in line
    assert "image (30) -> text (12)" in str(report)


def test_the_aligned_line_is_that_of_the_alignment(aligned) -> None:
    """A tower whose vectors are put in order finds everything."""
    samples = paired(30, 1)
    same = recall(
        aligned,
        Paired({"left": samples.samples["text"], "right": samples.samples["text"]}),
        modalities={"left": "text", "right": "text"},
        baseline=False,
    )
    assert same.lines["left", "right"]["aligned"]["recall@1"] == 1


def test_the_untrained_line_does_not_depend_on_training(report) -> None:
    samples = coloured(24)
    samples["text"] += [f"all is {name}" for name in COLOURS]
    other = colour_alignment(small_backbone(), samples)
    for weight in other.parameters():
        weight.data.mul_(-2.0)
    again = recall(other, paired(30, 1))
    assert again.lines[SIDES]["untrained"] == report.lines[SIDES]["untrained"]
    assert "CCA, classical features" not in again.lines[SIDES], "there is nothing to learn from"


def test_an_anchor_of_another_model_is_its_own_features() -> None:
    samples = coloured(24)
    alignment = colour_alignment(small_backbone(), samples)
    encoder = FrozenEncoder(
        function=lambda numbers: np.eye(6)[numbers], dim=6, fingerprint="eye", name="numbers of colours"
    )
    alignment.anchor("number", encoder)

    def pairs(count: int, seed: int) -> Paired:
        drawn = coloured(count, seed)
        colours = [list(COLOURS).index(text.rsplit(" ", 1)[1]) for text in drawn["text"]]
        return Paired({"image": drawn["image"], "number": range(6)}, {"image": colours, "number": range(6)})

    lines = recall(alignment, pairs(30, 1), train=pairs(60, 0)).lines["image", "number"]
    assert "untrained" not in lines, "widths differ"
    assert lines["CCA, frozen features"]["recall@1"] > 0.8


def test_bad_input_is_named(aligned) -> None:
    samples = coloured(3)
    with pytest.raises(SampleError, match="row 2, text: "):
        recall(aligned, {"image": samples["image"], "text": ["red", "", "blue"]})
    with pytest.raises(ValueError, match="audio"):
        recall(aligned, {"image": samples["image"], "audio": samples["text"]})
    with pytest.raises(ValueError, match="two modalities or more"):
        recall(aligned, {"image": samples["image"]})
    with pytest.raises(ValueError, match="text has 3 samples and 2 numbers"):
        Paired(samples, {"text": [0, 1]})
    with pytest.raises(ValueError, match="image has 0 samples"):
        Paired({"image": [], "text": []})
