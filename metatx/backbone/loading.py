"""Loading of a frozen backbone by name, and the folder that a backbone is saved in."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metatx.backbone.base import Backbone
from metatx.backbone.devices import device_of
from metatx.backbone.names import KNOWN, Precision, absolute_name, backbones
from metatx.backbone.precision import set_precision
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.disk.weight_files import file_sha256, read_tensors, unshared
from metatx.files import folder_written_whole

if TYPE_CHECKING:
    from metatx.backbone.zoo import Source

__all__ = ["backbone_folder", "backbones", "load_backbone", "repository", "save_backbone"]

FORMAT = "metatx-backbone"
NANO = Path(__file__).parents[1] / "nano"


class _OtherError(ValueError):
    """A folder holds another kind of model."""


def load_backbone(
    spec: str,
    *,
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
    precision: Precision | None = None,
    device: str | torch.device = "cpu",
) -> Backbone:
    """Build the frozen backbone that ``spec`` names, with float32 weights.

    Args:
        spec: One of ``backbones()``; of a folder, the backbone's ``spec`` is the absolute path.
        checkpoint: Local file of weights in the spec's layout, read instead of the published ones.
        pretrained: False for random weights in the same shape, always the same: the control.
        precision: Number format in which its blocks compute, with weights that are packed for it once: fp32, bf16,
            int8, or auto, which is bf16 where the hardware has it. None computes as PyTorch's layers do. See
            ``metatx.backbone.precision.set_precision``.
        device: Device of the weights, on which all tasks of the backbone compute: cpu, cuda, cuda:N, mps; auto takes a
            GPU where torch finds one. A backbone on the CPU moves to the GPU, if there is one, when a task is trained.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        OSError: If published weights cannot be fetched.
        ValueError: If the spec is unknown or of an architecture that cannot be used, if the file is damaged or does not
            fit the spec, or if the weights were trained with another activation; if the precision is unknown, or there
            is no such device.

    Example:
        >>> backbone = metatx.load_backbone("nano")
        >>> backbone.dim, backbone.frozen
        (192, True)
    """
    place = device_of(device)
    return set_precision(_load(spec, checkpoint, pretrained).to(place), precision)


def _load(spec: str, checkpoint: str | Path | None, pretrained: bool) -> Backbone:
    if checkpoint is not None and not pretrained:
        raise ValueError("Give a checkpoint or pretrained=False, not both.")
    spec = absolute_name(spec)
    folder = backbone_folder(spec)
    if folder is None:
        return _from_source(spec, checkpoint, pretrained)
    if checkpoint is not None:
        raise ValueError(
            f"{spec} has its own weights; a checkpoint goes with open_clip, timm, transformers or meta-transformer."
        )
    return _read_folder(folder, spec, pretrained)


def backbone_folder(spec: str) -> Path | None:
    """Folder of ``nano``, or the folder that ``spec`` names; None for other specs."""
    if spec == "nano":
        return NANO
    return Path(spec) if os.path.isdir(spec) else None  # Path.is_dir raises for a long text


def repository(backbone: Backbone) -> str | None:
    """Repository of the backbone's weights on the Hugging Face hub; None where it has none."""
    kind, _, name = backbone.spec.partition(":")
    if not name or not backbone.pretrained:
        return None
    from metatx.backbone.zoo import REPOSITORIES

    return REPOSITORIES[kind](name) if kind in REPOSITORIES else None


def _from_source(spec: str, checkpoint: str | Path | None, pretrained: bool) -> Backbone:
    # Imported here: timm takes seconds, and a backbone in a folder does not need it.
    from metatx.backbone.zoo import SOURCES
    from metatx.registry import unknown

    kind, colon, name = spec.partition(":")
    if colon and kind not in SOURCES:
        raise ValueError(unknown("source of the backbone", kind, list(SOURCES)))
    if kind not in SOURCES or not name:
        hint = " A model of the Hugging Face hub is named transformers:NAME or timm:NAME." if "/" in spec else ""
        raise ValueError(unknown("backbone", spec, list(KNOWN)) + hint)
    source = SOURCES[kind](name)
    if not pretrained:
        return source.kind(source.config, None, spec=spec)
    if source.mismatch:
        raise ValueError(source.mismatch)
    if checkpoint is None:
        return _converted(spec, source, _download(spec, source))
    tensors = read_tensors(checkpoint)
    _check_activation(Path(checkpoint), source.config)
    try:
        return _converted(spec, source, tensors)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{checkpoint} does not fit {spec}: {error}") from None


