"""Tasks of every fusion: gradients, the first step, files, and one pass of a pool for all of them."""

import numpy as np
import pytest
import torch

import metatx
from metatx.encoding.collate import collate
from tests.fusions.meetings import FUSIONS
from tests.mixed_tasks import small_backbone, unlike_any

BACKBONE = small_backbone()
RNG = np.random.default_rng(0)
INPUTS = {
    "photo": metatx.Input(name="photo", modality="image", options={"freeze_stem": False}),
    "words": metatx.Input(name="words", modality="text", options={"context": 16, "overlap": 4}),
    "series": metatx.Input(name="series", modality="time_series"),
}
LORA = {"r": 2, "alpha": 5}


def sample(missing: str = "") -> dict:
    """A photo, words that may fill several windows, and a series of two channels."""
    values = {
        "photo": RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8),
        "words": "a quiet film " * int(RNG.integers(1, 9)),
        "series": RNG.normal(size=(2, 40)),
    }
    return {**values, missing: None} if missing else values


SAMPLES = [sample(missing) for missing in ("", "photo", "words", "series", "", "words")]
SAMPLES += [{"photo": None, "words": "so", "series": None}]
TARGETS = [0.5, 2.0, 3.0, 7.0, 1.0, 4.0, 2.0]


def task_of(name: str, tune: str = "frozen", seed: int = 0, **options) -> metatx.Task:
    """A task none of whose weights is at its start."""
    task = metatx.Task.from_data(
        BACKBONE,
        INPUTS,
        (SAMPLES, TARGETS),
        head="regression",
        fusion=name,
        fusion_options=options,
        main="words",
        tune=tune,
        adapter_options=LORA if tune == "lora" else {},
        seed=seed,
    )
    return unlike_any(task, seed).set_inference(precision="fp32")


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_reach_the_inputs_that_are_there_and_nothing_frozen(name) -> None:
    before = BACKBONE.fingerprint
    task = task_of(name)
    model = task.model.train()
    batch = collate([task.tokenizer.encode({**sample(), "series": None}) for _ in range(2)])
    model(batch).square().sum().backward()

    def reached(part: str) -> bool:
        weights = model.tokenizer.tokenizer(part).parameters()
        return any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)

    assert [reached(part) for part in INPUTS] == [True, True, False]
    assert all(weight.grad is None for weight in BACKBONE.parameters())
    assert BACKBONE.fingerprint == before


@pytest.mark.parametrize("name", FUSIONS)
def test_a_task_is_loaded_as_it_was_saved(name, tmp_path) -> None:
    task = task_of(name, product=3)
    task.save_pretrained(tmp_path / "task")
    again = metatx.Task.from_pretrained(tmp_path / "task", backbone=BACKBONE).set_inference(precision="fp32")
    assert again.model.fusion.options["product"] == 3
    assert np.array_equal(again.predict(SAMPLES), task.predict(SAMPLES))


@pytest.mark.parametrize("name", FUSIONS)
def test_a_task_is_trained(name) -> None:
    task = metatx.Task.from_data(BACKBONE, INPUTS, (SAMPLES, TARGETS), head="regression", fusion=name, main="words")
    before = {key: value.clone() for key, value in task.model.fusion.state_dict().items()}
    task.fit((SAMPLES, TARGETS), epochs=2, batch_size=4, lr=1e-2, warmup=0)
    changed = {key for key, value in task.model.fusion.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == set(before), "every weight is trained"


@pytest.mark.parametrize("name", [name for name in FUSIONS if metatx.registry.lookup("fusions", name).joins])
def test_a_head_of_masks_reads_the_places_of_the_main_input(name) -> None:
    photo = metatx.Input(name="photo", modality="image", options={"image_size": [48, 64]})
    samples = [{**sample(), "photo": RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)} for _ in range(3)]
    masks = [RNG.integers(0, 2, (24, 32)).astype(np.uint8) for _ in samples]
    inputs = {"words": INPUTS["words"], "photo": photo, "series": INPUTS["series"]}
    options = {"head": "segmentation", "head_options": {"layers": 2}, "fusion": name, "main": "photo"}
    task = unlike_any(metatx.Task.from_data(BACKBONE, inputs, (samples, masks), **options), 1)
    task.set_inference(precision="fp32")
    assert [mask.shape for mask in task.predict(samples)] == [(24, 32)] * 3

    @torch.no_grad()
    def logits(words: str) -> torch.Tensor:
        return task.model(collate([task.tokenizer.encode({**each, "words": words}) for each in samples]))

    assert (logits("some words") - logits("others")).abs().max() > 1e-5


def test_tasks_of_all_fusions_share_one_pass_of_a_pool() -> None:
    tasks = {f"{name} {tune}": task_of(name, tune, len(tune)) for name in FUSIONS for tune in ("frozen", "lora")}
    plain = metatx.Task.from_data(BACKBONE, "text", ([each["words"] or "no" for each in SAMPLES], TARGETS))
    tasks["plain"] = unlike_any(plain, 3).set_inference(precision="fp32")
    pool = metatx.TaskPool(BACKBONE)
    for name, task in tasks.items():
        pool.add(name, task)
    queries = [each["words"] or "no" for each in SAMPLES]
    requests = [(name, query) for name in tasks for query in (queries if name == "plain" else SAMPLES)]
    calls = []
    hook = BACKBONE.register_forward_hook(lambda *_: calls.append(1))
    try:
        found = pool.predict(requests)
        assert len(calls) == 1
        vectors = pool.embed(requests)
    finally:
        hook.remove()
    for (name, query), answer, vector in zip(requests, found, vectors, strict=True):
        np.testing.assert_allclose(answer, tasks[name].predict([query])[0], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(vector, tasks[name].embed([query])[0], atol=1e-5, rtol=1e-5)
