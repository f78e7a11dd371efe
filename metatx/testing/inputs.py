"""Checks of ``metatx.testing.check_inputs``, one function each, in the order of the list at the end."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from metatx.encoding.collate import collate, to_device
from metatx.encoding.head_choice import build_tokenizer
from metatx.fusion import Fusion
from metatx.inputs.inputs import Inputs
from metatx.inputs.merging import fields_of
from metatx.model import Model
from metatx.registry import COMPOSITE
from metatx.sequence import TokenSequence, as_sequence, picked
from metatx.testing.tools import alike, apart, equal, require

__all__ = ["INPUTS_CHECKS", "InputsCase"]

EncodedSample = Mapping[str, Tensor]
MOVED = 0.2  # standard deviation of what is added to each weight, so that gates that start at zero are open


class InputsCase:
    """Model of several inputs, and complete samples of it.

    Attributes:
        model: Copy of the model on the same backbone, in evaluation mode, every trainable weight moved at random.
        samples: Values of the inputs by name, for each sample.
        encoded: The samples, encoded.
        droppable: Names of the inputs that may be missing.
    """

    def __init__(self, model: Model, samples: Sequence[Any]) -> None:
        self.model = copy.deepcopy(model).eval()
        inputs = self.model.tokenizer
        fusion = self.model.fusion
        assert isinstance(inputs, Inputs) and isinstance(fusion, Fusion)
        self.inputs = inputs
        self.fusion = fusion
        with torch.no_grad():
            for weight in self.model.parameters():
                if weight.requires_grad:
                    weight.add_(MOVED * torch.randn_like(weight))
        self.samples = [self.inputs.values(sample) for sample in samples]
        for i, sample in enumerate(self.samples):
            absent = [name for name in self.inputs.inputs if name not in sample]
            require(not absent, f"sample {i} has no {' and no '.join(absent)}; give samples that have every input.")
        self.encoded: list[EncodedSample] = [self.inputs.encode(sample) for sample in self.samples]
        needed = [self.inputs.main] if self.inputs.requires_main else []
        self.droppable = [name for name in self.inputs.inputs if name not in needed]

    @torch.no_grad()
    def read(self, encoded: Sequence[EncodedSample], without: str = "", model: Model | None = None) -> TokenSequence:
        """Sequences that the head reads of a batch.

        Args:
            encoded: Encoded samples.
            without: Input whose sequences are taken out of the batch, before the fusion and the backbone.
            model: Model that reads; by default that of the case.
        """
        model = model or self.model
        batch = to_device(collate([dict(sample) for sample in encoded]), model.device)
        tokens = as_sequence(model.tokenizer(batch))
        tokens = picked(tokens, [source != without for source in tokens.sources or ()]) if without else tokens
        entered = model.fusion.enter(tokens) if model.fusion else tokens
        output = model.backbone(entered, layers=model.head.layers, adapter=model.adapter, exchange=model.fusion)
        return replace(model.fused(output), context={})


def _without(encoded: EncodedSample, name: str) -> EncodedSample:
    return {field: tensor for field, tensor in encoded.items() if not field.startswith(f"{name}.")}


def check_every_input_matters(case: InputsCase) -> None:
    """An input exchanged between two samples changes what the head reads."""
    for name in case.inputs.inputs:
        pairs = [
            (mine, {**_without(mine, name), **{f"{name}.{field}": part for field, part in theirs.items()}})
            for mine in case.encoded
            for other in case.encoded
            if not equal(fields_of(mine, name), theirs := fields_of(other, name))
        ]
        require(bool(pairs), f"all samples have the same {name}; give samples that differ in every input.")
        require(
            any(not alike(case.read([mine]), case.read([changed])) for mine, changed in pairs),
            f"{name} of one sample in the place of another's changes nothing that the head reads; the fusion must read "
            "the tokens of every input.",
        )


def check_a_missing_input_is_dropped(case: InputsCase) -> None:
    """A sample without an input is the sample without its tokens, however it is said that it is missing."""
    for name in case.droppable:
        for i, (sample, encoded) in enumerate(zip(case.samples, case.encoded, strict=True)):
            rest = _without(encoded, name)
            for what, value in (("None", {name: None}), ("absent", {})):
                others = {key: part for key, part in sample.items() if key != name}
                require(
                    equal(case.inputs.encode({**others, **value}), dict(rest)),
                    f"sample {i} with {name} {what} is encoded otherwise than without its fields; a missing input has "
                    "no fields, and nothing stands in its place.",
                )
            require(
                alike(case.read([rest]), case.read([encoded], without=name)),
                f"sample {i} without {name} is read otherwise than with the tokens of {name} taken out; a missing "
                "input has no sequence, and nothing stands in its place.",
            )


def check_neighbours_do_not_matter(case: InputsCase) -> None:
    """A sample is read alone as among others, whatever inputs these lack."""
    batch = [*case.encoded, *(_without(case.encoded[0], name) for name in case.droppable)]
    for i, (found, encoded) in enumerate(zip(apart(case.read(batch)), batch, strict=True)):
        require(
            alike(replace(found, context={}), case.read([encoded])),
            f"sample {i} is read otherwise among others than alone; the fusion must keep samples apart, and take "
            "statistics of a batch in training only.",
        )


def check_the_order_of_inputs_does_not_matter(case: InputsCase) -> None:
    """Before training, inputs listed in another order are read alike; the main input is the same.

    Not those that a causal backbone reads as one text, where the order says who reads whom.
    """
    if case.fusion.causal and case.fusion.fuse_at < case.model.backbone.depth:
        return
    listed = list(case.inputs.inputs.values())
    read = [case.read(case.encoded, model=_untrained(case, order)) for order in (listed, listed[::-1])]
    require(
        alike(*read),
        "the inputs listed in another order are read otherwise; find an input by sequence.sources and self.main, not "
        "by its place, and start what is trained for each at zero.",
    )


def _untrained(case: InputsCase, order: Sequence[Any]) -> Model:
    """Model of the case with inputs in another order, and with the fusion's first weights."""
    model = case.model
    options = {"inputs": [each.as_json() for each in order], "main": case.inputs.main}
    others = {other.fingerprint: other for other in model.others}
    inputs = build_tokenizer(COMPOSITE, model.backbone, options, others).restore(dict(case.inputs.fitted))
    inputs.load_state_dict(case.inputs.state_dict())
    torch.manual_seed(0)
    fusion = type(case.fusion)(case.fusion.dim, **case.fusion.options)
    fusion.restore({**case.fusion.fitted, "inputs": [each.name for each in order]})
    made = Model(model.backbone, inputs, copy.deepcopy(model.head), model.adapter, model.tune, fusion)
    return made.to(model.device).eval()


INPUTS_CHECKS = (
    check_every_input_matters,
    check_a_missing_input_is_dropped,
    check_neighbours_do_not_matter,
    check_the_order_of_inputs_does_not_matter,
)
