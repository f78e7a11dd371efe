"""Linear layers of a frozen backbone, their weights packed once in the layout of oneDNN, PyTorch's library for CPUs."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Linear", "Packed", "PackedInt8", "in_precision", "pack", "packs"]

Forward = TypeVar("Forward", bound=Callable[..., Any])

TINIEST = 1e-12  # scale of a vector of zeros
ROWS = 1024  # rows of an input for which oneDNN chooses the layout, which serves any number


class Linear(nn.Linear):
    """Linear layer of a backbone's blocks, which computes with packed weights after ``pack``.

    The plain weights stay, for saving, fingerprints and DoRA. Packed weights follow when the layer is moved, cast,
    copied or pickled; there are none beside plain weights of other types than float32, and on GPUs only below fp32.

    Attributes:
        precision: Precision that ``pack`` was given; None computes as ``nn.Linear``.
        packed: Packed weights, where there are any.
    """

    precision: str | None = None
    packed: "Packed | None" = None

    def pack(self, precision: str | None) -> None:
        """Pack the weights for a precision, where that can be done; None drops what is packed."""
        self.precision = precision
        self.packed = None
        if precision is None or self.weight.dtype != torch.float32:
            return
        if self.weight.device.type == "cpu" and packs(precision):
            self.packed = PACKED[precision](self.weight, self.bias)
        elif self.weight.is_cuda and precision != "fp32":
            self.packed = Halved(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is None or self.weight.requires_grad or not self.packed.takes(x):
            return super().forward(x)
        return self.packed(x)

    def _apply(self, fn: Any, recurse: bool = True) -> "Linear":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.pack(self.precision)
        return self


class Packed:
    """Packed weight of a frozen linear layer: gradients reach its input alone.

    A row of the product depends on no other row, to the last bit; one of ``F.linear`` does where MKL chooses another
    kernel for another number of rows.

    Args:
        weight: Weight of the layer, (D', D).
        bias: Bias of the layer, (D',), if it has one.

    Attributes:
        dtype: Type that both are stored in, and that the product is computed in.
    """

    dtype = torch.float32

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._plain = (weight, bias)
        self.bias = None if bias is None else bias.detach().to(self.dtype).contiguous()  # oneDNN ignores strides
        self.matrix = self._packed(weight.detach())
        self._transposed: Tensor | None = None

    def _packed(self, weight: Tensor) -> Tensor:
        return _reorder(weight.to(self.dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._plain  # the storage of a packed tensor cannot be copied

    @property
    def transposed(self) -> Tensor:
        """Packed transpose of the weight, for gradients; made when the first is computed."""
        if self._transposed is None:
            self._transposed = _reorder(self._plain[0].detach().T.to(self.dtype))
        return self._transposed

    def takes(self, x: Tensor) -> bool:
        """True unless ``x`` lies on another device, or autocast asks for less precision than the weights have."""
        less = self.dtype == torch.float32 and (x.dtype != self.dtype or torch.is_autocast_enabled("cpu"))
        return x.device.type == "cpu" and not less

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to tokens, (..., D) to (..., D') of the weight's type."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self.product(x)
        product: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product

    def product(self, x: Tensor) -> Tensor:
        """Apply the layer to tokens without a gradient."""
        return _multiply(x.to(self.dtype), self.matrix, self.bias)


class PackedBf16(Packed):
    """Packed weight in bfloat16."""

    dtype = torch.bfloat16


class PackedInt8(PackedBf16):
    """Packed weight in 8 bits, with a scale for each output and each token; the product is bfloat16.

    A token's scale depends on no other token (per-token quantization, Yao et al. 2022, arXiv 2206.01861). Gradients
    are those of the bfloat16 product (straight-through, Bengio et al. 2013).
    """

    def _packed(self, weight: Tensor) -> Tensor:
        self.scales = weight.abs().amax(1).clamp(min=TINIEST) / 127
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        codes = (weight / self.scales[:, None]).round().to(torch.int8)
        packed: Tensor = torch.ops.onednn.qlinear_prepack(codes, None)
        return packed

    def product(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        scale = tokens.abs().amax(1, keepdim=True).float().clamp_(min=TINIEST) / 127
        signed = (tokens / scale).round_().to(torch.int8)
        codes = signed.view(torch.uint8).bitwise_xor_(128)  # plus 128: oneDNN is slow with signed codes
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(codes, 1.0, 128, self.matrix, self.scales, self.zeros, None),
            *(1.0, 0, torch.bfloat16, "none", [], ""),
        )
        product = product.mul_(scale) if self.bias is None else torch.addcmul(self.bias, product, scale.bfloat16())
        return product.view(*x.shape[:-1], -1)


class Halved(Packed):
    """Weight in bfloat16 on a GPU; autocast would cast it anew in every pass, and keep that for the backward pass."""

    dtype = torch.bfloat16

    def _packed(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype)

    def takes(self, x: Tensor) -> bool:
        """True for tokens on a GPU."""
        return x.is_cuda

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to tokens, (..., D) to (..., D') of bfloat16."""
        return F.linear(x.to(self.dtype), self.matrix, self.bias)


PACKED: dict[str, type[Packed]] = {"fp32": Packed, "bf16": PackedBf16, "int8": PackedInt8}  # by precision
TOLERANCE = {"fp32": 1e-5, "bf16": 3e-2, "int8": 3e-2}


class _Product(torch.autograd.Function):
    """Product with a packed weight, whose gradient is a product with its packed transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:
        ctx.packed = packed
        return packed.product(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _multiply(grads[0].to(ctx.packed.dtype).contiguous(), ctx.packed.transposed, None), None


def pack(module: nn.Module, precision: str | None) -> None:
    """Pack the weights of all layers in a module for a precision; None drops what is packed."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.pack(precision)


def in_precision(forward: Forward) -> Forward:
    """Let ``forward`` of a backbone run under autocast where its precision is below fp32."""

    @wraps(forward)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.precision in (None, "fp32"):
            return forward(self, *args, **kwargs)
        with torch.autocast(self.device.type, torch.bfloat16):
            return forward(self, *args, **kwargs)

    return run  # type: ignore[return-value]


@cache
def packs(precision: str) -> bool:
    """True if PyTorch has the operators of a precision, which are private, and their product is that of ``F.linear``.

    The first row of each factor has the largest sums there can be: in 8 bits, instructions of older CPUs overflow.
    """
    weight = torch.linspace(-1, 1, 48 * 32).sin().view(48, 32)
    weight[0] = 1
    x = weight[:7].cos() + weight[:7]
    x[0] = 1
    try:
        product = PACKED[precision](weight, weight[:, 0])(x)
    except (AttributeError, RuntimeError):  # no such operator, or no such instructions of the CPU
        return False
    expected = F.linear(x, weight, weight[:, 0])
    return bool((product - expected).norm() < TOLERANCE[precision] * expected.norm())


def _reorder(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
    return packed


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Product of tokens (..., D) and a packed weight (D', D)."""
    if x.numel() == x.shape[-1]:  # oneDNN sums a single row in another order than each of many
        return _multiply(torch.cat([x, x]), weight, bias)[: len(x)]
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
