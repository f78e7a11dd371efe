"""Fields of one input in a batch of several inputs, and one batch of the sequences of all."""

from collections.abc import Mapping
from typing import Any

import torch

from metatx.encoding.collate import stacked
from metatx.sequence import TokenSequence, ranges, sent

__all__ = ["fields_of", "merged", "present_of"]


def fields_of(batch: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Fields of one input, by their names in its tokenizer."""
    prefix = f"{name}."
    return {key[len(prefix) :]: value for key, value in batch.items() if key.startswith(prefix)}


def present_of(fields: Mapping[str, Any], count: int) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the samples that have an input, and its fields collated for these."""
    listed = next((value for value in fields.values() if isinstance(value, list)), None)
    present = [at for at in range(count) if listed is None or listed[at] is not None] if fields else []
    if len(present) == count:
        return present, dict(fields)
    return present, {name: stacked([value[at] for at in present]) for name, value in fields.items()}


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
        tokens = tokens.index_select(0, sent(rows, tokens.device))
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
