"""Processes that are killed at a chosen moment: forked from one that has imported all, so that a start costs little."""

import multiprocessing
import os
import signal
import sys
import traceback

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["metatx.cli", "metatx.training.loop", "metatx.task", "tests.conftest", "torch._dynamo"])


def run_apart(target, *arguments):
    """Call a function of a module in a clean process of its own, which has imported the core; its exit code."""
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def forked(target, *arguments):
    """Call a function in a copy of this process, to be used in one that has a single thread; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            target(*arguments)
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die():
    """As ``kill -9``: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Life:
    """Counts the calls of a process, of Python's functions and of C's, and kills it at the one numbered ``end``.

    So a kill can strike wherever something is called, and its moment is one of the run, not of the machine.
    """

    def __init__(self, end=None, diary=None):
        self.calls, self.end, self.diary = 0, end, diary
        sys.setprofile(self._count)

    def _count(self, frame, event, argument):
        self.calls += 1
        if self.calls == self.end:
            sys.setprofile(None)
            with self.diary.open("a") as file:
                file.write(" ".join(_callers(frame)) + "\n")
            die()


def _callers(frame):
    while frame is not None:
        yield frame.f_code.co_qualname
        frame = frame.f_back
