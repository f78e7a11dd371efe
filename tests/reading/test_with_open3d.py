"""What is handed to open3d: checked before, and from a file that stands alone."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from metatx.errors import SampleError
from metatx.reading import with_open3d
from metatx.reading.point_cloud import read_cloud

HEAD = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA ascii\n"
TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


@pytest.fixture
def no_open3d(monkeypatch):
    """A module without anything in it, so that its use fails."""
    monkeypatch.setitem(sys.modules, "open3d", object())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("WIDTH 2", "WIDTH 1000000000", r"\[2\] points, \[1000000000\] wide"),
        ("WIDTH 2\nHEIGHT 1\nPOINTS 2", "WIDTH 1000000000\nHEIGHT 1\nPOINTS 1000000000", "1,000,000,000 points"),
        ("SIZE 4", "SIZE -4", "says SIZE -4 4 4"),
        ("SIZE 4", "SIZE 3", "says F3 F4 F4"),
        ("TYPE F", "TYPE Q", "says Q4 F4 F4"),
        ("COUNT 1", "COUNT 1000", "has 1,002 numbers of a point"),
        ("COUNT 1", "COUNT 0", "of x y z"),
        ("FIELDS x", "FIELDS", "of y z"),
        ("FIELDS x y z\n", "", "has no FIELDS"),
        ("SIZE 4 4 4\n", "SIZE 4 4 4\nSIZE 8 8 8\n", "says SIZE twice"),
        ("ascii", "binary", "12 bytes of values, expected 24 for 2 points"),
        ("ascii", "binary_compressed", "expected 24"),
        ("ascii", "odd", "says DATA odd"),
        ("2\nDATA", "9\nDATA", r"\[9\] points"),
        ("DATA ascii\n", "", "its header does not end"),
    ],
)
def test_headers_of_pcd_are_checked(tmp_path, no_open3d, old, new, message):
    (tmp_path / "a.pcd").write_text((HEAD + "0 0 0\n1 1 1\n").replace(old, new, 1))
    with pytest.raises(SampleError, match=message):
        read_cloud(tmp_path / "a.pcd")


HIDDEN = [
    b"mtllib M\n", b"\tmtllib M\n", b"vmtllib M\n", b"v 9 9 9 mtllib M\n", b"o \\\nmtllib M\n", b"# \\\nmtllib M\n",
    b"mtl\\\nlib M\n", b"# x\x0cmtllib M\n", b"# x\0mtllib M\n", b"s 1\rmtllib M\r", b"usemtl mtllib M\n",
]  # fmt: skip


@pytest.mark.parametrize("line", HIDDEN)
def test_no_library_of_materials_is_left_in_an_obj(line):
    for content in (line + TRIANGLE, TRIANGLE + line):
        kept = with_open3d.CHECKS[".obj"](content, "damaged")
        assert b"mtl" not in kept.replace(b"usemtl", b"") and b"M" not in kept
        assert set(TRIANGLE.splitlines()) <= set(kept.splitlines())


def test_open3d_reads_from_a_folder_without_anything_else(tmp_path, monkeypatch):
    seen = []

    def mesh(path):
        seen.extend(Path(path).parent.iterdir())
        return SimpleNamespace(vertices=np.eye(3), triangles=np.array([[0, 1, 2]]))

    utility = SimpleNamespace(
        VerbosityContextManager=lambda level: nullcontext(), VerbosityLevel=SimpleNamespace(Error=0)
    )
    fake = SimpleNamespace(io=SimpleNamespace(read_triangle_mesh=mesh), utility=utility)
    monkeypatch.setitem(sys.modules, "open3d", fake)
    (tmp_path / "a.obj").write_bytes(TRIANGLE)
    (tmp_path / "a.mtl").write_bytes(b"newmtl a")
    read_cloud(tmp_path / "a.obj")
    assert [file.name for file in seen] == ["a.obj"] and seen[0].parent != tmp_path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", b"f " + b"1 " * 200_000, "200,000 corners of one face"),
        ("a.obj", b"f 1 1 1\n" * 60 + TRIANGLE, "61 faces"),
        ("a.stl", bytes(80) + b"\xff\xff\xff\x7f", "announce 2,147,483,647 triangles"),
        ("a.stl", TRIANGLE * 9, "damaged, or no stl file"),
        ("a.stl", bytes(80) + b"\x3d\0\0\0" + bytes(61 * 50), "61 faces"),
    ],
)
def test_meshes_are_counted_before_open3d_reads(tmp_path, monkeypatch, no_open3d, name, content, message):
    monkeypatch.setenv("METATX_BOUNDS", "faces=60,points=200")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SampleError, match=message):
        read_cloud(tmp_path / name)


def test_an_obj_of_points_alone_is_read(tmp_path):
    (tmp_path / "a.obj").write_text("# scan\nv 1 2 3\nv 4 5 6 0.5 0.5 0.5\nvn 0 0 1\n")
    points, triangles, _ = with_open3d.read_with_open3d(tmp_path / "a.obj")
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]] and not len(triangles)
