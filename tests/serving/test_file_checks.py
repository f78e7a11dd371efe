"""Files that strangers send: each is checked by its first bytes before it is read, or refused."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import metatx
from metatx.reading.signatures import SIGNATURES
from metatx.registry import lookup
from metatx.serving.file_checks import accepted_suffixes, check_file, suffix_of
from metatx.serving.limits import RefusedError
from metatx.tokenizer import Tokenizer


class Every(Tokenizer):
    """A plug-in that reads every format of which there is a signature, and one of its own without."""

    name = "every"
    suffixes = (*SIGNATURES, ".own")
    signatures = SIGNATURES


class Plugin(Every):
    """The same, which declares how its own files begin, and nothing else."""

    name = "plugin"
    signatures = {".own": lambda head: head.startswith(b"OWN")}


def written(path, content):
    path.write_bytes(content)
    return path


def refused(path, status, line, tokenizer=Every):
    with pytest.raises(RefusedError, match=line) as caught:
        check_file(path, tokenizer(8))
    assert caught.value.status == status


@pytest.mark.parametrize("name", metatx.names("tokenizers"))
def test_every_tokenizer_that_ships_declares_a_signature_of_each_file_that_it_reads(name):
    cls = lookup("tokenizers", name)
    read = {suffix for suffix in (*cls.suffixes, *cls.readers) if suffix.startswith(".")}
    assert read - set(cls.external_refs) == set(accepted_suffixes(cls))


@pytest.mark.parametrize("suffix", sorted(set(SIGNATURES) - {".stl", ".txt", ".xyz", ".off", ".pts", ".asc", ".gif"}))
def test_another_content_than_the_name_says_is_refused(suffix, tmp_path):
    refused(written(tmp_path / f"file{suffix}", b"GIF" + bytes(600)), 415, f"not that of a {suffix} file")


def test_a_file_without_a_signature_is_refused_by_its_name_and_again_where_it_is_read(tmp_path):
    with pytest.raises(RefusedError, match=r"\.own file cannot be checked.*every tokenizer declares no signature"):
        suffix_of("a.own", Every(8))
    refused(written(tmp_path / "a.own", b"OWN"), 415, "not that of a .own file")
    assert ".own" not in accepted_suffixes(Every(8))


def test_a_plug_in_declares_its_own_check(tmp_path):
    assert suffix_of("a.OWN", Plugin(8)) == ".own"
    assert accepted_suffixes(Plugin(8)) == [".own"]
    check_file(written(tmp_path / "a.own", b"OWN and more"), Plugin(8))
    refused(written(tmp_path / "b.own", b"other"), 415, "not that of a .own file", Plugin)
    with pytest.raises(RefusedError, match=r"\.png file cannot be checked"):
        suffix_of("a.png", Plugin(8))


def test_true_files_pass(tmp_path):
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / f"file{suffix}")
        check_file(tmp_path / f"file{suffix}", Every(8))
    np.savez_compressed(tmp_path / "file.npz", points=np.zeros((9, 3)))
    savemat(tmp_path / "file.mat", {"cube": np.zeros((4, 4, 5))}, do_compression=True)
    (tmp_path / "file.ply").write_text("ply\nformat ascii 1.0\n")
    for suffix in (".npz", ".mat", ".ply"):
        check_file(tmp_path / f"file{suffix}", Every(8))


def test_only_suffixes_that_the_task_reads_and_that_lead_nowhere_else():
    cloud = lookup("tokenizers", "point_cloud")(192, columns=[0, 1, 2])
    assert suffix_of("a/b.PLY", cloud) == ".ply"
    for name, line in (("a.gltf", "may name other files"), ("a.exe", "takes .npz, .xyz"), ("a", "without a suffix")):
        with pytest.raises(RefusedError, match=line):
            suffix_of(name, cloud)


def test_over_http(serve):
    client = serve()
    cases = {
        ("a.png", b"no picture"): (415, "not that of a .png file"),
        ("a.heic", b"ftypheic"): (415, "takes .png, .jpg"),
        ("../../a.png", b""): (422, "empty"),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(50)): (422, "file.jpg"),
    }
    for (name, content), (status, line) in cases.items():
        found = client.post("/v1/tasks/light/predict", files={"file": (name, content)})
        assert found.status_code == status and line in found.json()["detail"] and "/tmp" not in found.text
    assert client.post("/v1/tasks/kinds/predict", files={"file": ("a.png", b"")}).status_code == 415
    assert client.post("/v1/tasks/kinds/predict", files={"other": ("a.png", b"")}).status_code == 422
