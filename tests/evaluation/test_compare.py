"""A comparison: the numbers are those of single runs, all else equal, and nothing finished is run again."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_wine

import metatx
from metatx.backbone.vit import VisionTransformer
from metatx.evaluation import compare as comparison
from metatx.evaluation import run as experiment
from metatx.evaluation.budget import Plan
from metatx.evaluation.compare import ALIGNED, VARIANTS, Variant, compare
from metatx.evaluation.comparison_report import Comparison
from metatx.training import token_warmup as token_warmup

SETTINGS = metatx.TrainingSettings(epochs=2, batch_size=32, lr=3e-3)


@pytest.fixture(scope="module")
def wine():
    found = load_wine(as_frame=True)
    return found.data.iloc[:, :5].assign(cultivar=found.target.map(dict(enumerate("abc"))))


def wines(wine, nano, out=None, **changes):
    options = {"backbone": nano, "target": "cultivar", "name": "Wine", "seeds": (0, 1), "settings": SETTINGS}
    return compare(wine, "tabular", **{**options, "out": out, **changes})


@pytest.fixture(scope="module")
def done(wine, nano, tmp_path_factory):
    """A finished comparison in its folder."""
    folder = tmp_path_factory.mktemp("comparison") / "wine"
    wines(wine, nano, folder)
    return folder


@pytest.fixture
def runs(monkeypatch):
    """The (backbone's depth, seed) of each run that is made."""
    made, run = [], comparison.run

    def watched(*arguments, **options):
        made.append((options["backbone"].depth, options["settings"].seed))
        return run(*arguments, **options)

    monkeypatch.setattr(comparison, "run", watched)
    return made


def test_rows_are_the_numbers_of_single_runs(done, wine, nano):
    rows = {row.name: row for row in Comparison.read(done / "comparison.json").rows()}
    assert list(rows) == [variant.name for variant in VARIANTS]
    for name, backbone, tune in (
        ("pretrained, frozen", nano, "frozen"),
        ("no backbone", nano.without_blocks(), "frozen"),
        ("LoRA", nano, "lora"),
    ):
        options = {"backbone": backbone, "target": "cultivar", "tune": tune}
        reports = [metatx.run(wine, "tabular", **options, settings=replace(SETTINGS, seed=seed)) for seed in (0, 1)]
        values = [report.test["accuracy"] for report in reports]
        assert rows[name].values == values
        assert rows[name].mean == pytest.approx(np.mean(values))
        assert rows[name].spread == pytest.approx(np.std(values, ddof=1))
        assert rows[name].parameters == reports[0].task.trainable_parameters and rows[name].seconds > 0
    assert rows["random, frozen"].parameters == rows["no backbone"].parameters, "heads are the same"


def test_each_variant_is_what_its_name_says(nano):
    weights = {name: weight + 0.1 for name, weight in nano.named_weights()}
    trained = VisionTransformer(nano.config, weights, spec="trained")
    made = {variant.name: variant.backbone(trained) for variant in VARIANTS}
    assert made["pretrained, frozen"] is trained
    random = metatx.load_backbone("nano", pretrained=False)
    assert made["random, frozen"].fingerprint == random.fingerprint != trained.fingerprint
    assert made["no backbone"].fingerprint == trained.without_blocks().fingerprint


def test_baselines_are_those_of_the_first_seed_and_fitted_once(wine, nano, monkeypatch):
    fitted, baselines = [], experiment.baselines
    monkeypatch.setattr(experiment, "baselines", lambda *parts: fitted.append(1) or baselines(*parts))
    found = wines(wine, nano, seeds=(1, 0), settings=replace(SETTINGS, epochs=1))
    assert len(fitted) == 1
    alone = metatx.run(
        wine, "tabular", backbone=nano, target="cultivar", settings=replace(SETTINGS, epochs=1, seed=1)
    ).baselines
    assert found.baselines == alone
    cut = wines(wine, nano, seeds=(1,), settings=replace(SETTINGS, epochs=1), budget=1e-6, variants=VARIANTS[2:])
    assert cut.plans["frozen"].samples == 32 and cut.baselines == alone, "on all training samples, whatever the budget"
    assert [row.values for row in found.baseline_rows()][-1] == [alone["trivial"]["majority class"]["accuracy"]]


def test_a_comparison_goes_on_where_it_stopped_and_says_so(done, wine, nano, runs, caplog):
    caplog.set_level("INFO", logger="metatx")
    count = len(VARIANTS)
    path = done / "comparison.json"
    before = json.loads(path.read_text())
    assert wines(wine, nano, done).rows() and runs == []
    place = len(VARIANTS)  # the first variant's second seed
    lost = before["trials"][place]
    path.write_text(json.dumps(before | {"trials": before["trials"][:place] + before["trials"][place + 1 :]}))
    wines(wine, nano, done)
    assert runs == [(nano.depth, 1)]
    total = f"{count} variants with 2 seeds: {2 * count} runs"
    assert f"{total}; {2 * count} of them are in {done} already, and are not repeated." in caplog.messages
    assert f"{total}; {2 * count - 1} of them are in {done} already, and are not repeated." in caplog.messages
    assert f"Run {2 * count} of {2 * count}: {VARIANTS[0].name}, seed 1." in caplog.messages
    trials = json.loads(path.read_text())["trials"]
    (again,) = [trial for trial in trials if (trial["variant"], trial["seed"]) == (lost["variant"], lost["seed"])]
    assert again["test"] == lost["test"] and len(trials) == 2 * len(VARIANTS)
    path.write_text(json.dumps(before))
    Comparison.read(path).write(done)


def test_alignment_adds_a_row_and_changes_no_other(wine, nano, tmp_path, runs, monkeypatch):
    monkeypatch.setattr(token_warmup, "TOKENS", 1024)
    options = {"seeds": (0,), "variants": VARIANTS[:1]}
    (plain,) = wines(wine, nano, tmp_path, **options).rows()
    aligned = replace(SETTINGS, token_warmup_steps=8)
    found = wines(wine, nano, tmp_path, settings=aligned, **options)
    assert len(runs) == 2, "what is finished is not run again"
    assert found.rows()[0] == plain and [row.name for row in found.rows()] == ["pretrained, frozen", "aligned first"]
    alone = metatx.run(wine, "tabular", backbone=nano, target="cultivar", settings=aligned)
    assert found.trials[1].test == alone.test and alone.task.token_warmup["steps"] == 8
    assert found.trials[1].test != found.trials[0].test
    assert "aligned first: training begins after a token warm-up of 8 steps" in str(found)
    with pytest.raises(ValueError, match="was run with token_warmup_steps 8, not 9; give another --out"):
        wines(wine, nano, tmp_path, settings=replace(SETTINGS, token_warmup_steps=9), **options)
    with pytest.raises(ValueError, match="'aligned first' needs a token warm-up"):
        wines(wine, nano, variants=[ALIGNED])
    weights = {name: value for name, value in nano.named_weights() if not name.startswith("stem.")}
    stemless = VisionTransformer(replace(nano.config, stem=None), weights, spec="stemless")
    with pytest.raises(ValueError, match="stemless has no stem"):
        wines(wine, stemless, settings=aligned)
    assert len(runs) == 2, "refused before any run"


def test_another_comparison_is_refused_and_nothing_changes(done, wine, nano, tmp_path, runs):
    before = (done / "comparison.json").read_bytes()
    for changes, message in (
        ({"settings": replace(SETTINGS, epochs=3)}, "epochs 2 -> 3"),
        ({"head_options": {"dropout": 0.1}}, "head_options {} -> {'dropout': 0.1}"),
        ({"budget": 5.0}, "budget None -> 5.0"),
        ({"variants": [replace(VARIANTS[0], tune="norm")]}, "was run with tune frozen, not norm"),
    ):
        with pytest.raises(ValueError, match="give another --out") as caught:
            wines(wine, nano, done, **changes)
        assert message in str(caught.value)
    assert (done / "comparison.json").read_bytes() == before and runs == []
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        wines(wine, nano, tmp_path)
    (tmp_path / "comparison.json").write_text(before.decode()[:-40])
    with pytest.raises(ValueError, match="is damaged"):
        wines(wine, nano, tmp_path)
    with pytest.raises(ValueError, match="has random weights"):
        wines(wine, metatx.load_backbone("nano", pretrained=False))


def boundless(backbone):
    return VisionTransformer(backbone.config, {n: w * 1e38 for n, w in backbone.named_weights()}, spec="boundless")


def test_a_run_that_diverges_loses_no_other(wine, nano, tmp_path):
    wild = Variant("wild", boundless)
    found = wines(wine, nano, tmp_path / "out", seeds=(0,), variants=[wild, VARIANTS[2]])
    assert Comparison.read(tmp_path / "out" / "comparison.json") == found
    first, second = found.rows()
    assert (first.values, first.diverged, str(first)) == ([], 1, "diverged")
    assert "lower learning rate" in found.trials[0].diverged
    assert len(second.values) == 1 and found.baselines, "the first run that ends brings the baselines"
    assert "| wild | diverged | 0 (1 diverged) |" in found.markdown()


def test_a_budget_is_measured_once_and_binds_every_run(wine, nano, tmp_path, monkeypatch):
    asked = replace(SETTINGS, epochs=50)
    found = wines(wine, nano, tmp_path, seeds=(0,), budget=1e-6, settings=asked, variants=VARIANTS[:1])
    assert found.plans == {"frozen": Plan(1, 32, 127)}, "not one epoch fits; a batch is the least"
    assert "budget 1e-06 s a run" in str(found) and "| 1 epoch of 32 of 127 samples |" in str(found)

    content = json.loads((tmp_path / "comparison.json").read_text())
    content["plans"]["frozen"] = {"epochs": 2, "samples": 100, "available": 127}
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    lengths, fit = [], metatx.Task.fit

    def watched(self, train, validation, **options):
        lengths.append((len(train), len(validation), options["settings"].epochs))
        return fit(self, train, validation, **options)

    monkeypatch.setattr(metatx.Task, "fit", watched)
    variants = [*VARIANTS[:2], VARIANTS[4]]
    found = wines(wine, nano, tmp_path, seeds=(0, 1), budget=1e-6, settings=asked, variants=variants)
    frozen, lora = (100, 12, 2), (32, 4, 1)
    assert lengths == [frozen, lora, frozen, frozen, lora], "the same share of validation; LoRA was measured by itself"
    assert found.plans == {"frozen": Plan(2, 100, 127), "lora": Plan(1, 32, 127)}


def test_the_table_can_be_read_back(done):
    found = Comparison.read(done / "comparison.json")
    written = (done / "comparison.md").read_text()
    assert written == str(found)
    assert "higher is better" in written and "seeds 0, 1" in written and "backbone nano" in written
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in written.splitlines() if line[:1] == "|"]
    header, _, *cells = lines
    assert header == ["Wine", "accuracy ↑", "seeds", "trained parameters", "trained for", "seconds"]
    assert len(cells) == len(VARIANTS) + 2 and all(len(line) == 6 for line in cells)
    for row, line in zip([*found.rows(), *found.baseline_rows()], cells, strict=True):
        assert line[0] == row.name
        numbers = [float(number) for number in line[1].split(" ± ")]
        assert numbers[0] == pytest.approx(row.mean, abs=5e-5)
        if row.parameters is not None:
            assert numbers[1] == pytest.approx(row.spread, abs=5e-5)
            assert [int(line[2]), int(line[3].replace(",", ""))] == [2, row.parameters]


def test_the_figure_shows_each_variant(done, tmp_path):
    picture = np.asarray(Image.open(done / "comparison.png").convert("RGB")).astype(int)
    assert picture.shape[0] > 300 and picture.shape[1] > 800
    blue = (picture[..., 2] - picture[..., 0] > 120).any(axis=1)  # the markers' colour, by rows of pixels
    found = Comparison.read(done / "comparison.json")
    found.trials = [trial for trial in found.trials if trial.variant == "no backbone"]
    found.plot(tmp_path / "one.png")
    fewer = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).astype(int)
    assert bands(blue) == bands((fewer[..., 2] - fewer[..., 0] > 120).any(axis=1)) + len(VARIANTS) - 1


def bands(rows):
    """How many stretches of True there are."""
    return int(np.diff(rows.astype(int), prepend=0).clip(0).sum())


def test_the_table_says_how_long_a_run_is_where_epochs_are_left_to_it(wine, nano, tmp_path):
    found = wines(wine, nano, tmp_path, seeds=(0,), settings=metatx.TrainingSettings(steps=8), variants=VARIANTS[:1])
    assert "| about 8 steps |" in str(found)
    assert "None" not in str(found)
