"""A comparison of fusions: each input alone, each left out, each fusion with its controls, on the same splits."""

import copy
import json

import numpy as np
import pandas as pd
import pytest

import metatx
from metatx.evaluation import compare as comparison
from metatx.evaluation.baselines import baselines
from metatx.evaluation.compare import VARIANTS
from metatx.evaluation.comparison_report import Comparison, Trial
from metatx.evaluation.variants import fusion_variants
from metatx.examples import Examples
from metatx.registry import create

SETTINGS = metatx.TrainingSettings(epochs=1, lr=3e-3, batch_size=32)
# ``more`` reads what no other input does, whichever of them a variant keeps.
INPUTS = {
    "facts": metatx.Input(name="facts", modality="tabular", columns="a"),
    "more": metatx.Input(name="more", modality="tabular"),
    "words": "text",
}
FUSIONS = ["late:dropout=0.2", "mid:at=1"]


@pytest.fixture(scope="module")
def rows():
    """120 rows whose label follows from three inputs; every sixth has no words."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(120, 3)), columns=["a", "b", "c"])
    rows["words"] = rng.choice(["red fox", "old bear"], 120)
    rows["kind"] = np.where(rows.a + rows.b + (rows.words == "red fox") > 0.5, "yes", "no")
    rows.loc[::6, "words"] = None
    return rows


def compared(rows, nano, out=None, **changes):
    options = {"backbone": nano, "target": "kind", "seeds": (0,), "settings": SETTINGS, "name": "Rows"}
    return metatx.compare(rows, INPUTS, **{**options, "fusions": FUSIONS, "out": out, **changes})


@pytest.fixture(scope="module")
def done(rows, nano, tmp_path_factory):
    """A finished comparison in its folder."""
    folder = tmp_path_factory.mktemp("fusions") / "rows"
    compared(rows, nano, folder)
    return folder


def test_the_rows(done, rows, nano):
    result = Comparison.read(done / "comparison.json")
    names = [row.name for row in result.rows()]
    assert names == [
        *("facts alone", "more alone", "words alone"),
        *(f"without {name}, late:dropout=0.2" for name in INPUTS),
        *("late:dropout=0.2", "late:dropout=0.2, random", "late:dropout=0.2, no backbone"),
        *("mid:at=1", "mid:at=1, random", "mid:at=1, no backbone"),
    ]
    values = {row.name: row.values for row in result.rows()}
    options = {"backbone": nano, "target": "kind", "settings": SETTINGS, "baseline": False}
    plain = metatx.run(rows, "tabular", inputs="b,c", **options)
    assert values["more alone"] == [plain.test["accuracy"]], "the input has its columns, and the test split is the same"
    fused = metatx.run(rows, INPUTS, fusion="mid", fusion_options={"at": 1}, **options)
    assert values["mid:at=1"] == [fused.test["accuracy"]]
    cut = metatx.run(rows, INPUTS, only=["facts", "words"], fusion_options={"dropout": 0.2}, **options)
    assert values["without more, late:dropout=0.2"] == [cut.test["accuracy"]]
    assert cut.task.inputs == ["a", "words"]
    narrow = metatx.run(rows, INPUTS, only=["more"], **options)
    assert narrow.task.inputs == ["b", "c"] and narrow.test == pytest.approx(plain.test)
    beside = [row.name for row in result.baseline_rows()]
    assert "words alone, TF-IDF, logistic regression (classical)" in beside, "baselines are those of all inputs"


def test_the_choice_is_made_on_validation_and_marked(done):
    result = Comparison.read(done / "comparison.json")
    means = {trial.variant: trial.validation["accuracy"] for trial in result.trials}
    best = max(FUSIONS, key=means.__getitem__)
    assert result.chosen == best == json.loads((done / "comparison.json").read_text())["chosen"]
    written = (done / "comparison.md").read_text()
    assert f"| {best} (chosen on validation) |" in written and f"chosen on validation is {best}, " in written
    assert written.count("(chosen on validation)") == 1
    result.trials = [
        Trial(variant=name, seed=0, validation={"accuracy": score}, test={"accuracy": 1 - score})
        for name, score in (("late:dropout=0.2", 0.4), ("mid:at=1", 0.7), ("late:dropout=0.2, random", 0.9))
    ]
    assert result.chosen == "mid:at=1", "controls are not chosen"
    assert "chosen on validation is mid:at=1, 0.3000 behind the best there, late:dropout=0.2." in result.caption()
    result.higher_is_better = False
    assert result.chosen == "late:dropout=0.2"


def test_a_comparison_of_fusions_goes_on(done, rows, nano, monkeypatch):
    made = []
    run = comparison.run
    monkeypatch.setattr(
        comparison, "run", lambda *given, **options: made.append(options["only"]) or run(*given, **options)
    )
    before = json.loads((done / "comparison.json").read_text())
    compared(rows, nano, done)
    assert made == []
    cut = before | {"trials": [trial for trial in before["trials"] if trial["variant"] != "words alone"]}
    (done / "comparison.json").write_text(json.dumps(cut))
    again = compared(rows, nano, done, fusions=[*FUSIONS, "early"])
    assert made == [("words",), (), (), ()], "what was lost, and a further fusion with its controls"
    assert again.fusions == [*FUSIONS, "early"]
    with pytest.raises(ValueError, match="give another --out"):
        compared(rows, nano, done, head_options={"dropout": 0.1})
    (done / "comparison.json").write_text(json.dumps(before))


def test_without_fusions_a_task_of_several_inputs_is_compared_as_any_other(rows, nano):
    result = compared(rows, nano, fusions=(), variants=VARIANTS[:3:2], fusion="early")
    assert [row.name for row in result.rows()] == ["pretrained, frozen", "no backbone"]
    assert result.chosen is None and "chosen" not in result.caption()


def test_of_two_inputs_each_alone_stands_once(rows, nano):
    two = {"facts": INPUTS["facts"], "words": "text"}
    options = {"backbone": nano, "target": "kind", "seeds": (0,), "settings": SETTINGS, "baseline": False}
    result = metatx.compare(rows, two, fusions=["early"], budget=1e-6, **options)
    assert [row.name for row in result.rows()][:3] == ["facts alone", "words alone", "early"]
    assert list(result.plans) == ["facts alone", "words alone", "early"], "controls have the plan of their fusion"


def test_all_means_every_registered_fusion_that_of_the_spec_first(nano):
    metatx.register_fusion("own")(type("Own", (metatx.Fusion,), {}))
    spec = metatx.TaskSpec(modality={"photo": "image", "facts": "tabular"}, fusion="mid")
    chosen = [variant.name for variant in fusion_variants(spec, ["all:dropout=0.1"], nano) if variant.candidate]
    assert chosen[0] == "mid:dropout=0.1"
    assert sorted(chosen) == [f"{name}:dropout=0.1" for name in metatx.names("fusions")] and "own:dropout=0.1" in chosen


def test_on_a_causal_backbone_all_means_the_fusions_that_it_can_have(nano):
    spec = metatx.TaskSpec(modality={"photo": "image", "facts": "tabular"})
    causal = copy.copy(nano)
    causal.causal = True
    chosen = [variant.name for variant in fusion_variants(spec, ["all"], causal) if variant.candidate]
    assert {"late", "early", "mid", "gated"} <= set(chosen) and not {"bottleneck", "coattention"} & set(chosen)
    with pytest.raises(ValueError, match="bottleneck fusion lets each input read the others"):
        fusion_variants(spec, ["late", "bottleneck"], causal)


def test_wrong_fusions_are_refused_before_any_run(rows, nano, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "run", lambda *given, **options: pytest.fail("ran"))
    for fusions, message in (
        (["lat"], "Did you mean 'late'"),
        (["late:at=1"], "at"),
        (["late:product"], "option 'product'; expected NAME=VALUE, such as late:product=64"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            compared(rows, nano, tmp_path / "out", fusions=fusions)
    with pytest.raises(ValueError, match="Fusions need several inputs; this task reads tabular"):
        metatx.compare(rows, "tabular", backbone=nano, target="kind", fusions=["late"])
    assert not (tmp_path / "out").exists()


def test_an_owner_that_is_left_out_leaves_its_options(nano, rows):
    inputs = [
        metatx.Input(name="left", modality="text", columns="words", options={"min_count": 2}),
        metatx.Input(name="right", modality="text", columns="others", shares="left"),
        metatx.Input(name="facts", modality="tabular", columns="a"),
    ]
    options = {"backbone": nano, "target": "kind", "settings": SETTINGS, "baseline": False, "leave_out": False}
    report = metatx.run(rows.assign(others="a bird"), inputs, only=["right", "facts"], **options)
    assert report.task.tokenizer.inputs["right"].shares is None
    assert report.task.tokenizer.tokenizer("right").options["min_count"] == 2
    with pytest.raises(ValueError, match="Unknown input 'rihgt'"):
        metatx.run(rows, inputs, only=["rihgt"], **options)


def test_baselines_of_each_input_alone_are_those_of_a_task_of_it(nano, rows):
    samples = [{"facts": {"a": row.a, "b": row.b}, "words": row.words} for row in rows.itertuples()]
    train = Examples(samples[:90], rows.kind.tolist()[:90])
    test = Examples(samples[90:], rows.kind.tolist()[90:])
    task = metatx.Task.from_data(nano, {"facts": "tabular", "words": "text"}, (train.inputs, train.targets))
    result = baselines(task.tokenizer, task.head, train, test)
    names = set(result["classical"])
    assert names == {
        *("all inputs, logistic regression", "all inputs, gradient boosting"),
        *("facts alone, logistic regression", "facts alone, gradient boosting"),
        *("words alone, TF-IDF, logistic regression", "mean of the inputs alone, linear"),
    }
    assert all(result["classical"].values()), "none failed"
    tokenizer = create("tokenizers", "tabular", 192)
    facts = [Examples([sample["facts"] for sample in part.inputs], part.targets) for part in (train, test)]
    tokenizer.learn(facts[0].inputs)
    alone = baselines(tokenizer, task.head, *facts)
    assert result["classical"]["facts alone, gradient boosting"] == alone["classical"]["gradient boosting"]
    assert result["trivial"] == alone["trivial"]
    best = result["classical"]["all inputs, logistic regression"]["accuracy"]
    assert best > result["classical"]["words alone, TF-IDF, logistic regression"]["accuracy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fusion": "early"}, "The task to start from has the fusion late, not early"),
        ({"fusion_options": {"product": 8}}, "The fusion of the task to start from has product 0; these options"),
    ],
)
def test_the_fusion_of_a_task_to_start_from_is_not_changed(change, message):
    rows = {"note": ["a red fox jumps", "two blue cats sit"] * 8, "rooms": range(16), "kind": ["u", "v"] * 8}
    inputs = {"note": "text", "facts": metatx.Input(name="facts", modality="tabular", columns="rooms")}
    options = {"target": "kind", "backbone": metatx.load_backbone("nano"), "baseline": False}
    start = metatx.Task.from_data(options["backbone"], inputs, pd.DataFrame(rows), target="kind")
    with pytest.raises(ValueError, match=message):
        metatx.run(pd.DataFrame(rows), inputs, start=start, tune="norm", **options, **change)
