"""``metatx evaluate``, ``metatx predict`` and ``metatx embed``."""

import sys
from typing import Any

from metatx.backbone.names import Precision
from metatx.cli.lists import names_of
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.storage.config import describe
from metatx.storage.fetching import MARK, task_folder

__all__ = ["embed", "evaluate", "load_task", "predict"]


def evaluate(
    task: str,
    data: str,
    *,
    missing: str | None = None,
    precision: Precision | None = None,
    csv: dict[str, Any] | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
    others: str | None = None,
    device: str = "auto",
    skip_bad_samples: bool = False,
) -> None:
    """Measure a saved task on labelled data.

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub.
        data: Labelled data as in "metatx train"; the test split of data that are split.
        missing: Inputs to leave out of every sample, of a task of several, separated by commas.
        precision: Number format to compare with the one that the task was trained in, on the validation split: each
            metric in the task's own, in this one as "metatx serve --precision" answers, and the difference.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        backbone: Name of the backbone, if the one that the task names cannot be loaded; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        others: Files with the weights of the backbones that read inputs first: NAME=FILE, several with commas.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command.
    """
    if missing is not None and precision is not None:
        raise ValueError("Give --missing or --precision, not both.")
    loaded = load_task(task, backbone, checkpoint, others, csv, device)
    from metatx.evaluation.missing import evaluate_without

    if precision is not None:
        from metatx.evaluation.precision import measured_in

        measured = measured_in(loaded, data, precision, skip_bad_samples=skip_bad_samples)
        print(f"metric own {precision} difference")
        for name, (trained, other) in measured.items():
            print(f"{name} {trained:.6g} {other:.6g} {other - trained:+.2g}")
        return
    if missing is None:
        metrics = loaded.evaluate(data, skip_bad_samples=skip_bad_samples)
    else:
        metrics = evaluate_without(loaded, data, names_of("--missing", missing), skip_bad_samples=skip_bad_samples)
    for name, value in metrics.items():
        print(f"{name} {value:.6g}")


def predict(
    task: str,
    inputs: list[str],
    *,
    out: str | None = None,
    keep: str | None = None,
    batch_size: int | None = None,
    piece_rows: int | None = None,
    resume: bool = False,
    skip_bad_samples: bool = False,
    csv: dict[str, Any] | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
    others: str | None = None,
    device: str = "auto",
) -> None:
    """Answer with a saved task: one row a sample, with its file or its row (counted from 1).

    A folder's files come sorted by name.

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub.
        inputs: Tables, files or folders of samples.
        out: File to write: .csv, .jsonl or .parquet; .json (COCO) for boxes; a folder for masks; .png for a
            forecast; .png or .npy for the map of a scene of many bands. Without it the terminal, as csv.
        keep: Columns of the tables to copy beside the answers, separated by commas; one with a comma in double quotes.
        batch_size: Samples that are answered at once.
        piece_rows: Rows of a csv, jsonl or parquet that are in memory at once, for tables larger than that; --out is a
            .parquet. Types of the columns of a csv are found piece by piece.
        resume: Go on with a run in pieces (of 100,000 rows, if --piece-rows is not given) that was stopped.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command. Their answers are
            empty, and the column error says why.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        backbone: Name of the backbone, if the one that the task names cannot be loaded; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        others: Files with the weights of the backbones that read inputs first: NAME=FILE, several with commas.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
    """
    loaded = load_task(task, backbone, checkpoint, others, csv, device, batch_size)
    from metatx.cli.predictions import write_answers

    kept = names_of("--keep", keep)
    pieces: dict[str, Any] = {"piece_rows": piece_rows, "resume": resume}
    count = write_answers(loaded, inputs, out, sys.stdout, keep=kept, skip_bad=skip_bad_samples, **pieces)
    if out is not None:
        tell(f"{out}: answers of {count:,} sample{'' if count == 1 else 's'}")


def embed(
    task: str,
    inputs: list[str],
    *,
    out: str | None = None,
    keep: str | None = None,
    batch_size: int | None = None,
    piece_rows: int | None = None,
    resume: bool = False,
    skip_bad_samples: bool = False,
    csv: dict[str, Any] | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
    others: str | None = None,
    device: str = "auto",
) -> None:
    """Embed samples with a saved task: vectors of the backbone's width, a row a sample, as "metatx predict".

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub.
        inputs: Tables, files or folders of samples.
        out: File to write: .csv, .jsonl, .parquet or .npy (an array, float32); without it the terminal, as csv.
        keep: Columns of the tables to copy beside the vectors, separated by commas; one with a comma in double quotes.
        batch_size: Samples that are read at once.
        piece_rows: Rows of a csv, jsonl or parquet that are in memory at once, for tables larger than that; --out is a
            .parquet. Types of the columns of a csv are found piece by piece.
        resume: Go on with a run in pieces (of 100,000 rows, if --piece-rows is not given) that was stopped.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command. Their vectors are
            empty, or NaN.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        backbone: Name of the backbone, if the one that the task names cannot be loaded; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        others: Files with the weights of the backbones that read inputs first: NAME=FILE, several with commas.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
    """
    from metatx.cli.predictions import check_suffix, write_vectors
    from metatx.writing.rows import ROWS

    check_suffix(out, (*ROWS, ".npy"))
    loaded = load_task(task, backbone, checkpoint, others, csv, device, batch_size)
    kept = names_of("--keep", keep)
    pieces: dict[str, Any] = {"piece_rows": piece_rows, "resume": resume}
    count = write_vectors(loaded, inputs, out, sys.stdout, keep=kept, skip_bad=skip_bad_samples, **pieces)
    if out is not None:
        tell(f"{out}: vectors of {count:,} sample{'' if count == 1 else 's'}")


def load_task(
    task: str,
    backbone: str | None,
    checkpoint: str | None,
    others: str | None,
    csv: dict[str, Any] | None,
    device: str,
    batch_size: int | None = None,
) -> Any:
    """Load a saved task with what the command line says of its backbone, and of csv files."""
    reading = Reading.of(csv)
    if not task.startswith(MARK):
        describe(task_folder(task))  # a name mistyped is told before torch is imported
    from metatx.backbone.devices import device_of, tell_device
    from metatx.backbone.loading import load_backbone
    from metatx.inputs.through import checkpoints, with_checkpoints
    from metatx.task import Task

    place = tell_device(device_of(device))
    loaded = None if backbone is None else load_backbone(backbone, checkpoint=checkpoint, device=place)
    where = place if loaded is None else None
    saved = Task.from_pretrained(task, backbone=loaded, others=with_checkpoints(checkpoints(others)), device=where)
    saved.reading = reading
    return saved if batch_size is None else saved.set_inference(batch_size=batch_size)
