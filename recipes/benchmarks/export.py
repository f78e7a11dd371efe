"""Exported graphs beside the task that they are of: milliseconds of a single request, on one thread.

    python recipes/benchmarks/export.py                      # about two minutes
    python recipes/benchmarks/export.py --backbone timm:vit_base_patch16_224 --rounds 20

A request is one encoded sample, of the tokenizer's own example, to the head's answer: by the task as it is
(``metatx``), by the task on packed matrices as a server has them (``packed``), and by ONNX Runtime. Rounds are
interleaved; times are medians. Weights of the backbone do not matter here.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import torch
from measuring import medians

import metatx
from metatx.backbone.precision import set_precision
from metatx.cli.scripts import command
from metatx.exporting import export_task
from metatx.exporting.program import example

RNG = np.random.default_rng(0)


def tasks(backbone: metatx.Backbone) -> dict[str, metatx.Task]:
    """Classifiers of pictures, of rows of eight columns and of series of two channels, not trained."""
    pictures = [RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(8)]
    rows = pd.DataFrame(RNG.normal(size=(64, 8)), columns=list("abcdefgh")).to_dict("records")
    series = [RNG.normal(size=(2, 64)) for _ in range(8)]
    samples = {"image": pictures, "tabular": rows, "time_series": series}
    return {
        modality: metatx.Task.from_data(backbone, modality, (inputs, [i % 2 for i in range(len(inputs))]))
        for modality, inputs in samples.items()
    }


def main(*, backbone: str = "nano", rounds: int = 100) -> None:
    """Print milliseconds of each way, a row a modality.

    Args:
        backbone: Backbone of the tasks.
        rounds: Measured requests of each way.
    """
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    frozen = metatx.load_backbone(backbone)
    print(f"milliseconds of a request, {backbone}, one thread, median of {rounds}")
    print(f"{'':<13}{'metatx':>9}{'packed':>9}{'onnx':>9}{'metatx / onnx':>15}{'packed / onnx':>15}")
    with tempfile.TemporaryDirectory() as folder:
        twins = tasks(set_precision(metatx.load_backbone(backbone), "fp32"))
        for modality, task in tasks(frozen).items():
            graph = export_task(task, Path(folder) / f"{modality}.onnx")[0]
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            own, quick, onnx = (1000 * seconds for seconds in measured(task, twins[modality], session, rounds))
            print(f"{modality:<13}{own:>9.2f}{quick:>9.2f}{onnx:>9.2f}{own / onnx:>15.2f}{quick / onnx:>15.2f}")


def measured(task: metatx.Task, packed: metatx.Task, session: onnxruntime.InferenceSession, rounds: int) -> list[float]:
    """Seconds of a request: by the task as it is, by the task on packed matrices, by its graph."""
    batch = {name: tensor[None] for name, tensor in example(task.model).items()}
    arrays = {name: tensor.numpy() for name, tensor in batch.items()}

    @torch.inference_mode()
    def answer(by: metatx.Task) -> dict[str, torch.Tensor]:
        return by.head.exported(by.model(dict(batch)))

    ways = {
        "metatx": partial(answer, task),
        "packed": partial(answer, packed),
        "onnx": partial(session.run, None, arrays),
    }
    return list(medians(ways, rounds).values())


if __name__ == "__main__":
    command(main)
