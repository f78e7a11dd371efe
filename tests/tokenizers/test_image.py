"""Pictures of every form to tokens, and refusal of what is none."""

import io

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from metatx import SampleError, create
from metatx.backbone.stem import Stem
from metatx.backbone.zoo import SOURCES
from metatx.reading.image import fit_image, read_image
from metatx.tokenizers.image import ImageTokenizer

RNG = np.random.default_rng(0)
across, down = np.meshgrid(np.linspace(20, 235, 40), np.linspace(235, 20, 56))
RGB = np.stack([across, down, np.full((56, 40), 90)], axis=2).astype(np.uint8)  # smooth; 56 rows, 40 columns


def tokenizer(nano, **options) -> ImageTokenizer:
    return create("tokenizers", "image", nano.dim, stem=nano.stem, **options)


def encoded_file(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def mean_difference(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).mean())


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("TIFF", {}, 0),
        ("BMP", {}, 0),
        ("JPEG", {"quality": 95}, 2),
        ("WEBP", {"lossless": True}, 0),
    ],
)
def test_every_file_type_from_path_bytes_and_dict(form: str, options: dict, tolerance: float, tmp_path) -> None:
    content = encoded_file(Image.fromarray(RGB), form, **options)
    path = tmp_path / f"picture.{form.lower()}"
    path.write_bytes(content)
    expected = Image.fromarray(RGB)
    forms = [path, str(path), content, {"bytes": content, "path": None}, {"bytes": None, "path": str(path)}]
    for sample in forms:
        picture = read_image(sample)
        assert picture.mode == "RGB"
        assert mean_difference(picture, expected) <= tolerance


def test_arrays_of_every_layout_and_type_give_the_same_picture() -> None:
    grey = RGB[..., 0]
    same = [
        (RGB, RGB.transpose(2, 0, 1)),
        (RGB, RGB.astype(np.uint16) * 257),
        (RGB, RGB.astype(np.float32) / 255),
        (RGB, RGB.astype(np.int64)),
        (RGB, torch.from_numpy(RGB).permute(2, 0, 1)),
        (RGB, Image.fromarray(RGB)),
        (RGB, np.dstack([RGB, np.full((56, 40), 255, np.uint8)])),
        (np.dstack([grey] * 3), grey),
        (np.dstack([grey] * 3), grey[None]),
        (np.dstack([grey] * 3), grey[..., None].astype(np.float64) / 255),
        (np.dstack([grey > 100] * 3) * np.uint8(255), grey > 100),
    ]
    for expected, sample in same:
        np.testing.assert_array_equal(np.asarray(read_image(sample)), expected)


def test_sixteen_bit_greyscale_files(tmp_path) -> None:
    values = (RGB[..., 0].astype(np.uint16) * 257)[:, :30]
    for name in ("grey.png", "grey.tiff"):
        Image.fromarray(values).save(tmp_path / name)
        picture = np.asarray(read_image(tmp_path / name))
        np.testing.assert_array_equal(picture, np.dstack([RGB[:, :30, 0]] * 3))


def test_palette_alpha_and_other_modes(tmp_path) -> None:
    picture = Image.fromarray(RGB)
    assert mean_difference(read_image(encoded_file(picture.convert("P"), "PNG")), picture) < 30
    assert mean_difference(read_image(encoded_file(picture.convert("CMYK"), "TIFF")), picture) < 2
    clear = picture.copy()
    clear.putalpha(0)
    assert np.asarray(read_image(encoded_file(clear, "PNG"))).min() == 255
    grey = Image.merge("LA", [picture.convert("L"), Image.new("L", picture.size, 255)])
    assert mean_difference(read_image(encoded_file(grey, "PNG")), picture.convert("L").convert("RGB")) == 0


def test_exif_turns_the_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    turned = read_image(encoded_file(Image.fromarray(RGB), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(RGB, -1))


@pytest.mark.parametrize("size", [(56, 40), (300, 500), (224, 224), (9, 8), (231, 700)])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_clip_224"])
def test_preprocessing_is_timms_own(name: str, size: tuple[int, int]) -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8))
    config = SOURCES["timm"](name).config
    stem = Stem(config.dim, config.stem)
    with torch.device("meta"):
        settings = resolve_data_config({}, model=timm.create_model(name))
    expected = create_transform(**settings)(picture)
    image = create("tokenizers", "image", config.dim, stem=stem).encode(picture)["image"]
    torch.testing.assert_close((image / 255 - stem.mean) / stem.std, expected, atol=1e-5, rtol=0)


