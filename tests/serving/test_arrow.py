"""Arrow streams as bodies: rows are answered as JSON's are; what would unpack to more, and strangers' bytes, do not."""

import datetime
import io

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import strategies

from metatx.serving.arrow import rows_of, stream_of, table_of
from metatx.serving.limits import Limits, RefusedError
from tests.serving.payloads import PICTURE, ROW, SERIES

ARROW = {"content-type": "application/vnd.apache.arrow.stream"}
ROWS = [ROW, {"a": None, "b": None, "c": 2.0}, {"a": 1.0, "b": "blue", "c": 0.0}]
TABLE = pa.table({"n": [1, None, 3], "w": ["a", None, "b"], "x": [[1.0, 2.0], None, [3.0, 4.0]], "y": [[[1], [2]]] * 3})


def compressed(table):
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return file.getvalue()


def batch_first():
    """A stream whose first message is no schema."""
    schema = TABLE.schema.serialize().size
    return WHOLE[schema:]


def lists_without_bytes(kind):
    """A list of as many items as it says, none of which takes room."""
    offsets = pa.py_buffer(np.array([0, 2**31 - 1], np.int32).tobytes())
    items = pa.Array.from_buffers(kind, 2**31 - 1, [None] * (2 if pa.types.is_null(kind) is False else 1), children=[])
    return pa.Array.from_buffers(pa.list_(kind), 1, [None, offsets], children=[items])


def test_rows_are_answered_as_those_of_json(serve):
    client = serve()
    for action in ("predict", "embed"):
        path = f"/v1/tasks/kinds/{action}"
        listed = client.post(path, json={"inputs": ROWS}).json()
        whole = pa.Table.from_pylist(ROWS)
        for table in (whole, pa.concat_tables([whole[:1], whole[1:]]), whole.append_column("other", [["x"] * 3])):
            assert client.post(path, content=stream_of(table), headers=ARROW).json() == listed


