"""The first run is a good one: with defaults, on small data, from an installation without extras."""

import json
import subprocess
import sys

import pytest
from sklearn.datasets import load_iris, load_wine

import metatx
from metatx.cli import main

WITHOUT_EXTRAS = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    names = {"matplotlib", "statsmodels", "av", "soundfile", "torchaudio", "open3d", "h5py", "open_clip", "pycocotools",
             "rdkit", "fastapi", "ray", "pydicom", "tensorboard"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import importlib.metadata
import importlib.util
found, version = importlib.util.find_spec, importlib.metadata.version
importlib.util.find_spec = lambda name, package=None: None if name in Missing.names else found(name, package)

def installed(name):
    if name in Missing.names:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

importlib.metadata.version = installed
from metatx.cli import main
main(sys.argv[1:])
"""


def _without_extras(folder, *words):
    """The command in an installation that has none of the extras."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """A folder with iris.csv."""
    folder = tmp_path_factory.mktemp("iris")
    load_iris(as_frame=True).frame.to_csv(folder / "iris.csv", index=False)
    return folder


def test_base_installation_trains_and_compares_and_says_which_picture_is_missing(iris):
    common = ("iris.csv", "--modality", "tabular", "--epochs", "2")
    done = _without_extras(iris, "train", *common, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("curves.png is left out: a plot needs matplotlib (pip install 'metatx[viz]').")
    assert "epoch 2/2: loss" in done.stderr
    assert (iris / "run" / "metrics.json").is_file() and not (iris / "run" / "curves.png").exists()
    done = _without_extras(iris, "compare", *common, "--seeds", "0", "--out", "compared")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("comparison.png is left out") == 1
    assert (iris / "compared" / "comparison.md").is_file()


def test_tour_names_its_extras_before_it_clears_anything(tmp_path):
    (tmp_path / "runs" / "quickstart" / "co2").mkdir(parents=True)
    done = _without_extras(tmp_path, "quickstart")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'metatx[forecast,viz]'" in done.stderr
    assert (tmp_path / "runs" / "quickstart" / "co2").exists()


@pytest.mark.parametrize("load", [load_wine, load_iris])
def test_defaults_end_well_on_a_hundred_rows(nano, load):
    report = metatx.run(load(as_frame=True).frame, "tabular", backbone=nano, target="target", baseline=False)
    assert report.test["accuracy"] >= 0.95
    assert report.test["ece"] <= 0.08
    assert len(report.task.history) * -(-108 // 8) >= 400, "so few epochs would be no training"


def test_report_says_which_epoch_was_kept_and_why(iris, capsys):
    main(["train", str(iris / "iris.csv"), "--modality", "tabular", "--epochs", "3", "--out", str(iris / "kept"),
          "--no-baseline", "--metric", "loss"])  # fmt: skip
    said = json.loads((iris / "kept" / "metrics.json").read_text())["kept"]
    assert said in capsys.readouterr().out
    assert said.startswith("Kept: the weights of epoch ") and "best validation loss" in said


def test_budget_bounds_the_training(iris):
    main(["train", str(iris / "iris.csv"), "--modality", "tabular", "--budget", "0.001", "--out", str(iris / "short"),
          "--no-baseline"])  # fmt: skip
    assert len((iris / "short" / "history.csv").read_text().splitlines()) == 2, "one epoch"
