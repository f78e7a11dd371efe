"""HTTP application: endpoints that answer, list and load tasks; health, metrics, a page."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from metatx.serving.admission import Asked
from metatx.serving.arrays import NPY
from metatx.serving.asking import Question, json_response, question_of, unless_gone
from metatx.serving.body import FORM, content_kind, read_body
from metatx.serving.body_limits import BodyLimits
from metatx.serving.catalog import Catalog
from metatx.serving.clients import sender
from metatx.serving.engine import Engine, OutputKind
from metatx.serving.gate import Gate
from metatx.serving.indexes import SEARCH, Indexes
from metatx.serving.inputs import Input
from metatx.serving.limits import GONE
from metatx.serving.refusals import discreet, places, refusal
from metatx.serving.scheduler import ClosedError
from metatx.serving.schemas import Alias, TaskDetail, TaskList, detail_of, document, problems, summary_of

__all__ = ["Service", "create_application"]

LOG = logging.getLogger("metatx.serving")
PAGES = "page.html", "docs.html"  # served at / and at /docs
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


class Service:
    """State of one server, which its endpoints share.

    Args:
        engine: Engine that computes the answers.
        catalog: Catalog of the tasks; it is filled when the application starts.
        token: Token that requests must bear; None lets all requests pass.
        indexes: Indexes that are searched; None: none.
        admin: True lets tasks be loaded and removed over HTTP; only with a token.
        watch: Seconds between two looks at the folder of tasks; None: it is read once.

    Raises:
        ValueError: If ``admin`` is True without a token.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        *,
        token: str | None = None,
        indexes: Indexes | None = None,
        admin: bool = False,
        watch: float | None = None,
    ) -> None:
        if admin and not token:
            raise ValueError("Loading and removing tasks over HTTP (--admin) needs a token; give one.")
        self.engine = engine
        self.catalog = catalog
        self.indexes = indexes or Indexes(engine.pool, {})
        self.admin = admin
        self.watch = watch
        self.token = token
        self.hidden = places(catalog.folder)
        self.loaded = self.draining = False
        self.active = 0  # requests that are being answered

    @property
    def ready(self) -> bool:
        """True while requests are answered."""
        return self.loaded and not self.draining and self.engine.scheduler.alive

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """Load the tasks in the background, and watch their folder; at the end answer the requests that wait."""
        keeping = asyncio.create_task(self._keep_up())
        try:
            yield
        finally:
            keeping.cancel()
            await run_in_threadpool(self.engine.close)

    async def _keep_up(self) -> None:
        warmed: Any = None  # tasks that were served when the engine was last made ready for them
        while True:
            try:
                await run_in_threadpool(self.catalog.refresh)
                if warmed is not self.catalog.served:
                    warmed = self.catalog.served
                    self.engine.warm()
                self.loaded = True
            except Exception as error:  # such as a folder on a disk that is away for a while
                LOG.warning("the folder of tasks cannot be read: %s", error, exc_info=not isinstance(error, OSError))
            if self.watch is None and self.loaded:
                return
            await asyncio.sleep(self.watch or 1.0)

    async def ask(self, request: Request, task: str | None, answer: OutputKind) -> Response:
        """Answer a request in the server's own protocol.

        Args:
            request: HTTP request; its body is not read yet.
            task: Name of the task; None if the body names a task for each input.
            answer: Kind of answer.
        """

        def question(name: str | None) -> Awaitable[Question]:
            return question_of(request, name, answer, self.catalog, self.engine.limits)

        return await self.exchange(request, partial(self.catalog.resolve, task) if task else None, question, answer)

    async def exchange(
        self,
        request: Request,
        name: Callable[[], str] | None,
        read: Callable[[str | None], Awaitable[Question]],
        answer: OutputKind = "records",
    ) -> Response:
        """Answer a request of any protocol, within the limits.

        Args:
            request: HTTP request; its body is not read yet.
            name: Function that finds the name of the task; None if the body names it.
            read: Function that reads the question to the task of that name.
            answer: Kind of answer by which a request is counted that cannot be read.
        """
        started = time.perf_counter()
        status = 500
        tasks: list[str | None] = []
        self.active += 1
        try:
            self._check_ready()
            task = name() if name else None
            tasks[:] = [task]
            engine = self.engine
            kind = content_kind(request.headers)
            asked = Asked(client=sender(request.scope), task=task, form=kind in (FORM, NPY))
            workers = engine.file_workers if kind == FORM else engine.json_workers
            async with asyncio.timeout(engine.limits.wait):
                engine.check(asked, workers)
                question = await read(task)
                answer = question.answer

                def inputs() -> list[Input]:
                    parsed = question.inputs()
                    tasks[:] = [item.task for item in parsed]
                    return parsed

                work = engine.answer(replace(asked, size=question.size), workers, inputs, answer)
                names, answers = await unless_gone(request, asyncio.create_task(work))
            response = question.response(names, answers)
            status = 200
            return response
        except asyncio.CancelledError:
            status = GONE
            raise
        except Exception as error:
            response = refusal(error, self.hidden)
            status = response.status_code
            return response
        finally:
            self.active -= 1
            served = [task for task in tasks if task in self.catalog.served]
            self.engine.metrics.answered(served, answer, status, time.perf_counter() - started)

    async def search(self, request: Request, name: str) -> Response:
        """Answer a search of an index.

        Args:
            request: HTTP request; its body is not read yet.
            name: Name of the index.
        """
        self.active += 1
        try:
            self._check_ready()
            self.indexes.resolve(name)
            engine = self.engine
            form = content_kind(request.headers) == FORM
            asked = Asked(client=sender(request.scope), task=f"{name}:", form=form)
            async with asyncio.timeout(engine.limits.wait):
                engine.check(asked, engine.file_workers if form else engine.json_workers)
                body = await read_body(request, engine.limits)
                asked = replace(asked, size=len(body))
                hits = await unless_gone(request, asyncio.create_task(self.indexes.search(name, body, engine, asked)))
            return json_response({"index": name, "hits": hits})
        except Exception as error:
            return refusal(error, self.hidden)
        finally:
            self.active -= 1

    def _check_ready(self) -> None:
        """Refuse requests before the tasks are loaded, and while the server stops. Raises ClosedError."""
        if not self.ready:
            raise ClosedError("The server is stopping." if self.draining else "The server is starting.")


