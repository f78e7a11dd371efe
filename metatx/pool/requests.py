"""What is asked of a task in a pool: from raw samples to tokens, and from what the backbone read to answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor

from metatx.adapters.batched import FixedAdapter
from metatx.encoding.collate import collate, to_device, widened
from metatx.errors import SampleError
from metatx.inference import read_one
from metatx.sequence import TokenSequence
from metatx.task import Task

__all__ = ["ANSWERS", "OutputKind", "ResidentTask", "TokenBatch", "Request", "grouped", "read", "tokenized"]

OutputKind = Literal["predict", "records", "embed"]
ANSWERS = ("predict", "records", "embed")
Shapes = tuple[tuple[str, torch.Size], ...]  # of an encoded sample, field by field
OVERFLOW = "gives no finite number: its values, or the task's weights, are too large or damaged"
REMEMBERED = 4096  # shapes of a task whose number of tokens is known


@dataclass(frozen=True, eq=False)
class ResidentTask:
    """A task in memory, as a request holds it: it stays whole while the pool drops or replaces it.

    Attributes:
        task: Its backbone is the pool's.
        adapter: Its own, made ready.
        bytes: That its weights take.
        prefix: Tokens that the backbone puts in front of each sequence.
        counts: Tokens of a sample, prefix included, by the shapes of what it is encoded to.
    """

    task: Task
    adapter: FixedAdapter | None
    bytes: int
    prefix: int
    counts: dict[Shapes, int] = field(default_factory=dict)

    @torch.no_grad()
    def tokens(self, encoded: Sequence[dict[str, Tensor]]) -> TokenSequence:
        """EncodedDataset samples as tokens."""
        return self.task.tokens(to_device(collate(encoded), self.task.device))

    def prepare(self, name: str, samples: Sequence[Any], positions: Sequence[int], answer: OutputKind) -> "Request":
        """Raw samples to a request. Of one sample whose number of tokens is known, they are made later, among others.

        Raises:
            SampleError: If a sample cannot be used; names its position.
        """
        return self.request(name, *read(self.task, samples, positions, answer != "embed"), answer)

    def request(
        self, name: str, encoded: Sequence[dict[str, Tensor]], extents: Sequence[Any], answer: OutputKind
    ) -> "Request":
        """The second half of ``prepare``: what ``read`` gave, here or in another process, to a request."""
        shapes = shapes_of(encoded[0]) if len(encoded) == 1 else None
        count, sequence = self.counts.get(shapes) if shapes else None, None
        if count is None:
            sequence = self.tokens(encoded)
            count = sum(sequence.lengths) + len(sequence.lengths) * self.prefix
            if shapes and len(self.counts) < REMEMBERED:
                self.counts[shapes] = count
        return Request(
            name=name,
            answer=answer,
            samples=len(encoded),
            tokens=count,
            loaded=self,
            encoded=encoded[0],
            sequence=sequence,
            extents=extents,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Samples of one task, read and encoded.

    Attributes:
        name: Of the task.
        answer: What is asked for.
        samples: Their number.
        tokens: That it takes of a pass, about.
        loaded: The task it was prepared for, and answers with.
        encoded: The one sample, where ``sequence`` is None.
        sequence: The tokens, where they are made already.
        extents: Further arguments of the head, see ``Model.extents``.
    """

    name: str
    answer: OutputKind
    samples: int
    tokens: int
    loaded: ResidentTask
    encoded: dict[str, Tensor]
    sequence: TokenSequence | None
    extents: Sequence[Any]

    def answers(self, sequence: TokenSequence, extents: Sequence[Any]) -> list[Any]:
        """What the task makes of sequences that left the backbone, one item a sample.

        For a sample whose numbers ran over it is a SampleError.
        """
        head = self.loaded.task.head
        if self.answer == "embed":
            output = sequence.mean().float()
            answers = list(output.cpu().numpy())
        else:
            output = widened(head(head.pool(sequence)))
            if self.answer == "records":
                answers = head.records(output, *extents)
            else:
                decoded = head.decode(output, *extents)
                answers = decoded.tolist() if decoded.ndim == 1 else list(decoded)
        finite = output.flatten(1).isfinite().all(1).tolist() if output.ndim > 1 else output.isfinite().tolist()
        return [answer if good else SampleError(OVERFLOW) for answer, good in zip(answers, finite, strict=True)]


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokens of one or more requests of a batch for the same answer of the same task.

    Attributes:
        request: The first of them.
        indices: Of all of them, in the batch.
        sequence: Their tokens, in this order.
    """

    request: Request
    indices: Sequence[int]
    sequence: TokenSequence


def read(
    task: Task, samples: Sequence[Any], positions: Sequence[int], extents: bool
) -> tuple[list[dict[str, Tensor]], list[Any]]:
    """Raw samples, encoded, and where ``extents`` says so the further arguments of the head, see ``Model.extents``.

    Neither the task's weights nor its backbone are needed.

    Raises:
        SampleError: If a sample cannot be used; names its position.
    """
    asked = task.queries(samples)
    found = [read_one(task.tokenizer, asked, at, position + 1) for at, position in enumerate(positions)]
    return [tensors for _, tensors in found], task.model.extents([query for query, _ in found]) if extents else []


def shapes_of(encoded: dict[str, Tensor]) -> Shapes:
    """What two samples of a task share that have as many tokens."""
    return tuple((name, tensor.shape) for name, tensor in encoded.items())


def tokenized(requests: Sequence[Request]) -> list[TokenBatch]:
    """The tokens of all requests, made for alike samples of a task together: for short ones a fraction of the time."""
    parts: list[TokenBatch] = []
    waiting: dict[Any, list[int]] = {}
    for index, request in enumerate(requests):
        if request.sequence is not None:
            parts.append(TokenBatch(request, [index], request.sequence))
        else:
            alike = id(request.loaded), request.answer, shapes_of(request.encoded)
            waiting.setdefault(alike, []).append(index)
    for indices in waiting.values():
        first = requests[indices[0]]
        sequence = first.loaded.tokens([requests[index].encoded for index in indices])
        parts.append(TokenBatch(first, indices, sequence))
    return parts


def context_kind(sequence: TokenSequence) -> list[str]:
    """What the contexts of two sequences share that can be one batch's: tensors of a shape, or lists of tensors.

    A head that reads tensors of one shape alone is then never given a list, whatever else is in the pass.
    """
    return [
        f"{name} {tuple(value.shape[1:])}" if isinstance(value, Tensor) else name
        for name, value in sorted(sequence.context.items())
    ]


def grouped(parts: Sequence[TokenBatch]) -> list[list[TokenBatch]]:
    """Parts whose sequences can be joined and answered together, those of tasks with adapters side by side."""

    def kind(part: TokenBatch) -> tuple[Any, ...]:
        loaded, sequence = part.request.loaded, part.sequence
        owner = loaded.adapter is None, id(loaded)
        return *owner, part.request.answer, sorted(sequence.grids.items()), context_kind(sequence)

    return [list(group) for _, group in groupby(sorted(parts, key=kind), key=kind)]
