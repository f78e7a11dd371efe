"""Inputs that another frozen backbone reads first: ``Through``, and the choice of these backbones."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from metatx.backbone.base import Backbone
from metatx.backbone.loading import load_backbone
from metatx.bridge import Bridge
from metatx.errors import TaskError
from metatx.layers.input_norm import input_norm
from metatx.layers.unregistered import Unregistered
from metatx.registry import create
from metatx.sequence import TokenSequence
from metatx.spec import Input
from metatx.tokenizer import Tokenizer

__all__ = ["Through", "other_backbones"]

NAMED = ("backbone", "checkpoint", "pretrained", "fingerprint", "bridge")  # the other keys are options of the bridge


class Through(nn.Module):
    """Way of an input's tokens through another frozen backbone, and over a bridge to tokens of the task's backbone.

    Norm and bridge are trained; the other backbone is shared, and neither copied nor saved.

    Args:
        dim: Width of the task's backbone, D.
        choices: The input's ``through``.
        other: The other backbone, of width E.
        tokenizer: Tokenizer of the input, of width E.

    Attributes:
        norm: Norm of the tokens that enter the other backbone.
        bridge: Bridge behind it.
    """

    def __init__(self, dim: int, choices: Mapping[str, Any], other: Backbone, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._other = Unregistered(other)
        self.norm = input_norm(other, tokenizer)
        options = {name: value for name, value in choices.items() if name not in NAMED}
        bridge: Bridge = create("bridges", choices["bridge"], dim, **options)
        self.bridge = bridge.restore({"width": other.dim})

    @property
    def other(self) -> Backbone:
        """The other backbone."""
        return self._other.module

    def enter(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens (T, E) that enter the other backbone, from those of the tokenizer."""
        return sequence.with_embeddings(self.norm(sequence.embeddings))

    def leave(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens (T', D) for the task's backbone, from the output of the other."""
        crossed: TokenSequence = self.bridge(self.bridge.pool(sequence))
        return crossed

    def forward(self, sequence: TokenSequence) -> TokenSequence:
        """Map the tokenizer's tokens (T, E) to tokens of the task's backbone, (T', D)."""
        return self.leave(self.other(self.enter(sequence)))


def other_backbones(
    inputs: Iterable[Input], given: Mapping[str, Backbone] | None = None
) -> tuple[list[Input], dict[str, Backbone]]:
    """Find the other backbones that inputs are read by.

    Args:
        inputs: Inputs, of which some have ``through``.
        given: Backbones by the name that ``through`` has, or by fingerprint. Others are loaded.

    Returns:
        The inputs, whose ``through`` names the fingerprint too, and the backbones by fingerprint.

    Raises:
        ValueError: If a backbone cannot be loaded, or is not frozen, or one is given that no input names.
        OSError: If its weights cannot be read.
        TaskError: If a backbone has another fingerprint than ``through`` says.
    """
    complete: list[Input] = []
    others: dict[str, Backbone] = {}
    loaded: dict[Any, Backbone] = {}
    for each in inputs:
        if each.through is None:
            complete.append(each)
            continue
        other, fingerprint = _other(each.name, each.through, given or {}, loaded)
        others[fingerprint] = other
        choices = {**each.through, "pretrained": other.pretrained, "fingerprint": fingerprint}
        complete.append(replace(each, through=choices))
    return complete, others


def _other(
    name: str, choices: Mapping[str, Any], given: Mapping[str, Backbone], loaded: dict[Any, Backbone]
) -> tuple[Backbone, str]:
    """Backbone that reads an input first, and its fingerprint; one that is loaded is kept in ``loaded``."""
    spec: str = choices["backbone"]
    wanted: str = choices.get("fingerprint", "")
    if wanted in given:
        return given[wanted], wanted
    other = given.get(spec)
    if other is None:
        options = {"checkpoint": choices.get("checkpoint"), "pretrained": choices.get("pretrained", True)}
        key = spec, *options.values()
        other = loaded.get(key) or load_backbone(spec, **options)
        loaded[key] = other
    if not other.frozen:
        raise ValueError(f"The backbone {spec}, which reads input {name}, trains; give a frozen one.")
    fingerprint = other.fingerprint
    if wanted not in ("", fingerprint):
        raise TaskError(
            f"input {name} was trained on what backbone {spec} ({wanted[:12]}) makes of it, not on that of "
            f"{other.spec} ({fingerprint[:12]}); give that one as others={{{spec!r}: backbone}}"
        )
    return other, fingerprint
