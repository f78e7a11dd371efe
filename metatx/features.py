"""Features of a frozen path, computed once and cached on disk."""

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metatx.cache import read_cached, write_cached
from metatx.collate import to_device
from metatx.encoding import Encoded, Features

if TYPE_CHECKING:
    from metatx.settings import TrainingSettings
    from metatx.task import Task

__all__ = ["cacheable", "frozen_features"]


def cacheable(task: "Task") -> bool:
    """Whether nothing below the head trains or varies, so that a sample's features never change."""
    if task.adapter is not None or task.tokenizer.augments:
        return False
    below = [*task.tokenizer.parameters(), *task.norm.parameters(), *task.backbone.parameters()]
    return not any(parameter.requires_grad for parameter in below)


@torch.no_grad()
def frozen_features(task: "Task", data: Encoded, settings: "TrainingSettings", progress: Any) -> Features:
    """What ``head.pool`` gives for every sample, from the cache where it is there.

    The file's name is a hash of all that decides the features: backbone, tokenizer and its state (preprocessing),
    pooling, precision, and the encoded samples themselves; so it is never stale.
    """
    name = f"features/{_key(task, data, settings)}"
    targets = data.__getitems__(range(len(data)))[1]
    kept = read_cached(name)
    if kept is not None:
        return Features(kept["features"], targets)
    features, done = torch.empty(0), 0
    batches = [range(i, min(i + settings.batch_size, len(data))) for i in range(0, len(data), settings.batch_size)]
    for batch in progress(batches, "features"):
        inputs = to_device(data.__getitems__(batch)[0], task.device)
        with settings.autocast(task.device):
            pooled = task.head.pool(task.features(inputs))
        if not done:
            features = torch.empty(len(data), *pooled.shape[1:])
        features[done : done + len(batch)] = pooled
        done += len(batch)
    write_cached(name, {"features": features})
    return Features(features, targets)


def _key(task: "Task", data: Encoded, settings: "TrainingSettings") -> str:
    deciding = task.head.options if task.head.pooled_by is None else task.head.pooled_by
    head = {name: task.head.options.get(name) for name in deciding}
    with settings.autocast(task.device) as autocast:
        half = autocast._enabled
    parts = [task.backbone.fingerprint, task.tokenizer.name, task.tokenizer.options, task.head.name, head, half]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for tensor in _tensors(task, data):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(task: "Task", data: Encoded) -> Iterator[Tensor]:
    yield from (tensor.cpu() for tensor in task.tokenizer.state_dict().values())
    for position in range(len(data)):
        yield from data.encoded(position).values()
