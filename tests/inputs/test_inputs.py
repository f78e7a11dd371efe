"""Inputs: what a sample of several inputs gives, whichever of them are there, and whatever else is in the batch."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import metatx
from metatx.encoding.collate import collate
from metatx.inputs.inputs import Inputs
from metatx.testing import check_tokenizer
from tests.mixed_tasks import unlike_any
from tests.several import BACKBONE, FUSIONS, MODALITIES, labels, samples, several, without

NAMES = tuple(MODALITIES)
TASKS = {fusion: several(fusion=fusion, fusion_options={"product": 3}) for fusion in FUSIONS}
PRESENCE = st.sets(st.sampled_from(NAMES), min_size=1)


@pytest.fixture(params=FUSIONS)
def task(request):
    return TASKS[request.param]


def test_none_nan_blank_and_absent_are_the_same_missing_input(task):
    sample = samples(1, seed=5)[0]
    gone = [without(sample, "words"), *({**sample, "words": value} for value in (None, float("nan"), "  ", pd.NA))]
    found = task.embed(gone)
    assert np.array_equal(found, found[:1].repeat(len(gone), 0))
    assert not np.allclose(found[0], task.embed([sample])[0], atol=1e-3)


def test_a_missing_input_is_a_task_that_has_no_such_tokens(task):
    """The same weights on the fields of the other inputs alone."""
    sample = samples(1, seed=5)[0]
    encoded = task.tokenizer.encode(sample)
    kept = {name: value for name, value in encoded.items() if not name.startswith("photo.")}
    tokens = task.tokenizer(collate([kept]))
    missing = task.tokenizer(collate([task.tokenizer.encode({**sample, "photo": None})]))
    whole = task.tokenizer(collate([encoded]))
    assert set(missing.sources) == set(NAMES) - {"photo"}
    assert torch.equal(missing.embeddings, tokens.embeddings)
    rows = torch.tensor([source != "photo" for source in whole.sources]).repeat_interleave(torch.tensor(whole.lengths))
    assert torch.allclose(missing.embeddings, whole.embeddings[rows], atol=1e-6)


@given(presence=st.lists(PRESENCE, min_size=2, max_size=5), seed=st.integers(0, 99), fusion=st.sampled_from(FUSIONS))
@settings(max_examples=25, deadline=None)
def test_an_answer_does_not_depend_on_what_its_neighbours_lack(presence, seed, fusion):
    task = TASKS[fusion]
    pairs = zip(samples(len(presence), seed), presence, strict=True)
    some = [without(sample, *(name for name in NAMES if name not in there)) for sample, there in pairs]
    together = task.predict_proba(some)
    vectors = task.embed(some)
    for at, sample in enumerate(some):
        assert np.allclose(together[at], task.predict_proba([sample])[0], atol=1e-5)
        assert np.allclose(vectors[at], task.embed([sample])[0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_input_matters(task, name):
    first, second = samples(2, seed=7)
    before = task.predict_proba([first, second])
    after = task.predict_proba([{**first, name: second[name]}, {**second, name: first[name]}])
    assert (abs(after - before).max(1) > 1e-5).all()


def test_the_order_of_inputs_does_not_matter(task):
    """Weights are carried by name; those of the fusion lie in the order of the inputs."""
    order = NAMES[::-1]
    other = several(order, fusion=task.model.fusion.name, fusion_options={"product": 3})
    weights = task.model.state_dict()
    places = [NAMES.index(name) for name in order]
    dim = BACKBONE.dim
    for key, value in task.model.state_dict().items():
        if key == "fusion.marks":
            weights[key] = value[places]
        if key == "fusion.mix.weight":
            weights[key] = value.view(dim, len(NAMES), dim)[:, places].reshape(dim, -1)
        if key.startswith(("fusion.factors.", "fusion.factor_norms.")):
            _, layer, number, part = key.split(".", 3)
            weights[f"fusion.{layer}.{order.index(NAMES[int(number)])}.{part}"] = value
    other.load_state_dict(weights)
    some = samples(3, seed=3)
    some[1] = without(some[1], "photo", "facts")
    assert np.allclose(task.predict_proba(some), other.predict_proba(some), atol=1e-5)


def test_gradients_reach_the_inputs_that_are_there(task):
    task = copy.deepcopy(task)
    task.train()
    encoded = [task.tokenizer.encode(without(sample, "words")) for sample in samples(2)]
    task(collate(encoded)).square().sum().backward()

    def reached(name):
        weights = [p for p in task.tokenizer.tokenizer(name).parameters() if p.requires_grad]
        return any(p.grad is not None and p.grad.any() for p in weights)

    assert [reached(name) for name in ("facts", "motion")] == [True, True]
    assert not reached("words")
    assert all(p.grad is None for p in task.backbone.parameters())


def test_photos_that_share_a_tokenizer_share_its_weights():
    views = {"front": None, "back": "front", "left": "front"}
    modality = {name: metatx.Input(name=name, modality="image", shares=owner) for name, owner in views.items()}
    single = metatx.Input(name="front", modality="image")
    photos = [[sample["photo"] for sample in samples(4, seed)] for seed in range(3)]
    rows = [dict(zip(views, row, strict=True)) for row in zip(*photos, strict=True)]
    task = unlike_any(metatx.Task.from_data(BACKBONE, modality, (rows, labels(4)), fusion="early"), 0)
    alone = metatx.Task.from_data(
        BACKBONE, [single], ([{"front": row["front"]} for row in rows], labels(4)), fusion="early"
    )
    counted = [sum(p.numel() for p in each.tokenizer.parameters()) for each in (task, alone)]
    assert counted[0] == counted[1]
    assert task.tokenizer.tokenizer("back") is task.tokenizer.tokenizer("front")
    before = task.set_inference(precision="fp32").predict_proba(rows)
    swapped = [{"front": row["back"], "back": row["front"], "left": row["left"]} for row in rows]
    assert not np.allclose(task.predict_proba(swapped), before, atol=1e-4)
    fusion = task.model.fusion
    with torch.no_grad():
        fusion.marks.copy_(fusion.marks[[1, 0, 2]])
        mix = fusion.mix.weight.view(BACKBONE.dim, 3, BACKBONE.dim)
        fusion.mix.weight.copy_(mix[:, [1, 0, 2]].reshape(BACKBONE.dim, -1))
    assert np.allclose(task.predict_proba(swapped), before, atol=1e-5)


def test_saved_and_loaded_it_answers_the_same(task, tmp_path):
    some = [without(samples(1)[0], "photo"), *samples(2, seed=2)]
    task.save_pretrained(tmp_path / "task")
    loaded = metatx.Task.from_pretrained(tmp_path / "task", backbone=BACKBONE).set_inference(precision="fp32")
    assert np.array_equal(loaded.predict_proba(some), task.predict_proba(some))
    assert loaded.model.fusion.name == task.model.fusion.name


def test_copied_and_pickled_it_answers_the_same(task):
    some = samples(2)
    expected = task.predict_proba(some)
    assert np.array_equal(copy.deepcopy(task).predict_proba(some), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(task)).predict_proba(some), expected)


@pytest.mark.parametrize("tune", ["norm", "lora", "full"])
def test_tuned_further_it_starts_from_the_same_answers(task, tune):
    some = samples(2)
    retuned = task.retune(tune).set_inference(precision="fp32")
    assert np.allclose(retuned.predict_proba(some), task.predict_proba(some), atol=1e-6)
    if tune == "lora":
        assert np.allclose(retuned.merge().predict_proba(some), task.predict_proba(some), atol=1e-5)


def test_statistics_of_float64_stay_exact_in_half_precision():
    def buffers(task):
        return {key: value for key, value in task.tokenizer.named_buffers() if value.dtype == torch.float64}

    task = several(("facts", "motion"))
    assert buffers(task)
    halved = copy.deepcopy(task).half()
    assert buffers(halved).keys() == buffers(task).keys()
    assert {value.dtype for value in halved.tokenizer.parameters()} == {torch.float16}


def test_fifty_inputs():
    names = [f"n{at}" for at in range(50)]
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 50)), columns=names).assign(y=labels(8))
    modality = {name: metatx.Input(name=name, modality="tabular", columns=name) for name in names}
    task = metatx.Task.from_data(BACKBONE, modality, rows, target="y", fusion="early")
    assert task.inputs == names
    assert len(task.predict(rows)) == 8
    with pytest.raises(ValueError, match="257 inputs; expected 1 to 256"):
        Inputs(32, [{"name": f"n{at}", "modality": "tabular"} for at in range(257)], stem=BACKBONE)


# Rows and names


ROWS = pd.DataFrame({"area": [1.0, 2.0, 3.0, 4.0] * 2, "town": ["Bern", "Oslo"] * 4, "title": ["a film", "so bad"] * 4})


def _task_of_rows(**inputs):
    modality = {name: metatx.Input(name=name, modality=m, columns=columns) for name, (m, columns) in inputs.items()}
    data = ROWS.assign(y=labels(8))
    return unlike_any(metatx.Task.from_data(BACKBONE, modality, data, target="y"), 0).set_inference(precision="fp32")


def test_a_row_a_record_of_inputs_and_a_series_are_the_same_sample():
    task = _task_of_rows(words=("text", "title"), facts=("tabular", "area,town"))
    named = [{"words": row.title, "facts": {"town": row.town, "area": row.area}} for row in ROWS.itertuples()]
    expected = task.predict_proba(ROWS)
    inner = [{"words": row.title, "facts": row[["area", "town"]]} for _, row in ROWS.iterrows()]
    for form in (named, inner, ROWS.to_dict("records"), [row for _, row in ROWS.iterrows()], ROWS.to_numpy().tolist()):
        if form and isinstance(form[0], list):
            form = [[row[2], row[0], row[1]] for row in form]  # columns in the order of the inputs
        assert np.array_equal(task.predict_proba(form), expected)


def test_a_column_is_read_before_one_that_is_called_as_the_input():
    task = _task_of_rows(town=("text", "title"))
    row = {"town": "Bern", "title": "so bad"}
    assert np.array_equal(task.predict_proba([row]), task.predict_proba([{"town": "so bad"}]))
    assert np.array_equal(task.predict_proba([row]), task.predict_proba([{"title": "so bad"}]))


def test_texts_of_several_columns_go_by_name():
    task = _task_of_rows(words=("text", "title,town"))
    expected = task.predict_proba([{"title": "so bad", "town": "Oslo"}])
    assert np.array_equal(task.predict_proba([{"words": {"town": "Oslo", "title": "so bad"}}]), expected)
    with pytest.raises(metatx.SampleError, match="input words: column town: absent from a row of title"):
        task.predict([{"words": {"title": "so bad"}}])


def test_a_row_of_missing_cells_is_a_missing_input_and_single_cells_may_be_missing():
    task = _task_of_rows(words=("text", "title"), facts=("tabular", "area,town"))
    words = {"title": "so bad"}
    gone = [words, {**words, "area": None, "town": float("nan")}, {**words, "facts": None}, {**words, "facts": {}}]
    found = task.predict_proba([*gone, {**words, "area": 1.0, "town": None}])
    assert np.array_equal(found[:4], found[:1].repeat(4, 0))
    assert not np.array_equal(found[4], found[0])


@pytest.mark.parametrize(
    "sample, message",
    [
        ({}, "all inputs are missing; expected at least one of words, facts"),
        ({"words": None, "area": None}, "all inputs are missing"),
        ({"word": "so bad", "area": 1.0, "town": "Bern"}, "Unknown input 'word'. Did you mean 'words'?"),
        ("so bad", "found a str; expected a dict of words, facts"),
        ({"words": {"a": "b"}}, "input words: found a dict; expected a value of column title"),
        ({"facts": {"area": 1.0}}, "input facts: column town: absent"),
        ({"facts": [1.0]}, "input facts: found 1 values; expected 2: area, town"),
        ({"facts": "x"}, "input facts: found a str"),
        ({"words": "so bad", "facts": {"area": np.inf, "town": "Bern"}}, "facts"),
    ],
)
def test_a_bad_sample_is_one_clear_line(sample, message):
    task = _task_of_rows(words=("text", "title"), facts=("tabular", "area,town"))
    with pytest.raises(metatx.SampleError) as raised:
        task.predict([sample])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_of_inputs_may_be_those_of_methods():
    task = _task_of_rows(keys=("text", "title"), forward=("tabular", "area"), input_keys=("tabular", "town"))
    assert len(task.predict(ROWS)) == 8


# Fit and facts


class Beats(metatx.Tokenizer):
    """Plug-in tokenizer whose ``fit`` returns what the test says, and whose samples may lack a field."""

    learns = {}

    def __init__(self, dim, scale=2.0):
        super().__init__(dim)
        self.scale = scale
        self.proj = nn.Linear(1, dim)
        self.register_buffer("level", torch.zeros((), dtype=torch.float64))

    def fit(self, samples):
        return self.learns

    def encode(self, sample):
        beats = {"beats": torch.tensor([sample], dtype=torch.float32)}
        return beats if sample < 5 else {**beats, "more": torch.zeros(1)}

    def forward(self, batch):
        return self.proj(batch["beats"][..., None] * self.scale + self.level.float())


def _beats(monkeypatch, learned, values=(1, 2, 3, 4)):
    metatx.register_tokenizer("beats")(Beats)
    monkeypatch.setattr(Beats, "learns", learned)
    rows = [{"heart": value, "words": "so"} for value in values]
    return metatx.Task.from_data(BACKBONE, {"heart": "beats", "words": "text"}, (rows, labels(len(rows))))


def test_statistics_of_a_plug_in_fill_its_buffers(monkeypatch):
    task = _beats(monkeypatch, {"level": torch.tensor(1e9 + 1, dtype=torch.float64)})
    assert task.tokenizer.tokenizer("heart").level.item() == 1e9 + 1


def test_the_defaults_of_each_tokenizer_are_saved(monkeypatch):
    heart = _beats(monkeypatch, {}).tokenizer.options["inputs"][0]
    assert heart["options"] == {"scale": 2.0}


@pytest.mark.parametrize(
    "learned, message",
    [
        (None, "Beats.fit returned a NoneType; it must return a dict"),
        ({"levels": {1, 2}}, "Beats: the fact 'levels' is {1, 2}; expected a JSON value"),
        ({"height": torch.zeros(())}, "tensor 'input_heart.height', which is no buffer"),
    ],
)
def test_what_a_plug_in_learns_is_checked(monkeypatch, learned, message):
    with pytest.raises(TypeError) as raised:
        _beats(monkeypatch, learned)
    assert message in str(raised.value)


def test_a_plug_in_whose_fields_differ_is_refused_clearly(monkeypatch):
    task = _beats(monkeypatch, {})
    with pytest.raises(ValueError, match=r"differ in their fields: .* and \['heart.beats', 'heart.more'"):
        task.predict([{"heart": 1, "words": "so"}, {"heart": 7, "words": "so"}])


def test_an_input_that_training_never_saw_is_refused():
    rows = [without(sample, "photo") for sample in samples(4)]
    with pytest.raises(ValueError, match="Input photo is missing in all training samples; leave it out"):
        several(data=(rows, labels(4)))


def test_a_tokenizer_that_cannot_be_fitted_names_its_input():
    rows = [{**sample, "facts": {"area": np.inf, "town": "Bern"}} for sample in samples(4)]
    with pytest.raises(ValueError, match="Input facts: "):
        several(data=(rows, labels(4)))


def test_the_contract_of_a_tokenizer_holds_for_complete_samples():
    inputs = [{"name": name, "modality": MODALITIES[name]} for name in NAMES]
    check_tokenizer(
        Inputs,
        [*samples(4), {**samples(1, 9)[0], "facts": {"area": None, "town": "Bern"}}],
        dim=BACKBONE.dim,
        options={"inputs": inputs},
        stem=BACKBONE,
        bad_samples=[{}, None, "words", {"photo": None}],
    )
