"""Embed a large table with a saved task on Ray Data: in parallel, on one machine or many, resumable.

    python recipes/embed_dataset.py TASK DATA --out embeddings --workers 2
    python recipes/embed_dataset.py ALIGNMENT DATA --input.image photo --out embeddings --index found   # to be searched

DATA is a parquet file, or a folder of them; samples that are files are named in a column, as for training. Each row
group is embedded by itself and becomes a file of ``out``, written whole or not at all. So a run that was killed goes on
with what is missing when it is started again, and ends with the same files. ``pandas.read_parquet(out)`` gives the
vectors in the order of DATA. A row group is held in memory: ``DataFrame.to_parquet(row_group_size=10_000)`` makes them
small. With an alignment (its folder, or nano) and ``--index``, the vectors and the columns of DATA are then written to
an index, row group after row group; that goes on where it was stopped too. Ray joins the cluster that RAY_ADDRESS
names; TASK, DATA and ``out`` must be there on all its machines.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import metatx
from metatx.backbone.loading import backbone_folder
from metatx.cli.scripts import command
from metatx.data.table_files import as_dataset
from metatx.encoding.columns import check_columns
from metatx.files import written_whole
from metatx.reading.folders import visible
from metatx.retrieval.manifest import is_index
from metatx.storage.folder import describe
from metatx.storage.hub import task_folder
from metatx.values import is_missing

try:
    import ray.data
except ImportError as error:
    raise ImportError(f"Embedding with Ray needs it: pip install 'metatx[ray]' ({error})") from error

ORIGIN = "_origin"  # file that says of which task and data the vectors are; pandas leaves such names out


class Embedder:
    """A worker: a process of Ray with a task and a backbone of its own."""

    def __init__(self, source: str, inputs: dict[str, str], backbone: str | None, checkpoint: str | None) -> None:
        loaded = _backbone(backbone, checkpoint)
        self.inputs = inputs
        self.source: metatx.Alignment | metatx.Task
        if inputs:
            self.source = metatx.Alignment.from_pretrained(source, backbone=loaded)
        else:
            self.source = metatx.Task.from_pretrained(source, backbone=loaded)

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        place = f"{part['file']}, row group {part['group']}"
        try:
            vectors = self.vectors(pq.ParquetFile(part["file"]), part["group"])
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        with written_whole(Path(part["out"])) as temporary:
            pq.write_table(pa.table({name: _column(values) for name, values in vectors.items()}), temporary)
        return part

    def vectors(self, file: pq.ParquetFile, group: int) -> dict[str, np.ndarray]:
        """Vectors of a row group: of a task, or by modality."""
        if isinstance(self.source, metatx.Alignment):
            rows = as_dataset(file.read_row_group(group, columns=list(self.inputs.values())))
            return {name: _embedded(self.source, name, rows[column]) for name, column in self.inputs.items()}
        rows = file.read_row_group(group, columns=self.source.inputs or None)
        vectors = self.source.embed(rows.to_pandas())
        if len(vectors) != len(rows):
            raise ValueError(f"{len(vectors)} vectors of {len(rows)} rows; a row must be a sample.")
        return {"embedding": vectors}


def main(
    task: str,
    data: str,
    *,
    out: str = "embeddings",
    input: dict[str, str] | None = None,
    index: str | None = None,
    workers: int = 1,
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> int:
    """Embed what is missing in a folder; how many row groups that were.

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub; with --input of an alignment, or nano.
        data: Parquet file, or folder of them.
        out: Folder for the vectors.
        input: Columns that hold the samples of aligned modalities: --input.image photo.
        index: Folder of an index that is made of the vectors, with all columns; goes with --input.
        workers: Processes that embed, each on a core.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.

    Raises:
        ValueError: If the data cannot be read, or the folder holds vectors of another task or of other data.
    """
    if index is not None and not input:
        raise ValueError("--index makes an index of aligned modalities; name their columns: --input.image photo.")
    source = _alignment_folder(task) if input else task_folder(task).absolute()
    folder = Path(out).absolute()
    files = _footers(Path(data).absolute())
    for footer in files.values():
        read = list(input.values()) if input else describe(source)["inputs"]
        check_columns(footer.schema.to_arrow_schema().names, read)
    _claim(folder, source, [*filter(None, [input]), *(footer.to_dict() for footer in files.values())])
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
            fn_constructor_args=(str(source), dict(input or {}), backbone, checkpoint),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        ).materialize()
    if index is not None and input:
        alignment = metatx.Alignment.from_pretrained(source, backbone=_backbone(backbone, checkpoint))
        _fill(Path(index).absolute(), alignment, dict(input), parts)
    return len(missing)


def _alignment_folder(spec: str) -> Path:
    """Folder of an alignment. Raises FileNotFoundError where there is none."""
    folder = backbone_folder(spec)
    if folder is None:
        raise FileNotFoundError(f"{spec} is no folder of an alignment; with --input, name one, or nano.")
    return folder.absolute()


def _backbone(name: str | None, checkpoint: str | None) -> metatx.Backbone | None:
    """The backbone of the command line; None where a folder names its own."""
    return None if name is None else metatx.load_backbone(name, checkpoint=checkpoint)


def _embedded(alignment: metatx.Alignment, modality: str, samples: Sequence[Any]) -> np.ndarray:
    """Vectors (n, E) of aligned samples; NaN where one is missing."""
    present = [row for row, sample in enumerate(samples) if not is_missing(sample)]
    vectors = np.full((len(samples), alignment.size), np.nan, np.float32)
    if present:
        vectors[present] = alignment.embed(modality, [samples[row] for row in present])
    return vectors


def _column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])


def _fill(folder: Path, alignment: metatx.Alignment, inputs: dict[str, str], parts: Sequence[dict[str, Any]]) -> None:
    """Write the vectors and columns of all row groups to an index, from the first that is not there.

    Raises:
        ValueError: If the index holds other items than whole row groups in their order.
    """
    opened = metatx.Index.open(folder, alignment) if is_index(folder) else None
    end = 0
    for number, part in enumerate(parts):
        items = pq.ParquetFile(part["file"]).read_row_group(part["group"])
        start, end = end, end + len(items)
        if opened is not None and opened.total >= end:
            continue
        table = pq.read_table(part["out"])
        vectors = {name: table[name].combine_chunks().flatten().to_numpy().reshape(len(items), -1) for name in inputs}
        if number == 0:  # in pieces, of which a run that was killed may have left some
            opened = metatx.Index.build(folder, alignment, inputs, items, vectors=vectors, resume=opened is not None)
        elif opened is not None and opened.total == start:
            opened.add(inputs, items, vectors=vectors, existing="add")
        else:
            raise ValueError(f"{folder} holds other items than those of the data; give another --index.")
    print(f"{folder}: {end:,} items")


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


def _claim(folder: Path, source: Path, facts: Sequence[Any]) -> None:
    """Say in the folder of what its vectors are. Raises ValueError where they are of something else.

    Args:
        folder: Folder of the vectors.
        source: Folder of the task or alignment.
        facts: Columns, and the footers of the data, whose sizes and statistics of every column change with the data.
    """
    origin = hashlib.sha256()
    for file in sorted(source.rglob("*")):
        if file.is_file() and file.name != "README.md":
            origin.update(file.read_bytes())
    for fact in facts:
        origin.update(repr(fact).encode())
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / ORIGIN
    if not said.exists():
        with written_whole(said) as temporary:
            temporary.write_text(origin.hexdigest())
    elif said.read_text() != origin.hexdigest():
        raise ValueError(f"{folder} holds vectors of another task or of other data; give another --out.")


if __name__ == "__main__":
    command(main)
