"""Lines and bars: where they go, and how they are silenced."""

import logging
import subprocess
import sys

from metatx.progress import tell


def test_line_reaches_stderr_of_a_program_without_logging():
    code = "from metatx.progress import tell; tell('three boxes were clipped')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "three boxes were clipped\n" and not done.stdout


def test_line_obeys_the_logging_of_the_program(caplog):
    with caplog.at_level(logging.INFO, logger="metatx"):
        tell("heard")
    with caplog.at_level(logging.ERROR, logger="metatx"):
        tell("silenced")
    assert caplog.messages == ["heard"]
