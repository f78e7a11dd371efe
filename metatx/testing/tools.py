"""Tools of the conformance checks: comparing samples and tokens, rebuilding, gradients, refusals."""

import copy
import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from metatx.errors import SampleError
from metatx.sequence import TokenSequence

__all__ = [
    "PASSES",
    "alike",
    "apart",
    "changed",
    "close",
    "equal",
    "idle_parameters",
    "learned",
    "rebuilt",
    "refuses",
    "require",
    "same",
    "short",
]

Module = TypeVar("Module", bound=nn.Module)

TOLERANCE = 1e-5
PASSES = 8  # in training, within which chance must have reached everything


def require(kept: bool, otherwise: str) -> None:
    """Raise AssertionError unless the contract is kept; unlike ``assert`` also under ``python -O``."""
    if not kept:
        raise AssertionError(otherwise)


def short(value: Any) -> str:
    """The beginning of a value's repr, on one line."""
    return " ".join(repr(value).split())[:60]


def changed(module: Module) -> Module:
    """A copy with other weights and other statistics."""
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(1.1).add_(0.01)
    return copied


# Comparing


def apart(batch: TokenSequence) -> list[TokenSequence]:
    """A batch as batches of one sample each."""
    counts = batch.sequences_per_sample or (1,) * len(batch.lengths)
    samples = []
    sequence = 0
    token = 0
    for i, count in enumerate(counts):
        lengths = batch.lengths[sequence : sequence + count]
        sources = batch.sources and batch.sources[sequence : sequence + count]
        samples.append(
            TokenSequence(
                batch.embeddings[token : token + sum(lengths)],
                lengths,
                sequences_per_sample=None if batch.sequences_per_sample is None else (count,),
                sources=sources,
                fuse_at=batch.fuse_at and batch.fuse_at[i : i + 1],
                grids={source: grid for source, grid in batch.grids.items() if source in (sources or ("",))},
                num_prefix_tokens=batch.num_prefix_tokens,
                context={name: tensor[i : i + 1] for name, tensor in batch.context.items()},
            )
        )
        sequence = sequence + count
        token = token + sum(lengths)
    return samples


def close(found: Tensor, expected: Tensor) -> bool:
    """Equal up to 1e-5 of the largest value (of 1, if all are smaller), NaN where NaN."""
    if found.shape != expected.shape:
        return False
    finite = expected.detach().double().nan_to_num(0.0, 0.0, 0.0).flatten()
    atol = TOLERANCE * max(1.0, *finite.abs().tolist())
    return torch.allclose(found.double(), expected.double(), rtol=0, atol=atol, equal_nan=True)


def alike(first: TokenSequence, second: TokenSequence) -> bool:
    """Return True if two batches hold the same tokens and context.

    Context may be padded to the longest of a batch, so only what has one shape is compared.
    """
    if first.lengths != second.lengths or first.context.keys() != second.context.keys():
        return False
    pairs = [(first.embeddings, second.embeddings)]
    for name, held in first.context.items():
        pairs += zip(held, second.context[name], strict=True)  # sample by sample: a list where shapes differ
    return all(close(one, other) for one, other in pairs if one.shape == other.shape)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Return True if two encoded samples are the same, dtypes included."""
    return first.keys() == second.keys() and all(same(tensor, second[name]) for name, tensor in first.items())


def same(first: Any, second: Any) -> bool:
    """Return True if two samples, of any kind, hold the same values."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, Tensor):
        return (
            isinstance(second, Tensor)
            and first.dtype == second.dtype
            and torch.equal(first.isnan(), second.isnan())
            and torch.equal(first.nan_to_num(0.0), second.nan_to_num(0.0))
        )
    if hasattr(first, "__array__"):
        one = np.asarray(first)
        other = np.asarray(second)
        if one.dtype == object:
            return one.shape == other.shape and all(map(same, one.flat, other.flat))
        number = np.issubdtype(one.dtype, np.number) and np.issubdtype(other.dtype, np.number)
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=number)
    return bool(first == second) or bool(first != first and second != second)


# Using


def learned(component: Any, samples: Any) -> Any:
    """A component fitted and built, in evaluation mode."""
    options = copy.deepcopy(dict(component.options))
    try:
        component.learn(samples)
    except TypeError as error:
        raise AssertionError(str(error)) from error
    require(options == component.options, "fit changed the user's options; it must return what it learned instead.")
    return component.eval()


def rebuilt(component: Any, **stem: Any) -> Any:
    """A component as a saved task brings it back: from its options as JSON and its state as safetensors."""
    from safetensors.torch import load, save

    try:
        options = json.loads(json.dumps(dict(component.options)))
        fitted = json.loads(json.dumps(dict(component.fitted)))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"its options, or what fit returned, cannot be written as JSON ({error}); keep both to numbers, strings, "
            "booleans, None, and lists and dicts of them; statistics are tensors, for buffers."
        ) from error
    try:
        state = {name: tensor.contiguous() for name, tensor in component.state_dict().items()}
        again = type(component)(component.dim, **options, **stem).restore(fitted)
        again.load_state_dict(load(save(state)))
    except Exception as error:
        raise AssertionError(
            f"it cannot be rebuilt from its options, facts and state ({type(error).__name__}: {error}); fit must "
            "return what decides the shape of its parameters, and build must make them from that."
        ) from error
    return again.eval()


def idle_parameters(module: nn.Module, loss: Callable[[], Tensor]) -> list[str]:
    """Names of the trainable parameters that no pass gives a gradient, with a small step after each.

    The steps matter where a weight starts at zero, as what lies before it has no gradient at first.
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        return []
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3)
    idle = set(parameters)
    module.train()
    for _ in range(PASSES):
        optimizer.zero_grad()
        value = loss()
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        idle -= {name for name, p in parameters.items() if p.grad is not None and bool((p.grad != 0).any())}
        optimizer.step()
    return sorted(idle)


def refuses(encode: Callable[[Any], Any], value: Any, what: str) -> None:
    """Require a SampleError with a message of one line."""
    try:
        encode(value)
    except SampleError as error:
        message = str(error)
        require(
            bool(message.strip()) and "\n" not in message,
            f"the SampleError for {what} says {message!r}; say in one line what was found and expected.",
        )
    except Exception as error:
        raise AssertionError(
            f"encode raised {type(error).__name__} ({error}) for {what}; raise metatx.SampleError, which the "
            "core reports with the sample's place."
        ) from error
    else:
        raise AssertionError(f"encode accepted {what}; raise metatx.SampleError.")
