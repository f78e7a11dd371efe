"""Requests to a task in a pool: raw samples are encoded, grouped by equal form, and outputs are decoded."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice, repeat
from typing import Any, Literal

import torch
from torch import Tensor

from metatx.adapters.batched import FixedAdapter
from metatx.backbone.generating import Follower
from metatx.encoding.collate import collate, to_device, widened
from metatx.errors import SampleError
from metatx.inference import read_one, records_of
from metatx.inputs.through import read_by_others
from metatx.pool.stacking import (
    Part,
    pooled,
    samples_of,
    stacked_outputs,
    stacked_tokens,
    stacking_head,
    stacking_tokens,
)
from metatx.sequence import TokenSequence, joined
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

    @cached_property
    def tokenizer(self) -> Part | None:
        """Part of the task that makes tokens, where it can be called together with those of other tasks."""
        return stacking_tokens(self.task.model)

    @cached_property
    def head(self) -> Part | None:
        """Part of the task that answers, where it can be called together with those of other tasks."""
        return stacking_head(self.task.model)

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

    def decoded(self, output: Tensor, extents: Sequence[Any] = (), read: TokenSequence | None = None) -> list[Any]:
        """Answers of an output (B, ...) of the head, for what it ``read``, which a task with novelty needs."""
        model = self.loaded.task.model
        if self.answer == "records":
            return records_of(model, read, output, extents)
        decoded = model.head.decode(output, *extents)
        return decoded.tolist() if decoded.ndim == 1 else list(decoded)

    @property
    def alike(self) -> Hashable:
        """Key that requests have in common if their sequences can be read in one call.

        Embeddings are read without a head; else it is the task, or the kind of its head.
        """
        if self.answer == "embed" and self.loaded.task.model.fusion is None:
            return self.answer
        head = None if self.answer == "embed" else self.loaded.head
        return self.answer, id(self.loaded) if head is None else head.kind

    @property
    def reads_context(self) -> bool:
        """True if what bypasses the backbone is read too."""
        if self.answer == "embed":
            return self.loaded.task.model.fusion is not None
        return self.loaded.head is None


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokens of requests that are alike.

    Attributes:
        requests: The requests.
        indices: Numbers of the requests in the batch.
        sequence: Tokens of the requests, in their order.
    """

    requests: Sequence[Request]
    indices: Sequence[int]
    sequence: TokenSequence

    @property
    def adapters(self) -> list[FixedAdapter | None]:
        """Adapter of each sequence."""
        of_samples = [request.loaded.adapter for request in self.requests for _ in range(request.samples)]
        counts = self.sequence.sequences_per_sample or repeat(1)
        return [adapter for adapter, count in zip(of_samples, counts, strict=False) for _ in range(count)]

    def answers(self, output: TokenSequence) -> list[list[Any]]:
        """Answers of each request, one item a sample; a SampleError where numbers overflowed.

        Args:
            output: Sequences that left the backbone; those that are continued enter it here.
        """
        first = self.requests[0]
        if first.answer == "embed" or first.loaded.head is None:
            answers = iter(self._of_one_head(output))
        else:
            answers = iter(self._of_alike_heads(output))
        return [list(islice(answers, request.samples)) for request in self.requests]

    def _of_one_head(self, output: TokenSequence) -> list[Any]:
        first = self.requests[0]
        model = first.loaded.task.model
        if first.answer == "embed":
            vectors = model.embedding(output) if model.fusion else pooled(model.embedding, output)
            return finite_ones(vectors.float().cpu().numpy(), vectors)
        arguments = zip(*(request.extents for request in self.requests), strict=True)
        extents = [list(chain(*of_requests)) for of_requests in arguments]
        if first.continues:
            followers = [request.follower for request in self.requests for _ in range(request.samples)]
            outputs = widened(model.continued(output, followers=followers))
        else:
            outputs = widened(model.output(output))
        return finite_ones(first.decoded(outputs, extents, output), outputs)

    def _of_alike_heads(self, output: TokenSequence) -> list[Any]:
        """Answers of heads of one kind, those for equally many samples in one call."""
        features = pooled(self.requests[0].loaded.task.head.pool, output)
        places: dict[ResidentTask, list[int]] = {}
        of_task: dict[ResidentTask, Request] = {}
        start = 0
        for request in self.requests:
            places.setdefault(request.loaded, []).extend(range(start, start + request.samples))
            of_task[request.loaded] = request
            start += request.samples
        families: dict[int, list[ResidentTask]] = {}
        for task, of_samples in places.items():
            families.setdefault(len(of_samples), []).append(task)
        answers: list[Any] = [None] * start
        for count, tasks in families.items():
            order = [place for task in tasks for place in places[task]]
            outputs = widened(stacked_outputs([task.head for task in tasks if task.head], features[order]))
            pairs = zip(tasks, torch.split(outputs, count), strict=True)
            decoded = chain.from_iterable(of_task[task].decoded(of_samples) for task, of_samples in pairs)
            for place, answer in zip(order, finite_ones(decoded, outputs), strict=True):
                answers[place] = answer
        return answers


