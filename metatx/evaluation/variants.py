"""Variants of a task in a comparison: ways to use the backbone, and ways to fuse several inputs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metatx.backbone.base import Backbone
from metatx.registry import create, lookup, names
from metatx.spec import TaskSpec

__all__ = ["ALIGNED", "VARIANTS", "Variant", "fusion_variants"]


@dataclass(frozen=True)
class Variant:
    """Variant of the task in a comparison: one way to use the backbone, or the inputs.

    Attributes:
        name: Name in the table.
        backbone: Function from the compared backbone to the one of this variant.
        tune: Tier of tuning, as in ``Task.from_data``.
        aligned: True if a token warm-up of ``token_warmup_steps`` comes first.
        fusion: Name of the fusion; None: that of the spec.
        fusion_options: Options of the fusion, besides those of the spec.
        only: Inputs that the task reads; empty: all.
        plan: Name of the variants that share a plan of epochs and samples; empty: those of the same tier.
        candidate: True if the variant may be chosen on the validation split.
    """

    name: str
    backbone: Callable[[Backbone], Backbone]
    tune: str = "frozen"
    aligned: bool = False
    fusion: str | None = None
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    plan: str = ""
    candidate: bool = False

    def spec(self, spec: TaskSpec) -> TaskSpec:
        """Spec of the variant, from that of the comparison."""
        if self.fusion is None:
            return replace(spec, tune=self.tune)
        options = {**spec.fusion_options, **self.fusion_options}
        return replace(spec, tune=self.tune, fusion=self.fusion, fusion_options=options)


def _unchanged(backbone: Backbone) -> Backbone:
    return backbone


def _random(backbone: Backbone) -> Backbone:
    return backbone.randomised()


VARIANTS = (
    Variant("pretrained, frozen", _unchanged),
    Variant("random, frozen", _random),
    Variant("no backbone", Backbone.without_blocks),
    Variant("LayerNorm tuned", _unchanged, tune="norm"),
    Variant("LoRA", _unchanged, tune="lora"),
    Variant("gains tuned", _unchanged, tune="scale"),
)
ALL = "all"  # stands for every fusion
ALIGNED = Variant("aligned first", _unchanged, aligned=True)
CONTROLS: dict[str, Callable[[Backbone], Backbone]] = {", random": _random, ", no backbone": Backbone.without_blocks}


def fusion_variants(spec: TaskSpec, fusions: Sequence[str], backbone: Backbone) -> list[Variant]:
    """Variants of a task of several inputs: each input alone, each left out, and each fusion with its controls.

    Of two inputs, leaving one out is the other alone, which stands in the table once.

    Args:
        spec: Spec of several inputs.
        fusions: Names of fusions, with options behind a colon each: ``"late:product=64:dropout=0.3"``; ``"all"`` for
            every registered one that the backbone can have, that of the spec first.
        backbone: Backbone that is compared.

    Raises:
        ValueError: If there are fewer than two inputs, no fusion has a name, an option is unknown, or the backbone
            cannot have a fusion.
    """
    inputs = [each.name for each in spec.several]
    if len(inputs) < 2:
        raise ValueError(f"Fusions need several inputs; this task reads {spec.said}.")
    parsed = {text: _parsed(text) for each in fusions for text in _named(each, spec.fusion, backbone)}
    for fusion, options in parsed.values():
        made = create("fusions", fusion, backbone.dim, **{**spec.fusion_options, **options})
        if backbone.causal:
            made.check_causal(backbone.spec)
    first = next(iter(parsed))
    fusion, options = parsed[first]
    variants = [Variant(f"{name} alone", _unchanged, only=(name,), plan=f"{name} alone") for name in inputs]
    if len(inputs) > 2:
        for name in inputs:
            title = f"without {name}, {first}"
            rest = tuple(other for other in inputs if other != name)
            variants.append(Variant(title, _unchanged, "frozen", False, fusion, options, rest, title))
    for title, (fusion, options) in parsed.items():
        whole = Variant(title, _unchanged, fusion=fusion, fusion_options=options, plan=title, candidate=True)
        variants.append(whole)
        variants += [
            replace(whole, name=title + control, backbone=changed, candidate=False)
            for control, changed in CONTROLS.items()
        ]
    return variants


def _named(text: str, first: str, backbone: Backbone) -> list[str]:
    """Fusions that a text means, with its options: all that the backbone can have for the name ``ALL``."""
    name, colon, options = text.partition(":")
    every = names("fusions")
    if name != ALL or ALL in every:
        return [text]
    if backbone.causal:
        every = [each for each in every if lookup("fusions", each).on_causal or not lookup("fusions", each).joins]
    return [each + colon + options for each in sorted(every, key=lambda each: (each != first, each))]


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a fusion from ``"name:option=value:option=value"``. Raises ValueError for another form."""
    name, *pairs = text.split(":")
    options: dict[str, Any] = {}
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not option or not equals:
            raise ValueError(f"Fusion {text!r} has the option {pair!r}; expected NAME=VALUE, such as late:product=64.")
        try:
            options[option] = json.loads(value)
        except ValueError:
            options[option] = value
    return name, options
