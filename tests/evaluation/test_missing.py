"""Inputs left out: the numbers are those of the same task on data that lack them."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.cli import main
from metatx.evaluation.missing import InputMeasures, draw_missing, evaluate_without, measures_of_inputs, shares_missing

SETTINGS = metatx.TrainingSettings(epochs=2, lr=3e-3, batch_size=32)
INPUTS = {
    "facts": metatx.Input(name="facts", modality="tabular", columns="a"),
    "more": metatx.Input(name="more", modality="tabular", columns="b,c"),
    "words": "text",
}


@pytest.fixture(scope="module")
def rows():
    """160 rows whose label follows from three inputs."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(160, 3)), columns=["a", "b", "c"])
    rows["words"] = rng.choice(["fox", "bear"], 160)
    rows["kind"] = np.where(rows.a + rows.b + (rows.words == "fox") > 0.5, "yes", "no")
    return rows


@pytest.fixture(scope="module", params=["late", "early"])
def task(request, rows, nano):
    """A trained task of three inputs, fused behind the backbone or in it."""
    task = metatx.Task.from_data(nano, INPUTS, rows[:120], target="kind", fusion=request.param)
    return task.fit(rows[:120], settings=SETTINGS)


def measured(task, rows):
    data = task.encode(rows, "test")
    shares = shares_missing(task.tokenizer, {"test": data.good})
    return measures_of_inputs(task.model, data, task.settings, shares)


def test_the_ends_of_the_curve_are_the_task_s_own_numbers(task, rows):
    unseen = rows[80:]
    result, count = measured(task, unseen)
    assert count == 80 and list(result) == ["facts", "more", "words"]
    whole = task.evaluate(unseen)["accuracy"]
    for name, each in result.items():
        assert list(each.curve) == [0.0, 0.1, 0.3, 0.5, 0.7, 1.0]
        assert each.curve[0.0] == pytest.approx(whole)
        assert each.without == each.curve[1.0] == pytest.approx(evaluate_without(task, unseen, [name])["accuracy"])
        others = [other for other in result if other != name]
        assert each.alone == pytest.approx(evaluate_without(task, unseen, others)["accuracy"])
        assert each.missing == {"test": 0.0}
    assert len({each.without for each in result.values()}) > 1, "inputs matter, or the test shows nothing"


def test_one_input_stays(task, rows):
    unseen = rows[80:].astype({"words": object}).reset_index(drop=True)
    unseen.loc[:39, ["a", "b", "c"]] = None
    unseen.loc[40:, "words"] = None
    result, _ = measured(task, unseen)
    assert result["words"].missing["test"] == 0.5 == result["facts"].missing["test"]
    assert set(result["words"].curve.values()) == {result["words"].curve[0.0]}, "who has words has nothing else"
    assert result["words"].alone == pytest.approx(task.evaluate(unseen[:40])["accuracy"])
    kept = pd.concat([unseen[:40], unseen[40:].assign(a=None)])
    assert result["facts"].without == pytest.approx(task.evaluate(kept)["accuracy"])


def test_shares_between_are_drawn_with_a_seed(task, rows):
    first, _ = measured(task, rows)
    assert first == measured(task, rows)[0]
    ends = [first["facts"].curve[share] for share in (0.0, 1.0)]
    assert min(ends) - 0.1 <= first["facts"].curve[0.5] <= max(ends) + 0.1


def test_what_cannot_be_left_out_is_refused(task, rows, nano):
    with pytest.raises(ValueError, match="Unknown input to leave out 'fact'. Did you mean 'facts'"):
        evaluate_without(task, rows, ["fact"])
    with pytest.raises(ValueError, match="All inputs are left out .*keep at least one"):
        evaluate_without(task, rows, ["facts", "more", "words"])
    plain = metatx.Task.from_data(nano, "tabular", rows, target="kind", inputs="a,b,c")
    with pytest.raises(ValueError, match=r"reads one input \(tabular\), which cannot be left out"):
        evaluate_without(plain, rows, ["a"])
    rows = rows.astype({"words": object})
    rows.loc[150, ["a", "b", "c"]] = None
    with pytest.raises(ValueError, match="row 151: .*all inputs are missing"):
        evaluate_without(task, rows, ["words"])


