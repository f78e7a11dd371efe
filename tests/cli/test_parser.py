"""The help of ``metatx``: options in groups, and flags that stand without a value."""

from pathlib import Path

import pytest

from metatx.cli import COMMANDS, main
from metatx.cli.parser import command_parser, normalise_argv


def _help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "compare"])
def test_options_come_in_groups_the_everyday_ones_first(command, capsys):
    shown = _help(command, capsys)
    first = ["data:", "--modality", "--target", "model:", "--head", "--backbone", "training:", "--epochs", "output:"]
    places = [shown.index(f"\n{'  ' * word.startswith('--')}{word}") for word in [*first, "--out"]]
    assert places == sorted(places)


@pytest.mark.parametrize("command", ["train", "compare"])
def test_the_help_shows_what_people_write(command, capsys):
    shown = _help(command, capsys)
    assert "--batch-size" in shown and "--head.dropout 0.1" in shown
    for word in ("--batch_size", "head_options", "HEAD_OPTIONS", "--print"):
        assert word not in shown


def test_flags_take_a_value_or_none_and_never_the_next_word():
    parser, flags = command_parser(COMMANDS)
    assert {"resume", "baseline", "skip_bad_samples", "watch", "cache"} <= flags and "epochs" not in flags
    words = "train --no-baseline data.csv --resume False --modality image --no-shard=false --cache false".split()
    values = parser.parse_args(normalise_argv(words, flags)).as_dict()["train"]
    assert values["data"] == "data.csv" and values["shard"]
    assert not any(values[name] for name in ("baseline", "resume", "cache"))


@pytest.mark.parametrize(
    ("words", "pretrained", "baseline"),
    [
        ("", True, True),
        ("--pretrained false --baseline=false", False, False),
        ("--no-pretrained --no_baseline", False, False),
        ("--random-backbone --no-baseline", False, False),
        ("--random_backbone=false --no-baseline false", True, True),
        ("--config old.yaml", False, False),
        ("--config old.yaml --pretrained true", True, False),
        ("--no-baseline --config new.yaml", False, True),
    ],
)
def test_names_of_the_api_and_former_ones(words, pretrained, baseline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.yaml").write_text("modality: image\nrandom_backbone: true\nno_baseline: true\n")
    Path("new.yaml").write_text("modality: image\npretrained: false\nbaseline: true\n")
    parser, flags = command_parser(COMMANDS)
    asked = normalise_argv(["train", "data.csv", "--modality", "image", *words.split()], flags)
    values = parser.parse_args(asked).as_dict()["train"]
    assert (values["pretrained"], values["baseline"]) == (pretrained, baseline)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--no-baseline=perhaps", "true or false"),
        ("--config none.yaml", "none.yaml"),
        ("--config broken.yaml", "parsing config"),
    ],
)
def test_what_cannot_be_read_is_said(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("modality: [image\n")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "data.csv", "--modality", "image", *words.split()])
    assert stopped.value.code == 2 and said in capsys.readouterr().err
