"""Limits of one request, so that none can stall or fill the server."""

from dataclasses import dataclass

__all__ = ["GONE", "SHORT", "Limits", "RefusedError"]

GONE = 499  # status of a request whose client closed the connection (nginx's number); only the metrics see it
SHORT = 2048  # tokens of a sample that is taken however slow the machine is


class RefusedError(ValueError):
    """Error of a request that is beyond a limit, or of a kind that is not taken.

    Attributes:
        status: Status of the HTTP response.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a request.

    Attributes:
        body_mb: Megabytes (10^6 bytes) of the body.
        json_mb: Megabytes of JSON in the body, which is slower to read than files.
        samples: Number of samples; a file may hold many.
        tokens: Number of tokens of one sample.
        pass_seconds: Seconds that one sample may occupy the model, for nobody else is answered meanwhile; samples of at
            most ``SHORT`` tokens are always taken.
        reader_mb: Megabytes of memory for reading one file; limits on its content are in ``metatx.reading.bounds``.
        reader_seconds: Seconds of CPU time for reading one file.
        wait: Seconds until a request must be answered, reading its body included.
    """

    body_mb: float = 64.0
    json_mb: float = 8.0
    samples: int = 1024
    tokens: int = 16_384
    pass_seconds: float = 2.0
    reader_mb: float = 2000.0
    reader_seconds: float = 10.0
    wait: float = 30.0
