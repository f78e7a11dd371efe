"""One call for the tokenizers, or for the heads, of many tasks: their weights stacked along a new first axis.

The operators of a call for a single sample take longer to begin than to compute. Weights are stacked anew in each pass:
to copy them takes as long as to gather them from a store of all tasks, and nothing is kept twice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Self

import torch
from torch import Tensor, nn

from metatx.component import Component
from metatx.layers.unregistered import Unregistered
from metatx.model import Model
from metatx.padded import PaddedTokens
from metatx.registry import all_options
from metatx.sequence import TokenSequence
from metatx.tokenizer import Tokenizer

__all__ = [
    "Kind",
    "Part",
    "pooled",
    "samples_of",
    "stacked_outputs",
    "stacked_tokens",
    "stacking_head",
    "stacking_tokens",
    "tokens_of",
]

LARGEST = 150_000  # bytes; to copy the weights of a larger part takes longer than a call

Kind = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """Part of a model that can be computed in one call with parts of the same kind.

    Attributes:
        module: The part.
        tensors: Its weights and buffers, by name.
        kind: All that decides what it computes but the values of its tensors.
    """

    module: nn.Module
    tensors: Mapping[str, Tensor]
    kind: Kind

    @classmethod
    def of(cls, module: nn.Module, component: Component) -> Self:
        """Make the part of a module that has the options of a component."""
        weights = module.named_parameters(remove_duplicate=False)
        tensors = dict(chain(weights, module.named_buffers(remove_duplicate=False)))
        types = tuple(type(layer) for layer in module.modules())
        shared = [value for layer in module.modules() for value in vars(layer).values()]
        ids = tuple(id(value.module) for value in shared if isinstance(value, Unregistered))
        form = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors.items()]
        return cls(module, tensors, (types, ids, json.dumps(all_options(component), sort_keys=True), str(form)))


class _Entrance(nn.Module):
    """Tokenizer and input norm, to tokens that are not packed."""

    def __init__(self, tokenizer: Tokenizer, norm: nn.Module) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.norm = norm

    def forward(self, batch: dict[str, Any]) -> PaddedTokens:
        tokens = self.tokenizer.padded(batch)
        return replace(tokens, embeddings=self.norm(tokens.embeddings))


def tokens_of(tokenizer: Tokenizer, norm: nn.Module) -> Part:
    """Part that makes the tokens which enter the backbone."""
    return Part.of(_Entrance(tokenizer, norm), tokenizer)


def stacking_tokens(model: Model) -> Part | None:
    """Part of a model that makes tokens; None if it is to be called by itself."""
    alone = model.fusion is not None or model.head.continues or not model.tokenizer.stacks
    return None if alone else tokens_of(model.tokenizer, model.norm)


def stacking_head(model: Model) -> Part | None:
    """Part of a model that answers; None if it is to be called by itself."""
    alone = model.fusion is not None or model.novelty is not None or not model.head.stacks
    return None if alone else Part.of(model.head, model.head)


def stacked_tokens(parts: Sequence[Part], batch: Mapping[str, Tensor], largest: float = LARGEST) -> PaddedTokens:
    """Tokens of equally many samples of each part.

    Args:
        parts: Parts of one kind, from ``tokens_of``.
        batch: Collated samples (B, ...), those of the first part first.
        largest: Bytes of a part whose weights are stacked; larger ones are called one by one.
    """
    facts: list[PaddedTokens] = []

    def call(module: nn.Module, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens: PaddedTokens = module(samples)
        facts.append(tokens)
        mask = {} if tokens.mask is None else {"mask": tokens.mask}
        return {
            "embeddings": tokens.embeddings,
            **mask,
            **{f".{name}": value for name, value in tokens.context.items()},
        }

    tensors = _called(call, parts, dict(batch), largest)
    return PaddedTokens(
        tensors["embeddings"],
        tensors.get("mask"),
        grid=facts[0].grid,
        sequences_per_sample=facts[0].sequences_per_sample,
        context={name[1:]: value for name, value in tensors.items() if name.startswith(".")},
    )


def samples_of(tokens: PaddedTokens, groups: Sequence[int], count: int) -> PaddedTokens:
    """Tokens of some of ``count`` groups of equally many samples, in the order of the groups' numbers."""
    if list(groups) == list(range(count)):
        return tokens

    def picked(tensor: Tensor) -> Tensor:
        return _unflattened(count, tensor)[torch.tensor(groups, device=tensor.device)].flatten(0, 1)

    return PaddedTokens(
        picked(tokens.embeddings),
        None if tokens.mask is None else picked(tokens.mask),
        grid=tokens.grid,
        sequences_per_sample=tokens.sequences_per_sample,
        context={name: picked(value) for name, value in tokens.context.items()},
    )


