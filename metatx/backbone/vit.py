"""Backbone: the one frozen transformer that all tasks share."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Packing, plain
from metatx.backbone.block import Activation, Block
from metatx.backbone.random_init import random_weights
from metatx.backbone.stem import Stem, StemConfig
from metatx.sequence import TokenSequence

if TYPE_CHECKING:
    from metatx.adapters.batched import MixedAdapter
    from metatx.adapters.lora import Adapter

__all__ = ["Backbone", "BackboneConfig"]


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Everything that decides a backbone's shape and what it computes, but for the weights.

    Attributes:
        dim: Width, D.
        depth: Number of blocks.
        num_heads: Attention heads; they divide ``dim``.
        mlp_dim: Width of the hidden layer of each block.
        activation: Of that layer; belongs to the weights as much as their values do.
        prefix: Tokens put in front of each sequence, P: CLS and registers.
        norm_pre: Whether a LayerNorm stands before the blocks, as in CLIP.
        norm: Whether one stands behind them.
        norm_eps: Of every LayerNorm.
        qkv_bias: Whether the query, key and value maps have one.
        qk_norm: Whether queries and keys are normalised.
        layer_scale: Whether each residual branch has a learned scale per channel.
        stem: The way from images to tokens, where the weights came with one.
    """

    dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    activation: Activation = "gelu"
    prefix: int = 1
    norm_pre: bool = False
    norm: bool = True
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    qk_norm: bool = False
    layer_scale: bool = False
    stem: StemConfig | None = None

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide a width of {self.dim}.")
        if self.activation not in ("gelu", "quick_gelu"):
            raise ValueError(f"activation is {self.activation!r}; known are gelu and quick_gelu.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``dataclasses.asdict`` gave, also after a way through JSON.

        Raises:
            KeyError, TypeError: If a field is missing or unknown.
        """
        stem = values.get("stem")
        if stem is not None:
            stem = StemConfig(**{**stem, "mean": tuple(stem["mean"]), "std": tuple(stem["std"])})
        return cls(**{**values, "stem": stem})


class Backbone(nn.Module):
    """CLS token, ``norm_pre``, blocks, ``norm``: frozen for good, whatever happens to the module around it.

    No parameter takes a gradient, ``train`` and ``apply`` leave it as it is, and ``load_state_dict`` refuses
    to write into it; only a copy can be trained, see ``trainable_copy``. Its blocks have timm's names and plain
    linear layers, so that adapters fit around them.

    Args:
        config: Its shape.
        weights: Every weight by name, as ``named_weights`` gives them; kept as float32. None: random numbers,
            the same each time.
        spec: What ``load_backbone`` was asked for.
        mapped: Whether the weights lie in a file that nobody changes. Those that are float32 then stay there, so that
            processes share them; else they are copied.

    Raises:
        ValueError: If weights are missing, have no place, or have another shape; names the first of them.

    Example:
        >>> import torch
        >>> backbone = metatx.load_backbone("nano")
        >>> sequence = metatx.TokenSequence(torch.zeros(5, backbone.dim), lengths=(2, 3))
        >>> backbone(sequence).lengths  # with CLS before each
        (3, 4)
    """

    cls_token: nn.Parameter
    stem: Stem | None

    def __init__(
        self, config: BackboneConfig, weights: Mapping[str, Tensor] | None, *, spec: str, mapped: bool = False
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

    def _build(self, config: BackboneConfig) -> None:
        layer_norm = partial(nn.LayerNorm, config.dim, eps=config.norm_eps)
        self.cls_token = nn.Parameter(torch.empty(config.prefix, config.dim))
        self.norm_pre = layer_norm() if config.norm_pre else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                config.dim,
                config.num_heads,
                config.mlp_dim,
                activation=config.activation,
                qkv_bias=config.qkv_bias,
                qk_norm=config.qk_norm,
                layer_scale=config.layer_scale,
                norm_eps=config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.norm = layer_norm() if config.norm else nn.Identity()
        self.stem = Stem(config.dim, config.stem) if config.stem else None

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
        return self.config.dim

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.config.depth

    @property
    def num_heads(self) -> int:
        """Attention heads of each block."""
        return self.config.num_heads

    @property
    def activation(self) -> str:
        """``"gelu"`` or ``"quick_gelu"``."""
        return self.config.activation

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.cls_token.device

    @property
    def has_norm_pre(self) -> bool:
        """Whether tokens are normalised before the blocks; if not, the tokenizer must do it."""
        return self.config.norm_pre

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

    @property
    def num_parameters(self) -> int:
        """Number of weights, the stem included and adapters left out."""
        return sum(weight.numel() for _, weight in self.named_weights())

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the config and of every weight as float32: equal for equal weights on any device.

        Computed from the weights as they are now. Adapters are left out; a cast to a shorter type changes it.
        """
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
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
        self, sequence: TokenSequence, layers: int = 1, adapter: "Adapter | MixedAdapter | None" = None
    ) -> TokenSequence:
        """Read every sequence; the prefix comes in front of each, the rest of the sequence's facts stay.

        Args:
            sequence: A tokenizer's tokens.
            layers: How many of the last blocks to give, each through the final norm, side by side: the embeddings
                are then (T, layers * D), the last block's at the end. Where there are no blocks, the tokens stand in
                for each, so that every head fits.
            adapter: What a task, or each of several, changes of this backbone, for this pass alone.

        Raises:
            ValueError: If the tokens are of another width, or already have a prefix; or there are fewer blocks.
        """
        width = sequence.embeddings.shape[1]
        if width != self.dim:
            raise ValueError(f"The tokens are {width} wide; this backbone's are {self.dim}.")
        if sequence.prefix:
            raise ValueError("These sequences have a prefix already; give the backbone a tokenizer's output.")
        if layers < 1 or 0 < self.depth < layers:
            raise ValueError(f"{layers} layers are asked for; this backbone has {self.depth}.")
        prefix = len(self.cls_token)
        packing = Packing(sequence.lengths, prefix, sequence.embeddings.device)
        # In the type of the weights: under autocast the residual stream then stays in full precision.
        x = packing.enter(sequence.embeddings.to(self.cls_token.dtype), self.cls_token)
        call = plain if adapter is None else adapter.on(self)
        x = call(self.norm_pre, x)
        outputs = [] if self.depth else [call(self.norm, x)] * layers
        for number, block in enumerate(self.blocks):
            x = block(x, packing, call)
            if number >= self.depth - layers:
                outputs.append(call(self.norm, x))
        embeddings = torch.cat(outputs, dim=1) if layers > 1 else outputs[0]
        lengths = tuple(length + prefix for length in sequence.lengths)
        return replace(sequence, embeddings=packing.leave(embeddings), lengths=lengths, prefix=prefix)

    # Frozen for good

    def trainable_copy(self) -> "Backbone":
        """A copy, on the same device, whose weights take gradients and can be loaded: to pretrain, or to tune in full.

        It belongs to whoever trains it; what is shared stays as it is.
        """
        copy = Backbone(self.config, dict(self.named_weights()), spec=self.spec).to(self.device)
        copy.frozen, copy.pretrained = False, self.pretrained
        return copy.requires_grad_()

    def without_blocks(self) -> "Backbone":
        """The same prefix, norms and stem with no block between them: the control that shows what the blocks bring."""
        weights = {name: weight for name, weight in self.named_weights() if not name.startswith("blocks.")}
        return Backbone(replace(self.config, depth=0), weights, spec=f"{self.spec} without blocks").to(self.device)

    def scale_residuals(self, scale: float) -> "Backbone":
        """The same with blocks that each add ``scale`` times what they add here: tokens pass less changed below 1.

        Between this backbone and one without blocks, as weights are interpolated after fine-tuning (Wortsman et al.
        2022, arXiv 2109.01903).
        """
        ends = tuple(f"{layer}.{leaf}" for layer in ("attn.proj", "mlp.fc2") for leaf in ("weight", "bias"))
        weights = {name: weight * scale if name.endswith(ends) else weight for name, weight in self.named_weights()}
        copy = Backbone(self.config, weights, spec=self.spec).to(self.device)
        copy.pretrained = self.pretrained
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
