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


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_help_has_no_markup_and_no_types_of_python(command, capsys):
    shown = _help(command, capsys)
    for word in ("``", "Optional[", "Literal[", "dict[", "null", "type:", "default: None", "default: False"):
        assert word not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--epochs x", "metatx: --epochs is 'x'; expected a whole number."),
        ("--batch-sise 3", "metatx: Unknown option --batch-sise. Did you mean --batch-size? --help lists all."),
        ("--adapter 3", "metatx: --adapter is '3'; expected values by name."),
    ],
)
def test_a_wrong_option_is_told_in_words(words, said, capsys):
    with pytest.raises(SystemExit):
        main(["train", "data.csv", "--modality", "tabular", *words.split()])
    assert capsys.readouterr().err == f"{said}\n"


def test_flags_take_a_value_or_none_and_never_the_next_word():
    parser, flags = command_parser(COMMANDS)
    assert {"--resume", "--no_baseline", "--skip_bad_samples", "--watch"} <= flags and "--cache" not in flags
    words = "train --no-baseline data.csv --resume false --modality image --head.layers=2 --cache false".split()
    asked = normalise_argv(words, flags)
    values = parser.parse_args(asked).as_dict()["train"]
    assert values["data"] == "data.csv" and values["no_baseline"] and not values["resume"] and not values["cache"]
    assert values["head_options"] == {"layers": 2}
