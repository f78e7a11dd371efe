"""Distillation: a student learns to see what a pretrained teacher sees."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.vit import Backbone
from metatx.layers.unregistered import Unregistered
from metatx.layers.views import places_in_view
from metatx.progress import bar
from metatx.sequence import TokenSequence

__all__ = ["Distillation", "TeacherTargetCache", "is_picture"]

AT_ONCE = 64  # pictures that the teacher sees in one pass


class Distillation(nn.Module):
    """Mean squared distance between the tokens of a picture behind the student, mapped linearly, and the teacher's.

    The teacher sees each whole picture once, at the size of its own weights. Wherever a crop or a mirror image shows
    the student a part of it, each patch is compared with the teacher's map at its place (as ReLabel reads labels from
    a map, Yun et al. 2021, arXiv 2101.05022), and CLS with the CLS of the whole picture, half and half. The teacher's
    tokens are normalised (as in data2vec, Baevski et al. 2022, arXiv 2202.03555), so the distance is between 0 and
    about 2. The linear map is dropped afterwards.

    Args:
        student: Of which the width matters.
        teacher: Frozen, with a stem and a CLS token.

    Raises:
        ValueError: If the teacher has no stem, or one of both no CLS token.
    """

    def __init__(self, student: Backbone, teacher: Backbone) -> None:
        super().__init__()
        if teacher.stem is None or not teacher.config.prefix or not student.config.prefix:
            raise ValueError(f"{teacher.spec} cannot teach: student and teacher need CLS, and the teacher its stem.")
        self._teacher = Unregistered(teacher)
        self.size = teacher.stem.config.image_size
        self.grid = teacher.stem.grid(self.size, self.size)
        self.proj = nn.Linear(student.dim, teacher.dim)
        self.kept: TeacherTargetCache | None = None

    @property
    def teacher(self) -> Backbone:
        """The frozen backbone that is to be matched."""
        return self._teacher.module

    @torch.no_grad()
    def cache_targets(
        self,
        picture: Callable[[int], Tensor],
        count: int,
        path: Path | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Have the teacher look at all pictures that it has not seen yet.

        Args:
            picture: From a sample's number to its picture, uint8 (3, H, W), all of one size.
            count: Samples.
            path: Of the file where what it saw is kept; by default in memory.
            share: This process's number and that of all of them, which share the work through the file.
        """
        self.kept = kept = TeacherTargetCache(path, (count, 1 + math.prod(self.grid), self.teacher.dim))
        rank, world = share if path else (0, 1)
        starts = range(rank * AT_ONCE, count, world * AT_ONCE)
        for start in bar(starts, "teacher") if rank == 0 else starts:
            rows = slice(start, min(start + AT_ONCE, count))
            if not kept.done[rows].all():
                seen = torch.stack([picture(position) for position in range(rows.start, rows.stop)])
                kept.targets[rows] = self._taught(seen.to(self.proj.weight.device)).cpu().numpy()
                kept.done[rows] = True

    def forward(
        self, sequence: TokenSequence, views: Tensor | None, chosen: Tensor | None, positions: Tensor
    ) -> Tensor:
        """Mean over a batch of pictures, a scalar.

        Args:
            sequence: What left the student, with its grid; one sequence a picture.
            views: Which part of each picture it saw (B, 4), see ``metatx.layers.views``; None: the whole.
            chosen: Which patches the student saw, int64 (B, n); None: all of them.
            positions: Numbers of the samples (B,), as ``cache_targets`` had them.
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
        found = _cls_and_patches(self.proj(sequence.embeddings).float(), len(target), sequence.prefix)
        return (F.mse_loss(found[:, 0], target[:, 0]) + F.mse_loss(found[:, 1:], read)) / 2

    def _taught(self, picture: Tensor) -> Tensor:
        """What the teacher makes of pictures (B, 3, H, W): (B, 1 + N, D), float16."""
        stem = self.teacher.stem
        assert stem is not None
        size = [self.size, self.size]
        resized = F.interpolate(picture.float() / 255, size, mode="bicubic", antialias=True).clamp(0, 1)
        seen = self.teacher(TokenSequence.pack(stem(resized)))
        tokens = _cls_and_patches(seen.embeddings.float(), len(picture), seen.prefix)
        return F.layer_norm(tokens, tokens.shape[2:]).half()


class TeacherTargetCache:
    """A teacher's targets, so that it sees each sample once, in resumed runs too.

    Args:
        path: Of their file, which processes share; a second one beside it says what is there already. Both are made
            where they are missing. None keeps them in memory.
        shape: (count, 1 + N, D).
    """

    def __init__(self, path: Path | None, shape: tuple[int, int, int]) -> None:
        self.path = path
        self.targets = _kept(path, np.float16, shape)
        self.done = _kept(path and path.with_suffix(".done"), np.bool_, shape[:1])

    def remove(self) -> None:
        """Both files."""
        if self.path:
            for path in (self.path, self.path.with_suffix(".done")):
                path.unlink(missing_ok=True)


def _kept(path: Path | None, dtype: Any, shape: tuple[int, ...]) -> Any:
    if path is None:
        return np.zeros(shape, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    # To the same size in every process and every run: what another wrote stays.
    os.truncate(path, math.prod(shape) * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


def _cls_and_patches(embeddings: Tensor, count: int, prefix: int) -> Tensor:
    """Tokens (T, D) of equally long sequences, registers left out: (B, 1 + N, D)."""
    tokens = embeddings.view(count, -1, embeddings.shape[1])
    return torch.cat([tokens[:, :1], tokens[:, prefix:]], 1)


def is_picture(sample: dict[str, Any]) -> bool:
    """Whether an encoded sample is a picture that a teacher can see."""
    picture = sample.get("image")
    return isinstance(picture, Tensor) and picture.ndim == 3 and picture.shape[0] == 3 and picture.dtype == torch.uint8
