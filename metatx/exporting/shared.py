"""One file with a backbone's weights, which the ONNX files of many tasks refer to."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.torch import save_file

from metatx.backbone.base import Backbone
from metatx.files import written_whole

if TYPE_CHECKING:
    from onnx_ir import Model as OnnxModel

__all__ = ["backbone_file", "refer"]

PREFIX = "backbone."  # of the names that a graph has for a backbone's weights


def backbone_file(backbone: Backbone, folder: Path) -> Path:
    """Write the backbone's weights to ``folder``, unless they are there, under a name that holds their fingerprint."""
    path = folder / f"backbone-{backbone.fingerprint[:16]}.safetensors"
    if not path.exists():
        weights = {name: weight.detach().cpu().contiguous() for name, weight in backbone.named_weights()}
        with written_whole(path) as temporary:
            save_file(weights, temporary)
    return path


def refer(model: "OnnxModel", path: Path) -> int:
    """Replace the weights of a model that are in a file of ``backbone_file`` by references; returns their number."""
    import onnx_ir

    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(size))
    replaced = 0
    for name, value in model.graph.initializers.items():
        entry = entries.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
        if entry is None or value.const_value is None:
            continue
        start, stop = entry["data_offsets"]
        stored = np.memmap(path, np.float32, "r", 8 + size + start, tuple(entry["shape"]))
        if not np.array_equal(stored, value.const_value.numpy()):  # the converter may have changed it
            continue
        value.const_value = onnx_ir.ExternalTensor(
            path.name, 8 + size + start, stop - start, onnx_ir.DataType.FLOAT,
            shape=onnx_ir.Shape(entry["shape"]), name=name, base_dir=path.parent,
        )  # fmt: skip
        replaced += 1
    return replaced