def test_squash_keeps_the_corners() -> None:
    picture = Image.fromarray(RGB).resize((400, 100))
    squashed = fit_image(picture, 50, "bilinear", 1.0, "squash")
    np.testing.assert_allclose(np.asarray(squashed)[0, -1], RGB[0, -1], atol=8)


def test_a_sliver_costs_no_memory() -> None:
    assert fit_image(Image.new("RGB", (60_000, 1)), 64, "bicubic", 0.9, "center").size == (64, 64)


def broken(tmp_path) -> dict[str, object]:
    """Samples that cannot be used, by what the message must say."""
    png = encoded_file(Image.fromarray(RGB), "PNG")
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    files = {
        "cut.png": png[: len(png) // 2],
        "cut.jpg": encoded_file(noise, "JPEG")[:900],
        "cut.tiff": encoded_file(noise, "TIFF")[:3000],
        "cut.webp": encoded_file(noise, "WEBP")[:500],
        "text.png": b"no picture at all",
        "empty.png": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return {
        **{name: tmp_path / name for name in files},
        "none.png does not exist": str(tmp_path / "none.png"),
        f"{tmp_path.name} is a folder": tmp_path,
        "a dict": {"picture": 1},
        "a NoneType": {"bytes": None, "path": None},
        r"\(0, 4, 3\)": np.zeros((0, 4, 3), np.uint8),
        r"\(5,\)": np.zeros(5, np.uint8),
        r"\(5, 5, 7\); expected 1, 3 or 4 channels": np.zeros((5, 5, 7), np.uint8),
        "NaN or infinite": np.full((4, 4), np.nan),
        "floats from 0 to 16; expected 0..1": np.linspace(0, 16, 16).reshape(4, 4),
        "int64 from -1 to 0": np.full((4, 4), -1) * np.eye(4, dtype=int),
        "array of <U1": np.full((4, 4), "x"),
    }


def test_bad_samples_are_refused_by_name(nano, tmp_path) -> None:
    reads = tokenizer(nano)
    for reason, sample in broken(tmp_path).items():
        with pytest.raises(SampleError, match=reason) as caught:
            reads.encode(sample)
        assert "\n" not in str(caught.value), reason


def test_decompression_bombs_are_refused(nano, tmp_path, monkeypatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "bomb.png")
    monkeypatch.setenv("METATX_BOUNDS", "pixels=2000")
    with pytest.raises(SampleError, match="bomb.png has .* at most 2,000 .METATX_BOUNDS=pixels="):
        tokenizer(nano).encode(tmp_path / "bomb.png")


def test_frozen_stem_is_the_backbones_own(nano) -> None:
    reads = tokenizer(nano)
    batch = {"image": torch.stack([reads.encode(RGB)["image"], reads.encode(RGB[::-1])["image"]])}
    tokens = reads(batch)
    assert (tokens.grid, tokens.lengths, reads.uses_stem_tokens) == ((8, 8), (64, 64), True)
    torch.testing.assert_close(tokens.unpack()[0], nano.stem(batch["image"] / 255))
    assert reads.patch_stem is nano.stem and not tokens.embeddings.requires_grad
    assert not reads.state_dict() and not list(reads.parameters())
    assert reads.options == {}


def test_trained_stem_is_a_copy_that_is_saved(nano) -> None:
    before, reads = nano.fingerprint, tokenizer(nano, freeze_stem=False)
    reads(reads_batch(reads)).embeddings.sum().backward()
    with torch.no_grad():
        for parameter in reads.parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0
            parameter.sub_(parameter.grad)
    assert nano.fingerprint == before and reads.uses_stem_tokens
    again = tokenizer(nano, **reads.options)
    again.load_state_dict(reads.state_dict())
    torch.testing.assert_close(again(reads_batch(again)).embeddings, reads(reads_batch(reads)).embeddings)


def reads_batch(reads: ImageTokenizer) -> dict[str, torch.Tensor]:
    return {"image": reads.encode(RGB)["image"][None]}


def test_without_a_stem_it_trains_its_own() -> None:
    reads = create("tokenizers", "image", 64, stem=None, image_size=32)
    assert not reads.uses_stem_tokens and isinstance(reads.patch_stem, Stem)
    assert all(parameter.requires_grad for parameter in reads.parameters())
    rows = reads.patch_stem.proj.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(64), atol=1e-5, rtol=0)
    assert reads(reads_batch(reads)).lengths == (4,)


def test_image_size_resamples_positions(nano) -> None:
    tokens = tokenizer(nano, image_size=32)(reads_batch(tokenizer(nano, image_size=32)))
    assert (tokens.grid, tokens.lengths) == ((4, 4), (16,))
    with pytest.raises(ValueError, match="cannot be cut into patches of 8"):
        tokenizer(nano, image_size=33)


@pytest.mark.parametrize("augment", ["flip", "light", "strong"])
def test_augmentations_vary_and_follow_the_generator(nano, augment: str) -> None:
    reads = tokenizer(nano, augment=augment)
    encoded = reads.encode(RGB)
    torch.manual_seed(0)
    first = [reads.augment(encoded)["image"] for _ in range(8)]
    torch.manual_seed(0)
    again = [reads.augment(encoded)["image"] for _ in range(8)]
    assert all(image.shape == (3, 64, 64) and image.dtype == torch.uint8 for image in first)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    different = {image.numpy().tobytes() for image in first}
    assert len(different) == 2 if augment == "flip" else len(different) > 5
    assert reads.augments and not tokenizer(nano).augments
    assert tokenizer(nano).augment(encoded)["image"] is encoded["image"]


def test_pictures_are_made_coarser_as_often_as_asked(nano) -> None:
    rng = np.random.default_rng(0)
    encoded = tokenizer(nano).encode(Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    spread = {}
    for share in (0.0, 0.5, 1.0):
        reads = tokenizer(nano, augment="light", crop_area=[1.0, 1.0], downscale=share)
        torch.manual_seed(0)
        found = torch.stack([reads.augment(encoded)["image"].float().std() for _ in range(40)])
        spread[share] = float((found > 55).float().mean())
    assert spread[1.0] < 0.2 < spread[0.5] < 0.8 < spread[0.0]


def test_crops_and_shares_that_cannot_be_are_refused(nano) -> None:
    for area in ([0.5], [0.0, 1.0], [0.9, 0.5], [0.5, 1.5]):
        with pytest.raises(ValueError, match="crop_area is"):
            tokenizer(nano, crop_area=area)
    with pytest.raises(ValueError, match="downscale is 2"):
        tokenizer(nano, downscale=2)


def test_unknown_augmentation_is_refused(nano) -> None:
    with pytest.raises(ValueError, match="expected one of 'none', 'flip', 'light', 'strong'"):
        tokenizer(nano, augment="heavy")


def test_describe_sees_edges_and_colours(nano) -> None:
    reads = tokenizer(nano)
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = 255
    upright, lying = reads.baseline_features(stripes), reads.baseline_features(stripes.transpose(1, 0, 2))
    gradients, colours = slice(0, 7 * 7 * 4 * 9), slice(7 * 7 * 4 * 9, None)
    assert upright.shape == (1764 + 64,)
    by_angle = upright[gradients].reshape(-1, 9).sum(0), lying[gradients].reshape(-1, 9).sum(0)
    assert by_angle[0].argmax() == 0 and by_angle[1].argmax() in (4, 5)
    np.testing.assert_allclose(upright[colours], lying[colours])
    red = reads.baseline_features(np.broadcast_to(np.array([255, 0, 0], np.uint8), (40, 40, 3)))
    assert red[1764 + 3 * 16] == 1 and not red[gradients].any()


def test_what_it_takes_for_an_input() -> None:
    taken = [
        "a.PNG",
        "b/c.tiff",
        Image.new("L", (1, 1)),
        {"bytes": b"", "path": None},
        {"bytes": None, "path": "x.jpg"},
    ]
    assert all(ImageTokenizer.accepts(value) for value in taken)
    assert not any(ImageTokenizer.accepts(value) for value in ["a.wav", 3, None, {"bytes": b"", "path": "x.flac"}])
