"""JSON Schemas of samples, for those who send them as JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["array_schema", "image_schema", "row_schema"]

SHOWN = 100  # categories of a column that a schema suggests
FARTHEST = datetime.max.toordinal()


def array_schema(*axes: str, cells: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Nested arrays of numbers, or of other ``cells``; ``axes`` names them from the outermost to the innermost."""
    schema = dict(cells or {"type": "number"})
    for _ in axes:
        schema = {"type": "array", "items": schema, "minItems": 1}
    return {**schema, "title": " x ".join(axes)}


def image_schema() -> dict[str, Any]:
    """Pixels of 8 bits, grey or in colours."""
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
    """A row of a table: column to cell.

    Args:
        columns: As ``TabularTokenizer.schema`` describes them.
        largest: Number that a cell may hold.
    """
    properties: dict[str, Any] = {}
    example: dict[str, Any] = {}
    for column in columns:
        name, kind = column["name"], column["type"]
        if kind == "numeric":
            cell = {"type": ["number", "null"], "minimum": -largest, "maximum": largest}
            example[name] = float(f"{column['centre']:.6g}")
        elif kind == "boolean":
            cell, example[name] = {"type": ["boolean", "null"]}, False
        elif kind == "date":
            day = datetime.fromordinal(min(max(1, int(column["centre"])), FARTHEST))
            cell = {"type": ["string", "null"], "format": "date", "description": "ISO 8601, with a time where known"}
            example[name] = day.date().isoformat()
        else:
            known = [category for category in column["categories"] if category is not None]
            cell = {"type": ["string", "number", "null"], "examples": known[:SHOWN]}
            example[name] = known[0] if known else None
        properties[name] = cell
    return {"type": "object", "properties": properties, "required": list(properties), "examples": [example]}
