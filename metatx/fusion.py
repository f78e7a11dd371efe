"""Base class of fusions: how the inputs of a sample meet, in the backbone's blocks and behind them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from metatx.component import Component
from metatx.errors import SampleError
from metatx.layers.linear import zero_linear
from metatx.layers.norms import BatchNorm
from metatx.sequence import LATE, TokenSequence, picked, sent

__all__ = ["POOLED", "Fusion", "exchanges"]

POOLED = "pooled"  # field of a batch that has the result of ``Fusion.pool`` for cached inputs, zeros for the others
TOKENS = 2  # tokens of a fused sample: CLS, and the mean of the others


class Fusion(Component):
    """Base class of fusions. Each input of a sample enters the backbone as sequences of its own.

    A fusion acts at three places: ``enter`` before the blocks, ``forward`` between them (as an ``Exchange``), and
    ``pool`` and ``leave`` behind them. What a subclass trains starts at zero, so that the first step is that of the
    task without it. ``Component`` explains options and ``build``.

    Behind the blocks, CLS and mean of each input are pooled apart, so that an input of many tokens does not outvote one
    of few. The fused vector is their mean over the inputs that are there, plus a linear map of all, which starts at
    zero; with ``product``, plus a low-rank map of the products of pairs of inputs (MLB, Kim et al. 2017, arXiv
    1610.04325), which starts at zero too. Its factors are two layers with GELU between, on vectors that are
    standardised over the batch: samples differ little beside what all of them share. A sum of maps cannot answer
    whether two inputs match; a product can.

    Args:
        dim: Width of the backbone, D.
        product: Rank of the products of pairs of inputs; 0 for none.
        dropout: Probability with which training leaves out an input that is there, from 0 to below 1; at least one
            stays.
        max_tokens: Most tokens of a sample whose inputs attend to one another.

    Attributes:
        joins: True if inputs meet before the end of the backbone; the tokens of each input are then marked by an
            embedding of the input, zero at first.
        fuse_at: Number of the block from which the sequences of a sample attend to one another, see ``TokenSequence``.
        blocks: Numbers of the blocks after which ``forward`` changes the tokens, see ``Exchange``.
        inputs: Names of the inputs, in order; known after ``build``.
        main: Name of the input whose tokens a head reads that labels places or steps; known after ``build``.
        pools: False if the head reads the inputs' tokens one after the other, and nothing is to be fused behind.
        keeps_main: True if dropout leaves the main input, because the head reads its tokens; the model sets it.
        on_causal: True if a fusion that ``joins`` can be had on a causal backbone, whose tokens read only those before
            them.
        causal: True on such a backbone; the model sets it. Joined inputs then are one text, in their order, and the
            first step's fused vector is that of the last of them, whose tokens have read all others.

    Example:
        >>> fusion = metatx.create("fusions", "late", 192, product=16)
        >>> isinstance(fusion, metatx.Fusion), fusion.joins
        (True, False)
    """

    joins: ClassVar[bool] = False
    fuse_at: int = LATE
    blocks: Collection[int] = ()
    pools: bool = True
    keeps_main: bool = False
    on_causal: ClassVar[bool] = False
    causal: bool = False

    def __init__(self, dim: int, product: int = 0, dropout: float = 0.0, max_tokens: int = 4096) -> None:
        super().__init__(dim)
        if product < 0:
            raise ValueError(f"product is {product}; expected a rank of 1 or more, or 0 for no product.")
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}; expected 1 or more.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout of inputs is {dropout}; expected a number from 0 to below 1.")
        self.product = product
        self.dropout = dropout
        self.max_tokens = max_tokens

    @classmethod
    def check_causal(cls, spec: str) -> None:
        """Raise ValueError if the fusion cannot be had on a causal backbone, whose name is ``spec``."""
        if cls.joins and not cls.on_causal:
            raise ValueError(
                f"The {cls.name} fusion lets each input read the others; in the blocks of {spec}, a causal language "
                "model, a token reads only what stands before it. Choose --fusion early, gated or late."
            )

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool) -> None:
        """Make the layers.

        Args:
            inputs: Names of the inputs, n of them, in order.
            main: Name of the main input.
            depth: Number of the backbone's blocks.
            class_token: True if the backbone has a class token.
        """
        self.inputs = inputs
        self.main = main
        self.depth = depth
        self.class_token = class_token
        if len(inputs) == 1:
            return
        if self.joins:
            self.marks = nn.Parameter(torch.zeros(len(inputs), self.dim))
        if not self.pools:
            return
        self.mix = zero_linear(len(inputs) * self.dim, self.dim)
        if self.product:
            self.factor_norms = nn.ModuleList(BatchNorm(TOKENS * self.dim) for _ in inputs)
            self.factors = nn.ModuleList(_factor(TOKENS * self.dim, self.product) for _ in inputs)
            self.products = zero_linear(self.product, self.dim)

    # Before the blocks

    @property
    def refuses(self) -> bool:
        """True if ``enter`` may refuse a sample; each is then tried when it is read, and not in a pass of many."""
        return self.joins or type(self).enter is not Fusion.enter

    @property
    def apart(self) -> int:
        """Number of blocks that the main input passes as if it were alone, where no other input passes any; else 0."""
        return 0

    def enter(self, sequence: TokenSequence) -> TokenSequence:
        """Prepare the inputs' tokens for the first block; a subclass may add tokens.

        Raises:
            SampleError: If inputs that attend to one another have more than ``max_tokens`` tokens.
        """
        if not self.joins or len(self.inputs) == 1:
            return sequence
        sequence = self.left(sequence)
        if self.fuse_at < self.depth:
            self.check_tokens(sequence)
        return self.marked(sequence)

    def left(self, sequence: TokenSequence) -> TokenSequence:
        """The inputs that dropout leaves in training."""
        if not self.training or not self.dropout:
            return sequence
        counts = self.sequences_of(sequence)
        kept = self.drop(torch.tensor(counts) > 0).flatten().tolist()
        flat = [count for counts_of_sample in counts for count in counts_of_sample]
        return picked(sequence, [keep for keep, count in zip(kept, flat, strict=True) for _ in range(count)])

    def marked(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens with the mark of their input, and the block from which inputs attend to one another."""
        places = [self.inputs.index(source) for source in sequence.sources or ()]
        device = self.marks.device
        lengths = sent(torch.tensor(sequence.lengths), device)
        chosen = self.marks[sent(torch.tensor(places), device)]
        marks = chosen.repeat_interleave(lengths, dim=0, output_size=len(sequence.embeddings))
        sequence = sequence.with_embeddings(sequence.embeddings + marks)
        return replace(sequence, fuse_at=(self.fuse_at,) * len(sequence)) if self.fuse_at < LATE else sequence

    def check_tokens(self, sequence: TokenSequence) -> None:
        """Raise SampleError if the inputs of a sample have more than ``max_tokens`` tokens together."""
        lengths = iter(sequence.lengths)
        for counts in self.sequences_of(sequence):
            tokens = [sum(next(lengths) for _ in range(count)) for count in counts]
            if sum(tokens) > self.max_tokens:
                said = ", ".join(f"{name} {count:,}" for name, count in zip(self.inputs, tokens, strict=True) if count)
                raise SampleError(
                    f"the inputs of a sample have {sum(tokens):,} tokens together ({said}), and attend to one another; "
                    f"expected at most {self.max_tokens:,}. Make inputs shorter by options of their tokenizers, choose "
                    "--fusion late, or raise --fusion.max-tokens"
                )

    def drop(self, present: Tensor) -> Tensor:
        """Leave out inputs (B, n) at random; of each sample at least one that is present stays."""
        draws = torch.rand(present.shape).to(present.device).masked_fill(~present, -1.0)
        stays = (draws >= self.dropout) | (draws == draws.amax(1, keepdim=True))
        if self.keeps_main:
            stays[:, self.inputs.index(self.main)] = True
        return present & stays

    # Between the blocks

    def forward(self, block: int, sequence: TokenSequence) -> Tensor:
        """Tokens (T, D) that enter the next block, see ``Exchange``; called after each of ``blocks``."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(block, sequence).")

    # Behind the blocks

    def pool(self, sequence: TokenSequence) -> Tensor:
        """CLS and mean of each input, and 1 for an input that is there, else 0, without parameters: (B, n, 2 E + 1).

        E is the width of the tokens: that of all layers that the head reads.
        """
        counts = self.sequences_of(sequence)
        slots = sequence
        if len(self.inputs) > 1:
            flat = tuple(count for counts_of_sample in counts for count in counts_of_sample)
            slots = replace(sequence, sequences_per_sample=flat, sources=None, fuse_at=None, grids={}, context={})
        mean = slots.mean()
        first = slots.cls() if slots.has_cls else mean
        there = sent((torch.tensor(counts) > 0).to(mean.dtype), mean.device)
        vectors = torch.cat([first, mean], dim=1).view(len(counts), len(self.inputs), -1)
        return torch.cat([vectors, there[..., None]], dim=2)

    def leave(self, pooled: Tensor) -> TokenSequence:
        """Fuse the result of ``pool`` to one sequence a sample, of CLS and one token; heads read it as any other."""
        present = pooled[..., -1] > 0
        tokens = pooled[..., :-1].reshape(*present.shape, TOKENS, -1, self.dim)  # (B, n, 2, layers, D)
        if len(self.inputs) == 1:
            return self._sequence(tokens[:, 0])
        if self.training and self.dropout and not self.joins:
            present = self.drop(present)
        there = present[:, :, None, None, None].to(tokens.dtype)
        share = there / there.sum(1, keepdim=True).clamp_min(1)
        weighed = tokens * share
        # Scaled by n / present, so that the map sees as much of few inputs as of all.
        together = weighed.permute(0, 2, 3, 1, 4).flatten(3) * len(self.inputs)
        fused = self.untrained(tokens, share) + self.mix(together)
        if self.product:
            change = self.products(self._pairs(tokens[:, :, :, -1].flatten(2), present))[:, None, None]
            fused = torch.cat([fused[:, :, :-1], fused[:, :, -1:] + change], dim=2)
        return self._sequence(fused)

    def _pairs(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Products of the factors of all pairs of different inputs, summed, (B, R).

        Args:
            vectors: Last layer's CLS and mean of each input, (B, n, 2 D).
            present: True for an input that is there, (B, n).
        """
        factors = []
        for at, (norm, factor) in enumerate(zip(self.factor_norms, self.factors, strict=True)):
            places = present[:, at].nonzero().flatten()
            made = factor(norm(vectors[places, at]))
            factors.append(made.new_zeros(len(present), self.product).index_copy(0, places, made))
        stacked = torch.stack(factors, dim=1)
        return (stacked.sum(1) ** 2 - (stacked**2).sum(1)) / 2

    def untrained(self, tokens: Tensor, share: Tensor) -> Tensor:
        """Fused tokens (B, 2, layers, D) before training.

        By default they are the mean over the inputs that are there; on a causal backbone whose blocks join the inputs,
        those of the last one that is there.

        Args:
            tokens: CLS and mean of each input, (B, n, 2, layers, D).
            share: Weight of each input in the mean, (B, n, 1, 1, 1); 0 for one that is missing.
        """
        if self.causal and self.fuse_at < self.depth:
            present = share.flatten(1) > 0
            last = (present * torch.arange(1, 1 + len(self.inputs), device=share.device)).argmax(1)
            return tokens[torch.arange(len(tokens), device=share.device), last]
        return (tokens * share).sum(1)

    def _sequence(self, tokens: Tensor) -> TokenSequence:
        """Sequences of two tokens (B, 2, layers, D), the first of them the class token."""
        flat = tokens.flatten(0, 1).flatten(1)
        return TokenSequence(flat, (TOKENS,) * len(tokens), num_prefix_tokens=1, class_token=self.class_token)

    def of_main(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens of the main input, for a head that reads each token."""
        keep = [source == self.main for source in sequence.sources or ()]
        grids = {"": sequence.grids[self.main]} if self.main in sequence.grids else {}
        return replace(picked(sequence, keep), sources=None, fuse_at=None, grids=grids)

    def sequences_of(self, sequence: TokenSequence) -> list[list[int]]:
        """Number of sequences of each sample's inputs: B lists of n numbers, 0 for an input that is missing."""
        places = {name: at for at, name in enumerate(self.inputs)}
        sources = iter(sequence.sources or ())
        counts: Sequence[int] = sequence.sequences_per_sample or (1,) * len(sequence)
        found = []
        for count in counts:
            slots = [0] * len(self.inputs)
            for _ in range(count):
                slots[places[next(sources)]] += 1
            found.append(slots)
        return found


def exchanges(every: int, depth: int) -> range:
    """Numbers of the blocks behind which inputs are exchanged: each ``every``-th one.

    Raises:
        ValueError: If no exchange follows.
    """
    if every < 1 or 0 < depth < every:
        raise ValueError(f"--fusion.every is {every}; this backbone has {depth} blocks, so 1 to {depth} are possible.")
    return range(every - 1, depth, every)


def _factor(width: int, rank: int) -> nn.Module:
    """Map of one input's vector (B, width) to its factor of the products, (B, rank)."""
    return nn.Sequential(nn.Linear(width, rank), nn.GELU(), nn.Linear(rank, rank))
