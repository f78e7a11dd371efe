"""Answers of a saved task: asked, written beside it, and compared with those that were written."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import metatx
from tests.saved_tasks.samples import SAMPLES

HERE = Path(__file__).parent
SPEC = "tests/saved_tasks/backbone"  # from the root of the repository


def shared_backbone() -> metatx.Backbone:
    """The backbone of all saved tasks: a ViT of width 32 with two blocks and a stem, its weights random numbers.

    Its folder is never made anew: a task is read onto weights of the fingerprint it was trained on, and no others.
    """
    backbone = metatx.load_backbone(str(HERE / "backbone"))
    backbone.spec = SPEC
    return backbone


def saved_tasks(folder: Path) -> list[Path]:
    """Folders below ``folder`` that hold a task with its answers."""
    return sorted(path.parent for path in folder.rglob("answers.json"))


def load(folder: Path, backbone: metatx.Backbone) -> metatx.Task:
    """The saved task, on the shared backbone or on its own where it has one."""
    place = folder / "task"
    return metatx.Task.from_pretrained(place, None if (place / "backbone").is_dir() else backbone)


def ask(task: metatx.Task, samples: str) -> tuple[dict[str, Tensor], list[Any]]:
    """Embeddings and the head's raw outputs, by name; and the records that a user gets."""
    queries = SAMPLES[samples]()
    outputs: list[Tensor] = []
    hook = task.head.register_forward_hook(lambda head, inputs, output: outputs.append(output))
    records = task.records(queries)
    hook.remove()
    embeddings = torch.from_numpy(np.ascontiguousarray(task.embed(queries)))
    return {"embeddings": embeddings, "outputs": torch.cat(outputs).contiguous()}, records


def write_answers(folder: Path, samples: str) -> None:
    """Write what the task saved in ``folder`` answers now to the samples of that name."""
    tensors, records = ask(load(folder, shared_backbone()), samples)
    save_file(tensors, folder / "answers.safetensors")
    (folder / "answers.json").write_text(json.dumps({"samples": samples, "records": records}) + "\n")


def differences(folder: Path, backbone: metatx.Backbone) -> tuple[float, float]:
    """The largest differences between saved answers and those given now: of tensors, and of records.

    Each is 0 where all numbers are equal, relative to the saved number where that is above 1, and infinite where
    answers differ in form or in anything but a number.
    """
    saved = json.loads((folder / "answers.json").read_text())
    tensors, records = ask(load(folder, backbone), saved["samples"])
    expected = dict(sorted(load_file(folder / "answers.safetensors").items()))
    actual = dict(sorted(tensors.items()))
    as_read = json.loads(json.dumps(records))
    return max(_differences(actual, expected)), max(_differences(as_read, saved["records"]))


def _differences(actual: Any, expected: Any) -> Iterator[float]:
    """Yield the difference of each number in two nested values; what is no number is equal or infinitely apart."""
    yield 0.0
    if isinstance(expected, Tensor):
        yield from _differences((actual.dtype, actual.shape), (expected.dtype, expected.shape))
        yield from _differences(actual.tolist(), expected.tolist())
    elif type(actual) is not type(expected):
        yield math.inf
    elif isinstance(expected, dict):
        yield from _differences(list(actual), list(expected))
        for name in expected.keys() & actual.keys():
            yield from _differences(actual[name], expected[name])
    elif isinstance(expected, list | tuple) and not isinstance(expected, torch.Size):
        yield 0.0 if len(actual) == len(expected) else math.inf
        for pair in zip(actual, expected, strict=False):
            yield from _differences(*pair)
    elif not isinstance(expected, float):
        yield 0.0 if actual == expected else math.inf
    elif actual != expected and not (math.isnan(actual) and math.isnan(expected)):
        apart = abs(actual - expected) / max(1.0, abs(expected))
        yield math.inf if math.isnan(apart) else apart
