"""Co-attention: inputs read one another by cross-attention between the blocks."""

from typing import Any

import torch
from torch import Tensor, nn

from metatx.fusion import Fusion, exchanges
from metatx.layers.cross_attention import CrossAttention, padded_pairs
from metatx.sequence import TokenSequence

__all__ = ["CoattentionFusion"]


class CoattentionFusion(Fusion):
    """Inputs go through the backbone apart, and read one another behind every few blocks (ViLBERT, arXiv 1908.02265).

    The tokens of each input attend to the tokens of all other inputs of the sample, CLS included. One layer serves all
    inputs, as in LXMERT (arXiv 1908.07490), whose self-attention and feed-forward sub-layers are here those of the next
    frozen block. What an input reads is scaled by tanh of a gate of that input, 0 at first (Flamingo, arXiv
    2204.14198), so that the first step is that of ``late``.

    Args:
        dim: Width of the backbone, D.
        every: Number of blocks from one exchange to the next; each exchange trains 4 D^2 weights.
        product, dropout, max_tokens: The options of ``Fusion``.
    """

    joins = True
    blocks: range = range(0)

    def __init__(
        self, dim: int, every: int = 2, product: int = 0, dropout: float = 0.0, max_tokens: int = 4096
    ) -> None:
        super().__init__(dim, product, dropout, max_tokens)
        self.every = every

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool) -> None:
        """Make the layers. Raises ValueError if no exchange follows from ``every``."""
        super().build(inputs, main, depth, class_token)
        if len(inputs) > 1 and depth:
            self.blocks = exchanges(self.every, depth)
            self.layers = nn.ModuleList(CrossAttention(self.dim) for _ in self.blocks)
            self.gates = nn.Parameter(torch.zeros(len(inputs), len(self.blocks)))

    def enter(self, sequence: TokenSequence) -> TokenSequence:
        """Mark the inputs' tokens. Raises ValueError if a sample has more than ``max_tokens``."""
        sequence = super().enter(sequence)
        if self.blocks:
            self.check_tokens(sequence)
        return sequence

    def forward(self, block: int, sequence: TokenSequence) -> Tensor:
        """Add what each input reads of the others to its tokens, (T, D)."""
        number = self.blocks.index(block)
        layer: Any = self.layers[number]
        tokens = sequence.embeddings
        queries = layer.queries(tokens)
        keys_values = layer.keys_values(tokens)
        numbers: list[Tensor] = []
        changes: list[Tensor] = []
        for name, gate in zip(self.inputs, self.gates[:, number].tanh(), strict=True):
            of_input = [source == name for source in sequence.sources or ()]
            readers, others = padded_pairs(sequence, of_input, [not own for own in of_input])
            if len(readers):
                attended = layer(readers.pad(queries), others.pad(keys_values), others.mask)
                numbers.append(readers.numbers())
                changes.append(gate * readers.unpad(attended))
        if not numbers:
            return tokens
        return tokens.index_add(0, torch.cat(numbers), torch.cat(changes).to(tokens.dtype))
