"""Commands that need no torch end without it: help, lists, descriptions and errors of arguments."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import metatx
from metatx.registry import lookup, names, summary

ROOT = Path(__file__).parents[2]
TASK = ROOT / "tests/saved_tasks/version_3/tabular-lora/task"
HEAVY = ("torch", "pandas", "sklearn", "datasets", "transformers", "scipy")
CODE = f"""
import sys
from metatx.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
else:
    code = 0
print(code or 0, *(name for name in {HEAVY} if name in sys.modules))
"""


def ended(words: list[str]) -> tuple[str, list[str], str]:
    """Exit code of a command, heavy packages that it imported, and what it said on stderr."""
    command = [sys.executable, "-c", CODE, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=True)
    code, *heavy = done.stdout.splitlines()[-1].split()
    return code, heavy, done.stderr


@pytest.mark.parametrize(
    "words", ["--help", "train --help", "compare --help", "tune --help", "serve --help", "list", f"info {TASK}"]
)
def test_what_only_tells_imports_no_torch(words: str) -> None:
    code, heavy, _ = ended(words.split())
    assert (code, heavy) == ("0", [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trian a.csv", "invalid choice: 'trian'"),
        ("train", "arguments are required"),
        ("train a.csv --modality tabular --epochs few", "--epochs is 'few'; expected a whole number"),
        ("train a.csv", "The kind of data is not said"),
        ("train a.csv --modality tabula", "Did you mean 'tabular'?"),
        ("train a.csv --modality tabular --head clasification", "Did you mean 'classification'?"),
        ("compare a.csv --input a=image --input b=text --fusion erly", "Did you mean 'early'?"),
        ("compare a.csv --modality tabular --seeds one", "give whole numbers"),
        ("train a.csv --modality tabular --batch-size 0", "batch_size is 0"),
        ("predict nowhere a.csv", "nowhere does not exist"),
        ("evaluate nowhere a.csv", "nowhere does not exist"),
        ("info nowhere", "nowhere does not exist"),
    ],
)
def test_mistakes_in_arguments_are_told_without_torch(words: str, said: str) -> None:
    code, heavy, told = ended(words.split())
    assert (code, heavy) == ("2", [])
    assert said in told and told.count("\n") == 1


@pytest.mark.parametrize("kind", ["tokenizers", "heads", "fusions", "bridges"])
def test_summaries_are_those_of_the_classes(kind) -> None:
    for name in names(kind):
        assert summary(kind, name) == (lookup(kind, name).__doc__ or "").strip().partition("\n")[0]
        assert summary(kind, name)


def test_a_summary_of_a_class_of_ones_own() -> None:
    @metatx.register_head("told")
    class ToldHead(metatx.Head):
        """Head that says what it is.

        And more.
        """

    assert summary("heads", "told") == "Head that says what it is."


def test_the_names_of_the_backbone_room_are_imported_when_they_are_used() -> None:
    code = "import metatx.backbone, sys; print('torch' in sys.modules, metatx.backbone.VisionTransformer.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "VisionTransformer"]
    with pytest.raises(AttributeError, match="metatx.backbone"):
        metatx.backbone.Nothing  # noqa: B018
