"""Indexes that a server searches: queries are embedded by the engine, in the same passes as the inputs of tasks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from torch import Tensor

from metatx.errors import short
from metatx.head import Head
from metatx.model import Model
from metatx.pool.pool import TaskPool
from metatx.pretraining.alignment import Alignment, Tower
from metatx.pretraining.anchors import EncoderError
from metatx.registry import unknown
from metatx.retrieval.index import Index
from metatx.retrieval.queries import Hit
from metatx.sequence import TokenSequence
from metatx.serving.admission import Asked
from metatx.serving.body import Body
from metatx.serving.catalog import NAME, UnknownTaskError
from metatx.serving.engine import Engine
from metatx.serving.inputs import FileInput, Input, JsonInput, parse_json
from metatx.serving.limits import Limits, RefusedError
from metatx.task import Task

__all__ = ["SEARCH", "Indexes", "SearchRequest", "named_folders", "search_request"]

QUERIES = 64  # queries of a request
MOST = 1000  # hits of a query
FIELDS = ("queries", "vectors", "modality", "k", "among", "where", "centre")
FORM = '{"queries": [...], "modality": NAME} or {"vectors": [[...]]}, and k, among, where, centre'
ARRAY = '{"npy": BASE64}'
_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 1}
_FIELDS_SCHEMA: dict[str, Any] = {  # JSON Schema of the fields but queries and vectors
    "modality": {"type": "string", "description": "Modality of the queries."},
    "k": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 10, "description": "Hits of a query."},
    "among": {"type": "array", "items": {"type": "string"}, "description": "Modalities that are searched; all."},
    "where": {
        "type": "object",
        "description": "Conditions by column, all of which hold: a value, a list of values, or an object of min, max.",
    },
    "centre": {"type": "boolean", "description": "Take off the mean of each modality; by default of several."},
}
SEARCH: dict[str, Any] = {  # requestBody of OpenAPI
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "queries": {"type": "array", "items": {}, "minItems": 1, "maxItems": QUERIES},
                    "vectors": {"type": "array", "items": _NUMBERS, "minItems": 1, "maxItems": QUERIES},
                    **_FIELDS_SCHEMA,
                },
                "oneOf": [{"required": ["queries", "modality"]}, {"required": ["vectors"]}],
                "additionalProperties": False,
            },
            "example": {"queries": ["a red shoe"], "modality": "text", "k": 5},
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "file": {
                        "type": "array",
                        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                    },
                    "options": {"type": "object", "properties": _FIELDS_SCHEMA, "additionalProperties": False},
                },
                "required": ["file", "options"],
                "additionalProperties": False,
            },
            "encoding": {"options": {"contentType": "application/json"}},
        },
    },
}
FILE = "file"  # part of a form with a query
OPTIONS = "options"  # part of a form with the other fields, as JSON


class TowerHead(Head):
    """Head that answers with the vectors of an aligned modality, so that a pool runs it beside its tasks."""

    def __init__(self, tower: Tower, dim: int) -> None:
        super().__init__(dim)
        self.tower = tower

    def pool(self, sequence: TokenSequence) -> Tensor:
        """Unit vectors (B, E)."""
        return self.tower.vectors(sequence)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the vectors (B, E) as they are."""
        return pooled

    def records(self, output: Tensor) -> list[Any]:
        """Vectors (E,), one a sample."""
        return list(output.float().cpu().numpy())


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """Search, as a client asks for it.

    Attributes:
        inputs: Queries that are to be embedded, for a task that is named later.
        vectors: Vectors (B, E) in place of queries.
        modality: Modality of the queries.
        options: Arguments of ``Index.search``.
    """

    inputs: Sequence[Input] = ()
    vectors: np.ndarray | None = None
    modality: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def search_request(body: Body, limits: Limits) -> SearchRequest:
    """Parse JSON, or a form with files as queries and the other fields as JSON in a part ``options``.

    Raises:
        RefusedError: If it has another form, or more queries than one request may.
    """
    files: list[Input] = []
    if isinstance(body, bytes):
        content = parse_json(body, limits)
    elif isinstance(body, np.ndarray | pa.Table):
        raise RefusedError(415, f"Arrays and rows say no modality; send {FORM}, in which {ARRAY} stands for an array.")
    else:
        content = {}
        for name, part in body:
            if name == FILE and isinstance(part, UploadFile):
                files.append(FileInput("", part.filename or "", part.file))
            elif name == OPTIONS and isinstance(part, str):
                content = parse_json(part.encode(), limits)
            else:
                raise RefusedError(422, f"The form has a part {name[:100]!r}; expected {FILE} (files) and {OPTIONS}.")
    if not isinstance(content, dict):
        raise RefusedError(422, f"Found {short(content)}; expected {FORM}.")
    for name in content:
        if name not in FIELDS:
            raise RefusedError(422, f"{unknown('field', name[:100], list(FIELDS))} Expected {FORM}.")
    queries = content.get("queries", [])
    vectors = _vectors(content["vectors"]) if "vectors" in content else None
    inputs = [*files, *(JsonInput("", value) for value in queries)] if isinstance(queries, list) else []
    if (vectors is None) != bool(inputs):
        raise RefusedError(422, f"Expected queries or vectors, one or more: {FORM}.")
    count = len(inputs) if vectors is None else len(vectors)
    if count > QUERIES:
        raise RefusedError(413, f"{count:,} queries; expected at most {QUERIES}: send several requests.")
    modality = content.get("modality")
    if not isinstance(modality, str) and (inputs or modality is not None):
        raise RefusedError(422, f"modality is {short(modality)}; expected the name of that of the queries.")
    return SearchRequest(inputs=inputs, vectors=vectors, modality=modality, options=_options(content))


