"""Examples as tensors: encoded once, kept while memory allows, read in batches."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metatx.collate import collate
from metatx.encoding_cache import EncodingCache
from metatx.errors import SampleError
from metatx.examples import Examples

if TYPE_CHECKING:
    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

__all__ = ["Encoded", "Features"]

TRIED = 8  # samples that show how long encoding takes
WORTH = 1e-3  # seconds for one, beyond which they are kept on disk; reading one back takes a twentieth of that
KEPT_BYTES = 4 << 30  # encoded samples beyond this are encoded again each time
NAMED = 3  # bad samples that the message names; the rest is counted


class Encoded(torch.utils.data.Dataset[Any]):
    """Examples as batches of tensors: ``dataset.__getitems__(indices)`` gives ``(batch, targets)``.

    Every sample is encoded at once, so that a bad one is known before any training.

    Args:
        examples: Raw samples and targets.
        tokenizer: Encodes the samples.
        head: Encodes the targets.
        augment: Whether the tokenizer augments (training only).
        skip_bad: Leave out samples that raise SampleError, not stop.
        surroundings: What decides the encoded samples beside the tokenizer, see ``EncodingCache``, which then keeps
            those that take long; None keeps none on disk.
        views: Whether batches say which part of a sample an augmentation shows, where it does, as ``view`` (B, 4).

    Raises:
        ValueError: If samples are bad and ``skip_bad`` is off, or none is left; names the first, counts the rest.
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: "Tokenizer",
        head: "Head",
        *,
        augment: bool = False,
        skip_bad: bool = False,
        surroundings: str | None = None,
        views: bool = False,
    ) -> None:
        self.views = views
        self.examples, self.tokenizer, self.head = examples, tokenizer, head
        self.augmented = augment and tokenizer.augments
        self.kept: dict[int, tuple[dict[str, Tensor], Tensor]] = {}
        self.room = KEPT_BYTES
        self.seed = self.epoch = 0
        self.bad: list[str] = []
        self.indices: list[int] = []
        self.stored: list[dict[str, Tensor]] | None = None
        disk, started = None, time.perf_counter()
        for index in range(len(examples)):
            if index == TRIED and surroundings is not None and time.perf_counter() - started > TRIED * WORTH:
                disk = EncodingCache(tokenizer, examples.inputs, surroundings)
                self.stored = disk.load()
            try:
                _, target = self._encode(index)
                if examples.targets is not None:
                    head.check(target, tokenizer, examples.inputs[index])
            except SampleError as error:
                self.bad.append(f"{examples.place(index)}: {error}")
            else:
                self.indices.append(index)
        if disk and self.stored is None and len(self.kept) == len(examples):
            disk.store([self.kept[index][0] for index in range(len(examples))])
        self.stored = None
        if self.bad and not (skip_bad and self.indices):
            rest = f"; and {len(self.bad) - NAMED} more" if len(self.bad) > NAMED else ""
            hint = "Mend them, or leave them out with --skip-bad-samples." if self.indices else "No other is left."
            named = "; ".join(self.bad[:NAMED]) + rest
            raise ValueError(f"{len(self.bad)} of {len(examples)} samples cannot be used: {named}. {hint}")

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def good(self) -> Examples:
        """The examples without the bad ones."""
        return self.examples.select(self.indices) if self.bad else self.examples

    def _encode(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        if index in self.kept:
            return self.kept[index]
        sample = self.stored[index] if self.stored else self.tokenizer.encode(self.examples.inputs[index])
        target = torch.zeros(()) if self.examples.targets is None else self.head.encode(self.examples.targets[index])
        self.room -= sum(tensor.nbytes for tensor in sample.values())
        if self.room > 0:
            self.kept[index] = (sample, target)
        return sample, target

    def encoded(self, position: int) -> dict[str, Tensor]:
        """The encoded sample at ``position`` among the good ones, never augmented."""
        return self._encode(self.indices[position])[0]

    def __getitems__(self, positions: Sequence[int]) -> tuple[dict[str, Any], Any]:
        pairs = [self._encode(self.indices[position]) for position in positions]
        if self.augmented:
            pairs = [self._augment(*pair, position) for pair, position in zip(pairs, positions, strict=True)]
        return collate([sample for sample, _ in pairs]), collate([{"target": target} for _, target in pairs])["target"]

    def _augment(self, sample: dict[str, Tensor], target: Tensor, position: int) -> tuple[dict[str, Tensor], Tensor]:
        # The variation depends on (seed, epoch, sample) alone: not on workers, nor on where a run was resumed.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self.seed, self.epoch, position)) & 0x7FFFFFFF)
            varied = dict(self.tokenizer.augment(sample))
        view = varied.pop("view", None)
        if not self.head.dense:
            return varied | ({"view": view} if self.views and view is not None else {}), target
        if view is None:
            raise ValueError(
                f"This augmentation of the {self.tokenizer.name} tokenizer does not say how it moves places, which "
                f"the {self.head.name} head must follow; choose a weaker one."
            )
        return varied, self.head.follow(target, view)


class Features(torch.utils.data.Dataset[Any]):
    """Features that a frozen path gave, with their targets; batches as ``Encoded`` gives them."""

    def __init__(self, features: Tensor, targets: Any) -> None:
        self.features, self.targets = features, targets
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.features)

    def __getitems__(self, positions: Sequence[int]) -> tuple[Tensor, Any]:
        index = torch.as_tensor(positions)
        return self.features[index], collate([{"target": self.targets[position]} for position in positions])["target"]
