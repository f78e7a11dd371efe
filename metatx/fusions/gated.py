"""Gated cross-attention: the main input reads a few latents of the others between the blocks."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from metatx.fusion import TOKENS, Fusion, exchanges
from metatx.layers.cross_attention import CrossAttention, feed_forward, padded_pairs
from metatx.layers.resampler import Resampler
from metatx.sequence import TokenSequence, picked, sent

__all__ = ["GatedFusion"]

# In the context of a batch whose others do not pass the blocks; it belongs to a pass, so that threads share nothing.
LATENTS = "gated.latents"  # latents of each sample's others, (L, D); (0, D) where nothing is read
OTHERS = "gated.others"  # what ``Fusion.pool`` says of these inputs, (B, n, 2 D + 1)


class GatedFusion(Fusion):
    """The main input reads the others by gated cross-attention (Flamingo, Alayrac et al. 2022, arXiv 2204.14198).

    All inputs go through the backbone apart. Behind every few blocks a Perceiver resampler makes latents of the tokens
    of all other inputs, and the main input's tokens attend to them and pass two linear layers, each scaled by tanh of a
    gate that is 0 at first. The first step is so that of the main input alone. A sample without the main input, or with
    nothing else, is not changed; without the main input the mean of the others takes its place.

    In Flamingo the other inputs (images) are finished before the main one (words) begins: ``aside`` does this. The
    others then do not pass the blocks, and one set of latents of their tokens is read behind each of ``blocks``; the
    mean of their tokens is pooled. Without it all pass the blocks together, and each exchange reads the others' tokens
    behind the same block, with the same resampler, which so sees shallow features and deep ones.

    Args:
        dim: Width of the backbone, D.
        latents: Number of latents that the other inputs of a sample are made to.
        every: Number of blocks from one exchange to the next; each exchange trains 8 D^2 weights, the resampler as
            many.
        aside: True: the others do not pass the blocks, for which an input with ``through`` is ready. None: so on a
            causal language model alone.
        product, dropout, max_tokens: The options of ``Fusion``.

    Raises:
        ValueError: If there is no latent.
    """

    joins = True
    on_causal = True
    blocks: range = range(0)

    def __init__(
        self,
        dim: int,
        latents: int = 16,
        every: int = 2,
        aside: bool | None = None,
        product: int = 0,
        dropout: float = 0.0,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__(dim, product, dropout, max_tokens)
        if latents < 1:
            raise ValueError(f"--fusion.latents is {latents}; give at least 1.")
        self.latents = latents
        self.every = every
        self.aside = aside

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool) -> None:
        """Make the layers. Raises ValueError if no exchange follows from ``every``."""
        super().build(inputs, main, depth, class_token)
        if len(inputs) > 1 and depth:
            self.blocks = exchanges(self.every, depth)
            self.resampler = Resampler(self.dim, self.latents)
            self.layers = nn.ModuleList(GatedLayer(self.dim) for _ in self.blocks)

    @property
    def apart(self) -> int:
        """Number of blocks before the first exchange if the others stand aside, else 0."""
        aside = self.causal if self.aside is None else self.aside
        return self.blocks[0] + 1 if self.blocks and aside else 0

    def enter(self, sequence: TokenSequence) -> TokenSequence:
        """Mark the inputs' tokens; with ``aside``, take out those that the main input reads, and resample them."""
        if not self.apart:
            return super().enter(sequence)
        sequence = self.left(sequence)
        marked = self.marked(sequence)
        main = self.inputs.index(self.main)
        counts = self.sequences_of(sequence)
        reads = [of_sample[main] > 0 and sum(of_sample) > of_sample[main] for of_sample in counts]
        is_main = [source == self.main for source in sequence.sources or ()]
        _, others = padded_pairs(marked, is_main, [not is_own for is_own in is_main])
        made = iter(self.resampler(others.pad(marked.embeddings), others.mask) if any(reads) else ())
        nothing = marked.embeddings.new_zeros(0, self.dim)
        pooled = super().pool(marked)
        of_reader = sent(torch.tensor(reads)[:, None] & (torch.arange(len(counts[0])) != main), pooled.device)
        context = {
            **sequence.context,
            LATENTS: [next(made) if read else nothing for read in reads],
            OTHERS: pooled.where(of_reader[..., None], 0),
        }
        owners = [read for read, of_sample in zip(reads, counts, strict=True) for _ in range(sum(of_sample))]
        stays = [is_own or not read for is_own, read in zip(is_main, owners, strict=True)]
        return replace(picked(sequence, stays), context=context)

    def forward(self, block: int, sequence: TokenSequence) -> Tensor:
        """Tokens (T, D), of which those of the main input have read the others."""
        tokens = sequence.embeddings
        aside: Sequence[Tensor] | None = sequence.context.get(LATENTS)
        if aside is None:
            is_main = [source == self.main for source in sequence.sources or ()]
            readers, others = padded_pairs(sequence, is_main, [not is_own for is_own in is_main])
        else:
            counts = sequence.sequences_per_sample or (1,) * len(sequence)
            reads = [len(latents) > 0 for latents, count in zip(aside, counts, strict=True) for _ in range(count)]
            readers, others = padded_pairs(sequence, reads, reads)
        if not len(readers):
            return tokens
        if aside is None:
            latents = self.resampler(others.pad(tokens), others.mask)
        else:
            latents = torch.stack([latents for latents in aside if len(latents)])
        changed = self.layers[self.blocks.index(block)](readers.pad(tokens), latents)
        return tokens.index_copy(0, readers.numbers(), readers.unpad(changed).to(tokens.dtype))

    def pool(self, sequence: TokenSequence) -> Tensor:
        """CLS and mean of each input, see ``Fusion.pool``; of one that did not pass the blocks the mean, as both."""
        pooled = super().pool(sequence)
        others = sequence.context.get(OTHERS)
        if others is None:
            return pooled
        layers = (pooled.shape[-1] - 1) // (TOKENS * self.dim)
        vectors = others[..., :-1].unflatten(-1, (TOKENS, 1, self.dim)).expand(-1, -1, -1, layers, -1).flatten(2)
        return pooled + torch.cat([vectors, others[..., -1:]], dim=-1)

    def untrained(self, tokens: Tensor, share: Tensor) -> Tensor:
        """Fused tokens (B, 2, layers, D) before training: those of the main input, or else the mean of the others."""
        main = self.inputs.index(self.main)
        return torch.where(share[:, main] > 0, tokens[:, main], super().untrained(tokens, share))


class GatedLayer(nn.Module):
    """Cross-attention to latents and two linear layers, each behind a gate that is 0 at first.

    Args:
        dim: Width of the tokens, D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = CrossAttention(dim)
        self.feed_forward = feed_forward(dim)
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """Read latents (B, L, D) into tokens (B, N, D)."""
        attention, feed_forward = self.gates.tanh()
        read = self.attention(self.attention.queries(tokens), self.attention.keys_values(latents))
        tokens = tokens + attention * read
        out: Tensor = tokens + feed_forward * self.feed_forward(tokens)
        return out
