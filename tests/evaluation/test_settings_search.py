"""A search for settings: the default comes first, nothing reads the test split, and a search goes on."""

import csv
import json
from types import SimpleNamespace

import pytest
import yaml

import metatx
from metatx.cli import main
from metatx.evaluation.search_space import applied
from metatx.evaluation.settings_search import Watch, search_settings
from metatx.registry import checked_options, lookup, names, option_names

QUICK = metatx.TrainingSettings(epochs=1, lr=3e-3)
COMPONENTS = [(kind, name) for kind in ("heads", "tokenizers") for name in names(kind)]


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_what_can_be_tuned_are_options_with_values_that_are_accepted(kind, name):
    component = lookup(kind, name)
    assert set(component.tunable) <= set(option_names(component))
    for option, values in component.tunable.items():
        assert len(values) > 1
        for value in values:
            assert checked_options(component, (), {option: value}) == {option: value}


def test_values_of_several_inputs_go_to_the_input_that_they_name():
    spec = metatx.TaskSpec(modality={"photo": "image", "words": "text"}, tokenizer_options={"photo": {"crop_pct": 0.9}})
    values = {"lr": 1e-2, "weight_decay": 0.1, "tune": "norm", "head.dropout": 0.3, "tokenizer.photo.augment": "flip"}
    changed, settings = applied(values, spec, QUICK)
    assert changed.tokenizer_options == {"photo": {"crop_pct": 0.9, "augment": "flip"}}
    assert (changed.head_options, changed.tune) == ({"dropout": 0.3}, "norm")
    assert (settings.lr, settings.weight_decay, settings.epochs) == (1e-2, 0.1, 1)


@pytest.mark.parametrize(("pruned", "deadline", "ends"), [(False, 1e12, 0), (True, 1e12, 2), (False, 0.0, 1)])
def test_a_trial_ends_when_others_are_better_or_the_time_is_over(pruned, deadline, ends):
    reported = []
    trial = SimpleNamespace(report=lambda value, step: reported.append((value, step)), should_prune=lambda: pruned)
    watch = Watch(trial, "validation_loss", -1, deadline)
    state = SimpleNamespace(num_train_epochs=4)
    stopped = []
    for _ in range(4):
        control = SimpleNamespace(should_training_stop=False)
        watch.on_log(None, state, control, {"validation_loss": 0.5})
        stopped.append(control.should_training_stop)
    assert reported == [(-0.5, 1), (-0.5, 2), (-0.5, 3)], "the last epoch can end nothing"
    assert stopped.index(True) + 1 == ends if ends else not any(stopped)


def search(data, backbone, trials, **options):
    chosen = {"target": "kind", "settings": QUICK, "head_options": {"hidden": 0}, **options}
    return search_settings(data, "tabular", backbone=backbone, trials=trials, seconds=1e6, **chosen)


def test_the_default_is_first_and_nothing_is_worse_than_it(nano, table):
    pytest.importorskip("optuna")
    result = search(table, nano, 3)
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    first = result.trials[0]
    assert first.values == result.default
    assert first.values["lr"] == QUICK.lr
    assert "head.hidden" not in first.values, "an option that is given stays as it is"
    assert result.best.value >= first.value
    assert all(trial.values != first.values for trial in result.trials[1:])
    assert str(result).splitlines()[0].count("3 trials of 1 epoch of 172 samples")
    alone = metatx.run(table, "tabular", backbone=nano, target="kind", settings=QUICK, baseline=False)
    assert first.value == alone.validation["accuracy"]


def test_a_search_goes_on_as_one_that_was_not_stopped_and_reads_no_test_split(nano, table, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    splits = {"train": table[:160], "validation": table[160:200], "test": table[200:]}
    whole = search(splits, nano, 3)
    fit = metatx.Task.fit
    fitted = []

    def killed(self, *data, **options):
        fitted.append(self)
        if len(fitted) == 2:
            raise KeyboardInterrupt
        return fit(self, *data, **options)

    monkeypatch.setattr(metatx.Task, "fit", killed)
    spoiled = {**splits, "test": table[200:].assign(a="nothing", kind="other")}
    with pytest.raises(KeyboardInterrupt):
        search(spoiled, nano, 3, out=tmp_path / "s")
    resumed = search(spoiled, nano, 3, out=tmp_path / "s")
    assert len(fitted) == 4, "the first trial is not repeated"
    assert resumed.trials[0].value == whole.trials[0].value
    again = search(spoiled, nano, 3, out=tmp_path / "s")
    assert len(fitted) == 4
    assert [trial.value for trial in again.trials] == [trial.value for trial in resumed.trials]
    with pytest.raises(ValueError, match="other settings: lr"):
        search(spoiled, nano, 3, out=tmp_path / "s", settings=metatx.TrainingSettings(epochs=1, lr=1e-4))


def test_a_trial_that_cannot_be_trained_is_noted_and_the_others_go_on(nano, table, monkeypatch):
    pytest.importorskip("optuna")
    fit = metatx.Task.fit
    fitted = []

    def diverges(self, *data, **options):
        fitted.append(self)
        if len(fitted) == 2:
            raise ValueError("The loss became nan.")
        return fit(self, *data, **options)

    monkeypatch.setattr(metatx.Task, "fit", diverges)
    result = search(table, nano, 3)
    assert [trial.state for trial in result.trials] == ["finished", "failed: The loss became nan.", "finished"]


def test_the_command_writes_a_config_that_train_runs_with_the_same_result(table, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    table.to_csv("kinds.csv", index=False)
    words = "tune kinds.csv --modality tabular --target kind --epochs 1 --seconds 1e6 --trials 2 --out s --seed 3"
    main([*words.split(), "--tokenizer.bins", "8"])
    assert "metatx train --config s/config.yaml" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "s/trials.csv").open()))
    best = max(rows, key=lambda row: (float(row["accuracy"]), -float(row["loss"])))
    config = yaml.safe_load((tmp_path / "s/config.yaml").read_text())
    assert config["lr"] == float(best["lr"])
    assert config["tokenizer"] == {"bins": 8, "hide": float(best["tokenizer.hide"])}
    main(["train", "--config", "s/config.yaml", "--out", "r", "--no-baseline"])
    measured = json.loads((tmp_path / "r/metrics.json").read_text())["validation"]
    assert measured["accuracy"] == pytest.approx(float(best["accuracy"]), abs=1e-6)
    with pytest.raises(SystemExit):
        main(["tune", "kinds.csv", "--modality", "tabular", "--target", "kind", "--out", "r"])
    assert "r holds something else than a search" in capsys.readouterr().err
