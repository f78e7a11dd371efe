"""Stem: the pretrained layer of a backbone that turns images into tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Stem", "StemConfig"]

MOST = 65_536  # tokens of an image; attention needs memory for the square of them


@dataclass(frozen=True, kw_only=True)
class StemConfig:
    """Shape and preprocessing that a stem's weights were trained with.

    Attributes:
        patch_size: Side of a patch in pixels.
        image_size: Side in pixels of the square training images, a multiple of ``patch_size``.
        bias: True if the patch convolution has a bias.
        mean: Mean of each channel, for values in 0..1; one a channel.
        std: Standard deviation of each channel, for values in 0..1.
        interpolation: Method of resizing images.
        crop_pct: Share of the resized image's side that the centre crop keeps.
        crop_mode: ``"center"`` keeps the aspect ratio and crops; ``"squash"`` stretches to a square first.
    """

    patch_size: int
    image_size: int
    bias: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    crop_pct: float = 0.9
    crop_mode: Literal["center", "squash"] = "center"

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"Images of {self.image_size} pixels cannot be cut into patches of {self.patch_size}; "
                "a stem needs image_size to be a multiple of patch_size."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from the dict that ``dataclasses.asdict`` returned, or from its JSON.

        Raises:
            KeyError, TypeError: If a field is missing or unknown.
        """
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    @property
    def side(self) -> int:
        """Number of patches along each side of a training image."""
        return self.image_size // self.patch_size


class Stem(nn.Module):
    """Patch convolution and position embedding, and the preprocessing that they were trained with.

    Args:
        dim: Width of the backbone, D.
        config: Shape and preprocessing.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, config: StemConfig) -> None:
        super().__init__()
        self.config = config
        self.proj = nn.Conv2d(len(config.mean), dim, config.patch_size, config.patch_size, bias=config.bias)
        self.positions = nn.Parameter(torch.empty(config.side**2, dim))
        # Constants, not weights: they get values here even where the module is built on the meta device.
        for name, values in (("mean", config.mean), ("std", config.std)):
            constant = torch.tensor(values, device="cpu").view(-1, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches in an image of ``height`` x ``width`` pixels.

        Raises:
            ValueError: If the patches do not cover the image exactly, or are too many.
        """
        patch = self.config.patch_size
        if height % patch or width % patch or not height or not width:
            raise ValueError(
                f"Images of {height} x {width} pixels cannot be cut into patches of {patch}; "
                f"resize them to multiples of {patch}."
            )
        count = (height // patch) * (width // patch)
        if count > MOST:
            raise ValueError(f"Images of {height} x {width} pixels give {count:,} tokens; expected at most {MOST:,}.")
        return height // patch, width // patch

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, C, H, W), values in 0..1, into tokens (B, N, D), row by row.

        Raises:
            ValueError: If patches do not cover the images exactly, or are too many.
        """
        grid = self.grid(*images.shape[-2:])
        normalised = ((images - self.mean) / self.std).to(self.proj.weight.dtype)
        patches: Tensor = self.proj(normalised).flatten(2).transpose(1, 2)
        return patches + self._positions(grid)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings of a grid, (N, D), interpolated where it is not the grid of training."""
        side = self.config.side
        if grid == (side, side):
            return self.positions
        square = self.positions.float().view(1, side, side, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(square, grid, mode="bicubic", antialias=True)
        return resized[0].flatten(1).T.to(self.positions.dtype)
