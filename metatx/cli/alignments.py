"""Alignments that commands name, with the text encoders that are their anchors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment

__all__ = ["load_alignment"]


def load_alignment(name: str, anchor: Mapping[str, str] | None, device: str) -> "Alignment":
    """Load the alignment of a folder, or nano, with the encoders of its anchors.

    Args:
        name: Folder of the alignment, or nano.
        anchor: Folder of the text encoder that is the anchor of a modality, by modality.
        device: Name of the device, see ``load_backbone``.

    Raises:
        ValueError: If the alignment has no such anchor, a folder holds no text encoder or another than it had, or
            there is no such device.
    """
    from metatx.backbone.devices import device_of, tell_device
    from metatx.pretraining.alignment import Alignment
    from metatx.pretraining.encoders import sentence_encoder
    from metatx.pretraining.towers import ExternalTower
    from metatx.registry import unknown

    place = tell_device(device_of(device))
    encoders = {modality: sentence_encoder(folder) for modality, folder in (anchor or {}).items()}
    loaded = Alignment.from_pretrained(name, encoders=encoders)
    anchors = [modality for modality, tower in loaded.towers.items() if isinstance(tower, ExternalTower)]
    for modality in encoders:
        if modality not in anchors:
            raise ValueError(unknown(f"anchor of {name} in --anchor", modality, anchors))
    loaded.backbone.to(place)
    return loaded.to(place)
