"""Every format that holds a cloud or a mesh, read back as it was written, and refused where it is damaged."""

import builtins
import tracemalloc

import numpy as np
import pytest
import torch

from metatx import SampleError
from metatx.reading.meshes import read_off, sample_surface
from metatx.reading.number_text import read_columns
from metatx.reading.ply import read_ply
from metatx.reading.point_cloud import SUFFIXES, Cloud, read_cloud
from tests.reading.cloud_files import CUBE, NAMES, POINTS, SQUARES, glb, off, ply, text

INSTALL = "apt-get install libusb-1.0-0 libgl1 libegl1 libgomp1"


def open3d():
    """The module, or a skip that says what it needs."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        pytest.skip(f"open3d cannot be imported ({error}): {INSTALL}")
    return open3d


# Clouds


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.xyz", text(POINTS), ()),
        ("a.txt", text(POINTS, ", ", "x, y, z, nx, ny, nz\n"), NAMES),
        ("a.TXT", text(POINTS, "\t", "# x y z nx ny nz\n"), NAMES),
        ("a.txt", text(POINTS, " ", "9\n// a scan of mine\n"), ()),
        *(("a.ply", ply(POINTS, order=f"binary_{end}_endian", kind=kind), NAMES)
          for end in ("little", "big") for kind in ("float", "double")),
        ("a.ply", ply(POINTS), NAMES),
        ("a.ply", ply(POINTS[:, [3, 4, 5, 2, 0, 1]], ("nx", "ny", "nz", "z", "x", "y")), NAMES),
        ("a.ply", ply(POINTS).replace(b"\n", b"\r\n"), NAMES),
    ],
)  # fmt: skip
def test_clouds_are_read_as_they_were_written(tmp_path, name, content, columns):
    (tmp_path / name).write_bytes(content)
    cloud = read_cloud(str(tmp_path / name))
    np.testing.assert_array_equal(cloud.points, POINTS)
    assert cloud.points.dtype == np.float64 and cloud.columns == columns


@pytest.mark.parametrize("arrays", [{"points": POINTS, "label": 3, "columns": NAMES}, {"scan": POINTS}])
def test_npz_of_one_cloud(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    cloud = read_cloud(tmp_path / "a.npz")
    np.testing.assert_array_equal(cloud.points, POINTS)
    assert cloud.columns == (NAMES if "columns" in arrays else ())


def test_x_y_and_z_are_found_by_name(tmp_path):
    content = text(POINTS[:, [3, 4, 5, 2, 0, 1]], head="//NX NY NZ Z X Y\n")
    (tmp_path / "a.xyz").write_bytes(content)
    for sample in (tmp_path / "a.xyz", Cloud(POINTS[:, ::-1], NAMES[::-1])):
        found = read_cloud(sample)
        assert found.columns[:3] == ("x", "y", "z") and set(found.columns) == set(NAMES)
        np.testing.assert_array_equal(found.points[:, :3], POINTS[:, :3])
        assert all((found.points[:, found.columns.index(name)] == POINTS[:, NAMES.index(name)]).all() for name in NAMES)


def test_clouds_in_memory_are_the_same():
    samples = [POINTS.tolist(), torch.tensor(POINTS), {"points": POINTS}, Cloud(POINTS), POINTS.astype(np.float64)]
    for sample in samples:
        np.testing.assert_array_equal(read_cloud(sample).points, POINTS)
    assert read_cloud({"points": POINTS, "columns": list(NAMES)}).columns == NAMES


# Meshes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.off", off(CUBE, SQUARES)),
        ("a.off", off(CUBE, SQUARES, first="OFF")),  # as in ModelNet40
        ("a.off", off(CUBE, [face[i : i + 2] + face[:1] for face in SQUARES for i in (1, 2)], "OFF # a cube\n")),
        ("a.off", off(CUBE, SQUARES).replace(b"\n4 0 1 3 2\n", b"\n4 0 1 3 2 0.5 0.25 1\n")),  # a face with its colour
        ("a.ply", ply(CUBE, NAMES[:3], faces=SQUARES)),
        ("a.ply", ply(CUBE, NAMES[:3], "binary_little_endian", "double", SQUARES, "int")),
        ("a.ply", ply(CUBE, NAMES[:3], "binary_big_endian", faces=[face[:3] for face in SQUARES])),
    ],
)
def test_a_mesh_is_sampled_on_its_surface(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    cloud = read_cloud(tmp_path / name, surface=600)
    on_a_face = np.isclose(np.abs(cloud.points - 0.5), 0.5).any(axis=1)
    assert cloud.points.shape == (600, 3) and on_a_face.all()
    assert len(np.unique(cloud.points, axis=0)) == 600  # on faces, not at the corners
    np.testing.assert_array_equal(read_cloud(tmp_path / name, surface=600).points, cloud.points)


def test_points_lie_evenly_by_area():
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 2, 5]], dtype=float)
    points = sample_surface(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 20_000)
    low = points[points[:, 2] == 0]
    assert abs(len(low) / 20_000 - 0.75) < 0.02  # areas of 3 and 1
    np.testing.assert_allclose(low[:, :2].mean(0), [1, 2 / 3], atol=0.03)  # the triangle's centroid


def test_faces_of_any_size_become_fans(tmp_path):
    faces = [[0, 1, 2], [3], [0, 1], [3, 1, 0, 2, 4], [5, 6, 7]]
    expected = [[0, 1, 2], [3, 1, 0], [3, 0, 2], [3, 2, 4], [5, 6, 7]]
    for order in ("ascii", "binary_little_endian", "binary_big_endian"):
        (tmp_path / "a.ply").write_bytes(ply(CUBE, NAMES[:3], order, faces=faces))
        np.testing.assert_array_equal(read_ply(tmp_path / "a.ply")[1], expected)
    (tmp_path / "a.off").write_bytes(off(CUBE, faces))
    np.testing.assert_array_equal(read_off(tmp_path / "a.off")[1], expected)


def test_a_text_takes_a_few_times_its_size(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"1 2 3\n" * 100_000)
    tracemalloc.start()
    assert read_columns(tmp_path / "a.xyz")[0].shape == (100_000, 3)
    assert tracemalloc.get_traced_memory()[1] < 30 * 600_000  # lists of words would take 60 times the file
    tracemalloc.stop()


def test_further_columns_of_vertices_are_interpolated():
    vertices = np.array([[0, 0, 0, 10], [1, 0, 0, 20], [0, 1, 0, 30]], dtype=float)
    points = sample_surface(vertices, np.array([[0, 1, 2]]), 50)
    np.testing.assert_allclose(points[:, 3], 10 + 10 * points[:, 0] + 20 * points[:, 1])


def test_a_mesh_without_faces_or_area_gives_its_vertices(tmp_path):
    (tmp_path / "a.off").write_bytes(off(CUBE, []))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.off").points, CUBE)
    (tmp_path / "a.off").write_bytes(off(CUBE * [1, 0, 0], SQUARES))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.off").points, CUBE * [1, 0, 0])


@pytest.mark.parametrize("suffix", ["obj", "stl", "glb", "gltf"])
def test_meshes_through_open3d(tmp_path, suffix):
    geometry = open3d().geometry.TriangleMesh.create_box()
    geometry.compute_vertex_normals()
    if suffix == "glb":
        (tmp_path / "a.glb").write_bytes(glb())
    else:
        assert open3d().io.write_triangle_mesh(str(tmp_path / f"a.{suffix}"), geometry)
    cloud = read_cloud(tmp_path / f"a.{suffix}", surface=300)
    assert cloud.points.shape == (300, 3) and np.isclose(np.abs(cloud.points - 0.5), 0.5, atol=1e-5).any(axis=1).all()


def test_faces_of_many_corners_are_cut_into_triangles(tmp_path):
    corners = ["v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0"]
    (tmp_path / "quad.obj").write_text("\n".join([*corners, "f 1/1/1 2/2/1 3/3/1 4/4/1", ""]))
    (tmp_path / "cut.obj").write_text("\n".join([*corners, "f 1 2 3", "f 1 3 4", ""]))
    quad, cut = (read_cloud(tmp_path / f"{name}.obj", surface=300).points for name in ("quad", "cut"))
    np.testing.assert_array_equal(quad, cut)
    assert np.ptp(quad[:, :2], axis=0).min() > 0.9


def test_pcd_through_open3d(tmp_path):
    cloud = open3d().t.geometry.PointCloud(POINTS[:, :3].copy())
    cloud.point["intensity"] = POINTS[:, 3:4].copy()
    cloud.point["normals"] = POINTS[:, 3:].copy()
    open3d().t.io.write_point_cloud(str(tmp_path / "a.pcd"), cloud)
    found = read_cloud(tmp_path / "a.pcd")
    assert found.columns == ("x", "y", "z", "intensity", "nx", "ny", "nz")
    np.testing.assert_allclose(found.points, np.hstack([POINTS[:, :4], POINTS[:, 3:]]), atol=1e-5)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'open3d'"), r"Reading .pcd files needs open3d: pip install 'metatx\["),
        (OSError("libusb-1.0.so.0: cannot open shared object file"), f"libusb-1.0.so.0: .*{INSTALL}"),
        (ImportError("libGL.so.1: cannot open shared object file"), f"libGL.so.1: .*{INSTALL}"),
    ],
)
def test_what_open3d_lacks_is_said(tmp_path, monkeypatch, error, message):
    def missing(name, *rest):
        if name == "open3d":
            raise error
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", missing)
    (tmp_path / "a.pcd").write_bytes(b"x")
    with pytest.raises(ImportError, match=message):
        read_cloud(tmp_path / "a.pcd")


# What cannot be used


def with_value(value):
    points = POINTS.copy()
    points[4, 1] = value
    return points


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (np.zeros((0, 3)), "no points; expected at least one"),
        (np.zeros((5, 2)), "2 columns; expected at least 3: x, y, z"),
        (np.zeros(5), r"an array \(5,\); expected points"),
        (np.zeros((2, 5, 3)), r"an array \(2, 5, 3\)"),
        (with_value(np.nan), "point 5 is NaN or infinite in column 2"),
        (with_value(-np.inf), "point 5 is NaN or infinite in column 2"),
        (with_value(1e12), r"reach 1e\+12; expected at most 1e\+11"),
        (
            np.broadcast_to(np.zeros(3), (2_000_001, 3)),
            r"2,000,001 points; expected .*METATX_BOUNDS=points",
        ),
        ({"points": POINTS, "columns": ["x", "y"]}, "6 columns, but there are 2 names"),
        ({"cloud": POINTS}, "a dict with cloud; expected points"),
        ({}, "a dict with nothing"),
        ([[1, 2, 3], [1, 2]], "list that is no array of numbers"),
        ([["a", "b", "c"]], "no array of numbers"),
        (None, "NoneType"),
        (3, "points are a int; expected points"),
        ("nowhere.ply", "file nowhere.ply does not exist"),
        (".", "is a folder"),
    ],
)
def test_bad_samples_are_named(sample, message):
    with pytest.raises(SampleError, match=message):
        read_cloud(sample)


GOOD = {
    ".ply": ply(POINTS, order="binary_little_endian"),
    ".off": off(CUBE, SQUARES),
    ".xyz": text(POINTS),
    ".txt": text(POINTS),
}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *((f"a{suffix}", b"", f"a{suffix} is empty") for suffix in SUFFIXES),
        *((f"a{suffix}", bytes(range(256)), f"a{suffix}: .*") for suffix in SUFFIXES),
        *((f"a{suffix}", content[:-50], f"a{suffix}: .*") for suffix, content in GOOD.items() if suffix != ".off"),
        ("a.off", off(CUBE, SQUARES)[:60], "truncated: 4 of 8 vertices"),
        ("a.off", off(CUBE, SQUARES)[:-12], "truncated: 4 of 6 faces"),
        ("a.off", off(CUBE, [[0, 1, 99]]), "a face names vertex 99; there are 8"),
        ("a.off", b"OFF\n99999999999 1 0\n0 0 0", "has 99,999,999,999 points"),
        ("a.off", off(CUBE, [[0, 1, 0.5]]), "by numbers that are not whole"),
        ("a.off", off(CUBE * 1e300, SQUARES), "values reach 1e\\+300"),
        ("a.off", b"PLY\n", "begins with 'PLY'; expected OFF"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 99999999999\nend_header\n", "has 99,999,999,999 points"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n", "no format or no element vertex"),
        ("a.ply", b"ply\nformat odd 1.0\nend_header\n", "header says 'format odd 1.0'"),
        ("a.ply", ply(POINTS[:, :2], ("x", "y")), "vertices have x, y; expected x, y, z"),
        ("a.ply", ply(POINTS)[:-100], "truncated: it ends within 9 x vertex"),
        ("a.ply", ply(CUBE, NAMES[:3], "binary_little_endian", faces=[[]]), "truncated: 0 of 1 faces"),
        (
            "a.ply",
            ply(CUBE, NAMES[:3], "binary_little_endian", faces=[[0] * 200_000], length="int"),
            "200,000 corners of",
        ),
        ("a.ply", ply(CUBE, NAMES[:3], faces=[[0] * 200_000]), "200,000 corners of one face"),
        ("a.ply", b"ply\n" + b"comment x\n" * 40_000 + b"end_header\n", "no ply header"),
        ("a.ply", ply(np.zeros((1, 300)), [f"c{i}" for i in range(300)]), "300 numbers of a point"),
        ("a.off", b"OFF\n1 9000000 0\n0 0 0\n", "has 9,000,000 faces"),
        ("a.off", b"OFF\n1 0 0\n" + b"1" * 300_000, "holds a word of more than 262,144 characters"),
        ("a.xyz", b"1 " * 200_000, "a line of 400,000 characters"),
        ("a.xyz", b"1 " * 300, "300 numbers of a point"),
        ("a.xyz", b"1 2 3\n4 5\n", "row 2 has 2 columns, the first 3; is it truncated"),
        ("a.xyz", b"1 2 3\n4 five 6\n", "holds words"),
        ("a.xyz", b"1 2\n4 5\n", "2 columns; expected at least 3"),
        ("a.xyz", b"# only a remark\n", "no points"),
        ("a.xyz", b"1 2 3\n4 nan 6\n", "point 2 is NaN"),
        ("a.pcl", b"1 2 3", r"a.pcl is none of .npz, .xyz"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    if name.endswith((".pcd", ".obj", ".stl", ".gltf", ".glb")) and content:
        open3d()
    with pytest.raises(SampleError, match=message) as caught:
        read_cloud(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"points": np.zeros((2, 5, 3))}, r"an array \(2, 5, 3\)"),
        ({"a": POINTS, "b": POINTS}, r"it holds a \(9, 6\), b \(9, 6\); expected one array"),
        ({"points": np.array([["a", "b", "c"]])}, "no array of numbers"),
        ({"points": np.array([None])}, "points is no array of numbers: its values are objects of Python"),
    ],
)
def test_npz_of_something_else(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SampleError, match=message):
        read_cloud(tmp_path / "a.npz")
