"""Exact search in an index of vectors, beside faiss's flat index and embedded vector databases, on the same vectors.

    pip install faiss-cpu lancedb chromadb qdrant-client       # those that are there are measured
    python recipes/benchmarks/index.py --rows 100000           # about 5 minutes on one core, most of them Chroma's
    python recipes/benchmarks/index.py --rows 1000000 --beside '["faiss"]'

Searches run in turns, so that a noisy machine slows all of them; times are medians, of 32 queries for 10 neighbours.
Memory is what a fresh interpreter grows by, from the imports to a search of all rows, pages of mapped files included.
A million rows on one busy core: 0.75 s for metatx and 4.09 s for faiss, 397 and 769 MB, opened in 0.006 and 1.6 s, the
same ids. Chroma's graph (HNSW) is not exact; what it finds is counted like the rest: .18 of random vectors.
"""

import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import medians, megabytes

from metatx.cli.scripts import command
from metatx.retrieval.index import Index

Search = Callable[[np.ndarray], Any]
NEIGHBOURS = 10
BATCH = 5000  # rows that a database is given at once
TABLE = "vectors"


def metatx_index(folder: Path) -> Search:
    index = Index.open(folder / "metatx")
    return lambda queries: [[hit.item for hit in hits] for hits in index.search(queries, k=NEIGHBOURS)]


def faiss_flat(folder: Path) -> Search:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / "faiss"))
    return lambda queries: index.search(queries, NEIGHBOURS)[1].tolist()


def lancedb_flat(folder: Path) -> Search:
    import lancedb

    table = lancedb.connect(str(folder / "lancedb")).open_table(TABLE)

    def search(query: np.ndarray) -> list[int]:
        return [row["id"] for row in table.search(query).distance_type("cosine").limit(NEIGHBOURS).to_list()]

    return lambda queries: [search(query) for query in queries]


def chroma_hnsw(folder: Path) -> Search:
    import chromadb

    collection = chromadb.PersistentClient(str(folder / "chromadb")).get_collection(TABLE)

    def search(queries: np.ndarray) -> list[list[int]]:
        found = collection.query(query_embeddings=queries.tolist(), n_results=NEIGHBOURS, include=[])
        return [[int(name) for name in names] for names in found["ids"]]

    return search


def qdrant_local(folder: Path) -> Search:
    import qdrant_client

    client = qdrant_client.QdrantClient(path=str(folder / "qdrant"))

    def search(query: np.ndarray) -> list[int]:
        return [int(point.id) for point in client.query_points(TABLE, query.tolist(), limit=NEIGHBOURS).points]

    return lambda queries: [search(query) for query in queries]


def build(name: str, folder: Path, vectors: np.ndarray) -> None:
    """Write the vectors in the form of one of the ways."""
    numbers = range(0, len(vectors), BATCH)
    if name == "metatx":
        Index.build(folder / "metatx", None, {"vector": vectors})
    elif name == "faiss":
        import faiss

        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        faiss.write_index(index, str(folder / "faiss"))
    elif name == "lancedb":
        import lancedb
        import pyarrow as pa

        column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
        table = pa.table({"id": np.arange(len(vectors)), "vector": column})
        lancedb.connect(str(folder / "lancedb")).create_table(TABLE, table)
    elif name == "chromadb":
        import chromadb

        client = chromadb.PersistentClient(str(folder / "chromadb"))
        collection = client.create_collection(TABLE, metadata={"hnsw:space": "ip"})
        for at in numbers:
            part = vectors[at : at + BATCH]
            collection.add(ids=[str(at + row) for row in range(len(part))], embeddings=part.tolist())
    else:
        from qdrant_client import QdrantClient
        from qdrant_client.models import Distance, PointStruct, VectorParams

        database = QdrantClient(path=str(folder / "qdrant"))
        params = VectorParams(size=vectors.shape[1], distance=Distance.COSINE)
        database.create_collection(TABLE, vectors_config=params)
        for at in numbers:
            part = vectors[at : at + BATCH].tolist()
            database.upsert(TABLE, [PointStruct(id=at + row, vector=vector) for row, vector in enumerate(part)])
        database.close()


WAYS: dict[str, Callable[[Path], Search]] = {
    "metatx": metatx_index,
    "faiss": faiss_flat,
    "lancedb": lancedb_flat,
    "chromadb": chroma_hnsw,
    "qdrant_client": qdrant_local,
}


def alone(name: str, folder: Path, queries: np.ndarray, answer: Any) -> None:
    """Send seconds to open, and megabytes by which a process grows that opens and searches."""
    torch.set_num_threads(1)
    if name != "metatx":
        __import__(name)
    before = megabytes("RssAnon") + megabytes("RssFile")
    started = time.perf_counter()
    search = WAYS[name](folder)
    seconds = time.perf_counter() - started
    search(queries)
    answer.put((seconds, megabytes("RssAnon") + megabytes("RssFile") - before))


def measured_alone(name: str, folder: Path, queries: np.ndarray) -> tuple[float, float]:
    """Seconds to open, and megabytes, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=alone, args=(name, folder, queries, answer))
    process.start()
    seconds, grown = answer.get()
    process.join()
    return seconds, grown


def main(
    *,
    rows: int = 100_000,
    width: int = 192,
    queries: int = 32,
    rounds: int = 7,
    beside: Sequence[str] = ("faiss", "lancedb", "chromadb", "qdrant_client"),
    folder: str | None = None,
) -> dict[str, float]:
    """Compare the ways that are installed.

    Args:
        rows: Number of vectors.
        width: Width of the vectors.
        queries: Number of queries that are searched together.
        rounds: Measured searches of each way.
        beside: Packages to measure beside metatx.
        folder: Folder for the indexes; by default a temporary one.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((rows, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = rng.standard_normal((queries, width), dtype=np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    names = ["metatx", *(name for name in beside if find_spec(name))]
    place = Path(folder or tempfile.mkdtemp())
    stored = rows * width * 2 / 1e6
    print(f"{rows:,} vectors x {width}, {stored:.0f} MB in fp16; {queries} queries, {NEIGHBOURS} neighbours")
    try:
        built = {}
        for name in names:
            started = time.perf_counter()
            build(name, place, vectors)
            built[name] = time.perf_counter() - started
        opened = {name: [measured_alone(name, place, asked) for _ in range(min(rounds, 3))] for name in names}
        searches = {name: WAYS[name](place) for name in names}
        times = medians({name: lambda search=search: search(asked) for name, search in searches.items()}, rounds)
        exact = np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :NEIGHBOURS]
        print(f"{'':16}{'build s':>9}{'open s':>9}{'search s':>10}{'x faiss':>9}{'MB':>8}{'x fp16':>8}{'same ids':>10}")
        for name in names:
            seconds = statistics.median(part[0] for part in opened[name])
            grown = statistics.median(part[1] for part in opened[name])
            same = np.mean(
                [len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(searches[name](asked), exact.tolist(), strict=True)]
            )
            ratio = times[name] / times.get("faiss", np.nan)
            print(
                f"{name:16}{built[name]:9.2f}{seconds:9.4f}{times[name]:10.4f}{ratio:9.2f}{grown:8.0f}"
                f"{grown / stored:8.2f}{same:10.4f}"
            )
        return times
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    command(main)
