"""The mean of two runs: every weight lies between theirs, and it still knows what they learnt."""

import average_weights
import pretrain_contrastive
import pytest
import torch

import metatx
from metatx.backbone.loading import save_backbone
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.loop import PretrainingSettings
from tests.pairs import colour_alignment, coloured, small_backbone
from tests.recipes.coloured import coloured_pairs


def test_average_weights(tmp_path, capsys) -> None:
    data = str(coloured_pairs(tmp_path / "data"))
    save_backbone(small_backbone(), tmp_path / "small", about="random")
    folders, start = [], str(tmp_path / "small")
    for name, epochs in (("first", 8), ("second", 2)):
        settings = PretrainingSettings(epochs=epochs, batch_size=32, lr=3e-3, precision="fp32")
        out = str(tmp_path / name)
        pretrain_contrastive.main(out=out, data=(data,), backbone=start, pretrained=name == "second", settings=settings)
        folders.append(start := f"{out}/backbone")

    found = average_weights.main(out=str(tmp_path / "mean"), folders=tuple(folders), data=(data,))
    assert found["image_to_text_recall@1"] > 0.8
    printed = capsys.readouterr().out
    assert "zero_shot_class_name" in printed
    assert str(tmp_path / "mean" / "backbone") in printed

    one, two, mean = (Alignment.from_pretrained(folder) for folder in (*folders, f"{tmp_path}/mean/backbone"))
    pairs = [(one, two, mean), (one.backbone, two.backbone, mean.backbone)]
    for first, second, third in pairs:
        states = [module.state_dict() for module in (first, second, third)]
        assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
        for name, tensor in states[2].items():
            expected = (states[0][name] + states[1][name]) / 2
            exact = expected.half().float() if tensor.is_floating_point() else states[0][name]
            assert torch.allclose(tensor, exact, atol=1e-6), name
    card = (tmp_path / "mean" / "backbone" / "README.md").read_text()
    for words in (f"the uniform mean of {', '.join(folders)}", data, "zero_shot_class_name"):
        assert words in card


def test_what_has_no_mean_is_refused(tmp_path) -> None:
    for name, depth in (("two", 2), ("three", 3)):
        colour_alignment(small_backbone(depth=depth), coloured(8)).save_pretrained(tmp_path / name, about="random")
    with pytest.raises(ValueError, match="two folders or more; found 1"):
        average_weights.main(out=str(tmp_path / "mean"), folders=("nano",))
    with pytest.raises(ValueError, match="went on from one another"):
        average_weights.main(out=str(tmp_path / "mean"), folders=(str(tmp_path / "two"), str(tmp_path / "three")))
    save_backbone(metatx.load_backbone("nano"), tmp_path / "alone", about="no towers")
    with pytest.raises(ValueError, match="no aligned modalities"):
        average_weights.main(out=str(tmp_path / "mean"), folders=("nano", str(tmp_path / "alone")))
    assert not (tmp_path / "mean").exists()
