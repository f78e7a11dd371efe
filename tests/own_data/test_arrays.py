"""Arrays are their numbers, whatever type, byte order and layout they are held in."""

import numpy as np
import pytest
import torch

from metatx import create
from metatx.reading.arrays import as_array
from metatx.reading.audio import read_audio
from metatx.reading.image import read_grey

RNG = np.random.default_rng(0)


def layouts(array):
    """The same numbers, held in other ways."""
    wider = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wider[..., ::2] = array
    locked = array.copy()
    locked.flags.writeable = False
    floats = array.astype(np.float64)
    return {
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "Fortran": np.asfortranarray(array),
        "every other": wider[..., ::2],
        "backwards": array[::-1].copy()[::-1],
        "read-only": locked,
        "lists": array.tolist(),
        "tensor": torch.tensor(array.tolist(), dtype=torch.float64 if array.dtype.kind == "f" else torch.int64),
        **(
            {
                "float64 >": floats.astype(">f8"),
                "longdouble": array.astype(np.longdouble),
                "float16": array.astype(np.float16),
                "gradient": torch.tensor(floats, requires_grad=True),
                "bfloat16": torch.tensor(floats).bfloat16(),
                "half": torch.tensor(floats).half(),
                "list of tensors": [torch.tensor(row, requires_grad=True) for row in floats],
            }
            if array.dtype.kind == "f"
            else {kind: array.astype(kind) for kind in ("uint32", "int64", ">u8", ">i8")}
        ),
    }


PIXELS = RNG.integers(0, 256, (10, 9, 3)).astype(np.uint8)
QUARTERS = (RNG.integers(-60, 60, (6, 64)) / 64).astype(np.float32)  # that 8 bits of fraction hold
CASES = {
    "image": ({"stem": None}, PIXELS),
    "image of floats": ({"stem": None}, (PIXELS // 2 / 128).astype(np.float32)),
    "xray": ({"stem": None}, PIXELS[..., 0]),
    "infrared": ({"stem": None}, QUARTERS),
    "video": ({"stem": None, "frames": 2}, np.stack([PIXELS] * 3)),
    "audio": ({"stem": None}, QUARTERS[0]),
    "imu": ({}, QUARTERS),
    "hyperspectral": ({}, QUARTERS[0]),
    "point_cloud": ({"columns": [0, 1, 2], "groups": 2}, QUARTERS[:, :3]),
    "time_series": ({}, QUARTERS),
    "graph": ({}, QUARTERS[:, :3]),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_arrays_are_their_numbers_however_they_are_held(case):
    options, array = CASES[case]
    tokenizer = create("tokenizers", case.split()[0], 192, **options)

    def sample(value):
        return {"edge_index": [[0, 1], [1, 2]], "x": value} if case == "graph" else value

    tokenizer.learn([sample(array), sample(array[::-1].copy())])
    expected = tokenizer.encode(sample(array))
    for name, value in layouts(array).items():
        if case in ("video", "infrared", "audio") and name == "list of tensors":
            continue  # a film of pictures, a list of numbers
        found = tokenizer.encode(sample(value))
        for field, tensor in expected.items():
            torch.testing.assert_close(found[field], tensor, rtol=0, atol=0, msg=f"{case}: {name}")


def test_unsigned_shorts_of_either_order_are_sixteen_bits():
    grey = RNG.integers(0, 4096, (6, 8))
    for dtype in (">u2", "<u2"):
        np.testing.assert_allclose(read_grey(grey.astype(dtype)) * 65_535, grey, atol=1e-2)
    tone = np.sin(np.arange(99) / 9) / 2
    wave = (tone * 32_767).astype(np.int16)
    for dtype in (">i2", ">i4"):
        factor = 65_536 if dtype == ">i4" else 1
        scaled = wave.astype(np.int32) * factor
        np.testing.assert_allclose(read_audio(scaled.astype(dtype), 8_000)[0], tone, atol=1e-4)


def test_what_is_masked_is_missing():
    masked = np.ma.masked_array([1, 2, 3], [False, True, False])
    np.testing.assert_array_equal(as_array(masked), [1, np.nan, 3])
    np.testing.assert_array_equal(as_array(np.ma.masked_array([1, 2])), [1, 2])


@pytest.mark.parametrize("value", [np.array([1j]), np.array(["2020-01-01"], "M8[D]"), [[1, 2], [3]], ["word"]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        as_array(value, np.float64)
