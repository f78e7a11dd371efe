"""A server as a process of its own, and Chromium as another, driven through its pipe."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def server(folder, *options, **environment):
    """``metatx serve`` on a free port, ready: its process and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from metatx.cli import main; main()", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            assert process.poll() is None, process.stderr.read()
            try:
                urllib.request.urlopen(f"{address}/readyz").close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        yield process, address
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


class Browser:
    """One page in headless Chromium, through the DevTools protocol."""

    def __init__(self, program, folder):
        ours, theirs = [os.pipe(), os.pipe()], [3, 4]

        def wire():
            # Copies first: the numbers that Chromium expects may be those of our own ends.
            copies = [os.dup(ours[0][0]), os.dup(ours[1][1])]
            for copy, number in zip(copies, theirs, strict=True):
                os.dup2(copy, number)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        self.process = subprocess.Popen(
            [program, *flags, f"--user-data-dir={folder}", "--window-size=1200,900"],
            preexec_fn=wire,
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0][0])
        os.close(ours[1][1])
        self.sink, self.source = os.fdopen(ours[0][1], "wb", 0), os.fdopen(ours[1][0], "rb")
        self.number, self.session, self.errors = 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.sink.write(json.dumps(message).encode() + b"\0")
        while True:
            found = json.loads(self._message())
            if found.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(found["params"])
            if found.get("id") == self.number:
                assert "error" not in found, found
                return found["result"]

    def _message(self):
        parts = []
        while (byte := self.source.read(1)) != b"\0":
            assert byte, "Chromium is gone"
            parts.append(byte)
        return b"".join(parts)

    def run(self, code):
        """The value of a JavaScript expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, code, seconds=60):
        """Wait until an expression is true."""
        ends = time.monotonic() + seconds
        while not self.run(code):
            assert time.monotonic() < ends, f"never true: {code}"
            time.sleep(0.05)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.sink.close()
        self.source.close()
