"""glTF without open3d: what it reads, and what it refuses."""

import base64
import json
import struct

import numpy as np
import pytest

from metatx.errors import SampleError
from metatx.reading.gltf import read_gltf
from tests.reading.cloud_files import CUBE, SQUARES, glb

TRIANGLES = [corners for a, b, c, d in SQUARES for corners in ((a, b, c), (a, c, d))]


def as_text(change=lambda tree: None, uri=None):
    """The cube as text, its values within, after a change."""
    content = glb()
    size = struct.unpack_from("<I", content, 12)[0]
    tree, values = json.loads(content[20 : 20 + size]), content[28 + size :]
    tree["buffers"][0]["uri"] = uri or "data:application/octet-stream;base64," + base64.b64encode(values).decode()
    change(tree)
    return json.dumps(tree).encode()


@pytest.mark.parametrize("content", [glb(), as_text()])
def test_both_forms_are_read(tmp_path, content):
    (tmp_path / "a.glb").write_bytes(content)
    vertices, triangles, names = read_gltf(tmp_path / "a.glb")
    np.testing.assert_array_equal(vertices, CUBE)
    np.testing.assert_array_equal(triangles, TRIANGLES)
    assert names == ("x", "y", "z") and vertices.dtype == np.float64


@pytest.mark.parametrize(
    ("mode", "expected"), [(5, [[0, 1, 3], [3, 1, 2], [3, 2, 4]]), (6, [[0, 1, 3], [0, 3, 2], [0, 2, 4]])]
)
def test_strips_and_fans(tmp_path, mode, expected):
    def change(tree):
        tree["meshes"][0]["primitives"][0]["mode"] = mode
        tree["accessors"][0]["count"] = 5
        tree["buffers"][0]["uri"] = (
            "data:;base64,"
            + base64.b64encode(
                np.array([0, 1, 3, 2, 4], "<u4").tobytes().ljust(144, b"\0") + CUBE.astype("<f4").tobytes()
            ).decode()
        )

    (tmp_path / "a.gltf").write_bytes(as_text(change))
    np.testing.assert_array_equal(read_gltf(tmp_path / "a.gltf")[1], expected)


def at(part, number, **values):
    return lambda tree: tree[part][number].update(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (as_text(uri="../secret.bin"), "lie in another file, '../secret.bin'"),
        (as_text(uri="/etc/passwd"), "lie in another file"),
        (as_text(uri="file:///etc/passwd"), "lie in another file"),
        (as_text(uri="data:x;base64,A*"), "damaged"),
        (as_text(at("accessors", 1, count=10**9)), "does not fit its 240 bytes|1,000,000,000"),
        (as_text(at("accessors", 0, count=10**9)), "1,000,000,000 x 1 does not fit"),
        (as_text(at("accessors", 1, byteOffset=-400)), "damaged: an array of 8 x 3 at"),
        (as_text(at("bufferViews", 1, byteStride=1)), "damaged: an array"),
        (as_text(at("bufferViews", 1, byteStride=10**9)), "does not fit"),
        (as_text(at("accessors", 1, count=7)), "names vertex 7; there are 7"),
        (as_text(lambda tree: tree["accessors"][1].pop("bufferView")), "packed by an extension, or missing"),
        (as_text(at("accessors", 1, sparse={})), "packed by an extension"),
        (as_text(at("meshes", 0, primitives=[])), "holds no triangles"),
        (b"[" * 100_000, "damaged, or no gltf file"),
        (b"[]", "damaged, or no gltf file"),
        (glb()[:-10], "truncated"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, content, message):
    (tmp_path / "a.gltf").write_bytes(content)
    with pytest.raises(SampleError, match=message):
        read_gltf(tmp_path / "a.gltf")


def test_points_are_read(tmp_path):
    def change(tree):
        tree["meshes"][0]["primitives"][0]["mode"] = 0
        del tree["meshes"][0]["primitives"][0]["indices"]

    (tmp_path / "a.gltf").write_bytes(as_text(change))
    vertices, triangles, _ = read_gltf(tmp_path / "a.gltf")
    np.testing.assert_array_equal(vertices, CUBE)
    assert not len(triangles)
