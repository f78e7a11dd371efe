"""Datasets of encoded examples: encoded once, kept as far as memory allows, read in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from metatx.encoding.collate import collate, encoded
from metatx.encoding.encoding_cache import EncodingCache
from metatx.encoding.sample_store import Columns
from metatx.errors import SampleError, cannot_be_used
from metatx.examples import Examples
from metatx.fusion import POOLED
from metatx.process import available_memory
from metatx.progress import bar
from metatx.seeding import seeded

if TYPE_CHECKING:
    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

__all__ = ["EncodedDataset", "FeatureDataset", "OverDataset", "PooledDataset", "screened"]

TRIED = 8  # number of samples from which the size of encoded samples is estimated
# Bytes of an encoded sample and its target beyond which samples are cached on disk: images, audio and molecules take
# about a millisecond to encode and a twentieth of that to read back. Rows, words and windows of series are smaller.
WORTH = 4096
KEPT_BYTES = 4 << 30  # bytes kept in memory; samples beyond them are encoded again each time
SHARE = 3  # of the available memory, one such part may be taken at most


class EncodedDataset(torch.utils.data.Dataset[Any]):
    """Dataset of encoded examples: ``dataset.batch(positions)`` returns ``(batch, targets)``.

    ``EncodedDataset.of`` encodes every sample, so that a bad one is known before any training. Samples are stored as
    columns: as one tensor for each field of each sample, a million rows of a table would take ten times as much memory.

    Args:
        examples: Raw samples and targets.
        tokenizer: Tokenizer that encodes the samples.
        head: Head that encodes the targets.
        kept: Encoded good samples and their targets, as far as memory allows.
        bad: Reasons why samples cannot be used, by their position in ``examples``.
        augment: Augment samples, in training; off by default.
        views: Add the field ``view`` (B, 4) to batches: the part of each sample that an augmentation shows.
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: "Tokenizer",
        head: "Head",
        kept: Columns,
        bad: Mapping[int, str],
        *,
        augment: bool = False,
        views: bool = False,
    ) -> None:
        self.examples = examples
        self.tokenizer = tokenizer
        self.head = head
        self.kept = kept
        self.bad = named(bad, examples)
        # A range where no sample is bad: a list could hold a million numbers.
        self.indices: Sequence[int] = range(len(examples))
        if bad:
            self.indices = [index for index in self.indices if index not in bad]
        self.augmented = augment and tokenizer.augments
        self.views = views
        self.seed = 0
        self.epoch = 0

    @classmethod
    def of(
        cls,
        examples: Examples,
        tokenizer: "Tokenizer",
        head: "Head",
        *,
        augment: bool = False,
        skip_bad: bool = False,
        cache_key: str | None = None,
        views: bool = False,
        check: Callable[[Mapping[str, Tensor]], None] | None = None,
    ) -> Self:
        """Encode every sample once.

        Args:
            examples, tokenizer, head, augment, views: The arguments of the class.
            skip_bad: Leave out samples that raise SampleError; by default they raise ValueError.
            cache_key: Facts that decide the encoded samples besides the tokenizer, for an ``EncodingCache`` of large
                samples; None caches none on disk.
            check: Function that raises SampleError for an encoded sample that the model refuses, see ``refusal`` of
                ``metatx.inference``.

        Raises:
            ValueError: If samples are bad and ``skip_bad`` is False, or all are; names the first and counts the rest.
        """
        kept, bad = _encode_all(examples, tokenizer, head, cache_key, check)
        if bad and not (skip_bad and len(bad) < len(examples)):
            raise cannot_be_used(named(bad, examples), len(examples))
        return cls(examples, tokenizer, head, kept, bad, augment=augment, views=views)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def good(self) -> Examples:
        """Examples without the bad ones."""
        return self.examples.select(self.indices) if self.bad else self.examples

    @property
    def content(self) -> tuple[str, str]:
        """SHA-256 (hex) of all encoded samples, and of all targets."""
        return self.kept.content

    def _pair(self, position: int) -> tuple[dict[str, Tensor], Tensor]:
        kept = self.kept.get(position)
        if kept is not None:
            return kept
        index = self.indices[position]
        return encoded(self.tokenizer, self.examples.inputs[index]), _target(self.examples, self.head, index)

    def encoded(self, position: int) -> dict[str, Tensor]:
        """Encoded sample at ``position`` among the good ones, never augmented."""
        return self._pair(position)[0]

    def targets(self) -> Any:
        """All encoded targets: a tensor (N, ...), or a list of N where their shapes differ."""
        parts = [block.targets for block in self.kept.blocks]
        if self.kept.whole and all(part.shapes is None for part in parts):
            forms = {(part.values.dtype, part.values.shape[1:]) for part in parts}
            if len(forms) == 1:
                return torch.cat([part.values for part in parts])
        return collate([{"target": self._pair(position)[1]} for position in range(len(self))])["target"]

    def batch(self, positions: Sequence[int], without: tuple[str, ...] = ()) -> tuple[dict[str, Any], Any]:
        """Collated samples and targets at ``positions`` among the good ones; augmented if ``augment`` is set.

        Args:
            positions: Positions of the samples.
            without: Beginnings of the names of fields that are left out.
        """
        pairs = [self._pair(position) for position in positions]
        if without:
            pairs = [({n: v for n, v in sample.items() if not n.startswith(without)}, t) for sample, t in pairs]
        if self.augmented:
            pairs = [self._augment(*pair, position) for pair, position in zip(pairs, positions, strict=True)]
        return collate([sample for sample, _ in pairs]), collate([{"target": target} for _, target in pairs])["target"]

    __getitems__ = batch  # torch's loaders call this

    def _augment(self, sample: dict[str, Tensor], target: Tensor, position: int) -> tuple[dict[str, Tensor], Tensor]:
        # The variation depends on (seed, epoch, sample) only: not on workers, nor on where a run was resumed.
        with seeded(self.seed, self.epoch, position):
            varied = dict(self.tokenizer.augment(sample))
        view = varied.pop("view", None)
        if not self.head.dense:
            return varied | ({"view": view} if self.views and view is not None else {}), target
        if view is None:
            raise ValueError(
                f"This augmentation of the {self.tokenizer.name} tokenizer gives no view, which the "
                f"{self.head.name} head needs to move its targets; choose a weaker augmentation."
            )
        return varied, self.head.transform_target(target, view)


