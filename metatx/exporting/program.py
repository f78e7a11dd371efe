"""Program of ``torch.export`` of a task, and the samples that it is traced and checked with."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from metatx.backbone.base import Backbone
from metatx.backbone.precision import set_precision
from metatx.encoding.collate import collate, encoded
from metatx.errors import SampleError
from metatx.exporting.graph import Graph
from metatx.model import Model

__all__ = ["check_equal", "example", "input_facts", "plain_weights", "task_answers", "traced"]

APART = 1e-4  # largest difference of the graph's answers from the task's, relative where these are above 1
UNBOUNDED = 1 << 62  # torch has an integer of its own for infinity, which is larger
BATCH = 2  # samples that the graph is traced with; their number stays free


def example(model: Model) -> dict[str, Tensor]:
    """Encoded sample of the tokenizer's own example, from which the graph's inputs have their types and shapes.

    Raises:
        ValueError: If the tokenizer gives no example, or cannot encode it.
    """
    tokenizer = model.tokenizer
    examples = tokenizer.json_schema().get("examples")
    if not examples:
        raise ValueError(f"The {tokenizer.name} tokenizer cannot be exported: its json_schema has no example.")
    try:
        return encoded(tokenizer, tokenizer.from_json(examples[0]))
    except SampleError as error:
        raise ValueError(f"The example of the {tokenizer.name} tokenizer cannot be encoded: {error}.") from None


@contextmanager
def plain_weights(backbone: Backbone) -> Iterator[None]:
    """Let a backbone compute with its plain weights, whatever precision it has, in the block."""
    precision = backbone.precision
    set_precision(backbone, None)
    try:
        yield
    finally:
        set_precision(backbone, precision)


def traced(model: Model, sample: Mapping[str, Tensor]) -> ExportedProgram:
    """Trace a model with a free batch axis, and free lengths where the tokenizer has them and its operators allow it.

    Raises:
        ValueError: If a part of the model cannot be traced; says why.
    """
    graph = Graph(model, list(sample)).eval()
    batch = tuple(torch.stack([tensor] * BATCH) for tensor in sample.values())
    axes = model.tokenizer.free_axes
    free: list[dict[int, Any]] = []
    for name in sample:
        lengths = {axis + 1: Dim.AUTO for axis in axes.get(name, {})}
        free.append({0: Dim.DYNAMIC, **lengths})
    try:
        with torch.no_grad():
            return torch.export.export(graph, batch, dynamic_shapes=(tuple(free),), strict=False)
    except Exception as error:  # torch raises errors of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        parts = f"{model.tokenizer.name} tokenizer and {model.head.name} head"
        raise ValueError(f"The {parts} cannot be exported: {reason}") from error


def input_facts(program: ExportedProgram, names: Sequence[str]) -> dict[str, Any]:
    """Type and shape of each input of a program, and least and largest size of each axis: a free one is null."""
    inputs = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    return {name: _facts(program, node.meta["val"]) for name, node in zip(names, nodes, strict=True)}


def _facts(program: ExportedProgram, tensor: Tensor) -> dict[str, Any]:
    shape: list[int | None] = []
    least: list[int] = []
    most: list[int | None] = []
    for size in tensor.shape:
        bounds = None if isinstance(size, int) else program.range_constraints[size.node.expr]
        shape.append(size if bounds is None else None)
        least.append(size if bounds is None else int(bounds.lower))
        most.append(size if bounds is None else int(bounds.upper) if bounds.upper < UNBOUNDED else None)
    # A program is traced with two samples, and computes one alike.
    least[0] = 1
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": shape, "least": least, "most": most}


@torch.no_grad()
def task_answers(model: Model, samples: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    """Answers (B, ...) of a model to encoded samples, as its graph is to give them."""
    answers = model.head.exported(model(collate([dict(sample) for sample in samples])))
    return {name: value.numpy() for name, value in answers.items()}


def check_equal(answers: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError if a graph does not answer as the task does."""
    for name, values in expected.items():
        apart = np.abs(answers[name] - values) / np.maximum(1, np.abs(values))
        if not apart.size or not apart.max() <= APART:
            raise ValueError(
                f"The graph was not written: its {name} differ from the task's by {apart.max():.2g}; at most {APART:g} "
                "is expected."
            )
