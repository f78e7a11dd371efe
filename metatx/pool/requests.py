"""Requests to a task in a pool: raw samples are encoded, grouped by equal form, and outputs are decoded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor

from metatx.adapters.batched import FixedAdapter
from metatx.backbone.generating import Follower
from metatx.encoding.collate import collate, to_device, widened
from metatx.errors import SampleError
from metatx.inference import read_one
from metatx.inputs.through import read_by_others
from metatx.sequence import TokenSequence
from metatx.task import Task

__all__ = ["ANSWERS", "OutputKind", "ResidentTask", "TokenBatch", "Request", "grouped", "read", "tokenized"]

OutputKind = Literal["predict", "records", "embed"]
ANSWERS = ("predict", "records", "embed")
Shapes = tuple[tuple[str, torch.Size], ...]  # shape of each field of an encoded sample
OVERFLOW = "gives no finite number: its values, or the task's weights, are too large or damaged"
REMEMBERED = 4096  # shapes per task whose number of tokens is remembered


@dataclass(frozen=True, eq=False)
class ResidentTask:
    """Task in memory. A request holds it, so that it stays usable when the pool drops or replaces it.

    Attributes:
        task: Task on the pool's backbone.
        adapter: Adapter of the task, prepared for mixed batches; None without one.
        bytes: Bytes of the task's weights.
        prefix: Number of prefix tokens of each sequence, P.
        lengths: Tokens of a sample, as ``Request.lengths``, by the shapes of its encoded fields.
    """

    task: Task
    adapter: FixedAdapter | None
    bytes: int
    prefix: int
    lengths: dict[Shapes, tuple[int, ...]] = field(default_factory=dict)

    def batch(self, encoded: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
        """Collate encoded samples on the task's device."""
        batch: dict[str, Any] = to_device(collate(encoded), self.task.device)
        return batch

    @torch.no_grad()
    def measured(self, encoded: Sequence[dict[str, Tensor]]) -> tuple[TokenSequence | None, tuple[int, ...]]:
        """Tokens of encoded samples, and their ``Request.lengths``.

        No tokens are returned where another backbone makes some of them, which is called in the pass.
        """
        model = self.task.model
        batch = self.batch(encoded)
        entering = model.entering(batch)
        if not entering:
            sequence = model.tokens(batch)
            return sequence, self._lengths(sequence)
        blank = {name: way.blank(sequence) for name, (way, sequence) in entering.items()}
        first = [length for sequence in blank.values() for length in sequence.lengths]
        return None, (*first, *self._lengths(model.tokens(batch, blank)))

    def prepare(self, name: str, samples: Sequence[Any], positions: Sequence[int], answer: OutputKind) -> "Request":
        """Turn raw samples into a request.

        A single sample whose number of tokens is known is tokenized later, together with those of other requests.

        Raises:
            SampleError: If a sample cannot be used; names its position.
        """
        encoded, extents = read(self.task, samples, positions, answer != "embed")
        try:
            return self.request(name, encoded, extents, answer)
        except SampleError as error:
            raise self._first_refused(encoded, positions) or error from None

    def request(
        self, name: str, encoded: Sequence[dict[str, Tensor]], extents: Sequence[Any], answer: OutputKind
    ) -> "Request":
        """Make a request from the result of ``read``, of this or another process; the second half of ``prepare``.

        Raises:
            SampleError: If a sample has more tokens than its task allows.
        """
        shapes = shapes_of(encoded[0]) if len(encoded) == 1 else None
        lengths = self.lengths.get(shapes) if shapes else None
        sequence = None
        if lengths is None:
            sequence, lengths = self.measured(encoded)
            if shapes and len(self.lengths) < REMEMBERED:
                self.lengths[shapes] = lengths
        return Request(
            name=name,
            answer=answer,
            samples=len(encoded),
            lengths=lengths,
            loaded=self,
            encoded=encoded if sequence is None else (),
            sequence=sequence,
            extents=extents,
        )

    def _first_refused(self, encoded: Sequence[dict[str, Tensor]], positions: Sequence[int]) -> SampleError | None:
        """Error of the first sample that cannot be made tokens, with its position; None if each alone can."""
        for sample, position in zip(encoded, positions, strict=True):
            try:
                self.measured([sample])
            except SampleError as error:
                return SampleError(f"sample {position + 1}: {error}")
        return None

    def _lengths(self, sequence: TokenSequence) -> tuple[int, ...]:
        written = self.task.head.writing()["most"] if self.task.head.continues else 0
        return tuple(sequence.unit_lengths(self.prefix + written, self.task.backbone.depth))


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Samples of one task, read and encoded.

    Attributes:
        name: Name of the task.
        answer: Kind of answer.
        samples: Number of samples.
        lengths: Approximate number of tokens of each sequence in a pass, prefix included. Sequences of a sample that
            attend to one another in some blocks are counted as one, and those of other backbones count too.
        loaded: Task that the request was prepared for, and that answers it.
        encoded: Encoded samples; none where ``sequence`` holds their tokens.
        sequence: Tokens of the samples; None where they are made later.
        extents: Further arguments of the head, see ``Model.extents``.
        follower: Function that follows the answer while it is written; only of a request of one sample.
    """

    name: str
    answer: OutputKind
    samples: int
    lengths: tuple[int, ...]
    loaded: ResidentTask
    encoded: Sequence[dict[str, Tensor]]
    sequence: TokenSequence | None
    extents: Sequence[Any]
    follower: Follower | None = None

    @property
    def tokens(self) -> int:
        """Approximate number of tokens in a pass."""
        return sum(self.lengths)

    @property
    def continues(self) -> bool:
        """True if the answer is written behind the sequences."""
        return self.answer != "embed" and self.loaded.task.head.continues

    def answers(
        self, sequence: TokenSequence, extents: Sequence[Any], followers: Sequence[Follower | None]
    ) -> list[Any]:
        """Answers for sequences that left the backbone, one item a sample; a SampleError where numbers overflowed.

        Sequences that are continued enter it here.
        """
        model = self.loaded.task.model
        head = model.head
        if self.answer == "embed":
            output = model.embedding(sequence).float()
            answers = list(output.cpu().numpy())
        else:
            if self.continues:
                output = model.continued(sequence, followers=followers)
            else:
                output = model.output(sequence)
            output = widened(output)
            if self.answer == "records":
                answers = head.records(output, *extents)
            else:
                decoded = head.decode(output, *extents)
                answers = decoded.tolist() if decoded.ndim == 1 else list(decoded)
        finite = output.flatten(1).isfinite().all(1).tolist() if output.ndim > 1 else output.isfinite().tolist()
        return [answer if good else SampleError(OVERFLOW) for answer, good in zip(answers, finite, strict=True)]


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokens of requests that ask the same task for the same kind of answer.

    Attributes:
        request: First of the requests.
        indices: Numbers of the requests in the batch.
        sequence: Tokens of the requests, in the order of ``indices``.
    """

    request: Request
    indices: Sequence[int]
    sequence: TokenSequence


