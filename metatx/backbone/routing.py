"""Route: layers of a library's own modules are applied through an adapter's function, in the thread that asks."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from metatx.backbone.attention import Call
from metatx.backbone.packed import Linear

__all__ = ["Route", "route_layers"]


class Route(threading.local):
    """Function that applies the blocks' layers in the current thread; all layers share one route.

    Attributes:
        call: Function for one pass, of an adapter; None applies the layers alone.
    """

    call: Call | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Route":
        return self

    def __call__(self, layer: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        call = self.call
        if call is None:
            return forward(x)
        self.call = None  # ``call`` calls the layer again, which must then apply itself
        try:
            out = call(layer, x.flatten(0, -2))
            return out.view(*x.shape[:-1], out.shape[-1])
        finally:
            self.call = call


class Routed(nn.Module):
    """Mixin for the class of a layer that applies the layer through ``route``."""

    route: Route

    def forward(self, x: Tensor) -> Tensor:
        return self.route(self, super().forward, x)


def route_layers(modules: Iterable[nn.Module], route: Route) -> None:
    """Change the linear layers and LayerNorms among ``modules`` to apply themselves through ``route``."""
    layers: list[Any] = [module for module in modules if isinstance(module, nn.Linear | nn.LayerNorm)]
    for layer in layers:
        kind = Linear if type(layer) is nn.Linear else type(layer)
        layer.__class__ = type(f"Routed{kind.__name__}", (Routed, kind), {})
        layer.route = route
