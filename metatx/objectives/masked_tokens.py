"""Masked tokens: features of the backbone at hidden places are told from the rest and from the partner."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.bridge import without_prefix
from metatx.data.content_hash import Content
from metatx.layers.unregistered import Unregistered
from metatx.objective import Objective
from metatx.pretraining.joining import JoinedPass, draws, hidden_places, tokens_of

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment
    from metatx.pretraining.batch import Batch
    from metatx.pretraining.negatives import Compared

__all__ = ["MaskedTokensObjective"]


class MaskedTokensObjective(Objective):
    """Hidden tokens tell what the backbone made of them before training (UNITER, Chen et al. 2019; FLAVA, 2112.04482).

    Each side whose tokens lie on a grid is read with a share of its tokens hidden, joined with the other side as it is.
    A hidden token is replaced by an embedding of its place. The target is the output at this place of the backbone and
    the tokenizer as they were before the first step, for the side alone with nothing hidden, normalised to mean 0 and
    variance 1. No other model is needed (FLAVA's targets are codes of a dVAE).

    Args:
        dim: Width of the backbone, D.
        share: Share of the tokens that is hidden, at least one; above 0 and below 1.
        distance: ``"cosine"``: one minus the cosine of prediction and target; ``"mse"``: their mean squared difference.

    Raises:
        ValueError: If ``share`` is out of its range.
    """

    def __init__(self, dim: int, share: float = 0.3, distance: Literal["cosine", "mse"] = "cosine") -> None:
        super().__init__(dim)
        if not 0 < share < 1:
            raise ValueError(f"share is {share:g}; expected a share of tokens above 0 and below 1.")
        self.share = share
        self.distance = distance

    def prepare(self, alignment: "Alignment", sample: Mapping[str, dict[str, Any]], seed: int) -> None:
        """Make marks, embeddings of places and linear maps; keep backbone and towers as they are now.

        Raises:
            ValueError: If the tokens of no modality lie on a grid.
        """
        self.seed = seed
        with torch.no_grad():
            sequences = {modality: alignment.tower(modality).tokens(side) for modality, side in sample.items()}
        gridded = {n: each for n, each in sequences.items() if each.grid and each.sequences_per_sample is None}
        places = {name: sequence.lengths[0] for name, sequence in gridded.items()}
        if not places:
            raise ValueError(f"masked_tokens hides places of a grid; neither {' nor '.join(sample)} has tokens on one.")
        self.joined = JoinedPass(self.dim, sample)
        self.hidden = nn.ParameterDict({name: torch.zeros(count, self.dim) for name, count in places.items()})
        self.proj = nn.ModuleDict({name: nn.Linear(self.dim, self.dim) for name in places})
        backbone = alignment.backbone
        start = backbone if backbone.frozen else backbone.rebuilt(backbone.config, dict(backbone.named_weights()))
        self.start = Unregistered(start)
        towers = {name: copy.deepcopy(alignment.tower(name)).requires_grad_(False).eval() for name in places}
        self.towers = Unregistered(nn.ModuleDict(towers))

    def facts(self) -> dict[str, Any]:
        """Weights that make the targets."""
        content = Content()
        content.add_tensors(self.towers.module.state_dict())
        made = f"{self.start.module.fingerprint}-{content.hexdigest()}"
        return {"the start of masked_tokens": {"is": made, "said": f"({made[:6]})"}}

    def forward(self, alignment: "Alignment", batch: "Batch", compared: "Compared") -> Tensor:
        """Mean distance at the hidden places of each sample, averaged over samples."""
        return sum((self._of(name, alignment, batch) for name in batch.sides if name in self.hidden), torch.zeros(()))

    def _of(self, modality: str, alignment: "Alignment", batch: "Batch") -> Tensor:
        sequence = alignment.tower(modality).tokens(batch.sides[modality])
        numbers = draws(batch, self.seed, sequence.lengths)
        chosen = torch.cat([hidden_places(number, self.share) for number in numbers]).to(sequence.embeddings.device)
        instead = self.hidden[modality].repeat(len(sequence), 1)
        partner = {name: side for name, side in batch.sides.items() if name != modality}
        sides = {
            modality: sequence.with_embeddings(torch.where(chosen[:, None], instead, sequence.embeddings)),
            **tokens_of(alignment, partner, batch.dropout),
        }
        left = without_prefix(self.joined(alignment, sides)[modality])
        predicted = self.proj[modality](left.embeddings[chosen]).float()
        target = self._target(modality, batch)[chosen]
        if self.distance == "mse":
            return F.mse_loss(predicted, target)
        return 1 - F.cosine_similarity(predicted, target).mean()

    @torch.no_grad()
    def _target(self, modality: str, batch: "Batch") -> Tensor:
        """Normalised output (T, D) of the backbone before training for the tokens of a side, without prefix tokens."""
        tower: Any = self.towers.module[modality]
        output = without_prefix(self.start.module(tower.tokens(batch.sides[modality]))).embeddings.float()
        return F.layer_norm(output, output.shape[1:])