def test_list_columns_are_arrays(serve):
    """Those of the task's name, or of any where it has none."""
    client = serve()
    for task, name, sample in (("light", "any", PICTURE), ("ahead", "load", SERIES)):
        samples = [sample, sample // 2 if task == "light" else sample / 2]
        kind = pa.from_numpy_dtype(sample.dtype)
        for _ in range(sample.ndim):
            kind = pa.list_(kind)
        table = pa.table({name: pa.array([each.tolist() for each in samples], kind)})
        fixed = pa.array(np.stack(samples).ravel())
        for size in reversed(sample.shape):
            fixed = pa.FixedSizeListArray.from_arrays(fixed, size)
        listed = client.post(f"/v1/tasks/{task}/predict", json={"inputs": [each.tolist() for each in samples]}).json()
        for sent in (table, pa.table({name: fixed})):
            assert client.post(f"/v1/tasks/{task}/predict", content=stream_of(sent), headers=ARROW).json() == listed


def test_values_are_those_of_json():
    times = pd.to_datetime(["2024-05-01 10:00", None, "2024-05-03 00:00"])
    table = TABLE.append_column("t", pa.array(times)).append_column("d", [[datetime.date(2024, 1, 2)] * 3])
    table = table.append_column("l", [[["a", "b"], [], None]]).append_column("none", pa.nulls(3))
    first, second, third = rows_of(table_of(stream_of(table), Limits()), Limits())
    assert (first["n"], first["w"], first["t"], first["d"]) == (1, "a", "2024-05-01T10:00:00", "2024-01-02")
    assert np.array_equal(first["x"], [1, 2]) and first["y"].shape == (2, 1) and first["y"].dtype == np.int64
    assert [second[name] for name in ("n", "w", "x", "t", "none")] == [None] * 5 and third["l"] is None
    assert (first["l"], second["l"]) == (["a", "b"], [])


WHOLE = stream_of(TABLE)
EIGHT = pa.array([1] * 8, pa.int8())


@pytest.mark.parametrize(
    ("content", "status", "line"),
    [
        (b"", 400, "no Arrow stream"),
        (b'{"inputs": []}', 400, "no Arrow stream"),
        (WHOLE[:200], 400, "no Arrow stream"),
        (WHOLE[:-30], 400, "no Arrow stream"),
        (stream_of(TABLE.slice(0, 1)).replace(b"n\0\0\0", b"\xff\0\0\0"), 400, "no Arrow stream"),
        (batch_first(), 400, "begins with a message of type record batch"),
        (WHOLE + b"more", 400, "4 bytes follow the end"),
        (stream_of(TABLE[:0]), 422, "has no rows"),
        (compressed(TABLE), 415, "compressed"),
        (stream_of(pa.table([[1], [2]], ["a", "a"])), 400, "two columns 'a'"),
        (stream_of(pa.table({"a": pa.array(["x"]).dictionary_encode()})), 415, "Column a is dictionary"),
        (stream_of(pa.table({"a": pa.array([b"x"])})), 415, "Column a is binary; an Arrow stream may hold numbers"),
        (stream_of(pa.table({"a": pa.array(["x"], pa.string_view())})), 415, "string_view"),
        (stream_of(pa.table({"a": [{"b": 1}]})), 415, "struct"),
        (stream_of(pa.table({"a": pa.RunEndEncodedArray.from_arrays([2], [1])})), 415, "run_end_encoded"),
        (stream_of(pa.table({"a": lists_without_bytes(pa.null())})), 415, "list<item: null>"),
        (stream_of(pa.table({"a": pa.array([[[]]], pa.list_(pa.list_(pa.int8(), 0)))})), 415, "[0]"),
        (stream_of(pa.table({"a": [[["x"]]]})), 415, "list<item: list<item: string>>"),
        (stream_of(pa.table({"a": [[[1], [2, 3]]]})), 422, "inputs[0]: column a: found lists of unequal length"),
        (stream_of(pa.table({"a": [[[1], None]]})), 422, "missing list"),
        (stream_of(pa.table({"a": pa.array([2**60], pa.timestamp("s"))})), 422, "out of range"),
        (stream_of(pa.table({"a": range(1025)})), 413, "1,025 rows"),
        (stream_of(pa.table({str(at): [1.0] for at in range(501)})), 413, "501 values; expected at most 500"),
        (stream_of(pa.table({"a": [[1] * 501]})), 413, "501 numbers; expected at most 500"),
        (stream_of(pa.table({"a": [1.0], "b": ["red"]})), 422, "column c: absent"),
        (stream_of(pa.table({"a": [[1.0]], "b": ["red"], "c": [1.0]})), 422, "column a"),
        (stream_of(pa.table({"a": ["x" * 200_000]})), 413, "The Arrow stream has more than 0.1 megabytes"),
    ],
)
def test_what_is_refused_is_one_line(serve, content, status, line):
    """A task's column that is absent included: extra columns are ignored, as in JSON."""
    small = "501" in line
    limits = Limits(json_mb=0.001) if small else Limits(json_mb=0.1)
    if small:  # the bytes pass, and the values do not
        with pytest.raises(RefusedError, match=line) as caught:
            rows_of(table_of(content, limits), limits)
        assert caught.value.status == status
        return
    found = serve(limits=limits).post("/v1/tasks/kinds/predict", content=content, headers=ARROW)
    assert found.status_code == status and line in found.json()["detail"] and "\n" not in found.json()["detail"]


def test_rows_of_several_tasks_and_searches_are_refused(serve):
    found = serve().post("/v1/predict", content=WHOLE, headers=ARROW)
    assert found.status_code == 415 and "rows of one task" in found.json()["detail"]


@hypothesis.given(strategies.binary(max_size=40), strategies.integers(0, len(WHOLE)))
def test_other_bytes_are_one_line(noise, at):
    for content in (noise, WHOLE[:at] + noise + WHOLE[at + len(noise) :], WHOLE[:at]):
        try:
            rows_of(table_of(content, Limits()), Limits())
        except ValueError as error:
            assert "\n" not in str(error)
