"""Inference: raw samples in batches, answers in their order, bad samples named or left out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatx.data.torch_datasets import Blocks
from metatx.encoding.collate import collate, encoded, to_device, widened
from metatx.errors import BoundError, SampleError, first_named
from metatx.model import Model
from metatx.progress import tell
from metatx.sequence import TokenSequence
from metatx.settings import TrainingSettings
from metatx.tokenizer import Tokenizer
from metatx.training.novelty import novelty_scores

__all__ = ["Piece", "ask", "decoded", "embedded", "joined", "listed", "read_one", "recorded", "records_of", "refusal"]

REMEMBERED = 4096  # forms of samples of which it is remembered that a fusion takes them

Answer = Callable[[Model, TrainingSettings, dict[str, Any], Sequence[Any]], Sequence[Any]]
Place = Callable[[int], str]


@dataclass(frozen=True)
class Piece:
    """Answers to consecutive samples.

    Attributes:
        places: Numbers of the samples among all samples, from 0.
        queries: Raw samples that can be used.
        answers: Answers to ``queries``.
        bad: Reason why each other sample cannot be used, by its number.
    """

    places: range
    queries: Sequence[Any]
    answers: Sequence[Any]
    bad: dict[int, str]


def ask(
    model: Model,
    settings: TrainingSettings,
    queries: Sequence[Any] | Blocks,
    answer: Answer,
    *,
    skip_bad: bool = False,
    place: Place | None = None,
    watch: Callable[[Sequence[int]], Iterable[int]] = iter,
    part: bool = False,
) -> Iterator[Piece]:
    """Iterate over answers, ``settings.batch_size`` samples at a time; only that batch is in memory.

    Args:
        model: Model that answers.
        settings: Settings that say batch size and precision.
        queries: Raw samples, each of which is read with its batch; or blocks of them.
        answer: Function from model, settings, a collated batch and its raw samples to the answers.
        skip_bad: Leave out samples that cannot be used, and tell their number at the end; by default they raise an
            error.
        place: Function from a sample's number, from 0, to its name in messages; by default its file, or its number.
        watch: Function that wraps the iterable of batches, such as a progress bar.
        part: True for a part of the samples, in which all may be bad and none are told.

    Raises:
        SampleError: If a sample cannot be used and ``skip_bad`` is False, or none can; names the first of its batch.
    """
    if isinstance(queries, Blocks):
        yield from _asked(model, settings, queries, answer, skip_bad)
        return
    model.eval()
    check = refusal(model)
    size = settings.batch_size
    bad: list[str] = []
    where = place or (lambda at: _place(model.tokenizer, queries, at, at + 1))
    for start in watch(range(0, len(queries), size)):
        places = range(start, min(start + size, len(queries)))
        raw, tensors, refused = _read(model.tokenizer, queries, places, check)
        bad += [f"{where(at)}: {reason}" for at, reason in refused.items()]
        if refused and not skip_bad:
            after = f"{start + len(raw):,} samples before it were good. " if start else ""
            raise SampleError(
                f"{first_named(bad)}. {after}Bad samples are left out with skip_bad_samples (--skip-bad-samples)."
            )
        answers = answer(model, settings, to_device(collate(tensors), model.device), raw) if raw else []
        yield Piece(places, raw, answers, refused)
    if not part:
        _tell_bad(bad, len(queries))


def _tell_bad(bad: Sequence[str], count: int) -> None:
    """Tell how many of ``count`` samples are bad. Raises SampleError if all are."""
    if len(bad) == count:
        raise SampleError(f"None of {count:,} samples can be used: {first_named(bad)}.")
    if bad:
        tell(f"{len(bad):,} of {count:,} samples cannot be used and have no answer: {first_named(bad)}.")


def _asked(model: Model, settings: TrainingSettings, blocks: Blocks, answer: Answer, skip_bad: bool) -> Iterator[Piece]:
    """Iterate over the answers to blocks of samples, which are counted over all blocks."""
    count = 0
    bad: list[str] = []
    for block in blocks:
        name = partial(_numbered, before=count)
        for piece in ask(model, settings, block, answer, skip_bad=skip_bad, place=name, part=True):
            refused = {at + count: reason for at, reason in piece.bad.items()}
            bad += [f"sample {at + 1}: {reason}" for at, reason in refused.items()]
            places = range(piece.places.start + count, piece.places.stop + count)
            yield Piece(places, piece.queries, piece.answers, refused)
        count += len(block)
    if not count:
        raise ValueError("There are no samples to predict.")
    _tell_bad(bad, count)


def _numbered(at: int, before: int) -> str:
    return f"sample {before + at + 1}"


def refusal(model: Model) -> Callable[[Mapping[str, Tensor]], None]:
    """Function that raises SampleError for an encoded sample that the model's fusion refuses, such as a too long one.

    It makes the sample's tokens, without a pass through any backbone; of samples of equal shapes, which have the same
    number of tokens, once.
    """
    if not model.head.continues and (model.fusion is None or not model.fusion.refuses):
        return _accept
    model.eval()  # in training the fusion leaves out inputs at random
    accepted: set[Any] = set()

    @torch.no_grad()
    def check(encoded: Mapping[str, Tensor]) -> None:
        shapes = tuple((name, tensor.shape) for name, tensor in encoded.items())
        if shapes in accepted:
            return
        batch = to_device(collate([dict(encoded)]), model.device)
        entering = model.entering(batch)
        model.tokens(batch, {name: way.blank(sequence) for name, (way, sequence) in entering.items()})
        if len(accepted) < REMEMBERED:
            accepted.add(shapes)

    return check


def _accept(encoded: Mapping[str, Tensor]) -> None:
    """Refuse no sample."""


def _read(
    tokenizer: Tokenizer, queries: Sequence[Any], places: range, check: Callable[[Mapping[str, Tensor]], None]
) -> tuple[list[Any], list[Any], dict[int, str]]:
    """Read and encode samples; return raw and encoded ones, and the reasons why others cannot be used."""
    raw = []
    tensors = []
    refused = {}
    for at in places:
        try:
            query = queries[at]
            sample = encoded(tokenizer, query)
            check(sample)
            tensors.append(sample)
            raw.append(query)
        except SampleError as error:
            refused[at] = str(error)
    return raw, tensors, refused


def read_one(tokenizer: Tokenizer, queries: Sequence[Any], at: int, number: int) -> tuple[Any, dict[str, Tensor]]:
    """Read one raw sample and encode it. Raises SampleError, which names its file or its number."""
    try:
        query = queries[at]
        return query, encoded(tokenizer, query)
    except SampleError as error:
        kind = BoundError if isinstance(error, BoundError) else SampleError
        raise kind(f"{_place(tokenizer, queries, at, number)}: {error}") from None


def _place(tokenizer: Tokenizer, queries: Sequence[Any], at: int, number: int) -> str:
    """Name of a sample in messages: its file, where the sample is the name of one, else its number."""
    try:
        query = queries[at]
    except SampleError:  # a row that lacks an input
        return f"sample {number}"
    return str(query) if tokenizer.names_file(query) else f"sample {number}"


def decoded(method: Callable[..., Any]) -> Answer:
    """Return an answer function that calls a method of the head on its outputs (B, ...)."""

    @torch.no_grad()
    def answer(model: Model, settings: TrainingSettings, batch: dict[str, Any], queries: Sequence[Any]) -> Any:
        with settings.autocast(model.device):
            output = model(batch)
        return method(widened(output), *model.extents(queries))

    return answer


@torch.no_grad()
def recorded(model: Model, settings: TrainingSettings, batch: dict[str, Any], queries: Sequence[Any]) -> Any:
    """Records of the head, with ``novelty`` where the model measures it."""
    if model.novelty is None:
        return decoded(model.head.records)(model, settings, batch, queries)
    with settings.autocast(model.device):
        sequence = model.features(batch)
        output = model.output(sequence)
    return records_of(model, sequence, widened(output), model.extents(queries))


def records_of(
    model: Model, sequence: TokenSequence | None, output: Tensor, extents: Sequence[Any]
) -> list[dict[str, Any]]:
    """Records of the head's output, with ``novelty`` where the model measures it, by the backbone's output too."""
    records = model.head.records(output, *extents)
    if model.novelty is not None and sequence is not None:
        shares = model.novelty(novelty_scores(model, sequence, output)).tolist()
        records = [{**record, "novelty": round(share, 4)} for record, share in zip(records, shares, strict=True)]
    return records


@torch.no_grad()
def embedded(model: Model, settings: TrainingSettings, batch: dict[str, Any], queries: Sequence[Any]) -> Any:
    """Mean of each sample's output tokens of the backbone, (B, D) float32."""
    with settings.autocast(model.device):
        return model.embedding(model.features(batch, layers=1)).float().cpu().numpy()


