"""Choice of the head from the target, and check of the input columns."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metatx.data.arguments import joined_target, target_name
from metatx.data.tables import find_target
from metatx.registry import create, lookup, names
from metatx.spec import TaskSpec
from metatx.values import is_missing

if TYPE_CHECKING:
    from datasets import Dataset

    from metatx.backbone.base import Backbone
    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

__all__ = [
    *("build_head", "build_tokenizer", "check_inputs", "claimed", "create_head", "one_column_error", "repeating"),
    *("targeted", "whole_samples"),
]

SHOWN = 20  # most columns that a message names


def build_tokenizer(
    name: str, backbone: "Backbone", options: Mapping[str, Any], others: "Mapping[str, Backbone] | None" = None
) -> "Tokenizer":
    """Build the tokenizer called ``name`` for a backbone, with the backbone's stem if its class asks for one.

    Args:
        name: Name of the tokenizer.
        backbone: Backbone that reads its tokens.
        options: Options of the tokenizer by name.
        others: Backbones that read some of several inputs first, by fingerprint.
    """
    wanted = lookup("tokenizers", name).stem
    given = {"stem": backbone, "other_backbones": others} if wanted == "backbone" else _stem(wanted, backbone.stems)
    tokenizer: Tokenizer = create("tokenizers", name, backbone.dim, **options, **given)
    return tokenizer


def create_head(name: str, dim: int, stems: Mapping[str, Any], options: Mapping[str, Any]) -> "Head":
    """Build the head called ``name`` for a backbone of width D, with a stem of it if its class asks for one."""
    head: Head = create("heads", name, dim, **options, **_stem(lookup("heads", name).stem, stems))
    return head


def _stem(wanted: str | None, stems: Mapping[str, Any]) -> dict[str, Any]:
    return {} if wanted is None else {"stem": stems.get(wanted)}


def claimed(tokenizer: "type[Tokenizer]", table: "Dataset", target: str | None) -> bool:
    """Return True if the tokenizer's default head claims a table with a target column, see ``Head.claims``."""
    name = tokenizer.default_head
    return name is not None and bool(lookup("heads", name).claims(table, target))


def targeted(spec: TaskSpec, kind: "type[Tokenizer]", table: "Dataset") -> "tuple[Dataset, str | None, str | None]":
    """Table with its target in one column, the name of that column, and that of the head, where they are known."""
    name = spec.head
    target = target_name(spec.target)
    if name is None and claimed(kind, table, target):
        name = kind.default_head
    if name is None or lookup("heads", name).needs_target:
        table = joined_target(table, target, texts=name is not None and lookup("heads", name).continues)
        target = find_target(table, target)
    return table, target, name


def build_head(
    name: str | None,
    tokenizer: "type[Tokenizer]",
    targets: Sequence[Any] | None,
    dim: int,
    options: dict[str, Any],
    columns: Sequence[str] = (),
    stems: Mapping[str, Any] | None = None,
) -> "Head":
    """Build the head called ``name``; without a name, the only one that accepts the targets.

    Args:
        name: Name of the head; None chooses by ``targets``.
        tokenizer: Class of the tokenizer, whose default head is built where there are no targets.
        targets: Raw targets; None where the data have none.
        dim: Width of the backbone, D.
        options: Options of the head by name.
        columns: Columns of the table, for messages.
        stems: Stems of the backbone, by name.

    Raises:
        ValueError: If no head or several accept the targets, or there are no targets and no default head.
    """
    if name is None:
        if targets is None:
            name = tokenizer.default_head
            if name is None:
                raise ValueError(f"The column to predict is not known; name it with --target: {', '.join(columns)}.")
        else:
            # A head that extends another is not meant as well, unless it says itself what it accepts.
            heads = {head: lookup("heads", head) for head in names("heads")}
            fitting = [head for head, cls in heads.items() if "accepts" in vars(cls) and cls.accepts(targets)]
            if len(fitting) != 1:
                choices = ", ".join(fitting or names("heads"))
                raise ValueError(
                    f"The target {targets[0]!r}, ... does not say which head is meant; name it with --head: {choices}."
                )
            name = fitting[0]
    return create_head(name, dim, stems or {}, options)


