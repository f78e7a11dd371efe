"""Views: pictures, masks and boxes move together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.layers.views import boxes_in_view, coarser, mask_in_view, random_view


def scene(left, top, width, height):
    """A mask (40, 60) with one bright rectangle, the picture of it, and its box in shares."""
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    mask[top : top + height, left : left + width] = 200
    box = torch.tensor([[left / 60, top / 40, (left + width) / 60, (top + height) / 40]])
    return mask, mask.expand(3, -1, -1), box


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(5, 35), st.integers(5, 20))
def test_masks_and_boxes_follow_the_picture(seed, left, top):
    mask, image, box = scene(left, top, 18, 14)
    torch.manual_seed(seed)
    varied, view = random_view(image, flip=0.5, area=(0.5, 1.0))
    followed = mask_in_view(mask, view)
    assert varied.shape == image.shape and varied.dtype == torch.uint8
    assert ((varied[0] > 100) == (followed > 100)).float().mean() > 0.97
    boxes, kept = boxes_in_view(box, view)
    rows, columns = torch.where(followed > 100)
    if kept.any():
        edges = torch.tensor([columns.min() / 60, rows.min() / 40, (columns.max() + 1) / 60, (rows.max() + 1) / 40])
        assert (boxes[0] - edges).abs().max() < 0.04


def test_mirror_images_are_exact():
    mask, image, box = scene(5, 10, 20, 10)
    varied, view = random_view(image, flip=1.0)
    assert view.tolist() == [1, 0, 0, 1]
    assert torch.equal(varied, image.flip(-1)) and torch.equal(mask_in_view(mask, view), mask.flip(-1))
    torch.testing.assert_close(boxes_in_view(box, view)[0][0], torch.tensor([35 / 60, 10 / 40, 55 / 60, 20 / 40]))


def test_the_whole_picture_is_unchanged():
    mask, image, _ = scene(5, 10, 20, 10)
    varied, view = random_view(image, flip=0.0)
    assert torch.equal(varied, image) and view.tolist() == [0, 0, 1, 1] and mask_in_view(mask, view) is mask


@pytest.mark.parametrize(("right", "stays"), [(0.5, True), (0.12, False)])
def test_boxes_mostly_out_of_view_go(right, stays):
    box = torch.tensor([[0.1, 0.1, 0.2, 0.2]])
    boxes, kept = boxes_in_view(box, torch.tensor([0, 0, right, 1.0]))
    assert kept.tolist() == [stays] and len(boxes) == stays


def test_a_coarser_picture_keeps_its_size_and_what_is_large():
    torch.manual_seed(0)
    image = torch.zeros(3, 40, 24, dtype=torch.uint8)
    image[:, :20] = 200
    noisy = (image.float() + 40 * (torch.arange(24) % 2)).to(torch.uint8)
    found = [coarser(noisy) for _ in range(8)]
    assert all(one.shape == image.shape and one.dtype == torch.uint8 for one in found)
    stripes = [float(one[:, 5].float().std()) for one in found]
    assert min(stripes) < 2 < float(noisy[:, 5].float().std()) and len(set(stripes)) > 5
    assert all(abs(float(one[:, 5].float().mean()) - 220) < 2 for one in found)
