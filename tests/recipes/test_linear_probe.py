"""The linear probe on a few images: both backbones read them, and pretrained weights see more."""

import linear_probe

from tests.recipes.cifar10 import few_images
from tests.recipes.common import real


def test_linear_probe(tmp_path, capsys) -> None:
    found = linear_probe.main(data=str(few_images(tmp_path)), layers=2)
    shown = capsys.readouterr().out
    for name, accuracy in found.items():
        assert f"nano, {name}: accuracy {accuracy:.4f} on the test split" in shown
        assert accuracy > 0.15, "above chance"
    if real("image/cifar10_subset") is not None:
        assert found["pretrained"] > found["random"] + 0.08
