"""A task on disk: ``config.json``, ``model.safetensors``, ``adapter/`` or ``backbone/``, a card. Never pickle."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

import metatx
from metatx.adapters.peft_format import read_adapter, write_adapter
from metatx.adapters.tiers import TIERS, own_copy
from metatx.backbone.loading import load_backbone, repository, save_backbone
from metatx.backbone.vit import Backbone
from metatx.component import Component
from metatx.disk.building import Building, check_shapes
from metatx.disk.task_files import (
    ADAPTER,
    BACKBONE,
    WEIGHTS,
    check_finite,
    damage,
    plain_file,
    read_json,
    read_shapes,
    stored_bytes,
)
from metatx.disk.weight_files import apart
from metatx.encoding.head_choice import build_tokenizer
from metatx.errors import TaskError, short
from metatx.files import folder_written_whole, json_text
from metatx.registry import all_options, create, fact_names, lookup, option_names
from metatx.storage.card import model_card
from metatx.storage.config import checked_config, upgraded

if TYPE_CHECKING:
    from metatx.task import Task

__all__ = ["check", "describe", "read", "save", "write"]

FORMAT = "metatx-task"
VERSION = 3  # 1 knew no tuning, 2 held what was fitted among the options
COMPONENTS = ("tokenizer", "head")
HELD = (*COMPONENTS, "norm")  # parts whose tensors are in the file of weights
OWN_BACKBONE_TIERS = ("full", "merged")  # tunes that leave a task with a backbone of its own
Read = TypeVar("Read", bound="Task")
EXTERNAL_PREFIXES = ("adapter.", "own_backbone.")  # the beginnings of what has a folder of its own


def save(task: "Task", folder: Path) -> Path:
    """Write a task to ``folder``; see ``Task.save_pretrained``."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").exists()):
        raise ValueError(f"{folder} exists and is no task; nothing was written. Choose another folder.")
    with folder_written_whole(folder) as temporary:
        write(task, temporary, "FOLDER")
    return folder


def write(task: "Task", folder: Path, name: str) -> None:
    """Write all files of a task into an empty folder; the card calls it ``name``."""
    from safetensors.torch import save_file

    config = {
        "format": FORMAT,
        "version": VERSION,
        "metatx": metatx.__version__,
        "backbone": {
            "spec": task.backbone.spec,
            "fingerprint": task.backbone.fingerprint,
            "dim": task.backbone.dim,
            "pretrained": task.backbone.pretrained,
            "repository": repository(task.backbone),
        },
        "tokenizer": _saved(task.tokenizer),
        "tune": task.tune,
        "adapter": task.adapter and task.adapter.options,
        "trainable_parameters": task.trainable_parameters,
        "head": {**_saved(task.head), "note": task.head.card_note()},
        "inputs": task.inputs,
        "target": task.target,
        "precision": task.settings.precision,
        "metrics": task.metrics,
        "about": task.about,
    }
    (folder / "config.json").write_text(json_text(config))
    own = {name: tensor for name, tensor in task.state_dict().items() if not name.startswith(EXTERNAL_PREFIXES)}
    save_file(apart(own), folder / "model.safetensors")
    if task.adapter is not None:
        write_adapter(task.adapter, folder / "adapter")
    if not task.backbone.frozen:
        save_backbone(task.backbone, folder / "backbone", about=f"of a task, {task.tune} from {task.backbone.spec}")
    (folder / "README.md").write_text(model_card(config, name))


def _saved(component: Component) -> dict[str, Any]:
    return {"name": component.name, "options": all_options(component), "fitted": dict(component.fitted)}


def describe(folder: Path) -> dict[str, Any]:
    """A task's ``config.json``, checked.

    Raises:
        FileNotFoundError: If there is no such folder.
        TaskError: If it is not a task, of a newer format, or a key is missing or holds something else.
    """
    try:
        there = folder.exists()
    except (OSError, ValueError) as error:  # too long a name, a NUL
        raise FileNotFoundError(f"{folder} cannot be a folder: {getattr(error, 'strerror', error)}.") from None
    if not there:
        raise FileNotFoundError(f"{folder} does not exist.")
    try:
        config = read_json(folder, "config.json")
    except FileNotFoundError:
        raise TaskError(f"{folder} is no task: it has no config.json.") from None
    except NotADirectoryError:
        raise TaskError(f"{folder} is a file; a task is a folder.") from None
    place = f"{folder}/config.json"
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise TaskError(f"{place} is damaged or not a task's.")
    if isinstance(config.get("version"), int) and config["version"] > VERSION:
        raise TaskError(f"{folder} was saved by metatx {config.get('metatx')!r:.40}, a newer one; update metatx.")
    return checked_config(config, place)


def check(config: dict[str, Any], folder: Path, backbone: Backbone, fingerprint: str) -> None:
    """Refuse what cannot stand on a shared backbone, or lacks a part. Reads the heads of the files, not the weights.

    Args:
        config: What ``describe`` gave.
        folder: The task's.
        backbone: That it is to stand on.
        fingerprint: Of the backbone.

    Raises:
        TaskError: If the task has a backbone of its own, was trained on another one, or is damaged.
    """
    with damage(folder):
        if config["tune"] in OWN_BACKBONE_TIERS:
            raise _own_backbone_error(config, folder)
        _check_fingerprint(config, folder, backbone, fingerprint)
        for kind in COMPONENTS:
            _check_known(kind, config[kind]["name"], folder)
        files = (WEIGHTS, *(ADAPTER if config["tune"] != "frozen" else ()))
        _check_there(folder, files)
        for file in files:
            if file.endswith(".safetensors"):
                read_shapes(folder, file)


