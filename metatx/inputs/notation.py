"""Inputs as the command line writes them: ``--input NAME[,NAME...]=MODALITY[:COLUMN,COLUMN...]``."""

import csv
import io
import shlex
from collections.abc import Iterable, Sequence

from metatx.spec import Input

__all__ = ["AUTO", "one_input_error", "parsed", "written"]

AUTO = "auto"  # modality of a spec whose inputs are guessed

FORM = "NAME=MODALITY or NAME=MODALITY:COLUMN,..., such as photo=image:file"


def parsed(lines: Iterable[str]) -> list[Input]:
    """Inputs that the values of ``--input`` say, in order.

    Several names of one line share a tokenizer, that of the first. Without columns, each input reads the column of its
    name, see ``Input``; with columns, several names have one each. A column whose name has a comma stands in double
    quotes.

    Raises:
        ValueError: If a line has another form, or a name cannot be used.

    Example:
        >>> [(input.name, input.columns, input.shares) for input in parsed(["front,back=image", "facts=tabular:a,b"])]
        [('front', None, None), ('back', None, 'front'), ('facts', ('a', 'b'), None)]
    """
    inputs: list[Input] = []
    for line in lines:
        names, _, rest = line.partition("=")
        modality, colon, columns = rest.partition(":")
        if not names.strip() or not modality.strip() or (colon and not columns.strip()):
            raise ValueError(f"--input is {line!r}; expected {FORM}.")
        inputs += _sharing([name.strip() for name in names.split(",")], modality.strip(), _cells(columns), line)
    return inputs


def _cells(columns: str) -> list[str]:
    """Names of columns, of which those with commas stand in quotes."""
    return [cell.strip() for row in csv.reader([columns], skipinitialspace=True) for cell in row]


def _sharing(names: Sequence[str], modality: str, columns: Sequence[str], line: str) -> list[Input]:
    """Inputs of one line, which share a tokenizer. Raises ValueError if several have not a column each."""
    if len(names) == 1:
        return [Input(name=names[0], modality=modality, columns=columns or None)]
    if columns and len(columns) != len(names):
        raise ValueError(
            f"--input {line!r} has {len(names)} names and {len(columns)} columns; several inputs that share a "
            "tokenizer read a column each."
        )
    return [
        Input(name=name, modality=modality, columns=[columns[at]] if columns else None, shares=names[0] if at else None)
        for at, name in enumerate(names)
    ]


def written(inputs: Sequence[Input]) -> str:
    """Options of the command line that say the inputs, quoted for a shell; those that share have a column each.

    Example:
        >>> written(parsed(["front,back=image", "facts=tabular:living area,rooms"]))
        "--input front,back=image --input 'facts=tabular:living area,rooms'"
    """
    lines: list[str] = []
    for owner in inputs:
        if owner.shares is None:
            group = [owner, *(each for each in inputs if each.shares == owner.name)]
            names = [each.name for each in group]
            columns = [column for each in group for column in each.columns or (each.name,)]
            said = "" if columns == names else f":{_row(columns)}"
            line = ",".join(names) + f"={owner.modality}{said}"
            lines.append(f"--input {shlex.quote(line)}")
    return " ".join(lines)


def _row(cells: Sequence[str]) -> str:
    """Cells with commas between them, in quotes where they have a comma themselves."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def one_input_error(options: Sequence[str]) -> ValueError:
    """Error for options of the fusion in a task that has one input."""
    return ValueError(
        f"{' and '.join(options)}: the task has one input, so that there is nothing to fuse; name further inputs with "
        "--input, or leave it out."
    )
