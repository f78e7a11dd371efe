"""What the tests on Ray share: an environment that keeps Ray's files to a test, and a look at its processes."""

import os
import signal
import time
from pathlib import Path

import psutil
import ray

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_TOKEN": "0" * 64,  # else it is a file in the home of the process's first Ray, which the next has not
    "RAY_worker_niceness": "0",  # else its processes get nothing of a busy machine
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",  # then its proxy is started anew
}
STARTS = 3  # Ray gives its node 30 seconds, however busy the machine is


def keep_to(folder, monkeypatch):
    """Let a Ray that is started later have its home in a folder, and this checkout on its path."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def started(start, **options):
    """Start a small Ray by ``ray.init``, once more where that took it too long."""
    before = set(processes())
    for left in reversed(range(STARTS)):
        try:
            return start(num_cpus=2, object_store_memory=100_000_000, **options)
        except Exception:  # a bare one is what a late node raises
            ray.shutdown()
            for number in set(processes()) - before:  # Ray leaves what it had started until Python ends
                os.kill(number, signal.SIGKILL)
            if not left:
                raise


def processes(name=""):
    """Numbers of the running processes below this one whose command has a name in it."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if name in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.NoSuchProcess:  # or a zombie
            continue
    return found


def until(true, seconds=600):
    """Wait until a function says so."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)
