"""Masks: reading, writing, and the forest beside them."""

import numpy as np
import pytest
from PIL import Image

from metatx.baselines.segmentation import SiteForest
from metatx.errors import SampleError
from metatx.reading.segmentation import IGNORED, is_mask, read_mask
from metatx.writing.masks import write_masks

CODES = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_reads_every_form(tmp_path):
    Image.fromarray(CODES).save(tmp_path / "grey.png")
    np.save(tmp_path / "codes.npy", CODES.astype(np.int64))
    palette = Image.fromarray(CODES)
    palette.putpalette([7] * 768)
    palette.save(tmp_path / "palette.png")
    forms = [*(str(tmp_path / name) for name in ("grey.png", "codes.npy", "palette.png")), palette, CODES.tolist()]
    for form in [*forms, CODES.astype(np.uint16)]:
        assert is_mask(form) != isinstance(form, list), form
        np.testing.assert_array_equal(read_mask(form), CODES)
    assert not any(is_mask(other) for other in ("cat", 3, [], ["a"], [0.5], np.zeros(3), None))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (np.zeros((2, 2, 2), dtype=int), r"\(2, 2, 2\); expected"),
        (np.full((2, 2), 256), "256; expected codes of 0 to 255"),
        (np.full((2, 2), -2), "-2 to -2; expected codes of 0 to 255, or -1 for no label"),
        (np.full((2, 2), 0.5), "0.5; expected whole numbers"),
        (np.full((2, 2), np.inf), "inf to inf"),
        (np.full((2, 2), "a"), "<U1; expected whole numbers"),
        ("gone.npy", "gone.npy is damaged, or no npy file.*No such file"),
        ([[1], [1, 2]], "rows that differ in length"),
        ("gone.png", "does not exist"),
        (Image.new("RGB", (2, 2), "red"), "1 colours; expected one channel"),
        (Image.new("CMYK", (2, 2)), "mode CMYK; expected grey levels, a palette or RGB"),
    ],
)
def test_bad_masks_are_named(target, said):
    with pytest.raises(SampleError, match=said):
        read_mask(target)


def test_what_is_written_is_read(tmp_path):
    points = np.arange(5, dtype=np.uint8)
    write_masks(tmp_path / "out", ["a/road.jpg", "b/road.jpg", CODES], [CODES, CODES + 1, points])
    np.testing.assert_array_equal(read_mask(str(tmp_path / "out" / "road.png")), CODES)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "out" / "road-2.png")), CODES + 1)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "out" / "3.npy")), points)
    colours = np.asarray(Image.open(tmp_path / "out" / "road.png").convert("RGB")).reshape(-1, 3)
    assert len({tuple(colour) for colour in colours}) == 12
    with pytest.raises(FileExistsError, match="nothing was written"):
        write_masks(tmp_path / "out", ["c.jpg"], [CODES])


@pytest.mark.parametrize("shape", [(20, 30, 3), (600, 4)])
def test_forest_labels_places_by_their_values(shape):
    rng = np.random.default_rng(0)
    features = [rng.random(shape, dtype=np.float32) for _ in range(4)]
    answers = [(values[..., 0] > 0.7).astype(np.uint8) for values in features]
    answers[0].flat[:50] = IGNORED
    found = SiteForest(trees=20).fit(features[:3], answers[:3]).predict_log_proba(features[3:], classes=3)
    assert found[0].shape == (3, *shape[:-1])
    assert (found[0].argmax(0) == answers[3]).mean() > 0.95
    trivial = SiteForest(trees=0).fit(features[:3], answers[:3]).predict_log_proba(features[3:], classes=3)
    assert (trivial[0].argmax(0) == 0).all()
