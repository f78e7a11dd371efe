"""Distillation: what the student is compared with, and targets that are kept."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metatx.pretraining.distillation import Distillation, TeacherTargetCache, is_image
from metatx.pretraining.paired_data import drop_tokens
from metatx.sequence import TokenSequence
from tests.pairs import small_backbone


def pictures(count=3):
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seen(backbone, picture, dropout=0.0):
    entering = TokenSequence.pack(backbone.stem(picture.float() / 255), grid=(4, 4))
    entering, chosen = drop_tokens(entering, dropout)
    return backbone(entering), chosen


def taught(teacher):
    """A distillation whose linear map changes nothing, and whose teacher has seen all pictures."""
    distillation = Distillation(teacher, teacher)
    with torch.no_grad():
        distillation.proj.weight.copy_(torch.eye(48))
        distillation.proj.bias.zero_()
    distillation.cache_targets(pictures().__getitem__, 3)
    return distillation


def normalised(teacher):
    """What a perfect student makes of the pictures, (3, 17, 48)."""
    tokens = seen(teacher, pictures())[0].embeddings.view(3, -1, 48)
    return F.layer_norm(torch.cat([tokens[:, :1], tokens[:, -16:]], 1), (48,))


def sequence(tokens):
    return TokenSequence(tokens.flatten(0, 1), (tokens.shape[1],) * len(tokens), grid=(4, 4), prefix=1)


def test_a_student_that_is_its_teacher_is_at_the_optimum():
    teacher = small_backbone(prefix=3)
    distillation, tokens = taught(teacher), normalised(teacher)
    assert distillation(sequence(tokens), None, None, torch.arange(3)) < 1e-5
    other = distillation(sequence(tokens.roll(1, 1)), None, None, torch.arange(3))
    assert other > 0.1, "each token has its own place"
    assert distillation(sequence(tokens[[2, 0]]), None, None, torch.tensor([2, 0])) < 1e-5, "and each picture"


def test_left_out_patches_are_left_out_of_the_target():
    teacher = small_backbone()
    distillation, tokens = taught(teacher), normalised(teacher)
    torch.manual_seed(0)
    chosen = torch.stack([torch.randperm(16)[:5].sort().values for _ in range(3)])
    part = torch.cat([tokens[:, :1], tokens[:, 1:].gather(1, chosen[..., None].expand(-1, -1, 48))], 1)
    assert distillation(sequence(part), None, chosen, torch.arange(3)) < 1e-5


def test_targets_follow_crops_and_mirror_images():
    teacher = small_backbone()
    distillation, tokens = taught(teacher), normalised(teacher)
    cls, rows = tokens[:, :1], tokens[:, 1:].view(3, 4, 4, 48)
    mirrored = torch.cat([cls, rows.flip(2).flatten(1, 2)], 1)
    views = torch.tensor([1.0, 0, 0, 1]).expand(3, 4)
    assert distillation(sequence(mirrored), views, None, torch.arange(3)) < 1e-5
    # The lower left quarter, on a grid of two patches: exactly its four.
    quarter = torch.cat([cls, rows[:, 2:, :2].flatten(1, 2)], 1)
    small = TokenSequence(quarter.flatten(0, 1), (5,) * 3, grid=(2, 2), prefix=1)
    views = torch.tensor([0, 0.5, 0.5, 1]).expand(3, 4)
    assert distillation(small, views, None, torch.arange(3)) < 1e-5


def test_each_picture_is_seen_once_also_in_the_next_run(tmp_path, monkeypatch):
    teacher = small_backbone()
    asked = []
    monkeypatch.setattr(
        teacher.stem, "forward", lambda images, real=teacher.stem.forward: asked.append(len(images)) or real(images)
    )
    monkeypatch.setattr("metatx.pretraining.distillation.AT_ONCE", 2)
    distillation = Distillation(teacher, teacher)
    distillation.cache_targets(pictures(5).__getitem__, 5, tmp_path / "kept")
    whole, done = np.array(distillation.kept.targets), distillation.kept.done
    assert asked == [2, 2, 1] and done.all() and whole.any(2).all()
    done[3] = False  # killed before the second pass was there
    distillation.cache_targets(pictures(5).__getitem__, 5, tmp_path / "kept")
    assert asked == [2, 2, 1, 2] and np.array_equal(distillation.kept.targets, whole)
    distillation.kept.remove()
    assert not list(tmp_path.iterdir())


def test_processes_share_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("metatx.pretraining.distillation.AT_ONCE", 2)
    teacher = small_backbone()
    distillation = Distillation(teacher, teacher)
    for rank, expected in ((0, [1, 1, 0, 0, 1]), (1, [1, 1, 1, 1, 1])):
        distillation.cache_targets(pictures(5).__getitem__, 5, tmp_path / "kept", (rank, 2))
        assert distillation.kept.done.tolist() == expected
    shared = np.array(distillation.kept.targets)
    distillation.cache_targets(pictures(5).__getitem__, 5, None, (1, 2))
    assert np.array_equal(distillation.kept.targets, shared), "without a file each process sees all"


def test_kept_targets_of_other_processes_stay(tmp_path):
    one, two = (TeacherTargetCache(tmp_path / "kept", (4, 2, 3)) for _ in range(2))
    values = np.arange(24, dtype=np.float16).reshape(4, 2, 3)
    one.targets[[0, 2]], one.done[[0, 2]] = values[[0, 2]], True
    two.targets[[1, 3]], two.done[[1, 3]] = values[[1, 3]], True
    assert one.done.all() and np.array_equal(one.targets, values)


def test_who_cannot_teach_or_be_taught_is_named():
    with pytest.raises(ValueError, match="small cannot teach"):
        Distillation(small_backbone(), small_backbone(prefix=0))
    assert is_image({"image": pictures()[0]})
    for other in ({"tokens": torch.zeros(3)}, {"image": pictures()[0][:1]}, {"image": pictures()[0].float()}):
        assert not is_image(other)
