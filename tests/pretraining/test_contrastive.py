"""Contrastive losses: equal to open_clip's where no caption comes twice, and right where one does."""

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn import functional as F

from metatx.pretraining.contrastive import ContrastiveLoss, matches


def sides(count=12, size=16):
    generator = torch.Generator().manual_seed(0)
    return [F.normalize(torch.randn(count, size, generator=generator), dim=1).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_loss_and_gradients_are_open_clips(loss):
    left, right = sides()
    contrast = ContrastiveLoss(loss)
    with torch.no_grad():
        contrast.logit_scale += 0.3
        contrast.logit_bias += 0.2
    ours = contrast(left, right, matches(torch.arange(12).repeat(2, 1)))
    scale = contrast.logit_scale.exp()
    theirs = (
        ClipLoss()(left, right, scale) if loss == "softmax" else SigLipLoss()(left, right, scale, contrast.logit_bias)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    trained = [left, right, contrast.logit_scale]
    for a, b in zip(torch.autograd.grad(ours, trained), torch.autograd.grad(theirs, trained), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_pairs_that_share_a_side_are_no_negatives():
    keys = torch.tensor([[1, 2, 3, 4], [7, 8, 7, 9]])
    same = matches(keys)
    assert same.tolist() == [
        [True, False, True, False],
        [False, True, False, False],
        [True, False, True, False],
        [False, False, False, True],
    ]
    # Captions of the first and third pair are one text: pictures that are equally near to both are at the optimum.
    text = F.normalize(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0], [0, 0, 1.0]]), dim=1)
    contrast = ContrastiveLoss()
    alone = torch.eye(4, dtype=torch.bool)
    pictures = text.clone().requires_grad_()
    (pull,) = torch.autograd.grad(contrast(pictures, text, same), pictures)
    (push,) = torch.autograd.grad(contrast(pictures[:2], text[:2], alone[:2, :2]), pictures)
    torch.testing.assert_close(pull[0], pull[2])
    assert pull.norm() < 0.01 and push.norm() < 0.01, "at the optimum, as two pairs are that share nothing"
    apart = F.normalize(torch.tensor([[1.0, 0, 0.3], [0, 1.0, 0], [1.0, 0, -0.3], [0, 0, 1.0]]), dim=1)
    assert contrast(apart, apart, same) > contrast(text, text, same)
    assert contrast(apart, apart, alone) < contrast(text, text, alone), "taken for negatives, they are told apart"


def test_the_scale_stays_within_bounds():
    contrast = ContrastiveLoss()
    assert contrast.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        contrast.logit_scale += 5
    contrast.clamp()
    assert contrast.logit_scale.exp().item() == pytest.approx(100)


def test_weights_of_older_code_are_read_by_their_old_names():
    old = {"log_scale": torch.tensor(1.5), "shift": torch.tensor(-2.5)}
    contrast = ContrastiveLoss("sigmoid")
    contrast.load_state_dict(old)
    assert (contrast.logit_scale.item(), contrast.logit_bias.item()) == (1.5, -2.5)
    assert set(old) == {"log_scale", "shift"}, "the caller's dict stays as it is"
    with pytest.raises(RuntimeError, match="logit_bias"):
        contrast.load_state_dict({"log_scale": torch.tensor(1.5)})


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match="loss is 'triplet'; choose one of softmax, sigmoid"):
        ContrastiveLoss("triplet")
