"""Video: a still clip is the stem's picture, movement shows, and clips come from films of any kind."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metatx import cli, create
from metatx.backbone.stem import Stem, StemConfig
from metatx.encoding.collate import collate
from metatx.tokenizers.video import VideoTokenizer
from tests.tokenizers.films import numbers, shades, write_film

RNG = np.random.default_rng(0)
MOVING = RNG.integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)


def rgb_stem() -> Stem:
    torch.manual_seed(0)
    config = StemConfig(patch_size=16, image_size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    stem = Stem(48, config).requires_grad_(False)
    torch.nn.init.normal_(stem.positions)
    return stem


def tokenizer(**options) -> VideoTokenizer:
    options = {"frames": 8, "image_size": [32, 48], "slices": 3, **options}
    return create("tokenizers", "video", 48, stem=rgb_stem(), **options).eval()


@torch.no_grad()
def tokens(reads: VideoTokenizer, *samples) -> torch.Tensor:
    """(B, N, D)."""
    return reads(collate([reads.encode(sample) for sample in samples])).unpack()[0]


def square(speed: float) -> np.ndarray:
    """A bright square that goes down by so many pixels a frame, over 16 frames."""
    film = np.full((16, 32, 48, 3), 40, np.uint8)
    for i in range(16):
        top = round(4 + speed * i) % 24
        film[i, top : top + 8, 16:32] = 220
    return film


# Tubelets


@pytest.mark.parametrize("tubelet_size", [1, 2, 4])
def test_a_still_clip_gives_what_the_stem_gives_for_its_picture(tubelet_size: int) -> None:
    reads = tokenizer(tubelet_size=tubelet_size)
    picture = MOVING[0]
    found = reads({"clip": reads.encode(np.stack([picture] * 5))["clip"][None]})
    expected = rgb_stem()(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)[0]
    assert found.grid == (8 // tubelet_size, 2, 3) and found.lengths == (8 // tubelet_size * 6,)
    for tubelet in found.embeddings.split(6):
        torch.testing.assert_close(tubelet, expected, atol=1e-4, rtol=0)
    trained = {**reads.state_dict()}
    if tubelet_size > 1:  # whatever the filters on differences learn
        trained["views.0.motion.weight"] = torch.randn_like(trained["views.0.motion.weight"])
        reads.load_state_dict(trained)
        torch.testing.assert_close(tokens(reads, picture[None])[0, :6], expected, atol=1e-4, rtol=0)


def test_a_tubelet_is_the_mean_and_what_differs_from_it() -> None:
    reads, stem = tokenizer(), rgb_stem()
    frames = torch.from_numpy(MOVING).permute(0, 3, 1, 2) / 255
    movement = torch.nn.functional.conv2d((frames[1:2] - frames[:1]) / stem.std, stem.proj.weight, stride=16)
    with torch.no_grad():
        expected = stem((frames[:1] + frames[1:2]) / 2) + 8 * movement.flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens(reads, MOVING)[0, :6], expected[0], atol=2e-3, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(shift=st.integers(1, 7))
def test_tubelets_read_frames_in_their_order(shift: int) -> None:
    reads = tokenizer()
    there = tokens(reads, MOVING)[0].unflatten(0, (4, 6))
    later = tokens(reads, np.roll(MOVING, 2 * shift, axis=0))[0].unflatten(0, (4, 6))
    torch.testing.assert_close(later, there.roll(shift, 0), atol=1e-5, rtol=1e-5)  # time starts without a place
    with torch.no_grad():
        reads.views[0].time += torch.arange(4.0)[:, None, None]
    placed = tokens(reads, MOVING)[0].unflatten(0, (4, 6))
    torch.testing.assert_close(placed - there, torch.arange(4.0)[:, None, None].expand_as(there), atol=1e-4, rtol=0)


# Slices


def test_slices_are_pictures_of_height_and_time() -> None:
    reads = tokenizer(tokens="slices", tubelet_size=2)
    clip = torch.from_numpy(MOVING).permute(0, 3, 1, 2) / 255
    columns = [clip[..., at].permute(1, 2, 0) for at in (8, 24, 40)]  # (3, H, T)
    pictures = torch.stack([torch.nn.functional.interpolate(c[None], (32, 64), mode="bilinear")[0] for c in columns])
    with torch.no_grad():
        expected = rgb_stem()(pictures).flatten(0, 1)
    torch.testing.assert_close(tokens(reads, MOVING)[0], expected, atol=1e-4, rtol=1e-4)
    assert tokens(tokenizer(tokens="both"), MOVING).shape == (1, 24 + 24, 48)


@pytest.mark.parametrize("kind", ["tubelets", "slices", "both"])
def test_time_reversed_and_other_speeds_give_other_tokens(kind: str) -> None:
    reads = tokenizer(tokens=kind, frames=16)
    slow, fast, back = tokens(reads, square(0.5), square(1.0), square(0.5)[::-1])
    still = tokens(reads, square(0))[0]
    scale = still.std()
    for one, other in ((slow, fast), (slow, back), (slow, still)):
        assert (one - other).abs().max() > scale
        order = lambda found: found[found[:, 0].argsort()]  # noqa: E731
        assert (order(one) - order(other)).abs().max() > 0.1 * scale  # not the same tokens in another order


# Sampling and augmentation


def test_even_sampling_is_the_same_each_time_and_with_cuts(tmp_path) -> None:
    path = write_film(tmp_path / "a.mp4")
    plain, cut = tokenizer(), tokenizer(augment=["cut"])
    clip = plain.encode(path)["clip"]
    assert numbers(clip.permute(0, 2, 3, 1).numpy()) == [2, 7, 12, 17, 22, 27, 32, 37]
    assert torch.equal(plain.encode(path)["clip"], clip)
    dense = cut.encode(path)["clip"]
    assert len(dense) == 24 and torch.equal(dense[1::3], clip)
    torch.testing.assert_close(tokens(cut, path), tokens(plain, path), atol=0, rtol=0)


@pytest.mark.parametrize(("name", "axis"), [("flip", 3), ("reverse", 0)])
def test_mirror_images_in_space_and_time_are_exact(name, axis) -> None:
    reads = tokenizer(augment=[name])
    encoded = reads.encode(MOVING)
    found = set()
    for seed in range(12):
        torch.manual_seed(seed)
        found.add(reads.augment(encoded)["clip"].numpy().tobytes())
    assert found == {encoded["clip"].numpy().tobytes(), encoded["clip"].flip(axis).numpy().tobytes()}


def test_all_frames_are_cropped_alike() -> None:
    reads = tokenizer(augment=["crop"])
    still = reads.encode(np.repeat(MOVING[:1], 8, axis=0))
    torch.manual_seed(0)
    varied = reads.augment(still)["clip"]
    assert varied.shape == still["clip"].shape and not torch.equal(varied, still["clip"])
    assert torch.equal(varied, varied[:1].expand_as(varied))


def test_cuts_keep_half_of_the_film_or_more() -> None:
    reads = tokenizer(augment=["cut"])
    encoded = reads.encode(shades())
    spans, starts = [], []
    for seed in range(60):
        torch.manual_seed(seed)
        varied = numbers(reads.augment(encoded)["clip"].permute(0, 2, 3, 1).numpy())
        assert len(varied) == 24 and varied == sorted(varied)
        spans.append(varied[-1] - varied[0])
        starts.append(varied[0])
    assert 17 <= min(spans) < 24 and 34 < max(spans) <= 39 and min(starts) < 3 and max(starts) > 10


# Parameters


def test_the_backbones_stem_is_left_alone() -> None:
    stem = rgb_stem()
    before = {name: value.clone() for name, value in stem.state_dict().items()}
    reads = create("tokenizers", "video", 48, stem=stem, frames=8, image_size=32, tokens="both")
    optimizer = torch.optim.SGD(reads.parameters(), lr=0.1)
    reads(collate([reads.encode(MOVING)])).embeddings.square().sum().backward()
    optimizer.step()
    assert all(torch.equal(value, stem.state_dict()[name]) for name, value in before.items())
    assert all(p.requires_grad for p in reads.parameters()) and not any(p.requires_grad for p in stem.parameters())
    assert not torch.equal(reads.views[0].stem.proj.weight, stem.proj.weight)
    assert reads.uses_stem_tokens and not any(p.requires_grad for p in tokenizer(freeze_stem=True).parameters())
    alone = create("tokenizers", "video", 48, stem=None, image_size=32)
    assert not alone.uses_stem_tokens and tokens(alone, MOVING).shape == (1, 32, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "frames"}, "tokens is 'frames'; expected one of 'tubelets', 'slices', 'both'"),
        ({"augment": ["turn"]}, "augment is .* expected a list of one of 'flip', 'crop', 'reverse', 'cut'"),
        ({"frames": 9}, "9 frames cannot be cut into tubelets of 2"),
        ({"frames": 0}, "0 frames cannot be cut"),
        ({"slices": 0}, "slices is 0; it must be at least 1"),
        ({"image_size": 40}, "cannot be cut into patches of 16"),
        ({"image_size": [32, 40]}, "cannot be cut into patches of 16"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer(**options)


def test_describe_tells_how_fast_it_goes() -> None:
    reads = tokenizer(frames=16)
    still, slow, fast = (reads.baseline_features(square(speed)) for speed in (0, 0.5, 1.0))
    amounts = slice(128, 128 + 16)  # behind the thumbnails: mean, deviation, most and least, at four lags
    assert not still[amounts].any() and 0 < slow[amounts][0] < 0.7 * fast[amounts][0]
    np.testing.assert_allclose(still[:64], slow[:64], atol=0.9)
    assert (
        reads.baseline_features(MOVING[:1]).shape == still.shape == tokenizer(frames=2).baseline_features(MOVING).shape
    )


# From the user's files


def test_train_reads_a_folder_of_films(tmp_path, capsys) -> None:
    for split, count in (("train", 8), ("val", 2), ("test", 3)):
        for label, speed in (("slow", 0.0), ("fast", 3.0)):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                film = np.maximum(square(speed), RNG.integers(0, 90)).astype(np.uint8)
                write_film(folder / f"{i}{('.mp4', '.avi', '.mkv')[i % 3]}", film)
    out = tmp_path / "run"
    options = ["--tokenizer.image_size", "[32,48]", "--tokenizer.frames", "8", "--epochs", "6", "--lr", "0.003"]
    cli.main(["train", str(tmp_path / "data"), "--modality", "video", *options, "--out", str(out)])
    assert json.loads((out / "metrics.json").read_text())["test"]["accuracy"] == 1
    capsys.readouterr()
    cli.main(["predict", str(out / "task"), str(tmp_path / "data" / "test" / "fast" / "0.mp4")])
    assert capsys.readouterr().out.splitlines()[-1].split(",")[1] == "fast"


def test_pictures_in_a_list_are_a_clip() -> None:
    reads = tokenizer()
    pictures = [Image.fromarray(frame) for frame in MOVING]
    torch.testing.assert_close(tokens(reads, pictures), tokens(reads, MOVING), atol=0, rtol=0)
    assert VideoTokenizer.accepts("a.MP4") and VideoTokenizer.accepts({"bytes": b"", "path": "a.gif"})
    assert not VideoTokenizer.accepts("a.wav") and not VideoTokenizer.accepts({"path": "a.mp4"})
