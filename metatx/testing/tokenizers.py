"""Checks of ``metatx.testing.check_tokenizer``, one function each, in the order of the list at the end."""

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatx.backbone.stem import Stem
from metatx.encoding.collate import collate
from metatx.errors import SampleError
from metatx.sequence import TokenSequence, as_sequence
from metatx.testing.tools import (
    PASSES,
    alike,
    apart,
    equal,
    idle_parameters,
    learned,
    rebuilt,
    refuses,
    require,
    same,
    short,
)
from metatx.tokenizer import Tokenizer

__all__ = ["TOKENIZER_CHECKS", "TokenizerCase"]

EncodedSample = dict[str, Tensor]


class TokenizerCase:
    """A tokenizer fitted to samples, and what to check it on.

    Attributes:
        tokenizer: Fitted, in evaluation mode; a check that changes it works on a copy.
        encoded: Its samples, encoded.
        before: Copies of the samples from before the first use, of those that can be compared, by index.
    """

    def __init__(
        self,
        cls: type[Tokenizer],
        samples: Sequence[Any],
        dim: int,
        bad_samples: Sequence[Any],
        options: dict[str, Any],
        stem: Stem | None,
    ) -> None:
        self.cls = cls
        self.samples = samples
        self.bad_samples = bad_samples
        self.dim = dim
        self.options = options
        copies = {i: copy.deepcopy(sample) for i, sample in enumerate(samples)}
        self.before = {i: sample for i, sample in copies.items() if same(sample, samples[i])}
        self.stem = {} if cls.stem is None else {"stem": stem}
        self.tokenizer = self.fitted()
        self.encoded = [self.tokenizer.encode(sample) for sample in samples]

    def fitted(self) -> Tokenizer:
        """A tokenizer drawn with seed 0 and fitted, in evaluation mode."""
        torch.manual_seed(0)
        tokenizer = self.cls(self.dim, **copy.deepcopy(self.options), **self.stem)
        fitted: Tokenizer = learned(tokenizer, self.samples)
        return fitted

    @torch.no_grad()
    def tokens(self, encoded: Sequence[EncodedSample], tokenizer: Tokenizer | None = None) -> TokenSequence:
        """Copies of encoded samples, as one batch, to sequences."""
        return as_sequence((tokenizer or self.tokenizer)(collate(copy.deepcopy(encoded))))


def check_samples_are_left_alone(case: TokenizerCase) -> None:
    """``fit`` and ``encode`` leave the user's data as they were."""
    for i, before in case.before.items():
        require(same(before, case.samples[i]), f"fit or encode changed sample {i}; work on a copy.")


def check_fit(case: TokenizerCase) -> None:
    """``fit`` learns the same from the same samples."""
    again = case.fitted()
    require(
        equal(dict(case.tokenizer.state_dict()), dict(again.state_dict())) and again.fitted == case.tokenizer.fitted,
        "built and fitted twice with the same seed, to the same samples, its state or facts differ; draw "
        "random numbers from torch's global generator alone, and sort what comes from a set.",
    )


def check_parameters_are_float32(case: TokenizerCase) -> None:
    """Parameters are float32; the core chooses the precision of the computation."""
    for name, parameter in case.tokenizer.named_parameters():
        require(parameter.dtype == torch.float32, f"parameter {name} is {parameter.dtype}; make it torch.float32.")


def check_encode_gives_tensors(case: TokenizerCase) -> None:
    """A dict of tensors, of the same fields for all samples."""
    for i, encoded in enumerate(case.encoded):
        require(
            isinstance(encoded, dict) and bool(encoded),
            f"encode gave {short(encoded)} for sample {i}; return a dict of field to Tensor.",
        )
        for name, tensor in encoded.items():
            require(
                isinstance(name, str) and isinstance(tensor, Tensor),
                f"field {name!r} of sample {i} is a {type(tensor).__name__}; make it a Tensor.",
            )
            require(
                tensor.device.type == "cpu" and not tensor.requires_grad,
                f"field {name!r} is on {tensor.device} or has a gradient; encode to plain CPU tensors.",
            )
        require(
            encoded.keys() == case.encoded[0].keys(),
            f"sample {i} has fields {sorted(encoded)}, sample 0 {sorted(case.encoded[0])}; give all alike.",
        )


def check_encode_is_deterministic(case: TokenizerCase) -> None:
    """The same sample gives the same tensors, in training too."""
    for training in (False, True):
        tokenizer = copy.deepcopy(case.tokenizer).train(training)
        for i, sample in enumerate(case.samples):
            require(
                equal(tokenizer.encode(sample), case.encoded[i]),
                f"encode gave sample {i} other tensors the second time{' (in training)' * training}; it must "
                "not draw random numbers nor keep count: random variation belongs in augment.",
            )


def check_bad_samples_raise_sample_error(case: TokenizerCase) -> None:
    """``encode`` refuses bad samples with a SampleError of one line."""
    for i, sample in enumerate(case.bad_samples):
        refuses(case.tokenizer.encode, sample, f"bad sample {i}, {short(sample)}")


