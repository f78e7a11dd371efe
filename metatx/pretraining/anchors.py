"""Anchors of other models: what a folder keeps of their encoders, and which samples they read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metatx.errors import short
from metatx.pretraining.encoders import FrozenEncoder
from metatx.pretraining.towers import ExternalTower, Tower
from metatx.registry import names

__all__ = ["EncoderError", "check_encoder", "encoder_of", "kind_name", "known_by"]


class EncoderError(ValueError):
    """The encoder of an anchor is missing, or is another one."""


def check_encoder(encoder: Any) -> None:
    """Refuse what is no encoder, such as the folder of one. Raises TypeError."""
    if not isinstance(encoder, FrozenEncoder):
        raise TypeError(
            f"encoder is {short(encoder)}; expected a FrozenEncoder, such as sentence_encoder(FOLDER) of "
            "metatx.pretraining.encoders makes."
        )


def kind_name(modality: str, tower: Tower | ExternalTower) -> str | None:
    """Name of the tokenizer whose raw samples an aligned modality takes; None where its encoder does not say it."""
    if isinstance(tower, Tower):
        return tower.tokenizer.name
    return tower.encoder.modality or (modality if modality in names("tokenizers") else None)


def known_by(encoder: FrozenEncoder) -> dict[str, Any]:
    """Facts by which a folder knows an encoder again."""
    return {"name": encoder.name, "fingerprint": encoder.fingerprint, "dim": encoder.dim}


def encoder_of(
    folder: Path, modality: str, written: Mapping[str, Any], encoders: Mapping[str, FrozenEncoder]
) -> FrozenEncoder:
    """Encoder of an anchor among those that a user gives, which must be that of the folder.

    Args:
        folder: Folder of the alignment.
        modality: Aligned modality.
        written: Result of ``known_by``, from the folder.
        encoders: Encoders by modality.

    Raises:
        EncoderError: If it is missing, or another one.
    """
    name = f"{written['name']} (fingerprint {written['fingerprint'][:12]})"
    encoder = encoders.get(modality)
    if encoder is None:
        raise EncoderError(
            f"{modality} of {folder} is an anchor of another model, {name}, whose weights are not in the folder; give "
            f"its encoder: Alignment.from_pretrained({str(folder)!r}, encoders={{{modality!r}: ENCODER}}), and an "
            f"index that alignment; on the command line --alignment {folder} --anchor.{modality} FOLDER."
        )
    if encoder.fingerprint != written["fingerprint"]:
        raise EncoderError(
            f"{modality} of {folder} was aligned with {name}; {encoder.name} (fingerprint {encoder.fingerprint[:12]}) "
            "is another encoder, whose vectors have no place in this space."
        )
    return encoder
