"""ONNX files: written from a program, and run."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

if TYPE_CHECKING:
    from onnx_ir import Model as OnnxModel

__all__ = ["check_installed", "converted", "run", "write"]

MISSING = "An ONNX file needs onnx, onnxscript and onnxruntime: pip install 'metatx[export]'"


def _asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine in float64, for which ONNX Runtime has no operator."""
    return (x.abs() + (x.square() + 1).sqrt()).log() * x.sign() if x.dtype == torch.float64 else NotImplemented


def _searchsorted(ordered: Tensor, values: Tensor, **_: Any) -> Tensor:
    """Number of ``ordered`` (V,) that are smaller than each value, for which ONNX has no operator."""
    return (ordered < values[..., None]).sum(-1)


REPLACED: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.asinh.default: _asinh,
    torch.ops.aten.searchsorted.Tensor: _searchsorted,
}


def check_installed() -> None:
    """Raise ImportError if a package of the extra is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(MISSING) from error


def converted(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> "OnnxModel":
    """Convert a program to a model of ONNX.

    Raises:
        ValueError: If it has an operator that ONNX has not.
    """
    try:
        names: dict[str, Any] = {"input_names": list(inputs), "output_names": list(outputs)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converter, about its own parts
            made: Any = torch.onnx.export(
                program.run_decompositions(dict(REPLACED)), dynamo=True, verbose=False, **names
            )
    except Exception as error:  # its errors are of many kinds
        lines = [line for line in str(error).splitlines() if "No ONNX function" in line or "not supported" in line]
        reason = lines[0].strip() if lines else str(error).strip().splitlines()[0]
        raise ValueError(f"The task cannot be converted to ONNX: {reason}") from error
    model: OnnxModel = made.model
    return model


def write(model: "OnnxModel", path: Path) -> None:
    """Write a model with its weights in one file."""
    import onnx_ir

    onnx_ir.save(model, path)


def run(path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answers of a file, by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
