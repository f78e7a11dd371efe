"""Adapters on disk in peft's format: ``adapter_config.json`` and ``adapter_model.safetensors``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metatx.adapters.lora import Adapter, LoraLayer, LoraOptions, NormLayer, linear_layers, norm_layers, shortest
from metatx.adapters.scale import ScaleLayer, ScaleOptions
from metatx.backbone.base import Backbone
from metatx.disk.building import Building, check_shapes
from metatx.disk.task_files import check_finite, damage, read_json, read_shapes, stored_bytes
from metatx.disk.weight_files import unshared
from metatx.errors import TaskError, short

__all__ = ["read_adapter", "write_adapter"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
KINDS = {"LORA": "lora", "LN_TUNING": "norm", "IA3": "scale"}
MARKS = {"lora": ".lora_", "norm": ".ln_tuning_layers", "scale": ".ia3_l"}  # behind a layer's name
OPTIONS = {  # name of the option here, by peft's name
    "r": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "use_dora": "use_dora",
    "use_rslora": "use_rslora",
}
# Keys of peft's file that do not change what the adapter computes.
NEUTRAL = {
    *OPTIONS,
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "inference_mode",
    "init_ia3_weights",
    "layers_pattern",
    "layers_to_transform",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "target_modules",
    "task_type",
}


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Write an adapter into a new folder, from which peft loads it onto the same timm model."""
    from peft import IA3Config, LNTuningConfig, LoraConfig
    from safetensors.torch import save_file

    config: LNTuningConfig | LoraConfig | IA3Config
    if adapter.tune == "lora":
        options = adapter.options
        config = LoraConfig(
            target_modules=options["target_modules"],
            inference_mode=True,
            **{theirs: options[ours] for theirs, ours in OPTIONS.items()},
        )
    else:
        # A pattern for whole names: timm's models have other layers whose names end in "norm".
        pattern = "|".join(adapter.names).replace(".", r"\.")
        if adapter.tune == "scale":
            config = IA3Config(target_modules=pattern, feedforward_modules=[], inference_mode=True)
        else:
            config = LNTuningConfig(target_modules=pattern, inference_mode=True)
    folder.mkdir()
    values = {name: sorted(v) if isinstance(v, set) else v for name, v in config.to_dict().items()}
    (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    tensors = {PREFIX + name: tensor for name, tensor in _stored(adapter).items()}
    save_file(unshared(tensors), folder / WEIGHTS, metadata={"format": "pt"})


def read_adapter(folder: str | Path, backbone: Backbone) -> Adapter:
    """Read an adapter for ``backbone`` that metatx or peft wrote; ``task.adapter = ...`` gives it to a task.

    Gains that are equal in all channels of each layer are read as one gain a layer.

    Raises:
        TaskError: If the folder is no adapter, is damaged, or belongs to another backbone or an unknown kind.
    """
    folder = Path(folder)
    try:
        config = read_json(folder, CONFIG)
        shapes = read_shapes(folder, WEIGHTS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TaskError(f"{folder} is damaged, or no adapter: {error.filename} is missing.") from None
    with damage(folder):
        adapter = _read(config, shapes, folder, backbone)
    return adapter.to(next(backbone.parameters()).device)


def _read(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], folder: Path, backbone: Backbone
) -> Adapter:
    from safetensors.torch import load_file

    named = config.get("peft_type") if isinstance(config, dict) else None
    kind = KINDS.get(str(named))
    if kind is None:
        kinds = ", ".join(KINDS)
        raise TaskError(
            f"{folder} is damaged, or no adapter: peft_type is {short(named)}, none of peft's kinds {kinds}."
        )
    options = {ours: config[theirs] for theirs, ours in OPTIONS.items()} if kind == "lora" else {}
    _check_config(config, folder)
    layers: Mapping[str, Any] = norm_layers(backbone) if kind == "norm" else linear_layers(backbone)
    stored = {name.removeprefix(PREFIX): shape for name, shape in shapes.items()}
    adapted = dict.fromkeys(name.partition(MARKS[kind])[0] for name in stored)
    foreign = [name for name in adapted if name not in layers]
    if foreign or not adapted:
        raise TaskError(f"{folder} adapts {', '.join(foreign[:3]) or 'nothing'}, which this backbone does not have.")
    names = [name for name in layers if name in adapted]
    adapter: Adapter
    with Building(stored_bytes(folder / WEIGHTS), folder):
        if kind == "lora":
            chosen = LoraOptions(**options, target_modules=shortest(names, layers))
            adapter = Adapter("lora", {name: LoraLayer(layers[name], chosen) for name in names}, asdict(chosen))
        elif kind == "scale":
            adapter = _scale([layers[name] for name in names], names, per_channel=True)
        else:
            adapter = Adapter("norm", {name: NormLayer(layers[name]) for name in names}, {})
    check_shapes(stored, _stored(adapter), folder)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    check_finite(tensors, set(tensors), folder)
    if kind == "scale":
        per_channel = any(bool((column != column[0]).any()) for column in tensors.values())
        adapter = _scale([layers[name] for name in names], names, per_channel)
        tensors = {name: column[:, 0] if per_channel else column[0] for name, column in tensors.items()}
    adapter.load_state_dict(tensors)
    return adapter


def _scale(layers: Sequence[nn.Linear], names: Sequence[str], per_channel: bool) -> Adapter:
    options = ScaleOptions(per_channel=per_channel)
    parts = {name: ScaleLayer(layer, options) for name, layer in zip(names, layers, strict=True)}
    return Adapter("scale", parts, asdict(options))


def _stored(adapter: Adapter) -> dict[str, Tensor]:
    """Tensors of an adapter by name, with the shapes that peft gives them."""
    if adapter.tune != "scale":
        return adapter.state_dict()
    parts: dict[str, Any] = {name: adapter.get_submodule(name) for name in adapter.names}
    return {f"{name}.ia3_l": part.column().contiguous() for name, part in parts.items()}


def _check_config(config: Mapping[str, Any], folder: Path) -> None:
    for name, value in config.items():
        plain = (name, value) == ("bias", "none") or (name == "init_lora_weights" and value in (True, "gaussian"))
        if value and name not in NEUTRAL and not plain:
            raise TaskError(f"{folder} uses {name}={short(value)} of peft, which metatx does not compute.")
