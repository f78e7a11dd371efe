"""Inputs: a tokenizer of tokenizers, for samples of several inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from metatx.backbone.base import Backbone
from metatx.bridge import Bridge
from metatx.encoding.columns import by_name
from metatx.encoding.head_choice import build_tokenizer
from metatx.errors import SampleError
from metatx.inputs.columns import columns_of_present, given, known_columns, shared_facts
from metatx.inputs.merging import fields_of, merged, present_of
from metatx.inputs.messages import learning, named, with_options_of
from metatx.inputs.through import READ, Entering, Through, put_together, read_by_others
from metatx.layers.input_norm import input_norm
from metatx.places import Places, SeveralPlaces
from metatx.registry import all_options, lookup, unknown
from metatx.sequence import TokenSequence, as_sequence
from metatx.spec import Input, TaskSpec
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["Inputs", "kind_of"]

MOST = 256  # most inputs of a task


class Inputs(Tokenizer):
    """Tokenizer of samples that have several inputs, each with a tokenizer of its own, or shared with another input.

    A raw sample is a dict: of inputs by name, or of the columns that the inputs read. An input that is None, NaN or
    blank, or absent, is missing, and gives no tokens; in a row, single cells may be missing. A sample needs at least
    one input. Encoded fields are named ``"input.field"``; those of a missing input are absent.

    Args:
        dim: Width of the backbone, D.
        inputs: Inputs in order, each with the attributes of ``metatx.Input`` by name.
        main: Name of the input whose tokens a head reads that labels places or steps; None: the first.
        stem: The backbone, whose stem the tokenizers may start from.
        other_backbones: Backbones that read some of the inputs first, by fingerprint.

    Attributes:
        inputs: The inputs by name.
        requires_main: True if a sample without the main input cannot be used.
    """

    name = "inputs"
    stem = "backbone"
    not_exported = "the graph takes one input; export tasks of one input each"
    takes_row: ClassVar[bool] = True
    # Each tokenizer's tokens pass a norm of their own here, so that the model needs none.
    uses_stem_tokens = True

    def __init__(
        self,
        dim: int,
        inputs: list[dict[str, Any]],
        main: str | None = None,
        stem: Backbone | None = None,
        other_backbones: Mapping[str, Backbone] | None = None,
    ) -> None:
        super().__init__(dim)
        if stem is None:
            raise TypeError("Inputs take the backbone as stem: their tokenizers start from it.")
        if not 0 < len(inputs) <= MOST:
            raise ValueError(f"There are {len(inputs):,} inputs; expected 1 to {MOST}.")
        spec = TaskSpec(modality=[Input(**each) for each in inputs])
        self.inputs = {each.name: each for each in spec.several}
        self.main = next(iter(self.inputs)) if main is None else main
        if self.main not in self.inputs:
            raise ValueError(unknown("main input", self.main, list(self.inputs)))
        self.requires_main = False
        for name in self.owners():
            part = self.inputs[name]
            reader = stem if part.through is None else (other_backbones or {})[part.through["fingerprint"]]
            with learning(part):
                tokenizer = build_tokenizer(part.modality, reader, part.options)
            # The prefix keeps names apart from the attributes of modules.
            self.add_module(f"input_{name}", tokenizer)
            last: Tokenizer | Bridge = tokenizer
            way = part.through
            if way is not None:
                through = Through(dim, way, reader, tokenizer)
                self.add_module(f"through_{name}", through)
                last = through.bridge
                # The place of the checkpoint belongs to this machine; a task that is saved names the fingerprint.
                way = {**way, **all_options(last)}
                way.pop("checkpoint", None)
            self.add_module(f"norm_{name}", input_norm(stem, last))
            self._freeze(name)
            # Defaults are saved too, so that a later default does not change the task.
            self.inputs[name] = replace(part, through=way, options=all_options(tokenizer))
        self.record_options(inputs=[each.as_json() for each in self.inputs.values()], main=self.main)
        self._known = {key for name in self.inputs for key in (name, *self.columns(name))}
        for attribute, value in shared_facts([type(self.tokenizer(name)) for name in self.inputs]).items():
            setattr(self, attribute, value)
        self.file_columns, self.word_columns = known_columns(self.inputs.values())
        lead = self.tokenizer(self.main)
        for attribute in ("lookback", "time_axis", "mixes_channels"):
            setattr(self, attribute, getattr(lead, attribute))
        owner = self.inputs[self.owner(self.main)]
        self.crop_warning = with_options_of(lead.crop_warning, owner)
        self.option_prefix = f"{self.option_prefix}.{owner.name}"
        self.augments = any(self.tokenizer(name).augments for name in self.inputs)

    @property
    def modality(self) -> dict[str, str]:
        return {name: part.modality for name, part in self.inputs.items()}

    def owners(self) -> list[str]:
        """Names of the inputs that have a tokenizer of their own."""
        return [name for name, part in self.inputs.items() if part.shares is None]

    def owner(self, name: str) -> str:
        """Name of the input whose tokenizer an input uses, which may be itself."""
        return self.inputs[name].shares or name

    def tokenizer(self, name: str) -> Tokenizer:
        """Tokenizer of an input."""
        tokenizer: Any = getattr(self, f"input_{self.owner(name)}")
        return tokenizer  # type: ignore[no-any-return]

    def through(self, name: str) -> Through | None:
        """Way of an input through another backbone; None if there is none."""
        through: Through | None = getattr(self, f"through_{self.owner(name)}", None)
        return through

    @property
    def others(self) -> list[Backbone]:
        """Other backbones, each once."""
        ways = [way for name in self.owners() if (way := self.through(name)) is not None]
        return list({id(way.other): way.other for way in ways}.values())

    def norm(self, name: str) -> nn.Module:
        """Norm of an input's tokens."""
        norm: Any = getattr(self, f"norm_{self.owner(name)}")
        return norm  # type: ignore[no-any-return]

    def before(self, name: str) -> list[nn.Module]:
        """Tokenizer and norm that stand before the first backbone that reads an input."""
        way = self.through(name)
        return [self.tokenizer(name), self.norm(name) if way is None else way.norm]

    def _freeze(self, name: str) -> None:
        """Stop the training of what stands before the first backbone, if the input is frozen."""
        if self.inputs[name].frozen:
            for module in self.before(name):
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode as ``nn.Module`` does; frozen tokenizers stay in evaluation mode."""
        super().train(mode)
        for name in self.owners():
            if self.inputs[name].frozen:
                self.tokenizer(name).train(False)
        return self

    def columns(self, name: str) -> tuple[str, ...]:
        """Columns that an input reads."""
        columns = self.inputs[name].columns
        return (name,) if columns is None else tuple(columns)

    def one_column(self, name: str) -> bool:
        """Return True if an input is the value of one column, not a row."""
        return not self.tokenizer(name).takes_row and len(self.columns(name)) == 1

    # Raw samples

    def values(self, sample: Any) -> dict[str, Any]:
        """Raw values of the inputs that are there, by name.

        Raises:
            SampleError: If the sample is no dict, names an unknown input, or has no input.
        """
        if not isinstance(sample, Mapping):
            raise SampleError(f"found a {type(sample).__name__}; expected a dict of {', '.join(self.inputs)}")
        strange = [key for key in sample if key not in self._known]
        values = {name: self._value(sample, name) for name in self.inputs}
        present = {name: self._as_owner(name, value) for name, value in values.items() if value is not None}
        if strange and len(present) < len(values):
            absent = next(name for name in values if name not in present)
            raise SampleError(
                unknown("input", str(strange[0]), list(self.inputs))
                + f" Leave it out; where {absent} is missing, give None for it"
            )
        if not present:
            raise SampleError(f"all inputs are missing; expected at least one of {', '.join(self.inputs)}")
        if self.requires_main and self.main not in present:
            raise SampleError(f"input {self.main} is missing; the task answers for it, so that it must be there")
        return present

    def _as_owner(self, name: str, value: Any) -> Any:
        """Value of an input as its tokenizer knows it: a row has the columns of the input that owns the tokenizer."""
        own = self.columns(name)
        if not isinstance(value, Mapping) or not set(own) & set(value):
            return value
        renamed = zip(own, self.columns(self.owner(name)), strict=False)
        return {theirs: value[column] for column, theirs in renamed if column in value}

    def token_places(self, sample: Any) -> Places | None:
        """Places of each input in turn; None where one says none, or another backbone reads it first."""
        parts = {
            name: None if self.through(name) else self.tokenizer(name).token_places(value)
            for name, value in self.values(sample).items()
        }
        return SeveralPlaces.of(parts)

    def _value(self, sample: Mapping[Any, Any], name: str) -> Any:
        """Raw value of an input, from its columns or under its name; None if it is missing."""
        columns = self.columns(name)
        tokenizer = self.tokenizer(name)
        value = given(sample, name, columns, self.one_column(name))
        if value is not None and not self.one_column(name):
            with named(name, self.inputs[self.owner(name)]):
                return by_name(value, tokenizer, columns)
        if isinstance(value, Mapping) and not tokenizer.dicts:
            raise SampleError(f"input {name}: found a dict; expected a value of column {columns[0]}")
        return value

    def text_columns(self, inputs: Sequence[str]) -> list[str]:
        """Columns of words of all inputs."""
        return [
            column for name in self.inputs for column in self.tokenizer(name).text_columns(list(self.columns(name)))
        ]

    def columns_in(self, columns: Sequence[str], inputs: Sequence[str]) -> list[str]:
        """Columns of the inputs of which a table has some, see ``columns_of_present``."""
        return columns_of_present({name: self.columns(name) for name in self.inputs}, columns)

    def names_file(self, sample: Any) -> bool:
        """Return False: a sample is a dict, whose files messages name by their input."""
        return False

    def read_last(self, steps: int) -> None:
        """Set ``lookback`` of the main input. Raises TypeError if it has no time."""
        self.tokenizer(self.main).read_last(steps)
        self.lookback = self.tokenizer(self.main).lookback

    def fit(self, samples: Any) -> dict[str, Any]:
        """Facts of each tokenizer by input (``parts``), and their statistics.

        Raises:
            ValueError: If an input is missing in all samples, or its tokenizer cannot be fitted.
        """
        pairs: dict[str, list[tuple[int, Any]]] = {name: [] for name in self.owners()}
        bad: SampleError | None = None
        for index, sample in enumerate(samples):
            try:
                values = self.values(sample)
            except SampleError as error:  # reported with its place when the sample is encoded
                bad = bad or error
                continue
            for name, value in values.items():
                pairs[self.owner(name)].append((index, value))
        if bad and not any(pairs.values()):
            raise ValueError(f"No sample can be used; the first: {bad}.")
        parts: dict[str, Any] = {}
        learned: dict[str, Any] = {"parts": parts}
        for name, found in pairs.items():
            if not found:
                raise ValueError(f"Input {name} is missing in all training samples; leave it out, or fill it in.")
            with learning(self.inputs[name], [index for index, _ in found]):
                parts[name], statistics = self.tokenizer(name).learned([value for _, value in found])
            learned |= {f"input_{name}.{key}": value for key, value in statistics.items()}
        return learned

    def build(self, parts: dict[str, dict[str, Any]]) -> None:
        """Build each tokenizer from its facts.

        Raises:
            ValueError: If the facts are not those of the inputs.
        """
        if set(parts) != set(self.owners()):
            raise ValueError(f"There are facts of {', '.join(parts)}; the inputs are {', '.join(self.owners())}.")
        for name, facts in parts.items():
            self.tokenizer(name).restore(facts)
            self._freeze(name)

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """Fields of the inputs that are there, named ``"input.field"``."""
        fields: dict[str, Tensor] = {}
        for name, value in self.values(sample).items():
            with named(name, self.inputs[self.owner(name)]):
                encoded = self.tokenizer(name).encode(value)
            fields |= {f"{name}.{field}": tensor for field, tensor in encoded.items()}
        return fields

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """Vary each input by its tokenizer; ``view`` is that of the main input."""
        varied: dict[str, Tensor] = {}
        for name in self.inputs:
            fields = fields_of(encoded, name)
            if fields:
                changed = self.tokenizer(name).augment(fields)
                varied |= {f"{name}.{field}": tensor for field, tensor in changed.items() if field != "view"}
                if "view" in changed and name == self.main:
                    varied["view"] = changed["view"]
        return varied

    # Tokens

    def entering(self, batch: Batch) -> Entering:
        """Tokens of the inputs that another backbone reads first, as they enter it, by input."""
        count = len(next(iter(batch.values())))
        entering: dict[str, tuple[Through, TokenSequence]] = {}
        for name in self.inputs:
            way = self.through(name)
            present, fields = present_of(fields_of(batch, name), count)
            if way is not None and present and READ not in fields:
                way.follow()
                entering[name] = way, way.enter(as_sequence(self.tokenizer(name)(fields)))
        return entering

    def forward(self, batch: Batch, read: Mapping[str, TokenSequence] | None = None) -> TokenSequence:
        """Sequences of all inputs, sample by sample, each named by its input in ``sources``.

        Args:
            batch: Collated fields.
            read: Output of other backbones for the inputs that they read first; by default they are called.
        """
        count = len(next(iter(batch.values())))
        if read is None:
            (read,) = read_by_others([self.entering(batch)])
        parts: dict[str, tuple[list[int], TokenSequence]] = {}
        for name in self.inputs:
            present, fields = present_of(fields_of(batch, name), count)
            if present:
                parts[name] = present, self._tokens(name, fields, read.get(name))
        return merged(parts, count, self.main)

    def main_passed(self, batch: Mapping[str, Any]) -> bool:
        """True if a batch has the main input as tokens that have passed some blocks of the task's backbone."""
        return f"{self.main}.{READ}" in batch and self.through(self.main) is None

    def _tokens(self, name: str, fields: Batch, read: TokenSequence | None) -> TokenSequence:
        """Sequences of an input; fields of ``taken_apart`` are put together where no other backbone reads it first."""
        way = self.through(name)
        if way is None and READ in fields:
            return put_together(fields)
        sequence = as_sequence(self.tokenizer(name)(fields)) if way is None else way.leave(fields, read)
        return sequence.with_embeddings(self.norm(name)(sequence.embeddings))

    # What dense heads, baselines and servers ask

    def dense_values(self, sample: Any) -> np.ndarray:
        """Values at each place of the main input."""
        return self.tokenizer(self.main).dense_values(self.values(sample)[self.main])

    def baseline_features(self, sample: Any) -> dict[str, Any]:
        """Features of the inputs that are there, by name: numbers (F,), a dict of named values, or words."""
        return {name: self.tokenizer(name).baseline_features(value) for name, value in self.values(sample).items()}

    def json_schema(self) -> dict[str, Any]:
        """Schema of an object of inputs, each null where it is missing."""
        schemas = {name: self.tokenizer(name).json_schema() for name in self.inputs}
        examples = {name: schema["examples"][0] for name, schema in schemas.items() if schema.get("examples")}
        needed = [self.main] if self.requires_main else []
        return {
            "type": "object",
            "properties": {
                name: schema if name in needed else {"anyOf": [schema, {"type": "null"}]}
                for name, schema in schemas.items()
            },
            "required": needed,
            "additionalProperties": False,
            "minProperties": 1,
            "examples": [examples] if examples else [],
        }

    def from_json(self, value: Any) -> Any:
        """Convert an object of inputs, or of the columns that they read, to one of inputs; null is a missing one.

        Raises:
            SampleError: If it is no object, names an unknown input while one is missing, or an input is not accepted.
        """
        if not isinstance(value, dict):
            raise SampleError(f"found a {type(value).__name__}; expected an object of {', '.join(self.inputs)}")
        parts = {name: given(value, name, self.columns(name), self.one_column(name)) for name in self.inputs}
        strange = [key for key in value if key not in self._known]
        if strange and any(part is None for part in parts.values()):
            raise SampleError(unknown("input", str(strange[0])[:60], list(self.inputs)).rstrip("."))
        sample: dict[str, Any] = {}
        for name, part in parts.items():
            with named(name, self.inputs[self.owner(name)]):
                sample[name] = None if part is None else self.tokenizer(name).from_json(part)
        return sample


def kind_of(spec: TaskSpec) -> type[Tokenizer]:
    """Class of a spec's tokenizer; that of several inputs knows their files."""
    if isinstance(spec.modality, str):
        kind: type[Tokenizer] = lookup("tokenizers", spec.modality)
        return kind
    facts = shared_facts([lookup("tokenizers", each.modality) for each in spec.several])
    files, words = known_columns(spec.several)
    return type("Inputs", (Inputs,), {**facts, "file_columns": files, "word_columns": words})
