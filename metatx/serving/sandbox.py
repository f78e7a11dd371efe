"""Sandbox of a process that reads files of strangers: bounds on memory, time, programs, the network, other files."""

import ctypes
import math
import os
import struct
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["Sandbox", "grown", "lacking", "loaded_from"]

# Beginnings of the events of ``sys.audit`` that run a program or reach another machine.
REFUSED = (
    *("os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.spawn", "os.startfile", "os.system"),
    *("pty.", "subprocess."),
    *("ftplib.", "http.", "imaplib.", "nntplib.", "poplib.", "smtplib.", "socket.", "telnetlib.", "urllib."),
)
# Files that libraries look at while they are imported.
SYSTEM = (
    *("/dev/urandom", "/lib", "/lib64", "/proc/cpuinfo", "/proc/meminfo", "/proc/self", "/sys/devices/system", "/usr"),
    *(f"/etc/{name}" for name in ("fonts", "ld.so.cache", "localtime", "mime.types", "os-release", "ssl/openssl.cnf")),
)
FILES = 256  # files open at once
# Linux's Landlock: numbers of its system calls, the same on all machines, and rights over files and folders.
CREATE = 444
ADD = 445
RESTRICT = 446
BENEATH = 1
NO_NEW_PRIVILEGES = 38
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
TRUNCATE = 1 << 14
FILES_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
TCP = 0b11  # bind and connect, from version 4
SCOPES = 0b11  # abstract sockets and signals, from version 6


class Sandbox:
    """Bounds of this process. They hold until it ends; memory and time are granted anew for each file.

    Bounds that the system does not know are left out, see ``lacking``.

    Args:
        folder: The one folder that the process may write to.
        readable: Files and folders that it may read.
        megabytes: Megabytes (10^6 bytes) of memory for a file, beyond those that the process has before.
        seconds: Seconds of CPU time for a file.
    """

    def __init__(self, folder: str, readable: Iterable[str], megabytes: float, seconds: float) -> None:
        self.megabytes = megabytes
        self.seconds = seconds
        for name, most in (("CORE", 0), ("NOFILE", FILES), ("FSIZE", round(megabytes * 1e6))):
            _limit(name, most)
        _keep_to([folder], [*readable, *SYSTEM])
        sys.addaudithook(_refuse)

    def renew(self, spare: float = 0.0) -> None:
        """Grant memory and time for the next file, and ``spare`` seconds of CPU time more."""
        if address := _statm(0):
            _limit("AS", round(address + self.megabytes * 1e6))
        _limit("CPU", math.ceil(sum(os.times()[:2]) + self.seconds + spare))


def lacking() -> list[str]:
    """List what this system cannot keep such a process from, in words."""
    missing = [] if _statm(0) else ["taking more memory than it may"]
    missing += [] if find_spec("resource") else ["taking more time than it may, until the server's timeout"]
    return missing + ([] if _landlock_version() > 0 else ["reading files of the server's user"])


def grown() -> float:
    """Return the memory of this process in megabytes (10^6 bytes); 0 if the system does not tell."""
    return _statm(1) / 1e6


def loaded_from() -> list[str]:
    """List the folders of installed packages and of imported modules; none lies inside another."""
    places = [*filter(_installed, sys.path)]
    for module in list(sys.modules.values()):
        attributes = getattr(module, "__dict__", {})  # not getattr: some modules have every attribute
        places += [os.path.dirname(attributes.get("__file__") or ""), *attributes.get("__path__", ())]
    folders = {os.path.realpath(path) for path in places if os.path.isabs(path)}
    folders.discard("/")
    return [folder for folder in folders if not any(str(above) in folders for above in Path(folder).parents)]


def _installed(path: str) -> bool:
    """Return True if a folder of ``sys.path`` holds packages; the working folder may be there too, and holds none."""
    prefixes = (os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix))
    return os.path.realpath(path).startswith(prefixes) or any(Path(path).glob("*.dist-info"))


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(REFUSED):
        raise PermissionError(f"{event} is refused while a sent file is read")


def _statm(column: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _limit(name: str, most: int) -> None:
    """Set a soft limit of the system; Windows has none."""
    try:
        import resource
    except ImportError:
        return
    kind = getattr(resource, f"RLIMIT_{name}")
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _keep_to(writable: Iterable[str], readable: Iterable[str]) -> None:
    """Refuse all other files, every program, TCP, and signals to other processes, to libraries in C too.

    This uses Landlock (https://docs.kernel.org/userspace-api/landlock.html), as far as the kernel has it.
    """
    version = _landlock_version()
    if version < 1:
        return
    call = _call()
    files = FILES_BY_VERSION[min(version, 3)]
    asked = struct.pack("QQQ", files, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    rules = call(CREATE, asked, 8 if version < 4 else 16 if version < 6 else 24, 0)
    # No right to execute is given: libraries are mapped, not executed.
    _allow(call, rules, readable, READ_FILE | READ_DIR)
    _allow(call, rules, writable, files & ~1)
    _allow(call, rules, ["/dev/null"], READ_FILE | WRITE_FILE)
    ctypes.CDLL(None, use_errno=True).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if rules < 0 or call(RESTRICT, rules, 0):
        raise OSError(ctypes.get_errno(), "Landlock refused its rules")
    os.close(rules)


def _landlock_version() -> int:
    return _call()(CREATE, None, 0, 1) if sys.platform == "linux" else 0


def _call() -> Callable[..., int]:
    call: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
    return call


def _allow(call: Callable[..., int], rules: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # this machine does not have it
            continue
        allowed = rights if os.path.isdir(path) else rights & (READ_FILE | WRITE_FILE | TRUNCATE)
        call(ADD, rules, BENEATH, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
