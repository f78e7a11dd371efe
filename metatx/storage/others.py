"""Other backbones of a saved task: those that read some of its inputs first."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from metatx.backbone.base import Backbone
from metatx.disk.task_files import damage
from metatx.errors import TaskError
from metatx.inputs.through import other_backbones
from metatx.registry import COMPOSITE
from metatx.spec import Input

__all__ = ["check_others", "others_of"]


def others_of(
    config: Mapping[str, Any], folder: Path, given: Mapping[str, Backbone] | None = None
) -> dict[str, Backbone]:
    """Backbones that read some of a task's inputs first, by fingerprint.

    Args:
        config: Config from ``describe``.
        folder: Folder of the task, for messages.
        given: Result of ``backbones_by_name``; backbones that are not given are loaded.

    Raises:
        TaskError: If a backbone cannot be loaded, or has other weights.
    """
    inputs = _read_first(config, folder)
    try:
        return other_backbones(inputs, given)[1]
    except TaskError as error:
        raise TaskError(f"{folder}: {error}") from None
    except (ValueError, OSError) as error:
        names = ", ".join(dict.fromkeys(way["backbone"] for each in inputs if (way := each.through)))
        raise TaskError(
            f"{folder} has inputs that another backbone reads first ({names}), which cannot be loaded ({error}); load "
            "it with load_backbone(name, checkpoint=...) and give it as others={name: backbone} (--others NAME=FILE)"
        ) from None


def check_others(config: Mapping[str, Any], folder: Path, fingerprints: Collection[str]) -> None:
    """Refuse a task whose inputs are read by a backbone with none of these fingerprints. Raises TaskError."""
    for each in _read_first(config, folder):
        way = each.through or {}
        if way["fingerprint"] not in fingerprints:
            raise TaskError(
                f"{folder}: input {each.name} is read by backbone {way['backbone']} ({way['fingerprint'][:12]}) "
                "first, which is not here; load it and give it among others=[...] (metatx serve --others NAME=FILE)."
            )


def _read_first(config: Mapping[str, Any], folder: Path) -> list[Input]:
    """Inputs of a task that another backbone reads first. Raises TaskError if they are not described."""
    tokenizer = config["tokenizer"]
    with damage(folder):
        inputs = tokenizer["options"]["inputs"] if tokenizer["name"] == COMPOSITE else []
        read_first = [Input(**each) for each in inputs if each.get("through") is not None]
        for each in read_first:
            if not isinstance((each.through or {}).get("fingerprint"), str):
                raise ValueError(f"through of input {each.name} names no fingerprint")
    return read_first