def check_tokens_have_the_right_form(case: TokenizerCase) -> None:
    """(B, N, dim), that and a mask, or a TokenSequence; finite float32."""
    batches = [case.encoded, *([encoded] for encoded in case.encoded)]
    try:
        sequences = [case.tokens(batch) for batch in batches]
    except ValueError as error:
        raise AssertionError(
            f"what forward gave cannot be packed: {error} Return (B, N, D), that and a boolean mask (B, N), "
            "True = keep, or a TokenSequence."
        ) from error
    for batch, sequence in zip(batches, sequences, strict=True):
        tokens = sequence.embeddings
        count = len(batch)
        require(
            tokens.shape[1] == case.dim and tokens.dtype == torch.float32,
            f"tokens are {tokens.dtype}, {tokens.shape[1]} wide; expected float32, {case.dim} wide (dim).",
        )
        require(
            len(sequence) == count,
            f"{count} samples gave sequences for {len(sequence)}; give each one, or set sequences_per_sample.",
        )
        require(
            bool(tokens.isfinite().all()),
            "tokens hold NaN or infinite values; replace missing values by a learned token, or mask them.",
        )
        require(
            sequence.num_prefix_tokens == 0,
            f"num_prefix_tokens is {sequence.num_prefix_tokens}; leave that to the backbone, which puts CLS.",
        )
        sources = sequence.sources or ("",) * len(sequence.lengths)
        for source, grid in sequence.grids.items():
            lengths = {length for name, length in zip(sources, sequence.lengths, strict=True) if name == source}
            require(
                lengths == {int(np.prod(grid))},
                f"grid {grid} does not fit lengths {lengths}; it is that of every sequence of its source.",
            )
        for name, tensor in sequence.context.items():
            require(
                len(tensor) == count,
                f"context {name!r} has {len(tensor)} rows for {count} samples; give one a sample.",
            )


def check_forward_is_deterministic(case: TokenizerCase) -> None:
    """In evaluation mode the same batch gives the same tokens."""
    require(
        alike(case.tokens(case.encoded), case.tokens(case.encoded)),
        "forward gave the same batch other tokens the second time, in evaluation mode; let what is random, "
        "or learns as it goes, depend on self.training.",
    )


def check_batches_do_not_matter(case: TokenizerCase) -> None:
    """A sample's tokens do not depend on its neighbours, on padding, nor on its place in the batch."""
    forwards = apart(case.tokens(case.encoded))
    backwards = apart(case.tokens(case.encoded[::-1]))[::-1]
    for i, encoded in enumerate(case.encoded):
        alone = case.tokens([encoded])
        for found, how in ((forwards[i], "among the others"), (backwards[i], "in the batch reversed")):
            require(
                alike(found, alone),
                f"sample {i} has other tokens {how} than alone (lengths {found.lengths}, {alone.lengths}); "
                "mask what is padded, and normalise by statistics of the sample or the training split.",
            )


def check_encoded_samples_are_left_alone(case: TokenizerCase) -> None:
    """The core keeps encoded samples for the next epoch: ``augment`` must not change them."""
    given = copy.deepcopy(case.encoded)
    for encoded in given:
        case.tokenizer.augment(encoded)
    require(all(map(equal, given, case.encoded)), "augment changed its input in place; work on a copy.")


def check_tokens_depend_on_the_input(case: TokenizerCase) -> None:
    """Other samples give other tokens, and each field of a sample takes part."""
    samples = apart(case.tokens(case.encoded))
    require(
        not all(alike(sample, samples[0]) for sample in samples),
        "all samples have the same tokens; forward must use its input, and samples must differ.",
    )
    for name in case.encoded[0]:
        pairs = [
            (one, {**one, name: other[name]})
            for one in case.encoded
            for other in case.encoded
            if one[name].shape == other[name].shape and not same(one[name], other[name])
        ]
        require(
            not pairs or any(_changes(case, one, other) for one, other in pairs),
            f"no change of the field {name!r} changes the tokens; use it in forward, or do not encode it.",
        )


def _changes(case: TokenizerCase, one: EncodedSample, other: EncodedSample) -> bool:
    try:
        return not alike(case.tokens([one]), case.tokens([other]))
    except (ValueError, RuntimeError, IndexError):
        return False  # fields of two samples need not fit together


def check_gradients_reach_every_parameter(case: TokenizerCase) -> None:
    """The samples give every trainable parameter a gradient."""
    tokenizer = copy.deepcopy(case.tokenizer)
    batch = collate(case.encoded)

    def loss() -> Tensor:
        tokens = as_sequence(tokenizer(batch)).embeddings
        # Random weights: a plain sum has no gradient behind a LayerNorm.
        weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
        return (tokens * weights).sum()

    idle = idle_parameters(tokenizer, loss)
    require(
        not idle,
        f"no gradient reaches {', '.join(idle)}; use them in forward, set requires_grad_(False), or give "
        "samples that need them.",
    )