def read(
    task: Task, samples: Sequence[Any], positions: Sequence[int], extents: bool
) -> tuple[list[dict[str, Tensor]], list[Any]]:
    """Encode raw samples, without the task's weights and its backbone.

    Args:
        task: Task that reads the samples.
        samples: Raw samples.
        positions: Positions of the samples in the user's request, for messages.
        extents: Also return the further arguments of the head, see ``Model.extents``.

    Raises:
        SampleError: If a sample cannot be used; names its position.
    """
    queries = task.queries(samples)
    pairs = [read_one(task.tokenizer, queries, at, position + 1) for at, position in enumerate(positions)]
    encoded = [tensors for _, tensors in pairs]
    return encoded, task.model.extents([query for query, _ in pairs]) if extents else []


def shapes_of(encoded: dict[str, Tensor]) -> Shapes:
    """Names and shapes of an encoded sample's fields; samples that agree in them have the same number of tokens."""
    return tuple((name, tensor.shape) for name, tensor in encoded.items())


@torch.no_grad()
def tokenized(requests: Sequence[Request]) -> list[TokenBatch]:
    """Tokenize all requests; samples of equal shapes together, which for short ones takes a fraction of the time.

    A backbone that reads inputs of some tasks first is called once for all of them.
    """
    parts: list[TokenBatch] = []
    waiting: dict[Any, list[int]] = {}
    for index, request in enumerate(requests):
        if request.sequence is not None:
            parts.append(TokenBatch(request, [index], request.sequence))
        else:
            alike = id(request.loaded), request.answer, tuple(map(shapes_of, request.encoded))
            waiting.setdefault(alike, []).append(index)
    groups = list(waiting.values())
    batches = [
        requests[group[0]].loaded.batch([sample for index in group for sample in requests[index].encoded])
        for group in groups
    ]
    models = [requests[group[0]].loaded.task.model for group in groups]
    entering = [model.entering(batch) for model, batch in zip(models, batches, strict=True)]
    for group, model, batch, read in zip(groups, models, batches, read_by_others(entering), strict=True):
        parts.append(TokenBatch(requests[group[0]], group, model.tokens(batch, read)))
    return parts


def context_kind(sequence: TokenSequence) -> list[str]:
    """Names of the contexts with the shapes of tensors; sequences that agree in them can be joined to one batch.

    A head that reads tensors of one shape is then never given a list, whatever else is in the pass.
    """
    return [
        f"{name} {tuple(value.shape[1:])}" if isinstance(value, Tensor) else name
        for name, value in sorted(sequence.context.items())
    ]


def grouped(parts: Sequence[TokenBatch]) -> list[list[TokenBatch]]:
    """Group batches whose sequences can be joined and answered together; tasks with adapters come side by side."""

    def kind(part: TokenBatch) -> tuple[Any, ...]:
        task = part.request.loaded
        owner = task.adapter is None, id(task)
        return *owner, part.request.answer, sorted(part.sequence.grids.items()), context_kind(part.sequence)

    return [list(group) for _, group in groupby(sorted(parts, key=kind), key=kind)]
