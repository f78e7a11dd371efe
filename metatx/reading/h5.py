"""Arrays of HDF5 files, if all of their values lie in the file: no links out of it, no plug-ins, no missing values."""

import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from metatx.errors import SampleError, decoding
from metatx.reading.arrays import as_array
from metatx.reading.bounds import check_bound

__all__ = ["h5_arrays"]

MOST_LINKS = 16  # most soft links and groups on the way to an array
MISSING = "Reading .h5 files needs h5py: pip install 'metatx[pointcloud]'"
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # for other filters, HDF5 loads libraries


def h5_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Read the arrays of these names.

    Raises:
        SampleError: If the file is damaged, lacks an array or holds only part of it, is beyond the bound
            ``data_set_mb``, or an array does not hold numbers.
        ImportError: If h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(MISSING) from error
    try:
        with decoding("damaged, or no h5 file"), path.open("rb") as opened, h5py.File(opened, "r") as file:
            arrays = [_checked(file, name) for name in names]
            check_bound("data_set_mb", sum(array.nbytes for array in arrays) / 1e6, "an h5 file that")
            return [as_array(array[()]) for array in arrays]
    except MemoryError as error:
        raise SampleError(f"damaged, or no h5 file ({error})") from None


def _followed(file: Any, name: str) -> Any:
    """Resolve a name through links that stay in the file. Raises SampleError."""
    import h5py

    group = file
    words = [name]
    steps = 0
    while words:
        word = words.pop(0)
        link = group.get(word, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None and not steps:
            there = ", ".join(f"{other:.40}" for other in islice(file, 10)) or "nothing"
            raise SampleError(f"an h5 file that holds {there}; expected {name}")
        steps += 1
        if link is None:
            raise SampleError(f"an h5 file whose {name} is a link to {word!r:.60}, which is not there")
        if steps > MOST_LINKS:
            raise SampleError(f"an h5 file whose {name} is a link to {word!r:.60}, and so on, without an end")
        if isinstance(link, h5py.SoftLink):
            path = link.path
            group = file if path.startswith("/") else group
            words = [part for part in path.split("/") if part not in ("", ".")] + words
        elif isinstance(link, h5py.HardLink):
            group = group[word]
        else:
            raise SampleError(f"an h5 file whose {name} is a link to {link.path!r:.60} of another file; copy it here")
    return group


def _checked(file: Any, name: str) -> Any:
    """Check an array of a file before any of its values is read. Raises SampleError."""
    import h5py

    part = _followed(file, name)
    if not isinstance(part, h5py.Dataset):
        raise SampleError(f"an h5 file whose {name} is a group; expected an array")
    plist = part.id.get_create_plist()
    if part.is_virtual or plist.get_external_count():
        raise SampleError(f"an h5 file whose {name} lies in other files; copy the values into one")
    if part.dtype.kind not in "biuf" or part.shape is None:
        raise SampleError(f"an h5 file whose {name} holds {part.dtype}; expected numbers")
    strange = {plist.get_filter(at)[0] for at in range(plist.get_nfilters())} - FILTERS.keys()
    if strange:
        accepted = ", ".join(FILTERS.values())
        raise SampleError(f"an h5 file whose {name} is packed by filter {min(strange)}; expected none, or {accepted}")
    if part.chunks:
        expected = math.prod(-(-side // chunk) for side, chunk in zip(part.shape, part.chunks, strict=True))
        stored = part.id.get_num_chunks()
        what = "chunks"
        check_bound("data_set_mb", math.prod(part.chunks) * part.dtype.itemsize / 1e6, f"a chunk of {name} that")
    else:
        expected = part.nbytes
        stored = part.id.get_storage_size()
        what = "bytes"
    if stored < expected:
        raise SampleError(f"an h5 file that has {stored:,} of {expected:,} {what} of {name}; write all of its values")
    return part
