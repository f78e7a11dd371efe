"""Cost of a precision: a task measured as it was trained, and on its backbone in another precision."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metatx.backbone.precision import set_precision
from metatx.training.measuring import evaluate

if TYPE_CHECKING:
    from metatx.backbone.names import Precision
    from metatx.task import Task

__all__ = ["measured_in"]


def measured_in(
    task: "Task", data: Any, precision: "Precision", *, skip_bad_samples: bool = False
) -> dict[str, tuple[float, float]]:
    """Measure a task in its own precision and as a pool of another precision answers, on the validation split.

    Args:
        task: Task on a shared backbone, which has its precision again in the end.
        data: Labelled data as in ``Task.evaluate``.
        precision: Precision of the pool.
        skip_bad_samples: Leave out samples that cannot be used; by default they raise SampleError.

    Returns:
        Values of each metric, and of the loss: in the task's own precision, and in the other.

    Raises:
        ValueError: If the task has its own backbone, which no pool serves.
    """
    if not task.backbone.frozen:
        raise ValueError(f"The task has its own backbone (tune {task.tune}); only shared ones have another precision.")
    samples = task.encode(data, "validation", skip_bad=skip_bad_samples)
    before = task.backbone.precision
    as_trained = evaluate(task.model, samples, task.settings)
    try:
        set_precision(task.backbone, precision)
        other = evaluate(task.model, samples, replace(task.settings, precision="fp32"))
    finally:
        set_precision(task.backbone, before)
    return {name: (value, other[name]) for name, value in as_trained.items()}
