"""Towers: ways of a modality's samples into the space of an alignment, trained or locked."""

import hashlib
import json
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.base import Backbone
from metatx.layers.input_norm import input_norm
from metatx.pretraining.encoders import FrozenEncoder
from metatx.registry import all_options
from metatx.sequence import TokenSequence, as_sequence
from metatx.tokenizer import Tokenizer

__all__ = ["FEATURES", "ExternalTower", "Pooling", "Tower"]

FEATURES = "features"  # field of a batch of cached features (B, W), in the place of a tokenizer's fields

Pooling = Literal["cls", "mean", "cls_mean"]


class Tower(nn.Module):
    """Tokenizer of one modality, the norm behind it, and the linear map from the backbone's output to the space.

    Args:
        backbone: Backbone that the tokens pass through.
        tokenizer: Tokenizer of the modality.
        size: Width of the space, E.
        pooling: Part of the backbone's output that the map reads: CLS, the mean of the other tokens, or both beside
            each other. None: CLS, or the mean where the backbone has none.

    Attributes:
        locked: True for an anchor, which nothing changes any more.
    """

    def __init__(self, backbone: Backbone, tokenizer: Tokenizer, size: int, pooling: Pooling | None = None) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.norm = input_norm(backbone, tokenizer)
        self.pooling = pooling or ("cls" if backbone.has_cls else "mean")
        self.locked = False
        width = backbone.dim * (2 if self.pooling == "cls_mean" else 1)
        self.proj = nn.Linear(width, size, bias=False)
        nn.init.normal_(self.proj.weight, std=width**-0.5)

    def tokens(self, batch: dict[str, Any]) -> TokenSequence:
        """Map collated tensors to the sequences that enter the backbone."""
        sequence = as_sequence(self.tokenizer(batch))
        return sequence.with_embeddings(self.norm(sequence.embeddings))

    def pool(self, sequence: TokenSequence) -> Tensor:
        """Features of each sample (B, W), from the output of the backbone."""
        if self.pooling == "cls_mean":
            return torch.cat([sequence.cls(), sequence.mean()], 1)
        return sequence.cls() if self.pooling == "cls" else sequence.mean()

    def project(self, features: Tensor) -> Tensor:
        """Map features (B, W) to unit vectors (B, E), float32."""
        return F.normalize(self.proj(features).float(), dim=1)

    def vectors(self, sequence: TokenSequence) -> Tensor:
        """Map the output of the backbone to unit vectors (B, E), float32."""
        return self.project(self.pool(sequence))

    def lock(self) -> Self:
        """Make the tower an anchor: no parameter takes a gradient, and no statistic moves."""
        self.locked = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode where the tower is locked."""
        return super().train(mode and not self.locked)

    @property
    def fixed(self) -> bool:
        """True if nothing before the linear map trains, so that the features of a sample that is not varied stay."""
        below = [*self.tokenizer.parameters(), *self.norm.parameters()]
        return self.locked or not any(weight.requires_grad for weight in below)

    @property
    def maps(self) -> bool:
        """True if the linear map is trained."""
        return self.proj.weight.requires_grad

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of options, facts and weights."""
        options = {**all_options(self.tokenizer), **self.tokenizer.fitted}
        return _digest([self.tokenizer.name, options, self.pooling], self)


class ExternalTower(nn.Module):
    """Anchor from another model: its frozen encoder, and a linear map from its vectors to the space, or none.

    The encoder is no submodule, and its weights are in no ``state_dict()``.

    Args:
        encoder: Frozen encoder, whose vectors are E' wide.
        size: Width of the space, E.
        mapped: Train a linear map; otherwise E' must be E.

    Raises:
        ValueError: If there is no map, and the widths differ.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, encoder: FrozenEncoder, size: int, mapped: bool = True) -> None:
        super().__init__()
        if not mapped and encoder.dim != size:
            raise ValueError(
                f"The vectors of {encoder.name} are {encoder.dim} wide and the space is {size}; train a map between "
                "them (mapped=True), or make an alignment of their width."
            )
        self.encoder = encoder
        self.mapped = mapped
        self.proj: nn.Linear | nn.Identity = nn.Identity()
        if mapped:
            self.proj = nn.Linear(encoder.dim, size, bias=False)
            nn.init.normal_(self.proj.weight, std=encoder.dim**-0.5)

    def project(self, features: Tensor) -> Tensor:
        """Map the encoder's vectors (B, E') to unit vectors (B, E), float32."""
        return F.normalize(self.proj(features).float(), dim=1)

    @property
    def maps(self) -> bool:
        """True if there is a linear map that is trained."""
        return any(weight.requires_grad for weight in self.proj.parameters())

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the encoder's fingerprint and the map."""
        return _digest([self.encoder.fingerprint, self.mapped], self)


def _digest(facts: list[Any], module: nn.Module) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
