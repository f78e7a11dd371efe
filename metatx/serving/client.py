"""Clients of a server of tasks, for programs that wait for the answer and for those with an event loop."""

import asyncio
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Self

import numpy as np

from metatx.serving.calls import Call, answered, asking, batches, has_bytes, pause, searching

__all__ = ["AsyncClient", "Client"]

BATCH = 64  # samples of a request
Steps = Generator[Call, Any, Any]  # requests; what each is answered is sent to it, and its result is returned


class _Asking:
    """Requests of both clients, and how they are sent; ``Client`` explains the arguments."""

    def __init__(
        self, url: str, *, token: str | None = None, timeout: float = 60.0, retries: int = 5, batch_size: int = BATCH
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.retries = retries
        self.batch_size = batch_size
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._files: dict[str, list[str]] = {}  # suffixes of the files that a task takes, once they are asked for

    def _request(self, call: Call) -> dict[str, Any]:
        """Arguments of httpx's ``request``."""
        headers = {**self._headers, **call.body.get("headers", {})}
        body = {name: value for name, value in call.body.items() if name != "headers"}
        return {"method": call.method, "url": f"{self.url}{call.path}", "headers": headers, **body}

    def _tasks(self) -> Steps:
        content = yield Call(method="GET", path="/v1/tasks")
        return content["tasks"]

    def _rows(self, task: str, action: str, samples: Any) -> Steps:
        rows: list[Any] = []
        for part in batches(samples, self.batch_size):
            if has_bytes(part) and task not in self._files:
                content = yield Call(method="GET", path=f"/v1/tasks/{task}")
                self._files[task] = content["files"]
            content = yield asking(f"/v1/tasks/{task}/{action}", part, self._files.get(task, ()))
            rows += content["answers" if action == "predict" else "embeddings"]
        return rows

    def _hits(self, index: str, queries: Sequence[Any] | None, vectors: Any, options: Mapping[str, Any]) -> Steps:
        content = yield searching(f"/v1/indexes/{index}/search", () if queries is None else queries, vectors, options)
        return content["hits"]


class Client(_Asking):
    """Client of a server that ``metatx serve`` runs.

    Arrays are sent as bytes, tables of pandas, polars or Arrow as Arrow streams, paths and bytes as files, and dicts as
    samples of several inputs. Errors are those of the library, with the server's message: SampleError for an input that
    cannot be used, ValueError for another wrong request, PermissionError for a wrong token, TimeoutError,
    ConnectionError.

    Args:
        url: Address, such as "http://127.0.0.1:8000".
        token: Token that requests bear; None: none.
        timeout: Seconds that an answer may take.
        retries: Number of times that a request is repeated while the server is busy or starting, each time after the
            seconds that it asks to wait, if these are at most 60.
        batch_size: Samples of a request; more are sent in several.
        http: Client of httpx2 that sends the requests; by default one of its own.

    Raises:
        ImportError: If httpx2 is not installed.

    Example:
        >>> with metatx.Client("http://127.0.0.1:8000", token="secret") as client:
        ...     client.url  # client.predict("reviews", ["A fine film."]) asks the server
        'http://127.0.0.1:8000'
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        batch_size: int = BATCH,
        http: Any = None,
    ) -> None:
        super().__init__(url, token=token, timeout=timeout, retries=retries, batch_size=batch_size)
        self._http = _httpx().Client(timeout=timeout) if http is None else http

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def tasks(self) -> list[dict[str, Any]]:
        """List the tasks: name, modality, inputs, head, columns and files of each."""
        return list(self._run(self._tasks()))

    def predict(self, task: str, samples: Any) -> list[dict[str, Any]]:
        """Answers to samples, one a sample, as ``metatx predict`` writes them.

        Args:
            task: Name of the task.
            samples: Samples as ``Task.predict`` takes them: an array (B, ...), a list, or a table. Files are
                paths (``pathlib.Path``), bytes, or pairs of a name and bytes.
        """
        return list(self._run(self._rows(task, "predict", samples)))

    def embed(self, task: str, samples: Any) -> np.ndarray:
        """Vectors of samples, (B, D) float32; see ``predict``."""
        return np.array(self._run(self._rows(task, "embed", samples)), np.float32)

    def search(
        self,
        index: str,
        queries: Sequence[Any] | None = None,
        *,
        vectors: Any = None,
        modality: str | None = None,
        k: int = 10,
        among: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        centre: bool | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Hits of an index for each query of a modality, or for each of vectors (B, E); see ``Index.search``."""
        options = {"modality": modality, "k": k, "among": among, "where": where, "centre": centre}
        return list(self._run(self._hits(index, queries, vectors, options)))

    def _run(self, steps: Steps) -> Any:
        content: Any = None
        while True:
            try:
                call = steps.send(content)
            except StopIteration as end:
                return end.value
            content = self._send(call)

    def _send(self, call: Call) -> Any:
        """Send a request, again while the server is busy; raises as ``answered``, and ConnectionError."""
        for left in reversed(range(self.retries + 1)):
            with _connecting(self.url):
                response = self._http.request(**self._request(call))
            seconds = pause(response.status_code, response.headers)
            if seconds is None or not left:
                break
            time.sleep(seconds)
        return answered(response.status_code, response.content)


class AsyncClient(_Asking):
    """Client of a server that ``metatx serve`` runs, for an event loop: ``Client`` whose methods are awaited.

    Args:
        url: Address, such as "http://127.0.0.1:8000".
        token: Token that requests bear; None: none.
        timeout: Seconds that an answer may take.
        retries: Number of times that a request is repeated, see ``Client``.
        batch_size: Samples of a request; more are sent in several.
        http: Asynchronous client of httpx2 that sends the requests; by default one of its own.

    Raises:
        ImportError: If httpx2 is not installed.

    Example:
        >>> import asyncio
        >>> async def ask():
        ...     async with metatx.AsyncClient("http://127.0.0.1:8000") as client:
        ...         return client.url  # await client.predict("reviews", ["A fine film."]) asks the server
        >>> asyncio.run(ask())
        'http://127.0.0.1:8000'
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        batch_size: int = BATCH,
        http: Any = None,
    ) -> None:
        super().__init__(url, token=token, timeout=timeout, retries=retries, batch_size=batch_size)
        self._http = _httpx().AsyncClient(timeout=timeout) if http is None else http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def tasks(self) -> list[dict[str, Any]]:
        """List the tasks: name, modality, inputs, head, columns and files of each."""
        return list(await self._run(self._tasks()))

    async def predict(self, task: str, samples: Any) -> list[dict[str, Any]]:
        """Answers to samples, one a sample, as ``metatx predict`` writes them.

        Args:
            task: Name of the task.
            samples: Samples as ``Task.predict`` takes them: an array (B, ...), a list, or a table. Files are
                paths (``pathlib.Path``), bytes, or pairs of a name and bytes.
        """
        return list(await self._run(self._rows(task, "predict", samples)))

    async def embed(self, task: str, samples: Any) -> np.ndarray:
        """Vectors of samples, (B, D) float32; see ``predict``."""
        return np.array(await self._run(self._rows(task, "embed", samples)), np.float32)

    async def search(
        self,
        index: str,
        queries: Sequence[Any] | None = None,
        *,
        vectors: Any = None,
        modality: str | None = None,
        k: int = 10,
        among: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        centre: bool | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Hits of an index for each query of a modality, or for each of vectors (B, E); see ``Index.search``."""
        options = {"modality": modality, "k": k, "among": among, "where": where, "centre": centre}
        return list(await self._run(self._hits(index, queries, vectors, options)))

    async def _run(self, steps: Steps) -> Any:
        content: Any = None
        while True:
            try:
                call = steps.send(content)
            except StopIteration as end:
                return end.value
            content = await self._send(call)

    async def _send(self, call: Call) -> Any:
        """Send a request, again while the server is busy; raises as ``answered``, and ConnectionError."""
        for left in reversed(range(self.retries + 1)):
            with _connecting(self.url):
                response = await self._http.request(**self._request(call))
            seconds = pause(response.status_code, response.headers)
            if seconds is None or not left:
                break
            await asyncio.sleep(seconds)
        return answered(response.status_code, response.content)


@contextmanager
def _connecting(url: str) -> Iterator[None]:
    """Turn errors of the connection into TimeoutError and ConnectionError."""
    httpx = _httpx()
    try:
        yield
    except httpx.TimeoutException as error:
        raise TimeoutError(f"{url} did not answer in time; give the client a longer timeout.") from error
    except httpx.TransportError as error:
        raise ConnectionError(f"{url} cannot be reached ({error}).") from error


def _httpx() -> ModuleType:
    """Package that sends requests. Raises ImportError that says how to install it."""
    try:
        import httpx2
    except ImportError as error:
        raise ImportError("metatx.Client needs httpx2: pip install 'metatx[client]'") from error
    return httpx2
