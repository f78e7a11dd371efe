"""Passing: what tokens say must stay readable behind the blocks, whatever kind of data they come from."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone import Backbone
from metatx.initial import random_weights
from metatx.sequence import TokenSequence
from metatx.tokenizer import sinusoidal_positions

__all__ = ["Passing"]

LENGTHS = (3, 40)  # tokens of a sequence
WORDS = 256  # of a vocabulary
AXES = (3, 48)  # of the plane that the tokens of a sequence lie in
SMOOTH = (0.3, 0.97)  # correlation of neighbours in a series
LEVEL = 1.5  # most that the tokens of a sequence have in common
NOISE = 0.1
RANDOM = 20_260  # seed of the random blocks


class Passing(nn.Module):
    """Share of the variance of made-up tokens that cannot be read back, linearly, from what left the backbone.

    Blocks that are pretrained on pictures and their names know how to read these; of tokens that are something else
    they keep less than random blocks do. So sequences that no data set has pass through beside the pairs: words of a
    random vocabulary, smooth series, and rows without an order, each of these in a random plane of few dimensions. One
    linear map reads each token back at its place, one the mean of its sequence from CLS, and one what random blocks
    make of the same, which is no linear function of the tokens; a third each. The maps are dropped afterwards.

    Args:
        backbone: That is trained.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        dim = backbone.dim
        # Of another seed than the random weights that a backbone is compared with.
        self._shared = (Backbone(backbone.config, random_weights(backbone, seed=RANDOM), spec="random blocks"),)
        self.token, self.mean, self.blocks = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        for readout in (self.token, self.mean, self.blocks):  # the same in every process
            nn.init.zeros_(readout.weight)
            nn.init.zeros_(readout.bias)

    def made(self, count: int) -> TokenSequence:
        """So many sequences of made-up tokens, float32 (T, D), by torch's random numbers."""
        device, dim = self.token.weight.device, self.token.in_features
        longest = LENGTHS[1]
        chosen = torch.randint(WORDS, (count, longest), device=device)
        rare = torch.rand(count, 1, device=device) < 0.5  # as words are: some often, most seldom
        chosen = torch.where(rare, (WORDS ** torch.rand(count, longest, device=device)).long() - 1, chosen)
        words = torch.randn(WORDS, dim, device=device)[chosen]

        axes = torch.arange(AXES[1], device=device) < torch.randint(*AXES, (count, 1), device=device)
        correlation = torch.empty(count, 1, device=device).uniform_(*SMOOTH)
        correlation = torch.where(torch.rand(count, 1, device=device) < 0.5, correlation, 0.0)
        codes = torch.randn(count, longest, AXES[1], device=device)
        for step in range(1, longest):
            codes[:, step] = correlation * codes[:, step - 1] + (1 - correlation**2).sqrt() * codes[:, step]
        planes = torch.randn(count, AXES[1], dim, device=device) * (axes / axes.sum(1, keepdim=True).sqrt())[..., None]
        level = torch.rand(count, 1, 1, device=device) * LEVEL * torch.randn(count, 1, dim, device=device)
        series = codes @ planes + level + NOISE * torch.randn(count, longest, dim, device=device)

        tokens = torch.where(torch.rand(count, 1, 1, device=device) < 1 / 3, words, series)
        placed = (torch.rand(count, 1, 1, device=device) - 0.5).clamp(min=0) * 4  # half of them at all
        tokens = tokens + placed * sinusoidal_positions(torch.arange(longest, device=device), dim)
        lengths = torch.randint(LENGTHS[0], LENGTHS[1] + 1, (count, 1), device=device)
        return TokenSequence.pack(tokens, torch.arange(longest, device=device) < lengths)

    def forward(self, made: TokenSequence, left: TokenSequence) -> Tensor:
        """A scalar: 0 where all can be read, 1 where nothing can.

        Args:
            made: Sequences as they entered the backbone, (T, D).
            left: The same as they left it, each with its prefix.
        """
        tokens = F.layer_norm(made.embeddings, made.embeddings.shape[1:])  # their size does not pass a norm
        means = torch.stack([part.mean(0) for part in torch.split(tokens, list(made.lengths))])
        parts = torch.split(left.embeddings.float(), list(left.lengths))
        places = torch.cat([part[left.prefix :] for part in parts])
        first = torch.stack([part[0] for part in parts])
        with torch.no_grad():
            mixed = self._shared[0].to(made.embeddings.device)(made).embeddings.float()
        shares = [_unread(self.token(places), tokens), _unread(self.mean(first), means)]
        return torch.stack([*shares, _unread(self.blocks(left.embeddings), mixed)]).mean()


def _unread(read: Tensor, true: Tensor) -> Tensor:
    return (read.float() - true).square().sum() / (true - true.mean(0)).square().sum()
