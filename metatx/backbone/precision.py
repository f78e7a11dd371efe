"""Precision: the number format in which a frozen backbone multiplies, chosen once for all its tasks."""

import torch

from metatx.backbone.base import Backbone
from metatx.backbone.names import PRECISIONS
from metatx.backbone.packed import pack, packs
from metatx.registry import unknown

__all__ = ["has_bf16", "set_precision"]


def set_precision(backbone: Backbone, precision: str | None) -> Backbone:
    """Let a backbone compute in a precision, for all tasks on it, and pack the weights of its blocks for that.

    On a CPU the packed matrices are a second copy beside the plain ones: as large in fp32, half of that in bf16, a
    quarter in int8. Plain ones that are mapped from a folder of ``save_backbone`` are then not read again, and take no
    memory that other programs need. On a GPU, matrices in bf16 stand beside those of fp32 too.

    Args:
        backbone: Frozen backbone; changed in place.
        precision: One of ``PRECISIONS``, or None to compute as PyTorch's layers do, with nothing packed. ``"auto"`` is
            bf16 where the hardware multiplies in it, else fp32. In bf16 the matrices of the blocks and their products
            are bfloat16, the tokens between the blocks float32. In int8 the products of linear layers take 8 bits, with
            a scale for each token, and the rest is as in bf16, which all is once the backbone is moved to a GPU. In
            fp32 they follow autocast, as without packing.

    Returns:
        The same backbone.

    Raises:
        ValueError: If the precision is unknown, the backbone is a trainable copy, or the hardware has no int8.
    """
    if precision not in (None, *PRECISIONS):
        raise ValueError(unknown("precision", str(precision), list(PRECISIONS)))
    if not backbone.frozen:
        raise ValueError("This backbone is trained; only a frozen one has a precision, as its weights are packed once.")
    if precision == "auto":
        precision = "bf16" if has_bf16(backbone.device) else "fp32"
    if precision == "int8" and (backbone.device.type != "cpu" or not packs("int8")):
        raise ValueError("int8 needs a CPU with VNNI instructions, and PyTorch with oneDNN; choose bf16 or fp32.")
    backbone.precision = precision
    pack(backbone.blocks, precision)
    return backbone


def has_bf16(device: torch.device) -> bool:
    """True if the hardware multiplies in bfloat16: with CUDA, or with AMX or AVX-512 of a CPU."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    on_cpu = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return device.type == "cpu" and bool(on_cpu)
