"""Adapters: changes of the shared backbone's layers by one task, kept beside the backbone and never inside it."""

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Call, Packing
from metatx.backbone.base import Backbone
from metatx.registry import unknown

__all__ = [
    "Adapter",
    "LoraLayer",
    "LoraOptions",
    "NormLayer",
    "linear_layers",
    "lora_adapter",
    "norm_adapter",
    "norm_layers",
    "options_of",
    "shortest",
]

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Options of a LoRA adapter, with the names of peft's ``LoraConfig`` without ``lora_``.

    Args:
        r: Rank of the update.
        alpha: Numerator of the update's factor, ``alpha / r``.
        dropout: Dropout rate on the update's input, in training.
        target_modules: Ends of the layers' names, such as ``mlp.fc1``; or one regular expression for whole names. By
            default all linear layers of the attention.
        use_dora: Also train the norm of each row of the adapted weight (DoRA, Liu et al. 2024).
        use_rslora: Scale the update by ``alpha / sqrt(r)`` (rsLoRA, Kalajdzievski 2023).
    """

    r: int = 8
    alpha: float = 16
    dropout: float = 0.0
    target_modules: Sequence[str] | str | None = None
    use_dora: bool = False
    use_rslora: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.r, int) or self.r < 1:
            raise ValueError(f"r is {self.r!r}; the rank of a LoRA adapter is a whole number of at least 1.")
        if not isinstance(self.alpha, int | float) or self.alpha <= 0:
            raise ValueError(f"alpha is {self.alpha!r}; it must be a number above 0.")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}; it must be at least 0 and below 1.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "LoraOptions":
        """Build the options from a dict. Raises ValueError, which lists the names, for an unknown one."""
        return options_of(cls, values)


def options_of(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Build options of an adapter from a dict. Raises ValueError, which lists the names, for an unknown one."""
    names = list(inspect.signature(kind).parameters)
    for name in values:
        if name not in names:
            raise ValueError(unknown("adapter option", name, names))
    return kind(**values)