def check_rebuilt_is_the_same(case: TokenizerCase) -> None:
    """Options and state are all that is saved."""
    advice = "fit must return what it learns, as facts for build and tensors for buffers."
    again = rebuilt(case.tokenizer, **case.stem)
    try:
        encoded = [again.encode(sample) for sample in case.samples]
        tokens = case.tokens(encoded, again)
    except Exception as error:
        raise AssertionError(
            f"rebuilt from options and state it raises {type(error).__name__} ({error}); {advice}"
        ) from error
    require(
        all(map(equal, encoded, case.encoded)) and alike(tokens, case.tokens(case.encoded)),
        f"rebuilt from options and state it gives other tokens; {advice}",
    )


def check_augment(case: TokenizerCase) -> None:
    """Variations have the same form, follow torch's seed, and differ only where ``augments`` says so."""
    tokenizer = copy.deepcopy(case.tokenizer).train()
    changed = False
    for seed in range(PASSES):
        for encoded in case.encoded:
            torch.manual_seed(seed)
            varied = tokenizer.augment(encoded)
            torch.manual_seed(seed)
            require(
                equal(varied, tokenizer.augment(encoded)),
                "augment varies under one seed; draw random numbers from torch's global generator alone.",
            )
            view = varied.pop("view", None)
            require(
                view is None or (view.shape == (4,) and bool(((view >= 0) & (view <= 1)).all())),
                f"augment gave the view {view}; give left, top, right and bottom in 0 to 1.",
            )
            found, expected = (
                {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in sample.items()}
                for sample in (varied, encoded)
            )
            require(
                found == expected,
                f"augment turns {expected} into {found}; keep fields, shapes and types ('view' may join).",
            )
            changed = changed or not equal(varied, encoded)
    require(
        changed == tokenizer.augments,
        f"augment changes {'some' if changed else 'no'} samples, but self.augments is {tokenizer.augments}, "
        f"by which the core decides whether to call it; set it to {changed}.",
    )


def check_baseline_features(case: TokenizerCase) -> None:
    """Numbers (F,), NaN where missing, a row of named values, or words; of the same form for all samples."""
    rows = [case.tokenizer.baseline_features(sample) for sample in case.samples]
    forms = [sorted(row) if isinstance(row, dict) else np.shape(row) for row in rows]
    for i, (row, form) in enumerate(zip(rows, forms, strict=True)):
        require(
            form == forms[0],
            f"baseline_features gives sample {i} the form {form}, sample 0 {forms[0]}; give all samples the same.",
        )
        if isinstance(row, dict):
            numbers = np.array([value for value in row.values() if isinstance(value, float)])
        elif isinstance(row, str):
            continue
        else:
            require(len(form) == 1, f"baseline_features gives an array {form}; give numbers (F,), a dict, or words.")
            numbers = np.asarray(row, dtype=np.float64)
            require(
                not np.isnan(numbers).all(), f"baseline_features gives nothing but NaN for sample {i}; give numbers."
            )
        require(
            not np.isinf(numbers).any(),
            f"baseline_features gives infinite values for sample {i}; give finite ones, NaN where missing.",
        )


def check_json(case: TokenizerCase) -> None:
    """The schema's examples can be sent; a name that is sent is not read as a file."""
    schema = json.loads(json.dumps(case.tokenizer.json_schema(), allow_nan=False))
    for example in schema.get("examples", []):
        case.tokens([case.tokenizer.encode(case.tokenizer.from_json(example))])

    def outcome(sent: Any) -> Any:
        try:
            return case.tokenizer.encode(case.tokenizer.from_json(sent))
        except SampleError as error:
            return str(error)

    with tempfile.TemporaryDirectory() as folder:
        for file in (Path(folder, f"file{suffix}") for suffix in case.cls.suffixes):
            sent = [str(file), [str(file)], {"path": str(file), "bytes": None}]
            file.write_text("words")
            before = [outcome(value) for value in sent]
            file.unlink()
            for value, found in zip(sent, before, strict=True):
                require(
                    equal(found, outcome(value)) if isinstance(found, dict) else found == outcome(value),
                    f"{short(value)}, sent as JSON, was read as a file; overwrite from_json so that it cannot be.",
                )


def check_token_places(case: TokenizerCase) -> None:
    """``token_places`` names every token of a sample, if it says anything."""
    for sample, encoded in zip(case.samples, case.encoded, strict=True):
        places = case.tokenizer.token_places(sample)
        count = len(case.tokens([encoded]).embeddings)
        if places is not None:
            named = len(places.names)
            require(named == count, f"token_places names {named} places of a sample of {count} tokens; name each.")


TOKENIZER_CHECKS = (
    check_samples_are_left_alone,
    check_fit,
    check_parameters_are_float32,
    check_encode_gives_tensors,
    check_encode_is_deterministic,
    check_bad_samples_raise_sample_error,
    check_tokens_have_the_right_form,
    check_forward_is_deterministic,
    check_batches_do_not_matter,
    check_encoded_samples_are_left_alone,
    check_tokens_depend_on_the_input,
    check_gradients_reach_every_parameter,
    check_rebuilt_is_the_same,
    check_augment,
    check_baseline_features,
    check_token_places,
    check_json,
)
