"""Processes that are killed at a chosen moment: forked from one that has imported all, so that a start costs little."""

import multiprocessing
import os
import signal
import sys

import torch

FORKS = multiprocessing.get_context("forkserver")
IMPORTED = ["metatx.cli", "metatx.experiment", "metatx.storage", "tests.conftest"]
LATER = [
    "torch._dynamo",
    "torchmetrics.classification",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "metatx.tokenizers.tabular",
    "jsonargparse",
]
FORKS.set_forkserver_preload([*IMPORTED, *LATER])  # the later ones else when they are first used


def run_apart(target, *arguments):
    """Call a function of a module in a process of its own; its exit code."""
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def die():
    """As ``kill -9``: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Life:
    """Counts the calls of a process, of Python's functions and of C's, and kills it at the one numbered ``end``.

    So a kill can strike anywhere that calls something, and the number of calls is that of a run, not of a machine.
    """

    def __init__(self, end=None):
        self.calls, self.end = 0, end
        torch.set_num_threads(1)
        sys.setprofile(self._count)

    def _count(self, frame, event, argument):
        self.calls += 1
        if self.calls == self.end:
            die()

    def over(self):
        sys.setprofile(None)
        return self.calls
