"""HDF5 files: arrays that are wholly in the file are read; what leads elsewhere, or was never written, is refused."""

import h5py
import numpy as np
import pytest

from metatx.errors import SampleError
from metatx.reading.h5 import h5_arrays

ARRAY = np.arange(24.0).reshape(2, 4, 3)


@pytest.mark.parametrize(
    "how", [{}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"}, {"chunks": True}]
)
def test_arrays_are_read_as_they_were_written(tmp_path, how):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=ARRAY, **how)
    np.testing.assert_array_equal(h5_arrays(tmp_path / "a.h5", "data")[0], ARRAY)


def external(file, folder):
    file.create_dataset("data", (2, 4, 3), "u1", external=[(str(folder / "secret"), 0, 24)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((2, 4, 3), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "data", (2, 4, 3))
    file.create_virtual_dataset("data", layout)


def plugin(file, folder):
    """As of a filter that HDF5 would look for in HDF5_PLUGIN_PATH; optional, so that it can be written without."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 4, 3))
    plist.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, ())
    space, kind = h5py.h5s.create_simple((2, 4, 3)), h5py.h5t.IEEE_F64LE
    h5py.Dataset(h5py.h5d.create(file.id, b"data", kind, space, plist))[:] = ARRAY


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (external, "data lies in other files"),
        (virtual, "data lies in other files"),
        (plugin, "packed by filter 32008"),
        (lambda file, _: file.update({"data": h5py.ExternalLink("other.h5", "/data")}), "data is a link to '/data'"),
        (lambda file, _: file.update({"data": h5py.SoftLink("/data")}), "data is a link to 'data', and so on"),
        (lambda file, _: file.create_group("data"), "data is a group"),
        (lambda file, _: file.create_group("other"), "holds other; expected data"),
        (lambda file, _: file.create_dataset("data", (10**6, 10**5, 3), "f8"), "2,400,000 megabytes|0 of 2,400,"),
        (lambda file, _: file.create_dataset("data", (10**6, 3), "f8", chunks=(1000, 3)), "0 of 1,000 chunks of data"),
        (lambda file, _: file.create_dataset("data", (100, 3), "f8"), "0 of 2,400 bytes of data"),
        (lambda file, _: file.create_dataset("data", data=["a", "b"]), "data holds object"),
        (lambda file, _: file.create_dataset("data", data=h5py.Empty("f8")), "data holds float64"),
    ],
)
def test_what_is_not_wholly_there_is_refused(tmp_path, monkeypatch, write, message):
    (tmp_path / "secret").write_bytes(b"root:x:0:0:" * 9)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = ARRAY
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, tmp_path)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *args: pytest.fail("values were read"))
    with pytest.raises(SampleError, match=message):
        h5_arrays(tmp_path / "a.h5", "data")


def test_sizes_are_bounded_together(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("data", "label"):
            file.create_dataset(name, data=np.zeros((1000, 300)), compression="gzip")
    monkeypatch.setenv("METATX_BOUNDS", "data_set_mb=4")
    with pytest.raises(SampleError, match="has 5 megabytes .*expected at most 4"):
        h5_arrays(tmp_path / "a.h5", "data", "label")


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ({"data": "/g/points"}, None),
        ({"data": "other", "other": "h/points", "h": "g"}, None),
        ({"data": "other", "other": "data"}, "without an end"),
        ({"data": "/data/data"}, "without an end"),
        ({"data": "/g/none"}, "'none', which is not there"),
        ({"data": "/g"}, "data is a group"),
        ({"data": "/away/data"}, "of another file"),
    ],
)
def test_links_within_the_file_are_followed(tmp_path, links, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/points"], file["away"] = ARRAY, h5py.ExternalLink("other.h5", "/")
        for name, path in links.items():
            file[name] = h5py.SoftLink(path)
    if message is None:
        np.testing.assert_array_equal(h5_arrays(tmp_path / "a.h5", "data")[0], ARRAY)
    else:
        with pytest.raises(SampleError, match=message):
            h5_arrays(tmp_path / "a.h5", "data")
