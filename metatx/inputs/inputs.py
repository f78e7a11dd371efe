"""Inputs: a tokenizer of tokenizers, for samples of several inputs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from metatx.backbone.base import Backbone
from metatx.encoding.collate import stacked
from metatx.encoding.head_choice import build_tokenizer
from metatx.errors import BoundError, PlacedError, SampleError
from metatx.inputs.columns import columns_of_present, known_columns
from metatx.layers.input_norm import input_norm
from metatx.registry import lookup, unknown
from metatx.sequence import TokenSequence, as_sequence, ranges
from metatx.spec import Input, TaskSpec
from metatx.tokenizer import Batch, Tokenizer
from metatx.values import is_missing

__all__ = ["Inputs", "kind_of"]


class Inputs(Tokenizer):
    """Tokenizer of samples that have several inputs, each with a tokenizer of its own, or shared with another input.

    A raw sample is a dict: of inputs by name, or of the columns that the inputs read. An input that is None, NaN or
    blank, or absent, is missing, and gives no tokens; in a row, single cells may be missing. A sample needs at least
    one input. Encoded fields are named ``"input.field"``.

    Args:
        dim: Width of the backbone, D.
        inputs: Inputs in order, each with the attributes of ``metatx.Input`` by name.
        main: Name of the input whose tokens a head reads that labels places or steps; None: the first.
        stem: The backbone, whose stem the tokenizers may start from.

    Attributes:
        inputs: The inputs by name.
        requires_main: True if a sample without the main input cannot be used.
    """

    name = "inputs"
    stem = "backbone"
    takes_row: ClassVar[bool] = True
    # Each tokenizer's tokens pass a norm of their own here, so that the model needs none.
    uses_stem_tokens = True

    def __init__(
        self, dim: int, inputs: list[dict[str, Any]], main: str | None = None, stem: Backbone | None = None
    ) -> None:
        super().__init__(dim)
        if stem is None:
            raise TypeError("Inputs take the backbone as stem: their tokenizers start from it.")
        self.inputs = {each["name"]: Input(**each) for each in inputs}
        self.main = main or next(iter(self.inputs))
        if self.main not in self.inputs:
            raise ValueError(unknown("main input", self.main, list(self.inputs)))
        self.requires_main = False
        for name in self.owners():
            part = self.inputs[name]
            tokenizer = build_tokenizer(part.modality, stem, part.options)
            # The prefix keeps names apart from the attributes of modules.
            self.add_module(f"input_{name}", tokenizer)
            self.add_module(f"norm_{name}", input_norm(stem, tokenizer))
            self._freeze(name)
        for attribute, value in shared_facts([type(self.tokenizer(name)) for name in self.inputs]).items():
            setattr(self, attribute, value)
        self.file_columns, self.word_columns = known_columns(self.inputs.values())
        lead = self.tokenizer(self.main)
        for attribute in ("lookback", "time_axis", "mixes_channels", "crop_warning"):
            setattr(self, attribute, getattr(lead, attribute))
        self.augments = any(self.tokenizer(name).augments for name in self.inputs)

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

    def norm(self, name: str) -> nn.Module:
        """Norm of an input's tokens."""
        norm: Any = getattr(self, f"norm_{self.owner(name)}")
        return norm  # type: ignore[no-any-return]

    def _freeze(self, name: str) -> None:
        """Stop the training of a frozen input's tokenizer and norm."""
        if self.inputs[name].frozen:
            self.tokenizer(name).requires_grad_(False)
            self.norm(name).requires_grad_(False)

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

    # Raw samples

    def values(self, sample: Any) -> dict[str, Any]:
        """Raw values of the inputs that are there, by name.

        Raises:
            SampleError: If the sample is no dict, names an unknown input, or has no input.
        """
        if not isinstance(sample, Mapping):
            raise SampleError(f"found a {type(sample).__name__}; expected a dict of {', '.join(self.inputs)}")
        columns = {column for name in self.inputs for column in self.columns(name)}
        strange = [key for key in sample if key not in self.inputs and key not in columns]
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

    def _value(self, sample: Mapping[Any, Any], name: str) -> Any:
        """Raw value of an input; None if it is missing."""
        columns = self.columns(name)
        value = sample.get(name)
        takes_row = self.tokenizer(name).takes_row
        if not isinstance(value, Mapping) and name in columns and (takes_row or len(columns) > 1):
            value = None  # the cell of one of the columns
        if value is None and (takes_row or len(columns) > 1):
            value = {column: sample[column] for column in columns if column in sample}
        elif value is None:
            value = sample.get(columns[0])
        if isinstance(value, Mapping) and (takes_row or len(columns) > 1):
            return value if any(not is_missing(cell) for cell in value.values()) else None
        return None if is_missing(value) else value

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
            part = self._fitted(name, found)
            tensors = {key: value for key, value in part.items() if isinstance(value, Tensor)}
            parts[name] = {key: value for key, value in part.items() if key not in tensors}
            learned |= {f"input_{name}.{key}": value for key, value in tensors.items()}
        return learned

    def _fitted(self, name: str, pairs: Sequence[tuple[int, Any]]) -> dict[str, Any]:
        """Fit the tokenizer of an input to its numbered samples. Raises ValueError that names the input."""
        try:
            return self.tokenizer(name).fit([value for _, value in pairs])
        except PlacedError as error:
            places = [pairs[part][0] if isinstance(part, int) else part for part in error.parts]
            raise PlacedError(f"Input {name}: ", *places) from None
        except ValueError as error:
            raise ValueError(f"Input {name}: {error}") from error

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
            with _named(name):
                encoded = self.tokenizer(name).encode(value)
            fields |= {f"{name}.{field}": tensor for field, tensor in encoded.items()}
        return fields

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """Vary each input by its tokenizer; ``view`` is that of the main input."""
        varied: dict[str, Tensor] = {}
        for name in self.inputs:
            fields = _fields(encoded, name)
            if fields:
                changed = self.tokenizer(name).augment(fields)
                varied |= {f"{name}.{field}": tensor for field, tensor in changed.items() if field != "view"}
                if "view" in changed and name == self.main:
                    varied["view"] = changed["view"]
        return varied

    # Tokens

    def forward(self, batch: Batch) -> TokenSequence:
        """Sequences of all inputs, sample by sample, each named by its input in ``sources``."""
        count = len(next(iter(batch.values())))
        parts: dict[str, tuple[list[int], TokenSequence]] = {}
        for name in self.inputs:
            present, fields = _present(_fields(batch, name), count)
            if present:
                sequence = as_sequence(self.tokenizer(name)(fields))
                parts[name] = present, sequence.with_embeddings(self.norm(name)(sequence.embeddings))
        return _merged(parts, count, self.main)

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
        return {
            "type": "object",
            "properties": {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in schemas.items()},
            "additionalProperties": False,
            "minProperties": 1,
            "examples": [examples] if examples else [],
        }

    def from_json(self, value: Any) -> Any:
        """Convert an object of inputs; null is a missing input.

        Raises:
            SampleError: If it is no object, names an unknown input, or an input is not accepted.
        """
        if not isinstance(value, dict):
            raise SampleError(f"found a {type(value).__name__}; expected an object of {', '.join(self.inputs)}")
        sample: dict[str, Any] = {}
        for name, part in value.items():
            if name not in self.inputs:
                raise SampleError(unknown("input", str(name)[:60], list(self.inputs)).rstrip("."))
            with _named(name):
                sample[name] = None if part is None else self.tokenizer(name).from_json(part)
        return sample


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the name of an input before the message of a SampleError."""
    try:
        yield
    except SampleError as error:
        kind = BoundError if isinstance(error, BoundError) else SampleError
        raise kind(f"input {name}: {error}") from error


def kind_of(spec: TaskSpec) -> type[Tokenizer]:
    """Class of a spec's tokenizer; that of several inputs knows their files."""
    if isinstance(spec.modality, str):
        kind: type[Tokenizer] = lookup("tokenizers", spec.modality)
        return kind
    facts = shared_facts([lookup("tokenizers", each.modality) for each in spec.several])
    files, words = known_columns(spec.several)
    return type("Inputs", (Inputs,), {**facts, "file_columns": files, "word_columns": words})


