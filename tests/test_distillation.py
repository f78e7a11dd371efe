"""Distillation: what the student is compared with, and targets that are kept."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metatx.distillation import Distillation, KeptTargets, picture_of
from metatx.pairs import drop_tokens
from metatx.sequence import TokenSequence
from tests.pairs import small_backbone


def pictures(count=3):
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seen(backbone, picture, dropout=0.0):
    entering = TokenSequence.pack(backbone.stem(picture.float() / 255), grid=(4, 4))
    entering, chosen = drop_tokens(entering, dropout)
    return backbone(entering), chosen


def test_a_student_that_is_its_teacher_is_at_the_optimum():
    teacher = small_backbone(prefix=3)
    distillation = Distillation(teacher, teacher)
    sequence, _ = seen(teacher, pictures())
    tokens = F.layer_norm(sequence.embeddings, sequence.embeddings.shape[1:])
    with torch.no_grad():
        distillation.proj.weight.copy_(torch.eye(48))
        distillation.proj.bias.zero_()
    loss = distillation(sequence.with_embeddings(tokens), pictures(), None, torch.arange(3), 0)
    assert loss < 1e-5
    other = distillation(sequence.with_embeddings(tokens.roll(1, 0)), pictures(), None, torch.arange(3), 0)
    assert other > 0.1, "each token has its own place"


def test_left_out_patches_are_left_out_of_the_target():
    teacher = small_backbone()
    distillation = Distillation(teacher, teacher)
    whole, _ = seen(teacher, pictures())
    torch.manual_seed(0)
    chosen = torch.stack([torch.randperm(16)[:5].sort().values for _ in range(3)])
    rows = whole.embeddings.view(3, 17, 48)
    part = torch.cat([rows[:, :1], rows[:, 1:].gather(1, chosen[..., None].expand(-1, -1, 48))], 1)
    sequence = TokenSequence(F.layer_norm(part, (48,)).flatten(0, 1), (6,) * 3, grid=(4, 4), prefix=1)
    with torch.no_grad():
        distillation.proj.weight.copy_(torch.eye(48))
        distillation.proj.bias.zero_()
    assert distillation(sequence, pictures(), chosen, torch.arange(3), 0) < 1e-5


def test_kept_targets_are_those_that_the_teacher_gave(tmp_path, monkeypatch):
    teacher = small_backbone()
    distillation = Distillation(teacher, teacher)
    sequence, _ = seen(teacher, pictures())
    plain = distillation(sequence, pictures(), None, torch.arange(3), 1)
    asked = []
    monkeypatch.setattr(
        teacher.stem, "forward", lambda images, real=teacher.stem.forward: asked.append(len(images)) or real(images)
    )
    for _ in range(2):  # the second run opens what the first left
        distillation.kept = KeptTargets(tmp_path / "kept", views=2, count=5)
        for _ in range(2):
            assert distillation(sequence, pictures(), None, torch.tensor([4, 0, 2]), 1) == plain
    assert asked == [3]
    for positions, view in (([4, 1, 2], 1), ([4, 0, 2], 0)):
        distillation(sequence, pictures(), None, torch.tensor(positions), view)
    assert asked == [3, 1, 3], "of what is new alone: another sample, another view"
    distillation.kept.remove()
    assert not list(tmp_path.iterdir())


def test_kept_targets_of_other_processes_stay(tmp_path):
    (one, first), (two, second) = (KeptTargets(tmp_path / "kept", views=1, count=4).opened((2, 3)) for _ in range(2))
    values = np.arange(24, dtype=np.float16).reshape(4, 2, 3)
    one[0, [0, 2]], first[0, [0, 2]] = values[[0, 2]], True
    two[0, [1, 3]], second[0, [1, 3]] = values[[1, 3]], True
    assert first.all() and np.array_equal(one[0], values)


def test_who_cannot_teach_or_be_taught_is_named():
    with pytest.raises(ValueError, match="small cannot teach"):
        Distillation(small_backbone(), small_backbone(prefix=0))
    with pytest.raises(ValueError, match="encodes to tokens"):
        picture_of({"tokens": torch.zeros(3)})
