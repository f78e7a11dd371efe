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
        ("--epoch 3", "metatx: Unknown option --epoch. Did you mean --epochs? --help lists all."),
        ("--no-baselin", "metatx: Unknown option --no-baselin. Did you mean --baseline? --help lists all."),
        ("--adapter 3", "metatx: --adapter is '3'; expected values by name."),
    ],
)
def test_a_wrong_option_is_told_in_words(words, said, capsys):
    with pytest.raises(SystemExit):
        main(["train", "data.csv", "--modality", "tabular", *words.split()])
    assert capsys.readouterr().err == f"{said}\n"


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


def test_all_options_of_an_input_are_kept():
    parser, flags = command_parser(COMMANDS)
    words = (
        "train t.csv --input photo=image --tokenizer.photo.image-size 16 --tokenizer.photo.crop_pct=1e-1 "
        """--tokenizer.words.context 8 --tokenizer.photo.augment flip --through.photo {"backbone":"nano"} """
        "--through.photo.bridge grid --through.photo.side 2 --tokenizer.photo.freeze-stem false"
    )
    values = parser.parse_args(normalise_argv(words.split(), flags)).as_dict()["train"]
    photo = {"image_size": 16, "crop_pct": 0.1, "augment": "flip", "freeze_stem": False}
    assert values["tokenizer"] == {"photo": photo, "words": {"context": 8}}
    assert values["through"] == {"photo": {"backbone": "nano", "bridge": "grid", "side": 2}}
    assert values["data"] == "t.csv" and values["input"] == ["photo=image"]
