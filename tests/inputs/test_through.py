"""Inputs that another frozen backbone reads first, over a bridge."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import metatx
from metatx.backbone.vit import VisionTransformer
from tests.through import BACKBONE, DATA, OTHER, SHAPE, WAY, counted, samples, task

BRIDGES = metatx.names("bridges")


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("fusion", ["late", "early", "gated"])
def test_answers_depend_on_every_input_and_on_no_neighbour(bridge, fusion) -> None:
    made = task({**WAY, "bridge": bridge}, fusion=fusion)
    photo, words = samples()[0]["photo"], samples()[1]["words"]
    asked = [{"photo": photo, "words": words}, {"photo": photo}, {"words": words}, *samples(3, seed=1)]
    together = made.predict_proba(asked)
    alone = np.concatenate([made.predict_proba([sample]) for sample in asked])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    exchanged = made.predict_proba([{"photo": samples()[3]["photo"], "words": words}])
    assert np.abs(exchanged - together[0]).max() > 1e-6


def test_the_tokens_are_those_of_the_other_backbone_over_the_bridge() -> None:
    made = task()
    batch = {"photo.image": torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)}
    way = made.tokenizer.through("photo")
    tokens = OTHER.stem(batch["photo.image"].float() / 255).flatten(0, 1)
    read = OTHER(way.enter(metatx.TokenSequence(tokens, (4, 4))))
    wanted = made.tokenizer.norm_photo(way.bridge.map(read.embeddings.view(2, 5, -1)[:, 1:].flatten(0, 1)))
    sequence = made.tokenizer(batch)
    torch.testing.assert_close(sequence.embeddings, wanted)
    assert (sequence.lengths, sequence.grids) == ((4, 4), {"photo": (2, 2)})


@pytest.mark.parametrize("bridge", BRIDGES)
def test_tokens_arrive_in_the_scale_of_the_stem(bridge) -> None:
    assert not BACKBONE.normalises_input
    made = task({**WAY, "bridge": bridge}, said=False)
    tokens = made.tokenizer({"photo.image": torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)}).embeddings
    assert tokens.square().mean().sqrt().item() == pytest.approx(BACKBONE.token_rms, rel=1e-2)


def test_training_changes_bridge_and_not_the_backbones() -> None:
    before = BACKBONE.fingerprint, OTHER.fingerprint
    made = task(said=False)
    weights = {name: weight.clone() for name, weight in made.state_dict().items()}
    made.fit(DATA, epochs=1, batch_size=4, lr=1e-2)
    changed = {name for name, weight in made.state_dict().items() if not torch.equal(weight, weights[name])}
    assert any(name.startswith("tokenizer.through_photo.bridge") for name in changed)
    assert (BACKBONE.fingerprint, OTHER.fingerprint) == before
    assert made.others == [OTHER]
    own = sum(weight.numel() for weight in made.parameters())
    assert made.trainable_parameters == own, "the other backbone is not counted"
    assert own < task(said=False, tune="lora", adapter_options={"r": 1}).trainable_parameters


def test_no_gradient_is_computed_in_the_other_backbone_where_nothing_before_it_trains(monkeypatch) -> None:
    made = task(said=False)
    seen = []
    forward = OTHER.forward
    monkeypatch.setattr(OTHER, "forward", lambda s, **k: seen.append(forward(s, **k)) or seen[-1])
    made.model(made.encode(DATA, "train").batch([0, 1])[0]).sum().backward()
    assert not seen[0].embeddings.requires_grad
    made = task(said=False, tokenizer_options={"photo": {"freeze_stem": False}})
    made.model(made.encode(DATA, "train").batch([0, 1])[0]).sum().backward()
    assert seen[1].embeddings.requires_grad
    assert all(weight.grad is not None for weight in made.tokenizer.tokenizer("photo").parameters())


def test_a_saved_task_names_the_other_backbone_and_holds_none_of_it(tmp_path) -> None:
    made = task({**WAY, "bridge": "qformer", "queries": 3})
    folder = made.save_pretrained(tmp_path / "task")
    (photo, words) = json.loads((folder / "config.json").read_text())["tokenizer"]["options"]["inputs"]
    assert photo["through"]["fingerprint"] == OTHER.fingerprint
    assert (photo["through"]["backbone"], photo["through"]["pretrained"], words["through"]) == ("other", False, None)
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert stored == sum(weight.numel() for weight in made.state_dict().values())
    for others in ({"other": OTHER}, {OTHER.fingerprint: OTHER}):
        loaded = metatx.Task.from_pretrained(folder, backbone=BACKBONE, others=others)
        np.testing.assert_array_equal(loaded.predict_proba(samples(4)), made.predict_proba(samples(4)))
    assert loaded.others == [OTHER]


def test_another_backbone_is_refused(tmp_path) -> None:
    folder = task().save_pretrained(tmp_path / "task")
    strange = VisionTransformer(replace(SHAPE, depth=1), None, spec="strange")
    with pytest.raises(metatx.errors.TaskError, match="not on that of strange"):
        metatx.Task.from_pretrained(folder, backbone=BACKBONE, others={"other": strange})
    with pytest.raises(metatx.errors.TaskError, match=r"\(other\), which cannot be loaded .* give it as others="):
        metatx.Task.from_pretrained(folder, backbone=BACKBONE)
    config = json.loads((folder / "config.json").read_text())
    del config["tokenizer"]["options"]["inputs"][0]["through"]["fingerprint"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(metatx.errors.TaskError, match="names no fingerprint"):
        metatx.Task.from_pretrained(folder, backbone=BACKBONE, others={"other": OTHER})


def test_backbones_are_loaded_by_name(nano) -> None:
    way = {"backbone": "nano", "pretrained": False}
    inputs = [metatx.Input(name="photo", modality="image", through=way), metatx.Input(name="words", modality="text")]
    made = metatx.Task.from_data(BACKBONE, inputs, DATA)
    (other,) = made.others
    assert other.fingerprint == nano.randomised().fingerprint
    assert made.tokenizer.inputs["photo"].through["bridge"] == "linear"


def test_copies_share_the_other_backbone() -> None:
    made = task()
    copy = made.retune("lora", {"r": 2})
    assert copy.others == [OTHER]
    assert copy.others[0] is OTHER
    assert copy.tokenizer.tokenizer("photo").patch_stem is OTHER.stem
    np.testing.assert_array_equal(copy.predict_proba(samples(3)), made.predict_proba(samples(3)))


@pytest.mark.parametrize("tune", ["frozen", "lora"])
def test_a_deep_copy_shares_both_backbones(tune) -> None:
    made = task(tune=tune)
    copied = copy.deepcopy(made)
    assert copied.backbone is BACKBONE and copied.others[0] is OTHER
    assert copied.tokenizer.tokenizer("photo").patch_stem is OTHER.stem
    np.testing.assert_array_equal(copied.predict_proba(samples(3)), made.predict_proba(samples(3)))


def test_inputs_that_share_a_tokenizer_share_the_way() -> None:
    inputs = [
        metatx.Input(name="photo", modality="image", through=WAY),
        metatx.Input(name="back", modality="image", shares="photo"),
    ]
    data = [{"photo": each["photo"], "back": samples(8, seed=2)[at]["photo"]} for at, each in enumerate(samples())]
    made = metatx.Task.from_data(BACKBONE, inputs, (data, DATA[1]), others={"other": OTHER})
    assert made.tokenizer.through("back") is made.tokenizer.through("photo")
    batch = {"back.image": torch.zeros(1, 3, 16, 16, dtype=torch.uint8)}
    assert made.tokenizer(batch).lengths == (4,)
    with pytest.raises(ValueError, match="give through to photo, for both"):
        metatx.Input(name="back", modality="image", shares="photo", through=WAY)


@pytest.mark.parametrize("through", ["nano", {}, {"backbone": 3}, {"backbone": "nano", "bridge": None}])
def test_a_way_must_name_a_backbone_and_a_bridge(through) -> None:
    with pytest.raises(ValueError, match="expected the name of a backbone and of a bridge"):
        metatx.Input(name="photo", modality="image", through=through)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"frozen": "yes"}, "frozen of input photo is 'yes'; expected true or false."),
        ({"frozen": None}, "frozen of input photo is None; expected true or false."),
        ({"frozen": 1}, "frozen of input photo is 1; expected true or false."),
        (
            {"through": {**WAY, "pretrained": "no"}},
            "through of input photo: pretrained is 'no'; expected true or false.",
        ),
        ({"through": {**WAY, "checkpoint": 3}}, "through of input photo: checkpoint is 3; expected a text or null."),
        ({"through": {**WAY, 4: 3}}, "through of input photo is"),
        ({"through": ["nano"]}, "through of input photo is ['nano']; expected the name of a backbone"),
        ({"through": 3}, "or --through.photo.backbone nano."),
        ({"columns": 3}, "columns of input photo is 3; expected names of columns."),
        ({"columns": {"a", "b"}}, "expected names of columns."),
        ({"columns": ["a", 3]}, "columns of input photo is ['a', 3]; expected names of columns, each once."),
        ({"columns": {"a": "b"}}, "columns of input photo is {'a': 'b'}; expected names of columns."),
        ({"options": ["bins"]}, "options of input photo is ['bins']; expected options by name"),
        ({"options": {3: 4}}, "options of input photo is {3: 4}; expected options by name"),
        ({"options": None}, "options of input photo is None; expected options by name"),
    ],
)
def test_a_wrong_type_is_one_clear_line(attributes, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        metatx.Input(**{"name": "photo", "modality": "image", **attributes})
    assert "\n" not in str(raised.value)


def test_mistakes_in_a_way() -> None:
    with pytest.raises(ValueError, match="Unknown bridge 'linaer'. Did you mean 'linear'"):
        task({**WAY, "bridge": "linaer"})
    with pytest.raises(ValueError, match="Unknown option of the qformer bridge 'querys'. Did you mean 'queries'"):
        task({**WAY, "bridge": "qformer", "querys": 3})
    with pytest.raises(ValueError, match="Unknown backbone 'other'"):
        task(others={})
    with pytest.raises(ValueError, match="which reads input photo, trains; give a frozen one"):
        task(others={"other": OTHER.trainable_copy()})


def test_a_pool_holds_the_other_backbone_once_and_calls_it_once(tmp_path, monkeypatch) -> None:
    first = task({**WAY, "bridge": "grid"}, fusion="early")
    second = task({**WAY, "bridge": "resampler"}, tune="lora")
    folder = second.save_pretrained(tmp_path / "task")
    pool = metatx.TaskPool(BACKBONE, others=[OTHER])
    pool.add("first", first)
    pool.add("second", folder)
    asked = [(name, sample) for sample in [*samples(2), {"words": "a film"}] for name in ("first", "second")]
    passes = counted(monkeypatch, OTHER), counted(monkeypatch, BACKBONE)
    found = pool.embed(asked)
    assert passes == ([4], [10])
    prepared = [pool.prepare(name, sample, "embed") for name, sample in asked]
    assert passes == ([4], [10]), "the lengths of requests are known without a pass"
    assert (prepared[0].lengths[0], len(prepared[0].lengths)) == (5, 2), "those of the other, and both inputs as one"
    np.testing.assert_allclose(pool.answer(prepared), found, atol=1e-5)
    assert passes == ([4, 4], [10, 10])
    monkeypatch.undo()
    for vector, (name, sample) in zip(found, asked, strict=True):
        alone = {"first": first, "second": second}[name].embed([sample])[0]
        np.testing.assert_allclose(vector, alone, atol=1e-5)
    assert pool.task("second").others[0] is OTHER
    empty = metatx.TaskPool(BACKBONE)
    with pytest.raises(metatx.errors.TaskError, match=re.escape("give it among others=[...]")):
        empty.add("second", folder)
    with pytest.raises(ValueError, match="not among the pool's others"):
        empty.add("first", first)