def test_a_run_reports_what_is_left(rows, nano, tmp_path):
    options = {"backbone": nano, "target": "kind", "settings": SETTINGS}
    report = metatx.run(rows, INPUTS, out=tmp_path / "several", fusion_options={"dropout": 0.2}, **options)
    written = json.loads((tmp_path / "several" / "metrics.json").read_text())
    assert written["fusion"] == {"name": "late", "options": {"dropout": 0.2}}
    assert written["missing"]["words"]["0"] == pytest.approx(report.test["accuracy"])
    assert list(written["missing"]["facts"]) == ["0", "0.1", "0.3", "0.5", "0.7", "1"]
    assert written["inputs"]["words"]["missing"] == {"train": 0, "validation": 0, "test": 0}
    assert set(written["inputs"]["more"]) == {"modality", "missing", "alone", "without"}
    (line,) = [line for line in str(report).splitlines() if line.startswith("  words (text): alone ")]
    assert f"without {report.inputs['words'].without:.4f}" in line
    assert (tmp_path / "several" / "missing.png").exists()
    metatx.run(rows, "tabular", inputs="a,b", out=tmp_path / "one", baseline=False, **options)
    assert not {"fusion", "inputs", "missing"} & set(json.loads((tmp_path / "one" / "metrics.json").read_text()))
    assert not (tmp_path / "one" / "missing.png").exists()


def test_the_figure_has_a_curve_an_input(tmp_path):
    def drawn(names):
        curve = {0.0: 0.9, 0.5: 0.8, 1.0: 0.7}
        inputs = {
            name: InputMeasures(modality="text", missing={}, alone=0.7, without=0.7, curve=curve) for name in names
        }
        draw_missing(inputs, "accuracy", {"majority class (trivial)": 0.5}, "Rows", tmp_path / "missing.png")
        return np.asarray(Image.open(tmp_path / "missing.png").convert("RGB")).astype(int)

    def blue(picture):
        return (picture[..., 2] - picture[..., 0] > 100).sum()

    def green(picture):
        return (picture[..., 1] - picture[..., 0] > 80).sum()

    assert blue(drawn([])) < 50 < blue(drawn(["facts"]))
    assert green(drawn(["facts", "more"])) < 200 + green(drawn(["facts"])) < green(drawn(["facts", "more", "words"]))


def test_a_head_that_labels_places_needs_its_input(nano):
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    samples = [{"photo": photo, "words": "bright" if i % 2 else None} for i, photo in enumerate(photos)]
    masks = [(photo[..., 0] > 127).astype(np.uint8) for photo in photos]
    options = {"head": "segmentation", "fusion": "early", "tokenizer_options": {"photo": {"image_size": [32, 32]}}}
    report = metatx.run(
        {"train": (samples[:8], masks[:8]), "test": (samples[8:], masks[8:])},
        {"photo": "image", "words": "text"},
        backbone=nano,
        settings=SETTINGS,
        **options,
    )
    photo, words = report.inputs.values()
    assert photo.curve == {} and photo.alone is photo.without is None
    primary = report.task.head.primary_metric
    assert words.curve[0.0] == pytest.approx(report.test[primary]) and words.alone is None
    assert words.missing["test"] == 0.5
    assert "photo (image): the task needs it" in str(report)
    assert report.baselines["trivial"] and all(report.baselines["classical"].values())
    with pytest.raises(ValueError, match="segmentation head answers for the input photo"):
        evaluate_without(report.task, (samples[8:], masks[8:]), ["photo"])


def test_the_command_line_leaves_inputs_out(task, rows, tmp_path, capsys):
    task.save_pretrained(tmp_path / "task")
    rows[80:].to_csv(tmp_path / "rows.csv", index=False)
    main(["evaluate", str(tmp_path / "task"), str(tmp_path / "rows.csv"), "--missing", "words,more"])
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    expected = evaluate_without(task, rows[80:], ["words", "more"])
    assert float(printed["accuracy"]) == pytest.approx(expected["accuracy"], abs=1e-5)
    assert expected["loss"] != pytest.approx(task.evaluate(rows[80:])["loss"], abs=1e-4)
