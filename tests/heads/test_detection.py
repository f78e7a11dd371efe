"""DetectionHead: boxes in and out, what each cell answers for, average precision."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import metatx
from metatx.cli import main
from metatx.errors import SampleError
from metatx.heads.detection import DetectionHead


def discs(count, seed=0):
    """Grey pictures (64, 96) with one or two bright squares or dark bars, and where."""
    rng = np.random.default_rng(seed)
    pictures, targets = [], []
    for _ in range(count):
        picture = rng.normal(128, 8, (64, 96, 3))
        boxes, names = [], []
        for place in rng.permutation(2)[: rng.integers(1, 3)]:
            kind = int(rng.integers(0, 2))
            width, height = (20, 20) if kind else (32, 12)
            left, top = int(rng.integers(0, 48 - width)) + 48 * int(place), int(rng.integers(0, 64 - height))
            picture[top : top + height, left : left + width] = 250 if kind else 10
            boxes.append([left, top, width, height])
            names.append("square" if kind else "bar")
        pictures.append(picture.clip(0, 255).astype(np.uint8))
        targets.append({"bbox": boxes, "category": names, "width": 96, "height": 64})
    return pictures, targets


@pytest.fixture(scope="module")
def trained(nano):
    train = discs(60)
    options = {"image_size": [64, 96]}
    task = metatx.Task.from_data(
        nano, "image", train, tokenizer_options=options, head_options={"layers": 3, "hidden": 32, "cells": 2}
    )
    return task.fit(train, discs(10, 1), epochs=25, batch_size=6, lr=4e-3)


def test_finds_what_it_was_shown(trained):
    pictures, targets = discs(20, 2)
    measured = trained.evaluate((pictures, targets))
    assert trained.head.classes == ["bar", "square"]
    assert measured["ap50"] > 0.6 and measured["ap"] > 0.2, measured
    found = trained.predict(pictures)
    assert all((answer["boxes"] <= [96, 64, 96, 64]).all() and (answer["boxes"] >= 0).all() for answer in found)
    assert all((answer["scores"] >= trained.head.threshold.item()).all() for answer in found)
    assert 0.3 != trained.head.threshold.item() and f"{trained.head.threshold.item():.3f}" in trained.head.card_note()


def test_boxes_follow_the_pictures_that_they_are_of(nano):
    data = discs(30, 5)
    options = {"image_size": [64, 96], "augment": "light"}
    task = metatx.Task.from_data(nano, "image", data, tokenizer_options=options)
    batch, targets = task.encode(data, "train", augment=True).batch(range(30))
    for image, boxes in zip(batch["image"].float(), targets, strict=True):
        for number, *shares in boxes.tolist():
            left, top, right, bottom = (round(share * side) for share, side in zip(shares, [96, 64] * 2, strict=True))
            inside = image[:, top + 1 : max(bottom - 1, top + 2), left + 1 : max(right - 1, left + 2)].mean()
            assert inside > 200 if number else inside < 60


def test_boxes_are_in_pixels_of_the_picture(trained):
    picture, _ = discs(1, 3)
    large = np.asarray(Image.fromarray(picture[0]).resize((960, 320), Image.Resampling.BILINEAR))
    (small,), (stretched,) = trained.predict(picture), trained.predict([large])
    assert stretched["extent"] == (320, 960)
    assert len(small["boxes"]) and len(small["boxes"]) == len(stretched["boxes"])
    np.testing.assert_allclose(small["boxes"] * [10, 5, 10, 5], stretched["boxes"], atol=25)


def test_command_line_writes_coco(trained, tmp_path, capsys):
    pictures, _ = discs(3, 4)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    trained.save_pretrained(tmp_path / "task")
    main(["predict", str(tmp_path / "task"), str(tmp_path), "--out", str(tmp_path / "found.json")])
    content = json.loads((tmp_path / "found.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["0.png", "1.png", "2.png"]
    assert {"bbox", "score", "category_id"} <= content["annotations"][0].keys()
    main(["predict", str(tmp_path / "task"), str(tmp_path / "0.png")])
    assert capsys.readouterr().out.startswith("file,boxes,labels,scores")
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path / "task"), str(tmp_path / "0.png"), "--out", str(tmp_path / "found.txt")])
    assert ".json" in capsys.readouterr().err


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(*[st.floats(0, 80), st.floats(0, 50), st.floats(1, 16), st.floats(1, 14)]), max_size=5),
)
def test_boxes_survive_encoding(boxes):
    head = DetectionHead(4).learn([{"bbox": [[0, 0, 5, 5]], "category": ["a"], "width": 96, "height": 64}])
    target = {"bbox": [list(box) for box in boxes], "category": ["a"] * len(boxes), "width": 96, "height": 64}
    encoded = head.encode(target)
    assert encoded.shape == (len(boxes), 5)
    corners = encoded[:, 1:].numpy() * [96, 64, 96, 64]
    expected = np.array(boxes).reshape(-1, 4)
    np.testing.assert_allclose(corners[:, :2], expected[:, :2], atol=1e-3)
    np.testing.assert_allclose(corners[:, 2:] - corners[:, :2], expected[:, 2:], atol=1e-3)


def test_overlapping_boxes_of_a_class_are_thinned():
    target = {"bbox": [[0, 0, 40, 40]], "category": ["a"], "width": 64, "height": 64}
    head = DetectionHead(4, layers=1, overlap=0.3).learn([target])
    output = torch.full((1, 6, 8, 8), -8.0)
    output[0, 0, 3:5, 3:5], output[0, 1:5], output[0, 5] = 5.0, 0.0, 8.0
    found = head.decode(output, [(64, 64)])[0]
    assert len(found["boxes"]) == 1 and found["scores"][0] > 0.9
    # The middle size of a box in training is what an output of zero says.
    np.testing.assert_allclose(found["boxes"][0][2:] - found["boxes"][0][:2], [40, 40], atol=8)


def test_the_least_score_is_that_of_the_best_f1():
    """Two boxes are right, one found twice; a third is wrong, and a fourth never found."""
    head = DetectionHead(4, overlap=0.99).restore({"classes": ["a"]})
    truth = torch.tensor([[0, 0.1, 0.1, 0.3, 0.3], [0, 0.6, 0.6, 0.8, 0.8], [0, 0.1, 0.6, 0.3, 0.8]])
    output = torch.zeros(1, 6, 10, 10)  # class, left, top, right, bottom, centrality of cells of a tenth
    output[:, 0] = -20.0
    output[:, 5] = 20.0
    for at, score, box in (
        (1, 0.9, [0.1, 0.1, 0.3, 0.3]),
        (7, 0.7, [0.6, 0.6, 0.8, 0.8]),
        (2, 0.5, [0.1, 0.1, 0.29, 0.3]),
        (4, 0.4, [0.4, 0.4, 0.5, 0.5]),
    ):
        centre = torch.full((2,), (at + 0.5) / 10)
        low, high = torch.tensor(box).split(2)
        output[0, 0, at, at] = torch.tensor(score**2).logit()
        output[0, 1:5, at, at] = torch.cat([centre - low, high - centre]).log()
    head.calibrate(output, [truth])
    assert head.threshold.item() == pytest.approx(0.7)
    fixed = DetectionHead(4, threshold=0.2)
    assert not fixed.calibrates and fixed.threshold.item() == pytest.approx(0.2)


def test_metric_is_the_same_in_shares_and_in_pixels():
    from torchmetrics.detection import MeanAveragePrecision

    rng = np.random.default_rng(0)
    low = rng.random((6, 2)) * 0.5
    truth = torch.tensor(np.column_stack([np.zeros(6), low, low + 0.2 + rng.random((6, 2)) * 0.3])).float()
    found = torch.cat([truth + torch.randn(6, 5) * 0.02 * torch.tensor([0, 1, 1, 1, 1]), torch.rand(6, 1)], 1)
    head = DetectionHead(4)
    metric = head.metrics()["ap50"]
    metric.update(*head.metric_inputs([found], [truth]))
    pixels = MeanAveragePrecision(iou_thresholds=[0.5])
    size = torch.tensor([640, 480, 640, 480])
    pixels.update(
        [{"boxes": found[:, 1:5] * size, "scores": found[:, 5], "labels": found[:, 0].long()}],
        [{"boxes": truth[:, 1:] * size, "labels": truth[:, 0].long()}],
    )
    assert metric.compute() == pytest.approx(pixels.compute()["map"].item())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"category": ["cow"]}, "category 'cow' was not among the 1"),
        ({"width": 0}, "an image of no size"),
        ({"iscrowd": [0, 1]}, r"bbox \(M, 4\)|1 boxes, 1 categories"),
        ({"category": []}, "1 boxes, 0 categories"),
        ({"width": None}, "width and height of the image"),
        ({"bbox": [[1, 2, 3]]}, r"bbox \(M, 4\)"),
    ],
)
def test_bad_boxes_are_named(change, said):
    good = {"bbox": [[10, 10, 20, 10]], "category": ["a"], "width": 96, "height": 64}
    head = DetectionHead(4).learn([good])
    with pytest.raises(SampleError, match=said):
        head.encode(good | change)


def test_a_bad_box_is_named_or_skipped(nano):
    pictures, targets = discs(8)
    targets[5] = {**targets[5], "bbox": [[1, 2, 3]]}
    task = metatx.Task.from_data(nano, "image", (pictures, targets), tokenizer_options={"image_size": [64, 96]})
    with pytest.raises(ValueError, match=r"1 of 8 samples cannot be used: the data, row 6: objects need bbox \(M, 4\)"):
        task.fit((pictures, targets), epochs=1)
    task.fit((pictures, targets), epochs=1, skip_bad_samples=True)


def test_pictures_without_a_box_are_learned_from_but_not_alone():
    empty = {"bbox": [], "category": [], "width": 96, "height": 64}
    with pytest.raises(ValueError, match="None of the 2 pictures has a box"):
        DetectionHead(4).learn([empty, empty])
    bad = {**empty, "bbox": [[190, 1, 50, 5]], "category": ["a"]}
    with pytest.raises(ValueError, match="None of the 2 pictures has a box of some size"):
        DetectionHead(4).learn([bad, empty])
    head = DetectionHead(4, layers=1).learn([{**empty, "bbox": [[1, 1, 5, 5]], "category": ["a"]}, empty])
    output = torch.randn(1, 6, 4, 6, requires_grad=True)
    loss = head.loss(output, [head.encode(empty)])
    loss.backward()
    assert loss > 0 and output.grad[0, 0].abs().sum() > 0 and output.grad[0, 1:].abs().sum() == 0
