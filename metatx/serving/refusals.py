"""Responses to errors: a status, and one line that says nothing about the server itself."""

import errno
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import metatx
from metatx.errors import ChangedError, TaskError
from metatx.serving.admission import FullError
from metatx.serving.catalog import UnknownTaskError
from metatx.serving.limits import GONE, RefusedError
from metatx.serving.scheduler import ClosedError

__all__ = ["EMBEDDINGS", "discreet", "places", "refusal"]

LOG = logging.getLogger("metatx.serving")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # full for now, so try again
EMBEDDINGS = "/v1/embeddings"  # path of OpenAI's protocol
STATUS_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}  # of OpenAI's protocol
FAILED = "The server failed to answer this; its log says why."


def places(tasks: Path) -> list[str]:
    """List the folders of this machine that no message may name, the longest first.

    Args:
        tasks: Folder of the tasks.
    """
    code = Path(metatx.__file__).parent
    folders = [tasks, tasks.absolute(), code, code.parent, Path(tempfile.gettempdir()), Path.home(), Path.cwd()]
    folders += [Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path]
    named = {f"{form}/" for path in folders for form in (path, path.resolve()) if form.is_absolute() and form.name}
    return sorted(named, key=len, reverse=True)


def discreet(message: str, hidden: Sequence[str]) -> str:
    """Remove the folders ``hidden`` from a message, so that a file keeps only its name inside them."""
    for place in hidden:
        message = message.replace(place, "")
    return message


def refusal(error: BaseException, hidden: Sequence[str], path: str = "") -> JSONResponse:
    """Make the response to an error; log it if it is the server's fault.

    Args:
        error: Error of any kind.
        hidden: Folders that the message may not name, from ``places``.
        path: Path of the request: a protocol that is not the server's own has its form of errors.
    """
    if isinstance(error, HTTPException) and isinstance(error.__cause__, RefusedError | FullError | ClientDisconnect):
        error = error.__cause__  # raised while FastAPI read a body
    status, message, headers = _known(error)
    if status >= 500 and message in (FAILED, BUSY, DAMAGED):
        LOG.error("a request failed", exc_info=error)
    line = discreet(" ".join(message.split()), hidden)
    return JSONResponse(_content(line, status, path), status, headers=headers)


def _content(line: str, status: int, path: str) -> dict[str, Any]:
    """Content of the response in the protocol that the path belongs to."""
    if path == "/v2" or path.startswith("/v2/"):  # Open Inference Protocol
        return {"error": line}
    if path == EMBEDDINGS or path.startswith("/v1/models"):
        kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
        return {"error": {"message": line, "type": kind, "param": None, "code": STATUS_CODES.get(status)}}
    return {"detail": line}


BUSY = "The server cannot hold this now; try again."
DAMAGED = "The task is damaged on disk; the server's log says how."


def _known(error: BaseException) -> tuple[int, str, dict[str, str]]:
    """Return status, message and headers of the response to an error."""
    match error:
        case RefusedError():
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
            return error.status, str(error), headers
        case UnknownTaskError():
            return 404, str(error), {}
        case FullError():
            return 429, str(error), {"Retry-After": str(error.seconds)}
        case ClosedError():
            return 503, str(error), {"Connection": "close", "Retry-After": "5"}
        case TimeoutError():
            return 504, "The request was not answered in time.", {}
        case ClientDisconnect():
            return GONE, "The client is gone.", {}
        case RequestValidationError():
            return 422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()), {}
        case HTTPException():
            return error.status_code, str(error.detail), dict(error.headers or {})
        case ChangedError():
            return 503, str(error), {}
        case TaskError():
            return 503, DAMAGED, {}
        case ValidationError():  # raised for the server's answer, not for the request
            return 500, FAILED, {}
        case ValueError():
            return 422, str(error), {}
        case MemoryError():
            return 503, BUSY, {"Retry-After": "5"}
        case OSError() if error.errno in FULL:
            return 503, BUSY, {"Retry-After": "5"}
    return 500, FAILED, {}
