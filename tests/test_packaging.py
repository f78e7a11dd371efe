"""metatx imports beside its dependencies however Python starts, and a wheel installs it whole."""

import json
import os
import shutil
import site
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import metatx

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = "import peft, transformers, open_clip, metatx"
CHECKS = (
    f"{IMPORTS}; import tokenizers; tokenizers.Tokenizer; metatx.Tokenizer; "
    "print('tokenizers of Hugging Face:', 'site-packages' in tokenizers.__file__)"
)
INNER = tuple(
    sorted(
        ".".join(path.parent.relative_to(ROOT / "metatx").parts) for path in (ROOT / "metatx").glob("*/**/__init__.py")
    )
)
NANO = {
    f"metatx/nano/{name}"
    for name in ("config.json", "model.safetensors", "alignment.json", "alignment.safetensors", "README.md")
}


def run(*command: str | Path, cwd: Path, stdin: str = "") -> str:
    """Run a command and return what it printed; what it wrote to stderr shows when it fails."""
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("command", "stdin"),
    [
        pytest.param(["-i"], f"{CHECKS}\n", id="REPL"),
        pytest.param(["-c", CHECKS], "", id="-c"),
        pytest.param(["-m", "timeit", "-n1", "-r1", CHECKS], "", id="-m"),
    ],
)
def test_imports_work_together_from_the_root(command: list[str], stdin: str) -> None:
    assert "tokenizers of Hugging Face: True" in run(sys.executable, *command, cwd=ROOT, stdin=stdin)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([Path(sys.executable).with_name("pytest")], id="pytest"),
        pytest.param([sys.executable, "-m", "pytest"], id="-m pytest"),
    ],
)
def test_imports_work_together_under_pytest(command: list[str], tmp_path: Path) -> None:
    test = tmp_path / "test_imports.py"
    test.write_text(f"def test_imports():\n    {CHECKS}\n")
    options = ["-s", "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"-c{ROOT}/pyproject.toml"]
    assert "tokenizers of Hugging Face: True" in run(*command, *options, test, cwd=ROOT)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One wheel made straight from the sources and one made from the sdist, without the network."""
    work = tmp_path_factory.mktemp("build")
    source = work / "source"
    source.mkdir()
    for name in ["pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]:
        shutil.copy(ROOT / name, source)
    for name in ["metatx", "tokenizers", "heads", "recipes"]:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=without)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
    run(*build, work / "direct", "--wheel", cwd=source)
    run(*build, work / "from sdist", cwd=source)  # without --wheel: the sdist, then the wheel from it
    found = {kind: next((work / kind).glob("*.whl")) for kind in ["direct", "from sdist"]}
    return {**found, "sdist": next((work / "from sdist").glob("*.tar.gz"))}


def module_names() -> set[str]:
    """Every module of the checkout, under the name it is imported by."""
    files = [(path, ["metatx"]) for path in (ROOT / "metatx").glob("*.py")]
    for package in INNER:
        folder = ROOT / "metatx" / package.replace(".", "/")
        files += [(path, ["metatx", package]) for path in folder.glob("*.py")]
    for folder in ["tokenizers", "heads"]:
        files += [(path, ["metatx", folder]) for path in (ROOT / folder).glob("*.py")]
    return {".".join([*package, path.stem]) for path, package in files if path.stem[:2] != "__"}


def test_wheel_holds_the_package_and_nothing_else(wheels: dict[str, Path]) -> None:
    direct, rebuilt = (set(zipfile.ZipFile(wheels[kind]).namelist()) for kind in ["direct", "from sdist"])
    assert direct == rebuilt
    info = f"metatx-{metatx.__version__}.dist-info"
    assert {name.split("/")[0] for name in direct} == {"metatx", info}
    assert direct >= {f"{name.replace('.', '/')}.py" for name in module_names()}
    assert direct >= {"metatx/py.typed", f"{info}/licenses/LICENSE", *NANO}


WALK = """
import importlib, importlib.metadata, importlib.resources, json, pkgutil
import metatx

found, places = [], [metatx.__file__]
inner = [*INNER, "tokenizers", "heads"]
for package in ["metatx", *(f"metatx.{name}" for name in inner)]:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            places.append(importlib.import_module(module.name).__file__)
            found.append(module.name)
nano = [path.name for path in importlib.resources.files("metatx").joinpath("nano").iterdir()]
home = str(importlib.metadata.distribution("metatx").locate_file(""))
print(json.dumps(dict(found=found, places=places, nano=nano, home=home)))
"""


@pytest.fixture(scope="module")
def python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a clean environment in which only metatx is installed; its dependencies are those of this test's.

    A path file names this environment's site-packages. Python does not read the path files inside a folder that came
    from one, so the editable metatx there stays unknown, and the new environment's own packages come first.
    """
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    found = folder / "env" / "bin" / "python"
    pip = [found, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-index", "--no-deps", wheels["from sdist"], cwd=folder)
    packages = next((folder / "env" / "lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return found


def test_wheel_imports_whole_in_a_clean_environment(python: Path, tmp_path: Path) -> None:
    packages = next((python.parents[1] / "lib").glob("python*/site-packages"))
    seen = json.loads(run(python, "-I", "-c", f"INNER = {INNER}\n{WALK}", cwd=tmp_path).splitlines()[-1])
    assert Path(seen["home"]) == packages
    assert all(Path(place).is_relative_to(packages / "metatx") for place in seen["places"])
    assert set(seen["found"]) == module_names() | {f"metatx.{package}" for package in INNER}
    assert {f"metatx/nano/{name}" for name in seen["nano"]} >= NANO
    assert "usage" in run(python.with_name("metatx"), "--help", cwd=tmp_path).lower()


STRANGER = """
set -eu
"$BIN/python" -c "from sklearn.datasets import *; load_wine(as_frame=True).frame.to_csv('wine.csv', index=False)"
"$BIN/metatx" train wine.csv --modality tabular --target target --epochs 2 --no-baseline --out runs/wine
"$BIN/metatx" embed runs/wine/task wine.csv --out vectors.parquet
"$BIN/metatx" export runs/wine/task --out wine.onnx
mkdir tasks
cp -r runs/wine/task tasks/wine
"$BIN/metatx" serve tasks --port "$PORT" &
"$BIN/python" - <<'END'
import os
import time

import pandas as pd

import metatx

rows = pd.read_csv("wine.csv").drop(columns="target")
with metatx.Client(f"http://127.0.0.1:{os.environ['PORT']}") as client:
    for _ in range(120):
        try:
            answers = client.predict("wine", rows[:3])
            break
        except ConnectionError:
            time.sleep(0.5)
print(len(answers), pd.read_parquet("vectors.parquet").shape[0])
END
kill $!
wait $!
"""


def test_a_stranger_trains_embeds_exports_and_serves_without_the_repository(python: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    own = {**os.environ, "BIN": str(python.parent), "PORT": port}
    own.pop("PYTHONPATH", None)
    done = subprocess.run(["bash", "-c", STRANGER], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 178" in done.stdout and (tmp_path / "wine.onnx").stat().st_size > 10_000
