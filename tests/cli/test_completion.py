"""Scripts that complete the command line: commands, options as people write them, and the values of some."""

import shutil
import subprocess
import sys

import pytest

from metatx.cli import main


def completed(script, words):
    """Completions of the last word that bash offers."""
    typed = " ".join(word or "''" for word in words)
    line = f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _shtab_metatx"
    command = ["bash", "--norc", "-c", f'{line}; printf "%s\\n" "${{COMPREPLY[@]}}"']
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_and_values(tmp_path, capsys):
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("There is no bash.")
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "bash"])
    assert end.value.code == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    assert set(completed(script, ["metatx", "t"])) == {"train", "tune"}
    assert "--skip-bad-samples" in completed(script, ["metatx", "train", "--skip"])
    assert set(completed(script, ["metatx", "train", "--precision", ""])) >= {"auto", "fp32", "bf16"}


def test_without_shtab_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "zsh"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "metatx: The completion of a shell is written by shtab: pip install shtab\n"
