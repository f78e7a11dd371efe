"""Captioning: each word of a text is told from the words before it and the partner."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.layers.linear import zero_linear
from metatx.layers.resampler import Resampler
from metatx.objective import Objective
from metatx.pretraining.joining import mean_over_pairs, tokens_of
from metatx.sequence import TokenSequence

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment
    from metatx.pretraining.batch import Batch
    from metatx.pretraining.negatives import Compared

__all__ = ["CaptioningObjective"]

HEAD_WIDTH = 64


class CaptioningObjective(Objective):
    """Words of a text are told one after the other, given the partner (CoCa, Yu et al. 2022, arXiv 2205.01917).

    Beside the contrastive objective, which compares whole samples, this one asks for what a picture shows in detail.
    Learned queries read all that the backbone makes of the partner (CoCa's pooler); a small causal decoder reads them
    and the words so far, from the text's own tokens as they enter the backbone, and a linear map gives logits of all
    words. It starts at zero, so that the first loss is the logarithm of their number. CoCa's contrastive vector is that
    of the tower, as without this objective.

    Args:
        dim: Width of the backbone, D.
        queries: Number of queries of the pooler.
        depth: Number of layers of the decoder.

    Raises:
        ValueError: If there is no query or no layer.
    """

    def __init__(self, dim: int, queries: int = 16, depth: int = 2) -> None:
        super().__init__(dim)
        if queries < 1 or depth < 1:
            raise ValueError(f"queries is {queries} and depth {depth}; expected at least 1 each.")
        self.queries = queries
        self.depth = depth

    def prepare(self, alignment: "Alignment", sample: Mapping[str, dict[str, Any]], seed: int) -> None:
        """Make pooler, decoder and classifier of words for each modality that has them.

        Raises:
            ValueError: If no modality has words.
        """
        sizes = {modality: alignment.tower(modality).tokenizer.vocabulary for modality in sample}
        if not any(sizes.values()):
            raise ValueError(f"captioning tells words, and neither {' nor '.join(sample)} is made of words.")
        self.decoders = nn.ModuleDict(
            {name: _Decoder(self.dim, self.queries, self.depth, size) for name, size in sizes.items() if size}
        )

    def forward(self, alignment: "Alignment", batch: "Batch", compared: "Compared") -> Tensor:
        """Cross-entropy of the known words of each text, averaged over its words, then over texts."""
        return sum((self._of(name, alignment, batch) for name in batch.sides if name in self.decoders), torch.zeros(()))

    def _of(self, modality: str, alignment: "Alignment", batch: "Batch") -> Tensor:
        tower = alignment.tower(modality)
        words = tower.tokenizer.words_of(batch.sides[modality])
        sequence, _ = tower.tokenizer.hide_words(batch.sides[modality], [each < -2 for each in words])
        _, targets = tower.tokenizer.hide_words(batch.sides[modality], [each >= 0 for each in words])
        text = sequence.with_embeddings(tower.norm(sequence.embeddings))
        partner = {name: side for name, side in batch.sides.items() if name != modality}
        (entering,) = tokens_of(alignment, partner, batch.dropout).values()
        rows = (targets >= 0).nonzero().flatten()
        logits = self.decoders[modality](text, alignment.backbone(entering))[rows]
        losses = F.cross_entropy(logits.float(), targets[rows], reduction="none")
        return mean_over_pairs(losses, text, rows)


class _Decoder(nn.Module):
    """Pooler of the partner, and causal decoder of words.

    Args:
        dim: Width of the tokens, D.
        queries: Number of queries.
        depth: Number of layers.
        words: Number of different words, V.
    """

    def __init__(self, dim: int, queries: int, depth: int, words: int) -> None:
        super().__init__()
        self.pooler = Resampler(dim, queries)
        self.start = nn.Parameter(torch.zeros(dim))
        heads = next(count for count in range(max(1, dim // HEAD_WIDTH), 0, -1) if dim % count == 0)
        layer = nn.TransformerDecoderLayer(
            dim, heads, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, depth, nn.LayerNorm(dim))
        for weight in self.layers.parameters():  # all layers are copies of one
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
        self.words = zero_linear(dim, words)

    def forward(self, text: TokenSequence, partner: TokenSequence) -> Tensor:
        """Logits (T, V) of each word, from the tokens before it in its sequence and the partner's output."""
        pooled = self.pooler(*_whole(partner).unpack())
        counts = torch.tensor(text.sequences_per_sample or (1,) * len(text), device=pooled.device)
        padded, mask = text.unpack()
        start = self.start.to(padded.dtype).expand(len(padded), 1, -1)
        before = torch.cat([start, padded[:, :-1]], dim=1)
        places = before.shape[1]
        later = torch.ones(places, places, dtype=torch.bool, device=before.device).triu(1)
        told = self.layers(before, pooled.repeat_interleave(counts, dim=0), tgt_mask=later, tgt_is_causal=True)
        logits: Tensor = self.words(told[mask])
        return logits


def _whole(sequence: TokenSequence) -> TokenSequence:
    """All tokens of each sample as one sequence."""
    if sequence.sequences_per_sample is None:
        return TokenSequence(sequence.embeddings, sequence.lengths)
    sizes = iter(sequence.lengths)
    lengths = tuple(sum(next(sizes) for _ in range(count)) for count in sequence.sequences_per_sample)
    return TokenSequence(sequence.embeddings, lengths)