class LoraLayer(nn.Module):
    """Low-rank update of one linear layer (LoRA, Hu et al. 2021), zero at the start.

    Args:
        layer: Layer of the backbone; read, never changed.
        options: Options of the adapter.
    """

    lora_magnitude_vector: nn.Parameter | None

    def __init__(self, layer: nn.Linear, options: LoraOptions) -> None:
        super().__init__()
        self.scaling = options.alpha / (options.r**0.5 if options.use_rslora else options.r)
        self.lora_A = nn.Linear(layer.in_features, options.r, bias=False)
        self.lora_B = nn.Linear(options.r, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.dropout = nn.Dropout(options.dropout)
        magnitudes = nn.Parameter(layer.weight.detach().norm(dim=1)) if options.use_dora else None
        self.register_parameter("lora_magnitude_vector", magnitudes)

    def forward(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """Apply the adapted layer to tokens, (T, D) to (T, D')."""
        base: Tensor = layer(x)
        update: Tensor = self.lora_B(self.lora_A(self.dropout(x)) * self.scaling)
        scale = self.scale(layer)
        if scale is None:
            return base + update
        unbiased = base if layer.bias is None else base - layer.bias.to(base.dtype)
        # Subtract 1 before the cast: bf16 keeps two digits of a scale near 1.
        return base + (scale - 1).to(base.dtype) * unbiased + scale.to(base.dtype) * update

    def scale(self, layer: nn.Linear) -> Tensor | None:
        """DoRA's factor of each output of the layer, (D',); None without DoRA."""
        return None if self.lora_magnitude_vector is None else self.lora_magnitude_vector / self._norms(layer)

    @torch.no_grad()
    def folded(self, layer: nn.Linear) -> dict[str, Tensor]:
        """Weight, by name, of a plain linear layer that computes what the adapted layer computes."""
        weight: Tensor = layer.weight + self.scaling * self.lora_B.weight @ self.lora_A.weight
        if self.lora_magnitude_vector is None:
            return {"weight": weight}
        return {"weight": weight * (self.lora_magnitude_vector / weight.norm(dim=1))[:, None]}

    @torch.no_grad()  # DoRA, section 4.3: treating the norms as constants saves memory and changes results little
    def _norms(self, layer: nn.Linear) -> Tensor:
        with torch.autocast(layer.weight.device.type, enabled=False):
            norms: Tensor = (layer.weight + self.scaling * self.lora_B.weight @ self.lora_A.weight).norm(dim=1)
        return norms


class NormLayer(nn.Module):
    """Trainable copy of a LayerNorm that replaces the backbone's (Lu et al. 2021, FPT; Zhao et al. 2024)."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        super().__init__()
        self.ln_tuning_layers = copy.deepcopy(layer).requires_grad_()  # peft's name

    def forward(self, layer: nn.LayerNorm, x: Tensor) -> Tensor:
        """Apply the task's norm to tokens (T, D); the backbone's ``layer`` is not used."""
        output: Tensor = self.ln_tuning_layers(x)
        return output

    def folded(self, layer: nn.LayerNorm) -> dict[str, Tensor]:
        """Weights of the task's norm, by name."""
        return self.ln_tuning_layers.state_dict()


class Adapter(nn.Module):
    """Adapter of one task: a module for each layer of the backbone that it changes, under the layer's name.

    The adapter is an argument of the backbone's ``forward``, so tasks with different adapters share one backbone at
    any time. Its ``state_dict`` has peft's names.

    Args:
        tune: Kind of the adapter.
        parts: Module of each adapted layer, by the layer's name in the backbone.
        options: Options as they are written to ``config.json`` and the card.
    """

    def __init__(
        self,
        tune: Literal["scale", "norm", "lora"],
        parts: Mapping[str, nn.Module],
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.tune = tune
        self.options = options
        self.names = tuple(parts)
        for name, part in parts.items():
            branch: nn.Module = self
            *path, leaf = name.split(".")
            for step in path:
                if step not in dict(branch.named_children()):
                    branch.add_module(step, nn.Module())
                branch = branch.get_submodule(step)
            branch.add_module(leaf, part)

    def on(self, backbone: nn.Module, packing: Packing) -> Call:
        """Return the function that applies a layer of ``backbone`` with this adapter; ``packing`` does not matter."""
        parts = {backbone.get_submodule(name): self.get_submodule(name) for name in self.names}

        def call(layer: nn.Module, x: Tensor) -> Tensor:
            part = parts.get(layer)
            output: Tensor = layer(x) if part is None else part(layer, x)
            return output

        return call

    def merged(self, backbone: nn.Module) -> dict[str, Tensor]:
        """Weights of the adapted layers with the adapter folded in, by name; all others are left out."""
        weights: dict[str, Tensor] = {}
        for name in self.names:
            part: Any = self.get_submodule(name)
            folded = part.folded(backbone.get_submodule(name))
            weights |= {f"{name}.{leaf}": value for leaf, value in folded.items()}
        return weights


def linear_layers(backbone: Backbone) -> dict[str, nn.Linear]:
    """Linear layers that can be adapted, by name."""
    return {name: layer for name, layer in backbone.adaptable_layers().items() if isinstance(layer, nn.Linear)}


def norm_layers(backbone: Backbone) -> dict[str, nn.LayerNorm]:
    """LayerNorms that can be adapted, by name."""
    return {name: layer for name, layer in backbone.adaptable_layers().items() if isinstance(layer, nn.LayerNorm)}


def lora_adapter(backbone: Backbone, options: LoraOptions) -> Adapter:
    """Make a new LoRA adapter.

    Raises:
        ValueError: If ``target_modules`` names a layer that the backbone does not have; lists its layers.
    """
    layers = linear_layers(backbone)
    wanted = backbone.lora_targets if options.target_modules is None else options.target_modules
    targets = _targets(wanted, layers)
    options = replace(options, target_modules=shortest(targets, layers))
    return Adapter("lora", {name: LoraLayer(layers[name], options) for name in targets}, asdict(options))


def norm_adapter(backbone: Backbone) -> Adapter:
    """Make a new adapter of all norms, which changes nothing before training.

    Raises:
        ValueError: If the backbone has no LayerNorm that can be adapted.
    """
    layers = norm_layers(backbone)
    if not layers:
        raise ValueError(f"tune='norm' trains LayerNorms, and {backbone.spec} has none; use tune='lora'.")
    return Adapter("norm", {name: NormLayer(layer) for name, layer in layers.items()}, {})


def _targets(wanted: Sequence[str] | str, layers: Mapping[str, nn.Module]) -> list[str]:
    """Names of the wanted layers by peft's rules: a list holds ends of names, a string is a regular expression."""
    choices = ", ".join(dict.fromkeys(_in_block(name) for name in layers))
    try:
        patterns = [wanted] if isinstance(wanted, str) else [rf"(.*\.)?{re.escape(end)}" for end in wanted]
        matches = [[name for name in layers if re.fullmatch(pattern, name)] for pattern in patterns]
    except (re.error, TypeError) as error:
        raise ValueError(f"target_modules is {wanted!r} ({error}); name layers of {choices}.") from None
    for pattern, names in zip([wanted] if isinstance(wanted, str) else wanted, matches, strict=True):
        if not names:
            raise ValueError(
                f"No layer of the backbone is called {pattern!r}; target_modules is a list of {choices}, or one "
                r"regular expression for whole names, such as blocks\.[0-5]\.attn\.qkv."
            )
    if not matches:
        raise ValueError(f"target_modules is empty; name layers of {choices}.")
    return [name for name in layers if any(name in names for names in matches)]


def shortest(names: Sequence[str], layers: Mapping[str, nn.Module]) -> list[str]:
    """Shortest ``target_modules`` that mean these layers and no others: ``attn.qkv`` where every block has it."""
    in_every_block = {_in_block(name) for name in names}
    in_every_block -= {_in_block(name) for name in layers if name not in names}
    return sorted(in_every_block | {name for name in names if _in_block(name) not in in_every_block})


def _in_block(name: str) -> str:
    """Name of a layer within its block: ``attn.qkv`` of ``blocks.0.attn.qkv``."""
    return re.sub(r"^.*?\.\d+\.", "", name)
