"""Answers of exported tasks, from ONNX Runtime in a process of its own that never imports torch."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metatx.encoding.collate import collate, encoded
from metatx.model import Model

RUN = """
import sys
import numpy as np
import onnxruntime

files = sys.argv[1:]
for graph, inputs, answers in zip(files[::3], files[1::3], files[2::3], strict=True):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    np.savez(answers, **dict(zip(names, session.run(names, dict(np.load(inputs))), strict=True)))
assert "torch" not in sys.modules and "metatx" not in sys.modules
"""


def batches(model: Model, samples: Sequence[Any]) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of the samples whose encoded tensors have equal shapes."""
    tensors = [encoded(model.tokenizer, sample) for sample in samples]

    def shape(sample: Mapping[str, torch.Tensor]) -> str:
        return str([tuple(tensor.shape) for tensor in sample.values()])

    for _, alike in groupby(sorted(tensors, key=shape), key=shape):
        yield collate(list(alike))


def differences(cases: Sequence[tuple[Model, Path, Mapping[str, torch.Tensor]]], folder: Path) -> list[float]:
    """Largest difference between a graph's answers to a batch and its model's, of each case, relative above 1."""
    words: list[str] = []
    for number, (_, graph, batch) in enumerate(cases):
        np.savez(folder / f"inputs{number}.npz", **{name: tensor.numpy() for name, tensor in batch.items()})
        words += [str(graph), str(folder / f"inputs{number}.npz"), str(folder / f"answers{number}.npz")]
    subprocess.run([sys.executable, "-c", RUN, *words], check=True)
    apart = []
    for number, (model, _, batch) in enumerate(cases):
        answers = np.load(folder / f"answers{number}.npz")
        with torch.no_grad():
            expected = model.head.exported(model(dict(batch)))
        assert list(answers) == list(expected)
        apart.append(max(_apart(answers[name], value.numpy()) for name, value in expected.items()))
    return apart


def _apart(answer: np.ndarray, expected: np.ndarray) -> float:
    assert answer.shape == expected.shape and answer.dtype == expected.dtype
    return float((np.abs(answer - expected) / np.maximum(1, np.abs(expected))).max())
