"""Features of a model, or of single inputs, that are frozen below what trains: computed once and cached on disk."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metatx.disk.cache import read_cached, write_cached
from metatx.encoding.collate import collate, to_device
from metatx.encoding.encoded import EncodedDataset, FeatureDataset, PooledDataset
from metatx.encoding.encoding_cache import key_of
from metatx.fusion import Fusion
from metatx.inputs.inputs import Inputs
from metatx.model import Model
from metatx.settings import TrainingSettings
from metatx.training.read_inputs import ReadDataset, different_values, read_inputs

__all__ = ["Batches", "cacheable", "cacheable_inputs", "cached", "frozen_features", "pooled_inputs"]

Batches = EncodedDataset | FeatureDataset | PooledDataset | ReadDataset


def cached(
    model: Model,
    data: EncodedDataset,
    settings: TrainingSettings,
    progress: Any,
    *,
    disk: bool = True,
    partly: bool = True,
) -> tuple[nn.Module, Batches]:
    """Module that is left to compute, and the data that it reads: features of all that never changes.

    Args:
        model: Model to train or to measure.
        data: Encoded samples.
        settings: Settings that say batch size and precision.
        progress: Function that shows a bar while it iterates: ``progress(items, what)``.
        disk: Read and write the cache on disk.
        partly: Also cache some of the inputs where others train; else all or none.
    """
    if cacheable(model):
        return model.head, frozen_features(model, data, settings, progress, disk)
    names = cacheable_inputs(model)
    pooled: EncodedDataset | PooledDataset = data
    if names and (partly or (isinstance(model.tokenizer, Inputs) and names == list(model.tokenizer.inputs))):
        pooled = pooled_inputs(model, data, settings, progress, disk)
    read = read_inputs(model, data, settings, progress, disk)
    return model, ReadDataset(pooled, read) if read else pooled


def cacheable(model: Model) -> bool:
    """Return True if nothing below the head trains or varies, so that a sample's features never change."""
    if model.adapter is not None or model.fusion is not None or model.tokenizer.augments or model.head.continues:
        return False
    below = [*model.tokenizer.parameters(), *model.norm.parameters(), *model.backbone.parameters()]
    return not _trained(below)


def cacheable_inputs(model: Model) -> list[str]:
    """Names of the inputs of which nothing below the fusion trains or varies, and that meet no other input there."""
    inputs = model.tokenizer
    fusion = model.fusion
    if fusion is None or not isinstance(inputs, Inputs) or model.adapter is not None:
        return []
    apart = not fusion.joins and not fusion.blocks and type(fusion).enter is Fusion.enter
    if (
        not apart
        or model.head.per_token
        or model.head.continues
        or _trained([*model.norm.parameters(), *model.backbone.parameters()])
    ):
        return []
    return [
        name
        for name in inputs.inputs
        if inputs.through(name) is None  # its bridge trains
        and not inputs.tokenizer(name).augments
        and not _trained([*inputs.tokenizer(name).parameters(), *inputs.norm(name).parameters()])
    ]


def _trained(parameters: Sequence[nn.Parameter]) -> bool:
    return any(parameter.requires_grad for parameter in parameters)


@torch.no_grad()
def frozen_features(
    model: Model, data: EncodedDataset, settings: TrainingSettings, progress: Any, disk: bool = True
) -> FeatureDataset:
    """Output of ``head.pool`` for every sample, read from the cache if it is there.

    The file's name is a hash of all that decides the features: the encoded samples, the precision, and backbone, norm,
    tokenizer and pooling with all options (defaults included), state and source code. If one of these cannot be hashed,
    nothing is cached.

    Args:
        model, data, settings, progress, disk: The arguments of ``cached``.
    """
    key = _key(model, data, settings) if disk else None
    targets = data.targets()
    name = f"features/{key}"
    kept = None if key is None else read_cached(name)
    if kept is not None:
        return FeatureDataset(kept["features"], targets)
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
    pool = model.backbone.attention_pool_fingerprint if model.head.pooling == "attention" else None
    half = settings.is_half(model.device)
    return key_of(
        [model.backbone.computation, pool, half, data.content[0], repr(model.norm)],
        [(model.tokenizer, None), (model.head, model.head.pool_options)],
        [model.tokenizer, model.norm],
    )


@torch.no_grad()
def pooled_inputs(
    model: Model, data: EncodedDataset, settings: TrainingSettings, progress: Any, disk: bool = True
) -> PooledDataset:
    """Output of ``Fusion.pool`` for each of ``cacheable_inputs``, read from the cache if it is there.

    Each different value of an input passes the backbone once, however many samples have it. Every input has a file of
    its own, whose name is a hash as that of ``frozen_features``, so that it serves all tasks that read the input alike.

    Args:
        model, data, settings, progress, disk: The arguments of ``cached``.
    """
    model.eval()
    assert isinstance(model.tokenizer, Inputs)
    names = cacheable_inputs(model)
    pooled = {}
    for name, (first, numbers, digest) in different_values(data, names).items():
        key = _input_key(model, name, digest, settings) if disk else None
        kept = None if key is None else read_cached(f"features/{key}")
        features = kept["features"] if kept else _pooled(model, data, name, first, settings, progress)
        if kept is None and key is not None:
            write_cached(f"features/{key}", {"features": features})
        pooled[name] = features, numbers
    return PooledDataset(data, pooled, list(model.tokenizer.inputs))


def _pooled(
    model: Model, data: EncodedDataset, name: str, positions: Sequence[int], settings: TrainingSettings, progress: Any
) -> Tensor:
    """What the fusion pools of an input of the samples at ``positions``, (V, 2 E + 1)."""
    assert isinstance(model.tokenizer, Inputs) and model.fusion is not None
    place = list(model.tokenizer.inputs).index(name)
    size = settings.batch_size
    parts = []
    for start in progress(range(0, len(positions), size), f"features of {name}"):
        samples = [data.encoded(position) for position in positions[start : start + size]]
        fields = collate([{n: v for n, v in sample.items() if n.startswith(f"{name}.")} for sample in samples])
        with settings.autocast(model.device):
            pooled = model.fusion.pool(model.features(to_device(fields, model.device)))
        parts.append(pooled[:, place].float().cpu())
    return torch.cat(parts) if parts else torch.zeros(0, 2 * model.backbone.width(model.head.layers) + 1)


def _input_key(model: Model, name: str, digest: str, settings: TrainingSettings) -> str | None:
    assert isinstance(model.tokenizer, Inputs)
    tokenizer = model.tokenizer.tokenizer(name)
    norm = model.tokenizer.norm(name)
    half = settings.is_half(model.device)
    return key_of(
        [model.backbone.computation, half, model.head.layers, digest, repr(norm)],
        [(tokenizer, None)],
        [tokenizer, norm],
        [type(model.fusion)],
    )
