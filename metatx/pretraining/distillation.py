"""Distillation: a student learns to give the image tokens of a pretrained teacher."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.base import Backbone
from metatx.layers.unregistered import Unregistered
from metatx.layers.views import places_in_view
from metatx.progress import bar
from metatx.sequence import TokenSequence

__all__ = ["Distillation", "TeacherTargetCache", "is_image"]

AT_ONCE = 64  # images that the teacher sees in one pass


class Distillation(nn.Module):
    """Mean squared distance between the student's tokens of an image, mapped linearly, and the teacher's.

    The teacher sees each whole image once, at the size of its own weights. Where a crop or a mirror image shows the
    student a part of it, each of the student's patches is compared with the teacher's map at the same place (as ReLabel
    reads labels from a map, Yun et al. 2021, arXiv 2101.05022), and its CLS with the CLS of the whole image; both
    distances have equal weight. The teacher's tokens are normalised (as in data2vec, Baevski et al. 2022, arXiv
    2202.03555), so the distance is between 0 and about 2. The linear map is dropped after pretraining.

    Args:
        student: Backbone that learns; only its width is used here.
        teacher: Frozen backbone with a stem and a CLS token.

    Raises:
        ValueError: If the teacher has no stem, or one of the two backbones has no CLS token.
    """

    def __init__(self, student: Backbone, teacher: Backbone) -> None:
        super().__init__()
        if teacher.stem is None or not teacher.has_cls or not student.has_cls:
            raise ValueError(f"{teacher.spec} cannot teach: student and teacher need CLS, and the teacher its stem.")
        self._teacher = Unregistered(teacher)
        self.size = teacher.stem.config.image_size
        self.grid = teacher.stem.grid(self.size, self.size)
        self.proj = nn.Linear(student.dim, teacher.dim)
        self.kept: TeacherTargetCache | None = None

    @property
    def teacher(self) -> Backbone:
        """Frozen backbone whose tokens are the targets."""
        return self._teacher.module

    @torch.no_grad()
    def cache_targets(
        self,
        image: Callable[[int], Tensor],
        count: int,
        path: Path | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Run the teacher over all images whose targets are not in the cache yet.

        Args:
            image: Function from a sample's number to its image, uint8 (3, H, W); all of one size.
            count: Number of samples.
            path: File of the cache; by default the targets are kept in memory.
            share: Number of this process and number of all processes, which share the work through the file.
        """
        self.kept = kept = TeacherTargetCache(path, (count, 1 + math.prod(self.grid), self.teacher.dim))
        rank, world = share if path else (0, 1)
        starts = range(rank * AT_ONCE, count, world * AT_ONCE)
        for start in bar(starts, "teacher") if rank == 0 else starts:
            rows = slice(start, min(start + AT_ONCE, count))
            if not kept.done[rows].all():
                images = torch.stack([image(position) for position in range(rows.start, rows.stop)])
                kept.targets[rows] = self._targets(images.to(self.proj.weight.device)).cpu().numpy()
                kept.done[rows] = True

    def forward(
        self, sequence: TokenSequence, views: Tensor | None, chosen: Tensor | None, positions: Tensor
    ) -> Tensor:
        """Return the loss, a scalar: the mean over a batch of images.

        Args:
            sequence: Tokens that left the student, with their grid; one sequence an image.
            views: Part of each image that the student saw (B, 4), see ``metatx.layers.views``; None: the whole.
            chosen: Numbers of the patches that the student saw, int64 (B, n); None: all of them.
            positions: Numbers of the samples (B,), as ``cache_targets`` counted them.
        """
        assert sequence.grid is not None and self.kept is not None
        target = torch.from_numpy(self.kept.targets[positions.cpu().numpy()]).to(positions.device).float()
        maps = target[:, 1:].transpose(1, 2).reshape(len(target), -1, *self.grid)
        if views is None:
            views = target.new_tensor([0, 0, 1, 1]).expand(len(target), 4)
        places = places_in_view(views, (sequence.grid[0], sequence.grid[1]))
        read = F.grid_sample(maps, places, padding_mode="border", align_corners=False).flatten(2).transpose(1, 2)
        if chosen is not None:
            read = read.gather(1, chosen[..., None].expand(-1, -1, read.shape[2]))
        tokens = _cls_and_patches(self.proj(sequence.embeddings).float(), len(target), sequence.num_prefix_tokens)
        return (F.mse_loss(tokens[:, 0], target[:, 0]) + F.mse_loss(tokens[:, 1:], read)) / 2

    def _targets(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to the teacher's normalised tokens (B, 1 + N, D), float16."""
        stem = self.teacher.stem
        assert stem is not None
        size = [self.size, self.size]
        resized = F.interpolate(images.float() / 255, size, mode="bicubic", antialias=True).clamp(0, 1)
        sequence = self.teacher(TokenSequence.pack(stem(resized)))
        tokens = _cls_and_patches(sequence.embeddings.float(), len(images), sequence.num_prefix_tokens)
        return F.layer_norm(tokens, tokens.shape[2:]).half()


class TeacherTargetCache:
    """Cache of a teacher's targets: it sees each sample once, also where a run is resumed.

    Args:
        path: File of the targets, which processes share; a second file beside it marks the samples that are done. Both
            are made where they are missing. None keeps the targets in memory.
        shape: Shape of the targets, (count, 1 + N, D).
    """

    def __init__(self, path: Path | None, shape: tuple[int, int, int]) -> None:
        self.path = path
        self.targets = _kept(path, np.float16, shape)
        self.done = _kept(path and path.with_suffix(".done"), np.bool_, shape[:1])

    def remove(self) -> None:
        """Delete both files."""
        if self.path:
            for path in (self.path, self.path.with_suffix(".done")):
                path.unlink(missing_ok=True)


def _kept(path: Path | None, dtype: Any, shape: tuple[int, ...]) -> Any:
    if path is None:
        return np.zeros(shape, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    # The size is the same in every process and every run, so what another process wrote stays.
    os.truncate(path, math.prod(shape) * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


def _cls_and_patches(embeddings: Tensor, count: int, prefix: int) -> Tensor:
    """Reshape tokens (T, D) of equally long sequences to (B, 1 + N, D), without register tokens."""
    tokens = embeddings.view(count, -1, embeddings.shape[1])
    return torch.cat([tokens[:, :1], tokens[:, prefix:]], 1)


def is_image(sample: dict[str, Any]) -> bool:
    """Return True if an encoded sample is an image that a teacher can see: uint8 (3, H, W)."""
    image = sample.get("image")
    return isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] == 3 and image.dtype == torch.uint8
