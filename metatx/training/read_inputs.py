"""Inputs that frozen blocks read before anything that trains: computed once, and cached on disk.

They are those that another backbone reads first, and the main input in the blocks that it passes as if it were alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from metatx.bridge import plain
from metatx.disk.cache import read_cached, write_cached
from metatx.encoding.collate import collate, stacked, to_device
from metatx.encoding.encoded import EncodedDataset, OverDataset, PooledDataset
from metatx.encoding.encoding_cache import key_of
from metatx.encoding.sample_store import Column
from metatx.inputs.inputs import Inputs
from metatx.inputs.through import READ, taken_apart
from metatx.model import Model
from metatx.progress import tell
from metatx.sequence import TokenSequence
from metatx.settings import TrainingSettings

__all__ = ["ReadDataset", "different_values", "inputs_read_once", "read_inputs"]

KEPT_BYTES = 4 << 30  # bytes of tokens of an input that are kept in memory; more are computed anew in each epoch


class ReadDataset(OverDataset):
    """Samples with what another backbone makes of some inputs in the place of the fields of these.

    Args:
        data: Encoded samples, of which other inputs may be pooled features.
        read: Columns of the different values of an input, and the number of each sample's value among them (N,), -1
            where the input is missing, by input.
    """

    def __init__(
        self, data: EncodedDataset | PooledDataset, read: Mapping[str, tuple[Mapping[str, Column], Tensor]]
    ) -> None:
        super().__init__(data)
        self.read = dict(read)
        self.prefixes = tuple(f"{name}." for name in read)

    def batch(self, positions: Sequence[int]) -> tuple[dict[str, Any], Any]:
        """Collated samples and targets at ``positions``."""
        fields, targets = self.data.batch(positions, without=self.prefixes)
        for name, (columns, numbers) in self.read.items():
            places = numbers[torch.as_tensor(positions)].tolist()
            for field, column in columns.items():
                fields[f"{name}.{field}"] = stacked([None if at < 0 else column[at] for at in places])
        return fields, targets

    __getitems__ = batch  # torch's loaders call this


def inputs_read_once(model: Model) -> list[str]:
    """Names of the inputs that frozen blocks read first, and before which nothing trains or varies."""
    inputs = model.tokenizer
    if not isinstance(inputs, Inputs):
        return []
    return [
        name
        for name in inputs.inputs
        if (inputs.through(name) is not None or (name == inputs.main and _main_apart(model)))
        and not inputs.tokenizer(name).augments
        and not any(weight.requires_grad for module in inputs.before(name) for weight in module.parameters())
    ]


def _main_apart(model: Model) -> bool:
    """True if the main input passes some blocks as if it were alone, and always the same ones."""
    fusion = model.fusion
    if fusion is None or model.adapter is not None or not model.backbone.frozen or model.head.per_token:
        return False
    always = fusion.keeps_main or not fusion.dropout
    return always and 0 < fusion.apart <= model.backbone.depth + 1 - model.head.layers


@torch.no_grad()
def read_inputs(
    model: Model, data: EncodedDataset, settings: TrainingSettings, progress: Any, disk: bool = True
) -> dict[str, tuple[dict[str, Column], Tensor]]:
    """Columns of what the bridges pool for each of ``inputs_read_once``, and numbers, as ``ReadDataset`` takes them.

    Each different value of an input passes the other backbone once, however many samples have it. Every input has a
    file of its own, whose name is a hash of all that decides what it holds.

    Args:
        model: Model to train or to measure.
        data: Encoded samples.
        settings: Settings that say batch size and precision.
        progress: Function that shows a bar while it iterates: ``progress(items, what)``.
        disk: Read and write the cache on disk.
    """
    read = {}
    for name, (first, numbers, digest) in different_values(data, inputs_read_once(model)).items():
        assert isinstance(model.tokenizer, Inputs)
        if model.tokenizer.through(name) is None and (numbers < 0).any():
            continue  # where the main input is missing, the others pass all blocks
        key = _key(model, name, digest, settings) if disk else None
        columns = _cached(model, data, name, first, key, settings, progress)
        if columns is not None:
            read[name] = columns, numbers
    return read


def different_values(data: EncodedDataset, names: Sequence[str]) -> dict[str, tuple[list[int], Tensor, str]]:
    """Different values of each input: a position of each, each sample's number among them, and a hash of them all."""
    seen: dict[str, dict[bytes, int]] = {name: {} for name in names}
    first: dict[str, list[int]] = {name: [] for name in names}
    numbers = {name: torch.full((len(data),), -1) for name in names}
    for position in range(len(data)):
        sample = data.encoded(position)
        for name in names:
            digest = _digest(sample, f"{name}.")
            if digest is None:
                continue
            number = seen[name].setdefault(digest, len(seen[name]))
            if number == len(first[name]):
                first[name].append(position)
            numbers[name][position] = number
    return {name: (first[name], numbers[name], sha256(b"".join(seen[name])).hexdigest()) for name in names}


