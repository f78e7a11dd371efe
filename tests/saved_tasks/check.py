"""Compare what saved tasks answer with what they answered when they were saved, to the last bit.

    OMP_NUM_THREADS=1 python -m tests.saved_tasks.check [FOLDER]

The last bits belong to a machine and its packages: where the committed answers came from another, first run
``tests.saved_tasks.make FOLDER`` with the code before the change, then check FOLDER with the code behind it.
"""

import sys
from pathlib import Path

import torch

from tests.saved_tasks.answers import HERE, differences, saved_tasks, shared_backbone


def main(folder: str | Path = HERE) -> int:
    """Print the largest difference of each task in ``folder``; 1 where there is one or no task, else 0."""
    torch.set_num_threads(1)
    folder = Path(folder)
    backbone = shared_backbone()
    apart = {task: max(differences(task, backbone)) for task in saved_tasks(folder)}
    for task, value in apart.items():
        print(f"{value:<8.2g} {task.relative_to(folder)}")
    unequal = sum(value != 0 for value in apart.values())
    print(f"{unequal} of {len(apart)} tasks answer otherwise than when they were saved.")
    return int(unequal > 0 or not apart)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