def joined(pieces: Iterable[Piece]) -> np.ndarray:
    """Join answers to one array; a bad sample's answer is NaN in an array of floats, else None in one of objects."""
    parts = []
    good: list[int] = []
    total = 0
    for piece in pieces:
        total += len(piece.places)
        good += [at for at in piece.places if at not in piece.bad]
        if len(piece.answers):
            parts.append(np.asarray(piece.answers))
    answers = np.concatenate(parts)
    if len(good) == total:
        return answers
    floats = answers.dtype.kind == "f"
    shape = answers.shape if floats else answers.shape[:1]
    whole = np.full((total, *shape[1:]), np.nan if floats else None, dtype=answers.dtype if floats else object)
    whole[good] = answers if floats else _objects(answers)
    return whole


def _objects(answers: np.ndarray) -> np.ndarray:
    """Array (N,) of objects, one an answer, even if answers are arrays."""
    whole = np.empty(len(answers), dtype=object)
    for at, answer in enumerate(answers.tolist() if answers.ndim == 1 else answers):
        whole[at] = answer
    return whole


def listed(pieces: Iterable[Piece]) -> list[Any]:
    """Join answers to a list; a bad sample's answer is None."""
    whole: list[Any] = []
    for piece in pieces:
        answers = iter(piece.answers)
        whole += [None if at in piece.bad else next(answers) for at in piece.places]
    return whole
