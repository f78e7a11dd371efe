"""JSON Schemas of samples that are sent as JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["array_schema", "image_schema", "row_schema"]

SHOWN = 100  # most categories of a column that a schema lists as examples
FARTHEST = datetime.max.toordinal()


def array_schema(*axes: str, cells: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Schema of nested arrays.

    Args:
        axes: Names of the axes, outermost first.
        cells: Schema of the innermost values; by default numbers.
    """
    schema = dict(cells or {"type": "number"})
    for _ in axes:
        schema = {"type": "array", "items": schema, "minItems": 1}
    return {**schema, "title": " x ".join(axes)}


def image_schema() -> dict[str, Any]:
    """Schema of an image: pixels of 8 bits, grey or in colours."""
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    colours = array_schema("height", "width", cells={**array_schema("red, green, blue", cells=pixel), "maxItems": 3})
    colours["items"]["items"]["minItems"] = 3
    colours["title"] = "height x width x 3"
    return {
        "description": "Pixels 0..255; easier sent as a file.",
        "anyOf": [array_schema("height", "width", cells=pixel), colours],
        "examples": [[[(32 * row + 4 * column) % 256 for column in range(8)] for row in range(8)]],
    }


def row_schema(columns: Sequence[Mapping[str, Any]], largest: float) -> dict[str, Any]:
    """Schema of a row of a table, an object of column to cell.

    Args:
        columns: Description of each column: name, type, centre or categories, see ``TabularTokenizer.schema``.
        largest: Largest number that a cell may hold.
    """
    properties: dict[str, Any] = {}
    example: dict[str, Any] = {}
    for column in columns:
        name = column["name"]
        kind = column["type"]
        if kind == "numeric":
            cell = {"type": ["number", "null"], "minimum": -largest, "maximum": largest}
            example[name] = float(f"{column['centre']:.6g}")
        elif kind == "boolean":
            cell = {"type": ["boolean", "null"]}
            example[name] = False
        elif kind == "date":
            day = datetime.fromordinal(min(max(1, int(column["centre"])), FARTHEST))
            cell = {"type": ["string", "null"], "format": "date", "description": "ISO 8601, with a time where known"}
            example[name] = day.date().isoformat()
        else:
            categories = [category for category in column["categories"] if category is not None]
            cell = {"type": ["string", "number", "null"], "examples": categories[:SHOWN]}
            example[name] = categories[0] if categories else None
        properties[name] = cell
    return {"type": "object", "properties": properties, "required": list(properties), "examples": [example]}
