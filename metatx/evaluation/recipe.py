"""What the recipes share: where a data set lies, and one run a seed with the mean over them."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.evaluation.report import Report
from metatx.layers.folding import NO_STEM
from metatx.training.distributed import processes

if TYPE_CHECKING:
    from metatx.backbone.base import Backbone

__all__ = ["command", "dataset", "over_seeds", "patch_size"]


def command(main: Callable[..., Any]) -> None:
    """Run a recipe from the command line: options from its signature, errors of the user's as one line and exit code 2.

    ``--seeds 0,1`` is read as the list that it is.
    """
    from jsonargparse import auto_cli

    pairs = zip(["", *sys.argv[1:]], sys.argv[1:], strict=False)
    words = [f"[{word}]" if name == "--seeds" and re.fullmatch(r"\d+(,\d+)*", word) else word for name, word in pairs]
    try:
        auto_cli(main, args=words)
    except (ValueError, OSError, ImportError) as error:
        print(f"{Path(sys.argv[0]).name}:", *str(error).split(), file=sys.stderr)
        sys.exit(2)


def dataset(given: str | None, place: str, source: str) -> Path:
    """The folder of a data set: the one given, or ``place`` below the folder that METATX_DATA names (or ``data``).

    Raises:
        FileNotFoundError: If it is not there; says where it can be had.
    """
    path = Path(given) if given is not None else Path(os.environ.get("METATX_DATA", "data")) / place
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Get the data from {source}, and name its folder with --data.")
    return path


def patch_size(backbone: "Backbone") -> int:
    """Side in pixels of the patches that tokenizers of pictures cut for a backbone."""
    return (NO_STEM if backbone.stem is None else backbone.stem.config).patch_size


def over_seeds(seeds: Sequence[int], one: Callable[[int], Report]) -> list[Report]:
    """Run once a seed and print each report; at the end the mean and the standard deviation over the seeds."""
    reports, first = [], processes().is_main_process
    for seed in seeds:
        reports.append(one(seed))
        if first:
            print(reports[-1], end="\n\n", flush=True)
    if len(reports) > 1 and first:
        names = [name for name in reports[0].test if name != "loss"]
        values = {name: [report.test[name] for report in reports] for name in names}
        line = ", ".join(f"{name} {np.mean(found):.4f} ± {np.std(found, ddof=1):.4f}" for name, found in values.items())
        print(f"{reports[0].data}, {len(seeds)} seeds, {reports[0].task.backbone.spec}: {line}", flush=True)
    return reports
