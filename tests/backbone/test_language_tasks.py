"""Tasks on language models: every tokenizer and every head, in one pass of the pool, on disk, of several inputs."""

from functools import cache

import numpy as np
import pytest
import torch

import metatx
from metatx import registry
from metatx.cli import main
from metatx.errors import TaskError
from metatx.training.optimizer import parameter_groups
from tests.backbone.language_models import write_model
from tests.mixed_tasks import unlike_any
from tests.samples import TOKENIZERS, pooling_heads

KINDS = ["bert", "llama"]
FULL = {"image": {"image_size": [32, 48]}, "text": {"context": 64, "overlap": 8}}
RNG = np.random.default_rng(0)
BOX = {"bbox": [[0, 0, 20, 20]], "category": ["cat"], "width": 50, "height": 40}
ANSWERS = {  # a modality and the targets of four samples, by head
    "classification": ("graph", ["even", "odd"] * 2),
    "regression": ("hyperspectral", [0.5, 2.0, 3.0, 7.0]),
    "multilabel": ("audio", [["cat"], ["cat", "dog"]] * 2),
    "embedding": ("imu", ["even", "odd"] * 2),
    "forecasting": ("time_series", [RNG.normal(size=(2, 4)) for _ in range(4)]),
    "segmentation": ("image", [RNG.integers(0, 3, (40, 50)).astype(np.uint8) for _ in range(4)]),
    "detection": ("image", [BOX] * 4),
}
OPTIONS = {"forecasting": {"horizon": 4}, "segmentation": {"layers": 2}, "detection": {"layers": 2}}


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> dict[str, metatx.Backbone]:
    place = tmp_path_factory.mktemp("models")
    folders = {kind: write_model(place / kind, kind, max_position_embeddings=2048) for kind in KINDS}
    return {kind: metatx.load_backbone(f"transformers:{folder}") for kind, folder in folders.items()}


@cache
def row(modality: str) -> list:
    return list(TOKENIZERS[modality].samples[:4])


def task_of(backbone, modality: str, targets: list, *, seed: int = 0, **choices) -> metatx.Task:
    options = FULL.get(modality, TOKENIZERS[modality].options[0])
    task = metatx.Task.from_data(
        backbone, modality, (row(modality), targets), tokenizer_options=dict(options), seed=seed, **choices
    )
    return unlike_any(task, seed).set_inference(precision="fp32")


def test_every_head_is_tried() -> None:
    assert sorted(ANSWERS) == pooling_heads()


@pytest.mark.parametrize("kind", KINDS)
def test_every_tokenizer_works_and_the_pool_answers_all_in_one_pass(backbones, kind, monkeypatch) -> None:
    backbone = backbones[kind]
    pool = metatx.TaskPool(backbone)
    asked = []
    for number, modality in enumerate(sorted(TOKENIZERS)):
        tune = ["frozen", "lora"][number % 2]
        choices = {"head": "classification", "tune": tune, "head_options": {"layers": 1 + number % 2}}
        pool.add(modality, task_of(backbone, modality, ["even", "odd"] * 2, seed=number, **choices))
        asked += [(modality, sample) for sample in row(modality)]
    alone = [pool.task(name).embed([sample])[0] for name, sample in asked]
    said = [pool.task(name).records([sample])[0]["p(even)"] for name, sample in asked]
    passes = []
    whole = type(backbone).forward
    monkeypatch.setattr(type(backbone), "forward", lambda *a, **k: passes.append(1) or whole(*a, **k))
    found = pool.embed(asked)
    answered = pool.answer([pool.prepare(name, sample, "records") for name, sample in asked])
    assert len(passes) == 2  # one for the vectors, one for the answers
    for vector, expected in zip(found, alone, strict=True):
        np.testing.assert_allclose(vector, expected, atol=1e-5, rtol=1e-4)
    assert [record["p(even)"] for record in answered] == pytest.approx(said, abs=1e-5)
    for modality in TOKENIZERS:
        vectors = [vector for (name, _), vector in zip(asked, found, strict=True) if name == modality]
        assert max(np.abs(vector - vectors[0]).max() for vector in vectors) > 1e-4  # it does not ignore its input


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", sorted(ANSWERS))
def test_every_head_trains_saves_and_loads(backbones, kind, head, tmp_path) -> None:
    modality, targets = ANSWERS[head]
    before = backbones[kind].fingerprint
    task = task_of(backbones[kind], modality, targets, head=head, head_options=OPTIONS.get(head))
    task.fit((row(modality), targets), epochs=1, batch_size=2)
    again = metatx.Task.from_pretrained(task.save_pretrained(tmp_path / "task"))  # finds its backbone by name
    assert str(again.records(row(modality)[:2])) == str(task.records(row(modality)[:2]))
    assert backbones[kind].fingerprint == again.backbone.fingerprint == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["cls", "mean", "both"])
def test_every_pooling_works(backbones, kind, pooling) -> None:
    head = {"head": "classification", "head_options": {"pooling": pooling}}
    task = task_of(backbones[kind], "text", ["even", "odd"] * 2, **head)
    found = [record["p(even)"] for record in task.records(row("text"))]
    assert found == pytest.approx([task.records([text])[0]["p(even)"] for text in row("text")], abs=1e-5)
    assert len(set(found)) > 1


