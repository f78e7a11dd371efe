"""Backbone: the one frozen transformer that all tasks share, whatever its kind."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Call, Packing, plain, stretches
from metatx.backbone.exchange import Exchange
from metatx.backbone.random_init import random_weights
from metatx.backbone.stem import Stem
from metatx.sequence import TokenSequence

__all__ = ["Backbone", "Config", "LayerChanges"]


class Config(Protocol):
    """What a kind of backbone is built from: a dataclass."""

    @property
    def dim(self) -> int:
        """Width of the tokens, D."""
        ...

    @property
    def depth(self) -> int:
        """Number of blocks."""
        ...

    @property
    def class_token(self) -> bool:
        """Whether the first token of the prefix is a class token."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON; the fingerprint is made of it."""
        ...


class LayerChanges(Protocol):
    """An adapter: what a task, or each of several, changes of a backbone's layers."""

    def on(self, backbone: "Backbone", packing: Packing) -> Call:
        """Give the way in which layers are applied to tokens that lie as ``packing`` says."""
        ...


class Backbone(nn.Module, ABC):
    """Prefix tokens, ``norm_pre``, blocks, ``norm``: frozen for good, whatever happens to the module around it.

    No parameter takes a gradient, ``train`` and ``apply`` leave it as it is, and ``load_state_dict`` refuses
    to write into it; only a copy can be trained, see ``trainable_copy``.

    A kind of backbone makes its modules in ``_build``, which include the four above, and says in ``reader`` how a block
    is applied.

    Args:
        config: Its shape.
        weights: Every weight by name, as ``named_weights`` gives them; kept as float32. None: random numbers,
            the same each time.
        spec: What ``load_backbone`` was asked for.
        mapped: Whether the weights lie in a file that nobody changes. Those that are float32 then stay there, so that
            processes share them; else they are copied.

    Attributes:
        config_type: Class of the config.
        causal: Whether a token sees only those before it.
        stem: The way from images to tokens, None where the weights came without one.
        frozen: False for a ``trainable_copy``.
        pretrained: False for random weights.

    Raises:
        ValueError: If weights are missing, have no place, or have another shape; names the first of them.

    Example:
        >>> import torch
        >>> backbone = metatx.load_backbone("nano")
        >>> sequence = metatx.TokenSequence(torch.zeros(5, backbone.dim), lengths=(2, 3))
        >>> backbone(sequence).lengths  # with CLS before each
        (3, 4)
    """

    config_type: ClassVar[type[Any]]
    causal: ClassVar[bool] = False
    config: Any
    cls_token: nn.Parameter
    norm_pre: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    stem: Stem | None

    def __init__(
        self, config: Config, weights: Mapping[str, Tensor] | None, *, spec: str, mapped: bool = False
    ) -> None:
        super().__init__()
        self.config, self.spec, self.pretrained = config, spec, weights is not None
        self.frozen = True
        # Built without memory or initial values: the weights given are the only ones this module ever has.
        with torch.device("meta"):
            self._build(config)
        self._names = tuple(name for name, _ in self.named_parameters())
        self._fill(random_weights(self) if weights is None else weights, copy=not mapped)
        self.eval()
        self.register_load_state_dict_pre_hook(_refuse_state)  # type: ignore[no-untyped-call]

    @abstractmethod
    def _build(self, config: Any) -> None:
        """Make ``cls_token`` (P, D), ``norm_pre``, ``blocks``, ``norm`` and ``stem``; their values come later."""

    @abstractmethod
    def reader(
        self, sequence: TokenSequence, packing: Packing, call: Call, adapter: LayerChanges | None
    ) -> Callable[[int, Tensor], Tensor]:
        """Give the way in which each block, by number, is applied to tokens in block order, (T, D) to (T, D).

        Args:
            sequence: What entered the backbone.
            packing: The order of its tokens inside these blocks.
            call: How layers are applied to all of these tokens.
            adapter: What ``call`` was made from, for tokens that are taken group by group.
        """

    @abstractmethod
    def adaptable_layers(self) -> dict[str, nn.Linear | nn.LayerNorm]:
        """Give the layers that an adapter can change, by name: linear ones in the blocks, norms of the tokens."""

    def _fill(self, weights: Mapping[str, Tensor], *, copy: bool) -> None:
        shapes = {name: tuple(self.get_parameter(name).shape) for name in self._names}
        missing = [name for name in shapes if name not in weights]
        if missing:
            raise ValueError(f"{len(missing)} of {len(shapes)} weights are missing: {_first(missing)}.")
        # Left unread, a layer scale or a further block would change what the weights compute.
        foreign = [name for name in weights if name not in shapes]
        if foreign:
            raise ValueError(f"{len(foreign)} weights have no place in this backbone: {_first(foreign)}.")
        wrong = [name for name, shape in shapes.items() if tuple(weights[name].shape) != shape]
        if wrong:
            sizes = [f"{name} is {tuple(weights[name].shape)}, not {shapes[name]}" for name in wrong]
            raise ValueError(f"{len(wrong)} of {len(shapes)} weights have the wrong shape: {_first(sizes)}.")
        for name in self._names:
            module, _, leaf = name.rpartition(".")
            # A copy as a rule: the given tensor may be changed later, or lie in a mapped file that is.
            value = weights[name].detach().to(torch.float32, copy=copy, memory_format=torch.contiguous_format)
            setattr(self.get_submodule(module), leaf, nn.Parameter(value, requires_grad=False))

    @property
    def dim(self) -> int:
        """Width, D."""
        width: int = self.config.dim
        return width

    @property
    def depth(self) -> int:
        """Number of blocks."""
        blocks: int = self.config.depth
        return blocks

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens put in front of each sequence, P."""
        return len(self.cls_token)

    @property
    def has_cls(self) -> bool:
        """Whether the first of these is a class token."""
        return self.num_prefix_tokens > 0 and bool(self.config.class_token)

    @property
    def stems(self) -> Mapping[str, nn.Module]:
        """Its own pretrained ways in, by what they read: ``"image"``."""
        return {} if self.stem is None else {"image": self.stem}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.cls_token.device

    @property
    def normalises_input(self) -> bool:
        """Whether tokens are normalised before the blocks; if not, the tokenizer must do it."""
        return not isinstance(self.norm_pre, nn.Identity)

    @property
    def token_rms(self) -> float:
        """Root mean square of the tokens that the stem makes of a grey picture; 1 without a stem."""
        if self.stem is None:
            return 1.0
        size = self.stem.config.image_size
        grey = torch.full((1, 3, size, size), 0.5, device=self.device)
        with torch.no_grad():
            tokens: Tensor = self.stem(grey)
        return tokens.square().mean().sqrt().item()

    def width(self, layers: int) -> int:
        """Width of the tokens that ``forward`` gives for so many layers."""
        return layers * self.dim

    @property
    def num_parameters(self) -> int:
        """Number of weights, the stem included and adapters left out."""
        return sum(weight.numel() for _, weight in self.named_weights())

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the config and of every weight as float32: equal for equal weights on any device.

        Computed from the weights as they are now. Adapters are left out; a cast to a shorter type changes it.
        """
        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name, weight in sorted(self.named_weights()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and value of each of the backbone's own weights, by the names it was built with."""
        for name, weight in self.named_parameters():
            own = name.replace(".base_layer.", ".")  # where peft has wrapped a layer
            if own in self._names:
                yield own, weight

    def forward(
        self,
        sequence: TokenSequence,
        layers: int = 1,
        adapter: LayerChanges | None = None,
        exchange: Exchange | None = None,
    ) -> TokenSequence:
        """Read every sequence; the prefix comes in front of each, the rest of the sequence's facts stay.

        Args:
            sequence: A tokenizer's tokens.
            layers: How many of the last blocks to give, each through the final norm, side by side: the embeddings
                are then (T, layers * D), the last block's at the end. Where there are no blocks, the tokens stand in
                for each, so that every head fits.
            adapter: What a task, or each of several, changes of this backbone, for this pass alone.
            exchange: What acts between the blocks, for this pass alone.

        Raises:
            ValueError: If the tokens are of another width, or already have a prefix; or there are fewer blocks.
        """
        width = sequence.embeddings.shape[1]
        if width != self.dim:
            raise ValueError(f"The tokens are {width} wide; this backbone's are {self.dim}.")
        if sequence.num_prefix_tokens:
            raise ValueError("These sequences have a prefix already; give the backbone a tokenizer's output.")
        if layers < 1 or 0 < self.depth < layers:
            raise ValueError(f"{layers} layers are asked for; this backbone has {self.depth}.")
        prefix = self.num_prefix_tokens
        facts: dict[str, Any] = {
            "lengths": tuple(length + prefix for length in sequence.lengths),
            "num_prefix_tokens": prefix,
            "class_token": self.has_cls,
        }
        outputs: list[Tensor] = []
        parts = stretches(sequence, prefix, self.depth)
        packing = parts[0][1]
        # In the type of the weights: under autocast the residual stream then stays in full precision.
        x = packing.enter(sequence.embeddings.to(self.cls_token.dtype), self.cls_token)
        call = self._call(adapter, packing)
        x = call(self.norm_pre, x)
        for blocks, following in parts:
            if following is not packing:
                x, *outputs = (following.arrange(packing.leave(tokens)) for tokens in (x, *outputs))
                packing = following
                call = self._call(adapter, packing)
            read = self.reader(sequence, packing, call, adapter)
            for number in blocks:
                x = read(number, x)
                if exchange is not None and number in exchange.blocks:
                    between = replace(sequence, embeddings=packing.leave(x), **facts)
                    x = packing.arrange(exchange(number, between))
                if number >= self.depth - layers:
                    outputs.append(call(self.norm, x))
        if not self.depth:
            outputs = [call(self.norm, x)] * layers
        embeddings = torch.cat(outputs, dim=1) if layers > 1 else outputs[0]
        return replace(sequence, embeddings=packing.leave(embeddings), **facts)

    def _call(self, adapter: LayerChanges | None, packing: Packing) -> Call:
        return plain if adapter is None else adapter.on(self, packing)

    # Frozen for good

    def trainable_copy(self) -> Self:
        """A copy, on the same device, whose weights take gradients and can be loaded: to pretrain, or to tune in full.

        It belongs to whoever trains it; what is shared stays as it is.
        """
        copy = self.rebuilt(self.config, dict(self.named_weights()))
        copy.frozen = False
        return copy.requires_grad_()

    def randomised(self) -> Self:
        """The same shape with random weights, the same each time, on the same device: the control."""
        return self.rebuilt(self.config, None)

    def without_blocks(self) -> Self:
        """The same prefix, norms and stem with no block between them: the control that shows what the blocks bring."""
        weights = {name: weight for name, weight in self.named_weights() if not name.startswith("blocks.")}
        copy = self.rebuilt(replace(self.config, depth=0), weights)
        copy.spec = f"{self.spec} without blocks"
        return copy

    def rebuilt(self, config: Any, weights: Mapping[str, Tensor] | None) -> Self:
        """Another backbone of the same kind, on the same device, with other weights; None: random ones."""
        copy = type(self)(config, weights, spec=self.spec).to(self.device)
        copy.pretrained = self.pretrained and weights is not None
        return copy

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Leave the weights alone: what initialises a model must not reach its backbone."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Raise ValueError for True, unless the backbone is ``trainable_copy``."""
        if requires_grad and self.frozen:
            raise ValueError(
                "A backbone is shared and stays frozen; to train parts, choose tune='norm', 'lora' or 'full'."
            )
        return self if self.frozen else super().requires_grad_(requires_grad)


def _refuse_state(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    keys = [key for key in state if key.startswith(prefix)]
    if keys and module.frozen:
        raise ValueError(
            f"The state dict holds {len(keys)} weights of the backbone ({_first(keys)}), which is frozen; "
            "leave them out, or load another backbone with load_backbone."
        )


def _first(items: list[str]) -> str:
    return ", ".join(items[:3]) + (", ..." if len(items) > 3 else "")
