"""Samples that belong together, each of two modalities, as batches of tensors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metatx.encoding.encoded import EncodedDataset
from metatx.examples import Examples
from metatx.head import Head
from metatx.sequence import TokenSequence

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment

__all__ = ["PairedDataset", "drop_tokens", "part_of"]


class PairedDataset(torch.utils.data.Dataset[Any]):
    """B pairs: ``pairs.batch(positions)`` gives ``(batches by modality, keys (2, b), positions (b,))``.

    Keys are equal where the raw samples of a side are, see ``contrastive.matches``.

    Args:
        alignment: Its tokenizers encode.
        samples: By modality, two of them; the same number of raw samples each.
        augment: Whether tokenizers vary the samples (training only).
        skip_bad: Leave out pairs with a sample that cannot be used, not stop.

    Raises:
        ValueError: If these are not two sides of equal length, or samples are bad; names the first, counts the rest.
    """

    def __init__(
        self,
        alignment: "Alignment",
        samples: Mapping[str, Sequence[Any]],
        *,
        augment: bool = False,
        skip_bad: bool = False,
    ) -> None:
        sizes = {modality: len(side) for modality, side in samples.items()}
        if len(sizes) != 2 or len(set(sizes.values())) != 1 or not max(sizes.values()):
            found = " and ".join(f"{size} of {modality}" for modality, size in sizes.items())
            raise ValueError(
                f"PairedDataset are samples of two modalities, equally many of each; found {found or 'none'}."
            )
        self.sides = {
            modality: EncodedDataset.of(
                Examples(side, None),
                alignment.tower(modality).tokenizer,
                Head(alignment.backbone.dim),
                augment=augment,
                skip_bad=skip_bad,
                views=True,
            )
            for modality, side in samples.items()
        }
        good = [set(side.indices) for side in self.sides.values()]
        places = [{index: at for at, index in enumerate(side.indices)} for side in self.sides.values()]
        self.rows = [tuple(place[index] for place in places) for index in sorted(good[0] & good[1])]
        if not self.rows:
            raise ValueError("No pair is left: in each, one of the samples cannot be used.")
        self.keys = torch.stack(
            [_keys(side, [row[i] for row in self.rows]) for i, side in enumerate(self.sides.values())]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def encoded(self, modality: str, position: int) -> dict[str, Tensor]:
        """One side of the pair at ``position``, not augmented."""
        return self.sides[modality].encoded(self.rows[position][list(self.sides).index(modality)])

    def start(self, seed: int, epoch: int) -> None:
        """From here on, vary samples as it is done in this epoch of a run with this seed."""
        for side in self.sides.values():
            side.seed, side.epoch = seed, epoch

    def batch(self, positions: Sequence[int]) -> tuple[dict[str, dict[str, Any]], Tensor, Tensor]:
        """Batches by modality, keys (2, b) and positions (b,) of the pairs at ``positions``."""
        rows = zip(*(self.rows[position] for position in positions), strict=True)
        batches = {modality: side.batch(at)[0] for (modality, side), at in zip(self.sides.items(), rows, strict=True)}
        index = torch.as_tensor(positions)
        return batches, self.keys[:, index], index

    __getitems__ = batch  # the hook of torch's loaders


def _keys(side: EncodedDataset, places: Sequence[int]) -> Tensor:
    """A number for each sample (n,), int64, from a hash of all its tensors."""
    keys = []
    for place in places:
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in side.encoded(place).items():
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        keys.append(int.from_bytes(digest.digest(), "little", signed=True))
    return torch.tensor(keys)


def part_of(batch: Any, rows: slice) -> Any:
    """The samples ``rows`` of a collated batch: of its tensors (B, ...), lists of B, and dicts of these."""
    if isinstance(batch, dict):
        return {name: part_of(value, rows) for name, value in batch.items()}
    return batch[rows]


def drop_tokens(sequence: TokenSequence, share: float) -> tuple[TokenSequence, Tensor | None]:
    """Leave out so large a share of each sequence's tokens, by chance (FLIP, Li et al. 2023, arXiv 2212.00794).

    Only where they come from a grid, so that all sequences have as many and each has its place in its position.

    Returns:
        The rest, and which tokens they are, int64 (S, n), in order; None where nothing was left out.
    """
    count, length = len(sequence.lengths), max(sequence.lengths)
    kept = max(1, round((1 - share) * length))
    if sequence.grid is None or kept == length:
        return sequence, None
    device = sequence.embeddings.device
    chosen = torch.rand(count, length, device=device).argsort(1)[:, :kept].sort(1).values
    flat = (chosen + length * torch.arange(count, device=device)[:, None]).flatten()
    return replace(sequence, embeddings=sequence.embeddings[flat], lengths=(kept,) * count), chosen
