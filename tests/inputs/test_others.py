"""Other backbones as users give them: one form everywhere, checked; and where their weights lie is not saved."""

import json
from dataclasses import replace

import numpy as np
import pytest

import metatx
from metatx.backbone.loading import load_backbone
from metatx.backbone.vit import VisionTransformer
from metatx.cli import main
from metatx.evaluation.narrowing import narrowed
from metatx.inputs.through import backbones_by_name
from tests.through import BACKBONE, DATA, OTHER, SHAPE, WAY, samples, task

STRANGE = VisionTransformer(replace(SHAPE, depth=1), None, spec="strange")
FORMS = {
    "by name": lambda: {"other": OTHER},
    "by fingerprint": lambda: {OTHER.fingerprint: OTHER},
    "a list": lambda: [OTHER],
    "a tuple": lambda: (OTHER,),
    "one": lambda: OTHER,
}
WRONG = {
    "a name": (lambda: "other", TypeError, "others holds 'other'; expected backbones from load_backbone"),
    "names": (lambda: ["other"], TypeError, "others holds 'other'; expected backbones"),
    "a name by name": (lambda: {"other": "nano"}, TypeError, "others holds 'nano'; expected backbones"),
    "a number": (lambda: 3, TypeError, "others holds 3; expected backbones"),
    "no name": (lambda: {3: OTHER}, TypeError, "others holds 3; expected backbones"),
    "another fingerprint": (
        lambda: {STRANGE.fingerprint: OTHER},
        ValueError,
        f"others has other by the fingerprint {STRANGE.fingerprint[:12]}, but its own is {OTHER.fingerprint[:12]}",
    ),
}
NOT_NEEDED = (
    lambda: {"other": OTHER, "strange": STRANGE},
    ValueError,
    "others has strange, but the inputs are read first by other; leave it out.",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return task().save_pretrained(tmp_path_factory.mktemp("saved") / "task")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_taken_everywhere(form, folder) -> None:
    given = FORMS[form]()
    expected = task().predict_proba(samples(2))
    np.testing.assert_array_equal(task(others=given).predict_proba(samples(2)), expected)
    loaded = metatx.Task.from_pretrained(folder, backbone=BACKBONE, others=given)
    np.testing.assert_array_equal(loaded.set_inference(precision="fp32").predict_proba(samples(2)), expected)
    pool = metatx.TaskPool(BACKBONE, others=given)
    pool.add("task", folder)
    assert pool.predict([("task", samples(1)[0])]) == loaded.predict(samples(1)).tolist()


@pytest.mark.parametrize("wrong", [*WRONG, "not needed"])
def test_what_is_wrong_is_said_everywhere(wrong, folder) -> None:
    given, kind, said = {**WRONG, "not needed": NOT_NEEDED}[wrong]
    with pytest.raises(kind, match=f"^{said}"):
        task(others=given())
    with pytest.raises(kind, match=f"^{said}"):
        metatx.Task.from_pretrained(folder, backbone=BACKBONE, others=given())
    if wrong != "not needed":  # a pool may hold backbones for tasks that come later
        with pytest.raises(kind, match=f"^{said}"):
            metatx.TaskPool(BACKBONE, others=given())


def test_backbones_of_the_same_name_are_known_by_fingerprint() -> None:
    twin = VisionTransformer(replace(SHAPE, depth=1), None, spec="other")
    assert set(backbones_by_name([OTHER, twin])) == {OTHER.fingerprint, twin.fingerprint}


def test_a_task_of_one_modality_needs_none() -> None:
    with pytest.raises(ValueError, match="others has other, but no input is read by another backbone first"):
        metatx.Task.from_data(BACKBONE, "text", (["a", "b"] * 2, ["x", "y"] * 2), others=[OTHER])


def test_a_task_narrowed_to_other_inputs_needs_it_no_more() -> None:
    inputs = [metatx.Input(name="photo", modality="image", through=WAY), metatx.Input(name="words", modality="text")]
    spec = metatx.TaskSpec(modality=inputs, others=[OTHER])
    parts = {"train": metatx.examples.Examples(*DATA)}
    assert narrowed(spec, parts, ["words"])[0].others == {}
    assert narrowed(spec, parts, ["photo"])[0].others == {"other": OTHER}


# Where the weights lie


def test_the_place_of_a_checkpoint_is_not_saved(tmp_path, monkeypatch) -> None:
    file = str(tmp_path / "private" / "weights.safetensors")
    asked = []

    def loaded(spec, *, checkpoint=None, pretrained=True):
        asked.append((spec, checkpoint))
        if checkpoint != file:
            raise OSError(f"the weights of {spec} could not be fetched")
        return OTHER

    monkeypatch.setattr("metatx.inputs.through.load_backbone", loaded)
    made = task({**WAY, "checkpoint": file}, others=None)
    folder = made.save_pretrained(tmp_path / "task")
    assert asked == [("other", file)]
    assert not any("private" in text.read_text(errors="ignore") for text in folder.rglob("*.*") if text.is_file())
    assert "private" not in repr(made.tokenizer.options)
    with pytest.raises(metatx.errors.TaskError, match=r"cannot be loaded .*others=\{name: backbone\} \(--others NAME"):
        metatx.Task.from_pretrained(folder, backbone=BACKBONE)
    again = metatx.Task.from_pretrained(folder, backbone=BACKBONE, others={"other": OTHER})
    np.testing.assert_array_equal(again.predict(samples(3)), made.predict(samples(3)))
    config = json.loads((folder / "config.json").read_text())  # a folder of before has the place
    config["tokenizer"]["options"]["inputs"][0]["through"]["checkpoint"] = file
    (folder / "config.json").write_text(json.dumps(config))
    older = metatx.Task.from_pretrained(folder, backbone=BACKBONE)
    np.testing.assert_array_equal(older.predict(samples(3)), made.predict(samples(3)))
    assert "private" not in (older.save_pretrained(tmp_path / "anew") / "config.json").read_text()


def test_the_command_line_asks_for_the_checkpoint(tmp_path, monkeypatch, capsys) -> None:
    asked = []

    def loaded(spec, *, checkpoint=None, pretrained=True):
        asked.append((spec, checkpoint))
        if spec == "other" and checkpoint is None:
            raise OSError("the weights of other could not be fetched")
        return OTHER if spec == "other" else load_backbone(spec, pretrained=pretrained)

    monkeypatch.setattr("metatx.inputs.through.load_backbone", loaded)
    nano = load_backbone("nano")
    inputs = [metatx.Input(name="photo", modality="image", through=WAY), metatx.Input(name="words", modality="text")]
    metatx.Task.from_data(nano, inputs, DATA, others=[OTHER]).save_pretrained(tmp_path / "task")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"words": row["words"]}) + "\n" for row in samples(3)))
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path / "task"), str(tmp_path / "t.jsonl")])
    assert "--others NAME=FILE" in capsys.readouterr().err
    line = ["predict", str(tmp_path / "task"), str(tmp_path / "t.jsonl"), "--out", str(tmp_path / "p.csv")]
    monkeypatch.chdir(tmp_path)
    main([*line, "--others", "other=private/weights.pth"])
    assert asked[-1] == ("other", str(tmp_path / "private/weights.pth")) and (tmp_path / "p.csv").exists()
