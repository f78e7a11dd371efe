"""Arrays as bytes: npy bodies and npy within JSON are answered as nested lists are; strangers' bytes are refused."""

import hypothesis
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest

import metatx
from metatx.serving.arrays import array_of, with_arrays
from metatx.serving.limits import Limits
from metatx.serving.samples import received
from tests.serving.payloads import PICTURE, SERIES, base64, near, npy

NPY = {"content-type": "application/x-npy"}


TYPES = arrays.integer_dtypes(endianness="?") | arrays.unsigned_integer_dtypes() | arrays.floating_dtypes()
SHAPES = arrays.array_shapes(min_dims=0, min_side=0)


@hypothesis.given(arrays.arrays(TYPES | arrays.boolean_dtypes(), SHAPES))
def test_an_array_comes_back_as_it_was(array):
    for made in (array, np.asfortranarray(array)):
        found = array_of(npy(made))
        assert found.dtype == made.dtype and np.array_equal(found, made, equal_nan=made.dtype.kind == "f")
    sent = with_arrays({"a": base64(array)})["a"]
    assert sent.flags.writeable and sent.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(sent, array, equal_nan=array.dtype.kind == "f")


@hypothesis.given(hypothesis.strategies.binary(max_size=200), hypothesis.strategies.integers(0, 200))
def test_other_bytes_are_one_line(noise, at):
    whole = npy(np.arange(6.0).reshape(2, 3))
    for content in (noise, b"\x93NUMPY" + noise, whole[:at] + noise + whole[at + len(noise) :], whole[:at]):
        try:
            array_of(content)
        except metatx.SampleError as error:
            assert "\n" not in str(error)


def head(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (npy(np.array([{"a": 1}], dtype=object)), "holds dtype('O')"),
        (npy(np.array(["a"])), "expected numbers"),
        (npy(np.zeros(3, "c16")), "expected numbers"),
        (npy(np.zeros(2, [("a", "f4")])), "expected numbers"),
        (npy(np.zeros((2, 3)))[:-1], "47 bytes of numbers follow"),
        (npy(np.zeros(3)) + b"x", "25 bytes"),
        (head(b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }"), "0 bytes"),
        (head(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }" + b" " * 8), "shape (-1,)"),
        (head(b"{'descr': '<f8', 'fortran_order': False, 'shape': (0," + b"1," * 70 + b"), }"), "cannot be made"),
        (head(b"(" * 5000), "no array in npy format"),
        (b"", "no array in npy format"),
        (b"PK\x03\x04", "no array in npy format"),
    ],
)
def test_what_is_no_array_of_numbers_is_400(serve, content, line):
    found = serve().post("/v1/tasks/light/predict", content=content, headers=NPY)
    assert found.status_code == 400 and line in found.json()["detail"] and "\n" not in found.json()["detail"]


@pytest.mark.parametrize("kind", ["u1", ">i8", "f8"])
def test_pictures_and_series_as_bytes_are_answered_as_lists_are(serve, kind):
    client = serve()
    for name, sample in (("light", PICTURE), ("ahead", SERIES * 8)):
        array = np.stack([sample, sample * (1 if name == "light" else 0.5)]).astype(kind)
        if name == "light" and array.dtype.kind == "f":
            continue
        for action in ("predict", "embed"):
            path = f"/v1/tasks/{name}/{action}"
            listed = client.post(path, json={"inputs": array.tolist()}).json()
            assert client.post(path, content=npy(array), headers=NPY).json() == listed, (name, kind)
            assert client.post(path, json={"inputs": [base64(each) for each in array]}).json() == listed


def test_the_type_of_an_array_counts_as_it_does_in_python(serve, nano, trained):
    client = serve()
    for name, array in (("light", np.stack([PICTURE]).astype("u2") * 257), ("ahead", np.float32([SERIES]))):
        task = metatx.Task.from_pretrained(trained / name, nano).set_inference(precision="fp32")
        found = client.post(f"/v1/tasks/{name}/predict", content=npy(array), headers=NPY).json()["answers"]
        assert near(found[0], task.records(list(array))[0])


def test_an_array_stands_within_objects_and_rows(serve, houses):
    client = serve(houses)
    photo = PICTURE % 200
    both = [{"photo": value, "words": "a red door"} for value in (photo.tolist(), base64(photo))]
    answers = client.post("/v1/tasks/house/predict", json={"inputs": both}).json()["answers"]
    assert answers[0] == answers[1]


def test_other_tasks_and_too_much_are_refused(serve, houses):
    client = serve(limits=Limits(json_mb=0.001))
    for path, array, status, line in (
        ("/v1/tasks/kinds/predict", np.zeros((2, 3)), 415, "No input of kinds is an array"),
        ("/v1/predict", np.zeros((2, 3)), 415, "one task"),
        ("/v1/tasks/ahead/predict", np.float64(3), 422, "shape ()"),
        ("/v1/tasks/ahead/predict", np.zeros((0, 4)), 422, "shape (0, 4)"),
        ("/v1/tasks/ahead/predict", np.zeros((1025, 40)), 413, "1,025 inputs"),
        ("/v1/tasks/ahead/predict", np.zeros((1, 501)), 413, "501 numbers; expected at most 500"),
        ("/v1/tasks/light/predict", np.zeros((2, 3)), 422, "inputs[0]"),
    ):
        found = client.post(path, content=npy(array), headers=NPY)
        assert found.status_code == status and line in found.json()["detail"], found.text
    bad = client.post("/v1/tasks/light/predict", json={"inputs": [{"npy": "no base64!"}]})
    assert bad.status_code == 422 and "npy is no base64" in bad.json()["detail"]
    large = serve(limits=Limits(body_mb=0.01)).post("/v1/tasks/ahead/predict", content=npy(np.zeros(2000)), headers=NPY)
    assert large.status_code == 413
    several = serve(houses).post("/v1/tasks/house/predict", content=npy(np.zeros((1, 8, 8))), headers=NPY)
    assert several.status_code == 415


def test_a_column_named_npy_holds_what_it_holds(nano):
    data = {"npy": ["red", "blue"] * 8, "y": list(map(float, range(16)))}
    task = metatx.Task.from_data(nano, "tabular", data, target="y")
    assert received({"npy": "red"}, task) == {"npy": "red"}
