"""Tour: three tasks of three modalities on one backbone, on real data that ships with the dependencies."""

import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metatx.backbone.loading import backbones, load_backbone
from metatx.evaluation.run import run
from metatx.pool.pool import TaskPool
from metatx.settings import TrainingSettings

__all__ = ["tour"]


def tour(out: Path, seed: int) -> None:
    """Train and save the three tasks in ``out``, answer one mixed batch, and print the results.

    Args:
        out: Folder of the tour; an older tour there is replaced.
        seed: Seed of weights, splits and order.

    Raises:
        ValueError: If ``out`` holds something that is not an older tour.
        ImportError: If statsmodels, which brings one of the data sets, is missing.
    """
    if find_spec("statsmodels") is None:
        raise ImportError("The tour forecasts a series that comes with statsmodels: pip install 'metatx[forecast,viz]'")
    _clear(out)
    started = time.perf_counter()
    backbone = load_backbone("nano")
    print(f"One frozen backbone: nano, {backbone.num_parameters:,} parameters. {backbones()['nano']}\n")
    pool = TaskPool(backbone)
    for name, (data, modality, options) in tasks().items():
        settings = TrainingSettings(seed=seed, **options.pop("settings"))
        report = run(data, modality, backbone=backbone, name=name, settings=settings, out=out / name, **options)
        print(report, end="\n\n")
        pool.add(name, out / name / "task")
    _answer(pool)
    sizes = {name: (out / name / "task" / "model.safetensors").stat().st_size for name in tasks()}
    files = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items())
    print(f"\nTask files: {files}; the backbone is shared. All of it took {time.perf_counter() - started:.0f} s.")
    print(f"Next: metatx info {out}/tumours/task")


def tasks() -> dict[str, tuple[Any, str, dict[str, Any]]]:
    """Return data, modality and options of ``run`` for each of the three tasks, by name."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from statsmodels.datasets import co2

    tumours = load_breast_cancer(as_frame=True)
    table = tumours.data.assign(diagnosis=tumours.target.map(dict(enumerate(map(str, tumours.target_names)))))
    digits = load_digits()
    images = (digits.images * (255 / 16)).astype(np.uint8)
    air = co2.load_pandas().data
    weekly = pd.DataFrame({"week": air.index, "co2": air["co2"].to_numpy()})
    return {
        "tumours": (table, "tabular", {"target": "diagnosis", "settings": {"epochs": 20}}),
        "digits": (
            _split(list(images), digits.target.tolist()),
            "image",
            {"head_options": {"layers": 6}, "settings": {"epochs": 60, "lr": 3e-3}},
        ),
        "co2": (
            weekly,
            "time_series",
            {
                "tokenizer_options": {"lookback": 104, "patch_size": 26, "stride": 13},
                "head_options": {"horizon": 26, "season": 52, "dropout": 0.1},
                "settings": {"epochs": 10},
            },
        ),
    }


def _split(samples: list[Any], labels: list[int]) -> dict[str, Any]:
    """Divide samples and labels at random, with a fixed seed, into train (70 %), validation (10 %) and test (20 %)."""
    order = np.random.default_rng(0).permutation(len(samples))
    cuts = np.split(order, [int(0.7 * len(order)), int(0.8 * len(order))])
    return {
        split: ([samples[i] for i in rows], [labels[i] for i in rows])
        for split, rows in zip(("train", "validation", "test"), cuts, strict=True)
    }


def _answer(pool: TaskPool) -> None:
    """Answer one batch with samples of all three tasks, and print the answers."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from statsmodels.datasets import co2

    tumours = load_breast_cancer(as_frame=True)
    digits = load_digits()
    air = co2.load_pandas().data["co2"]
    requests = [
        ("tumours", tumours.data.iloc[0].to_dict()),
        ("digits", (digits.images[-1] * (255 / 16)).astype(np.uint8)),
        ("co2", air.to_numpy()[None, -104:]),
        ("tumours", tumours.data.iloc[-1].to_dict()),
        ("digits", (digits.images[-2] * (255 / 16)).astype(np.uint8)),
    ]
    truth = [
        tumours.target_names[tumours.target[0]],
        digits.target[-1],
        None,
        tumours.target_names[tumours.target.iloc[-1]],
    ]
    truth.append(digits.target[-2])
    print("One mixed batch, one pass through the backbone:")
    for (name, _), answer, true in zip(requests, pool.predict(requests), truth, strict=True):
        if true is None:
            print(f"  {name:<8} next weeks: {', '.join(f'{value:.1f}' for value in answer.ravel()[:4])} ppm, ...")
        else:
            print(f"  {name:<8} {answer} (true: {true})")


def _clear(out: Path) -> None:
    """Remove an older tour, and nothing else."""
    if not out.exists():
        return
    strange = [path.name for path in out.iterdir() if path.name not in ("tumours", "digits", "co2")]
    if strange:
        raise ValueError(f"{out} holds {strange[0]}, which no older tour left there; give another --out.")
    shutil.rmtree(out)
    sys.stdout.flush()