@pytest.mark.parametrize("tune", ["scale", "norm", "lora", "full"])
def test_every_tier_trains_what_it_says(backbones, tune, tmp_path) -> None:
    backbone = backbones["bert"]
    targets = ["even", "odd"] * 2
    task = metatx.Task.from_data(backbone, "text", (row("text"), targets), tune=tune, tokenizer_options=FULL["text"])
    first = task.embed(row("text"))
    task.fit((row("text"), targets), epochs=3, lr=1e-2)
    assert np.abs(task.embed(row("text")) - first).max() > 1e-3
    shared = {} if tune == "full" else {"backbone": backbone}
    again = metatx.Task.from_pretrained(task.save_pretrained(tmp_path / "task"), **shared)
    np.testing.assert_allclose(again.embed(row("text")), task.embed(row("text")), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_block_tuned_in_full_has_its_own_rate(backbones, kind) -> None:
    task = metatx.Task.from_data(backbones[kind], "text", (row("text"), ["even", "odd"] * 2), tune="full")
    groups = parameter_groups(task.model, metatx.TrainingSettings(layer_decay=0.5), depth=2)
    scales = {id(parameter): group["scale"] for group in groups for parameter in group["params"]}
    first, second = (next(block.parameters()) for block in task.backbone.blocks)
    assert (scales[id(first)], scales[id(second)]) == (0.25, 0.5)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_further_task_needs_its_own_weights_alone(backbones, freeze, tmp_path) -> None:
    choices = {"tokenizer_options": {"freeze_stem": freeze}}
    task = metatx.Task.from_data(backbones["bert"], "text", (row("text"), ["even", "odd"] * 2), **choices)
    rows = 0 if freeze else len(task.tokenizer.known) * 64
    assert sum(parameter.numel() for parameter in task.tokenizer.parameters()) == rows
    assert task.trainable_parameters == rows + sum(parameter.numel() for parameter in task.head.parameters())


def several(backbone, fusion: str) -> tuple[metatx.Task, list]:
    samples = [{"words": "a film " * (1 + at), "facts": {"area": float(at)}} for at in range(4)]
    data = samples, ["even", "odd"] * 2
    return metatx.Task.from_data(backbone, {"words": "text", "facts": "tabular"}, data, fusion=fusion), samples


FUSIONS = sorted(registry.names("fusions"))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusions(backbones, kind, fusion) -> None:
    if kind == "llama" and fusion in ("bottleneck", "coattention"):
        return  # refused, see tests/fusions/test_language.py
    task, samples = several(backbones[kind], fusion)
    task = unlike_any(task, 1).set_inference(precision="fp32")
    found = [record["p(even)"] for record in task.records([*samples, {"words": "a film", "facts": None}])]
    assert found[:4] == pytest.approx([task.records([each])[0]["p(even)"] for each in samples], abs=1e-5)
    assert len(set(found)) == 5


def test_a_task_of_another_vocabulary_s_model_is_refused(backbones, tmp_path) -> None:
    task = metatx.Task.from_data(backbones["bert"], "text", (row("text"), ["even", "odd"] * 2))
    folder = task.save_pretrained(tmp_path / "task")
    with pytest.raises(TaskError, match="was trained on backbone transformers:.*, not on transformers:"):
        metatx.Task.from_pretrained(folder, backbone=backbones["llama"])


def test_a_sample_with_too_many_tokens_is_refused_alone(backbones, tmp_path) -> None:
    place = write_model(tmp_path / "short", "bert", max_position_embeddings=40)
    backbone = metatx.load_backbone(f"transformers:{place}")
    series = row("time_series")
    task = metatx.Task.from_data(backbone, "time_series", (series[2:3] * 4, ["even", "odd"] * 2))
    pool = metatx.TaskPool(backbone)
    pool.add("t", task)
    kept = pool.prepare("t", series[2])
    with pytest.raises(metatx.SampleError, match="sample 1: a sequence has .* tokens; .* reads at most 39"):
        pool.prepare("t", RNG.normal(size=(2, 4000)))
    assert len(pool.answer([kept])) == 1


def test_the_command_line_trains_describes_and_predicts(tmp_path, capsys) -> None:
    place = write_model(tmp_path / "model", "llama")
    rows = "".join(f"a {['good', 'bad'][at % 2]} film number {at},{['yes', 'no'][at % 2]}\n" for at in range(24))
    (tmp_path / "films.csv").write_text("text,good\n" + rows)
    task = f"{tmp_path}/run/task"
    options = (
        f"--modality text --target good --backbone transformers:{place} --epochs 2 --no-baseline --out {tmp_path}/run"
    )
    main(f"train {tmp_path}/films.csv {options}".split())
    main(f"info {task}".split())
    main(f"predict {task} {tmp_path}/films.csv".split())
    said = capsys.readouterr().out
    assert f"transformers:{place}" in said and "prediction" in said
    main("list backbones".split())
    assert "transformers:NAME_OR_FOLDER" in capsys.readouterr().out
