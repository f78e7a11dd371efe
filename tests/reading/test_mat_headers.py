"""MATLAB files by their headers: what they declare is checked before scipy is asked for anything."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io
from scipy.io import savemat
from scipy.sparse import csc_array

from metatx.errors import SampleError
from metatx.reading.arrays import mat_arrays
from metatx.reading.mat_headers import variables_of

HEADER = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
NUMBER = struct.pack("<d", 1)


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(code, shape, name, body=b"", flags=0):
    sizes = struct.pack(f"<{len(shape)}i", *shape)
    start = element(6, struct.pack("<II", code | flags, 0)) + element(5, sizes) + element(1, name)
    return element(14, start + body)


def packed(content):
    small = zlib.compress(content)
    return struct.pack("<II", 15, len(small)) + small


def nested(depth):
    """Cells of one cell each, around a number."""
    start = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<2i", 1, 1)) + element(1, b"")
    parts = [matrix(6, (1, 1), b"", element(9, NUMBER))]
    size = len(parts[0])
    for _ in range(depth):
        parts.append(struct.pack("<II", 14, size + len(start)) + start)
        size += len(start) + 8
    return b"".join(reversed(parts))


def old(code, rows, columns, body, name=b"a\0"):
    return struct.pack("<5i", code, rows, columns, 0, len(name)) + name + body


@pytest.fixture
def no_scipy(monkeypatch):
    """Fails where scipy is asked to read."""
    monkeypatch.setattr(scipy.io, "loadmat", lambda *args, **kwargs: pytest.fail("scipy was asked"))


@pytest.mark.parametrize("how", [{"do_compression": True}, {}, {"format": "4"}])
def test_what_scipy_writes_is_known_by_its_header(tmp_path, how):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones((3, 4), np.uint8), "word": "train", "long_name": [[1]]}
    savemat(tmp_path / "a.mat", arrays, **how)
    found = {variable.name: variable for variable in variables_of(tmp_path / "a.mat")}
    assert {name: variable.kind for name, variable in found.items()} == {
        name: "text" if name == "word" else "numbers" for name in arrays
    }
    read = mat_arrays(tmp_path / "a.mat")
    assert list(read) == list(arrays) and read["word"].tolist() == ["train"]
    assert all(found[name].nbytes == read[name].nbytes for name in ("a", "b", "long_name"))
    np.testing.assert_array_equal(read["a"], arrays["a"])


def test_what_is_no_full_array_is_left_out_and_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("metatx.reading.arrays.tell", told.append)
    cells = np.full((2, 2), "a", dtype=object)
    others = {"cells": cells, "fields": {"x": 1}, "thin": csc_array(np.eye(3)), "waves": np.ones((2, 2)) * 1j}
    savemat(tmp_path / "a.mat", {"a": np.ones((2, 3)), **others})
    assert list(mat_arrays(tmp_path / "a.mat")) == ["a"]
    assert "left out cells (cell), fields (struct), thin (sparse), waves (complex)" in told[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(nested(20_000)), r"one without a name \(cell\); expected full arrays"),
        (nested(20_000), r"one without a name \(cell\)"),
        (matrix(1, (30_000, 30_000), b"c"), r"c \(cell\)"),
        (matrix(2, (20_000, 20_000), b"s", element(5, struct.pack("<i", 32)) + element(1, bytes(32))), r"s \(struct\)"),
        (matrix(5, (10**9, 10**9), b"s"), r"s \(sparse\)"),
        (matrix(16, (1, 1), b"f", nested(5)), r"f \(function\)"),
        (element(14, element(6, struct.pack("<II", 17, 0)) + element(1, b"o")), r"None \(object\)"),
        (matrix(6, (1000, 1000), b"x", element(9, NUMBER)), r"x has the shape \(1000, 1000\), and 8 bytes"),
        (matrix(6, (1, -1), b"x", element(9, NUMBER)), r"x has the shape \(1, -1\)"),
        (matrix(6, (1,) * 33, b"x", element(9, NUMBER)), r"x has the shape"),
        (matrix(6, (1, 1), b"x", element(99, NUMBER)), "8 bytes of type 99"),
        (matrix(6, (1, 1), b"x", struct.pack("<II", 9, 10**9)), "1,000,000,000 bytes of values where there are"),
        (matrix(6, (1, 1), b"x" * 2000, element(9, NUMBER)), "2,000 bytes in a variable's header"),
        (matrix(4, (30_000, 30_000), b"t", element(16, b"")), "text t of 900,000,000 characters in 0 bytes"),
        (matrix(4, (10**9, 0), b"t", element(16, b"")), r"t has the shape \(1000000000, 0\), without a value"),
        (matrix(9, (30_000, 30_000, 0), b"x", element(2, b"")), "without a value"),
        (matrix(6, (1, 1), b"x", element(9, NUMBER)) + matrix(1, (9, 9), b"x"), "two variables x"),
        (packed(struct.pack("<II", 14, 10**9)), "1,000,000,000 bytes packed into"),
        (struct.pack("<II", 14, 100), "a variable of 100 bytes where there are 0"),
        (struct.pack("<II", 14, 0), "a variable of 0 bytes"),
        (struct.pack("<II", 99, 8) + bytes(8), "an element of type 99"),
        (struct.pack("<II", 15, 8) + bytes(8), "ends within a variable's header"),
    ],
)
def test_what_does_not_fit_is_refused_before_scipy_reads(tmp_path, monkeypatch, no_scipy, content, message):
    monkeypatch.setenv("METATX_BOUNDS", "data_set_mb=4000")
    (tmp_path / "a.mat").write_bytes(HEADER + content)
    with pytest.raises(SampleError, match=message) as caught:
        mat_arrays(tmp_path / "a.mat")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (old(0, 30_000, 30_000, bytes(80)), r"a has the shape \(30000, 30000\), and the file ends"),
        (old(0, 0, 10**9, b""), "without a value"),
        (old(0, -5, 10, bytes(800)), "a variable of -5 x 10"),
        (old(0, 1, 1, bytes(8), b"a" * 5000), "with a name of 5000 bytes"),
        (old(9, 1, 1, bytes(8)), "a variable of type 9"),
        (old(2, 1000, 3, bytes(24_000)), r"a \(sparse\)"),
        (old(0, 2, 2, bytes(32)) + old(0, 2, 2, bytes(32)), "two variables a"),
        (old(0, 2, 2, bytes(32)) + b"\1\2", "ends within a variable's header"),
    ],
)
def test_version_4_is_checked_likewise(tmp_path, no_scipy, content, message):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(SampleError, match=message):
        mat_arrays(tmp_path / "a.mat")


def test_variables_are_counted_and_measured_together(tmp_path, monkeypatch, no_scipy):
    savemat(tmp_path / "a.mat", {f"a{i}": np.zeros((1000, 100)) for i in range(5)}, do_compression=True)
    monkeypatch.setenv("METATX_BOUNDS", "members=4")
    with pytest.raises(SampleError, match="has 5 .*expected at most 4"):
        mat_arrays(tmp_path / "a.mat")
    monkeypatch.setenv("METATX_BOUNDS", "data_set_mb=3")
    with pytest.raises(SampleError, match="has 4 megabytes .*expected at most 3"):
        mat_arrays(tmp_path / "a.mat")
