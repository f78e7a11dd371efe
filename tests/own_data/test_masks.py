"""Masks as people have them: black and white, negative codes, any type of number, colours for classes."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import metatx
from metatx.cli import main
from metatx.data.tables import read_splits
from metatx.errors import SampleError
from metatx.heads.segmentation import SegmentationHead
from metatx.reading.hyperspectral import read_cube, scene_of
from metatx.reading.segmentation import IGNORED, packed, read_mask, unpacked

COLOURS = np.array([[0, 0, 0], [0, 0, 142], [128, 64, 128], [220, 20, 60]], dtype=np.uint8)


@pytest.fixture
def said(caplog, monkeypatch):
    """What is told, as one text."""
    logger = logging.getLogger("metatx")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    caplog.set_level("INFO", "metatx")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


def blocks(*codes, side=8):
    """A mask of blocks, one a code, side by side."""
    return np.repeat(np.repeat(np.array([codes]), side, 1), side, 0)


def saved(tmp_path, name, pixels, mode=None):
    """The name of a picture of an array, in PNG."""
    picture = Image.fromarray(np.asarray(pixels))
    (picture.convert(mode) if mode else picture).save(tmp_path / f"{name}.png")
    return str(tmp_path / f"{name}.png")


@pytest.mark.parametrize("other", [0, 1, 7])
def test_255_beside_one_other_code_is_a_class_and_told(said, other):
    head = SegmentationHead(4).learn([blocks(other, 255), blocks(255, 255)])
    assert head.classes == [other, 255] and head.ignore_index is None
    assert head.encode(blocks(255, other))[0].tolist() == [1] * 8 + [0] * 8
    assert f"Code 255 of the masks is a class beside [{other}]; --head.ignore-index 255 makes it none" in said()
    again = SegmentationHead(4, **head.options).restore(head.fitted)
    assert (again.encode(blocks(255, other)) == head.encode(blocks(255, other))).all()


def test_names_are_of_the_codes_that_masks_hold():
    head = SegmentationHead(4, classes=["back", "front"]).learn([blocks(0, 255)])
    assert head.classes == ["back", "front"] and head.codes == [0, 255]
    assert np.unique(head.encode(blocks(0, 255))).tolist() == [0, 1]
    assert SegmentationHead(4, classes=["a", "b", "c"]).learn([blocks(0, 2)]).codes == [0, 1, 2]
    assert SegmentationHead(4, classes=[0, 255]).learn([blocks(0, 255)]).codes == [0, 255]


def test_a_code_that_was_named_as_none_stays_none():
    with pytest.raises(ValueError, match=r"hold 1 class, \[0\]; segmentation needs two or more"):
        SegmentationHead(4, ignore_index=255).learn([blocks(0, 255)])
    assert SegmentationHead(4, ignore_index=None).learn([blocks(0, 128, 255)]).classes == [0, 128, 255]


@pytest.mark.parametrize(("width", "told"), [(1, False), (8, True)])
def test_an_ignored_code_that_fills_much_is_told(said, width, told):
    mask = blocks(0, 0, 128, 128)
    mask[:, :width] = 255
    head = SegmentationHead(4).learn([mask])
    assert head.classes == [0, 128] and (head.encode(mask)[:, :width] == IGNORED).all()
    assert ("255 fills 25% of the masks and is no class (ignore_index)" in said()) == told


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(0, 254), min_size=2, max_size=6, unique=True),
    st.sampled_from(["u1", "<u2", ">u2", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<f4", ">f4", "<f8", ">f8", "<f2"]),
    st.sampled_from([(), (1, 0), (0, 1)]),
    st.booleans(),
)
def test_codes_mean_the_same_in_every_type(codes, dtype, extra, without):
    mask = blocks(*codes).astype(dtype)
    if without and np.dtype(dtype).kind != "u":
        mask[0] = -1 if np.dtype(dtype).kind == "i" else np.nan
    else:
        without = False
    held = mask[None] if extra == (1, 0) else mask[..., None] if extra == (0, 1) else mask
    expected = blocks(*codes)
    if without:
        expected[0] = -1
    np.testing.assert_array_equal(read_mask(held), expected)
    head = SegmentationHead(4).learn([held])
    assert head.classes == sorted(codes)
    numbers = head.encode(held).numpy()
    assert ((numbers == IGNORED) == (expected == -1)).all()
    assert (np.array(head.codes)[numbers[1:]] == expected[1:]).all()


def test_truth_and_16_bits_are_codes(tmp_path):
    assert SegmentationHead(4).learn([blocks(0, 1).astype(bool)]).classes == [0, 1]
    Image.fromarray(blocks(0, 9) == 9).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "bit.png")), blocks(0, 1))
    for name, dtype in {"a.png": "<u2", "b.tif": ">u2", "c.tif": "<u2"}.items():
        Image.fromarray(blocks(0, 7, 200).astype(dtype)).save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(str(tmp_path / name)), blocks(0, 7, 200))
    np.testing.assert_array_equal(read_mask(blocks(0, 65535).astype(">u2")), blocks(0, 255))
    Image.fromarray(blocks(0, 3).astype(np.float32)).save(tmp_path / "f.tif")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "f.tif")), blocks(0, 3))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (blocks(0, -2), "-2 to 0; expected codes of 0 to 255, or -1 for no label"),
        (blocks(0, 300), "0 to 300; expected codes"),
        (blocks(0.0, 0.25), "0.25; expected whole numbers"),
    ],
)
def test_other_numbers_are_refused(mask, said):
    with pytest.raises(SampleError, match=said):
        read_mask(mask)


def test_points_take_minus_one_for_no_label_too():
    head = SegmentationHead(4).learn([np.array([0, 1, -1, 2]), np.array([0.0, 1.0, np.nan])])
    assert head.classes == [0, 1, 2] and head.fitted["places"] == "points"
    assert head.encode(np.array([-1, 2, 0])).tolist() == [IGNORED, 2, 0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=2, max_size=7, unique=True), st.randoms())
def test_colours_are_classes_whatever_their_order(colours, random):
    if all(red == green == blue for red, green, blue in colours):
        colours = [*colours, (1, 2, 3)]
    mixed = random.sample(colours, len(colours))
    pixels = np.array(mixed, dtype=np.uint8)[blocks(*range(len(mixed)))]
    head = SegmentationHead(4).learn([Image.fromarray(pixels)])
    assert head.colours.tolist() == sorted(map(list, colours))
    assert head.classes == [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in sorted(colours)]
    numbers = head.encode(np.dstack([pixels, np.full(pixels.shape[:2], 255, dtype=np.uint8)])).numpy()
    np.testing.assert_array_equal(head.colours[numbers], pixels)
    np.testing.assert_array_equal(unpacked(packed(pixels)), pixels)
    again = SegmentationHead(4, **head.options).restore(head.fitted)
    np.testing.assert_array_equal(again.encode(pixels), numbers)


def test_colours_of_a_palette_are_read_as_those_of_rgb(tmp_path):
    """Optimised palettes number the same colours otherwise in each file."""
    pixels = COLOURS[blocks(0, 1, 2, 3)]
    files = [saved(tmp_path, "rgb", pixels)]
    for name, order in {"a": [2, 0, 1, 3], "b": [0, 3, 2, 1]}.items():
        picture = Image.fromarray(np.argsort(order).astype(np.uint8)[blocks(0, 1, 2, 3)])
        picture.putpalette(COLOURS[order].tobytes())
        picture.save(tmp_path / f"{name}.png")
        files.append(str(tmp_path / f"{name}.png"))
    for targets in (files, files[1:]):
        head = SegmentationHead(4).learn(targets)
        assert head.colours.tolist() == COLOURS.tolist()
        for target in files:
            np.testing.assert_array_equal(head.encode(target), blocks(0, 1, 2, 3))
    assert SegmentationHead(4).learn(files[1:2]).classes == [0, 1, 2, 3]  # of one palette, the codes count


def test_grey_that_was_saved_as_colours_is_read_as_grey(tmp_path):
    mask = blocks(0, 5, 9).astype(np.uint8)
    for mode in ("RGB", "RGBA", "LA"):
        np.testing.assert_array_equal(read_mask(saved(tmp_path, mode, mask, mode)), mask)


def test_a_picture_of_one_grey_colour_follows_the_others(tmp_path):
    files = [saved(tmp_path, "all", COLOURS[blocks(0, 1)]), saved(tmp_path, "empty", COLOURS[blocks(0, 0)])]
    files.append(saved(tmp_path, "grey", blocks(0, 0).astype(np.uint8)))
    head = SegmentationHead(4).learn(files)
    assert [np.unique(head.encode(file)).tolist() for file in files] == [[0, 1], [0], [0]]


def test_a_colour_may_be_none(said):
    head = SegmentationHead(4, ignore_index=[0, 0, 142]).learn([COLOURS[blocks(0, 1, 1, 2)]])
    assert head.classes == ["#000000", "#804080"]
    assert head.encode(COLOURS[blocks(2, 1)])[0].tolist() == [1] * 8 + [IGNORED] * 8
    assert "[0, 0, 142] fills 50% of the masks and is no class" in said()


@pytest.mark.parametrize(
    ("classes", "mask", "said"),
    [
        (None, COLOURS[blocks(0, 3, 3)], "colour #dc143c, which the masks of training have not"),
        (None, np.dstack([COLOURS[blocks(0, 1)], blocks(0, 255).astype(np.uint8)]), "transparency that varies"),
        (None, np.array([0, 1]), "mask is of points; expected an image in colours"),
    ],
)
def test_colours_that_training_did_not_know_are_named(classes, mask, said):
    head = SegmentationHead(4).learn([COLOURS[blocks(0, 1, 2)]])
    with pytest.raises(SampleError, match=said):
        head.encode(mask)


def test_names_of_colours_are_one_a_colour(said):
    masks = [COLOURS[blocks(0, 1, 2)]]
    assert SegmentationHead(4, classes=["sky", "car", "road"]).learn(masks).classes == ["sky", "car", "road"]
    assert "3 colours: #000000 sky, #00008e car, #804080 road." in said()
    with pytest.raises(ValueError, match=r"hold 3 colours, but 2 names are given: \['#000000', '#00008e'"):
        SegmentationHead(4, classes=["sky", "car"]).learn(masks)


@pytest.mark.parametrize("colours", [COLOURS, np.array([[0, 0, 0], [255, 255, 255]], dtype=np.uint8)])
def test_smoothed_edges_are_refused_with_their_number(tmp_path, colours):
    down, across = np.mgrid[:96, :96]
    disc = ((down - 48) ** 2 + (across - 48) ** 2 < 900).astype(int) + (across > 70) * (len(colours) - 2)
    sharp = Image.fromarray(colours[disc])
    smooth = sharp.resize((61, 61), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "smooth.png")
    sharp.rotate(30).save(tmp_path / "lossy.jpg", quality=90)
    assert len(SegmentationHead(4).learn([sharp, sharp.resize((61, 61), Image.Resampling.NEAREST)]).classes) >= 2
    with pytest.raises(ValueError, match=r"smoothed edges, \d+ co.*Save masks as PNG, resized to the nearest"):
        SegmentationHead(4).learn([str(tmp_path / "smooth.png")])
    with pytest.raises(ValueError, match=r"is a JPEG, which blurs codes: \d+ in it.*Save masks as PNG"):
        SegmentationHead(4).learn([str(tmp_path / "lossy.jpg")])


def test_many_classes_are_no_smoothed_edges():
    rng = np.random.default_rng(0)
    mask = np.zeros((120, 160), dtype=np.uint8)
    for code in rng.permutation(150):
        top, left = rng.integers(0, 100), rng.integers(0, 140)
        mask[top : top + rng.integers(2, 20), left : left + rng.integers(2, 20)] = code
    assert SegmentationHead(4).learn([mask]).classes == np.unique(mask).tolist()


def test_a_task_on_colours_answers_in_colours(nano, tmp_path, said):
    rng = np.random.default_rng(0)
    for part, count in {"train": 12, "test": 3}.items():
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True)
        for number in range(count):
            at = int(rng.integers(16, 48))
            side = (np.arange(64) >= at).astype(int)[None].repeat(48, 0)
            pixels = np.where(side, 200, 40)[..., None] + rng.normal(size=(48, 64, 3)) * 9
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / part / "images" / f"{number}.png")
            Image.fromarray(COLOURS[side * 2 + 1]).save(tmp_path / part / "masks" / f"{number}.png")
    splits = read_splits(tmp_path, (".png",))
    options = {"tokenizer_options": {"image_size": [32, 64]}, "head_options": {"layers": 2, "hidden": 32}}
    task = metatx.Task.from_data(nano, "image", splits["train"], **options)
    assert "The masks say classes by 2 colours: #00008e, #dc143c" in said()
    task.fit(splits["train"], epochs=10, batch_size=6, lr=5e-3)
    measured = task.evaluate(splits["test"])
    assert measured["accuracy"] > 0.85
    main(["predict", str(task.save_pretrained(tmp_path / "task")), str(tmp_path / "test" / "images"),
          "--out", str(tmp_path / "out")])  # fmt: skip
    written = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").iterdir())]
    truth = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "test" / "masks").iterdir())]
    assert {mask.shape for mask in written} == {(48, 64, 3)}
    right = np.mean([(mask == other).all(-1) for mask, other in zip(written, truth, strict=True)])
    assert right == pytest.approx(measured["accuracy"], abs=1e-6)


def scene(tmp_path, truth, name="scene"):
    cube = np.random.default_rng(0).normal(size=(*truth.shape, 5))
    np.savez(tmp_path / f"{name}.npz", input=cube, gt=truth)
    return tmp_path / f"{name}.npz"


@pytest.mark.parametrize("dtype", ["i1", ">i2", "<i4", "f4", ">f8"])
def test_minus_one_is_no_label_of_a_scene_and_0_is_one(tmp_path, said, dtype):
    truth = np.array([[-1, 0, 1], [2, -1, 0]], dtype=dtype)
    found = read_cube(scene(tmp_path, truth))["all"]
    assert found.targets == [0, 1, 2, 0]
    assert [(pixel.row, pixel.column) for pixel in found.inputs] == [(0, 1), (0, 2), (1, 0), (1, 2)]
    assert "-1 is taken for no label, so 0 is taken for a label" in said()


def test_0_is_no_label_of_a_scene_without_negative_codes(tmp_path, said):
    assert read_cube(scene(tmp_path, np.array([[0, 1], [2, 0]])))["all"].targets == [1, 2]
    assert not said()
    with pytest.raises(ValueError, match="the all mask holds -9; expected labels from 0 or 1 on, -1 where there is"):
        read_cube(scene(tmp_path, np.array([[-9, 1], [2, 0]])))


def test_splits_of_a_scene_agree_on_what_0_is(tmp_path):
    cube, train = np.random.default_rng(0).normal(size=(2, 3, 5)), np.array([[0, 1, -1], [-1, -1, -1]])
    test = np.array([[-1, -1, 0], [1, 0, -1]])
    np.savez(tmp_path / "scene.npz", input=cube, TR=train, TE=test)
    found = read_cube(tmp_path / "scene.npz")
    assert found["train"].targets == [0, 1] and found["test"].targets == [0, 1, 0]


@pytest.mark.parametrize("labels", [[-1, 0, 1], [-1, 1, 2]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_label_in_a_type_without_a_sign_is_refused(labels, dtype):
    cube, mask = np.zeros((3, 4, 5)), np.array(labels * 4).reshape(3, 4).astype(np.int64)
    most = np.iinfo(dtype).max
    with pytest.raises(
        ValueError, match=f"{most} beside labels to {labels[-1]}; if it means no label, write -1 where 0"
    ):
        scene_of(cube, {"all": mask.astype(dtype)}, "scene")
    assert len(scene_of(cube, {"all": mask}, "scene")["all"]) == 8


def test_masks_of_a_scene_are_found_in_any_capitals_and_others_told(tmp_path, said):
    cube, mask = np.zeros((3, 4, 5)), np.arange(12).reshape(3, 4)
    np.savez(tmp_path / "a.npz", x=cube)
    np.savez(tmp_path / "A_GT.npz", any=mask)
    assert len(read_cube(tmp_path / "a.npz")["all"].targets) == 11
    np.savez(tmp_path / "b.npz", x=cube, map=mask)
    assert read_cube(tmp_path / "b.npz")["all"].targets is None
    assert "map (3, 4) is not read; a mask of labels is called gt, " in said()
