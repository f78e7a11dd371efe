"""Devices: names that a user gives; and all that computes on a GPU, on one that only checks where tensors lie."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

import metatx
from metatx.backbone.devices import device_of
from metatx.encoding.collate import collate
from metatx.encoding.head_choice import build_tokenizer, create_head
from metatx.sequence import TokenSequence, picked
from metatx.training.batches import loader
from tests import mixed_tasks
from tests.fake_cuda import GPU, fake_cuda, faked, faked_model, sent
from tests.fusions.meetings import BATCH, CASES, backbone, batch, built, fused
from tests.samples import TOKENIZERS, objects

TOKENIZER_CASES = [(name, at) for name, row in sorted(TOKENIZERS.items()) for at in range(min(2, len(row.options)))]
HEADS = {
    "classification": ["cat", "dog", "eel"] * 2,
    "detection": [objects(8.0), objects(38.0)],
    "embedding": ["ann", "bob", "cleo"] * 2,
    "multilabel": [["cat", "dog"], ["eel"], []] * 2,
    "regression": [1.0, 2.0, 4.0, 8.0],
    "segmentation": [np.full((4, 6), i % 3, dtype=np.uint8) for i in range(6)],
}
LENGTHS = tuple(3 + 7 * i % 190 for i in range(64))


@pytest.fixture
def gpus(monkeypatch):
    """Let torch find two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    assert device_of("auto") == (GPU if torch.cuda.is_available() else torch.device("cpu"))


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:1x", ""])
def test_an_unknown_name_is_refused(name) -> None:
    with pytest.raises(ValueError, match="expected auto, cpu, cuda, cuda:N or mps"):
        device_of(name)


def test_names_of_gpus(gpus, monkeypatch) -> None:
    assert [device_of(name) for name in ("auto", "cuda", "cuda:0", GPU)] == [GPU] * 4
    assert device_of("cuda:1").index == 1
    with pytest.raises(ValueError, match="finds 2 GPUs, the last of them cuda:1"):
        device_of("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of("auto").index == 1


def test_what_is_not_there_is_refused_before_anything_is_loaded(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device is 'cuda', but torch"):
        metatx.load_backbone("no such backbone", device="cuda")
    with pytest.raises(ValueError, match="device is 'cuda:1', but torch"):
        metatx.Task.from_pretrained(tmp_path, device="cuda:1")


def test_a_task_has_its_device_or_its_backbone(nano, tmp_path) -> None:
    with pytest.raises(ValueError, match="not both"):
        metatx.Task.from_pretrained(tmp_path, backbone=nano, device="cpu")


def test_the_command_line_refuses_in_one_line(capsys, monkeypatch, tmp_path) -> None:
    from metatx.cli import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main(["serve", str(tmp_path), "--device", "cuda"])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "choose auto or cpu" in line


def test_batches_for_a_gpu_lie_in_pinned_memory() -> None:
    assert [loader([], [], 0, device).pin_memory for device in (GPU, torch.device("cpu"), None)] == [True, False, False]


@torch.no_grad()
def test_the_sums_of_a_gpu_are_those_of_a_cpu() -> None:
    vectors = torch.randn(6, 3)
    counts = torch.tensor([2, 0, 4])
    sums = torch.segment_reduce(vectors, "sum", lengths=counts, axis=0, unsafe=True, initial=0)
    expected = torch.stack([vectors[:2].sum(0), torch.zeros(3), vectors[2:].sum(0)])
    torch.testing.assert_close(sums, expected)


@pytest.mark.parametrize("lengths", [(64,) * 64, LENGTHS], ids=["equal", "mixed"])
def test_a_pass_of_the_backbone_and_pooling_wait_for_nothing(lengths) -> None:
    with fake_cuda() as work, torch.no_grad():
        model = faked(mixed_tasks.small_backbone())
        out = model(TokenSequence(torch.empty(sum(lengths), model.dim, device=GPU), lengths))
        several = TokenSequence(
            out.embeddings, out.lengths, sequences_per_sample=(3, 0, *(1,) * 61), num_prefix_tokens=1
        )
        for sequence in (out, several):
            assert sequence.mean().device == sequence.cls().device == GPU
            sequence.unpack()
        picked(several, [True, False] * 32)
    assert work.waits == []
    assert work.sent < 24  # small index tensors, however many sequences


@pytest.mark.parametrize("modality", ["audio", "image", "infrared", "video"])  # those that copy the stem
def test_a_tokenizer_is_built_on_the_device_of_its_backbone(modality) -> None:
    with fake_cuda():
        model = faked(mixed_tasks.small_backbone())
        for options in TOKENIZERS[modality].options:
            build_tokenizer(modality, model, options)


@pytest.mark.parametrize(("modality", "at"), TOKENIZER_CASES)
def test_a_tokenizer_waits_for_nothing(modality, at) -> None:
    row = TOKENIZERS[modality]
    model = mixed_tasks.small_backbone()
    tokenizer = build_tokenizer(modality, model, row.options[at]).learn(row.samples)
    encoded = collate([tokenizer.encode(sample) for sample in row.samples])
    with fake_cuda() as work:
        faked(tokenizer)
        faked(model)
        if modality == "time_series":  # which tokens there are depends on the values: a missing patch gives none
            with pytest.raises(DataDependentOutputException):
                tokenizer(sent(encoded))
            return
        with torch.no_grad():
            tokenizer.eval()(sent(encoded))
        tokenizer.train()(sent(encoded))
    assert work.waits == []


@pytest.mark.parametrize("modality", [name for name in mixed_tasks.MODALITIES if name != "time_series"])
def test_a_task_waits_for_nothing_until_its_output_is_read(modality) -> None:
    number = mixed_tasks.MODALITIES.index(modality)
    task, samples = mixed_tasks.build(mixed_tasks.small_backbone(), modality, number)
    encoded = collate([task.tokenizer.encode(sample) for sample in samples])
    with fake_cuda() as work, torch.no_grad():
        model = faked_model(task.model)
        output = model(sent(encoded))
        assert output.device == GPU
        assert model.embedding(model.features(sent(encoded), layers=1)).device == GPU
    assert work.waits == []


@pytest.mark.parametrize("name", HEADS)
def test_a_head_waits_for_nothing_until_its_output_is_read(name) -> None:
    head = create_head(name, 8, {}, {}).learn(HEADS[name])
    lengths = (5, 5, 5) if head.dense else (5, 6, 9)
    with fake_cuda() as work, torch.no_grad():
        embeddings = torch.empty(sum(lengths), 8 * head.layers, device=GPU)
        grids = {"": (2, 2)} if head.dense else {}
        faked(head).eval()
        output = head(head.pool(TokenSequence(embeddings, lengths, grids=grids, num_prefix_tokens=1)))
        assert output.device == GPU
    assert work.waits == []


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_fusion_stays_on_its_device(name, options) -> None:
    base = backbone()
    fusion = built(name, base, **options)
    sequence = batch(BATCH)
    with fake_cuda() as work, torch.no_grad():
        on_gpu = sequence.with_embeddings(sent(sequence.embeddings))
        assert fused(faked(fusion), faked(base), on_gpu).device == GPU
    assert work.waits == []
