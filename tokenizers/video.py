"""Video -> tokens: tubelets that start from the backbone's stem, and slices through time that it sees as pictures."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.stem import Stem
from metatx.json_schema import array_schema
from metatx.layers.folding import random_stem
from metatx.layers.views import random_view
from metatx.padded import PaddedTokens
from metatx.places import PicturePlaces, Places, patch_names
from metatx.reading.signatures import signatures_of
from metatx.reading.video import SUFFIXES, evenly, read_video
from metatx.sequence import TokenSequence, sent
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["VideoTokenizer"]

DENSE = 3  # times as many frames are kept where clips are cut in time; odd, so that the middle one is the even sample
SHORTEST = 0.5  # share of a clip that a cut keeps
CROP_AREA = (0.5, 1.0)  # share of a picture's area that a crop keeps
THUMBNAIL = 8  # side of the description's pictures
LAGS = (1, 2, 4, 8)  # frames between those that the description compares
MOTION = 8.0  # how much stronger than the stem the filters on differences start: frames that follow differ little


class VideoTokenizer(Tokenizer):
    """Tokens of a clip of evenly spread frames, each cut around its middle to the size of the tokens' grid.

    ``"tubelets"`` (ViViT, Arnab et al. 2021, arXiv 2103.15691): one for each patch of so many frames. A copy of the
    stem reads the mean of the frames, and filters of their own read how each differs from it; those start as the
    stem's, weighed by their place in time. So a still clip gives what the stem gives for its picture, and movement is
    seen from the start. The place in time is added to that in space, and starts at zero.

    ``"slices"``: the clip as a block, cut lengthwise: at each of so many columns, a picture of height and time, in
    which what moves draws a line, steeper the faster it is. Another copy of the stem reads them, with its positions.

    Args:
        dim: Width of the backbone.
        stem: ``backbone.stem``, which is never changed; without one, a random one.
        tokens: ``"tubelets"``, ``"slices"`` or ``"both"``.
        frames: Number of frames of a clip; a film with fewer repeats them.
        image_size: Side in pixels, or [height, width], multiples of the patch; by default the stem's own.
        tubelet_size: Frames of a tubelet, and of a patch of a slice; they divide ``frames``.
        slices: Columns that slices are cut at.
        freeze_stem: Leave all as it starts, so that features are computed once.
        augment: In training, any of: ``"flip"`` left and right; ``"crop"`` and resize; ``"reverse"`` in time;
            ``"cut"``: the frames are spread over a random part, at least half, of the film, which makes it seem slower.
        time_axis: Axis of an array that is time: 0 for (T, H, W, 3) and (T, 3, H, W), 1 for (3, T, H, W).

    Raises:
        ValueError: If an option is none of its choices, or frames and tubelets do not fit.
    """

    suffixes = SUFFIXES
    tunable = {"freeze_stem": (False, True)}
    stem = "image"
    signatures = signatures_of(suffixes)
    default_head = "classification"

    def __init__(
        self,
        dim: int,
        stem: Stem | None,
        tokens: Literal["tubelets", "slices", "both"] = "tubelets",
        frames: int = 16,
        image_size: int | Sequence[int] | None = None,
        tubelet_size: int = 2,
        slices: int = 7,
        freeze_stem: bool = False,
        augment: Sequence[Literal["flip", "crop", "reverse", "cut"]] = (),
        time_axis: Literal[0, 1] = 0,
    ) -> None:
        super().__init__(dim)
        if frames < 1 or tubelet_size < 1 or frames % tubelet_size:
            raise ValueError(f"{frames} frames cannot be cut into tubelets of {tubelet_size}; give a multiple.")
        if slices < 1:
            raise ValueError(f"slices is {slices}; it must be at least 1.")
        self.uses_stem_tokens = stem is not None
        self.frames = frames
        self.variations = tuple(augment)
        self.time_axis = time_axis
        self.augments = bool(augment)
        own = _trainable(stem, dim)
        self.interpolation = own.config.interpolation
        size = image_size or own.config.image_size
        self.height, self.width = (size, size) if isinstance(size, int) else (int(side) for side in size)
        rows, columns = own.grid(self.height, self.width)
        self.grid = (frames // tubelet_size, rows, columns) if tokens == "tubelets" else None
        self.views = nn.ModuleList()
        if tokens != "slices":
            self.views.append(_Tubelets(own, frames // tubelet_size, tubelet_size))
        if tokens != "tubelets":
            self.views.append(_Slices(_trainable(stem, dim), frames // tubelet_size, slices))
        self.requires_grad_(not freeze_stem)

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Names of video files, and the dicts of Hugging Face's columns."""
        if isinstance(value, dict):
            return set(value) == {"bytes", "path"} and (value["path"] is None or cls.accepts(value["path"]))
        return super().accepts(value)

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A film, in any form ``read_video`` knows, to ``clip`` uint8 (T, 3, H, W)."""
        count = self.frames * (DENSE if "cut" in self.variations else 1)
        frames = read_video(sample, count, (self.height, self.width), self.interpolation, self.time_axis)
        return {"clip": torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()}

    def json_schema(self) -> dict[str, Any]:
        """Frames of 8 bits."""
        pixel = {"type": "integer", "minimum": 0, "maximum": 255}
        frames = array_schema("frames", "height", "width", "red, green, blue", cells=pixel)
        frames["items"]["items"]["items"] |= {"minItems": 3, "maxItems": 3}
        clip = [
            [[[60 * frame, 30 * row, 30 * column] for column in range(4)] for row in range(4)] for frame in range(4)
        ]
        return {**frames, "description": "Pixels 0..255; easier sent as a file.", "examples": [clip]}

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """The clip spread over a part of the film, reversed, cropped, mirrored, at random."""
        clip = encoded["clip"]
        if "cut" in self.variations:
            share, place = torch.rand(2).tolist()
            kept = round(len(clip) * (SHORTEST + (1 - SHORTEST) * share))
            start = round((len(clip) - kept) * place)
            clip = clip[start + evenly(kept, len(clip))]
        if "reverse" in self.variations and torch.rand(()) < 0.5:
            clip = clip.flip(0)
        flip = 0.5 * ("flip" in self.variations)
        area = CROP_AREA if "crop" in self.variations else None
        varied, _ = random_view(clip.flatten(0, 1), flip, area)  # all frames as channels of one picture
        return {"clip": varied.reshape(clip.shape)}

    def forward(self, batch: Batch) -> TokenSequence:
        """Clips uint8 (B, T, 3, H, W) to the tokens of each view, one after the other."""
        return self.padded(batch).packed()

    def padded(self, batch: Batch) -> PaddedTokens:
        """Tokens (B, N, D) of each view, one after the other."""
        clips = batch["clip"]
        chosen = sent(torch.as_tensor(evenly(clips.shape[1], self.frames)), clips.device)
        clips = clips[:, chosen].float().div_(255)  # in place: each copy of a batch takes hundreds of megabytes
        tokens = [view(clips) for view in self.views]
        return PaddedTokens(torch.cat(tokens, dim=1), grid=self.grid)

    def token_places(self, sample: Any) -> Places:
        """Patches of each tubelet, shown on its middle frame, and of the slices, which have names alone."""
        clip = self.encode(sample)["clip"].permute(0, 2, 3, 1).numpy() / 255
        clip = clip[evenly(len(clip), self.frames)]
        grid = (0, 0)
        names: list[str] = []
        for view in self.views:
            if isinstance(view, _Tubelets):
                grid = view.stem.grid(self.height, self.width)
                clip = clip[view.size // 2 :: view.size]
                starts = [f"frame {view.size * at + 1}" for at in range(len(clip))]
                names += [f"{start}, {patch}" for start in starts for patch in patch_names(*grid)]
            elif isinstance(view, _Slices):
                patches = patch_names(*view.stem.grid(self.height, view.length))
                names += [f"slice {at + 1}, {patch}" for at in range(view.columns) for patch in patches]
        return PicturePlaces(names, clip, grid) if grid != (0, 0) else Places(names)

    def baseline_features(self, sample: Any) -> np.ndarray:
        """A thumbnail's mean and deviation over time, and how much, where and how evenly frames differ."""
        side = 4 * THUMBNAIL
        frames = (
            read_video(sample, self.frames, (side, side), "bilinear", self.time_axis)
            @ np.array((0.299, 0.587, 0.114))
            / 255
        )
        small = frames.reshape(len(frames), THUMBNAIL, 4, THUMBNAIL, 4).mean((2, 4))
        movement = [np.abs(frames[lag:] - frames[:-lag]) if lag < len(frames) else 0 * frames for lag in LAGS]
        spread = [part.mean((1, 2)) for part in movement]
        amounts = [[part.mean(), part.std(), part.max(), part.min()] for part in spread]
        quantiles = [np.quantile(part, [0.5, 0.9, 0.99]) for part in movement]
        return np.concatenate([small.mean(0).ravel(), small.std(0).ravel(), *amounts, *quantiles])


