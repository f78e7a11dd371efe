"""Pairs of samples of two modalities, or groups of more, as batches of tensors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from metatx.encoding.encoded import EncodedDataset
from metatx.examples import Examples
from metatx.head import Head
from metatx.pretraining.encoders import distinct
from metatx.pretraining.fixed_sides import FixedSide, external_side, fixed_side
from metatx.pretraining.towers import ExternalTower
from metatx.sequence import TokenSequence

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment

__all__ = ["PairedDataset", "drop_tokens", "part_of"]


class PairedDataset(torch.utils.data.Dataset[Any]):
    """B pairs: ``pairs.batch(positions)`` gives ``(batches by modality, keys (K, b), positions (b,))``.

    Two samples of a side have equal keys if their encoded tensors are equal, see ``contrastive.matches``. There may be
    more than two sides, K; which of them are compared is then a graph (contrastive multiview coding, Tian et al. 2020,
    arXiv 1906.05849). A side that never changes is computed once: always that of an anchor, others with ``cache``. Its
    batch holds nothing but the features that the linear map of its tower reads.

    Args:
        alignment: Alignment whose tokenizers encode the samples.
        samples: Raw samples of two or more modalities, by modality, equally many of each.
        augment: True lets the tokenizers vary the samples (training only).
        skip_bad: True leaves out pairs with a sample that cannot be used; False raises ValueError.
        graph: ``"core"``: all sides are compared with the first; ``"full"``: all with one another.
        cache: True computes all sides once before whose linear map nothing trains or varies, seen whole and in full
            precision; augmentations count as variation where ``augment`` is set.

    Raises:
        ValueError: If there are not several sides of equal length, or samples are bad; names the first, counts the
            rest.

    Example:
        >>> alignment = metatx.Alignment.from_pretrained("nano").anchor("text")
        >>> pictures = [np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)]
        >>> pairs = PairedDataset(alignment, {"image": pictures, "text": ["black", "white"]})
        >>> batches, keys, positions = pairs.batch([1])
        >>> sorted(batches["image"]), sorted(batches["text"])
        (['image'], ['features'])
    """

    sides: "dict[str, EncodedDataset | FixedSide]"

    def __init__(
        self,
        alignment: "Alignment",
        samples: Mapping[str, Sequence[Any]],
        *,
        augment: bool = False,
        skip_bad: bool = False,
        graph: Literal["core", "full"] = "core",
        cache: bool = False,
    ) -> None:
        sizes = {modality: len(side) for modality, side in samples.items()}
        if len(sizes) < 2 or len(set(sizes.values())) != 1 or not max(sizes.values()):
            given = " and ".join(f"{size} of {modality}" for modality, size in sizes.items())
            raise ValueError(
                f"Pairs need samples of two or more modalities, equally many of each; found {given or 'none'}."
            )
        if graph not in ("core", "full"):
            raise ValueError(f"graph is {graph!r}; choose core or full.")
        edges = tuple(combinations(range(len(sizes)), 2))
        self.edges = edges if graph == "full" else tuple(edge for edge in edges if not edge[0])
        self.sides = {
            modality: _side(alignment, modality, side, augment=augment, skip_bad=skip_bad, cache=cache)
            for modality, side in samples.items()
        }
        good = [set(side.indices) for side in self.sides.values()]
        places = [{index: at for at, index in enumerate(side.indices)} for side in self.sides.values()]
        self.rows = [tuple(place[index] for place in places) for index in sorted(set.intersection(*good))]
        if not self.rows:
            raise ValueError("No pair is left: in each pair, one of the samples cannot be used.")
        self.keys = torch.stack(
            [_keys(side, [row[i] for row in self.rows]) for i, side in enumerate(self.sides.values())]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def encoded(self, modality: str, position: int) -> dict[str, Tensor]:
        """Return one side of the pair at ``position``, not augmented."""
        return self.sides[modality].encoded(self.rows[position][list(self.sides).index(modality)])

    def start(self, seed: int, epoch: int) -> None:
        """Set the seed and the epoch (from 0) that decide how samples are augmented from now on."""
        for side in self.sides.values():
            side.seed = seed
            side.epoch = epoch

    def batch(self, positions: Sequence[int]) -> tuple[dict[str, dict[str, Any]], Tensor, Tensor]:
        """Batches by modality, keys (K, b) and positions (b,) of the pairs at ``positions``."""
        rows = zip(*(self.rows[position] for position in positions), strict=True)
        batches = {modality: side.batch(at)[0] for (modality, side), at in zip(self.sides.items(), rows, strict=True)}
        index = torch.as_tensor(positions)
        return batches, self.keys[:, index], index

    __getitems__ = batch  # the hook of torch's loaders


def _side(
    alignment: "Alignment", modality: str, samples: Sequence[Any], *, augment: bool, skip_bad: bool, cache: bool
) -> EncodedDataset | FixedSide:
    """Encoded samples of a modality, or the features of one that never changes."""
    tower = alignment.aligned(modality)
    if isinstance(tower, ExternalTower):
        return external_side(tower.encoder, Examples(samples, None), skip_bad)
    varied = augment and tower.tokenizer.augments and not tower.locked
    fixed = alignment.backbone.frozen and tower.fixed and not varied and (cache or tower.locked)
    first, numbers = distinct(samples) if fixed else ([], [])
    data = EncodedDataset.of(
        Examples([samples[place] for place in first], None, rows=first) if fixed else Examples(samples, None),
        tower.tokenizer,
        Head(alignment.backbone.dim),
        augment=varied,
        skip_bad=skip_bad,
        views=True,
    )
    return fixed_side(alignment.backbone, tower, data, numbers) if fixed else data


def _keys(side: EncodedDataset | FixedSide, places: Sequence[int]) -> Tensor:
    """Hash all tensors of each sample to a number: int64 (n,)."""
    keys = []
    for place in places:
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in side.encoded(place).items():
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        keys.append(int.from_bytes(digest.digest(), "little", signed=True))
    return torch.tensor(keys)


def part_of(batch: Any, rows: slice) -> Any:
    """Slice a collated batch to the samples ``rows``: its tensors (B, ...), lists of B, and dicts of these."""
    if isinstance(batch, dict):
        return {name: part_of(value, rows) for name, value in batch.items()}
    return batch[rows]


def drop_tokens(sequence: TokenSequence, share: float) -> tuple[TokenSequence, Tensor | None]:
    """Drop a random ``share`` of each sequence's tokens (FLIP, Li et al. 2023, arXiv 2212.00794).

    Sequences without a grid are returned as they are: their tokens do not carry their position, or their lengths
    differ.

    Returns:
        The sequences with the tokens that stay, and the numbers of those tokens, int64 (S, n), ascending; None in place
        of the numbers where nothing was dropped.
    """
    count = len(sequence.lengths)
    length = max(sequence.lengths)
    kept = max(1, round((1 - share) * length))
    if sequence.grid is None or kept == length:
        return sequence, None
    device = sequence.embeddings.device
    chosen = torch.rand(count, length, device=device).argsort(1)[:, :kept].sort(1).values
    flat = (chosen + length * torch.arange(count, device=device)[:, None]).flatten()
    return replace(sequence, embeddings=sequence.embeddings[flat], lengths=(kept,) * count), chosen
