"""Hyperspectral: scenes as they are published, statistics of training pixels alone, groups of bands in their place."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from metatx import SampleError, cli, create
from metatx.reading.hyperspectral import Pixel, Pixels, read_cube, scene_of
from metatx.tokenizers.hyperspectral import HyperspectralTokenizer

RNG = np.random.default_rng(0)
BANDS = 20
CUBE = RNG.normal(1000, 200, (9, 12, BANDS)).astype(np.uint16)


def tokenizer(**options) -> HyperspectralTokenizer:
    torch.manual_seed(0)
    return create("tokenizers", "hyperspectral", 48, **options)


def scene(size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A cube whose left half (label 1) is darker than its right half (label 2); the first row has no label."""
    truth = np.ones((size, size), np.uint8)
    truth[:, size // 2 :] = 2
    cube = RNG.normal(1000, 50, (size, size, BANDS)) + 500.0 * truth[..., None]
    truth[0] = 0
    return cube.astype(np.uint16), truth


def halves(truth: np.ndarray) -> dict[str, np.ndarray]:
    """The mask's even rows, and its odd ones."""
    even = (np.arange(len(truth)) % 2 == 0)[:, None]
    return {"TR": truth * even, "TE": truth * ~even}


# Patches and tokens


def test_a_patch_is_mirrored_at_the_border() -> None:
    np.testing.assert_array_equal(Pixel(CUBE, 4, 5).patch(3), CUBE[3:6, 4:7])
    np.testing.assert_array_equal(Pixel(CUBE, 4, 5).patch(1), CUBE[4:5, 5:6])
    padded = np.pad(CUBE, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    for row, column in ((0, 0), (8, 11), (0, 11), (7, 1)):
        found = Pixel(CUBE, row, column).patch(5)
        np.testing.assert_array_equal(found, padded[row : row + 5, column : column + 5])


@settings(max_examples=60, deadline=None)
@given(bands=st.integers(1, 60), group=st.integers(1, 20), stride=st.integers(1, 20))
def test_every_band_is_in_a_group(bands: int, group: int, stride: int) -> None:
    if stride > group or bands < group:
        with pytest.raises(ValueError, match="stride is|fewer than group_size"):
            tokenizer(group_size=group, stride=stride).restore({"num_bands": bands})
        return
    groups = tokenizer(group_size=group, stride=stride).restore({"num_bands": bands}).groups
    assert set(groups.flatten().tolist()) == set(range(bands))
    assert (groups.diff(dim=1) == 1).all() and groups.shape[1] == group
    assert (groups[:, 0].diff() > 0).all() and (groups[:, 0].diff() <= stride).all()


def test_tokens_are_maps_of_their_group_plus_its_place() -> None:
    reads = tokenizer(group_size=6, stride=4, patch_size=3).learn(Pixels(CUBE, np.argwhere(CUBE[..., 0] > 0)))
    encoded = reads.encode(Pixel(CUBE, 3, 4))
    with torch.no_grad():
        tokens = reads({"patch": encoded["patch"][None]})[0]
        assert tokens.shape == (6, 48)  # starts 0, 4, 8, 12, 14, and the whole spectrum
        alone = reads.bands(encoded["patch"][:, 14:20].flatten())
    place = tokens[4] - alone
    exponents = 10_000.0 ** (-torch.arange(0, 48, 2) / 48)
    torch.testing.assert_close(place, torch.cat([(16.5 * exponents).sin(), (16.5 * exponents).cos()]))


def test_wavelengths_not_numbers_place_a_group() -> None:
    """Two sensors whose bands differ agree on a group that looks at the same wavelengths."""
    fine = tokenizer(group_size=4, stride=4, wavelengths=list(range(400, 420))).restore({"num_bands": 20})
    apart = [404, 405, 406, 407, 500, 501, 502, 503]
    coarse = tokenizer(group_size=4, stride=4, wavelengths=apart).restore({"num_bands": 8})
    assert fine.places[1] == coarse.places[0] == 405.5
    spectrum = torch.zeros(1, 1, 20), torch.zeros(1, 1, 8)
    with torch.no_grad():
        torch.testing.assert_close(fine({"patch": spectrum[0]})[0, 1], coarse({"patch": spectrum[1]})[0, 0])


def test_statistics_are_those_of_the_training_pixels_alone() -> None:
    places = np.array([[1, 1], [4, 4], [7, 9]])
    reads = tokenizer(patch_size=5).learn(Pixels(CUBE, places))
    values = CUBE[places[:, 0], places[:, 1]].astype(float)
    np.testing.assert_allclose(reads.mean, values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(reads.deviation, values.std(0), rtol=1e-5)
    patch = reads.encode(Pixel(CUBE, 4, 4))["patch"]
    np.testing.assert_allclose(patch[12], (CUBE[4, 4] - values.mean(0)) / values.std(0), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(1e-3, 1e4), offset=st.floats(-1e3, 1e3))
def test_units_do_not_matter(gain: float, offset: float) -> None:
    spectra = RNG.normal(size=(6, BANDS))
    plain, other = tokenizer().learn(spectra), tokenizer().learn(gain * spectra + offset)
    expected, found = plain.encode(spectra[0])["patch"], other.encode(gain * spectra[0] + offset)["patch"]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_a_band_that_never_varies_is_silent() -> None:
    spectra = RNG.normal(size=(6, BANDS))
    spectra[:, 7] = 3.0
    reads = tokenizer().learn(spectra)
    spectra[0, 7] = 1e9
    assert reads.encode(spectra[0])["patch"][0, 7] == 0
    one = tokenizer().learn(spectra[:1])
    assert not one.encode(spectra[1])["patch"].any()


def test_augmentation_is_a_line_along_the_bands_and_noise() -> None:
    reads = tokenizer(augment="strong").learn(RNG.normal(size=(6, BANDS)))
    flat = {"patch": torch.zeros(1, BANDS)}
    torch.manual_seed(0)
    changes = torch.stack([reads.augment(flat)["patch"][0] for _ in range(400)])
    level, noise = changes.mean(1), changes - changes.mean(1, keepdim=True)
    assert level.std().item() == pytest.approx(0.15, rel=0.15)
    ends = noise[:, -1] - noise[:, 0]
    assert ends.std().item() == pytest.approx(np.hypot(2 * 0.15, np.sqrt(2) * 0.05), rel=0.15)


# What is wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 9}, "stride is 9; choose 1 to group_size, 8"),
        ({"patch_size": 4}, "patch_size is 4; a pixel in the middle needs an odd one"),
        ({"augment": "wild"}, "augment is 'wild'; expected one of 'none', 'light', 'strong'"),
        ({"token_rms_factor": 0}, "token_rms_factor is 0; it must be above 0"),
        ({"group_size": 10}, "have 9 bands, fewer than group_size, 10"),
        ({"wavelengths": [400.0]}, "There are 1 wavelengths for 9 bands"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer(**options).restore({"num_bands": 9})


def test_bad_samples_are_refused() -> None:
    reads = tokenizer().learn(RNG.normal(size=(6, BANDS)))
    holed = np.ones(BANDS)
    holed[4] = np.nan
    for sample, message in (
        (np.ones(BANDS + 1), "the spectrum has 21 bands; the task was trained with 20"),
        (holed, "band 5 holds NaN or infinite values; expected numbers"),
        (np.ones((3, 3, BANDS)), "the patch has 3 x 3 pixels; expected patch_size, 1, each way"),
        ("grass", "spectrum is a str; expected a spectrum"),
        ([], r"spectrum is an array \(0,\)"),
        (np.ones((2, BANDS)), r"spectrum is an array \(2, 20\)"),
        (np.ones(10_001), r"has 10,001 bands; expected at most 10,000 \(MOST_BANDS\)"),
        (Pixel(np.full((3, 3, BANDS), np.inf), 1, 2), "row 2, column 3: band 1 holds NaN or infinite"),
    ):
        with pytest.raises(SampleError, match=message):
            reads.encode(sample)
    with pytest.raises(ValueError, match="Spectra of 20 and of 21 bands are mixed"):
        tokenizer().learn([np.ones(20), np.ones(21)])
    with pytest.raises(ValueError, match="No sample can be used; the first: band 1 holds NaN"):
        tokenizer().learn(np.full((2, BANDS), np.nan))


# From the user's files


def test_indian_pines_pairs_are_read_as_published(tmp_path) -> None:
    cube, truth = scene()
    savemat(tmp_path / "Indian_pines_corrected.mat", {"indian_pines_corrected": cube})
    savemat(tmp_path / "Indian_pines_gt.mat", {"indian_pines_gt": truth})
    (split, examples) = next(iter(read_cube(tmp_path / "Indian_pines_corrected.mat").items()))
    assert split == "all" and len(examples) == (truth > 0).sum()
    pixel = examples.inputs[7]
    assert truth[pixel.row, pixel.column] == examples.targets[7]
    np.testing.assert_array_equal(pixel.patch(1)[0, 0], cube[pixel.row, pixel.column])


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_spectralformer_s_masks_are_read_as_published(tmp_path, suffix: str) -> None:
    cube, truth = scene()
    arrays = {"input": cube, **halves(truth)}
    path = tmp_path / f"IndianPine{suffix}"
    savemat(path, arrays) if suffix == ".mat" else np.savez(path, wavelengths=np.linspace(400, 780, BANDS), **arrays)
    splits = read_cube(path)
    assert sorted(splits) == ["test", "train"]
    assert all(pixel.row % 2 == 0 for pixel in splits["train"].inputs)
    assert len(splits["train"]) + len(splits["test"]) == (truth > 0).sum()
    reads = tokenizer().learn(splits["train"].inputs)
    if suffix == ".npz":
        assert reads.fitted["wavelengths"][1] == pytest.approx(420)
    assert (reads.wavelengths is None) == (suffix == ".mat")


def test_train_and_predict_a_scene(tmp_path, capsys) -> None:
    cube, truth = scene()
    path, out = tmp_path / "scene.mat", tmp_path / "run"
    savemat(path, {"input": cube, **halves(truth)})
    words = ["--modality", "hyperspectral", "--epochs", "6", "--batch-size", "16", "--tokenizer.patch_size", "3"]
    cli.main(["train", str(path), *words, "--out", str(out)])
    found = json.loads((out / "metrics.json").read_text())
    assert found["test"]["accuracy"] > 0.95 > found["majority_or_naive"]["accuracy"]
    assert found["baseline"]["accuracy"] > 0.95
    np.savez(tmp_path / "unlabelled.npz", cube=cube)
    cli.main(["predict", str(out / "task"), str(tmp_path / "unlabelled.npz"), "--out", str(tmp_path / "rows.csv")])
    answers = pd.read_csv(tmp_path / "rows.csv")["prediction"].to_numpy().reshape(12, 12)
    assert (answers[1:] == truth[1:]).mean() > 0.95
    np.savez(tmp_path / "other.npz", cube=cube[..., 1:])
    with pytest.raises(SystemExit):
        cli.main(["predict", str(out / "task"), str(tmp_path / "other.npz")])
    assert "has 19 bands; the task was trained with 20" in capsys.readouterr().err


def test_train_reads_tables_of_spectra(tmp_path) -> None:
    spectra, labels = RNG.normal(size=(40, BANDS)), np.arange(40) % 2
    spectra += 3 * labels[:, None]
    frame = pd.DataFrame({"spectrum": spectra.tolist(), "label": np.array(["grass", "road"])[labels]})
    frame.to_parquet(tmp_path / "spectra.parquet")
    np.savez(tmp_path / "spectra.npz", X=spectra, y=labels, split=np.array(["train"] * 30 + ["test"] * 10))
    for name in ("spectra.parquet", "spectra.npz"):
        out = tmp_path / f"run-{name}"
        words = ["--modality", "hyperspectral", "--epochs", "8", "--batch-size", "8", "--no-baseline"]
        cli.main(["train", str(tmp_path / name), *words, "--lr", "0.003", "--out", str(out)])
        assert json.loads((out / "metrics.json").read_text())["test"]["accuracy"] >= 0.8


def test_other_files_are_refused(tmp_path) -> None:
    cube, truth = scene()
    cases = {
        "nothing.npz": ({"a": np.zeros(3)}, r"holds a \(3,\); expected a cube \(H, W, bands\) beside a mask"),
        "size.npz": ({"input": cube, "gt": truth[1:]}, r"the all mask has \(11, 12\) pixels, the scene \(12, 12\)"),
        "blank.npz": ({"input": cube, "gt": 0 * truth}, "mask labels no pixel; labels count from 1"),
        "both.npz": (
            {"input": cube, "TR": truth, "TE": truth},
            "test mask labels pixels that another split labels too",
        ),
        "words.npz": ({"X": np.ones((2, 9)), "y": [1, 2], "split": ["a", "b"]}, "split holds a, b; accepted are train"),
        "short.npz": ({"X": np.ones((2, 9)), "y": [1]}, "has 2 spectra, 1 labels"),
        "none.npz": ({"X": np.ones((0, 9)), "y": []}, "none.npz holds no spectra"),
        "letters.npz": ({"X": np.full((2, 9), "a"), "y": [1, 2]}, "X holds <U1; expected real numbers"),
        "complex.npz": ({"input": cube * 1j, "gt": truth}, "the scene holds complex128; expected real numbers"),
        "names.npz": ({"input": cube, "gt": np.full(truth.shape, "a")}, "the all mask holds <U1; expected real"),
        "shares.npz": ({"input": cube, "gt": truth * 0.5}, "the all mask holds fractions or NaN; expected whole"),
    }
    for name, (arrays, message) in cases.items():
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(ValueError, match=message):
            read_cube(tmp_path / name)
    savemat(tmp_path / "whole.mat", {"input": cube})
    whole = (tmp_path / "whole.mat").read_bytes()
    version73 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
    for name, content in (
        ("empty.mat", b""),
        ("cut.mat", whole[: len(whole) // 2]),
        ("text.mat", b"no array at all" * 20),
        ("empty.npz", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is (empty|damaged, or no {name[-3:]} file)"):
            read_cube(tmp_path / name)
    (tmp_path / "new.mat").write_bytes(version73)
    with pytest.raises(ValueError, match="is a MATLAB 7.3 file; save it with -v7, or as npz"):
        read_cube(tmp_path / "new.mat")


def test_one_class_only_is_refused(tmp_path, capsys) -> None:
    cube, truth = scene()
    np.savez(tmp_path / "scene.npz", input=cube, gt=np.minimum(truth, 1))
    with pytest.raises(SystemExit):
        cli.main(["train", str(tmp_path / "scene.npz"), "--modality", "hyperspectral", "--out", str(tmp_path / "run")])
    assert "have the label 1; a classifier needs two or more" in capsys.readouterr().err


def test_pixels_are_a_sequence() -> None:
    examples = scene_of(CUBE, {}, "the scene")["all"]
    assert len(examples) == 9 * 12 and examples.targets is None
    assert [(pixel.row, pixel.column) for pixel in examples.inputs[11:13]] == [(0, 11), (1, 0)]
