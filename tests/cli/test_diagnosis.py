"""``metatx doctor``: what is there, what an extra lacks, and no secret."""

import importlib.metadata

import pytest

import metatx
from metatx.cli import diagnosis, main


@pytest.fixture
def told(capsys, monkeypatch, tmp_path):
    """Run the command with a cache of a file and a secret; return its lines."""
    (tmp_path / "a.safetensors").write_bytes(bytes(2 * 10**8))
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    monkeypatch.setenv("METATX_TOKEN", "secret")

    def run() -> str:
        main(["doctor"])
        return capsys.readouterr().out

    return run


def test_versions_devices_and_the_cache_are_told(told, tmp_path) -> None:
    lines = told()
    assert lines.startswith(f"metatx     {metatx.__version__}, Python ")
    assert f"torch {importlib.metadata.version('torch')}" in lines and "device     cpu: " in lines
    assert f"cache      {tmp_path}, 0.2 GB in 1 files" in lines and f"variable   METATX_CACHE={tmp_path}" in lines
    assert "secret" not in lines


def test_what_an_extra_lacks_is_told_with_what_to_do(told, monkeypatch) -> None:
    def version(name: str) -> str:
        if name == "av":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "soundfile" else importlib.metadata.version(name)

    monkeypatch.setattr(diagnosis, "version", version)
    lines = told()
    assert 'lacks av: pip install "metatx[video]"' in lines
    assert 'lacks soundfile 0.1 (soundfile>=0.12; extra == "audio"): pip install "metatx[audio]"' in lines
