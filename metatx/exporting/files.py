"""Export of a task: its graph, compared with the task, and beside it the facts that a program without metatx needs."""

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from metatx.exporting import onnx_files
from metatx.exporting.graph import check_exportable
from metatx.exporting.program import check_equal, example, input_facts, plain_weights, task_answers, traced
from metatx.exporting.shared import backbone_file, refer
from metatx.files import json_text, written_whole
from metatx.task import Task

__all__ = ["export_task"]

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
CHECKED = 3  # samples that a graph is compared with the task on


def export_task(
    task: Task, out: str | Path, *, to: Literal["onnx", "torch"] = "onnx", shared: bool = False
) -> list[Path]:
    """Write a task as one graph from encoded samples to answers, whose batch axis is free.

    The facts beside it, ``OUT.json``, name inputs, outputs and classes, and say how a sample is prepared. The graph is
    compared with the task before it gets its name.

    Args:
        task: Task of one input, with the backbone on the CPU; it is exported in float32, whatever its precision.
        out: File to write: ``.onnx``, or ``.pt2`` for ``torch``.
        to: Form: ``"onnx"``, or a program of ``torch.export``.
        shared: Keep the backbone's weights in a file of their own beside ``out``, named by their fingerprint, which the
            files of other tasks in that folder refer to as well. For ONNX only.

    Returns:
        The graph, the facts, and with ``shared`` the file of the backbone.

    Raises:
        ImportError: If a package is missing.
        OSError: If a file cannot be written.
        ValueError: If a part of the task cannot be exported, says which and why; if the suffix is another one, or the
            graph does not answer as the task does.
    """
    out = Path(out)
    if out.suffix != SUFFIXES[to]:
        raise ValueError(f"{out} has another suffix than {SUFFIXES[to]}, which is that of a graph for {to}.")
    if to == "onnx":
        onnx_files.check_installed()
    elif shared:
        raise ValueError("A program of torch.export has all of its weights; --shared is for ONNX.")
    model = task.model.eval()
    check_exportable(model)
    sample = example(model)
    with plain_weights(model.backbone), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about their own parts
        expected = task_answers(model, [sample] * CHECKED)
        program = traced(model, sample)
    batch = [torch.stack([tensor] * CHECKED) for tensor in sample.values()]
    apart = [backbone_file(task.backbone, out.parent)] if shared else []
    with written_whole(out) as temporary:
        if to == "onnx":
            graph = onnx_files.converted(program, list(sample), list(expected))
            for path in apart:
                refer(graph, path)
            onnx_files.write(graph, temporary)
            named = dict(zip(sample, (tensor.numpy() for tensor in batch), strict=True))
            answers = onnx_files.run(temporary, named)
        else:
            torch.export.save(program, temporary)
            outputs = torch.export.load(temporary).module()(*batch)
            answers = {name: value.detach().numpy() for name, value in outputs.items()}
        check_equal(answers, expected)
    facts = out.with_name(f"{out.name}.json")
    with written_whole(facts) as temporary:
        temporary.write_text(json_text(facts_of(task, program, sample, expected)))
    return [out, facts, *apart]


def facts_of(
    task: Task, program: ExportedProgram, sample: dict[str, Tensor], answers: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Facts of a graph as JSON values; a size of an axis is null where it is free."""
    outputs = {
        name: {"dtype": str(values.dtype), "shape": [None, *values.shape[1:]]} for name, values in answers.items()
    }
    return {
        "modality": task.tokenizer.name,
        "columns": task.columns,
        "backbone": {"spec": task.backbone.spec, "fingerprint": task.backbone.fingerprint},
        "inputs": input_facts(program, list(sample)),
        "preparation": task.tokenizer.preparation(),
        "outputs": outputs,
        "head": {"name": task.head.name, **task.head.export_facts()},
    }
