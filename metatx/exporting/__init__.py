"""Tasks as graphs that run without metatx: ONNX, and programs of ``torch.export``."""

from metatx.exporting.files import export_task

__all__ = ["export_task"]
