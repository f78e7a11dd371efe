"""SegmentationHead: pixels, points, and what is said of masks that do not fit."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score
from torch.nn import functional as F

import metatx
from metatx import TokenSequence
from metatx.errors import SampleError
from metatx.evaluation.baselines import baselines
from metatx.examples import Examples
from metatx.heads.segmentation import SegmentationHead
from metatx.reading.segmentation import IGNORED
from tests.samples import halves

SIDE = 32


@pytest.fixture(scope="module")
def trained(nano):
    train = halves(40)
    task = metatx.Task.from_data(
        nano,
        "image",
        train,
        head="segmentation",
        tokenizer_options={"image_size": [SIDE, 2 * SIDE], "augment": "light"},
        head_options={"layers": 2, "hidden": 32},
    )
    return task.fit(train, halves(8, 1), epochs=12, batch_size=8, lr=3e-3)


def test_learns_where_a_class_ends(trained):
    pictures, masks = halves(10, 2)
    measured = trained.evaluate((pictures, masks))
    found = trained.predict(pictures)
    known = np.stack(masks) != 255
    assert measured["miou"] > 0.8
    assert {mask.shape for mask in found} == {(48, 64)} and set(np.unique(found[0])) <= {3, 8}
    expected = jaccard_score(np.stack(masks)[known], np.stack(list(found))[known], average="macro", labels=[3, 8])
    assert measured["miou"] == pytest.approx(expected, abs=1e-5)


def test_masks_follow_the_pictures_that_they_are_of(trained):
    batch, targets = trained.encode(halves(30, 5), "train", augment=True).batch(range(30))
    for image, target in zip(batch["image"], targets, strict=True):
        large = F.interpolate(target[None, None].float(), image.shape[1:], mode="nearest")[0, 0]
        bright = image.float().mean(0) > 120
        assert (bright == (large == 1))[large != IGNORED].float().mean() > 0.93


def test_baselines_hold_a_few_pictures_at_a_time(trained, monkeypatch):
    seen, predict = [], trained.head.baseline_predict
    monkeypatch.setattr(
        trained.head, "baseline_predict", lambda model, some: seen.append(len(some)) or predict(model, some)
    )
    found = baselines(trained.tokenizer, trained.head, Examples(*halves(10)), Examples(*halves(19, 1)))
    assert seen == [8, 8, 3] * 2
    (trivial,), (forest,) = found["trivial"].values(), found["classical"].values()
    assert trivial["miou"] < 0.6 < 0.9 < forest["miou"]


def test_masks_have_the_size_of_their_picture(trained):
    sizes = [(48, 64), (30, 100), (301, 17)]
    found = trained.predict([np.full((*size, 3), 200, dtype=np.uint8) for size in sizes])
    assert [mask.shape for mask in found] == sizes
    shares = trained.records([np.full((30, 100, 3), 200, dtype=np.uint8)])[0]
    assert list(shares) == ["share(3)", "share(8)"] and sum(shares.values()) == pytest.approx(1)


def test_pictures_and_masks_of_many_sizes_train(nano):
    pictures, masks = halves(6)
    pictures[1], masks[1] = pictures[1][:20], masks[1][:20]
    task = metatx.Task.from_data(
        nano, "image", (pictures, masks), head="segmentation", tokenizer_options={"image_size": [32, 32]}
    )
    task.fit((pictures, masks), (pictures, masks), epochs=2, batch_size=3)
    assert 0 < task.evaluate((pictures, masks))["miou"] <= 1


def test_saved_and_pooled_it_answers_the_same(trained, tmp_path):
    pictures = halves(3, 3)[0]
    again = metatx.Task.from_pretrained(trained.save_pretrained(tmp_path / "task"), backbone=trained.backbone)
    pool = metatx.TaskPool(trained.backbone)
    pool.add("halves", again)
    trained.set_inference(precision="fp32")  # the pool's
    for alone, pooled in zip(trained.predict(pictures), pool.predict([("halves", p) for p in pictures]), strict=True):
        np.testing.assert_array_equal(alone, pooled)


def test_a_tokenizer_that_crops_is_refused(nano):
    with pytest.raises(ValueError, match=r"cuts its edges off: give image_size as \[height, width\]"):
        metatx.Task.from_data(nano, "image", halves(2), head="segmentation")


def test_augmentation_that_turns_is_refused(nano):
    options = {"image_size": [32, 32], "augment": "strong"}
    task = metatx.Task.from_data(nano, "image", halves(2), head="segmentation", tokenizer_options=options)
    with pytest.raises(ValueError, match="choose a weaker augmentation"):
        task.fit(halves(2), epochs=1)


def test_nearest_tokens_label_points():
    """Points on the tokens themselves get those tokens' classes."""
    torch.manual_seed(0)
    centres = torch.rand(2, 4, 3)
    points = [centres[0].repeat(3, 1), centres[1]]
    numbers = torch.arange(4) % 2
    head = SegmentationHead(8, layers=1, hidden=16).learn([numbers.repeat(3).numpy(), numbers.numpy()])
    tokens = torch.where(numbers[:, None] == 1, 1.0, -1.0).expand(4, 8) * torch.linspace(1, 2, 8)
    sequence = TokenSequence(tokens.repeat(2, 1), (4, 4), context={"centres": centres, "points": points})
    targets = [head.encode(numbers.repeat(3).numpy()), head.encode(numbers.numpy())]
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        head.loss(head(head.pool(sequence)), targets).backward()
        optimizer.step()
    output = head.eval()(head.pool(sequence))
    assert output.shape == (2, 2, 12)
    decoded = head.decode(output, [(12,), (4,)])
    assert [len(mask) for mask in decoded] == [12, 4]
    for mask, target in zip(decoded, targets, strict=True):
        np.testing.assert_array_equal(mask, target.numpy())


