"""Files that strangers send: of another kind than they say, too large, bombs; each refused before it is read."""

import io
import struct
import wave
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from metatx.registry import lookup
from metatx.serving.files import KINDS, check_file, suffix_of
from metatx.serving.limits import Limits, RefusedError

LIMITS = Limits(pixels=10_000, seconds=2.0, unpacked_mb=0.5)


def written(path, content):
    path.write_bytes(content)
    return path


def refused(path, status, line):
    with pytest.raises(RefusedError, match=line) as caught:
        check_file(path, LIMITS)
    assert caught.value.status == status


def test_every_ending_that_is_taken_is_known_by_its_content():
    names = ("audio", "image", "infrared", "xray", "video", "point_cloud", "hyperspectral", "text")
    for cls in (lookup("tokenizers", name) for name in names):
        for ending in {*cls.suffixes, *cls.containers} - set(cls.linking):
            assert ending in KINDS or not ending.startswith("."), ending


@pytest.mark.parametrize("ending", sorted(set(KINDS) - {".stl", ".txt", ".xyz", ".off", ".pts", ".asc", ".gif"}))
def test_another_content_than_the_name_says_is_refused(ending, tmp_path):
    refused(written(tmp_path / f"file{ending}", b"GIF" + bytes(600)), 415, f"is no {ending} by its content")


def test_true_files_pass(tmp_path):
    for ending in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / f"file{ending}")
        check_file(tmp_path / f"file{ending}", LIMITS)
    np.savez_compressed(tmp_path / "file.npz", points=np.zeros((9, 3)))
    savemat(tmp_path / "file.mat", {"cube": np.zeros((4, 4, 5))}, do_compression=True)
    (tmp_path / "file.ply").write_text("ply\nformat ascii 1.0\n")
    for ending in (".npz", ".mat", ".ply"):
        check_file(tmp_path / f"file{ending}", LIMITS)


def test_a_picture_that_would_be_huge_is_refused_by_its_header(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    refused(written(tmp_path / "bomb.png", bomb), 413, "Pixels of the picture")
    Image.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / "large.png")
    refused(tmp_path / "large.png", 413, "40,000; expected at most 10,000")


def test_archives_that_unpack_to_too_much_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", points=np.zeros((1000, 1000)))
    assert (tmp_path / "bomb.npz").stat().st_size < 20_000
    refused(tmp_path / "bomb.npz", 413, "Megabytes unpacked: 8; expected at most")
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for number in range(1001):
            archive.writestr(f"{number}.npy", b"")
    refused(tmp_path / "many.npz", 413, "Files in the archive")
    savemat(tmp_path / "bomb.mat", {"cube": np.zeros((100, 100, 100))}, do_compression=True)
    refused(tmp_path / "bomb.mat", 413, "unpacks to more than 0.5 megabytes")


def test_sound_and_film_that_are_too_long_are_refused(tmp_path):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(bytes(2 * 8000 * 3))
    refused(written(tmp_path / "long.wav", content.getvalue()), 413, "Seconds of sound: 3; expected at most 2")
    frames = [Image.new("L", (20, 20), shade) for shade in (0, 99)]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:], duration=3000)
    refused(tmp_path / "long.gif", 413, "Seconds of film")
    frames = [Image.new("L", (200, 200), shade) for shade in (0, 99)]
    frames[0].save(tmp_path / "large.gif", save_all=True, append_images=frames[1:], duration=100)
    refused(tmp_path / "large.gif", 413, "Pixels of a frame")


def test_only_endings_that_the_task_reads_and_that_lead_nowhere_else():
    cloud = lookup("tokenizers", "point_cloud")(192, columns=[0, 1, 2])
    assert suffix_of("a/b.PLY", cloud) == ".ply"
    for name, line in (("a.gltf", "may name other files"), ("a.exe", "takes .npz, .xyz"), ("a", "without an ending")):
        with pytest.raises(RefusedError, match=line):
            suffix_of(name, cloud)


def test_over_http(serve):
    client = serve(limits=Limits(pixels=10_000))
    large = io.BytesIO()
    Image.fromarray(np.zeros((200, 200), np.uint8)).save(large, "PNG")
    cases = {
        ("a.png", b"no picture"): (415, "is no .png by its content"),
        ("a.heic", b"ftypheic"): (415, "takes .png, .jpg"),
        ("a.png", large.getvalue()): (413, "Pixels of the picture"),
        ("a.png", large.getvalue()[:60]): (413, "Pixels of the picture"),
        ("../../a.png", b""): (422, "empty"),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(50)): (422, "file.jpg"),
    }
    for (name, content), (status, line) in cases.items():
        found = client.post("/v1/tasks/light/predict", files={"file": (name, content)})
        assert found.status_code == status and line in found.json()["detail"] and "/tmp" not in found.text
    assert client.post("/v1/tasks/kinds/predict", files={"file": ("a.png", b"")}).status_code == 415
    assert client.post("/v1/tasks/kinds/predict", files={"other": ("a.png", b"")}).status_code == 422
