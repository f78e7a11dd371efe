"""Guess of a task's inputs from the cells of a table: ``--modality auto``."""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.data.arguments import column_names
from metatx.data.cell_types import moment_of
from metatx.data.tables import find_target
from metatx.encoding.head_choice import repeating
from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.inputs.notation import AUTO, one_input_error, written
from metatx.progress import tell, told_as
from metatx.registry import lookup, names
from metatx.spec import Input, TaskSpec
from metatx.tokenizer import Tokenizer
from metatx.values import is_missing

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["settled"]

SURE = 0.9  # share of cells that name files above which a column names files; below 1 - SURE it names none
WORDS = 3  # mean number of words of a text
DISTINCT = 0.2  # share of distinct cells of a column of texts
ROW = "facts"  # name of the input of all columns that are cells of a row

Kinds = dict[str, type[Tokenizer]]


def settled(spec: TaskSpec, read: "Callable[[type[Tokenizer]], tuple[Dataset | Examples, str | None]]") -> TaskSpec:
    """Spec with inputs, guessed from the training split where its modality is ``"auto"``; else the spec itself.

    Of each column the first that fits is taken: names of files that one modality has, and images or sounds of a
    Hugging Face table; lists of numbers; texts, of 3 words and 20 % distinct at least; else a cell of one row. Columns
    of files of one modality share a tokenizer. Numbers and words of one row each are left out. What was guessed is
    reported in the form of the command line.

    Args:
        spec: Choices that make the task.
        read: Function from the class of a tokenizer to the training split and the target's name, where it is known.

    Raises:
        ValueError: If a column can be read in two ways, repeats the target, or none can be read.
    """
    if spec.modality != AUTO:
        return spec
    kinds = {name: lookup("tokenizers", name) for name in names("tokenizers")}
    suffixes = [suffix for kind in kinds.values() if kind.guessed_from == "files" for suffix in kind.suffixes]
    guessed = type("Guessed", (Tokenizer,), {"suffixes": tuple(dict.fromkeys(suffixes)), "takes_row": True})
    with told_as(lambda line: None):  # the data are read again for the inputs that are guessed, and tell it then
        table, target = read(guessed)
    if isinstance(table, Examples):
        raise ValueError(f"modality {AUTO} reads the columns of a table, and these samples have none; name it.")
    target = find_target(table, target)
    columns = [name for name in table.column_names if name != target]
    if spec.inputs is not None:
        columns = column_names(spec.inputs, table.column_names)
    guesses = {name: _modality(table, name, kinds) for name in columns}
    left = [name for name, modality in guesses.items() if modality is None]
    inputs = _inputs({name: modality for name, modality in guesses.items() if modality is not None}, kinds)
    if not inputs:
        raise ValueError(f"No column can be an input; columns: {', '.join(table.column_names)}.")
    if left and spec.inputs is None:
        tell(f"Left out, for their cells differ in all rows, or none can be read: {', '.join(left)}.")
    repeats = repeating(table, [name for name in columns if name not in left], target)
    if repeats is not None:
        kept = _inputs({name: guesses[name] for name in columns if name not in (*left, repeats)}, kinds)
        raise ValueError(
            f"Column {repeats} says the same as the target {target}, row by row. Write the inputs without it, if it is "
            f"another form of the label: {_options(kept)}"
        )
    tell(f"To change what is read, write in the place of --modality {AUTO}: {_options(inputs)}")
    if len(inputs) > 1:
        return replace(spec, modality=inputs, inputs=None)
    fusing = ["--main"] * (spec.main is not None) + ["--fusion"] * (spec.fusion != "late" or bool(spec.fusion_options))
    if fusing:
        raise one_input_error(fusing)
    return replace(spec, modality=inputs[0].modality, inputs=list(inputs[0].columns or ()))


def _options(inputs: Sequence[Input]) -> str:
    """Options of the command line that say the inputs; one input is the modality of the task."""
    if len(inputs) != 1:
        return written(inputs)
    return f"--modality {inputs[0].modality} --inputs {shlex.quote(','.join(inputs[0].columns or ()))}"


def _inputs(guesses: dict[str, Any], kinds: Kinds) -> list[Input]:
    """Inputs of the columns' modalities; columns of a row are one input, columns of files share a tokenizer."""
    inputs: list[Input] = []
    owners: dict[str, str] = {}
    row = [column for column, modality in guesses.items() if kinds[modality].guessed_from == "values"]
    for column, modality in guesses.items():
        if column in row[1:]:
            continue
        own = row if column in row else [column]
        others = [other for other in guesses if other not in own]
        name = _free(ROW if len(own) > 1 else column, [*others, *(input.name for input in inputs)])
        owner = owners.setdefault(modality, name) if kinds[modality].guessed_from == "files" else name
        inputs.append(
            Input(
                name=name,
                modality=modality,
                columns=own,
                shares=None if owner == name else owner,
            )
        )
    by_owner = [(owner, [each for each in inputs if each.shares == owner.name]) for owner in inputs]
    return [each for owner, sharing in by_owner if owner.shares is None for each in (owner, *sharing)]


