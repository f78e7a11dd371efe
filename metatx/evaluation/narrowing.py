"""A task of several inputs narrowed to some of them, on the same data and splits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from metatx.backbone.names import absolute_name
from metatx.data.arguments import target_name
from metatx.data.tables import find_target
from metatx.errors import SampleError
from metatx.evaluation.splits import Parts, training_part_of
from metatx.examples import Examples
from metatx.inputs.columns import resolved
from metatx.inputs.inputs import Inputs
from metatx.inputs.through import backbones_by_name
from metatx.progress import tell
from metatx.registry import lookup, unknown
from metatx.spec import Input, TaskSpec
from metatx.tokenizer import Tokenizer

__all__ = ["narrowed", "with_any_input"]


def narrowed(spec: TaskSpec, parts: Parts, only: Sequence[str]) -> tuple[TaskSpec, Parts]:
    """Spec and data of a task that reads some of its inputs only; each keeps the columns that it has among all.

    Args:
        spec: Spec of several inputs.
        parts: Result of ``read_parts``.
        only: Names of the inputs that stay.

    Raises:
        ValueError: If there is no such input, or as ``resolved``.
    """
    names = [each.name for each in spec.several]
    for name in only:
        if name not in names:
            raise ValueError(unknown("input", name, names))
    part = training_part_of(parts)
    if isinstance(part, Examples):
        inputs = spec.several
    else:
        target = target_name(spec.target)
        if spec.head is None or lookup("heads", spec.head).needs_target:
            target = find_target(part, target)
        inputs = resolved(spec, part, target)
    kept = [each for each in inputs if each.name in only]
    dropped = [each for each in inputs if each.name not in only]
    gone = {name for each in dropped for name in (each.name, *(each.columns or ()))}
    cut = {split: _without(part, gone) if isinstance(part, Examples) else part for split, part in parts.items()}
    main = spec.main if spec.main in only else None
    owning = _owning(kept, inputs)
    ways = [each.through for each in owning if each.through is not None]
    named = {way.get("fingerprint") for way in ways} | {absolute_name(way["backbone"]) for way in ways}
    given = backbones_by_name(spec.others)
    options: dict[str, Any] = {
        "modality": owning,
        "tokenizer_options": {},
        "main": main,
        "others": {name: other for name, other in given.items() if {absolute_name(name), other.spec} & named},
    }
    if len(kept) == 1:
        # There is nothing to fuse. Late fusion reads the features of a frozen input from the cache; a head that labels
        # places or steps takes early fusion only.
        is_cached = kept[0].frozen and spec.fusion == "late"
        options |= {"fusion": "late" if is_cached else "early", "fusion_options": {}}
    return replace(spec, **options), cut


def _owning(kept: Sequence[Input], inputs: Sequence[Input]) -> list[Input]:
    """Inputs that share tokenizers among themselves; the first takes the place of an owner that is left out."""
    by_name = {each.name: each for each in inputs}
    owners: dict[str, str] = {}
    owning: list[Input] = []
    for each in kept:
        shared = each.shares or each.name
        owner = owners.setdefault(shared, shared if any(other.name == shared for other in kept) else each.name)
        if owner == each.name:
            owning.append(replace(by_name[shared], name=each.name, columns=each.columns))
        else:
            owning.append(replace(each, shares=owner))
    return owning


def _without(examples: Examples, gone: set[str]) -> Examples:
    """Examples without some keys of their samples."""
    samples = [
        {key: value for key, value in sample.items() if key not in gone} if isinstance(sample, Mapping) else sample
        for sample in examples.inputs
    ]
    return replace(examples, inputs=samples)


def with_any_input(tokenizer: Tokenizer, examples: Examples, split: str) -> Examples:
    """Examples that have one of the inputs; tells how many have none."""
    assert isinstance(tokenizer, Inputs)
    kept = [at for at, sample in enumerate(examples.inputs) if _has_any(tokenizer, sample)]
    if len(kept) == len(examples):
        return examples
    names = " and ".join(tokenizer.inputs)
    tell(f"{len(examples) - len(kept):,} of {len(examples):,} samples ({split}) have no {names} and are left out.")
    if not kept:
        raise ValueError(f"No sample of the {split} split has {names}.")
    return examples.select(kept)


def _has_any(tokenizer: Inputs, sample: Any) -> bool:
    if not isinstance(sample, Mapping):
        return True  # refused, with its place, when it is encoded
    try:
        tokenizer.values(sample)
    except SampleError:
        return False
    return True
