"""Data sets of torch and streams of datasets, as lists, pairs of lists and blocks of rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from metatx.data.table_files import undecoded

__all__ = ["Blocks", "asked", "is_stream", "listed"]

BLOCK = 1024  # rows of a stream that are in memory at once


def listed(data: Any) -> Any:
    """Items of a map-style data set of torch: a list of rows or samples, or, of pairs, a pair of lists.

    Other data are returned unchanged.

    Raises:
        TypeError: If the data are a stream, which training would need to read several times.
    """
    if is_stream(data):
        raise TypeError(
            f"The data are a stream ({type(data).__name__}), which is read once; training and evaluation need a table: "
            "datasets.Dataset.from_list(list(stream)). predict, embed and records take streams."
        )
    if not isinstance(data, Dataset):
        return data
    items: list[Any] = [data[number] for number in range(len(data))]  # type: ignore[arg-type]
    if items and all(isinstance(item, tuple) and len(item) == 2 for item in items):
        return [sample for sample, _ in items], [target for _, target in items]
    return items


def is_stream(data: Any) -> bool:
    """Return True for an iterator, and for what is iterable only: an ``IterableDataset`` of torch or of datasets."""
    import datasets

    return isinstance(data, Iterator | IterableDataset | datasets.IterableDataset)


class Blocks:
    """Raw samples of a stream, ``BLOCK`` at a time; the stream is read while they are answered.

    Args:
        stream: Stream of samples or rows; of pairs, the second is a target and left out.
        convert: Function from a list of them to raw samples.
    """

    def __init__(self, stream: Any, convert: Callable[[Any], Sequence[Any]]) -> None:
        self.stream = stream
        self.convert = convert

    def __iter__(self) -> Iterator[Sequence[Any]]:
        decodes = isinstance(getattr(self.stream, "features", None), Mapping)
        items = iter(undecoded(self.stream) if decodes else self.stream)
        while block := list(islice(items, BLOCK)):
            pairs = all(isinstance(item, tuple) and len(item) == 2 for item in block)
            yield self.convert([item[0] for item in block] if pairs else block)


def asked(samples: Any, convert: Callable[[Any], Sequence[Any]]) -> Sequence[Any] | Blocks:
    """Raw samples to answer: blocks of them, of a stream."""
    return Blocks(samples, convert) if is_stream(samples) else convert(samples)