def _kind(value: Any) -> str:
    return "empty" if value is None else type(value).__name__


def check_inputs(
    table: "Dataset",
    inputs: list[str],
    target: str | None,
    *,
    named: bool,
    kind: "type[Tokenizer] | None" = None,
) -> None:
    """Refuse input columns that are missing, that are the target, or that repeat it; and several where one is read.

    Args:
        table: Table of the training split.
        inputs: Input columns.
        target: Column to predict.
        kind: Class of the tokenizer, where it has one input.
        named: True if the user named the inputs; a column may repeat the target then.

    Raises:
        ValueError: If a column is refused; names it and the option to use.
    """
    missing = [name for name in inputs if name not in table.column_names]
    if missing or not inputs:
        reason = f"No input column {', '.join(missing)}" if missing else "The tokenizer can read no column"
        columns = ", ".join(f"{name} ({_kind(table[0][name])})" for name in table.column_names[:SHOWN])
        more = ", ..." if len(table.column_names) > SHOWN else ""
        raise ValueError(f"{reason}; columns: {columns}{more}.")
    samples = [] if kind is None else whole_samples(table, inputs, kind)
    if kind is not None and samples:
        raise one_column_error(kind.name, samples)
    if target in inputs:
        raise ValueError(f"{target} is the target and cannot be an input.")
    name = None if named else repeating(table, inputs, target)
    if name is not None:
        rest = ",".join(column for column in inputs if column != name)
        raise ValueError(
            f"Column {name} says the same as the target {target}, row by row. If it is another form of the label, "
            f"leave it out with --inputs {rest or '...'}; if not, name all inputs with --inputs."
        )


def whole_samples(table: "Dataset", columns: Sequence[str], kind: "type[Tokenizer]") -> list[str]:
    """Those of several columns of which each cell is a sample, such as the name of a file, where rows are none."""
    if len(columns) < 2 or kind.takes_row or kind.words or not (kind.suffixes or "accepts" in vars(kind)):
        return []
    cells = {name: next((cell for cell in table[name] if not is_missing(cell)), None) for name in columns}
    if kind.accepts(cells):  # fields of one sample
        return []
    samples = [name for name, cell in cells.items() if cell is not None and kind.accepts(cell)]
    return samples if len(samples) > 1 else []


def one_column_error(modality: str, columns: Sequence[str], name: str | None = None) -> ValueError:
    """Error for an input, or a task of one modality, that is given several columns of which each is a sample."""
    inputs = [*columns] if name is None else [name, *(f"{name}_{at}" for at in range(2, len(columns) + 1))]
    line = f"{','.join(inputs)}={modality}" + ("" if name is None else f":{','.join(columns)}")
    return ValueError(
        f"{'The task' if name is None else f'Input {name}'} is given the columns {', '.join(columns)}, and {modality} "
        f"reads one. Make each an input, with one tokenizer for all: --input {shlex.quote(line)}"
    )


def repeating(table: "Dataset", inputs: Sequence[str], target: str | None) -> str | None:
    """First input column that says the same as the target, row by row; None if there is none."""
    import pandas as pd

    if target is None:
        return None

    # Compared as words, because a target may be a list of labels.
    codes = pd.factorize(pd.Series([str(value) for value in table[target][:]]))[0]
    classes = len(set(codes))
    for name in inputs:
        value = table[0][name]
        if isinstance(value, list | dict) or not 1 < classes <= len(table) // 2:
            continue
        other = pd.factorize(pd.Series(table[name][:]))[0]
        if len(set(other)) == classes == len(set(zip(codes, other, strict=True))):
            return name
    return None
