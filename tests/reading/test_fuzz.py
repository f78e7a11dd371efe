"""Files as a stranger may send them: whatever their bytes, they are read, or refused in words, in bounded memory."""

import io
import json
import resource
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from metatx.reading.arrays import npy_array
from metatx.reading.bounds import VARIABLE, stricter
from metatx.reading.coco import read_coco
from metatx.reading.hyperspectral import read_cube
from metatx.reading.point_cloud import read_cloud
from metatx.reading.point_cloud_sets import CONTAINERS
from tests.coco_files import CONTENT
from tests.fuzz import EXAMPLES
from tests.reading.cloud_files import CUBE, NAMES, POINTS, SQUARES, glb, off, ply, text

ROOM = 3 << 30  # bytes of addresses that reading may take; a promise of more is to be refused before
ODD = [0, 1, 2, 3, 127, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 10**9]
CELL = np.full((2, 2), "a", dtype=object)


def packed(write, *args, **kwargs):
    file = io.BytesIO()
    write(file, *args, **kwargs)
    return file.getvalue()


def pcd(how):
    head = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 9\nHEIGHT 1\nPOINTS 9\nDATA "
    values = POINTS[:, :3].tobytes() if how == "binary" else text(POINTS[:, :3])
    return head.encode() + how.encode() + b"\n" + values


def h5():
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as held:
        held.create_dataset("data", data=np.zeros((2, 9, 3), np.float32), compression="gzip")
        held["label"] = np.zeros((2, 1))
    return file.getvalue()


def stl():
    corners = CUBE[[corner for a, b, c, _ in SQUARES for corner in (a, b, c)]].reshape(-1, 9).astype("<f4")
    rows = b"".join(bytes(12) + row.tobytes() + bytes(2) for row in corners)
    return bytes(80) + struct.pack("<I", len(corners)) + rows


def obj():
    lines = [*("v " + " ".join(map(str, row)) for row in CUBE.tolist())]
    return "\n".join([*lines, *("f " + " ".join(str(at + 1) for at in face[:3]) for face in SQUARES), ""]).encode()


SCENE = {"cube": np.zeros((4, 5, 3)), "gt": np.ones((4, 5), np.uint8), "names": "text", "cells": CELL, "s": {"a": [1]}}
KINDS = {
    "packed.mat": (read_cube, lambda: packed(savemat, SCENE, do_compression=True)),
    "plain.mat": (read_cube, lambda: packed(savemat, SCENE)),
    "old.mat": (read_cube, lambda: packed(savemat, {"X": CUBE, "y": np.ones((8, 1))}, format="4")),
    "a.npz": (read_cloud, lambda: packed(np.savez_compressed, points=POINTS, columns=NAMES)),
    "set.npz": (CONTAINERS[".npz"], lambda: packed(np.savez, points=POINTS[None], label=np.zeros(1))),
    "a.npy": (npy_array, lambda: packed(np.save, POINTS)),
    "a.h5": (CONTAINERS[".h5"], h5),
    "a.xyz": (read_cloud, lambda: text(POINTS, "; ", "x y z nx ny nz\n")),
    "a.off": (read_cloud, lambda: off(CUBE, [face[:3] for face in SQUARES] + SQUARES)),
    "text.ply": (read_cloud, lambda: ply(CUBE, NAMES[:3], faces=SQUARES)),
    "a.ply": (read_cloud, lambda: ply(CUBE, NAMES[:3], "binary_little_endian", faces=[*SQUARES, [0, 1, 2]])),
    "text.pcd": (read_cloud, lambda: pcd("ascii")),
    "a.pcd": (read_cloud, lambda: pcd("binary")),
    "a.stl": (read_cloud, stl),
    "a.obj": (read_cloud, obj),
    "a.glb": (read_cloud, glb),
    "a.json": (read_coco, lambda: json.dumps(CONTENT).encode()),
}


@st.composite
def damage(draw):
    """A change of bytes: one to six places get other bytes, numbers, or their end; or parts go, or come twice."""
    place = st.floats(0, 1, exclude_max=True)
    steps = st.one_of(
        st.tuples(st.just("bytes"), place, st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("number"), place, st.sampled_from(ODD) | st.integers(0, 2**32 - 1)),
        st.tuples(st.just("word"), place, st.sampled_from(ODD) | st.floats()),
        st.tuples(st.just("cut"), place, st.integers(1, 300)),
        st.tuples(st.just("twice"), place, st.integers(1, 300)),
        st.tuples(st.just("end"), place, st.none()),
    )
    return draw(st.lists(steps, min_size=1, max_size=6))


def damaged(content, steps):
    for kind, place, value in steps:
        at = int(place * len(content))
        if kind in ("bytes", "number"):
            new = value if kind == "bytes" else value.to_bytes(4, "little")
            content = content[:at] + new + content[at + len(new) :]
        elif kind == "word":  # the next number that is spelled
            digits = next((i for i in range(at, len(content)) if content[i : i + 1].isdigit()), at)
            end = next((i for i in range(digits, len(content)) if not content[i : i + 1].isdigit()), len(content))
            content = content[:digits] + str(value).encode() + content[end:]
        else:
            part = content[at : at + (value or 0)]
            content = (
                content[:at]
                if kind == "end"
                else content[:at] + part * 2 * (kind == "twice") + content[at + len(part) :]
            )
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of its own, with the pictures of the COCO file; and no more memory than ``ROOM``."""
    path = tmp_path_factory.mktemp("fuzz")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40)).save(path / name)
    try:
        import open3d  # noqa: F401  # before the limit, for its libraries are large
    except (ImportError, OSError):
        pass
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    yield path
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", KINDS)
def test_any_bytes_are_read_or_refused_in_words(folder, monkeypatch, name):
    monkeypatch.setenv(VARIABLE, stricter())
    read, make = KINDS[name]
    path, whole = folder / name, make()
    path.write_bytes(whole)
    read(path)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damage())
    def damaged_files(steps):
        path.write_bytes(damaged(whole, steps))
        try:
            read(path)
        except ValueError as error:  # SampleError is one
            assert "\n" not in str(error) and len(str(error)) < 1000, error
            assert not any(word in str(error) for word in ("Traceback", "allocate", "object at 0x"))

    damaged_files()
