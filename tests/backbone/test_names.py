"""Names of backbones: what is given in the place of a backbone, and names that hold from any folder."""

import json
import os

import pandas as pd
import pytest

import metatx
from metatx.backbone.loading import save_backbone
from metatx.pretraining.encoders import FrozenEncoder
from tests.backbone.language_models import write_model
from tests.pairs import small_backbone

SIZES = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 3, "kind": ["small", "small", "large", "large"] * 3})
TAKERS = {
    "from_data": lambda name, task: metatx.Task.from_data(name, "tabular", SIZES, target="kind"),
    "from_pretrained": lambda name, task: metatx.Task.from_pretrained(task, backbone=name),
    "run": lambda name, task: metatx.run(SIZES, "tabular", backbone=name, target="kind"),
    "compare": lambda name, task: metatx.compare(SIZES, "tabular", backbone=name, target="kind"),
    "pool": lambda name, task: metatx.TaskPool(name),
    "alignment": lambda name, task: metatx.Alignment(name),
    "saved alignment": lambda name, task: metatx.Alignment.from_pretrained("nano", name),
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task") / "task"
    return metatx.Task.from_data(small_backbone(), "tabular", SIZES, target="kind").save_pretrained(folder)


@pytest.mark.parametrize("taker", TAKERS)
def test_a_name_in_the_place_of_a_backbone_says_how_to_load_it(taker, task):
    with pytest.raises(TypeError, match=r"backbone is 'nano'; expected one that is loaded: .*load_backbone\('nano'\)"):
        TAKERS[taker]("nano", task)


def test_what_is_no_encoder_says_how_to_make_one():
    with pytest.raises(TypeError, match="encoder is 'path'; expected a FrozenEncoder, such as sentence_encoder"):
        metatx.Alignment(small_backbone()).anchor("caption", "path")


def test_an_encoder_that_is_no_anchor_is_not_taken_from_a_folder(tmp_path):
    encoder = FrozenEncoder(function=lambda texts: [[1.0, 0.0]] * len(texts), dim=2, fingerprint="1", name="ones")
    alignment = metatx.Alignment(small_backbone(), size=2).anchor("caption", encoder)
    alignment.save_pretrained(tmp_path / "a", about="test")
    with pytest.raises(TypeError, match="encoder is 'path'; expected a FrozenEncoder"):
        metatx.Alignment.from_pretrained(tmp_path / "a", encoders={"caption": "path"})


@pytest.mark.parametrize("prefix", ["", "transformers:"])
def test_a_folder_is_saved_as_an_absolute_path(tmp_path, monkeypatch, prefix):
    (tmp_path / "here").mkdir()
    if prefix:
        write_model(tmp_path / "model", "bert")
    else:
        save_backbone(small_backbone(), tmp_path / "model", about="test")
    monkeypatch.chdir(tmp_path / "here")
    backbone = metatx.load_backbone(f"{prefix}../model")
    assert backbone.spec == f"{prefix}{tmp_path / 'model'}"
    metatx.Task.from_data(backbone, "tabular", SIZES, target="kind").save_pretrained("task")
    monkeypatch.chdir(tmp_path)
    saved = json.loads((tmp_path / "here/task/config.json").read_text())["backbone"]["spec"]
    assert saved == backbone.spec
    assert len(metatx.Task.from_pretrained("here/task").predict(SIZES)) == len(SIZES)


def test_a_backbone_that_reads_an_input_first_is_saved_as_an_absolute_path(tmp_path, monkeypatch):
    save_backbone(small_backbone(), tmp_path / "model", about="test")
    monkeypatch.chdir(tmp_path)
    inputs = [
        metatx.Input(name="size", modality="tabular", through={"backbone": "model"}),
        metatx.Input(name="other", modality="tabular"),
    ]
    table = SIZES.assign(other=range(len(SIZES)))
    task = metatx.Task.from_data(small_backbone(), inputs, table, target="kind")
    (way,) = (each["through"] for each in task.tokenizer.options["inputs"] if each["through"])
    assert way["backbone"] == str(tmp_path / "model")
    given = metatx.load_backbone("model")
    for name in ("model", str(tmp_path / "model")):
        again = metatx.Task.from_data(small_backbone(), inputs, table, target="kind", others={name: given})
        assert again.model.others == [given]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transformer:x", "Unknown source of the backbone 'transformer'. Did you mean 'transformers'?"),
        ("sentence-transformers/all-MiniLM-L6-v2", "A model of the Hugging Face hub is named transformers:NAME or"),
        ("transformers", "Unknown backbone 'transformers'."),
        ("{model}", "holds a model of transformers; name it transformers:{model}."),
        ("transformers:{broken}", "The config.json of {broken} is damaged, it is no JSON: "),
    ],
)
def test_a_name_that_is_forgotten_or_mistyped_is_told(tmp_path, name, message):
    folders = {"model": write_model(tmp_path / "model", "bert"), "broken": tmp_path / "broken"}
    os.mkdir(tmp_path / "broken")
    (tmp_path / "broken/config.json").write_text('{"model_type": "bert",')
    with pytest.raises(ValueError) as told:
        metatx.load_backbone(name.format(**folders))
    assert message.format(**folders) in str(told.value)
    assert "\n" not in str(told.value)
