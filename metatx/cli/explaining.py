"""``metatx explain``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metatx.cli.answering import load_task
from metatx.progress import tell

if TYPE_CHECKING:
    from metatx.task import Task

__all__ = ["explain_"]


def explain_(
    task: str,
    sample: str,
    *,
    out: str | None = None,
    target: str | None = None,
    method: Literal["occlusion", "integrated_gradients"] = "occlusion",
    row: int = 1,
    csv: dict[str, Any] | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
    others: str | None = None,
    device: str = "auto",
) -> None:
    """Explain the answer of a saved task: which patches, words, columns, seconds or atoms made it.

    The parts with the largest scores are printed, and whether to believe them: the answer's score must fall faster when
    the highest parts are left out first than in random orders.

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub.
        sample: File of the sample, a table or folder of samples, or the sample itself where it is words or SMILES.
        out: File to write: .png, or .html, a page with all numbers.
        target: Label to explain; by default the task's own answer.
        method: Way to the scores: occlusion leaves out one part at a time, integrated_gradients sums gradients.
        row: Number of the sample, from 1, in a table or folder.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        backbone: Name of the backbone, if the one that the task names cannot be loaded; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        others: Files with the weights of the backbones that read inputs first: NAME=FILE, several with commas.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
    """
    loaded = load_task(task, backbone, checkpoint, others, csv, device)
    from metatx.explaining.explain import explain
    from metatx.explaining.explanation import check_out

    check_out(out)
    explanation = explain(loaded, _sample(loaded, sample, row), target, method)
    print(explanation)
    if out is not None:
        tell(f"{explanation.write(out)}: the picture")


def _sample(task: "Task", source: str, row: int) -> Any:
    """Raw sample of a file, a table or a folder; the text itself where there is no such path."""
    from metatx.cli.entries import open_entries

    if not Path(source).exists() and task.tokenizer.accepts(source) and not task.tokenizer.names_file(source):
        return source
    (entry,) = open_entries(task, [source])
    if not 1 <= row <= len(entry.queries):
        raise ValueError(f"--row is {row}; {source} has samples 1 to {len(entry.queries):,}.")
    return entry.queries[row - 1]
