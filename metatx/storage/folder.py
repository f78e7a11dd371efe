"""Task on disk: ``config.json``, ``model.safetensors``, ``adapter/`` or ``backbone/``, and a card; never pickle."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import metatx
from metatx.adapters.peft_format import read_adapter, write_adapter
from metatx.adapters.tiers import SHARED, TIERS, own_copy
from metatx.backbone.base import Backbone, check_backbone
from metatx.backbone.devices import device_of
from metatx.backbone.loading import load_backbone, repository, save_backbone
from metatx.component import Component
from metatx.disk.building import Building, check_shapes
from metatx.disk.task_files import (
    ADAPTER,
    BACKBONE,
    BOUNDS,
    WEIGHTS,
    check_finite,
    config_text,
    damage,
    plain_file,
    read_shapes,
    stored_bytes,
    within_bounds,
)
from metatx.disk.weight_files import unshared
from metatx.encoding.head_choice import build_tokenizer, create_head
from metatx.errors import TaskError, short
from metatx.files import folder_written_whole
from metatx.inputs.through import Others, backbones_by_name, check_needed
from metatx.layers.novelty import Distance, Novelty
from metatx.model import Model
from metatx.registry import COMPOSITE, all_options, create, fact_names, lookup, option_names
from metatx.settings import TrainingSettings
from metatx.storage.card import model_card
from metatx.storage.config import FORMAT, VERSION, describe, upgraded
from metatx.storage.others import check_others, others_of

__all__ = ["Record", "check", "describe", "load", "modalities", "read", "save", "write"]

COMPONENTS = ("tokenizer", "head")
STORED_PARTS = (*COMPONENTS, "fusion", "norm", "novelty")  # parts whose tensors are in the file of weights
OWN_BACKBONE_TIERS = ("full", "merged")  # values of ``tune`` of a task that has its own backbone
EXTERNAL_PREFIXES = ("adapter.", "own_backbone.")  # prefixes in the state dict of tensors that have their own folder


@dataclass(frozen=True, kw_only=True)
class Record:
    """Facts of a task that its folder keeps beside the model.

    Attributes:
        inputs: Columns of a table that make up a sample.
        target: Column of a table that is predicted; None without one.
        settings: Settings of the task; the folder keeps their precision only.
        metrics: Values of metrics by name, for the task ("metatx") and each baseline.
        about: Facts for the card, where known: data, dataset (on the hub), split, license.
    """

    inputs: Sequence[str]
    target: str | None
    settings: TrainingSettings
    metrics: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)


def save(model: Model, record: Record, folder: Path) -> Path:
    """Write a task to ``folder``; see ``Task.save_pretrained``."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").exists()):
        raise ValueError(f"{folder} exists and is no task; nothing was written. Choose another folder.")
    with folder_written_whole(folder) as temporary:
        write(model, record, temporary, "FOLDER")
    return folder


def write(model: Model, record: Record, folder: Path, name: str) -> None:
    """Write all files of a task into an empty folder; the card calls it ``name``."""
    from safetensors.torch import save_file

    config = {
        "format": FORMAT,
        "version": VERSION,
        "metatx": metatx.__version__,
        "backbone": {
            "spec": model.backbone.spec,
            "fingerprint": model.backbone.fingerprint,
            "attention_pool": model.backbone.attention_pool_fingerprint if model.head.pooling == "attention" else None,
            "dim": model.backbone.dim,
            "pretrained": model.backbone.pretrained,
            "repository": repository(model.backbone),
        },
        "tokenizer": _saved(model.tokenizer),
        "tune": model.tune,
        "adapter": model.adapter and model.adapter.options,
        "trainable_parameters": model.trainable_parameters,
        "fusion": model.fusion and _saved(model.fusion),
        "head": {**_saved(model.head), "note": _note(model)},
        "inputs": list(record.inputs),
        "target": record.target,
        "precision": record.settings.precision,
        "metrics": dict(record.metrics),
        "about": dict(record.about),
    }
    (folder / "config.json").write_text(config_text(config))
    stored = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(EXTERNAL_PREFIXES)}
    save_file(unshared(stored), folder / "model.safetensors")
    if model.adapter is not None:
        write_adapter(model.adapter, folder / "adapter")
    if not model.backbone.frozen:
        save_backbone(model.backbone, folder / "backbone", about=f"of a task, {model.tune} from {model.backbone.spec}")
    (folder / "README.md").write_text(model_card(config, name))


def _note(model: Model) -> str:
    """Sentences for users in the card."""
    notes = [model.head.card_note(), "" if model.novelty is None else model.novelty.card_note()]
    return " ".join(note for note in notes if note)


def _saved(component: Component) -> dict[str, Any]:
    if not component.name:
        raise ValueError(
            f"{type(component).__name__} has no name by which a saved task finds it again; nothing was written. "
            'Register it, as in @metatx.register_tokenizer("mine").'
        )
    return {"name": component.name, "options": all_options(component), "fitted": dict(component.fitted)}