def stacked_outputs(parts: Sequence[Part], features: Tensor, largest: float = LARGEST) -> Tensor:
    """Outputs (B, ...) of heads for equally many pooled samples (B, ...) of each, as ``stacked_tokens`` takes them."""
    output: Tensor = _called(lambda module, samples: module(samples), parts, features, largest)
    return output


def pooled(pool: Callable[[TokenSequence], Tensor], sequence: TokenSequence) -> Tensor:
    """Vectors (B, ...) of the samples, in which no bit depends on the other samples.

    Sequences of one length are pooled together: where lengths differ, sums are rounded otherwise.
    """
    facts = (sequence.sequences_per_sample, sequence.sources, sequence.fuse_at, sequence.trailing)
    if len(set(sequence.lengths)) == 1 or any(fact is not None for fact in facts):
        return pool(sequence)
    places: dict[int, list[int]] = {}
    for place, length in enumerate(sequence.lengths):
        places.setdefault(length, []).append(place)
    pieces = torch.split(sequence.embeddings, list(sequence.lengths))
    vectors = [
        pool(replace(sequence, embeddings=torch.cat([pieces[at] for at in alike]), lengths=(length,) * len(alike)))
        for length, alike in places.items()
    ]
    order = torch.tensor([at for alike in places.values() for at in alike], device=sequence.embeddings.device)
    return torch.cat(vectors)[order.argsort()]


def _alike(parts: Sequence[Part]) -> bool:
    """True if the parts are equal, as those without weights are."""
    return len(parts) == 1 or not parts[0].tensors


def _called(call: Callable[[nn.Module, Any], Any], parts: Sequence[Part], samples: Any, largest: float) -> Any:
    """Result (B, ...) of a function of a module and samples (B, ...), a tensor or a dict of tensors."""
    first = parts[0]
    if _alike(parts):
        return call(first.module, samples)
    of_parts = _mapped(partial(_unflattened, len(parts)), samples)
    if sum(tensor.nbytes for tensor in first.tensors.values()) > largest:
        results = [call(part.module, _mapped(itemgetter(at), of_parts)) for at, part in enumerate(parts)]
        if isinstance(results[0], Tensor):
            return torch.cat(results)
        return {name: torch.cat([result[name] for result in results]) for name in results[0]}
    weights = {name: torch.stack([part.tensors[name] for part in parts]) for name in first.tensors}

    def of_part(weights: dict[str, Tensor], samples: Any) -> Any:
        return call(_with_tensors(first.module, weights), samples)

    return _mapped(lambda tensor: tensor.flatten(0, 1), torch.func.vmap(of_part)(weights, of_parts))


def _unflattened(count: int, tensor: Tensor) -> Tensor:
    return tensor.view(count, len(tensor) // count, *tensor.shape[1:])


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a function to a tensor, or to each of a dict."""
    return {name: function(each) for name, each in value.items()} if isinstance(value, dict) else function(value)


def _with_tensors(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> nn.Module:
    """Copy of a module that computes with other weights and buffers.

    The module is not changed, not even for a moment as ``torch.func.functional_call`` does: other threads use it.
    """
    made = object.__new__(type(module))
    held = {
        kind: {name: value if value is None else tensors[prefix + name] for name, value in vars(module)[kind].items()}
        for kind in ("_parameters", "_buffers")
    }
    children = {
        name: child if child is None else _with_tensors(child, tensors, f"{prefix}{name}.")
        for name, child in module._modules.items()
    }
    made.__dict__.update(vars(module), **held, _modules=children)
    return made
