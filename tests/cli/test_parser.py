"""The help of ``metatx``: options in groups, and flags that stand without a value."""

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
    assert {"--resume", "--no_baseline", "--skip_bad_samples", "--watch"} <= flags and "--cache" not in flags
    words = "train --no-baseline data.csv --resume false --modality image --head.layers=2 --cache false".split()
    asked = normalise_argv(words, flags)
    values = parser.parse_args(asked).as_dict()["train"]
    assert values["data"] == "data.csv" and values["no_baseline"] and not values["resume"] and not values["cache"]
    assert values["head_options"] == {"layers": 2}