def modalities(config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Modality of each input of a task by its name; empty for a task of one modality.

    Args:
        config: Config from ``describe``.
        folder: Folder of the task, for the message.

    Raises:
        TaskError: If the inputs are not described.
    """
    if config["tokenizer"]["name"] != COMPOSITE:
        return {}
    inputs = config["tokenizer"]["options"].get("inputs")
    try:
        return {str(each["name"]): str(each["modality"]) for each in inputs}
    except (KeyError, TypeError):
        raise TaskError(
            f"{folder}/config.json is damaged: its inputs are {short(inputs)}; expected a list of objects with a name "
            "and a modality each."
        ) from None


def check(
    config: dict[str, Any], folder: Path, backbone: Backbone, fingerprint: str, others: Collection[str] = ()
) -> None:
    """Refuse a task that cannot use a shared backbone, or lacks a file. Headers of files are read, not the weights.

    Args:
        config: Config from ``describe``.
        folder: Folder of the task.
        backbone: Shared backbone.
        fingerprint: Fingerprint of the backbone.
        others: Fingerprints of the backbones that may read inputs first.

    Raises:
        TaskError: If the task has its own backbone, was trained on another one, or is damaged.
    """
    with damage(folder):
        if config["tune"] in OWN_BACKBONE_TIERS:
            raise _own_backbone_error(config, folder)
        _check_fingerprint(config, folder, backbone, fingerprint)
        _check_tier(config, folder)
        check_others(config, folder, others)
        for kind in _components(config):
            _check_known(kind, config[kind]["name"], folder)
        files = (WEIGHTS, *(ADAPTER if config["tune"] != "frozen" else ()))
        _check_there(folder, files)
        for file in files:
            if file.endswith(".safetensors"):
                read_shapes(folder, file)


def load(
    folder: Path, backbone: Backbone | None, others: Others, device: str | torch.device | None = None
) -> tuple[Model, Record]:
    """Read a task as ``read``, with backbones as a user gives them, to the device of its backbone.

    Raises TypeError for what is no backbone, ValueError for one that is not needed, or a device beside a backbone.
    """
    place = device_of(device or "cpu")
    if backbone is not None:
        check_backbone(backbone)
        if device is not None:
            raise ValueError("Give a task its device or its backbone, not both; it computes where the backbone lies.")
    given = backbones_by_name(others)
    model, record = read(folder, backbone, others=given)
    check_needed(given, model.others)
    if device is not None:
        model.backbone.to(place)
        model.to(place)
    return model, record


def read(
    folder: Path,
    backbone: Backbone | None,
    fingerprint: str | None = None,
    others: Mapping[str, Backbone] | None = None,
) -> tuple[Model, Record]:
    """Read a task from its folder; see ``Task.from_pretrained``.

    Args:
        folder: The task's folder.
        backbone: Backbone that the task was trained on; None loads the one that the task names, or its own.
        fingerprint: Fingerprint of ``backbone``, where it is known.
        others: Backbones that read some of several inputs first, as ``backbones_by_name`` returns them; those that are
            not given are loaded.
    """
    config = describe(folder)
    with damage(folder):
        saved = config["backbone"]
        if config["tune"] not in (*TIERS, "merged"):
            raise TaskError(f"{folder} has tune {config['tune']!r:.40}, which is not known here.")
        _check_tier(config, folder)
        if config["tune"] in OWN_BACKBONE_TIERS:
            backbone = _own_backbone(config, folder, backbone)
        elif backbone is None:
            backbone = _load_backbone(saved["spec"], saved.get("pretrained", True), folder)
        _check_fingerprint(config, folder, backbone, fingerprint or backbone.fingerprint)
        _check_there(folder, [WEIGHTS])
        shapes = read_shapes(folder, WEIGHTS)
        _check_names(shapes, folder)
        parts = _parts(config, folder, backbone, others_of(config, folder, others))
        adapter = None
        if config["tune"] in SHARED:
            _check_there(folder, ADAPTER)
            adapter = read_adapter(folder / "adapter", backbone)
        tier = config["tune"] if config["tune"] in OWN_BACKBONE_TIERS else None
        model = Model(backbone, parts["tokenizer"], parts["head"], adapter, tier, parts.get("fusion"))
        model.novelty = _novelty(shapes, model, folder)
        _fill(model, shapes, folder)
        model.trained = True
        settings = TrainingSettings(precision=config["precision"])
        kept = {name: config[name] for name in ("inputs", "target", "metrics", "about")}
        return model.to(backbone.device).eval(), Record(settings=settings, **kept)


def _parts(config: dict[str, Any], folder: Path, backbone: Backbone, others: Mapping[str, Backbone]) -> dict[str, Any]:
    """Build tokenizer and head from their options and facts."""
    parts = {}
    size = stored_bytes(folder / WEIGHTS)
    for kind in _components(config):
        name = config[kind]["name"]
        _check_known(kind, name, folder)
        cls = lookup(f"{kind}s", name)  # type: ignore[arg-type]
        part = upgraded(config[kind], option_names(cls), fact_names(cls))
        options = part["options"]
        said = ", ".join(f"{option} {short(value)}" for option, value in options.items())
        what = f"the {kind} {name} cannot be built with its options ({said or 'none'}): "
        with torch.random.fork_rng(devices=[]), Building(size, folder):
            with damage(folder, what):
                if not within_bounds(options, nested=True):
                    raise ValueError(f"a number is too large; expected {BOUNDS}.")
                if kind == "tokenizer":
                    component: Component = build_tokenizer(name, backbone, options, others)
                elif kind == "head":
                    component = create_head(name, backbone.dim, backbone.stems, options)
                else:
                    component = create(f"{kind}s", name, backbone.dim, **options)  # type: ignore[arg-type]
            with damage(folder, f"the {kind} {name} cannot be built with what it learned: "):
                parts[kind] = component.restore(part["fitted"])
    return parts


def _components(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Parts of a task that are components: a task of one modality has no fusion."""
    return COMPONENTS if config["fusion"] is None else (*COMPONENTS, "fusion")


def _check_there(folder: Path, files: Iterable[str]) -> None:
    """Refuse a task that lacks a file. Raises TaskError."""
    for file in files:
        try:
            plain_file(folder, file)
        except (FileNotFoundError, NotADirectoryError):
            raise TaskError(f"{folder} is damaged: it has no {file}.") from None


def _check_tier(config: dict[str, Any], folder: Path) -> None:
    """Refuse a folder of weights that the task's tier would not read. Raises TaskError."""
    tune = config["tune"]
    unread = {"backbone": tune not in OWN_BACKBONE_TIERS, "adapter": tune == "frozen" or tune in OWN_BACKBONE_TIERS}
    for name, is_unread in unread.items():
        if is_unread and (folder / name).exists():
            raise TaskError(
                f"{folder} is damaged: its tune is {tune!r}, which has no {name}/, but there is one; save the task "
                f"again, or remove {name}/ if it is of another task."
            )


def _check_names(shapes: Mapping[str, Any], folder: Path) -> None:
    """Refuse tensors that belong to no part of a task, before anything is built. Raises TaskError."""
    for name in shapes:
        if name.partition(".")[0] not in STORED_PARTS:
            raise TaskError(f"{folder / WEIGHTS} is damaged: {name:.60} is of no part of a task.")


def _novelty(shapes: Mapping[str, tuple[int, ...]], model: Model, folder: Path) -> Novelty | None:
    """Novelty of a task, as the names of its tensors say; None without one. Raises TaskError."""
    if not any(name.startswith("novelty.") for name in shapes):
        return None
    means = shapes.get("novelty.distance.means")
    if not (means or model.head.has_energy):
        raise TaskError(f"{folder / WEIGHTS} is damaged: a {model.head.name} head has no energy to measure novelty by.")
    return Novelty(Distance(means[0], model.backbone.dim) if means else None)


def _fill(model: Model, shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Load the weights of tokenizer, norm and head."""
    from safetensors.torch import load_file

    state = model.state_dict()
    apart = {name: tensor for name, tensor in state.items() if name.startswith(EXTERNAL_PREFIXES)}
    check_shapes(shapes, {name: tensor for name, tensor in state.items() if name not in apart}, folder / WEIGHTS)
    tensors = load_file(folder / WEIGHTS)
    statistics = {name for name in tensors if name.startswith("novelty.")}
    check_finite(tensors, statistics | {name for name, _ in model.named_parameters()}, folder / WEIGHTS)
    model.load_state_dict({**apart, **tensors})


def _own_backbone(config: dict[str, Any], folder: Path, shared: Backbone | None) -> Backbone:
    if shared is not None:
        raise _own_backbone_error(config, folder)
    _check_there(folder, BACKBONE)
    backbone = own_copy(load_backbone(str(folder / "backbone")))
    weights = dict(backbone.named_weights())
    check_finite(weights, set(weights), folder / "backbone")
    backbone.spec = config["backbone"]["spec"]
    backbone.pretrained = config["backbone"].get("pretrained", True)
    return backbone if config["tune"] == "full" else backbone.requires_grad_(False)


def _own_backbone_error(config: dict[str, Any], folder: Path) -> TaskError:
    return TaskError(
        f"{folder} has its own backbone (tune {config['tune']}), which cannot be shared; load the task without "
        "backbone=."
    )


def _check_fingerprint(config: dict[str, Any], folder: Path, backbone: Backbone, fingerprint: str) -> None:
    saved = config["backbone"]
    if fingerprint != saved["fingerprint"]:
        trained_on = _said(saved["spec"], saved.get("pretrained", True), saved["fingerprint"])
        given = _said(backbone.spec, backbone.pretrained, fingerprint)
        raise TaskError(f"{folder} was trained on backbone {trained_on}, not on {given}.")
    pool = saved.get("attention_pool")
    if pool not in (None, backbone.attention_pool_fingerprint):
        raise TaskError(
            f"{folder} needs the attention pool of {saved['spec']} ({pool[:12]}), not that of {backbone.spec}."
        )


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
