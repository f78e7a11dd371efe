"""Answers of tasks as tensors of the Open Inference Protocol."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from metatx.serving.tensors import BYTES, Tensor

__all__ = ["EMBEDDING", "answer_tensors", "embedding_tensor"]

EMBEDDING = "embedding"  # output that is made where it is asked for
LABELLED = re.compile(r"(\w+)\((.*)\)", re.DOTALL)  # field of an answer with a number for a label, such as p(cat)
NAMES = {"p": "probabilities", "share": "shares"}
NUMPY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def answer_tensors(records: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Tensors (B, ...) of the answers to B samples of one task.

    Fields with a number for each label become one FP32 tensor (B, K), whose parameter ``labels`` names the columns, in
    the place of the first. Other numbers are FP32, whole numbers INT64, booleans BOOL, words BYTES (B,), lists of
    equally many numbers FP32 (B, N). All else is JSON in BYTES, one item a sample.
    """
    first = records[0]
    structured = any(isinstance(value, list) and not _are_numbers(value) for value in first.values())
    tensors: list[Tensor] = []
    groups: dict[str, list[str]] = {}
    for field in first:
        match = LABELLED.fullmatch(field)
        if match and all(isinstance(record[field], float) for record in records):
            groups.setdefault(match[1], []).append(field)
            if len(groups[match[1]]) > 1:
                continue
            fields = [name for name in first if name.startswith(f"{match[1]}(") and LABELLED.fullmatch(name)]
            values = np.array([[record[name] for name in fields] for record in records], np.float32)
            labels = [name[len(match[1]) + 1 : -1] for name in fields]
            name = NAMES.get(match[1], match[1])
            tensors.append(Tensor(name=name, datatype="FP32", values=values, parameters={"labels": labels}))
        else:
            tensors.append(_column(field, [record.get(field) for record in records], structured))
    return tensors


def embedding_tensor(vectors: Sequence[np.ndarray]) -> Tensor:
    """Tensor FP32 (B, D) of vectors."""
    return Tensor(name=EMBEDDING, datatype="FP32", values=np.stack(vectors).astype(np.float32))


def _column(name: str, values: list[Any], structured: bool) -> Tensor:
    """Tensor of one field of the answers."""
    kinds = {type(value) for value in values if value is not None}
    datatype = BYTES
    if kinds == {bool} and None not in values:
        datatype = "BOOL"
    elif kinds == {int} and None not in values:
        datatype = "INT64"
    elif kinds and kinds <= {int, float}:
        datatype = "FP32"
    elif kinds == {list} and not structured and len({len(value) for value in values}) == 1:
        datatype = "FP32"
    if datatype != BYTES:
        numpy_type = {"BOOL": np.bool_, "INT64": np.int64, "FP32": np.float32}[datatype]
        return Tensor(name=name, datatype=datatype, values=np.array(values, dtype=numpy_type))
    items = np.empty(len(values), dtype=object)
    items[:] = [_bytes(value, kinds <= {str}) for value in values]
    return Tensor(
        name=name, datatype=BYTES, values=items, parameters={} if kinds <= {str} else {"content_type": "json"}
    )


def _bytes(value: Any, words: bool) -> bytes:
    if words:
        return b"" if value is None else str(value).encode()
    return orjson.dumps(value, option=NUMPY)


def _are_numbers(value: list[Any]) -> bool:
    return bool(value) and all(type(each) in (int, float) for each in value)
