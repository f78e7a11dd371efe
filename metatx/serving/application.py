"""The HTTP application: tasks asked, listed, loaded; health, metrics, a page."""

import asyncio
import errno
import hmac
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from metatx.errors import ChangedError, TaskError
from metatx.serving.admission import FullError
from metatx.serving.body import FORM, announced_size, content_kind, inputs_of, read_body, size_of
from metatx.serving.catalog import Catalog, UnknownTaskError
from metatx.serving.engine import Answer, Engine
from metatx.serving.inputs import Input
from metatx.serving.limits import RefusedError
from metatx.serving.scheduler import ClosedError
from metatx.serving.schemas import Alias, TaskDetail, TaskList, detail_of, document, problems, summary_of

__all__ = ["Service", "create_application"]

Result = TypeVar("Result")

LOG = logging.getLogger("metatx.serving")
PAGES = "page.html", "docs.html"  # at / and at /docs
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)  # on the disk, among open files
GONE = 499  # the client is; nobody reads it, the metrics count it
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


class Service:
    """One server: what its endpoints share.

    Args:
        engine: That answers.
        catalog: Of the tasks; it is filled when the application starts.
        token: That requests must bear; None: none.
        admin: Whether tasks may be loaded and removed over HTTP; only with a token.
        watch: Seconds from one look at the folder to the next; None: it is read once.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        *,
        token: str | None = None,
        admin: bool = False,
        watch: float | None = None,
    ) -> None:
        if admin and not token:
            raise ValueError("Loading and removing tasks over HTTP (--admin) needs a token; give one.")
        self.engine, self.catalog, self.admin, self.watch = engine, catalog, admin, watch
        self._bearer = f"Bearer {token}".encode() if token else None
        self.loaded = self.draining = False
        self.active = 0  # requests that are being answered

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.loaded and not self.draining and self.engine.scheduler.alive

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """Load the tasks beside the running server, and look for others; at the end answer what waits."""
        keeping = asyncio.create_task(self._keep_up())
        try:
            yield
        finally:
            keeping.cancel()
            await run_in_threadpool(self.engine.close)

    async def _keep_up(self) -> None:
        while True:
            try:
                await run_in_threadpool(self.catalog.refresh)
                self.loaded = True
            except Exception as error:  # the folder is away for a while
                LOG.warning("the folder of tasks cannot be read: %s", error, exc_info=not isinstance(error, OSError))
            if self.watch is None and self.loaded:
                return
            await asyncio.sleep(self.watch or 1.0)

    async def permitted(self, request: Request) -> None:
        """Refuse a request without the token. Raises RefusedError (401)."""
        if self._bearer and not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._bearer):
            raise RefusedError(401, "This server needs a token: Authorization: Bearer TOKEN.")

    async def ask(self, request: Request, task: str | None, answer: Answer) -> Response:
        """Answer a request for one task, or, where that is None, for those that it names."""
        started, status = time.perf_counter(), 500
        tasks: list[str | None] = [task]
        self.active += 1
        try:
            if not self.ready:
                raise ClosedError("The server is stopping." if self.draining else "The server is starting.")
            if task is not None:
                tasks[:] = [task := self.catalog.resolve(task)]
            engine, limits = self.engine, self.engine.limits
            lane = engine.slow if content_kind(request) == FORM else engine.quick
            async with asyncio.timeout(limits.wait):
                with engine.admitted(task, announced_size(request, limits), lane):
                    body = await read_body(request, limits)

                    def inputs() -> list[Input]:
                        found = inputs_of(body, task, self.catalog, limits)
                        tasks[:] = [one.task for one in found]
                        return found

                    work = asyncio.create_task(engine.answer(task, size_of(body), lane, inputs, answer))
                    names, answers = await _unless_gone(request, work)
            status = 200
            return _json({"task": task, **_rows(names, answers, answer, task is None)})
        except Exception as error:
            response = _refusal(error)
            status = response.status_code
            return response
        finally:
            self.active -= 1
            known = [name for name in tasks if name in self.catalog.served]
            self.engine.metrics.answered(known, answer, status, time.perf_counter() - started)


def create_application(service: Service) -> FastAPI:
    """The endpoints of a server."""
    app = FastAPI(title="metatx", lifespan=service.running, openapi_url=None, docs_url=None, redoc_url=None)
    for error in (RefusedError, UnknownTaskError, HTTPException, RequestValidationError, ValueError):
        app.add_exception_handler(error, _handle)
    app.include_router(_public(service))
    app.include_router(_asking(service))
    app.include_router(_describing(service, app))
    if service.admin:
        app.include_router(_managing(service))
    return app


def _public(service: Service) -> APIRouter:
    """What is open without the token: it says nothing of the tasks."""
    router = APIRouter(include_in_schema=False)
    headers = {"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
    page, docs = (files("metatx.serving").joinpath(name).read_text(encoding="utf-8") for name in PAGES)

    @router.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @router.get("/docs")
    async def reference() -> HTMLResponse:
        return HTMLResponse(docs, headers=headers)

    @router.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("alive")

    @router.get("/readyz")
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse(*(("ready", 200) if service.ready else ("not ready", 503)))

    return router


def _asking(service: Service) -> APIRouter:
    refusals = problems((400, 401, 404, 408, 413, 415, 422, 429, 503, 504))
    router = APIRouter(prefix="/v1", dependencies=[Depends(service.permitted)], responses=refusals, tags=["answers"])

    @router.post("/predict")
    async def predict_mixed(request: Request) -> dict[str, Any]:
        """Answers of several tasks, in the order of the inputs. A form has a part for each, named by its task."""
        return await service.ask(request, None, "records")  # type: ignore[return-value]

    @router.post("/tasks/{task}/predict")
    async def predict(task: str, request: Request) -> dict[str, Any]:
        """Answers, in the order of the inputs."""
        return await service.ask(request, task, "records")  # type: ignore[return-value]

    @router.post("/tasks/{task}/embed")
    async def embed(task: str, request: Request) -> dict[str, Any]:
        """Vectors of the backbone's width, in the order of the inputs."""
        return await service.ask(request, task, "embed")  # type: ignore[return-value]

    return router