def _digest(sample: dict[str, Tensor], prefix: str) -> bytes | None:
    """Hash of an input's fields; None if the input is missing."""
    fields = {name: tensor for name, tensor in sample.items() if name.startswith(prefix)}
    digest = sha256()
    for name, tensor in fields.items():
        digest.update(f"{name[len(prefix) :]} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.digest() if fields else None


def _cached(
    model: Model,
    data: EncodedDataset,
    name: str,
    positions: Sequence[int],
    key: str | None,
    settings: TrainingSettings,
    progress: Any,
) -> dict[str, Column] | None:
    """Columns of an input of the samples at ``positions``, from the cache if they are there; None if they are none."""
    kept = None if key is None else read_cached(f"read/{key}")
    if kept is not None:
        fields = {field.removesuffix(".shapes") for field in kept}
        return {field: Column(kept[field], kept.get(f"{field}.shapes")) for field in fields}
    samples = _read(model, data, name, positions, settings, progress)
    if samples is None:
        return None
    columns = {field: Column.of([sample[field] for sample in samples]) for field in samples[0]}
    if key is not None:
        tensors = {field: column.values for field, column in columns.items()}
        shapes = {f"{field}.shapes": column.shapes for field, column in columns.items() if column.shapes is not None}
        write_cached(f"read/{key}", {**tensors, **shapes})
    return columns


def _read(
    model: Model, data: EncodedDataset, name: str, positions: Sequence[int], settings: TrainingSettings, progress: Any
) -> list[dict[str, Tensor]] | None:
    """Fields that stand for an input of the samples at ``positions``; None if they cannot be kept."""
    model.eval()
    samples: list[dict[str, Tensor]] = []
    size = settings.batch_size
    for start in progress(range(0, len(positions), size), f"{name} read"):
        encoded = [data.encoded(position) for position in positions[start : start + size]]
        named = [{key: value for key, value in each.items() if key.startswith(f"{name}.")} for each in encoded]
        with settings.autocast(model.device):
            pooled = _first_read(model, name, to_device(collate(named), model.device))
        if pooled.context:  # it belongs to the tokenizer, and may be anything
            return None
        samples += taken_apart(pooled)
        if samples[0][READ].nbytes * len(positions) > KEPT_BYTES:
            tell(f"What is read of {name} takes more than {KEPT_BYTES >> 30} GB, and is computed anew in each epoch.")
            return None
    return samples or None


def _first_read(model: Model, name: str, fields: dict[str, Any]) -> TokenSequence:
    """Tokens of an input behind the frozen blocks that read it first."""
    entering = model.entering(fields)
    if name in entering:
        way, sequence = entering[name]
        return way.bridge.pool(way.other(sequence))
    assert model.fusion is not None
    kept = _Kept(model.fusion.apart - 1)
    model.backbone(model.tokenizer(fields), exchange=kept)
    return replace(plain(kept.sequence), sources=None, grids={})


class _Kept:
    """Exchange that keeps the tokens behind a block, and changes nothing."""

    sequence: TokenSequence

    def __init__(self, block: int) -> None:
        self.blocks = (block,)

    def __call__(self, block: int, sequence: TokenSequence) -> Tensor:
        self.sequence = sequence
        return sequence.embeddings


def _key(model: Model, name: str, digest: str, settings: TrainingSettings) -> str | None:
    """Hash of what decides the columns of an input; None if something cannot be hashed."""
    assert isinstance(model.tokenizer, Inputs)
    tokenizer = model.tokenizer.tokenizer(name)
    way = model.tokenizer.through(name)
    half = settings.is_half(model.device)
    if way is None:
        assert model.fusion is not None
        norm = model.tokenizer.norm(name)
        facts = [model.backbone.fingerprint, model.fusion.apart, half, digest, repr(norm)]
        return key_of(facts, [(tokenizer, None)], [tokenizer, norm])
    return key_of(
        [way.other.fingerprint, half, digest, repr(way.norm)],
        [(tokenizer, None), (way.bridge, way.bridge.pool_options)],
        [tokenizer, way.norm],
    )
