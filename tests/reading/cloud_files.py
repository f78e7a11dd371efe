"""Clouds and meshes as the bytes of files."""

import json
import struct

import numpy as np

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(9, 6)).astype(np.float32)
NAMES = ("x", "y", "z", "nx", "ny", "nz")
CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
SQUARES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def ply(points, names=NAMES, order="ascii", kind="float", faces=(), length="uchar"):
    """The bytes of a PLY file."""
    code = {"float": "f4", "double": "f8"}[kind]
    mark = ">" if order == "binary_big_endian" else "<"
    head = ["ply", f"format {order} 1.0", "comment made here", f"element vertex {len(points)}"]
    head += [f"property {kind} {name}" for name in names]
    if len(faces):
        head += [f"element face {len(faces)}", f"property list {length} int vertex_indices"]
    head = "\n".join([*head, "end_header\n"]).encode()
    if order == "ascii":
        lines = [" ".join(map(str, row)) for row in [*points.tolist(), *([len(face), *face] for face in faces)]]
        return head + "\n".join(lines).encode()
    size = {"uchar": "u1", "int": "i4"}[length]
    lists = [np.array(len(f), mark + size).tobytes() + np.array(f, mark + "i4").tobytes() for f in faces]
    return head + points.astype(mark + code).tobytes() + b"".join(lists)


def off(vertices, faces, first="OFF\n"):
    lines = [f"{first}{len(vertices)} {len(faces)} 0", *(" ".join(map(str, row)) for row in vertices)]
    return "\n".join([*lines, *(" ".join(map(str, [len(face), *face])) for face in faces), ""]).encode()


def text(points, separator=" ", head=""):
    return (head + "\n".join(separator.join(map(str, row)) for row in points.tolist())).encode()


def glb():
    """The cube as binary glTF, which open3d reads but does not write so that it can."""
    indices = np.array([corner for a, b, c, d in SQUARES for corner in (a, b, c, a, c, d)], "<u4")
    body = indices.tobytes() + CUBE.astype("<f4").tobytes()
    views = [{"buffer": 0, "byteLength": 144}, {"buffer": 0, "byteOffset": 144, "byteLength": 96}]
    accessors = [
        {"bufferView": 0, "componentType": 5125, "count": 36, "type": "SCALAR"},
        {"bufferView": 1, "componentType": 5126, "count": 8, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 1]},
    ]
    primitive = {"attributes": {"POSITION": 1}, "indices": 0}
    tree = {"asset": {"version": "2.0"}, "buffers": [{"byteLength": len(body)}], "bufferViews": views, "scene": 0}
    tree |= {"accessors": accessors, "meshes": [{"primitives": [primitive]}], "nodes": [{"mesh": 0}]}
    words = json.dumps({**tree, "scenes": [{"nodes": [0]}]}).encode()
    words += b" " * (-len(words) % 4)
    chunks = struct.pack("<I4s", len(words), b"JSON") + words + struct.pack("<I4s", len(body), b"BIN\0") + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
