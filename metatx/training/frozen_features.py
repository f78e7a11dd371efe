"""Features of a model that is frozen below its head: computed once and cached on disk."""

from typing import Any

import torch

from metatx.data.content_hash import Content
from metatx.disk.cache import read_cached, write_cached
from metatx.encoding.collate import to_device
from metatx.encoding.encoded import EncodedDataset, FeatureDataset
from metatx.encoding.encoding_cache import add_components
from metatx.model import Model
from metatx.settings import TrainingSettings

__all__ = ["cacheable", "frozen_features"]


def cacheable(model: Model) -> bool:
    """Return True if nothing below the head trains or varies, so that a sample's features never change."""
    if model.adapter is not None or model.fusion is not None or model.tokenizer.augments:
        return False
    below = [*model.tokenizer.parameters(), *model.norm.parameters(), *model.backbone.parameters()]
    return not any(parameter.requires_grad for parameter in below)


@torch.no_grad()
def frozen_features(model: Model, data: EncodedDataset, settings: TrainingSettings, progress: Any) -> FeatureDataset:
    """Output of ``head.pool`` for every sample, read from the cache if it is there.

    The file's name is a hash of all that decides the features: the encoded samples, the precision, and backbone, norm,
    tokenizer and pooling with all options (defaults included), state and source code. If one of these cannot be hashed,
    nothing is cached.
    """
    key = _key(model, data, settings)
    targets = data.targets()
    name = f"features/{key}"
    cached = None if key is None else read_cached(name)
    if cached is not None:
        return FeatureDataset(cached["features"], targets)
    features = torch.empty(0)
    done = 0
    batches = [range(i, min(i + settings.batch_size, len(data))) for i in range(0, len(data), settings.batch_size)]
    for batch in progress(batches, "features"):
        inputs = to_device(data.batch(batch)[0], model.device)
        with settings.autocast(model.device):
            pooled = model.head.pool(model.features(inputs))
        if not done:
            features = torch.empty(len(data), *pooled.shape[1:])
        features[done : done + len(batch)] = pooled
        done += len(batch)
    if key is not None:
        write_cached(name, {"features": features})
    return FeatureDataset(features, targets)


def _key(model: Model, data: EncodedDataset, settings: TrainingSettings) -> str | None:
    with settings.autocast(model.device):
        half = torch.is_autocast_enabled(model.device.type)
    content = Content()
    try:
        pool = model.backbone.attention_pool_fingerprint if model.head.pooling == "attention" else None
        content.add([model.backbone.fingerprint, pool, half, data.content[0], repr(model.norm)])
        add_components(content, (model.tokenizer, None), (model.head, model.head.pool_options))
    except (TypeError, OSError):
        return None
    content.add_tensors(model.tokenizer.state_dict())
    content.add_tensors(model.norm.state_dict())
    return content.hexdigest()
