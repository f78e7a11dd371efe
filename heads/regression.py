"""One number per sample, in its own unit."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.baselines.pipelines import scaled, worded
from metatx.errors import SampleError, short
from metatx.head import Head
from metatx.layers.conformal import check_coverage, conformal_bound
from metatx.layers.linear import zero_linear
from metatx.layers.norms import Norm, feature_norm
from metatx.layers.pooling import Pooling, pool_tokens, pooled_width
from metatx.sequence import TokenSequence
from metatx.values import are_codes, plain_cell

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["RegressionHead"]


class RegressionHead(Head):
    """Pooled tokens, a norm, a linear layer; trained on standardised targets.

    Targets, answers and measures are float64, so that a level keeps its digits: times, populations, coordinates. What
    is learnt, the standardised number, is float32.

    Args:
        dim: Width of the backbone.
        objective: ``"mse"``, or ``"huber"`` where a few targets lie far out (Huber 1964).
        pooling: ``"cls"``, ``"mean"`` of the tokens, ``"both"`` side by side, or ``"attention"``: the attention pool of
            the backbone's weights, frozen, where they have one.
        layers: Number of the backbone's last blocks that are read, side by side.
        dropout: Dropout of the pooled features, 0 to 1.
        norm: Norm of the pooled features: ``"layer"``, each sample by itself; or ``"batch"``, each feature over the
            batch, with which frozen features are often learnt faster.
        coverage: Promised share of samples whose number is between ``low`` and ``high`` of ``records``, such as 0.9:
            split conformal prediction on the validation split, see ``conformal_quantile``, with one width for all.
            The split chose the epoch too, so the promise holds about.
    """

    centre: Tensor
    scale: Tensor
    bound: Tensor | None
    primary_metric = "rmse"
    tunable = {"dropout": (0.0, 0.1, 0.3), "layers": (1, 4), "pooling": ("mean", "both"), "objective": ("mse", "huber")}
    pool_options = ("pooling", "layers")
    stacks = True

    def __init__(
        self,
        dim: int,
        objective: Literal["mse", "huber"] = "mse",
        pooling: Pooling = "mean",
        layers: int = 1,
        dropout: float = 0.0,
        norm: Norm = "layer",
        coverage: float | None = None,
    ) -> None:
        super().__init__(dim)
        check_coverage(coverage)
        self.coverage = coverage
        self.calibrates = coverage is not None
        self.objective = objective
        self.pooling: Pooling = pooling
        self.layers = layers
        width = pooled_width(dim, pooling, layers)
        self.norm = feature_norm(norm, width)
        self.dropout = nn.Dropout(dropout)
        self.output = zero_linear(width, 1)
        self.register_buffer("centre", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        bound = None if coverage is None else torch.full((), torch.inf, dtype=torch.float64)
        self.register_buffer("bound", bound)

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Numbers, some not whole, or too many different whole ones to be classes."""
        known = [plain for target in targets if (plain := plain_cell(target)) is not None]
        numbers = all(isinstance(cell, int | float | Decimal) and not isinstance(cell, bool) for cell in known)
        return numbers and not are_codes(known)

    def screen(self, target: Any) -> None:
        """Raise SampleError if a target is missing, or no finite number."""
        super().screen(target)
        self.encode(target)

    def fit(self, targets: Sequence[Any]) -> dict[str, Tensor]:
        """``centre`` and ``scale``: mean and standard deviation of the targets, float64 ().

        Raises:
            ValueError: If targets are missing, infinite or no numbers, all equal, or too large to have a deviation.
        """
        if not len(targets):
            raise ValueError("There are no targets to learn from; name the target column.")
        found = [_number(target) for target in targets]
        strange = next((target for target, value in zip(targets, found, strict=True) if value is None), None)
        if strange is not None:
            raise ValueError(f"A target is {short(strange)}; expected numbers, one a sample.")
        values = np.array(found, dtype=np.float64)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(f"{bad} of {len(values)} targets are missing or infinite; fill them in or leave them out.")
        if values.min() == values.max():
            raise ValueError(f"All {len(values)} targets equal {values[0]:g}; there is nothing to learn.")
        with np.errstate(over="ignore", invalid="ignore"):
            centre = values.mean()
            scale = values.std()
        if not 0 < scale < np.inf:
            span = f"{values.min():g} to {values.max():g}"
            raise ValueError(f"The targets, {span}, have no deviation that float64 holds; give them in another unit.")
        return {"centre": torch.tensor(centre), "scale": torch.tensor(scale)}

    def encode(self, target: Any) -> Tensor:
        """A number, in its unit, to float64 ()."""
        value = _number(target)
        if value is None or target is None:
            raise SampleError(f"target is {short(target)}; expected a number")
        if not np.isfinite(value):
            raise SampleError(f"target is {value}; expected a finite number")
        return torch.tensor(value, dtype=torch.float64)

    def pool(self, sequence: TokenSequence) -> Tensor:
        """Features (B, width), as ``pooling`` says."""
        return pool_tokens(sequence, self.pooling)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, width) to standardised predictions (B,)."""
        output: Tensor = self.output(self.dropout(self.norm(pooled)))
        return output.squeeze(1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean error of standardised predictions (B,) and targets in their unit (B,)."""
        wanted = ((target - self.centre) / self.scale).to(output)
        return F.mse_loss(output, wanted) if self.objective == "mse" else F.huber_loss(output, wanted)

    def score(self, output: Tensor, target: Any) -> Tensor:
        """The number itself, standardised; there is no other answer to explain."""
        return output.float()

    def calibrate(self, output: Tensor, target: Tensor) -> None:
        """Fit the bound of the errors to standardised predictions (B,) and targets in their unit (B,)."""
        if self.bound is not None and self.coverage is not None:
            errors = (self._in_unit(output) - target.cpu()).abs()
            self.bound.copy_(conformal_bound(errors, self.coverage))

    def calibration_metrics(self) -> "dict[str, Metric]":
        """Share of samples whose number is within the bound; the width of the bound is the same for all."""
        if self.bound is None:
            return {}
        from metatx.metrics.labels import SampleMean

        bound = self.bound.cpu()
        return {
            "coverage": SampleMean(lambda found, true: (found - true).abs() <= bound),
            "width": SampleMean(lambda found, _: 2 * bound.expand(len(found))),
        }

    def card_note(self) -> str:
        """Sentence that says what the interval promises."""
        if self.bound is None or not self.bound.isfinite():
            return ""
        within = f"plus or minus {self.bound.item():.4g} of the prediction"
        return f"The number is within {within} for {self.coverage:.0%} of samples like the validation split's."

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """``prediction``, and with ``coverage`` the promised interval, ``low`` to ``high``, in the target's unit."""
        values = self.decode(output).tolist()
        if self.bound is None:
            return [{"prediction": value} for value in values]
        bound = self.bound.item()
        if not math.isfinite(bound):  # not calibrated: no interval, and JSON has no infinity
            return [{"prediction": value, "low": None, "high": None} for value in values]
        return [{"prediction": value, "low": value - bound, "high": value + bound} for value in values]

    def decode(self, output: Tensor) -> np.ndarray:
        """Numbers in the target's unit (B,), float64."""
        values: np.ndarray = self._in_unit(output).numpy()
        return values

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """``prediction`` (B,), in the target's unit, float64."""
        return {"prediction": output.double() * self.scale + self.centre}

    def export_facts(self) -> dict[str, Any]:
        """``bound``: the promised interval lies so far on either side of a prediction; None: none is promised."""
        bound = math.inf if self.bound is None else self.bound.item()
        return {"bound": bound if math.isfinite(bound) else None}

    def _in_unit(self, output: Tensor) -> Tensor:
        return output.detach().cpu().double() * self.scale.cpu() + self.centre.cpu()

    def metrics(self) -> "dict[str, Metric]":
        """Root mean squared error and mean absolute error in the target's unit, and R squared."""
        from metatx.metrics.labels import Errors, Pairs, mean_absolute_error, r_squared, root_mean_squared_error

        return {
            "rmse": Errors(root_mean_squared_error),
            "mae": Errors(mean_absolute_error),
            "r2": Pairs(r_squared),
        }

    def metric_inputs(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and targets, both in the target's unit and float64."""
        return self._in_unit(output), target

    def trivial(self) -> tuple[str, Any]:
        """Estimator that always answers with the mean of the training targets."""
        from sklearn.dummy import DummyRegressor

        return "mean", DummyRegressor()

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Gradient boosting for ``"boosting"``, else ridge regression on scaled features or on words."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import Ridge, RidgeCV

        if kind == "words":
            return {"TF-IDF, ridge regression": worded(Ridge())}
        if kind == "boosting":
            return {"gradient boosting": HistGradientBoostingRegressor(random_state=0)}
        return {"ridge regression": scaled(RidgeCV(np.logspace(-3, 3, 13)))}

    def baseline_predict(self, estimator: Any, features: Any) -> Tensor:
        """Predictions of an estimator, standardised as those of ``forward``, but float64."""
        values = torch.as_tensor(estimator.predict(features), dtype=torch.float64)
        return (values - self.centre.cpu()) / self.scale.cpu()


def _number(target: Any) -> float | None:
    """Target as a number: nan where it is missing, None where it is no number."""
    try:
        return np.nan if target is None else float(target)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError, RuntimeError):  # the last from tensors of several numbers
        return None