def read(cls: "type[Read]", folder: Path, backbone: Backbone | None, fingerprint: str | None = None) -> "Read":
    """A task from its folder; see ``Task.from_pretrained``. ``fingerprint`` is the backbone's, where it is known."""
    config = describe(folder)
    with damage(folder):
        saved = config["backbone"]
        if config["tune"] not in (*TIERS, "merged"):
            raise TaskError(f"{folder} has tune {config['tune']!r:.40}, which is not known here.")
        if config["tune"] in OWN_BACKBONE_TIERS:
            backbone = _own_backbone(config, folder, backbone)
        elif backbone is None:
            backbone = _load_backbone(saved["spec"], saved.get("pretrained", True), folder)
        _check_fingerprint(config, folder, backbone, fingerprint or backbone.fingerprint)
        _check_there(folder, [WEIGHTS])
        shapes = read_shapes(folder, WEIGHTS)
        _check_names(shapes, folder)
        parts = _parts(config, folder, backbone)
        adapter = None
        if config["tune"] in ("norm", "lora"):
            _check_there(folder, ADAPTER)
            adapter = read_adapter(folder / "adapter", backbone)
        task = cls(backbone, parts["tokenizer"], parts["head"], config["inputs"], config["target"], adapter)
        _fill(task, shapes, folder)
        task.metrics, task.about, task.trained = config["metrics"], config["about"], True
        task.set_inference(precision=config["precision"])
        return task.to(backbone.device).eval()


def _parts(config: dict[str, Any], folder: Path, backbone: Backbone) -> dict[str, Any]:
    """Tokenizer and head, built from their options."""
    parts = {}
    size = stored_bytes(folder / WEIGHTS)
    for kind in COMPONENTS:
        name = config[kind]["name"]
        _check_known(kind, name, folder)
        cls = lookup(f"{kind}s", name)  # type: ignore[arg-type]
        part = upgraded(config[kind], option_names(cls), fact_names(cls))
        options = part["options"]
        said = ", ".join(f"{option} {short(value)}" for option, value in options.items())
        what = f"the {kind} {name} cannot be built with its options ({said or 'none'}): "
        with damage(folder, what), torch.random.fork_rng(devices=[]), Building(size, folder):
            if kind == "tokenizer":
                component: Component = build_tokenizer(name, backbone, options)
            else:
                component = create("heads", name, backbone.dim, **options)
            parts[kind] = component.restore(part["fitted"])
    return parts


def _check_there(folder: Path, files: Iterable[str]) -> None:
    """Refuse a task that lacks a file. Raises TaskError."""
    for file in files:
        try:
            plain_file(folder, file)
        except (FileNotFoundError, NotADirectoryError):
            raise TaskError(f"{folder} is damaged: it has no {file}.") from None


def _check_names(shapes: Mapping[str, Any], folder: Path) -> None:
    """Refuse tensors that are of no part, before anything is built. Raises TaskError."""
    for name in shapes:
        if name.partition(".")[0] not in HELD:
            raise TaskError(f"{folder / WEIGHTS} is damaged: {name:.60} is of no part of a task.")


def _fill(task: "Task", shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Give tokenizer and head their weights."""
    from safetensors.torch import load_file

    state = task.state_dict()
    apart = {name: tensor for name, tensor in state.items() if name.startswith(EXTERNAL_PREFIXES)}
    check_shapes(shapes, {name: tensor for name, tensor in state.items() if name not in apart}, folder / WEIGHTS)
    tensors = load_file(folder / WEIGHTS)
    check_finite(tensors, {name for name, _ in task.named_parameters()}, folder / WEIGHTS)
    task.load_state_dict({**apart, **tensors})


def _own_backbone(config: dict[str, Any], folder: Path, shared: Backbone | None) -> Backbone:
    if shared is not None:
        raise _own_backbone_error(config, folder)
    _check_there(folder, BACKBONE)
    own = own_copy(load_backbone(str(folder / "backbone")))
    weights = dict(own.named_weights())
    check_finite(weights, set(weights), folder / "backbone")
    own.spec, own.pretrained = config["backbone"]["spec"], config["backbone"].get("pretrained", True)
    return own if config["tune"] == "full" else own.requires_grad_(False)


def _own_backbone_error(config: dict[str, Any], folder: Path) -> TaskError:
    return TaskError(
        f"{folder} has a backbone of its own (tune {config['tune']}), which cannot be shared; load it alone, "
        "without one."
    )


def _check_fingerprint(config: dict[str, Any], folder: Path, backbone: Backbone, fingerprint: str) -> None:
    saved = config["backbone"]
    if fingerprint != saved["fingerprint"]:
        wanted = _said(saved["spec"], saved.get("pretrained", True), saved["fingerprint"])
        found = _said(backbone.spec, backbone.pretrained, fingerprint)
        raise TaskError(f"{folder} was trained on backbone {wanted}, not on {found}.")


def _said(spec: str, pretrained: bool, fingerprint: str) -> str:
    return f"{spec}{'' if pretrained else ' with random weights (the control)'} ({fingerprint[:12]})"


def _check_known(kind: str, name: str, folder: Path) -> None:
    try:
        lookup(f"{kind}s", name)  # type: ignore[arg-type]
    except ValueError:
        raise TaskError(f"{folder} needs the {kind} {name!r}, which is not known here; import it (--plugin).") from None


def _load_backbone(spec: str, pretrained: bool, folder: Path) -> Backbone:
    try:
        return load_backbone(spec, pretrained=pretrained)
    except (ValueError, OSError) as error:
        raise TaskError(
            f"{folder} was trained on {spec}, which cannot be loaded by name ({error}); "
            "load it with load_backbone(..., checkpoint=...) and give it as backbone="
        ) from None