def _vectors(value: Any) -> np.ndarray:
    """Vectors (B, E) of nested lists. Raises RefusedError (422)."""
    rows = value if isinstance(value, list) and all(isinstance(row, list) and row for row in value) else []
    wrong = [cell for row in rows for cell in row if type(cell) not in (int, float)]
    if wrong or not rows or len({len(row) for row in rows}) > 1:
        told = f": {short(wrong[0])} is none" if wrong else ""
        raise RefusedError(422, f"vectors is no list of lists of numbers, equally many in each{told}.")
    try:
        return np.asarray(rows, np.float64)
    except OverflowError:
        raise RefusedError(422, "vectors holds a number that is too large.") from None


def _options(content: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``Index.search``. Raises RefusedError (422) for one of another type."""
    k = content.get("k", 10)
    among = content.get("among")
    where = content.get("where")
    centre = content.get("centre")
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MOST:
        raise RefusedError(422, f"k is {short(k)}; expected a whole number from 1 to {MOST:,}.")
    if among is not None and not (isinstance(among, list) and all(isinstance(name, str) for name in among)):
        raise RefusedError(422, f"among is {short(among)}; expected names of modalities in a list.")
    if where is not None and not isinstance(where, dict):
        raise RefusedError(422, f"where is {short(where)}; expected an object of conditions by column.")
    if centre is not None and not isinstance(centre, bool):
        raise RefusedError(422, f"centre is {short(centre)}; expected true or false.")
    return {"k": k, "among": among, "where": where, "centre": centre}


class Indexes:
    """Indexes by name, searched one request at a time, each as it is on the disk at that moment.

    Args:
        pool: Pool whose backbone embeds the queries; the towers of the indexes' alignments are added to it.
        folders: Folders of the indexes by name.

    Raises:
        FileNotFoundError: If a folder is no index.
        ValueError: If an index is damaged, or of another backbone than the pool's.
    """

    def __init__(self, pool: TaskPool, folders: Mapping[str, Path]) -> None:
        self.served: dict[str, Index] = {}
        self.modalities: dict[str, list[str]] = {}  # those of queries, by index
        self._turn = asyncio.Lock()
        fingerprint = pool.backbone.fingerprint if folders else ""
        for name, folder in folders.items():
            alignment = self._alignment(name, Index.open(folder), pool, fingerprint)
            self.served[name] = Index.open(folder, alignment)
            self.modalities[name] = []
            for modality, tower in ({} if alignment is None else alignment.towers).items():
                if isinstance(tower, Tower):
                    model = Model(pool.backbone, tower.tokenizer, TowerHead(tower, pool.backbone.dim))
                    model.norm = tower.norm
                    pool.add(_task(name, modality), Task.of_model(model), pinned=True)
                    self.modalities[name].append(modality)

    def _alignment(self, name: str, index: Index, pool: TaskPool, fingerprint: str) -> Alignment | None:
        """Alignment of an index on the pool's backbone; None where it was made of vectors."""
        if index.snapshot.manifest.alignment is None:
            return None
        try:
            alignment = index.alignment
        except EncoderError as error:
            raise ValueError(
                f"Index {name} cannot be served: {str(error).partition(';')[0]}, and a server loads no encoder of "
                "another model. Search it with metatx search, or in Python."
            ) from None
        if alignment.backbone.fingerprint != fingerprint:
            raise ValueError(
                f"Index {name} was made with backbone {alignment.backbone.spec}, but the server has "
                f"{pool.backbone.spec}: start a server for each, or name it with --backbone."
            )
        return Alignment.from_pretrained(index.snapshot.manifest.alignment, pool.backbone)

    def resolve(self, name: str) -> Index:
        """Return the index of a name. Raises UnknownTaskError."""
        if name not in self.served:
            raise UnknownTaskError(unknown("index", name[:100], sorted(self.served)))
        return self.served[name]

    def about(self, name: str) -> dict[str, Any]:
        """Describe an index: its items, modalities and columns."""
        index = self.served[name]
        index.refresh()
        return {
            "name": name,
            "items": len(index),
            "modalities": list(index.modalities),
            "queries": self.modalities[name],
            "columns": list(index.columns),
            "width": index.width,
        }

    async def search(self, name: str, body: Body, engine: Engine, asked: Asked) -> list[list[dict[str, Any]]]:
        """Answer a request: for each query its hits, each with the columns of its item.

        Raises:
            RefusedError, UnknownTaskError, ValueError: If it cannot be answered.
        """
        index = self.resolve(name)
        wanted = search_request(body, engine.limits)
        vectors = wanted.vectors
        if vectors is None:
            modality = str(wanted.modality)
            if modality not in self.modalities[name]:
                raise RefusedError(422, unknown("modality of queries", modality[:100], self.modalities[name]))
            inputs = [item.of(_task(name, modality)) for item in wanted.inputs]
            workers = engine.file_workers if asked.form else engine.json_workers
            _, answers, _ = await engine.answer(asked, workers, lambda: inputs, "records")
            vectors = np.stack(answers)
        async with self._turn:
            return await run_in_threadpool(_found, index, vectors, wanted)


def _found(index: Index, vectors: np.ndarray, wanted: SearchRequest) -> list[list[dict[str, Any]]]:
    index.refresh()
    found = index.search(vectors, modality=wanted.modality, **wanted.options)
    return [_described(index, hits) for hits in found]


def _described(index: Index, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Hits with the columns of their items; of a column that names files, the names without folders."""
    files = set(index.sources.values())
    rows = index.rows([hit.item for hit in hits])
    return [
        {
            "item": hit.item,
            "modality": hit.modality,
            "score": hit.score,
            "columns": {name: _cell(value, name in files) for name, value in row.items()},
        }
        for hit, row in zip(hits, rows, strict=True)
    ]


def _cell(value: Any, names_file: bool) -> Any:
    """Cell as JSON: no bytes, and no folder of the server."""
    if isinstance(value, dict) and "bytes" in value:
        value = value.get("path")
        names_file = True
    if isinstance(value, bytes):
        return None
    if isinstance(value, str) and names_file and Path(value).is_absolute():
        return Path(value).name
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _task(index: str, modality: str) -> str:
    """Name in the pool of the tower of an index; no task of a folder has a colon in its name."""
    return f"{index}:{modality}"


def named_folders(lines: Sequence[str]) -> dict[str, Path]:
    """Folders of indexes by name, from ``NAME=FOLDER``. Raises ValueError for another form."""
    folders: dict[str, Path] = {}
    for line in lines:
        name, equals, folder = line.partition("=")
        if not equals or not folder:
            raise ValueError(f"--index is {line!r}; expected NAME=FOLDER, such as shop=shop.index.")
        if NAME.fullmatch(name) is None:
            raise ValueError(
                f"--index is {line!r}, whose name is {name!r}; expected letters, digits, _, - and ., of which a letter "
                "or a digit comes first, at most 100."
            )
        if name in folders:
            raise ValueError(f"--index names {name} twice; give each index a name of its own.")
        folders[name] = Path(folder).absolute()
    return folders
