"""A script in processes of its own, and what it found."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def launch(command: Sequence[str], script: str, out: Path) -> tuple[Any, subprocess.CompletedProcess[str]]:
    """Run ``command`` on a script that takes ``out`` and writes ``found.json`` there; without GPU, a thread each."""
    (out / "script.py").write_text(script)
    done = subprocess.run(
        [*command, out / "script.py", out],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "METATX_CACHE": str(out / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "found.json").read_text()), done


def on_one_and_two(script: str, folder: Path) -> list[Any]:
    """JSON that a script writes to its first argument in one process, and in two; the second argument is 0 or 3."""
    file = folder / "script.py"
    file.write_text(script)
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    for command in ([sys.executable, file, folder / "1", "0"], [*two, file, folder / "2", "3"]):
        subprocess.run(command, cwd=ROOT, check=True, env=environment, timeout=200)
    return [json.loads((folder / name).read_text()) for name in "12"]
