"""``metatx export``."""

from typing import Literal

from metatx.progress import tell
from metatx.storage.config import describe
from metatx.storage.fetching import MARK, task_folder

__all__ = ["export"]


def export(
    task: str,
    *,
    out: str,
    to: Literal["onnx", "torch"] = "onnx",
    shared: bool = False,
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Write a saved task as a graph that runs without metatx.

    A file OUT.json beside it names inputs, outputs and classes, and says how a sample is prepared.

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub.
        out: File to write: .onnx for ONNX Runtime, or .pt2 for torch.
        to: Form of the graph: onnx, or torch (a program of torch.export).
        shared: Keep the backbone's weights in a file beside it, which the other tasks in that folder share.
        backbone: Name of the backbone, if the one that the task names cannot be loaded; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
    """
    if not task.startswith(MARK):
        describe(task_folder(task))  # a name mistyped is told before torch is imported
    from metatx.backbone.loading import load_backbone
    from metatx.exporting import export_task
    from metatx.task import Task

    loaded = None if backbone is None else load_backbone(backbone, checkpoint=checkpoint)
    for path in export_task(Task.from_pretrained(task, backbone=loaded), out, to=to, shared=shared):
        tell(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
