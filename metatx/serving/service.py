"""State of one server: it answers requests of any protocol through the same engine, admission and limits."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from metatx.serving.admission import Asked
from metatx.serving.arrays import NPY
from metatx.serving.arrow import ARROW
from metatx.serving.asking import Question, json_response, question_of, unless_gone
from metatx.serving.body import FORM, content_kind, read_body
from metatx.serving.catalog import Catalog
from metatx.serving.clients import sender
from metatx.serving.engine import Engine, OutputKind
from metatx.serving.indexes import Indexes
from metatx.serving.inputs import Input
from metatx.serving.limits import GONE
from metatx.serving.refusals import places, refusal
from metatx.serving.scheduler import ClosedError
from metatx.serving.streaming import Events

__all__ = ["Service"]

LOG = logging.getLogger("metatx.serving")


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
                if self.watch is not None or not self.loaded:
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

    async def ask(
        self, request: Request, task: str | None, answer: OutputKind, events: Events | None = None
    ) -> Response:
        """Answer a request in the server's own protocol.

        Args:
            request: HTTP request; its body is not read yet.
            task: Name of the task; None if the body names a task for each input.
            answer: Kind of answer.
            events: Events that words are told to, if the client wants them.
        """

        def question(name: str | None) -> Awaitable[Question]:
            return question_of(request, name, answer, self.catalog, self.engine.limits, events)

        name = partial(self.catalog.resolve, task) if task else None
        return await self.exchange(request, name, question, answer, events=events)

    async def exchange(
        self,
        request: Request,
        name: Callable[[], str] | None,
        read: Callable[[str | None], Awaitable[Question]],
        answer: OutputKind = "records",
        *,
        tensors: bool = False,
        events: Events | None = None,
    ) -> Response:
        """Answer a request of any protocol, within the limits.

        Args:
            request: HTTP request; its body is not read yet.
            name: Function that finds the name of the task; None if the body names it.
            read: Function that reads the question to the task of that name.
            answer: Kind of answer by which a request is counted that cannot be read.
            tensors: True if the body holds tensors: its size is the number of samples, which may be files.
            events: Events that words are told to.
        """
        started = time.perf_counter()
        status = 500
        tasks: list[str | None] = []
        self.active += 1
        try:
            self.check_ready()
            task = name() if name else None
            tasks[:] = [task]
            engine = self.engine
            kind = content_kind(request.headers)
            asked = Asked(client=sender(request.scope), task=task, form=tensors or kind in (FORM, NPY, ARROW))
            files = kind == FORM or (tensors and task is not None and bool(self.catalog.served[task].files))
            workers = engine.file_workers if files else engine.json_workers
            async with asyncio.timeout(engine.limits.wait):
                engine.check(asked, workers)
                question = await read(task)
                answer = question.answer

                def inputs() -> list[Input]:
                    parsed = question.inputs()
                    tasks[:] = [item.task for item in parsed]
                    return parsed

                work = engine.answer(replace(asked, size=question.size), workers, inputs, answer, events)
                answered = await unless_gone(request, asyncio.create_task(work))
            response = question.response(*answered)
            status = 200
            return response
        except asyncio.CancelledError:
            status = GONE
            raise
        except Exception as error:
            response = refusal(error, self.hidden, request.url.path)
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
            self.check_ready()
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

    def check_ready(self) -> None:
        """Refuse requests before the tasks are loaded, and while the server stops. Raises ClosedError."""
        if not self.ready:
            raise ClosedError("The server is stopping." if self.draining else "The server is starting.")