def shared_facts(kinds: Sequence[type[Tokenizer]]) -> dict[str, Any]:
    """Attributes that reading data and serving ask of a tokenizer, over all inputs.

    Signatures are left out: a server checks the file of an input by those of the input's own tokenizer.
    """
    return {
        "suffixes": tuple(dict.fromkeys(suffix for kind in kinds for suffix in kind.suffixes)),
        "external_refs": tuple(dict.fromkeys(suffix for kind in kinds for suffix in kind.external_refs)),
        "isolated": any(kind.isolated for kind in kinds),
    }


def _fields(batch: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Fields of one input, by their names in its tokenizer."""
    prefix = f"{name}."
    return {key[len(prefix) :]: value for key, value in batch.items() if key.startswith(prefix)}


def _present(fields: Mapping[str, Any], count: int) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the samples that have an input, and its fields collated for these."""
    listed = [value for value in fields.values() if isinstance(value, list)]
    present = [at for at in range(count) if not listed or listed[0][at] is not None] if fields else []
    if len(present) == count:
        return present, dict(fields)
    return present, {name: stacked([value[at] for at in present]) for name, value in fields.items()}


def _merged(parts: Mapping[str, tuple[list[int], TokenSequence]], count: int, main: str) -> TokenSequence:
    """One batch of all inputs' sequences, sample by sample, input by input."""
    lengths: list[int] = []
    sources: list[str] = []
    owners: list[tuple[int, int]] = []  # sample and number of the input of each sequence, as the parts hold them
    for number, (name, (present, sequence)) in enumerate(parts.items()):
        counts = sequence.sequences_per_sample or (1,) * len(present)
        owners += [(at, number) for at, pieces in zip(present, counts, strict=True) for _ in range(pieces)]
        lengths += sequence.lengths
        sources += [name] * len(sequence.lengths)
    order = sorted(range(len(owners)), key=owners.__getitem__)  # stable: pieces of an input stay in their order
    tokens = torch.cat([sequence.embeddings for _, sequence in parts.values()])
    if order != list(range(len(order))):
        sizes = torch.tensor(lengths)
        picked = torch.tensor(order)
        rows = ranges((sizes.cumsum(0) - sizes)[picked], sizes[picked])
        tokens = tokens.index_select(0, rows.to(tokens.device))
    per_sample = [0] * count
    for at, _ in owners:
        per_sample[at] += 1
    whole = main in parts and len(parts[main][0]) == count
    return TokenSequence(
        tokens,
        tuple(lengths[at] for at in order),
        sequences_per_sample=None if set(per_sample) == {1} else tuple(per_sample),
        sources=tuple(sources[at] for at in order),
        grids={name: sequence.grid for name, (_, sequence) in parts.items() if sequence.grid is not None},
        # A head that reads the context needs the main input of every sample.
        context=parts[main][1].context if whole else {},
    )
