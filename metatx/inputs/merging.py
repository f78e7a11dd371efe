"""One batch of the sequences of several inputs."""

from collections.abc import Mapping

import torch

from metatx.sequence import TokenSequence, ranges

__all__ = ["merged"]


def merged(parts: Mapping[str, tuple[list[int], TokenSequence]], count: int, main: str) -> TokenSequence:
    """One batch of all inputs' sequences, sample by sample, input by input."""
    lengths: list[int] = []
    sources: list[str] = []
    owners: list[tuple[int, int]] = []  # sample and number of the input of each sequence, as the parts hold them
    for number, (name, (present, sequence)) in enumerate(parts.items()):
        counts = sequence.sequences_per_sample or (1,) * len(present)
        owners += [(at, number) for at, pieces in zip(present, counts, strict=True) for _ in range(pieces)]
        lengths += sequence.lengths
        sources += [name] * len(sequence.lengths)
    order = sorted(range(len(owners)), key=owners.__getitem__)  # stable: pieces of an input stay in their order
    tokens = torch.cat([sequence.embeddings for _, sequence in parts.values()])
    if order != list(range(len(order))):
        sizes = torch.tensor(lengths)
        picked = torch.tensor(order)
        rows = ranges((sizes.cumsum(0) - sizes)[picked], sizes[picked])
        tokens = tokens.index_select(0, rows.to(tokens.device))
    per_sample = [0] * count
    for at, _ in owners:
        per_sample[at] += 1
    whole = main in parts and len(parts[main][0]) == count
    return TokenSequence(
        tokens,
        tuple(lengths[at] for at in order),
        sequences_per_sample=None if set(per_sample) == {1} else tuple(per_sample),
        sources=tuple(sources[at] for at in order),
        grids={name: sequence.grid for name, (_, sequence) in parts.items() if sequence.grid is not None},
        # A head that reads the context needs the main input of every sample.
        context=parts[main][1].context if whole else {},
    )
