"""Distillation: a student learns to see what a pretrained teacher sees."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone import Backbone
from metatx.sequence import TokenSequence

__all__ = ["Distillation", "KeptTargets", "picture_of"]


class Distillation(nn.Module):
    """Mean squared distance between the tokens of a picture behind the student, mapped linearly, and the teacher's.

    The teacher sees the picture that the student sees, resized so that both have the same grid of patches: each patch
    is compared with its own, and CLS with CLS, half and half. Its tokens are normalised (as in data2vec, Baevski et al.
    2022, arXiv 2202.03555), so the distance is between 0 and about 2. The linear map is dropped afterwards.

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
        self._shared = (teacher,)
        self.proj = nn.Linear(student.dim, teacher.dim)
        self.kept: KeptTargets | None = None

    @property
    def teacher(self) -> Backbone:
        """The frozen backbone that is to be matched."""
        return self._shared[0]

    def forward(
        self, sequence: TokenSequence, picture: Tensor, chosen: Tensor | None, positions: Tensor, view: int
    ) -> Tensor:
        """Mean over a batch of pictures, a scalar.

        Args:
            sequence: What left the student, with its grid; one sequence a picture.
            picture: uint8 (B, 3, H, W).
            chosen: Which patches the student saw, int64 (B, n); None: all of them.
            positions: Numbers of the samples (B,), under which targets are kept.
            view: Number of the variation that the picture shows.
        """
        assert sequence.grid is not None
        target = self._targets(picture, sequence.grid, positions.cpu().numpy(), view)  # (B, 1 + N, D)
        if chosen is not None:
            places = chosen[..., None].expand(-1, -1, target.shape[2])
            target = torch.cat([target[:, :1], target[:, 1:].gather(1, places)], 1)
        found = _cls_and_patches(self.proj(sequence.embeddings).float(), len(target), sequence.prefix)
        distance = F.mse_loss(found, target, reduction="none").mean(2)
        return (distance[:, 0].mean() + distance[:, 1:].mean()) / 2

    def _targets(self, picture: Tensor, grid: tuple[int, ...], positions: np.ndarray, view: int) -> Tensor:
        """What the teacher makes of the pictures (B, 1 + N, D), float32, rounded to what is kept."""
        if self.kept is None:
            return self._taught(picture, grid).float()
        targets, done = self.kept.opened((1 + math.prod(grid), self.teacher.dim))
        new = np.flatnonzero(~done[view, positions])
        if len(new):
            targets[view, positions[new]] = self._taught(picture[torch.from_numpy(new)], grid).cpu().numpy()
            done[view, positions[new]] = True
        return torch.from_numpy(targets[view, positions]).to(picture.device).float()

    @torch.no_grad()
    def _taught(self, picture: Tensor, grid: tuple[int, ...]) -> Tensor:
        stem = self.teacher.stem
        assert stem is not None
        size = [side * stem.config.patch_size for side in grid]
        resized = F.interpolate(picture.float() / 255, size, mode="bicubic", antialias=True).clamp(0, 1)
        seen = self.teacher(TokenSequence.pack(stem(resized)))
        tokens = _cls_and_patches(seen.embeddings.float(), len(picture), seen.prefix)
        return F.layer_norm(tokens, tokens.shape[2:]).half()


class KeptTargets:
    """A teacher's targets on disk, float16, so that it sees each view of each sample once, in resumed runs too.

    Args:
        path: Of the file; a second one beside it says what is there already. Both are made where they are missing.
        views: Variations of each sample.
        count: Samples.
    """

    def __init__(self, path: Path, views: int, count: int) -> None:
        self.path, self.views, self.count = path, views, count
        self.files: tuple[Any, Any] | None = None

    def opened(self, shape: tuple[int, int]) -> tuple[Any, Any]:
        """Targets float16 (views, count, 1 + N, D), each of ``shape`` (1 + N, D), and which are there, bool."""
        if self.files is None:
            sizes = self.views, self.count
            self.files = (
                _mapped(self.path, np.float16, (*sizes, *shape)),
                _mapped(self.path.with_suffix(".done"), np.bool_, sizes),
            )
        return self.files

    def remove(self) -> None:
        """Both files."""
        for path in (self.path, self.path.with_suffix(".done")):
            path.unlink(missing_ok=True)


def _mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    # To the same size in every process and every run: what another wrote stays.
    os.truncate(path, math.prod(shape) * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


def _cls_and_patches(embeddings: Tensor, count: int, prefix: int) -> Tensor:
    """Tokens (T, D) of equally long sequences, registers left out: (B, 1 + N, D)."""
    tokens = embeddings.view(count, -1, embeddings.shape[1])
    return torch.cat([tokens[:, :1], tokens[:, prefix:]], 1)


def picture_of(batch: dict[str, Any]) -> Tensor:
    """The pictures in a collated batch. Raises ValueError if there are none."""
    picture = batch.get("image")
    if not isinstance(picture, Tensor) or picture.ndim != 4 or picture.shape[1] != 3:
        raise ValueError(f"A teacher reads pictures of three channels; this modality encodes to {', '.join(batch)}.")
    return picture
