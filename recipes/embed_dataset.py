"""Embed a large table with a saved task on Ray Data: in parallel, on one machine or many, resumable.

    python recipes/embed_dataset.py TASK DATA --out embeddings --workers 2

DATA is a parquet file, or a folder of them; samples that are files are named in a column, as for training. Each row
group is embedded by itself and becomes a file of ``out``, written whole or not at all. So a run that was killed goes on
with what is missing when it is started again, and ends with the same files. ``pandas.read_parquet(out)`` gives the
vectors in the order of DATA. A row group is held in memory: ``DataFrame.to_parquet(row_group_size=10_000)`` makes them
small. Ray joins the cluster that RAY_ADDRESS names; TASK, DATA and ``out`` must be there on all its machines.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import metatx
from metatx.cli.scripts import command
from metatx.encoding.columns import check_columns
from metatx.files import written_whole
from metatx.reading.folders import visible
from metatx.storage.folder import describe
from metatx.storage.hub import task_folder

try:
    import ray.data
except ImportError as error:
    raise ImportError(f"Embedding with Ray needs it: pip install 'metatx[ray]' ({error})") from error

ORIGIN = "_origin"  # file that says of which task and data the vectors are; pandas leaves such names out


class Embedder:
    """A worker: a process of Ray with a task and a backbone of its own."""

    def __init__(self, task: str, backbone: str | None, checkpoint: str | None) -> None:
        loaded = None if backbone is None else metatx.load_backbone(backbone, checkpoint=checkpoint)
        self.task = metatx.Task.from_pretrained(task, backbone=loaded)

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        place = f"{part['file']}, row group {part['group']}"
        rows = pq.ParquetFile(part["file"]).read_row_group(part["group"], columns=self.task.inputs or None)
        try:
            vectors = self.task.embed(rows.to_pandas())
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if len(vectors) != len(rows):
            raise ValueError(f"{place}: {len(vectors)} vectors of {len(rows)} rows; a row must be a sample.")
        column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
        with written_whole(Path(part["out"])) as temporary:
            pq.write_table(pa.table({"embedding": column}), temporary)
        return part


def main(
    task: str,
    data: str,
    *,
    out: str = "embeddings",
    workers: int = 1,
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> int:
    """Embed what is missing in a folder; how many row groups that were.

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub.
        data: Parquet file, or folder of them.
        out: Folder for the vectors.
        workers: Processes that embed, each on a core.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.

    Raises:
        ValueError: If the data cannot be read, or the folder holds vectors of another task or of other data.
    """
    source = task_folder(task).absolute()
    folder = Path(out).absolute()
    files = _footers(Path(data).absolute())
    for footer in files.values():
        check_columns(footer.schema.to_arrow_schema().names, describe(source)["inputs"])
    _claim(folder, source, list(files.values()))
    groups = [(str(file), group) for file, footer in files.items() for group in range(footer.num_row_groups)]
    outs = [str(folder / f"part-{number:06d}.parquet") for number in range(len(groups))]
    parts = [{"file": file, "group": group, "out": out} for (file, group), out in zip(groups, outs, strict=True)]
    missing = [part for part in parts if not Path(part["out"]).exists()]
    print(f"{len(missing)} of {len(parts)} row groups are missing in {folder}")
    if missing:
        for left in folder.glob(".part-*"):  # by workers that were killed
            left.unlink()
        ray.init(ignore_reinit_error=True, include_dashboard=False)
        ray.data.from_items(missing, override_num_blocks=len(missing)).map(
            Embedder,
            fn_constructor_args=(str(source), backbone, checkpoint),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        ).materialize()
    return len(missing)


def _footers(data: Path) -> dict[Path, pq.FileMetaData]:
    """Footers by file, of a parquet file or of those in a folder."""
    files = [file for file in visible(data) if file.suffix.lower() == ".parquet"] if data.is_dir() else [data]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"{data} is no parquet file and holds none.")
    footers = {}
    for file in files:
        try:
            footers[file] = pq.read_metadata(file)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{file} cannot be read as parquet: {error}") from None
    return footers


def _claim(folder: Path, task: Path, footers: Sequence[pq.FileMetaData]) -> None:
    """Say in the folder of what its vectors are. Raises ValueError where they are of something else."""
    origin = hashlib.sha256()
    for file in sorted(task.rglob("*")):
        if file.is_file() and file.name != "README.md":
            origin.update(file.read_bytes())
    for footer in footers:  # sizes and statistics of every column: they change with the data
        origin.update(repr(footer.to_dict()).encode())
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / ORIGIN
    if not said.exists():
        with written_whole(said) as temporary:
            temporary.write_text(origin.hexdigest())
    elif said.read_text() != origin.hexdigest():
        raise ValueError(f"{folder} holds vectors of another task or of other data; give another --out.")


if __name__ == "__main__":
    command(main)
