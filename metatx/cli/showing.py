"""``metatx list``, ``metatx info`` and ``metatx quickstart``."""

import json
from pathlib import Path
from typing import Literal

from metatx.backbone.names import backbones
from metatx.registry import names, summary
from metatx.storage.card import cell, inputs_of, modalities, way_of
from metatx.storage.config import describe
from metatx.storage.fetching import task_folder, tasks_on_hub

__all__ = ["info", "list_", "quickstart"]


def list_(
    what: Literal["tokenizers", "heads", "fusions", "bridges", "objectives", "backbones"] | None = None,
    *,
    hub: bool = False,
) -> None:
    """List tokenizers (modalities), heads, fusions of inputs, bridges between backbones, objectives, and backbones.

    Args:
        what: Kind to list; by default all six.
        hub: List the tasks on the Hugging Face hub instead, which is asked for them.
    """
    if hub:
        if what is not None:
            raise ValueError(f"--hub lists tasks, not {what}; leave one of them out.")
        for name, tags in tasks_on_hub():
            print(f"{name:<40} {' '.join(tags)}".rstrip())
        return
    for kind in ("tokenizers", "heads", "fusions", "bridges", "objectives"):
        if what in (kind, None):
            print(f"{kind}:")
            for name in names(kind):
                print(f"  {name:<16}{summary(kind, name)}")
    if what in ("backbones", None):
        print("backbones:")
        for name, line in backbones().items():
            print(f"  {name:<28}{line}")


def info(task: str) -> None:
    """Describe a saved task: its parts, columns, backbone and numbers.

    Args:
        task: Folder of the task, or hf:user/task on the Hugging Face hub.
    """
    config = describe(task_folder(task))
    backbone = config["backbone"]
    print(f"{' + '.join(modalities(config))} -> {config['head']['name']}, saved by metatx {config['metatx']}")
    control = "" if backbone.get("pretrained", True) else " with random weights (the control)"
    print(f"backbone   {backbone['spec']}{control}, fingerprint {backbone['fingerprint'][:16]}")
    print(f"tune       {config['tune']}" + "".join(f", {name} {v}" for name, v in (config["adapter"] or {}).items()))
    if "trainable_parameters" in config:
        print(f"trains     {config['trainable_parameters']:,} parameters")
    print(f"reads      {', '.join(config['inputs']) or 'raw samples'}")
    print(f"predicts   {config['target'] or 'what comes next'}")
    inputs = inputs_of(config)
    for each in inputs:
        shared = f", the tokenizer of {each['shares']}" if each["shares"] else ""
        options = f" {json.dumps(each['options'])}" if each["options"] else ""
        print(f"{each['name']:<10} {each['modality']}: {', '.join(each['columns'])}{shared}{options}"[:400])
        if way := way_of(each):
            print(f"{'':<10} read first {way}")
    for part in ("fusion", "head") if inputs else ("tokenizer", "head"):
        name = f"{config[part]['name']} " if part == "fusion" else ""
        print(f"{part:<11}{name}{json.dumps(config[part]['options'])[:400]}")
    if config["head"].get("note"):
        print(f"{'note':<11}{config['head']['note']}")
    width = max(map(len, config["metrics"]), default=0) + 2
    for model, metrics in config["metrics"].items():
        print(f"{model:<{width}}" + "  ".join(f"{name} {cell(value)}" for name, value in metrics.items()))


def quickstart(*, out: str = "runs/quickstart", seed: int = 0) -> None:
    """Take the tour: train three tasks of three modalities on one frozen backbone, then answer one mixed batch.

    Args:
        out: Folder for the three tasks; an older tour there is replaced.
        seed: Seed of weights, splits and order.
    """
    from metatx.cli.quickstart import tour

    tour(Path(out), seed)
