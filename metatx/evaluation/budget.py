"""Budget: the epochs and samples of training that fit into a given time."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from accelerate.utils import broadcast_object_list

from metatx.encoding.encoded import EncodedDataset
from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.files import written_whole
from metatx.inputs.inputs import Inputs
from metatx.model import Model
from metatx.settings import TrainingSettings
from metatx.task import Task
from metatx.training.checkpoint import Progress
from metatx.training.facts import differences
from metatx.training.frozen_features import cacheable_inputs, cached
from metatx.training.loop import Training

__all__ = ["Costs", "Plan", "keep_plan", "kept_plan", "plan_for"]

PLAN = "plan.json"  # file in the folder of a run

PROBED = 3  # batches of the trial, which is trained for two epochs: the first one warms up


@dataclass(frozen=True)
class Plan:
    """Epochs and samples of a training run.

    Attributes:
        epochs: Number of epochs.
        samples: Number of training samples, drawn with the run's seed; the validation split is cut by the same factor.
        available: Number of samples in the training split.
    """

    epochs: int
    samples: int
    available: int

    def __str__(self) -> str:
        some = "" if self.samples == self.available else f" of {self.available:,}"
        return f"{self.epochs} epoch{'' if self.epochs == 1 else 's'} of {self.samples:,}{some} samples"

    def cut(self, examples: dict[str, Examples], seed: int) -> dict[str, Examples]:
        """Return the examples by split, with training and validation splits cut to the planned size."""
        kept = dict(examples)
        for split in ("train", "validation"):
            if split in examples and self.samples < self.available:
                count = len(examples[split])
                kept[split] = examples[split].select(
                    drawn(count, math.ceil(count * self.samples / self.available), seed)
                )
        return kept


@dataclass(frozen=True)
class Costs:
    """Seconds that one sample takes.

    Attributes:
        train: Seconds in an epoch of training.
        measure: Seconds in a validation.
        features: Seconds for cached features, which are computed once; 0 where none are cached.
    """

    train: float
    measure: float
    features: float = 0.0

    def plan(self, train: int, validation: int, settings: TrainingSettings, seconds: float) -> Plan:
        """Epochs and samples that fit into ``seconds``, see ``plan_for``.

        Args:
            train: Samples of the training split.
            validation: Samples of the validation split.
            settings: Settings of the training; their epochs are the most that are planned.
            seconds: Seconds for training, validation and features.
        """
        assert settings.epochs is not None
        features = self.features * (train + validation)
        epoch = self.train * train + self.measure * validation
        least = min(max(1, math.ceil(features / epoch)), settings.epochs)
        epochs = min(max(least, int((seconds - features) / epoch)), settings.epochs)
        share = min(1.0, seconds / (features + epochs * epoch))
        return Plan(epochs, max(int(share * train), min(settings.batch_size, train)), train)


def plan_for(
    task: Task, examples: dict[str, Examples], settings: TrainingSettings, seconds: float, skip_bad: bool = False
) -> Plan:
    """Time a few steps, and plan as many epochs and samples as fit, at most the epochs of ``settings``.

    The time covers training, validation and the computation of cached features. It does not cover reading the samples,
    a token warm-up, or the test split. All samples are used unless one epoch would not fit, or cached features would
    take longer than all epochs; then there are fewer, at least a batch. The task is not changed.

    Raises:
        ValueError: If ``seconds`` is not positive, or as ``Task.fit``.
    """
    if seconds <= 0:
        raise ValueError(f"The budget is {seconds:g} seconds; it must be more than 0.")
    train = examples["train"]
    settings = settings.for_samples(len(train))
    rows = drawn(len(train), min(len(train), PROBED * settings.batch_size), settings.seed)
    few = task.encode(train.select(rows), "train", augment=True, skip_bad=skip_bad, cache=settings.cache)
    costs = _measured(task.model, few, settings)
    costs = replace(costs, features=costs.features * _different(task.model, train.inputs))
    # The first process decides: clocks differ, but processes that train together need the same plan.
    (plan,) = broadcast_object_list([costs.plan(len(train), len(examples.get("validation", ())), settings, seconds)])
    return cast(Plan, plan)


def _measured(model: Model, few: EncodedDataset, settings: TrainingSettings) -> Costs:
    """Time training, validation and features of a few samples; the model is not changed."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    once = _features_seconds(model, few, settings) if settings.cache else 0.0
    trial = replace(settings, epochs=2, patience=0, token_warmup_steps=0, track=None, tensorboard=False)
    training = Training(model, few, None, trial, quiet=True)
    trained = training.run(resume=False).history[-1]["seconds"]
    started = time.perf_counter()
    training.measure(training.data, Progress())
    measured = time.perf_counter() - started
    model.load_state_dict(before)
    return Costs(trained / len(few), measured / len(few), once / len(few))


def _different(model: Model, samples: Sequence[Any]) -> float:
    """Share of different values, which alone pass the backbone, among those of a cached input; the largest of all.

    Only texts, such as names of files, are compared; other values count as different.
    """
    names = cacheable_inputs(model)
    if not names:
        return 1.0
    assert isinstance(model.tokenizer, Inputs)
    texts: dict[str, set[str]] = {name: set() for name in names}
    counts = dict.fromkeys(names, 0)
    others = dict.fromkeys(names, 0)
    for at in range(len(samples)):
        with suppress(SampleError):  # left out, or reported, when the sample is encoded
            for name, value in model.tokenizer.values(samples[at]).items():
                if name in texts:
                    counts[name] += 1
                    others[name] += not isinstance(value, str)
                    texts[name].update([value] if isinstance(value, str) else [])
    return max((len(texts[name]) + others[name]) / max(1, counts[name]) for name in names)


def keep_plan(folder: Path, plan: Plan, asked: Mapping[str, Any]) -> None:
    """Write a plan beside the run's checkpoint, because timing again would give another plan.

    Args:
        folder: Folder of the run, which exists.
        plan: Plan of the run.
        asked: Budget in seconds and settings that the plan was made for.
    """
    with written_whole(folder / PLAN) as temporary:
        temporary.write_text(json.dumps({"asked": dict(asked), "plan": asdict(plan)}, indent=2) + "\n")


def kept_plan(folder: Path, asked: Mapping[str, Any]) -> Plan | None:
    """Read the plan of the run in a folder; None where it has none.

    Raises:
        ValueError: If it was made for another budget or other settings, which are named; or if it is damaged.
    """
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        before = dict(content["asked"])
        plan = Plan(**content["plan"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and the checkpoint to start anew.") from None
    changed = differences(before, asked)
    if changed:
        raise ValueError(
            f"{folder} is of a run with other settings: {'; '.join(changed)}. Resume with the settings of that run, or "
            "choose another --out."
        )
    return plan


def drawn(available: int, count: int, seed: int) -> np.ndarray:
    """Draw ``count`` of ``available`` positions at random with the seed, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(available)[:count])


def _features_seconds(model: Model, data: EncodedDataset, settings: TrainingSettings) -> float:
    """Seconds to compute the features of ``data`` that are cached, timed on the second of two passes; 0 for none."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        _, features = cached(model, data, settings, lambda items, what: items, disk=False)
        seconds = time.perf_counter() - started
    return 0.0 if features is data else seconds
