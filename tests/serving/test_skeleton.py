"""Tasks handed to the processes that read: files of every kind are encoded there as here, bit for bit."""

import io
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import metatx
from metatx.pool.requests import read
from metatx.serving.readers import CancelEvent, ReadRequest
from metatx.serving.skeleton import from_skeleton, skeleton

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
POINTS = RNG.normal(size=(60, 3)).round(3)
AB = ["a", "b"] * 4
SIZE = {"image_size": [32, 32]}


def picture(kind, **options):
    def write(file):
        Image.fromarray(PICTURE).save(file, kind, **options)

    return write


def film(file):
    frames = [Image.fromarray(np.roll(PICTURE, shift, 1)) for shift in range(6)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)


def sound(file):
    with wave.open(file, "wb") as written:
        written.setnchannels(1), written.setsampwidth(2), written.setframerate(16_000)
        written.writeframes(RNG.integers(-9000, 9000, 16_000).astype("<i2").tobytes())


def text(content):
    return lambda file: file.write(content.encode())


PLY = "ply\nformat ascii 1.0\nelement vertex 60\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
LINES = "\n".join(" ".join(map(str, point)) for point in POINTS)
OFF = f"OFF\n60 58 0\n{LINES}\n" + "\n".join(f"3 {n} {n + 1} {n + 2}" for n in range(58))
PCD = (
    "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 60\nHEIGHT 1\n"
    "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 60\nDATA ascii\n"
)
CASES = {
    ".png": ("image", picture("PNG")),
    ".jpg": ("image", picture("JPEG")),
    ".tif": ("xray", picture("TIFF")),
    ".webp": ("infrared", picture("WEBP")),
    ".gif": ("video", film),
    ".wav": ("audio", sound),
    ".txt": ("text", text("A small, quiet film.")),
    ".xyz": ("point_cloud", text(LINES)),
    ".npz": ("point_cloud", lambda file: np.savez(file, points=POINTS)),
    ".ply": ("point_cloud", text(PLY + LINES + "\n")),
    ".off": ("point_cloud", text(OFF)),
    ".pcd": ("point_cloud", text(PCD + LINES + "\n")),
    ".mat": ("hyperspectral", lambda file: savemat(file, {"cube": RNG.random((4, 5, 20))})),
}
SAMPLES = {
    "audio": lambda: RNG.normal(size=8000) / 9,
    "text": lambda: "some words",
    "video": lambda: RNG.integers(0, 256, (9, 40, 50, 3), dtype=np.uint8),
    "point_cloud": lambda: RNG.normal(size=(60, 3)),
    "hyperspectral": lambda: RNG.random(20),
    "graph": lambda: "CCO",
}


def pool_of(nano, modality):
    samples = [SAMPLES.get(modality, lambda: RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8))() for _ in AB]
    pool = metatx.TaskPool(nano)
    pool.add(modality, metatx.Task.from_data(nano, modality, (samples, AB)))
    return pool


def same(found, expected):
    assert len(found) == len(expected) > 0
    for (fields, extents), ((own,), own_extents) in zip(found, expected, strict=True):
        assert list(fields) == list(own) and extents == own_extents
        for name, tensor in own.items():
            torch.testing.assert_close(
                fields[name], tensor, rtol=1e-5, atol=1e-6
            )  # LAPACK's last digits depend on where data lie


@pytest.mark.parametrize("suffix", CASES)
def test_a_file_is_encoded_there_as_here(suffix, nano, readers, tmp_path):
    modality, write = CASES[suffix]
    content = io.BytesIO()
    write(content)
    content.seek(0)
    pool = pool_of(nano, modality)
    task = pool.task(modality)
    wanted = ReadRequest(task=modality, loaded=pool.loaded(modality), cancel=CancelEvent(), extents=True, most=99)
    found = readers.file(content, suffix, wanted)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content.getvalue())
    same(found, [read(task, [sample], [0], True) for sample in task.queries(str(path))])


def test_places_of_a_dense_answer_come_back(nano, readers):
    pool = metatx.TaskPool(nano)
    masks = [RNG.integers(0, 2, (40, 50)) for _ in range(4)]
    pictures = [RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(4)]
    pool.add(
        "dense", metatx.Task.from_data(nano, "image", (pictures, masks), head="segmentation", tokenizer_options=SIZE)
    )
    content = io.BytesIO()
    picture("PNG")(content)
    content.seek(0)
    wanted = ReadRequest(task="dense", loaded=pool.loaded("dense"), cancel=CancelEvent(), extents=True, most=1)
    ((fields, extents),) = readers.file(content, ".png", wanted)
    assert extents == [[(40, 50)]]
    request = wanted.loaded.request("dense", [fields], extents, "records")
    own = pool.prepare("dense", PICTURE, "records")
    assert str(pool.answer([request])) == str(pool.answer([own]))


def test_what_may_crash_as_json_is_read_there_too(nano, readers):
    pool = pool_of(nano, "graph")
    wanted = ReadRequest(task="graph", loaded=pool.loaded("graph"), cancel=CancelEvent(), extents=True, most=1)
    same(readers.value("c1ccccc1", wanted), [read(pool.task("graph"), ["c1ccccc1"], [0], True)])


def test_weights_and_backbone_stay_here(nano):
    task = metatx.Task.from_data(nano, "image", ([PICTURE] * 8, AB))
    content = skeleton(task)
    there = from_skeleton(content)
    assert len(content) < 50_000 and there.backbone is None
    assert all(parameter.is_meta for parameter in there.parameters())
    assert [one.shape for one in there.parameters()] == [one.shape for one in task.parameters()]
    assert all(torch.equal(*pair) for pair in zip(there.model.buffers(), task.model.buffers(), strict=True))
