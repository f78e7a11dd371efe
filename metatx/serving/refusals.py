"""Errors to responses: a status, and one line that tells nothing of the server itself."""

import errno
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

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

__all__ = ["discreet", "places", "refusal"]

LOG = logging.getLogger("metatx.serving")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # what passes
FAILED = "The server failed to answer this; its log says why."


def places(tasks: Path) -> list[str]:
    """Folders of this machine that no message names, the longest first."""
    code = Path(metatx.__file__).parent
    found = [tasks, tasks.absolute(), code, code.parent, Path(tempfile.gettempdir()), Path.home(), Path.cwd()]
    found += [Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path]
    named = {f"{form}/" for path in found for form in (path, path.resolve()) if form.is_absolute() and form.name}
    return sorted(named, key=len, reverse=True)


def discreet(message: str, hidden: Sequence[str]) -> str:
    """A message without the places, so that a file is named as it is there."""
    for place in hidden:
        message = message.replace(place, "")
    return message


def refusal(error: BaseException, hidden: Sequence[str]) -> JSONResponse:
    """The response to an error.

    Args:
        error: Any.
        hidden: As ``places`` gives them.
    """
    if isinstance(error, HTTPException) and isinstance(error.__cause__, RefusedError | FullError | ClientDisconnect):
        error = error.__cause__  # raised while FastAPI read a body
    status, message, headers = _known(error)
    if status >= 500 and message in (FAILED, BUSY, DAMAGED):
        LOG.error("a request failed", exc_info=error)
    return JSONResponse({"detail": discreet(" ".join(message.split()), hidden)}, status, headers=headers)


BUSY = "The server cannot hold this now; try again."
DAMAGED = "The task is damaged on disk; the server's log says how."


def _known(error: BaseException) -> tuple[int, str, dict[str, str]]:
    """Status, message and headers."""
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
            return 422, "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()), {}
        case HTTPException():
            return error.status_code, str(error.detail), dict(error.headers or {})
        case ChangedError():
            return 503, str(error), {}
        case TaskError():
            return 503, DAMAGED, {}
        case ValidationError():  # of what the server says, not of what it was sent
            return 500, FAILED, {}
        case ValueError():
            return 422, str(error), {}
        case MemoryError():
            return 503, BUSY, {"Retry-After": "5"}
        case OSError() if error.errno in FULL:
            return 503, BUSY, {"Retry-After": "5"}
    return 500, FAILED, {}
