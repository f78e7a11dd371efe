"""Files that strangers send: of another kind than they say; each refused before it is read."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from metatx.registry import lookup
from metatx.serving.file_checks import KINDS, check_file, suffix_of
from metatx.serving.limits import RefusedError


def written(path, content):
    path.write_bytes(content)
    return path


def refused(path, status, line):
    with pytest.raises(RefusedError, match=line) as caught:
        check_file(path)
    assert caught.value.status == status


def test_every_ending_that_is_taken_is_known_by_its_content():
    names = ("audio", "image", "infrared", "xray", "video", "point_cloud", "hyperspectral", "text")
    for cls in (lookup("tokenizers", name) for name in names):
        for ending in {*cls.suffixes, *cls.readers} - set(cls.external_refs):
            assert ending in KINDS or not ending.startswith("."), ending


@pytest.mark.parametrize("ending", sorted(set(KINDS) - {".stl", ".txt", ".xyz", ".off", ".pts", ".asc", ".gif"}))
def test_another_content_than_the_name_says_is_refused(ending, tmp_path):
    refused(written(tmp_path / f"file{ending}", b"GIF" + bytes(600)), 415, f"is no {ending} by its content")


def test_true_files_pass(tmp_path):
    for ending in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / f"file{ending}")
        check_file(tmp_path / f"file{ending}")
    np.savez_compressed(tmp_path / "file.npz", points=np.zeros((9, 3)))
    savemat(tmp_path / "file.mat", {"cube": np.zeros((4, 4, 5))}, do_compression=True)
    (tmp_path / "file.ply").write_text("ply\nformat ascii 1.0\n")
    for ending in (".npz", ".mat", ".ply"):
        check_file(tmp_path / f"file{ending}")


def test_only_endings_that_the_task_reads_and_that_lead_nowhere_else():
    cloud = lookup("tokenizers", "point_cloud")(192, columns=[0, 1, 2])
    assert suffix_of("a/b.PLY", cloud) == ".ply"
    for name, line in (("a.gltf", "may name other files"), ("a.exe", "takes .npz, .xyz"), ("a", "without an ending")):
        with pytest.raises(RefusedError, match=line):
            suffix_of(name, cloud)


def test_over_http(serve):
    client = serve()
    cases = {
        ("a.png", b"no picture"): (415, "is no .png by its content"),
        ("a.heic", b"ftypheic"): (415, "takes .png, .jpg"),
        ("../../a.png", b""): (422, "empty"),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(50)): (422, "file.jpg"),
    }
    for (name, content), (status, line) in cases.items():
        found = client.post("/v1/tasks/light/predict", files={"file": (name, content)})
        assert found.status_code == status and line in found.json()["detail"] and "/tmp" not in found.text
    assert client.post("/v1/tasks/kinds/predict", files={"file": ("a.png", b"")}).status_code == 415
    assert client.post("/v1/tasks/kinds/predict", files={"other": ("a.png", b"")}).status_code == 422
