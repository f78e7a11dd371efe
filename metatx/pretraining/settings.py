"""Settings of contrastive pretraining."""

from dataclasses import dataclass
from typing import Any, Literal

from metatx.settings import RunSettings

__all__ = ["PretrainingSettings"]


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(RunSettings):
    """Settings of contrastive pretraining. The last, incomplete batch of an epoch is left out.

    Args:
        epochs: Passes over the pairs.
        batch_size: Pairs of one step, over all processes.
        micro_batch: Pairs that pass through the model at once, in each process; 0: its whole share of a batch.
        negatives: Negatives of a pair where a batch is cut into micro-batches. ``"batch"``: all other pairs of the
            batch, at the cost of a second pass through the model for the gradients (GradCache, Gao et al. 2021, arXiv
            2101.06983); ``"micro_batch"``: only those that pass together with it (plain accumulation).
        patch_dropout: Share of an image's patches that are left out (FLIP, Li et al. 2023, arXiv 2212.00794).
        whole_epochs: Number of final epochs without patch dropout.
        distillation: Weight of the teacher's loss, where there is a teacher.
        transport_weight: Weight of the transport cost of the blocks, see ``pass_with_transport_cost``; 0: none.
        objectives: Weight of each objective, by name: ``{"contrastive": 1, "matching": 0.5}``, see "metatx list
            objectives"; None: contrastive alone.
        objective_options: Options of objectives, by name.
        feature_dropout: Share of the numbers that the towers' linear maps read, which is set to 0 in training.
        pair_weights: Share of the steps of each of several sets of pairs, as any positive numbers; (): by their sizes.
    """

    epochs: int = 20
    micro_batch: int = 0
    negatives: Literal["batch", "micro_batch"] = "batch"
    patch_dropout: float = 0.0
    whole_epochs: int = 0
    distillation: float = 5.0
    transport_weight: float = 0.0
    objectives: dict[str, float] | None = None
    objective_options: dict[str, dict[str, Any]] | None = None
    feature_dropout: float = 0.0
    pair_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("micro_batch", "whole_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0.")
        if not 0 <= self.patch_dropout < 1:
            raise ValueError(f"patch_dropout is {self.patch_dropout:g}; it must be a share below 1.")
        if not 0 <= self.feature_dropout < 1:
            raise ValueError(f"feature_dropout is {self.feature_dropout:g}; it must be a share below 1.")
