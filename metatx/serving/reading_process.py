"""Process that reads files of strangers: a file and a task come in, encoded samples go out."""

import json
import os
import tempfile
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
from safetensors.torch import save

from metatx.disk.weight_files import unshared
from metatx.encoding.columns import raw_samples
from metatx.errors import BoundError
from metatx.inputs.inputs import Inputs
from metatx.pool.requests import read
from metatx.serving.file_checks import check_file, of_input
from metatx.serving.limits import RefusedError
from metatx.serving.samples import received
from metatx.serving.sandbox import Sandbox, grown
from metatx.serving.skeleton import from_skeleton
from metatx.task import Task

__all__ = ["Order", "work"]

TASKS = 32  # tasks that a process remembers
FILES = 500  # files after which a process is replaced, for libraries leak
START = 60.0  # seconds of CPU time that a task may take to be ready
TRACE = 1500  # characters of a traceback


@dataclass(frozen=True, kw_only=True)
class Order:
    """Order to read a file, a value that came as JSON, or a sample of several inputs.

    Attributes:
        task: Number of the task, see ``Readers``.
        skeleton: Task as bytes, if the process does not know its number yet; None otherwise.
        path: Path of the file; None for a value.
        value: JSON of the value.
        files: Paths of the files of inputs, by the name of the input; the other inputs are in ``value``.
        extents: True if the head needs the extents of samples.
        most: Largest number of samples in the file.
    """

    task: int
    skeleton: bytes | None
    path: str | None = None
    value: bytes = b""
    files: Mapping[str, str] = field(default_factory=dict)
    extents: bool
    most: int


def work(channel: Connection, folder: str, readable: Sequence[str], megabytes: float, seconds: float) -> None:
    """Carry out orders to read, one after the other, until the channel is closed.

    The answer to an order is a head as JSON and tensors as safetensors, never pickle: a file that takes this process
    over must not take over the server as well.

    Args:
        channel: Connection to the server.
        folder: The one folder that the process may write to.
        readable: Files and folders that it may read.
        megabytes: Memory for reading a file, see ``Sandbox``.
        seconds: CPU time for reading a file, see ``Sandbox``.
    """
    tempfile.tempdir = folder
    sandbox = Sandbox(folder, readable, megabytes, seconds)
    start = grown()
    tasks: OrderedDict[int, Task] = OrderedDict()
    files = 0
    while True:
        try:
            order: Order = channel.recv()  # unpickled: the server is trusted
        except EOFError:
            return
        if order.skeleton is not None:
            sandbox.renew(START)
            tasks[order.task] = _made_ready(order.skeleton)
        sandbox.renew()
        head, tensors = _answer(order, tasks)
        files += "unknown" not in head
        # Files leave memory behind, which would be missing when the next one is read.
        head["last"] = "memory" in head or files == FILES or grown() - start > megabytes / 2
        channel.send_bytes(json.dumps(head).encode())
        channel.send_bytes(tensors)
        if head["last"]:
            return


def _made_ready(content: bytes) -> Task:
    """Load a task, and read the example of its schema: so the first file does not pay for what the task imports."""
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
        expected = isinstance(error, ValueError)
        status = error.status if isinstance(error, RefusedError) else 413 if isinstance(error, BoundError) else 422
        # The path of the file is left out: it tells about the server.
        reason = str(error) if expected else "It cannot be read; it is damaged."
        for path in order.files.values():
            reason = reason.replace(f"{os.path.dirname(path)}/", "")
        if order.path:
            folder, name = os.path.split(order.path)
            reason = reason.replace(f"{folder}/", "").removeprefix(f"{name}: ")
        return {"status": status, "reason": reason, "trace": "" if expected else traceback.format_exc()[-TRACE:]}, b""


def _encoded(order: Order, task: Task) -> tuple[dict[str, Any], bytes]:
    if order.path is None:
        samples: Sequence[Any] = [_sample(order, task)]
    else:
        check_file(Path(order.path), task.tokenizer)
        samples = task.queries(order.path)
    if len(samples) > order.most:
        raise RefusedError(
            413, f"The file holds {len(samples):,} samples; the request may hold {order.most:,} more at most."
        )
    encoded = [read(task, [sample], [0], order.extents) for sample in samples]
    tensors = {f"{at}.{name}": tensor for at, ([fields], _) in enumerate(encoded) for name, tensor in fields.items()}
    head = {"fields": [list(fields) for [fields], _ in encoded], "extents": [extents for _, extents in encoded]}
    return head, save(unshared(tensors))


def _sample(order: Order, task: Task) -> Any:
    """Raw sample of the value, with the files of its inputs."""
    sample = received(orjson.loads(order.value), task)
    tokenizer = task.tokenizer
    for name, path in order.files.items():
        assert isinstance(tokenizer, Inputs)
        part = tokenizer.tokenizer(name)
        with of_input(name):
            check_file(Path(path), part)
            values = raw_samples(path, part, task.head, [])
            if len(values) != 1:
                raise RefusedError(422, f"The file holds {len(values):,} samples; expected one.")
            sample[name] = values[0]
    return sample
