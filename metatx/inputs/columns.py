"""Columns of a table that the inputs of a task read, and what reading asks of their tokenizers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metatx.data.tables import candidates
from metatx.encoding.head_choice import one_column_error, whole_samples
from metatx.progress import tell
from metatx.registry import lookup, unknown
from metatx.spec import Input, TaskSpec, check_readers
from metatx.tokenizer import Tokenizer
from metatx.values import is_missing

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["columns_of_present", "given", "known_columns", "resolved", "shared_facts"]


def resolved(spec: TaskSpec, table: "Dataset | None", target: str | None) -> tuple[Input, ...]:
    """Inputs of a spec, each with its columns.

    Args:
        spec: Spec with several inputs.
        table: Table of the training split; None for samples without a table.
        target: Column that is predicted.

    Raises:
        ValueError: If a column does not exist, is the target, is read by two inputs, or is called as another input; if
            ``spec.inputs`` is set, or two inputs would read what no other input does.
    """
    if spec.inputs is not None:
        raise ValueError("A task with several inputs names the columns of each: --input photo=image:file,...")
    inputs = spec.several
    if table is None:
        return inputs
    found: list[Input] = []
    read: set[str] = set()
    open_inputs: list[int] = []
    for at, each in enumerate(inputs):
        if (
            each.columns is None
            and each.name not in table.column_names
            and lookup("tokenizers", each.modality).takes_row
        ):
            open_inputs.append(at)
            found.append(each)
            continue
        columns = (each.name,) if each.columns is None else tuple(each.columns)
        for column in columns:
            _check(column, each.name, table.column_names, target)
        samples = whole_samples(table, columns, lookup("tokenizers", each.modality))
        if samples:
            raise one_column_error(each.modality, samples, each.name)
        read.update(columns)
        found.append(replace(each, columns=columns))
    if len(open_inputs) > 1:
        names = " and ".join(inputs[at].name for at in open_inputs)
        raise ValueError(
            f"Inputs {names} name no columns; name those of all but one: {inputs[open_inputs[0]].name}=...:a,b"
        )
    for at in open_inputs:
        accepts = lookup("tokenizers", inputs[at].modality).accepts
        rest = candidates(table, accepts, without={target, *read})
        if not rest:
            raise ValueError(f"No column is left for input {inputs[at].name}; name its columns, or leave it out.")
        found[at] = replace(inputs[at], columns=tuple(rest))
    check_readers(found)
    return tuple(found)


def known_columns(inputs: Iterable[Input]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Columns of inputs that name files, with the suffixes of each, and columns of words."""
    files: dict[str, tuple[str, ...]] = {}
    words: list[str] = []
    for each in inputs:
        kind = lookup("tokenizers", each.modality)
        columns = (each.name,) if each.columns is None else each.columns
        if kind.words:
            words += columns
        elif kind.suffixes:
            files |= dict.fromkeys(columns, kind.suffixes)
    return files, words


def shared_facts(kinds: Sequence[type[Tokenizer]]) -> dict[str, Any]:
    """Attributes that reading data and serving ask of a tokenizer, over all inputs.

    Signatures are left out: a server checks the file of an input by those of the input's own tokenizer.
    """
    return {
        "suffixes": tuple(dict.fromkeys(suffix for kind in kinds for suffix in kind.suffixes)),
        "external_refs": tuple(dict.fromkeys(suffix for kind in kinds for suffix in kind.external_refs)),
        "isolated": any(kind.isolated for kind in kinds),
    }


def given(sample: Mapping[Any, Any], name: str, columns: Sequence[str], one_column: bool) -> Any:
    """Value of an input as a sample has it, in its columns or under its name; None if it is missing.

    Args:
        sample: Inputs, or columns, by name.
        name: Name of the input.
        columns: Columns that it reads.
        one_column: True if it is the value of one column, not a row.
    """
    value = sample.get(name)
    if one_column:
        value = sample.get(columns[0], value)
        return None if is_missing(value) else value
    if is_missing(value) or (name in columns and not isinstance(value, Mapping)):
        value = {column: sample[column] for column in columns if column in sample}
    return None if isinstance(value, Mapping) and all(map(is_missing, value.values())) else value


def columns_of_present(inputs: Mapping[str, Sequence[str]], columns: Sequence[str]) -> list[str]:
    """Columns of the inputs of which a table has some; inputs of which it has none are reported.

    Args:
        inputs: Columns of each input by its name.
        columns: Columns of the table.

    Raises:
        ValueError: If the table has no column of any input.
    """
    present = [name for name, own in inputs.items() if set(own) & set(columns)]
    absent = [name for name in inputs if name not in present]
    if not present:
        wanted = dict.fromkeys(column for own in inputs.values() for column in own)
        raise ValueError(f"The table has no column of any input ({', '.join(wanted)}); it has {', '.join(columns)}.")
    if absent:
        said = f"Inputs {' and '.join(absent)} are" if len(absent) > 1 else f"Input {absent[0]} is"
        tell(f"{said} missing: the table has no such columns. The others are read.")
    return list(dict.fromkeys(column for name in present for column in inputs[name]))


def _check(column: str, name: str, columns: Sequence[str], target: str | None) -> None:
    """Refuse a column of an input that is missing, or is the target. Raises ValueError."""
    if column not in columns:
        raise ValueError(unknown(f"column of input {name}:", column, list(columns)))
    if column == target:
        raise ValueError(f"Input {name} reads {column}, which is the target; leave it out.")