def test_a_picture_without_any_label_costs_nothing():
    head = SegmentationHead(4, layers=1).learn([np.array([[0, 1]])])
    output = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = head.loss(output, head.encode(np.full((2, 2), 255))[None])
    loss.backward()
    assert loss == 0 and output.grad.abs().max() == 0


def test_targets_are_inferred_from_paired_folders(nano, tmp_path):
    for split, count in {"train": 6, "test": 3}.items():
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for i, (picture, mask) in enumerate(zip(*halves(count), strict=True)):
            Image.fromarray(picture).save(tmp_path / split / "images" / f"{i}.jpg")
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{i}.png")
    task = metatx.Task.from_data(nano, "image", tmp_path, tokenizer_options={"image_size": [32, 32]})
    assert task.head.name == "segmentation" and task.target == "mask" and task.head.classes == [3, 8]
    (tmp_path / "train" / "masks" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"no partner of the same name, such as 2;"):
        metatx.Task.from_data(nano, "image", tmp_path, tokenizer_options={"image_size": [32, 32]})


def test_a_bad_mask_is_named_or_skipped(nano):
    pictures, masks = halves(8)
    masks[3] = "gone.png"
    options = {"head": "segmentation", "tokenizer_options": {"image_size": [32, 48]}}
    task = metatx.Task.from_data(nano, "image", (pictures, masks), **options)
    with pytest.raises(ValueError, match=r"1 of 8 samples cannot be used: the data, row 4: .*gone\.png"):
        task.fit((pictures, masks), epochs=1)
    task.fit((pictures, masks), epochs=1, skip_bad_samples=True)
    with pytest.raises(ValueError, match="No sample can be used; the first: image file gone.png does not exist"):
        metatx.Task.from_data(nano, "image", (pictures[:2], ["gone.png"] * 2), **options)


def test_a_mask_of_another_size_is_named(nano):
    pictures, masks = halves(6)
    masks[3] = masks[3][::2]
    task = metatx.Task.from_data(nano, "image", (pictures, masks), tokenizer_options={"image_size": [32, 48]})
    with pytest.raises(
        ValueError, match=r"row 4: mask is \(24, 64\), but its sample \(48, 64\); expected a code for each"
    ):
        task.fit((pictures, masks), epochs=1)
    clouds = np.random.default_rng(0).normal(size=(6, 40, 3))
    codes = [np.arange(40) % 2] * 5 + [np.arange(39) % 2]
    task = metatx.Task.from_data(nano, "point_cloud", (clouds, codes), head="segmentation")
    with pytest.raises(ValueError, match=r"row 6: mask is \(39,\), but its sample \(40,\)"):
        task.fit((clouds, codes), epochs=1)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: SegmentationHead(4).learn([np.zeros((2, 2), dtype=int)]), ValueError, "hold 1 class"),
        (lambda: SegmentationHead(4).learn([]), ValueError, "no masks"),
        (lambda: SegmentationHead(4, cells=0), ValueError, "at least 1"),
        (lambda: SegmentationHead(4).learn([np.array([[1, 2]])]).encode([[1, 5]]), SampleError, r"code 5; .*\[1, 2\]"),
    ],
)
def test_errors_say_what_is_wrong(call, error, said):
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize("modality", ["infrared", "xray"])
def test_grey_pictures_are_labelled_too(nano, modality):
    pictures, masks = halves(16)
    train = ([picture[..., 0] for picture in pictures], masks)
    options = {"image_size": [32, 48], **({"flips": "both"} if modality == "infrared" else {})}
    task = metatx.Task.from_data(nano, modality, train, head="segmentation", tokenizer_options=options)
    task.fit(train, train, epochs=8, batch_size=4, lr=3e-3)
    assert task.evaluate(train)["miou"] > 0.7
    assert task.predict(train[0][:2])[1].shape == (48, 64)
