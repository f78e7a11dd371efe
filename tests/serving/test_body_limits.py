"""Bodies as they arrive: what is counted, what is refused, what is given back."""

import asyncio

import pytest

from metatx.serving import body_limits
from metatx.serving.admission import FullError
from metatx.serving.body_limits import BodyLimits
from metatx.serving.limits import Limits, RefusedError

FORM = "multipart/form-data; boundary=x"


def scope(client="c", kind=FORM, length=None, method="POST", path="/v1/tasks/a/predict"):
    headers = [(b"content-type", kind.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http", "method": method, "path": path, "headers": headers, "client": (client, 1)}


def coming(*sizes, more=False):
    """Pieces of a body, the last of which ends it, or is followed by nothing."""
    pieces = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]
    pieces[-1]["more_body"] = more

    async def receive():
        return pieces.pop(0) if pieces else await asyncio.Event().wait()

    return receive


async def read(scope, receive, send):
    """An application that reads the whole body."""
    while (await receive()).get("more_body"):
        pass


def asking(front, *sizes, more=False, **options):
    return front(scope(**options), coming(*sizes, more=more), None)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ([400_000] * 3, {}),
        ([10], {"length": 1_000_001}),
        ([90_000] * 2, {"kind": "application/json"}),
        ([10], {"kind": "application/json", "length": 100_001}),
        ([40_000] * 2, {"method": "PUT", "path": "/v1/aliases/x"}),
    ],
)
def test_too_much_is_refused_as_it_comes_or_when_it_is_announced(sizes, options):
    front = BodyLimits(read, Limits(body_mb=1, json_mb=0.1))
    with pytest.raises(RefusedError) as caught:
        asyncio.run(asking(front, *sizes, **options))
    assert caught.value.status == 413 and front.held.total == 0


@pytest.mark.parametrize(("name", "value"), [(b"content-encoding", b"gzip"), (b"transfer-encoding", b"gzip, chunked")])
def test_what_is_packed_is_refused(name, value):
    front = BodyLimits(read, Limits())
    packed = scope()
    packed["headers"].append((name, value))
    with pytest.raises(RefusedError, match="send it uncompressed") as caught:
        asyncio.run(front(packed, coming(10), None))
    assert caught.value.status == 415


def test_what_is_announced_takes_no_room_and_what_has_come_takes_it_until_the_answer():
    seen = []

    async def story():
        gate = asyncio.Event()

        async def app(scope, receive, send):
            await read(scope, receive, send)
            seen.append(front.held.total)
            await gate.wait()

        front = BodyLimits(app, Limits(body_mb=1))
        idle = [asyncio.create_task(asking(front, 0, more=True, length=10**6, client=f"i{n}")) for n in range(50)]
        held = [asyncio.create_task(asking(front, 900_000, length=900_000)) for _ in range(30)]
        await asyncio.sleep(0)
        full = [one for one in held if one.done() and isinstance(one.exception(), FullError)]
        assert 0 < len(full) < 30 and front.held.holds("c") <= 16e6 * 2 / 3
        other = asyncio.create_task(asking(front, 900_000, client="d"))  # others have their share
        await asyncio.sleep(0)
        assert front.held.holds("d") == 900_000
        gate.set()
        await asyncio.gather(other, *held, return_exceptions=True)
        assert front.held.total == 0
        for one in idle:
            one.cancel()

    asyncio.run(story())
    assert seen


@pytest.mark.parametrize("sizes", [[0], [39_000], [100, 100, 100]])
def test_a_body_that_stops_is_408(monkeypatch, sizes):
    monkeypatch.setattr(body_limits, "WINDOW", 0.05)
    front = BodyLimits(read, Limits())
    with pytest.raises(RefusedError) as caught:
        asyncio.run(asking(front, *sizes, more=True))
    assert caught.value.status == 408 and front.held.total == 0


def test_a_body_that_goes_on_may_take_its_time_and_a_slow_server_is_nobodys_fault(monkeypatch):
    monkeypatch.setattr(body_limits, "WINDOW", 0.2)
    sizes = [50_000] * 4

    async def receive():
        await asyncio.sleep(0.15)
        return {"type": "http.request", "body": b"x" * sizes.pop(), "more_body": bool(sizes)}

    async def slow(scope, receive, send):
        while (await receive())["more_body"]:
            await asyncio.sleep(0.3)  # what the server itself takes does not count

    front = BodyLimits(slow, Limits())
    asyncio.run(front(scope(), receive, None))
    assert not sizes
