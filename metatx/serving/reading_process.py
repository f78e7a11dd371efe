"""What runs in the process that reads a stranger's files: a file and a task come in, encoded samples go out."""

import json
import os
import tempfile
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
from safetensors.torch import save

from metatx.disk.weight_files import unshared
from metatx.errors import BoundError
from metatx.pool.requests import read
from metatx.serving.file_checks import check_file
from metatx.serving.limits import RefusedError
from metatx.serving.samples import received
from metatx.serving.sandbox import Sandbox, grown
from metatx.serving.skeleton import from_skeleton
from metatx.task import Task

__all__ = ["Order", "work"]

TASKS = 32  # that a process remembers
FILES = 500  # after which a process gives way to a fresh one, for libraries leak
START = 60.0  # seconds of a processor that a task may take to be ready
TRACE = 1500  # characters of a traceback


@dataclass(frozen=True, kw_only=True)
class Order:
    """A file to read, or a value that came as JSON.

    Attributes:
        task: A number that stands for the task.
        skeleton: Of the task, where it is not known yet.
        path: Of the file; None: it is a value.
        value: As JSON.
        extents: Whether the head's further arguments are wanted.
        most: Samples that it may hold.
    """

    task: int
    skeleton: bytes | None
    path: str | None = None
    value: bytes = b""
    extents: bool
    most: int


def work(channel: Connection, folder: str, readable: Sequence[str], megabytes: float, seconds: float) -> None:
    """Read the files that are ordered, one after the other, until the channel is closed.

    To each order go back a head as JSON and tensors as safetensors, never pickle: a file that takes this process over
    must not have the server as well.
    """
    tempfile.tempdir = folder
    sandbox, start = Sandbox(folder, readable, megabytes, seconds), grown()
    tasks: OrderedDict[int, Task] = OrderedDict()
    files = 0
    while True:
        try:
            order: Order = channel.recv()  # from the server, which is trusted
        except EOFError:
            return
        if order.skeleton is not None:
            sandbox.renew(START)
            tasks[order.task] = _made_ready(order.skeleton)
        sandbox.renew()
        head, tensors = _answer(order, tasks)
        files += "unknown" not in head
        # Files leave something behind; it must not be missing when the next one is read.
        head["last"] = "memory" in head or files == FILES or grown() - start > megabytes / 2
        channel.send_bytes(json.dumps(head).encode())
        channel.send_bytes(tensors)
        if head["last"]:
            return


def _made_ready(content: bytes) -> Task:
    """A task that has read the example of its schema: what it imports and loads is not counted on the first file."""
    task = from_skeleton(content)
    with suppress(Exception):  # whatever a plug-in's code raises
        for example in task.tokenizer.json_schema().get("examples", [])[:1]:
            read(task, [received(example, task)], [0], False)
    return task


def _answer(order: Order, tasks: "OrderedDict[int, Task]") -> tuple[dict[str, Any], bytes]:
    try:
        if order.task not in tasks:
            return {"unknown": True}, b""
        tasks.move_to_end(order.task)
        while len(tasks) > TASKS:
            tasks.popitem(last=False)
        return _encoded(order, tasks[order.task])
    except MemoryError:
        return {"memory": True}, b""
    except ImportError:  # the server's fault, not the file's
        return {"failed": traceback.format_exc()[-TRACE:]}, b""
    except Exception as error:
        own = isinstance(error, ValueError)
        status = error.status if isinstance(error, RefusedError) else 413 if isinstance(error, BoundError) else 422
        # Where the file lies here is nobody's business.
        reason = str(error) if own else "It cannot be read; it is damaged."
        if order.path:
            folder, name = os.path.split(order.path)
            reason = reason.replace(f"{folder}/", "").removeprefix(f"{name}: ")
        return {"status": status, "reason": reason, "trace": "" if own else traceback.format_exc()[-TRACE:]}, b""


def _encoded(order: Order, task: Task) -> tuple[dict[str, Any], bytes]:
    if order.path is None:
        samples: Sequence[Any] = [received(orjson.loads(order.value), task)]
    else:
        check_file(Path(order.path), task.tokenizer)
        samples = task.queries(order.path)
    if len(samples) > order.most:
        raise RefusedError(413, f"The file holds {len(samples):,} samples; {order.most:,} are left of the request.")
    found = [read(task, [sample], [0], order.extents) for sample in samples]
    tensors = {f"{at}.{name}": one for at, ([fields], _) in enumerate(found) for name, one in fields.items()}
    head = {"fields": [list(fields) for [fields], _ in found], "extents": [extents for _, extents in found]}
    return head, save(unshared(tensors))
