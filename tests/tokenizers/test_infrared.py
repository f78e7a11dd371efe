"""Infrared: levels that survive any bit depth, the folded stem, and refusal of what is no picture."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metatx import SampleError, cli, create
from metatx.reading.image import read_grey
from metatx.tokenizers.infrared import InfraredTokenizer

RNG = np.random.default_rng(0)
EIGHT = RNG.integers(0, 256, (40, 24), dtype=np.uint8)


def tokenizer(nano, **options) -> InfraredTokenizer:
    return create("tokenizers", "infrared", nano.dim, stem=nano.stem, **{"image_size": [40, 24], **options})


def file(array: np.ndarray, form: str = "TIFF") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


def as_read(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None]


# Reading


def test_eight_and_sixteen_bits_read_alike() -> None:
    sixteen = EIGHT.astype(np.uint16) * 257
    temperatures = np.float32(20) + EIGHT / np.float32(4)
    expected = EIGHT / np.float32(255)
    for sample in (EIGHT, sixteen, Image.fromarray(EIGHT), file(EIGHT, "PNG"), file(sixteen, "PNG"), file(sixteen)):
        np.testing.assert_allclose(read_grey(sample), expected, atol=1e-6)
    np.testing.assert_array_equal(read_grey(file(temperatures)), temperatures)
    np.testing.assert_array_equal(read_grey(np.eye(4, dtype=bool)), np.eye(4))


def test_all_sixteen_bits_count() -> None:
    counts = np.arange(30_000, 30_000 + 960, dtype=np.uint16).reshape(40, 24)  # 3.7 levels of 8 bits
    for content in (file(counts, "PNG"), file(counts)):
        assert len(np.unique(read_grey(content))) == counts.size


def test_colours_become_their_luma() -> None:
    rgb = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(rgb).convert("L")) / 255
    for sample in (rgb, rgb.transpose(2, 0, 1), Image.fromarray(rgb), Image.fromarray(rgb).convert("RGBA")):
        np.testing.assert_allclose(read_grey(sample), expected, atol=0.51 / 255)


# Windowing


def test_window_is_the_percentiles_of_the_training_split(nano) -> None:
    samples = [RNG.normal(20 + i, 3, (40, 24)).astype(np.float32) for i in range(6)]
    reads = tokenizer(nano, percentiles=[2, 97]).learn(samples)
    low, high = np.percentile(np.stack(samples), [2, 97])
    np.testing.assert_allclose(reads.pictures.window, [low, high], rtol=1e-6)
    unseen = RNG.normal(24, 8, (40, 24)).astype(np.float32)
    expected = np.clip((unseen - low) / (high - low), 0, 1)
    np.testing.assert_allclose(reads.encode(unseen)["image"][0], expected, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.1, 1000), offset=st.floats(-500, 500))
def test_the_unit_of_the_training_split_does_not_matter(nano, scale: float, offset: float) -> None:
    samples = [RNG.normal(0, 1, (8, 8)) for _ in range(3)]
    plain = tokenizer(nano).learn(samples)
    other = tokenizer(nano).learn([scale * sample + offset for sample in samples])
    for sample in samples:
        found = other.encode(scale * sample + offset)["image"].float()
        torch.testing.assert_close(found, plain.encode(sample)["image"].float(), atol=5e-3, rtol=0)


def test_levels_stay_unless_each_picture_is_windowed(nano) -> None:
    cold, warm = EIGHT // 4, EIGHT // 4 + np.uint8(100)
    training, instance = (tokenizer(nano, normalize=how).learn([cold, warm]) for how in ("training", "instance"))
    assert training.encode(warm)["image"].min() > training.encode(cold)["image"].float().mean()
    torch.testing.assert_close(instance.encode(warm), instance.encode(cold))


def test_hot_outliers_do_not_ring(nano) -> None:
    """They are clipped before the picture is resized."""
    sample = np.zeros((20, 12), np.float32)
    sample[10, 6] = 1e6
    reads = tokenizer(nano).learn([np.linspace(0, 1, 240).reshape(20, 12)])
    image = reads.encode(sample)["image"]
    assert 0 <= image.min() and image.max() <= 1
    assert (image > 0.5).sum() < 9


# Tokens


def test_tokens_are_those_of_the_rgb_stem(nano) -> None:
    reads = tokenizer(nano, image_size=[64, 48], percentiles=[0, 100]).learn([np.array([[0.0, 1.0]])])
    values = RNG.random((64, 48)).astype(np.float16).astype(np.float32)
    with torch.no_grad():
        tokens = reads({"image": reads.encode(values)["image"][None]})
        expected = nano.stem(torch.from_numpy(values).expand(1, 3, -1, -1))
    assert tokens.grid == (8, 6) and tokens.lengths == (48,)
    torch.testing.assert_close(tokens.embeddings, expected[0], atol=1e-4, rtol=0)


def test_stem_trains_unless_frozen(nano) -> None:
    assert all(p.requires_grad for p in tokenizer(nano).parameters())
    frozen = tokenizer(nano, freeze_stem=True)
    assert not any(p.requires_grad for p in frozen.parameters())
    torch.testing.assert_close(frozen.pictures.stem.positions, nano.stem.positions)
    none = create("tokenizers", "infrared", 48, stem=None, image_size=32)
    assert not none.uses_stem_tokens and none.pictures.grid == (2, 2)


def test_flips_are_exact_mirror_images(nano) -> None:
    reads = tokenizer(nano, flips="both").learn([EIGHT])
    encoded = reads.encode(EIGHT)
    found = set()
    for seed in range(30):
        torch.manual_seed(seed)
        found.add(reads.augment(encoded)["image"].numpy().tobytes())
    image = encoded["image"]
    assert found == {image.flip(axes).numpy().tobytes() for axes in ([], [1], [2], [1, 2])}
    upright = tokenizer(nano, flips="horizontal").learn([EIGHT])
    for seed in range(10):
        torch.manual_seed(seed)
        varied = upright.augment(encoded)["image"]
        assert torch.equal(varied, image) or torch.equal(varied, image.flip(2))


def test_augmentation_stays_near_the_picture(nano) -> None:
    """A blurred spot moves by what the level allows, on pictures that are not square too."""
    rows, columns = np.mgrid[:80, :48]
    spot = np.exp(-((rows - 40) ** 2 + (columns - 24) ** 2) / 18)
    reads = tokenizer(nano, image_size=[80, 48], augment="strong", percentiles=[0, 100]).learn([spot])
    encoded = reads.encode(spot)
    places = []
    for seed in range(40):
        torch.manual_seed(seed)
        varied = reads.augment(encoded)["image"].float()[0]
        varied = (varied - varied.median()).clamp(0)
        total = varied.sum()
        places.append([float((varied * torch.tensor(axis)).sum() / total) for axis in (rows, columns)])
    off = np.abs(np.array(places) - [39.5, 23.5]).max(0)
    assert 4 < off[0] < 12 and 2 < off[1] < 8  # a tenth of 80 and of 48, and what the zoom adds
    assert reads.augments and not tokenizer(nano).augments


# What is wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "global"}, "normalize is 'global'; expected one of 'training', 'instance'"),
        ({"augment": "heavy"}, "augment is 'heavy'; expected one of 'none', 'light', 'strong'"),
        ({"flips": "vertical"}, "flips is 'vertical'; expected one of 'none', 'horizontal', 'both'"),
        ({"percentiles": [99, 1]}, "expected two that rise, in 0..100"),
        ({"percentiles": [1]}, "expected two that rise, in 0..100"),
        ({"image_size": 33}, "cannot be cut into patches of 8"),
    ],
)
def test_bad_options_are_refused(nano, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer(nano, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty.png is no image that can be read"),
        (file(EIGHT, "PNG")[:300], "empty.png is truncated or damaged"),
        (b"RIFF....WAVE", "empty.png is no image that can be read"),
    ],
)
def test_bad_files_are_refused(nano, tmp_path, content: bytes, message: str) -> None:
    path = tmp_path / "empty.png"
    path.write_bytes(content)
    with pytest.raises(SampleError, match=message):
        tokenizer(nano).encode(str(path))


def test_bad_values_are_refused(nano, monkeypatch) -> None:
    reads = tokenizer(nano).learn([EIGHT])
    for value in (np.nan, np.inf):
        with pytest.raises(SampleError, match="holds NaN or infinite values; expected finite numbers"):
            reads.encode(np.full((5, 5), value))
    with pytest.raises(SampleError, match=r"holds int64 from -1 to 3; expected 0..255, uint16 or floats"):
        reads.encode(np.array([[-1, 3]]))
    with pytest.raises(SampleError, match="array of complex128"):
        reads.encode(np.zeros((4, 4), complex))
    monkeypatch.setenv("METATX_BOUNDS", "pixels=100")
    with pytest.raises(SampleError, match="pixels .*; expected at most 100"):
        reads.encode(file(EIGHT, "PNG"))


def test_a_training_split_without_contrast_is_refused(nano) -> None:
    with pytest.raises(ValueError, match=r"of all pixels are 0.0274\d*; there is nothing to see"):
        tokenizer(nano).learn([np.full((5, 5), 7, np.uint8)])
    with pytest.raises(ValueError, match="No sample can be used; the first: image file nowhere.png does not exist"):
        tokenizer(nano).learn(["nowhere.png", "nowhere.png"])


def test_a_constant_picture_and_one_pixel_are_pictures(nano) -> None:
    for how in ("training", "instance"):
        reads = tokenizer(nano, normalize=how).learn([EIGHT])
        for sample in (np.full((5, 5), 9, np.uint8), np.full((1, 1), 200, np.uint8)):
            assert reads.encode(sample)["image"].isfinite().all()
            assert np.isfinite(reads.baseline_features(sample)).all()


def test_describe_tells_a_spot_from_a_stripe(nano) -> None:
    reads = tokenizer(nano).learn([EIGHT])
    stripe = np.zeros((40, 24), np.uint8)
    stripe[:, 8:12] = 255
    upright, lying = reads.baseline_features(stripe), reads.baseline_features(np.rot90(stripe, 1)[:40, :24].copy())
    assert upright.shape == lying.shape
    assert np.abs(upright - lying).max() > 0.5


# From the user's files


def folder_of_classes(tmp_path, classes: int = 2) -> str:
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for label in ["cold", "warm"][:classes]:
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                picture = RNG.integers(0, 30_000, (20, 12)) + (30_000 if label == "warm" else 0)
                Image.fromarray(picture.astype(np.uint16)).save(folder / f"{i}.png")
    return str(tmp_path / "data")


def test_train_reads_a_folder_of_sixteen_bit_files(tmp_path, capsys) -> None:
    out = tmp_path / "run"
    words = ["--modality", "infrared", "--epochs", "4", "--lr", "0.003", "--tokenizer.image_size", "[24,16]"]
    cli.main(["train", folder_of_classes(tmp_path), *words, "--head.class_weight", "balanced", "--out", str(out)])
    assert json.loads((out / "metrics.json").read_text())["test"]["balanced_accuracy"] == 1
    cli.main(["predict", str(out / "task"), str(tmp_path / "data" / "test" / "warm" / "0.png")])
    assert capsys.readouterr().out.splitlines()[-1].split(",")[1] == "warm"


def test_one_class_only_is_refused(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", folder_of_classes(tmp_path, 1), "--modality", "infrared", "--out", str(tmp_path / "run")])
    assert "All 8 samples have the label 'cold'" in capsys.readouterr().err