def create_application(service: Service) -> FastAPI:
    """Build the application with all endpoints of a server."""
    app = FastAPI(
        title="metatx",
        lifespan=service.running,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go to an address that the client chose
    )

    async def handle(request: Request, error: Exception) -> Response:
        return refusal(error, service.hidden)

    for error in (HTTPException, RequestValidationError):  # in place of FastAPI's own handlers
        app.add_exception_handler(error, handle)
    app.add_middleware(BodyLimits, limits=service.engine.limits)
    app.add_middleware(Gate, token=service.token, hidden=service.hidden)
    app.include_router(_public(service))
    app.include_router(_asking(service))
    if service.indexes.served:
        app.include_router(_searching(service))
    app.include_router(_describing(service, app))
    if service.admin:
        app.include_router(_managing(service))
    return app


def _public(service: Service) -> APIRouter:
    """Make the endpoints that need no token, for they say nothing about the tasks."""
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
    router = APIRouter(prefix="/v1", responses=refusals, tags=["answers"])

    @router.post("/predict")
    async def predict_mixed(request: Request) -> dict[str, Any]:
        """Answer inputs of several tasks, in their order. A form has one part an input, named by its task."""
        return await service.ask(request, None, "records")  # type: ignore[return-value]

    @router.post("/tasks/{task}/predict")
    async def predict(task: str, request: Request) -> dict[str, Any]:
        """Answer the inputs, in their order."""
        return await service.ask(request, task, "records")  # type: ignore[return-value]

    @router.post("/tasks/{task}/embed")
    async def embed(task: str, request: Request) -> dict[str, Any]:
        """Embed the inputs, in their order: vectors of the backbone's width."""
        return await service.ask(request, task, "embed")  # type: ignore[return-value]

    return router


def _searching(service: Service) -> APIRouter:
    refusals = problems((400, 401, 404, 408, 413, 415, 422, 429, 503, 504))
    router = APIRouter(prefix="/v1", tags=["indexes"])

    @router.get("/indexes", responses=problems((401,)))
    async def indexes() -> dict[str, Any]:
        """List the indexes that are searched."""
        served = sorted(service.indexes.served)
        return {"indexes": [await run_in_threadpool(service.indexes.about, name) for name in served]}

    @router.get("/indexes/{name}", responses=problems((401, 404)))
    async def about(name: str) -> dict[str, Any]:
        """Describe an index: its items, modalities, columns, and the modalities that queries may have."""
        service.indexes.resolve(name)
        return await run_in_threadpool(service.indexes.about, name)

    @router.post("/indexes/{name}/search", responses=refusals, openapi_extra={"requestBody": SEARCH})
    async def search(name: str, request: Request) -> dict[str, Any]:
        """Find the items nearest to queries of an aligned modality, or to vectors.

        JSON: {"queries": [...], "modality": NAME} or {"vectors": [[...]]}; and k, among, where, centre. A form has
        files as parts "file", and the other fields as JSON in a part "options".
        """
        return await service.search(request, name)  # type: ignore[return-value]

    return router


def _describing(service: Service, app: FastAPI) -> APIRouter:
    catalog = service.catalog
    router = APIRouter(responses=problems((401,)), tags=["tasks"])
    scrape = asyncio.Lock()  # one at a time, so that scrapes leave the other threads of the pool free

    @router.get("/v1/tasks")
    async def tasks() -> TaskList:
        """List the tasks that are served."""
        served = [summary_of(name, task) for name, task in sorted(catalog.served.items())]
        refused = {name: discreet(why, service.hidden) for name, why in catalog.refused.items()}
        return TaskList(tasks=served, aliases=catalog.aliases, refused=refused)

    @router.get("/v1/tasks/{task}", responses=problems((404, 422)))
    async def detail(task: str) -> TaskDetail:
        """Describe a task: its card, the schema of its inputs, an example."""
        name = catalog.resolve(task)
        return detail_of(name, catalog.served[name])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Return the metrics of the server for Prometheus."""
        async with scrape:
            return PlainTextResponse(await run_in_threadpool(service.engine.metrics.text))

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return await run_in_threadpool(lambda: JSONResponse(document(app, catalog)))

    return router


def _managing(service: Service) -> APIRouter:
    catalog = service.catalog
    refusals = problems((401, 404, 422))
    router = APIRouter(prefix="/v1", responses=refusals, tags=["admin"])

    @router.put("/tasks/{task}")
    async def load(task: str) -> TaskDetail:
        """Load a task from the server's folder, or load it again; if that fails, the one that was served stays."""
        await run_in_threadpool(catalog.load, task)
        return detail_of(task, catalog.served[task])

    @router.delete("/tasks/{task}", status_code=204)
    async def drop(task: str) -> None:
        """Stop serving a task; its folder stays."""
        await run_in_threadpool(catalog.drop, task)

    @router.put("/aliases/{alias}", status_code=204)
    async def point(alias: str, to: Alias) -> None:
        """Point an alias to another version, at once."""
        await run_in_threadpool(catalog.point, alias, to.version)

    return router
