"""X-ray: photometric interpretation, MedMNIST's files as they are, and what shares infrared's ground."""

import json

import numpy as np
import pytest
import torch

from metatx import SampleError, cli, create
from metatx.data.tables import read_splits
from metatx.tokenizers.xray import XRayTokenizer, read_medmnist

RNG = np.random.default_rng(0)
EIGHT = RNG.integers(0, 256, (28, 28), dtype=np.uint8)


def tokenizer(nano, **options) -> XRayTokenizer:
    return create("tokenizers", "xray", nano.dim, stem=nano.stem, **{"image_size": 32, **options})


def medmnist(path, count: int = 12, **changes):
    """A file as medmnist.com has them, whose second class is bright."""
    arrays = {}
    for split in ("train", "val", "test"):
        labels = np.arange(count, dtype=np.uint8)[:, None] % 2
        arrays[f"{split}_images"] = (RNG.integers(0, 120, (count, 28, 28)) + 120 * labels[..., None]).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez_compressed(path, **{**arrays, **changes})
    return path


def test_monochrome1_is_the_inverse(nano) -> None:
    samples = [EIGHT, 255 - EIGHT, RNG.integers(50, 200, (28, 28), dtype=np.uint8)]
    bright = tokenizer(nano, percentiles=[0, 100]).learn(samples)
    dark = tokenizer(nano, percentiles=[0, 100], photometric="MONOCHROME1").learn([255 - sample for sample in samples])
    for sample in samples:
        one, two = bright.encode(sample)["image"].float(), dark.encode(255 - sample)["image"].float()
        torch.testing.assert_close(one, two, atol=1e-3, rtol=0)
        np.testing.assert_allclose(bright.baseline_features(sample), dark.baseline_features(255 - sample), atol=1e-3)
    assert not torch.equal(bright.encode(EIGHT)["image"], dark.encode(EIGHT)["image"])
    with pytest.raises(ValueError, match="expected one of 'MONOCHROME1', 'MONOCHROME2'"):
        tokenizer(nano, photometric="RGB")


def test_sixteen_bits_give_the_tokens_of_eight(nano) -> None:
    reads = tokenizer(nano).learn([EIGHT])
    tokens = [
        reads({"image": reads.encode(sample)["image"][None]}) for sample in (EIGHT, EIGHT.astype(np.uint16) * 257)
    ]
    torch.testing.assert_close(tokens[0].embeddings, tokens[1].embeddings, atol=1e-3, rtol=0)


def test_left_stays_left(nano) -> None:
    """A body that is bright on one side only, however it is varied."""
    sided = np.zeros((28, 28), np.uint8)
    sided[:, :14] = 255
    reads = tokenizer(nano, augment="strong").learn([sided])
    encoded = reads.encode(sided)
    for seed in range(20):
        torch.manual_seed(seed)
        image = reads.augment(encoded)["image"].float()
        assert image[..., :8].mean() > image[..., -8:].mean() + 0.5


def test_medmnist_is_read_as_it_is(tmp_path) -> None:
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    splits = read_medmnist(path)
    assert {name: len(part) for name, part in splits.items()} == {"train": 12, "validation": 12, "test": 12}
    with np.load(path) as arrays:
        np.testing.assert_array_equal(splits["test"].inputs[3], arrays["test_images"][3])
    assert splits["train"].targets == [0, 1] * 6
    assert read_splits(path, (), None, XRayTokenizer.readers)["train"].source == str(path)


def test_train_and_predict_a_medmnist_file(tmp_path, capsys) -> None:
    path, out = medmnist(tmp_path / "pneumoniamnist.npz", 24), tmp_path / "run"
    words = ["--modality", "xray", "--epochs", "3", "--lr", "0.003", "--tokenizer.image_size", "16"]
    cli.main(["train", str(path), *words, "--out", str(out)])
    found = json.loads((out / "metrics.json").read_text())
    assert found["test"]["accuracy"] == 1
    assert found["test"]["auroc"] == pytest.approx(1, abs=2**-23), "trapezoids are added in float32"
    cli.main(["evaluate", str(out / "task"), str(path)])
    assert "accuracy 1\n" in capsys.readouterr().out
    cli.main(["predict", str(out / "task"), str(path), "--out", str(tmp_path / "rows.csv")])
    rows = (tmp_path / "rows.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["0", "1"] * 12


def test_chestmnist_s_labels_are_several_of_a_picture(tmp_path) -> None:
    flags = np.zeros((12, 14), np.uint8)
    flags[::2, 3] = flags[1::2, 11] = flags[:3, 0] = 1
    labels = {f"{split}_labels": flags for split in ("train", "val", "test")}
    path = medmnist(tmp_path / "chestmnist.npz", **labels)
    assert read_medmnist(path)["validation"].targets[:4] == [["0", "3"], ["0", "11"], ["0", "3"], ["11"]]
    words = ["--modality", "xray", "--epochs", "1", "--tokenizer.image_size", "16", "--no-baseline"]
    cli.main(["train", str(path), *words, "--out", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "task" / "config.json").read_text())["head"]["name"] == "multilabel"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((12, 28, 28, 28), np.uint8)}, r"expected \(B, H, W\), images of two dimensions"),
        ({"train_labels": np.full((12, 14), 2)}, r"train_labels are \(12, 14\); expected one, or zeros and ones"),
        ({"val_labels": np.zeros((3, 1), np.uint8)}, r"val_labels are \(3, 1\); expected one, or .*, for each of 12"),
    ],
)
def test_other_arrays_are_refused(tmp_path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_medmnist(medmnist(tmp_path / "case.npz", **changes))


def test_files_that_are_no_medmnist_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "other.npz", cube=np.zeros(3))
    with pytest.raises(ValueError, match="other.npz holds cube; a MedMNIST file holds train_images"):
        read_medmnist(tmp_path / "other.npz")
    whole = medmnist(tmp_path / "whole.npz").read_bytes()
    for name, content in (("empty", b""), ("cut", whole[: len(whole) // 2]), ("text", b"no archive")):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.npz is (empty|damaged, or no npz file)"):
            read_medmnist(path)


def test_bad_pictures_are_refused(nano, tmp_path) -> None:
    reads = tokenizer(nano).learn([EIGHT])
    (tmp_path / "sound.png").write_bytes(b"RIFF")
    for sample, message in (
        (np.full((5, 5), np.nan), "holds NaN or infinite values"),
        (str(tmp_path / "sound.png"), "sound.png is no image"),
        (str(tmp_path), "is a folder"),
        (np.zeros((3, 3, 3, 3)), r"image is an array \(3, 3, 3, 3\)"),
        (np.zeros((0, 3)), "none of them 0"),
    ):
        with pytest.raises(SampleError, match=message):
            reads.encode(sample)


def test_one_picture_is_enough_to_fit(nano) -> None:
    reads = tokenizer(nano).learn([EIGHT])
    assert reads.encode(EIGHT)["image"].max() == 1