def _describing(service: Service, app: FastAPI) -> APIRouter:
    catalog = service.catalog
    router = APIRouter(dependencies=[Depends(service.permitted)], responses=problems((401,)), tags=["tasks"])

    @router.get("/v1/tasks")
    async def tasks() -> TaskList:
        """The tasks that are served."""
        served = [summary_of(name, task) for name, task in sorted(catalog.served.items())]
        return TaskList(tasks=served, aliases=catalog.aliases, refused=catalog.refused)

    @router.get("/v1/tasks/{task}", responses=problems((404, 422)))
    async def detail(task: str) -> TaskDetail:
        """A task: its card, the schema of its inputs, an example."""
        name = catalog.resolve(task)
        return detail_of(name, catalog.served[name])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(service.engine.metrics.text())

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(document(app, catalog))

    return router


def _managing(service: Service) -> APIRouter:
    catalog = service.catalog
    refusals = problems((401, 404, 422))
    router = APIRouter(prefix="/v1", dependencies=[Depends(service.permitted)], responses=refusals, tags=["admin"])

    @router.put("/tasks/{task}")
    async def load(task: str) -> TaskDetail:
        """Load a task from the server's folder, or load it again; one that fails leaves what was served."""
        await run_in_threadpool(catalog.load, task)
        return detail_of(task, catalog.served[task])

    @router.delete("/tasks/{task}", status_code=204)
    async def drop(task: str) -> None:
        """Serve a task no more; its folder stays."""
        await run_in_threadpool(catalog.drop, task)

    @router.put("/aliases/{alias}", status_code=204)
    async def point(alias: str, to: Alias) -> None:
        """Make a name mean another version, at once."""
        await run_in_threadpool(catalog.point, alias, to.version)

    return router


async def _unless_gone(request: Request, work: "asyncio.Task[Result]") -> Result:
    """The result of ``work``, which is cancelled when the client goes or time is up. Raises RefusedError (499)."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(gone())
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise RefusedError(GONE, "The client is gone.")
        return work.result()
    finally:
        work.cancel()
        leaving.cancel()


def _rows(names: Sequence[str], answers: Sequence[Any], answer: Answer, mixed: bool) -> dict[str, Any]:
    if answer == "embed":
        return {"embeddings": answers}
    if mixed:
        return {"answers": [{"task": name, "answer": row} for name, row in zip(names, answers, strict=True)]}
    return {"answers": answers}


def _json(content: dict[str, Any]) -> Response:
    """As JSON, which has neither NaN nor infinity: null."""
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(text, media_type="application/json")


async def _handle(request: Request, error: Exception) -> Response:
    return _refusal(error)


def _refusal(error: Exception) -> JSONResponse:
    """The response to an error: its status, and one line."""
    status, message, headers = 500, "The server failed to answer this; its log says why.", {}
    if isinstance(error, RefusedError):
        status, message = error.status, str(error)
    elif isinstance(error, UnknownTaskError):
        status, message = 404, str(error)
    elif isinstance(error, FullError):
        status, message, headers = 429, str(error), {"Retry-After": str(error.seconds)}
    elif isinstance(error, ClosedError):
        status, message, headers = 503, str(error), {"Connection": "close", "Retry-After": "5"}
    elif isinstance(error, TimeoutError):
        status, message = 504, "The request was not answered in time."
    elif isinstance(error, RequestValidationError):
        status, message = 422, "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    elif isinstance(error, HTTPException):
        status, message = error.status_code, str(error.detail)
    elif isinstance(error, ChangedError):
        status, message = 503, str(error)
        LOG.error("%s", error)
    elif isinstance(error, TaskError):
        status, message = 503, "The task is damaged on disk; the server's log says how."
        LOG.error("%s", error)
    elif isinstance(error, ValueError):
        status, message = 422, str(error)
    elif isinstance(error, OSError) and error.errno in NO_ROOM:
        status, message, headers = 503, "The server has no room for this now; try again later.", {"Retry-After": "5"}
        LOG.error("no room for a request: %s", error)
    else:
        LOG.error("a request failed", exc_info=error)
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse({"detail": " ".join(message.split())}, status, headers=headers)
