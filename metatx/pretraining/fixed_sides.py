"""Sides of pairs that never change: their features are computed once, and cached on disk."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metatx.backbone.base import Backbone
from metatx.disk.cache import read_cached, write_cached
from metatx.disk.weight_files import tensors_sha256
from metatx.encoding.collate import to_device
from metatx.encoding.encoded import EncodedDataset, named
from metatx.encoding.encoding_cache import key_of
from metatx.errors import cannot_be_used
from metatx.examples import Examples
from metatx.pretraining.encoders import FrozenEncoder
from metatx.pretraining.towers import FEATURES, Tower
from metatx.progress import bar

__all__ = ["FixedSide", "external_side", "fixed_side"]

AT_ONCE = 64  # samples of one pass through the backbone


class FixedSide(torch.utils.data.Dataset[object]):
    """Features of one side of pairs, in the place of its encoded samples; nothing of it is augmented.

    Args:
        features: Features of the good samples (N, W), float32.
        indices: Number of each among all samples.
    """

    augmented = False

    def __init__(self, features: Tensor, indices: Sequence[int]) -> None:
        self.features = features
        self.indices = indices
        self.content = (tensors_sha256({FEATURES: features}), "")
        self.seed = 0
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.features)

    def encoded(self, position: int) -> dict[str, Tensor]:
        """Features of the sample at ``position`` among the good ones."""
        return {FEATURES: self.features[position]}

    def batch(self, positions: Sequence[int]) -> tuple[dict[str, Tensor], None]:
        """Features (b, W) of the samples at ``positions``, and no targets."""
        return {FEATURES: self.features[torch.as_tensor(positions)]}, None


def external_side(encoder: FrozenEncoder, examples: Examples, skip_bad: bool) -> FixedSide:
    """Vectors that another model gives for samples.

    Raises:
        ValueError: If samples are bad and ``skip_bad`` is False, or all are; names the first and counts the rest.
    """
    vectors, bad = encoder.vectors(examples.inputs)
    if bad and not (skip_bad and len(bad) < len(examples)):
        raise cannot_be_used(named(bad, examples), len(examples))
    return FixedSide(torch.from_numpy(vectors), [index for index in range(len(examples)) if index not in bad])


@torch.no_grad()
def fixed_side(backbone: Backbone, tower: Tower, data: EncodedDataset, numbers: Sequence[int]) -> FixedSide:
    """Features of samples, read from the disk if they are there.

    Args:
        backbone: Frozen backbone.
        tower: Tower of the modality, before whose linear map nothing trains.
        data: Encoded samples, all of them different.
        numbers: For each sample of the side the number of its equal among all of these, also the bad ones.
    """
    tower.eval()
    key = key_of(
        ["aligned", backbone.computation, data.content[0], repr(tower.norm), tower.pooling],
        [(tower.tokenizer, None)],
        [tower.tokenizer, tower.norm],
    )
    kept = None if key is None else read_cached(f"features/{key}")
    features = _features(backbone, tower, data) if kept is None else kept[FEATURES]
    if kept is None and key is not None:
        write_cached(f"features/{key}", {FEATURES: features})
    places = {number: place for place, number in enumerate(data.indices)}
    indices = [index for index, number in enumerate(numbers) if number in places]
    return FixedSide(features[[places[numbers[index]] for index in indices]], indices)


def _features(backbone: Backbone, tower: Tower, data: EncodedDataset) -> Tensor:
    parts = []
    for start in bar(range(0, len(data), AT_ONCE), f"features of {tower.tokenizer.name}"):
        batch = data.batch(range(start, min(start + AT_ONCE, len(data))))[0]
        parts.append(tower.pool(backbone(tower.tokens(to_device(batch, backbone.device)))).float().cpu())
    return torch.cat(parts)