def _free(column: str, taken: Iterable[str]) -> str:
    """Name of an input, made of a column's, that no other input has."""
    word = re.sub("[^A-Za-z0-9_-]+", "_", column).strip("_-")
    word = word if re.match("[A-Za-z]", word) else f"input_{word}".strip("_")
    folded = {name.casefold() for name in taken}
    numbered = (word if number == 1 else f"{word}_{number}" for number in range(1, len(folded) + 2))
    return next(name for name in numbered if name.casefold() not in folded)


# Of one column


def _modality(table: "Dataset", name: str, kinds: Kinds) -> str | None:
    """Modality of a column; None if it is left out. Raises ValueError if it can be read in two ways."""
    feature = type(table.features[name]).__name__.lower()
    if feature in kinds:  # a Hugging Face column of images, sounds or films
        return feature
    column = table[name][:]
    cells = [cell for cell in column if not is_missing(cell)]
    if not cells:
        return None
    if isinstance(cells[0], str):
        return _of_words(name, column, cells, kinds)
    if isinstance(cells[0], dict):
        return _of_files(name, cells, kinds)
    if isinstance(cells[0], list):
        numbers = np.asarray(_first(cells[0])).dtype.kind in "biuf"
        return _only(name, _guessed_from("numbers", kinds)) if numbers else None
    whole = isinstance(cells[0], int) and not isinstance(cells[0], bool)
    return None if whole and _all_differ(column, cells) else _value(name, kinds)


def _of_words(name: str, column: Sequence[Any], cells: Sequence[str], kinds: Kinds) -> str | None:
    """Modality of a column of words: names of files, texts, or cells of a row."""
    files = [cell for cell in cells if _claims(cell, kinds)]
    if len(files) > (1 - SURE) * len(cells):
        other = next((cell for cell in cells if not _claims(cell, kinds)), None)
        if other is not None and len(files) < SURE * len(cells):
            raise ValueError(
                f"Column {name} names files and holds other words, such as {files[0]!r:.60} and {other!r:.60}; say "
                f"which is meant: {_lines(name, [*_claims(files[0], kinds), *_guessed_from('words', kinds)])}."
            )
        return _of_files(name, files, kinds)
    words = [len(cell.split()) for cell in cells]
    if sum(words) >= WORDS * len(cells) and len(set(cells)) >= DISTINCT * len(cells):
        return _only(name, _guessed_from("words", kinds))
    is_id = max(words) == 1 and _all_differ(column, cells) and not _is_date(cells[0])
    return None if is_id else _value(name, kinds)


def _is_date(cell: str) -> bool:
    try:
        return moment_of("", cell) is not None
    except SampleError:
        return False


def _of_files(name: str, cells: Sequence[Any], kinds: Kinds) -> str | None:
    """Modality that has the suffixes, or the first bytes, of all files of a column; None for dicts that are none."""
    claims = [found for cell in cells if (found := _claims(cell, kinds))]
    if not claims:
        return None
    common = [each for each in claims[0] if all(each in others for others in claims)]
    return _only(name, common or list(dict.fromkeys(each for others in claims for each in others)))


def _claims(cell: Any, kinds: Kinds) -> list[str]:
    """Modalities that a file may have, by the suffix of its name or by its first bytes."""
    guessed = {name: kind for name, kind in kinds.items() if kind.guessed_from == "files" and kind.suffixes}
    path = cell.get("path") if isinstance(cell, dict) else cell
    if isinstance(path, str):
        return [name for name, kind in guessed.items() if path.strip().lower().endswith(kind.suffixes)]
    head = (cell.get("bytes") or b"")[:512]
    return [name for name, kind in guessed.items() if head and any(test(head) for test in kind.signatures.values())]


def _value(name: str, kinds: Kinds) -> str:
    return _only(name, _guessed_from("values", kinds))


def _guessed_from(cells: str, kinds: Kinds) -> list[str]:
    return [name for name, kind in kinds.items() if kind.guessed_from == cells]


def _only(name: str, modalities: Sequence[str]) -> str:
    """Only modality of a column. Raises ValueError if there are several."""
    if len(modalities) == 1:
        return modalities[0]
    lines = _lines(name, modalities)
    raise ValueError(f"Column {name} can be read in {len(modalities)} ways; say which is meant: {lines}.")


def _lines(column: str, modalities: Sequence[str]) -> str:
    """Options of the command line that read a column as each of some modalities."""
    inputs = [Input(name=_free(column, ()), modality=modality, columns=[column]) for modality in modalities]
    return " or ".join(written([input]) for input in inputs)


def _first(cell: Any) -> Any:
    """First number of nested lists; the empty list where there is none."""
    while isinstance(cell, list) and cell:
        cell = cell[0]
    return cell


def _all_differ(column: Sequence[Any], cells: Sequence[Any]) -> bool:
    """Return True if no cell is missing and all differ, as numbers and names of rows do."""
    return 1 < len(column) == len(set(cells))