def finite_ones(answers: Iterable[Any], output: Tensor) -> list[Any]:
    """Answers; a SampleError in the place of each whose output, of (B, ...), is not finite."""
    finite = output.flatten(1).isfinite().all(1) if output.ndim > 1 else output.isfinite()
    return [answer if good else SampleError(OVERFLOW) for answer, good in zip(answers, finite.tolist(), strict=True)]


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

    Tokenizers of one kind are called once for all tasks that have equally many samples. A backbone that reads inputs of
    some tasks first is called once for all of them.
    """
    parts: list[TokenBatch] = []
    waiting: dict[Any, list[int]] = {}
    for index, request in enumerate(requests):
        if request.sequence is not None:
            parts.append(TokenBatch([request], [index], request.sequence))
        else:
            alike = id(request.loaded), request.answer, tuple(map(shapes_of, request.encoded))
            waiting.setdefault(alike, []).append(index)
    families: dict[Any, list[list[int]]] = {}
    for (owner, _, shapes), group in waiting.items():
        tokenizer = requests[group[0]].loaded.tokenizer
        kind = owner if tokenizer is None else (tokenizer.kind, shapes, len(group))
        families.setdefault(kind, []).append(group)
    alone = [family[0] for family in families.values() if len(family) == 1]
    for groups in families.values():
        if len(groups) > 1 and requests[groups[0][0]].loaded.tokenizer is None:
            alone += groups
        elif len(groups) > 1:
            parts += _together(requests, groups)
    return parts + _alone(requests, alone)


def _together(requests: Sequence[Request], groups: Sequence[Sequence[int]]) -> list[TokenBatch]:
    """Tokenize groups of equally many requests, each of one task, by tokenizers of one kind."""
    firsts = [requests[group[0]] for group in groups]
    batch = firsts[0].loaded.batch(
        [sample for group in groups for index in group for sample in requests[index].encoded]
    )
    tokens = stacked_tokens([part for first in firsts if (part := first.loaded.tokenizer)], batch)
    readers: dict[Hashable, list[int]] = {}
    for place, first in enumerate(firsts):
        readers.setdefault((first.alike, first.loaded.adapter is None), []).append(place)
    parts = []
    for places in readers.values():
        indices = [index for place in places for index in groups[place]]
        sequence = samples_of(tokens, places, len(groups)).packed()
        firsts[0].loaded.task.backbone.check_lengths(sequence)
        parts.append(TokenBatch([requests[index] for index in indices], indices, sequence))
    return parts


def _alone(requests: Sequence[Request], groups: Sequence[Sequence[int]]) -> list[TokenBatch]:
    """Tokenize groups of requests, each of one task, one by one."""
    batches = [
        requests[group[0]].loaded.batch([sample for index in group for sample in requests[index].encoded])
        for group in groups
    ]
    models = [requests[group[0]].loaded.task.model for group in groups]
    entering = [model.entering(batch) for model, batch in zip(models, batches, strict=True)]
    return [
        TokenBatch([requests[index] for index in group], group, model.tokens(batch, read))
        for group, model, batch, read in zip(groups, models, batches, read_by_others(entering), strict=True)
    ]


def context_kind(sequence: TokenSequence) -> tuple[str, ...]:
    """Names of the contexts with the shapes of tensors; sequences that agree in them can be joined to one batch.

    A head that reads tensors of one shape is then never given a list, whatever else is in the pass.
    """
    return tuple(
        f"{name} {tuple(value.shape[1:])}" if isinstance(value, Tensor) else name
        for name, value in sorted(sequence.context.items())
    )


def grouped(parts: Sequence[TokenBatch]) -> list[TokenBatch]:
    """Join batches whose sequences can be read together; those with adapters come side by side, task by task."""
    groups: dict[Hashable, list[TokenBatch]] = {}
    for part in sorted(parts, key=lambda part: (part.requests[0].loaded.adapter is None, id(part.requests[0].loaded))):
        first = part.requests[0]
        if not first.reads_context:
            part = replace(part, sequence=replace(part.sequence, context={}))
        form = tuple(sorted(part.sequence.grids.items())), context_kind(part.sequence)
        groups.setdefault((first.loaded.adapter is None, first.alike, form), []).append(part)
    return [
        TokenBatch(
            [request for part in group for request in part.requests],
            [index for part in group for index in part.indices],
            joined([part.sequence for part in group]),
        )
        for group in groups.values()
    ]
