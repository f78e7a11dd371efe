"""Backbone: base class of the frozen transformer that all tasks share."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Call, Packing, plain, stretches
from metatx.backbone.attention_pool import AttentionPool
from metatx.backbone.config import OUTPUT, Config
from metatx.backbone.exchange import Exchange
from metatx.backbone.packed import in_precision
from metatx.backbone.random_init import random_weights
from metatx.backbone.recompute import within_memory
from metatx.backbone.stem import Stem
from metatx.errors import short
from metatx.sequence import TokenSequence

__all__ = ["Backbone", "LayerChanges", "check_backbone"]

POOL = "attention_pool"  # name of the pool in the config, and of its weights before the dot
APART = (POOL, "tied", "output", "end")  # fields of configs that no token depends on


class LayerChanges(Protocol):
    """Adapter: changes of a backbone's layers by one task, or by each task of a batch."""

    def on(self, backbone: "Backbone", packing: Packing) -> Call:
        """Return the function that applies a layer to tokens in the order of ``packing``."""
        ...


class Backbone(nn.Module, ABC):
    """Prefix tokens, ``norm_pre``, blocks and ``norm``, frozen whatever is done to a module that holds the backbone.

    No parameter takes a gradient, ``train`` and ``apply`` change nothing, and ``load_state_dict`` is refused. To train
    the weights, make a ``trainable_copy``.

    A subclass makes these four, the stem and the attention pool in ``_build``, and applies a block in ``reader``.

    Args:
        config: Shape of the backbone.
        weights: All weights by the names of ``named_weights``, stored as float32. None: random ones, always the same.
        spec: Name that ``load_backbone`` was given.
        mapped: True if the weights are mapped from a file that does not change. Those in float32 then stay mapped, so
            that processes share them. By default all are copied.

    Attributes:
        config_type: Class of the config.
        kind: Name of the kind in the ``config.json`` of a saved backbone; a Vision Transformer's has none.
        causal: True if a token attends only to itself and earlier ones; a sequence's last token is its class token.
        writes: True if it can say which token follows, and is a ``Writer``.
        blocks_name: Name of the list of blocks among the submodules.
        exports: True if ``metatx export`` can make a graph of it, whose blocks read the rows of tokens alone.
        lora_targets: Ends of the names of the layers that a LoRA adapter changes by default.
        stem: Pretrained layer from images to tokens; None where the weights came without one.
        attention_pool: Layer of the weights from a sequence to one vector, for a head's pooling; None: there is none.
        frozen: False for a ``trainable_copy``.
        pretrained: False for random weights.
        precision: Precision in which the blocks compute, see ``set_precision``; None computes as PyTorch's layers.

    Raises:
        ValueError: If weights are missing, superfluous or of the wrong shape; names the first of them.

    Example:
        >>> import torch
        >>> backbone = metatx.load_backbone("nano")
        >>> sequence = metatx.TokenSequence(torch.zeros(5, backbone.dim), lengths=(2, 3))
        >>> backbone(sequence).lengths  # each sequence has CLS in front now
        (3, 4)
    """

    config_type: ClassVar[type[Any]]
    kind: ClassVar[str | None] = None
    causal: bool = False
    writes: bool = False
    exports: bool = False
    blocks_name: str = "blocks"
    lora_targets: tuple[str, ...] = ("attn.qkv", "attn.proj")
    config: Any
    cls_token: nn.Parameter
    norm_pre: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    stem: Stem | None
    attention_pool: AttentionPool | None

    def __init__(
        self, config: Config, weights: Mapping[str, Tensor] | None, *, spec: str, mapped: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.pretrained = weights is not None
        self.frozen = True
        self.precision: str | None = None
        # The meta device allocates and initialises nothing: ``_fill`` sets all weights.
        with torch.device("meta"):
            self._build(config)
        self._names = tuple(name for name, _ in self.named_parameters())
        self._fill(random_weights(self) if weights is None else weights, copy=not mapped)
        self.eval()
        self.register_load_state_dict_pre_hook(_refuse_state)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        shape = f"dim={self.dim}, depth={self.depth}, num_parameters={self.num_parameters:_}"
        return f"{type(self).__name__}({self.spec!r}, {shape}, pretrained={self.pretrained}, frozen={self.frozen})"

    @abstractmethod
    def _build(self, config: Any) -> None:
        """Make ``cls_token`` (P, D), ``norm_pre``, ``blocks``, ``norm``, ``stem`` and at last ``attention_pool``.

        Their values are set later; random ones are drawn in this order.
        """

    @abstractmethod
    def reader(
        self, sequence: TokenSequence, packing: Packing, call: Call, adapter: LayerChanges | None
    ) -> Callable[[int, Tensor], Tensor]:
        """Return a function that applies the block of a number to tokens in block order, (T, D) to (T, D).

        Args:
            sequence: Input of the backbone.
            packing: Order of its tokens inside these blocks.
            call: Function that applies a layer to all of these tokens.
            adapter: Adapter that ``call`` was made from, for blocks that take the tokens group by group.
        """

    @abstractmethod
    def adaptable_layers(self) -> dict[str, nn.Linear | nn.LayerNorm]:
        """Return the layers that an adapter can change, by name: linear ones in the blocks, norms of the tokens."""

    def _fill(self, weights: Mapping[str, Tensor], *, copy: bool) -> None:
        shapes = {name: tuple(self.get_parameter(name).shape) for name in self._names}
        missing = [name for name in shapes if name not in weights]
        if missing:
            raise ValueError(f"{len(missing)} of {len(shapes)} weights are missing: {_first(missing)}.")
        # Ignoring a weight, such as a layer scale or a further block, would change what the others compute.
        foreign = [name for name in weights if name not in shapes]
        if foreign:
            raise ValueError(f"{len(foreign)} weights have no place in this backbone: {_first(foreign)}.")
        wrong = [name for name, shape in shapes.items() if tuple(weights[name].shape) != shape]
        if wrong:
            sizes = [f"{name} is {tuple(weights[name].shape)}, not {shapes[name]}" for name in wrong]
            raise ValueError(f"{len(wrong)} of {len(shapes)} weights have the wrong shape: {_first(sizes)}.")
        for name in self._names:
            module, _, leaf = name.rpartition(".")
            # Copied unless ``mapped``: the tensor, or the file that it is mapped from, may be changed later.
            value = weights[name].detach().to(torch.float32, copy=copy, memory_format=torch.contiguous_format)
            setattr(self.get_submodule(module), leaf, nn.Parameter(value, requires_grad=False))

    @property
    def dim(self) -> int:
        """Width of the tokens, D."""
        width: int = self.config.dim
        return width

    @property
    def depth(self) -> int:
        """Number of blocks."""
        blocks: int = self.config.depth
        return blocks

    @property
    def num_prefix_tokens(self) -> int:
        """Number of prefix tokens, P: CLS and registers, which the backbone puts in front of each sequence."""
        return len(self.cls_token)

    @property
    def has_cls(self) -> bool:
        """True if the first prefix token is a class token."""
        return self.num_prefix_tokens > 0 and bool(self.config.class_token)

    @property
    def stems(self) -> Mapping[str, nn.Module]:
        """Pretrained stems by the name that a tokenizer asks for: ``"image"``, ``"text"``, or none."""
        return {} if self.stem is None else {"image": self.stem}

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.cls_token.device

    @property
    def normalises_input(self) -> bool:
        """True if a norm stands before the blocks; if not, the tokenizer must scale its tokens."""
        return not isinstance(self.norm_pre, nn.Identity)

    @property
    def adds_positions(self) -> bool:
        """True if embeddings of positions are added before that norm, whose scale the tokens must have."""
        return False

    @property
    def token_rms(self) -> float:
        """Root mean square of the stem's tokens of a grey image; 1 without a stem."""
        if self.stem is None:
            return 1.0
        size = self.stem.config.image_size
        grey = torch.full((1, 3, size, size), 0.5, device=self.device)
        with torch.no_grad():
            tokens: Tensor = self.stem(grey)
        return tokens.square().mean().sqrt().item()

    def width(self, layers: int) -> int:
        """Width of the tokens that ``forward`` returns for this number of layers."""
        return layers * self.dim

    @property
    def num_parameters(self) -> int:
        """Number of weights, with stem and attention pool and without adapters."""
        return sum(weight.numel() for _, weight in self.named_weights())

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the config and of every weight as float32: equal for equal weights on any device.

        It is computed at each call, without adapters, attention pool and a language model's output layer, which no
        token depends on. A cast of the weights to a shorter dtype changes it.
        """
        config = {name: value for name, value in self.config.to_dict().items() if name not in APART}
        return _digest(config, [pair for pair in self.named_weights() if pair[0].split(".")[0] not in (POOL, OUTPUT)])

    @property
    def computation(self) -> str:
        """Fingerprint, with the precision where there is one: the name of what computes cached features."""
        return self.fingerprint if self.precision is None else f"{self.fingerprint} {self.precision}"

    @property
    def attention_pool_fingerprint(self) -> str | None:
        """SHA-256 (hex) of the attention pool's config and weights; None where there is no pool."""
        if self.attention_pool is None:
            return None
        weights = [pair for pair in self.named_weights() if pair[0].startswith(f"{POOL}.")]
        return _digest(self.config.to_dict()[POOL], weights)

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over names and values of the weights, without adapters, by the names of construction."""
        for name, weight in self.named_parameters():
            unwrapped = name.replace(".base_layer.", ".")  # peft may have wrapped the layer
            if unwrapped in self._names:
                yield unwrapped, weight

    @in_precision
    def forward(
        self,
        sequence: TokenSequence,
        layers: int = 1,
        adapter: LayerChanges | None = None,
        exchange: Exchange | None = None,
        start: int = 0,
    ) -> TokenSequence:
        """Run all sequences through the blocks, with the prefix tokens in front of each; other fields are kept.

        Args:
            sequence: Output of a tokenizer.
            layers: Number of last blocks whose output is returned, each through the final norm. The embeddings are
                (T, layers * D), the last block's at the end. A backbone without blocks repeats its tokens, so that
                every head fits.
            adapter: Changes of the layers by one task, or by each task of the batch, in this pass.
            exchange: Module that changes tokens between the blocks, in this pass.
            start: Number of blocks that the tokens have passed already. They then are the output of the last of these,
                prefix tokens included, before the exchange behind it; ``num_prefix_tokens`` is 0 all the same.

        Raises:
            ValueError: If the tokens have another width or have prefix tokens already, or ``layers`` exceeds the depth,
                or the blocks from ``start`` on with the one before.
        """
        width = sequence.embeddings.shape[1]
        if width != self.dim:
            raise ValueError(f"The tokens are {width} wide; this backbone's are {self.dim}.")
        if sequence.num_prefix_tokens:
            raise ValueError("These sequences have prefix tokens already; give the backbone a tokenizer's output.")
        prefix = 0 if start else self.num_prefix_tokens
        if not start:
            self.check_lengths(sequence)
        left = self.depth - max(start - 1, 0)
        if layers < 1 or 0 < left < layers:
            raise ValueError(f"{layers} layers are asked for; this backbone has {left}.")
        facts: dict[str, Any] = {
            "lengths": tuple(length + prefix for length in sequence.lengths),
            "num_prefix_tokens": self.num_prefix_tokens,
            "class_token": self.has_cls,
            "causal": self.causal,
            "attention_pool": self.attention_pool,
        }
        outputs: list[Tensor] = []
        parts = stretches(sequence, prefix, self.depth)
        packing = parts[0][1]
        # Cast to the dtype of the weights: the residual stream stays in full precision under autocast.
        x = sequence.embeddings.to(self.cls_token.dtype)
        call = self._call(adapter, packing)
        if start:
            x = packing.arrange(x)
        else:
            x = self.entering(packing.enter(x, self.cls_token), sequence, packing)
            x = call(self.norm_pre, x)
        for blocks, following in parts:
            if following is not packing:
                x, *outputs = (following.arrange(packing.leave(tokens)) for tokens in (x, *outputs))
                packing = following
                call = self._call(adapter, packing)
            read = within_memory(self.reader(sequence, packing, call, adapter), x, self.depth)
            for number in blocks[max(start - 1 - blocks.start, 0) :]:
                x = x if number < start else read(number, x)
                if exchange is not None and number in exchange.blocks:
                    between = replace(sequence, embeddings=packing.leave(x), **facts)
                    x = packing.arrange(exchange(number, between))
                if number >= self.depth - layers:
                    outputs.append(call(self.norm, x))
        if not self.depth:
            outputs = [call(self.norm, x)] * layers
        embeddings = torch.cat(outputs, dim=1) if layers > 1 else outputs[0]
        return replace(sequence, embeddings=packing.leave(embeddings), **facts)

    def check_lengths(self, sequence: TokenSequence) -> None:
        """Raise SampleError if a sequence, without its prefix tokens, is too long; by default none is."""

    def entering(self, x: Tensor, sequence: TokenSequence, packing: Packing) -> Tensor:
        """Tokens in block order as ``norm_pre`` reads them; a backbone with positions of its own adds these."""
        return x

    def _call(self, adapter: LayerChanges | None, packing: Packing) -> Call:
        return plain if adapter is None else adapter.on(self, packing)

    # Copies, and what keeps the original frozen

    def trainable_copy(self) -> Self:
        """Copy the backbone, on the same device, with weights that can be trained and loaded; the original stays."""
        copy = self.rebuilt(self.config, dict(self.named_weights()))
        copy.frozen = False
        return copy.requires_grad_()

    def randomised(self) -> Self:
        """Backbone of the same shape, on the same device, with random weights, always the same: the control."""
        return self.rebuilt(self.config, None)

    def without_blocks(self) -> Self:
        """Backbone of the same prefix, norms and stem without blocks: the control for the blocks' contribution."""
        weights = {name: weight for name, weight in self.named_weights() if not name.startswith(f"{self.blocks_name}.")}
        copy = self.rebuilt(replace(self.config, depth=0), weights)
        copy.spec = f"{self.spec} without blocks"
        return copy

    def rebuilt(self, config: Any, weights: Mapping[str, Tensor] | None) -> Self:
        """Make a backbone of the same kind on the same device with other weights; None: random ones."""
        copy = type(self)(config, weights, spec=self.spec).to(self.device)
        copy.pretrained = self.pretrained and weights is not None
        return copy

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Change nothing: the initialisation of a model must not reach its backbone."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Raise ValueError for True, unless the backbone is a ``trainable_copy``."""
        if requires_grad and self.frozen:
            raise ValueError(
                "A backbone is shared and stays frozen; to train parts, choose tune='scale', 'norm', 'lora' or 'full'."
            )
        return self if self.frozen else super().requires_grad_(requires_grad)


def _digest(config: Mapping[str, Any], weights: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, weight in sorted(weights):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _refuse_state(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    keys = [key for key in state if key.startswith(prefix)]
    if keys and module.frozen:
        raise ValueError(
            f"The state dict holds {len(keys)} weights of the backbone ({_first(keys)}), which is frozen; "
            "leave them out, or load another backbone with load_backbone."
        )


def _first(items: list[str]) -> str:
    return ", ".join(items[:3]) + (", ..." if len(items) > 3 else "")


def check_backbone(backbone: Any) -> None:
    """Refuse what is no backbone, such as the name of one, and say how to load it. Raises TypeError."""
    if isinstance(backbone, Backbone):
        return
    name = repr(str(backbone)) if isinstance(backbone, str | Path) else "NAME"
    raise TypeError(f"backbone is {short(backbone)}; expected one that is loaded: metatx.load_backbone({name}).")
