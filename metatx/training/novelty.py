"""Novelty of samples, fitted when the weights of a task are final."""

from collections.abc import Iterator

import torch
from torch import Tensor

from metatx.encoding.collate import collate, to_device, widened
from metatx.encoding.encoded import EncodedDataset
from metatx.layers.novelty import Novelty, fitted_distance
from metatx.model import Model
from metatx.sequence import TokenSequence
from metatx.settings import TrainingSettings

__all__ = ["check_novelty", "feature_vectors", "fit_novelty", "novelty_scores"]

MOST = 5_000  # samples of a split that are read, spread over it
FEWEST = 4  # samples of a class, in the mean, from which its own mean is trusted


def check_novelty(model: Model, validation: EncodedDataset | None, settings: TrainingSettings) -> None:
    """Refuse to measure novelty where it cannot be, before anything is trained. Raises ValueError."""
    if settings.novelty is None:
        return
    head = model.head
    if validation is None:
        raise ValueError("novelty is told beside a validation split, and there is none; give one, or leave it out.")
    if head.continues:
        raise ValueError(f"The {head.name} head reads no features that novelty could be measured by; leave it out.")
    if settings.novelty == "energy" and not head.has_energy:
        raise ValueError(f"The outputs of the {head.name} head have no energy; choose novelty 'mahalanobis'.")


@torch.no_grad()
def fit_novelty(
    model: Model, data: EncodedDataset, validation: EncodedDataset | None, settings: TrainingSettings
) -> Novelty | None:
    """Fit the novelty that ``settings`` ask for; None where they ask for none.

    Features of the training split give means and covariance, of the validation split the shares. Classes have a mean
    each where every sample is of one class, and classes have four samples in the mean; else there is one mean.

    Args:
        model: Trained model.
        data: Training split; read without augmentation.
        validation: Validation split.
        settings: Settings that name the score, batch size and precision.
    """
    if settings.novelty is None or validation is None:
        return None
    novelty = Novelty(None)
    if settings.novelty == "mahalanobis":
        positions = _spread(len(data))
        vectors = [feature_vectors(model, sequence) for sequence, _ in _read(model, data, positions, settings)]
        novelty = Novelty(fitted_distance(torch.cat(vectors), _groups(data, positions)))
    model.novelty = novelty.to(model.device)
    read = _read(model, validation, _spread(len(validation)), settings)
    novelty.calibrate(torch.cat([novelty_scores(model, sequence, output) for sequence, output in read]))
    return novelty.eval()


def feature_vectors(model: Model, sequence: TokenSequence) -> Tensor:
    """Mean of each sample's tokens behind the backbone's last block, (B, D), of what the head reads."""
    width = model.backbone.width(1)
    return model.embedding(sequence.with_embeddings(sequence.embeddings[:, -width:])).float()


def novelty_scores(model: Model, sequence: TokenSequence, output: Tensor) -> Tensor:
    """Scores (B,) of how unusual samples are, from the backbone's output and that of the head."""
    assert model.novelty is not None
    if model.novelty.distance is None:
        return model.head.energy(output)
    scores: Tensor = model.novelty.distance(feature_vectors(model, sequence))
    return scores


def _spread(count: int) -> list[int]:
    """Positions of at most ``MOST`` samples, evenly spread."""
    taken = min(count, MOST)
    return [place * count // taken for place in range(taken)]


def _read(
    model: Model, data: EncodedDataset, positions: list[int], settings: TrainingSettings
) -> Iterator[tuple[TokenSequence, Tensor]]:
    """Yield outputs of the backbone and of the head, a batch each, of samples as they are, never augmented."""
    model.eval()
    for start in range(0, len(positions), settings.batch_size):
        encoded = [data.encoded(position) for position in positions[start : start + settings.batch_size]]
        with settings.autocast(model.device):
            sequence = model.features(to_device(collate(encoded), model.device))
            output = model.output(sequence)
        yield sequence, widened(output)


def _groups(data: EncodedDataset, positions: list[int]) -> Tensor:
    """Number of each sample's class; 0 for all where samples are not of one class each, or classes have too few."""
    targets = data.good.targets
    labels = [() if targets is None else tuple(data.head.labels(targets[position])) for position in positions]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    if any(len(label) != 1 for label in labels) or len(numbers) * FEWEST > len(labels):
        return torch.zeros(len(labels), dtype=torch.int64)
    return torch.tensor([numbers[label] for label in labels])
