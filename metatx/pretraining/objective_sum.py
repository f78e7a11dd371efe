"""Weighted sum of the objectives of a run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metatx.objective import Objective
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.batch import Batch
from metatx.pretraining.negatives import Compared
from metatx.pretraining.towers import FEATURES
from metatx.registry import create, unknown
from metatx.seeding import seeded

__all__ = ["ObjectiveSum"]


class ObjectiveSum(nn.Module):
    """Sum of objectives, each times its weight.

    Args:
        alignment: Alignment as it is before training.
        shown: Collated tensors of the first pair of each set of pairs, by modality.
        weights: Weight of each objective, by name.
        options: Options of objectives, by name.
        seed: Seed of the initial weights, and of what objectives draw.

    Attributes:
        comparing: Objectives that compare the vectors of all pairs of a step.
        others: Objectives of tokens, which are computed for each micro-batch.

    Raises:
        ValueError: If an objective or an option is unknown, a weight is not above 0, no objective compares vectors, or
            an objective cannot be computed for these sides.
    """

    def __init__(
        self,
        alignment: Alignment,
        shown: Sequence[Mapping[str, dict[str, Any]]],
        weights: Mapping[str, float],
        options: Mapping[str, Mapping[str, Any]],
        seed: int,
    ) -> None:
        super().__init__()
        for name in options:
            if name not in weights:
                raise ValueError(unknown("objective among objective_options", name, list(weights)))
        for name, weight in weights.items():
            if not weight > 0:
                raise ValueError(f"The weight of the objective {name} is {weight:g}; expected one above 0.")
        self.weights = dict(weights)
        self.comparing = nn.ModuleDict()
        self.others = nn.ModuleDict()
        sample = {modality: side for sides in reversed(shown) for modality, side in sides.items()}
        for number, name in enumerate(weights):
            with seeded(seed, number):
                objective: Objective = create("objectives", name, alignment.backbone.dim, **options.get(name, {}))
                if not objective.compares:
                    _check_sides(name, shown)
                objective.prepare(alignment, sample, seed + number)
            (self.comparing if objective.compares else self.others)[name] = objective
        if not self.comparing:
            raise ValueError(
                f"None of the objectives ({', '.join(weights) or 'none'}) compares vectors, which would stay as they "
                "are; add contrastive."
            )
        self.to(alignment.backbone.device)

    @property
    def reads_negatives(self) -> bool:
        """True if an objective reads the samples of other pairs."""
        return any(objective.reads_negatives for objective in self._all())

    def facts(self) -> dict[str, Any]:
        """Facts of all objectives that a resumed run must share."""
        return {name: fact for objective in self._all() for name, fact in objective.facts().items()}

    def _all(self) -> list[Objective]:
        objectives: list[Any] = [*self.comparing.values(), *self.others.values()]
        return objectives

    def compare(self, alignment: Alignment, left: Tensor, right: Tensor, same: Tensor) -> Tensor:
        """Return the sum of the objectives that compare vectors, see ``Objective.compare``."""
        return self._sum(self.comparing, lambda objective: objective.compare(alignment, left, right, same))

    def forward(self, alignment: Alignment, batch: Batch, compared: Compared) -> Tensor:
        """Return the sum of the other objectives for a micro-batch, see ``Objective.forward``."""
        return self._sum(self.others, lambda objective: objective(alignment, batch, compared))

    def _sum(self, objectives: nn.ModuleDict, loss: Callable[[Any], Tensor]) -> Tensor:
        losses = [self.weights[name] * loss(objective) for name, objective in objectives.items()]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def _check_sides(name: str, shown: Sequence[Mapping[str, dict[str, Any]]]) -> None:
    """Refuse an objective of tokens where there are not the tokens of two sides. Raises ValueError."""
    for sides in shown:
        if len(sides) != 2:
            raise ValueError(f"{name} joins the two sides of a pair; found {len(sides)}: {', '.join(sides)}.")
        for modality, side in sides.items():
            if FEATURES in side:
                raise ValueError(
                    f"{name} reads the tokens of both sides, and those of {modality} are not computed here, only its "
                    "vectors; leave it out, or choose a modality that passes through the backbone."
                )
