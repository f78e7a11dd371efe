"""Batches of several inputs for fusions, without tokenizers, and the table of fusions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

import metatx
from metatx import Backbone, Fusion, TokenSequence
from metatx.backbone.attention import Packing
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.sequence import picked
from tests.adapters.trained import scramble

INPUTS = ["photo", "words", "facts"]
SHAPE = BackboneConfig(
    dim=32, depth=4, num_heads=2, mlp_dim=64, norm_pre=True, stem=StemConfig(patch_size=4, image_size=16)
)
CONFIGS = {
    "cls": SHAPE,
    "registers": replace(SHAPE, prefix=3, norm_pre=False),
    "bare": replace(SHAPE, prefix=0),
}


def backbone(config: str = "cls") -> Backbone:
    return VisionTransformer(CONFIGS[config], None, spec="small")


Sizes = Sequence[Sequence[int]]  # numbers of tokens of the sequences of each input of a sample; none: it is missing
BATCH: list[Sizes] = [[[5], [3, 2], [1]], [[], [4], [1]], [[5], [], []], [[2], [3], []]]


def batch(samples: Sequence[Sizes] = BATCH, seed: int = 0) -> TokenSequence:
    """Random tokens of samples with these sizes, the same for the same sizes and seed."""
    torch.manual_seed(seed)
    lengths = tuple(size for sample in samples for sizes in sample for size in sizes)
    names = [name for sample in samples for name, sizes in zip(INPUTS, sample, strict=True) for _ in sizes]
    counts = tuple(sum(map(len, sample)) for sample in samples)
    return TokenSequence(torch.randn(sum(lengths), 32), lengths, sequences_per_sample=counts, sources=tuple(names))


def samples_of(sequence: TokenSequence) -> list[TokenSequence]:
    """Each sample as a batch of its own."""
    counts = sequence.sequences_per_sample
    owners = [at for at, count in enumerate(counts) for _ in range(count)]
    parts = [picked(sequence, [owner == at for owner in owners]) for at in range(len(counts))]
    return [replace(part, sequences_per_sample=(counts[at],), fuse_at=None) for at, part in enumerate(parts)]


def built(name: str, base: Backbone, inputs: Sequence[str] = INPUTS, main: str = "words", **options) -> Fusion:
    """Fusion at its first step."""
    torch.manual_seed(1)
    fusion = metatx.create("fusions", name, base.dim, **options)
    facts = {"inputs": list(inputs), "main": main, "depth": base.depth, "class_token": base.has_cls}
    return fusion.restore(facts).eval()


def trained(name: str, base: Backbone, **options) -> Fusion:
    """Fusion none of whose weights is at its start."""
    return scramble(built(name, base, product=4, **options))


def passed(fusion: Fusion, base: Backbone, sequence: TokenSequence, layers: int = 1, adapter=None) -> TokenSequence:
    """Output of the backbone."""
    return base(fusion.enter(sequence), layers=layers, adapter=adapter, exchange=fusion)


def fused(fusion: Fusion, base: Backbone, sequence: TokenSequence, layers: int = 1, adapter=None) -> Tensor:
    """Fused tokens (B, 2, layers * D)."""
    pooled = fusion.pool(passed(fusion, base, sequence, layers, adapter))
    return fusion.leave(pooled).embeddings.unflatten(0, (-1, 2))


def main_alone(sequence: TokenSequence) -> list[bool]:
    """True for sequences of the main input, and for all of a sample that has none."""
    counts = iter(sequence.sequences_per_sample)
    keep: list[bool] = []
    while len(keep) < len(sequence.sources):
        names = sequence.sources[len(keep) :][: next(counts)]
        keep += [name == "words" or "words" not in names for name in names]
    return keep


def by_hand(base: Backbone, fusion: Fusion, sequence: TokenSequence) -> TokenSequence:
    """Bottleneck fusion with loops over samples, inputs and blocks; returns the output without the copies."""
    count = fusion.tokens
    prefix = base.num_prefix_tokens
    found = []
    for sample in samples_of(sequence):
        rows = [
            base.norm_pre(torch.cat([base.cls_token, tokens, fusion.bottleneck]))
            for tokens in sample.embeddings.split(sample.lengths)
        ]
        for number, block in enumerate(base.blocks):
            rows = [block(row, Packing((len(row) - prefix,), prefix, base.device)) for row in rows]
            if number in fusion.blocks:
                copies = {name: [] for name in sample.sources}
                for name, row in zip(sample.sources, rows, strict=True):
                    copies[name].append(row[-count:])
                mean = torch.stack([torch.stack(each).mean(0) for each in copies.values()]).mean(0)
                rows = [torch.cat([row[:-count], mean]) for row in rows]
        found += [base.norm(row[:-count]) for row in rows]
    lengths = tuple(length + prefix for length in sequence.lengths)
    return replace(sequence, embeddings=torch.cat(found), lengths=lengths, num_prefix_tokens=prefix)


def from_block(base: Backbone, fusion: Fusion, sequence: TokenSequence) -> TokenSequence:
    """The frozen backbone alone, in which a sample's sequences attend to one another from ``fuse_at`` on."""
    return base(replace(sequence, fuse_at=(fusion.fuse_at,) * len(sequence)))


def apart(base: Backbone, fusion: Fusion, sequence: TokenSequence) -> TokenSequence:
    """The frozen backbone alone, input by input."""
    return base(sequence)


def of_main(base: Backbone, fusion: Fusion, sequence: TokenSequence) -> TokenSequence:
    """Output for the main input, where there is one."""
    return picked(base(sequence), main_alone(sequence))


@dataclass(frozen=True)
class FusionRow:
    """Row of the table.

    Attributes:
        first: Output of the backbone whose mean over the inputs is the fused vector of the first step.
        tolerance: Greatest difference from it; 0 for equality to the last bit.
        options: Options to be tested.
    """

    first: Callable[[Backbone, Fusion, TokenSequence], TokenSequence]
    tolerance: float = 0.0
    options: list[dict] = field(default_factory=lambda: [{}])


FUSIONS = {
    "bottleneck": FusionRow(by_hand, 1e-5, [{}, {"at": 0, "tokens": 1}, {"at": 1}]),
    "coattention": FusionRow(apart, options=[{}, {"every": 1}, {"every": 3}]),
    "early": FusionRow(from_block),
    "gated": FusionRow(of_main, options=[{}, {"every": 3, "latents": 2}, {"aside": True}]),
    "late": FusionRow(apart),
    "mid": FusionRow(from_block, options=[{}, {"at": 1}]),
}
CASES = [(name, options) for name, row in FUSIONS.items() for options in row.options]
