"""CIFAR-10, end to end: a few images of each class with nano, and with real pretrained weights."""

import os
from pathlib import Path

import pytest

from recipes import image_cifar10
from tests.recipes.cifar10 import few_images
from tests.recipes.common import check_run, real


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return few_images(tmp_path_factory.mktemp("cifar10"))


def pictures(folder):
    return [str(path) for path in sorted((folder / "test").rglob("*.jpg"))[::8]]


def test_cifar10(folder, tmp_path):
    (report,) = image_cifar10.main(data=str(folder), seeds=(0,), epochs=20, layers=2, out=str(tmp_path / "out"))
    check_run(report, tmp_path / "out" / "seed0", pictures(folder))


def test_cifar10_with_pretrained_weights(folder, tmp_path):
    """The frozen weights carry the task: random ones in the same shape are far behind."""
    if "METATX_WEIGHTS" not in os.environ:
        pytest.skip("METATX_WEIGHTS is not set: the folder that holds vit_tiny_augreg/model.safetensors")
    weights = Path(os.environ["METATX_WEIGHTS"]) / "vit_tiny_augreg" / "model.safetensors"
    accuracy = {}
    for pretrained in (True, False):
        (report,) = image_cifar10.main(
            data=str(folder),
            backbone="timm:vit_tiny_patch16_224",
            checkpoint=str(weights) if pretrained else None,
            pretrained=pretrained,
            seeds=(0,),
            epochs=30,
            out=str(tmp_path / str(pretrained)),
        )
        check_run(report, tmp_path / str(pretrained) / "seed0", pictures(folder))
        accuracy[pretrained] = report.test["accuracy"]
    if real("image/cifar10_subset") is not None:
        assert accuracy[True] > accuracy[False] + 0.2