def _converted(spec: str, source: "Source", tensors: Mapping[str, Tensor]) -> Backbone:
    """Backbone of a source's tensors, without an attention pool where they hold none, as heads need not have it."""
    weights = source.convert(tensors, source.config)
    pooled = any(name.startswith("attention_pool.") for name in weights)
    config = source.config
    if config.attention_pool is not None and not pooled:
        config = replace(config, attention_pool=None)
    return source.kind(config, weights, spec=spec)


def _download(spec: str, source: "Source") -> Mapping[str, Tensor]:
    try:
        with torch.random.fork_rng(devices=[]):  # the library may draw initial weights before it loads others
            return source.download()
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"The weights of {spec} could not be fetched ({reason}); give a local checkpoint.") from None


def _check_activation(checkpoint: Path, config: Any) -> None:
    """Refuse a checkpoint if open_clip's config beside it states another activation."""
    beside = checkpoint.with_name("open_clip_config.json")
    if not beside.is_file():
        return
    try:
        settings = json.loads(beside.read_text())["model_cfg"]
        stated = "quick_gelu" if settings.get("quick_gelu", False) else "gelu"
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{beside} is damaged or not open_clip's; it should say the activation.") from None
    # open_clip builds timm's towers with timm's activation, whatever this field says.
    if not isinstance(config, BackboneConfig) or "timm_model_name" in settings.get("vision_cfg", {}):
        return
    if stated != config.activation:
        raise ValueError(
            f"{checkpoint} was trained with {stated}, says {beside.name}, but the backbone asked for has "
            f"{config.activation}; ask for the {'quickgelu' if stated == 'quick_gelu' else 'GELU'} model."
        )


def save_backbone(backbone: Backbone, folder: str | Path, *, about: str, dtype: torch.dtype = torch.float32) -> Path:
    """Write a backbone to a folder that ``load_backbone`` reads; ``config.json`` holds the hash of the weights.

    Args:
        backbone: Backbone of any kind.
        folder: Folder to write; an existing one is replaced.
        about: Origin of the weights, in words, for ``config.json``.
        dtype: Type of the stored weights; they are read as float32.

    Raises:
        OSError: If the folder cannot be written; nothing is changed then.
    """
    from safetensors.torch import save_file

    path = Path(folder)
    kind = {} if backbone.kind is None else {"kind": backbone.kind}
    config: dict[str, Any] = {"format": FORMAT, "version": 1, "weights": about, **kind}
    with folder_written_whole(path) as temporary:
        file = temporary / "model.safetensors"
        weights = {name: weight.detach().to("cpu", dtype) for name, weight in backbone.named_weights()}
        save_file(unshared(weights), file)
        file.chmod(0o644)  # safetensors makes it readable by its owner only
        config |= {"sha256": file_sha256(file), "backbone": backbone.config.to_dict()}
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return path


def _read_folder(folder: Path, spec: str, pretrained: bool) -> Backbone:
    place = folder / "config.json"
    try:
        content: dict[str, Any] = json.loads(place.read_text())
        if "format" not in content and "model_type" in content:
            raise _OtherError(f"{folder} holds a model of transformers; name it transformers:{folder}.")
        if content["format"] != FORMAT or content["version"] != 1:
            raise KeyError
        sha256 = str(content["sha256"]) if "sha256" in content else None  # older folders have none
        kind = _kind(content.get("kind"))
        config = kind.config_type.from_dict(content["backbone"])
    except FileNotFoundError:
        raise ValueError(f"{folder} is no backbone: it has no config.json.") from None
    except _OtherError:
        raise
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{place} is damaged, or not a backbone's of a version known here.") from None
    if not pretrained:
        return kind(config, None, spec=spec)
    weights = read_tensors(folder / "model.safetensors", sha256=sha256)
    try:
        # Mapped: such a folder is only replaced as a whole; a process that has the old file open keeps it.
        return kind(config, weights, spec=spec, mapped=True)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} is damaged: {error}") from None


def _kind(name: str | None) -> type[Backbone]:
    """Class of the backbone that a folder holds; a Vision Transformer's names no kind. Raises KeyError if unknown."""
    if name is None:
        return VisionTransformer
    if name == "language":
        from metatx.backbone.language import LanguageBackbone

        return LanguageBackbone
    if name != "timm_blocks":
        raise KeyError(name)
    from metatx.backbone.timm_blocks import TimmBlocks  # timm takes seconds

    return TimmBlocks