def _encode_all(
    examples: Examples,
    tokenizer: "Tokenizer",
    head: "Head",
    cache_key: str | None,
    check: Callable[[Mapping[str, Tensor]], None] | None,
) -> tuple[Columns, dict[int, str]]:
    """Encode samples and targets; return the good ones, and the reasons why others are bad, by position."""
    kept = Columns(min(KEPT_BYTES, available_memory() // SHARE))
    bad: dict[int, str] = {}
    disk: EncodingCache | None = None
    stored: Iterator[dict[str, Tensor]] | None = None
    for index in bar(range(len(examples)), "reading"):
        if index == TRIED and cache_key is not None and kept.added_bytes > TRIED * WORTH:
            disk = EncodingCache(tokenizer, examples.inputs, cache_key)
            stored = disk.load()
            stored = stored and islice(stored, index, None)
        try:
            sample = encoded(tokenizer, examples.inputs[index]) if stored is None else next(stored)
            if check is not None:
                check(sample)
            target = _target(examples, head, index)
            if examples.targets is not None:
                head.check(target, tokenizer, examples.inputs[index])
        except SampleError as error:
            bad[index] = str(error)
        else:
            kept.add(sample, target)
    kept.finish()
    if disk and stored is None and kept.whole and not bad:
        disk.store(kept.blocks)
    return kept, bad


def _target(examples: Examples, head: "Head", index: int) -> Tensor:
    if examples.targets is None:
        return torch.zeros(())
    target = examples.targets[index]
    head.screen(target)
    return head.encode(target)


def screened(examples: Examples, head: "Head", skip_bad: bool) -> Examples:
    """Examples whose targets can be learned from, see ``Head.screen``.

    Raises:
        ValueError: If targets are bad and ``skip_bad`` is False, or all are; names the first and counts the rest.
    """
    bad: dict[int, str] = {}
    good: list[int] = []
    for index, target in enumerate(() if examples.targets is None else examples.targets):
        try:
            head.screen(target)
        except SampleError as error:
            bad[index] = str(error)
        else:
            good.append(index)
    if bad and not (skip_bad and good):
        raise cannot_be_used(named(bad, examples), len(examples))
    return examples.select(good) if bad else examples


def named(bad: Mapping[int, str], examples: Examples) -> list[str]:
    """Reasons why samples cannot be used, each after its place, in the order of the source's rows."""
    return [f"{examples.place(index)}: {bad[index]}" for index in sorted(bad, key=examples.row)]


class FeatureDataset(torch.utils.data.Dataset[Any]):
    """Dataset of cached features and targets, with the batches of ``EncodedDataset``.

    Args:
        features: Features, (N, ...).
        targets: Encoded targets, (N, ...), or a list of N where their shapes differ.
    """

    def __init__(self, features: Tensor, targets: Any) -> None:
        self.features = features
        self.targets = targets
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Any]:
        """Features and targets at ``positions``."""
        index = torch.as_tensor(positions)
        return self.features[index], collate([{"target": self.targets[position]} for position in positions])["target"]

    __getitems__ = batch  # torch's loaders call this


class OverDataset(torch.utils.data.Dataset[Any]):
    """Base class of datasets that put features in the place of some inputs of another dataset.

    Args:
        data: Dataset of the other inputs, of the same samples.
    """

    def __init__(self, data: "EncodedDataset | PooledDataset") -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    @property
    def epoch(self) -> int:
        """Number of the epoch, which decides how other inputs are augmented."""
        return self.data.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.data.epoch = epoch


class PooledDataset(OverDataset):
    """Dataset of samples whose cached inputs are pooled features, with the batches of ``EncodedDataset``.

    Args:
        data: Encoded samples.
        pooled: Result of ``Fusion.pool`` for each different value of an input, (V, E), and the number of each sample's
            value (N,), by the names of the cached inputs; -1 where the input is missing.
        inputs: Names of all inputs, in order.

    Attributes:
        whole: True if all inputs are cached; encoded samples are then not read again.
    """

    def __init__(
        self, data: EncodedDataset, pooled: Mapping[str, tuple[Tensor, Tensor]], inputs: Sequence[str]
    ) -> None:
        super().__init__(data)
        self.pooled = dict(pooled)
        self.inputs = list(inputs)
        self.without = tuple(f"{name}." for name in pooled)
        self.whole = set(pooled) == set(inputs)
        self.targets = data.targets() if self.whole else None

    def batch(self, positions: Sequence[int], without: tuple[str, ...] = ()) -> tuple[dict[str, Any], Any]:
        """Fields of the other inputs, the pooled features of the cached ones as ``POOLED``, and targets.

        The arguments are those of ``EncodedDataset.batch``.
        """
        index = torch.as_tensor(positions)
        width = next(iter(self.pooled.values()))[0].shape[1]
        rows = torch.zeros(len(index), len(self.inputs), width)
        for name, (values, numbers) in self.pooled.items():
            at = numbers[index]
            rows[at >= 0, self.inputs.index(name)] = values[at[at >= 0]]
        if self.targets is None:
            fields, targets = self.data.batch(positions, without=(*self.without, *without))
        else:
            fields = {}
            targets = collate([{"target": self.targets[position]} for position in positions])["target"]
        return {**fields, POOLED: rows}, targets

    __getitems__ = batch  # torch's loaders call this
