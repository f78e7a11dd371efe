"""Model as a module from tensors to tensors, of which a graph with a free batch axis can be made."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from metatx.backbone.attention import plain
from metatx.exporting.dense import DensePacking, DenseTokens
from metatx.model import Model

__all__ = ["Graph", "check_exportable"]


class Graph(nn.Module):
    """Tokenizer, backbone, adapter and head of a model, which computes with padded tokens what the model computes.

    The weights are the model's own, under the names of its parts: ``backbone.blocks.0.attn.qkv.weight``.

    Args:
        model: Model of one input.
        names: Names of the encoded tensors, in the order of the arguments of ``forward``.

    Raises:
        ValueError: If a part cannot be exported; says which and why.
    """

    def __init__(self, model: Model, names: Sequence[str]) -> None:
        super().__init__()
        check_exportable(model)
        self.names = tuple(names)
        self.tokenizer = model.tokenizer
        self.norm = model.norm
        self.backbone = model.backbone
        self.adapter = model.adapter
        self.head = model.head

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Map encoded samples (B, ...) of equal shapes to the answers of the head (B, ...), by name."""
        tokens = self.tokenizer.padded(dict(zip(self.names, tensors, strict=True)))
        backbone = self.backbone
        x = self.norm(tokens.embeddings).to(backbone.cls_token.dtype)
        count = x.shape[0]
        prefix = backbone.num_prefix_tokens
        x = torch.cat([backbone.cls_token.expand(count, -1, -1), x], dim=1)
        kept = None if tokens.mask is None else nn.functional.pad(tokens.mask, (prefix, 0), value=True)
        packing = DensePacking(count, x.shape[1], kept)
        sequence = DenseTokens(
            x,
            (),
            grids={} if tokens.grid is None else {"": tokens.grid},
            num_prefix_tokens=prefix,
            class_token=backbone.has_cls,
            attention_pool=backbone.attention_pool,
            context=tokens.context,
            kept=kept,
            each=tokens.sequences_per_sample or 1,
        )
        output: Tensor = self.head(self.head.pool(self._read(sequence, packing)))
        return self.head.exported(output)

    def _read(self, sequence: DenseTokens, packing: DensePacking) -> DenseTokens:
        """Output of the head's last blocks, each through the final norm, side by side."""
        backbone = self.backbone
        layers = self.head.layers
        call = plain if self.adapter is None else self.adapter.on(backbone, packing)
        x = call(backbone.norm_pre, sequence.embeddings.flatten(0, 1))
        read = backbone.reader(sequence, packing, call, self.adapter)
        outputs: list[Tensor] = []
        for number in range(backbone.depth):
            x = read(number, x)
            if number >= backbone.depth - layers:
                outputs.append(call(backbone.norm, x))
        if not outputs:
            outputs = [call(backbone.norm, x)] * layers
        together = torch.cat(outputs, dim=1) if layers > 1 else outputs[0]
        return replace(sequence, embeddings=together.reshape(*packing.groups[0], -1))


def check_exportable(model: Model) -> None:
    """Raise ValueError if a part of the model cannot be exported; says which and why."""
    for part, kind in ((model.tokenizer, "tokenizer"), (model.head, "head")):
        if part.not_exported:
            raise ValueError(f"The {part.name} {kind} cannot be exported: {part.not_exported}.")
    if not model.backbone.exports:
        raise ValueError(
            f"The backbone {model.backbone.spec} cannot be exported: its blocks read positions that are computed batch "
            "by batch. A Vision Transformer of plain blocks can, such as nano or that of CLIP."
        )
