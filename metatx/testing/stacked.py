"""Checks of what ``stacks`` promises: one call for several tokenizers, or heads, gives what each gives by itself."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from metatx.encoding.collate import collate
from metatx.pool.stacking import Part, stacked_outputs, stacked_tokens, tokens_of
from metatx.testing.heads import HeadCase
from metatx.testing.tokenizers import TokenizerCase
from metatx.testing.tools import alike, apart, changed, close, require

__all__ = ["check_stacked_outputs", "check_stacked_tokens"]

ADVICE = "let it read nothing but its input, options, weights and buffers, or unset stacks."


@torch.no_grad()
def check_stacked_tokens(case: TokenizerCase) -> None:
    """Two tokenizers of other weights, on each sample."""
    tokenizers = (case.tokenizer, changed(case.tokenizer))
    parts = [tokens_of(tokenizer, nn.Identity()) for tokenizer in tokenizers]
    for i, encoded in enumerate(case.encoded if case.tokenizer.stacks else ()):
        with _runs("padded"):
            tokens = stacked_tokens(parts, collate([encoded, encoded]), math.inf)
        for stacked, tokenizer in zip(apart(tokens.packed()), tokenizers, strict=True):
            require(
                alike(stacked, case.tokens([encoded], tokenizer)),
                f"padded gives sample {i} other tokens where several tokenizers are called at once; {ADVICE}",
            )


@torch.no_grad()
def check_stacked_outputs(case: HeadCase) -> None:
    """Two heads of other weights, on each batch."""
    heads = (case.trained, changed(case.trained))
    for sequence in case.sequences.values() if case.fresh.stacks else ():
        with _runs("forward"):
            features = case.trained.pool(replace(sequence, context={}))
            outputs = stacked_outputs([Part.of(head, head) for head in heads], torch.cat([features] * 2), math.inf)
        require(
            close(outputs, torch.cat([head(features) for head in heads])),
            f"forward gives other outputs where several heads are called at once; {ADVICE}",
        )


@contextmanager
def _runs(method: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise AssertionError(
            f"stacks is True, but {method} raises {type(error).__name__} ({error}) where several are called at once; "
            "let no value decide shapes or branches, or unset stacks."
        ) from error
