"""Sandbox around a process that reads strangers' files: memory, time, programs, the network, other files."""

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
# What libraries look at while they are imported.
SYSTEM = (
    *("/dev/urandom", "/lib", "/lib64", "/proc/cpuinfo", "/proc/meminfo", "/proc/self", "/sys/devices/system", "/usr"),
    *(f"/etc/{name}" for name in ("fonts", "ld.so.cache", "localtime", "mime.types", "os-release", "ssl/openssl.cnf")),
)
FILES = 256  # open at once
# Linux's Landlock: numbers of its calls, which are the same on all machines, and rights over files and folders.
CREATE, ADD, RESTRICT = 444, 445, 446
BENEATH, NO_NEW_PRIVILEGES = 1, 38
WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
FILES_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
TCP, SCOPES = 0b11, 0b11  # from versions 4 and 6: bind and connect; abstract sockets and signals


class Sandbox:
    """Put around this process for good, but for memory and time, which are given anew for each file.

    What the system lacks is left out, see ``lacking``.

    Args:
        folder: The one folder it may write to.
        readable: Files and folders that it may read beside.
        megabytes: Of memory (10^6 bytes) beyond what the process has when a file comes.
        seconds: Of a processor, for a file.
    """

    def __init__(self, folder: str, readable: Iterable[str], megabytes: float, seconds: float) -> None:
        self.megabytes, self.seconds = megabytes, seconds
        for name, most in (("CORE", 0), ("NOFILE", FILES), ("FSIZE", round(megabytes * 1e6))):
            _limit(name, most)
        _keep_to([folder], [*readable, *SYSTEM])
        sys.addaudithook(_refuse)

    def renew(self, spare: float = 0.0) -> None:
        """Give memory and time for the next file, and some seconds to spare."""
        if address := _statm(0):
            _limit("AS", round(address + self.megabytes * 1e6))
        _limit("CPU", math.ceil(sum(os.times()[:2]) + self.seconds + spare))


def lacking() -> list[str]:
    """What this system cannot keep from such a process."""
    found = [] if _statm(0) else ["more memory than it may have"]
    found += [] if find_spec("resource") else ["more time than it may have, but by the server's timeout"]
    return found + ([] if _landlock_version() > 0 else ["files of the server's user"])


def grown() -> float:
    """Memory that the process has, in megabytes (10^6 bytes); 0 where the system does not say."""
    return _statm(1) / 1e6


def loaded_from() -> list[str]:
    """The folders of installed packages, and those from which this process has imported; none inside of another."""
    places = [*filter(_installed, sys.path)]
    for module in list(sys.modules.values()):
        own = getattr(module, "__dict__", {})  # for some answer to any name
        places += [os.path.dirname(own.get("__file__") or ""), *own.get("__path__", ())]
    folders = {os.path.realpath(path) for path in places if os.path.isabs(path)}
    folders.discard("/")
    return [one for one in folders if not any(str(above) in folders for above in Path(one).parents)]


def _installed(path: str) -> bool:
    """Whether a folder of ``sys.path`` holds packages; the working folder, which holds anything, may be in it too."""
    own = os.path.realpath(path).startswith((os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)))
    return own or any(Path(path).glob("*.dist-info"))


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(REFUSED):
        raise PermissionError(f"{event} is refused while a sent file is read")


def _statm(column: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _limit(name: str, most: int) -> None:
    """Set a soft limit; Windows has none."""
    try:
        import resource
    except ImportError:
        return
    kind = getattr(resource, f"RLIMIT_{name}")
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _keep_to(writable: Iterable[str], readable: Iterable[str]) -> None:
    """Refuse this process, libraries in C too, all other files, every program, TCP, signals to others.

    By Landlock, https://docs.kernel.org/userspace-api/landlock.html, as far as this kernel has it.
    """
    version = _landlock_version()
    if version < 1:
        return
    call = _call()
    files = FILES_BY_VERSION[min(version, 3)]
    asked = struct.pack("QQQ", files, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    rules = call(CREATE, asked, 8 if version < 4 else 16 if version < 6 else 24, 0)
    # Nothing may be executed: a library is mapped, not executed.
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
        except OSError:  # not on this machine
            continue
        own = rights if os.path.isdir(path) else rights & (READ_FILE | WRITE_FILE | TRUNCATE)
        call(ADD, rules, BENEATH, struct.pack("=Qi", own, place), 0)
        os.close(place)