def _trainable(stem: Stem | None, dim: int) -> Stem:
    return random_stem(dim) if stem is None else copy.deepcopy(stem).requires_grad_(True)


class _Tubelets(nn.Module):
    """The stem on the mean of each tubelet's frames, and filters on what differs from it."""

    def __init__(self, stem: Stem, count: int, size: int) -> None:
        super().__init__()
        self.stem = stem
        self.size = size
        dim, channels, patch, _ = stem.proj.weight.shape
        self.motion: nn.Conv2d | None = None
        if size > 1:
            # With the stem's, any filter over the tubelet (ViViT's inflation); still clips see the stem's alone.
            self.motion = nn.Conv2d(size * channels, dim, patch, patch, bias=False)
            patches = stem.proj.weight.detach()[:, None]
            rising = torch.linspace(-1, 1, size)[:, None, None, None].to(patches.device)
            weights = MOTION * rising * patches
            self.motion.weight = nn.Parameter(weights.flatten(1, 2))
        self.time = nn.Parameter(torch.zeros(count, 1, dim))

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) in 0..1 to (B, N, D), the tubelets in order of time, then by rows."""
        tubelets = clips.reshape(-1, self.size, *clips.shape[2:])
        means = tubelets.mean(1, keepdim=True)
        tokens: Tensor = self.stem(means[:, 0])
        if self.motion is not None:
            differing = (tubelets - means).div_(self.stem.std).flatten(1, 2)
            tokens = tokens + self.motion(differing).flatten(2).transpose(1, 2)
        placed: Tensor = tokens.reshape(-1, clips.shape[1] // self.size, *tokens.shape[1:]) + self.time
        return placed.flatten(1, 2)


class _Slices(nn.Module):
    """The stem on pictures of height and time, one for each of some columns of the clip."""

    def __init__(self, stem: Stem, count: int, columns: int) -> None:
        super().__init__()
        self.stem = stem
        self.columns = columns
        self.length = count * stem.config.patch_size

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) in 0..1 to (B, N, D), column by column, then by rows."""
        at = sent(torch.as_tensor(evenly(clips.shape[4], self.columns)), clips.device)
        pictures = clips[..., at].permute(0, 4, 2, 3, 1).flatten(0, 1)  # (B * columns, 3, H, T)
        size = (clips.shape[3], self.length)
        tokens: Tensor = self.stem(F.interpolate(pictures, size=size, mode="bilinear", antialias=True))
        return tokens.reshape(clips.shape[0], -1, tokens.shape[2])
