"""Masked text: hidden words are told from the rest and from the partner."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.bridge import without_prefix
from metatx.layers.linear import zero_linear
from metatx.objective import Objective
from metatx.pretraining.joining import JoinedPass, draws, hidden_places, mean_over_pairs, tokens_of

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment
    from metatx.pretraining.batch import Batch
    from metatx.pretraining.negatives import Compared

__all__ = ["MaskedTextObjective"]


class MaskedTextObjective(Objective):
    """A share of a text's words is hidden and told from the others and the partner (BERT, Devlin et al. 2018; ViLT).

    Each side whose tokenizer has a ``vocabulary`` is read with hidden words, joined with the other side as it is. A
    linear map of the output at a hidden word gives logits of all words; it starts at zero, so that the first loss is
    the logarithm of their number.

    Args:
        dim: Width of the backbone, D.
        share: Share of a text's words that is hidden, at least one; above 0 and below 1.

    Raises:
        ValueError: If ``share`` is out of its range.
    """

    def __init__(self, dim: int, share: float = 0.15) -> None:
        super().__init__(dim)
        if not 0 < share < 1:
            raise ValueError(f"share is {share:g}; expected a share of words above 0 and below 1.")
        self.share = share

    def prepare(self, alignment: "Alignment", sample: Mapping[str, dict[str, Any]], seed: int) -> None:
        """Make marks, and a classifier of words for each modality that has them.

        Raises:
            ValueError: If no modality has words.
        """
        self.seed = seed
        sizes = {modality: alignment.tower(modality).tokenizer.vocabulary for modality in sample}
        if not any(sizes.values()):
            raise ValueError(f"masked_text hides words, and neither {' nor '.join(sample)} is made of words.")
        self.joined = JoinedPass(self.dim, sample)
        self.words = nn.ModuleDict({name: zero_linear(self.dim, size) for name, size in sizes.items() if size})

    def forward(self, alignment: "Alignment", batch: "Batch", compared: "Compared") -> Tensor:
        """Cross-entropy of the hidden words of each text, averaged over its hidden words, then over texts."""
        return sum((self._of(name, alignment, batch) for name in batch.sides if name in self.words), torch.zeros(()))

    def _of(self, modality: str, alignment: "Alignment", batch: "Batch") -> Tensor:
        tower = alignment.tower(modality)
        words = tower.tokenizer.words_of(batch.sides[modality])
        numbers = draws(batch, self.seed, [len(each) for each in words])
        hidden = [
            hidden_places(number, self.share, (each >= 0).cpu()) for number, each in zip(numbers, words, strict=True)
        ]
        sequence, targets = tower.tokenizer.hide_words(batch.sides[modality], hidden)
        rows = (targets >= 0).nonzero().flatten()
        partner = {name: side for name, side in batch.sides.items() if name != modality}
        sides = {
            modality: sequence.with_embeddings(tower.norm(sequence.embeddings)),
            **tokens_of(alignment, partner, batch.dropout),
        }
        left = without_prefix(self.joined(alignment, sides)[modality])
        losses = F.cross_entropy(self.words[modality](left.embeddings[rows]).float(), targets[rows], reduction="none")
        return mean_over_pairs(losses, left, rows)
