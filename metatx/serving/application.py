"""HTTP application: endpoints that answer, list and load tasks; health, metrics, a page."""

import asyncio
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from metatx.serving.body_limits import BodyLimits
from metatx.serving.direct import Direct, answered
from metatx.serving.gate import Gate
from metatx.serving.indexes import SEARCH
from metatx.serving.open_inference import open_inference
from metatx.serving.openai import openai_embeddings
from metatx.serving.refusals import discreet, refusal
from metatx.serving.schemas import Alias, TaskDetail, TaskList, detail_of, document, problems, summary_of
from metatx.serving.service import Service

__all__ = ["Service", "create_application"]

PAGES = "page.html", "docs.html"  # served at / and at /docs
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


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
        return refusal(error, service.hidden, request.url.path)

    for error in (HTTPException, RequestValidationError):  # in place of FastAPI's own handlers
        app.add_exception_handler(error, handle)
    app.add_middleware(Direct, service=service)  # the innermost
    app.add_middleware(BodyLimits, limits=service.engine.limits)
    app.add_middleware(Gate, token=service.token, hidden=service.hidden)
    app.include_router(_public(service))
    app.include_router(_asking(service))
    app.include_router(open_inference(service))
    app.include_router(openai_embeddings(service))
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
        return await answered(service, request, None, "predict")  # type: ignore[return-value]

    @router.post("/tasks/{task}/predict")
    async def predict(task: str, request: Request) -> dict[str, Any]:
        """Answer the inputs, in their order.

        With the header `Accept: text/event-stream`, or `"stream": true` in JSON, words come as server-sent events while
        they are written: `data: {"index": 0, "text": " a"}`; the last event is `done`, with all answers, or `error`.
        """
        return await answered(service, request, task, "predict")  # type: ignore[return-value]

    @router.post("/tasks/{task}/embed")
    async def embed(task: str, request: Request) -> dict[str, Any]:
        """Embed the inputs, in their order: vectors of the backbone's width."""
        return await answered(service, request, task, "embed")  # type: ignore[return-value]

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
    ready = [Depends(service.check_ready)]
    scrape = asyncio.Lock()  # one at a time, so that scrapes leave the other threads of the pool free

    @router.get("/v1/tasks", responses=problems((503,)), dependencies=ready)
    async def tasks() -> TaskList:
        """List the tasks that are served."""
        served = [summary_of(name, task) for name, task in sorted(catalog.served.items())]
        refused = {name: discreet(why, service.hidden) for name, why in catalog.refused.items()}
        return TaskList(tasks=served, aliases=catalog.aliases, refused=refused)

    @router.get("/v1/tasks/{task}", responses=problems((404, 422, 503)), dependencies=ready)
    async def detail(task: str) -> TaskDetail:
        """Describe a task: its card, the schema of its inputs, an example."""
        name = catalog.resolve(task)
        return detail_of(name, catalog.served[name])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Return the metrics of the server for Prometheus."""
        async with scrape:
            return PlainTextResponse(await run_in_threadpool(service.engine.metrics.text))

    @router.get("/openapi.json", include_in_schema=False, dependencies=ready)
    async def openapi() -> JSONResponse:
        return await run_in_threadpool(lambda: JSONResponse(document(app, catalog)))

    return router


def _managing(service: Service) -> APIRouter:
    catalog = service.catalog
    refusals = problems((401, 404, 422, 503))
    ready = Depends(service.check_ready)
    router = APIRouter(prefix="/v1", responses=refusals, dependencies=[ready], tags=["admin"])

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
