"""Tasks as graphs: each answers as its task does, in ONNX Runtime without torch, or says why there is no graph."""

import json

import numpy as np
import pytest
import torch

from metatx.cli import main
from metatx.exporting import export_task
from tests.exporting.tasks import batches, differences
from tests.saved_tasks.answers import HERE, load, shared_backbone
from tests.saved_tasks.samples import SAMPLES

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

QUICK = ("time_series-frozen",)  # the rest takes minutes; two more are read where they share a backbone
EXPORTED = {
    "version_2": (
        "image-frozen",
        "image-full",
        "image-lora",
        "image-norm",
        "tabular-frozen",
        "time_series-frozen-quantiles",
    ),
    "version_3": (
        "hyperspectral-frozen",
        "image-frozen-detection",
        "image-frozen-embedding",
        "image-frozen-segmentation",
        "imu-frozen",
        "infrared-frozen",
        "tabular-frozen-rows",
        "tabular-lora",
        "text-frozen",
        "time_series-frozen",
        "time_series-merged",
        "time_series-norm",
        "video-frozen",
        "xray-frozen",
    ),
}
REFUSED = {
    "version_3/audio-frozen": "its patches lie on a grid that depends on the clip",
    "version_3/graph-full": "any number of nodes and edges",
    "version_3/point_cloud-frozen": "computed cloud by cloud",
}
CASES = [
    pytest.param(f"{version}/{name}", marks=[] if name in QUICK else [pytest.mark.slow], id=name)
    for version, names in EXPORTED.items()
    for name in names
]


@pytest.fixture(scope="module")
def backbone():
    """The backbone of the saved tasks."""
    return shared_backbone()


def longer(batch, inputs):
    """True if a batch is larger than the graph's bounds, such as a text of several windows."""
    pairs = [pair for name in batch for pair in zip(batch[name].shape, inputs[name]["most"], strict=True)]
    return any(most is not None and size > most for size, most in pairs)


@pytest.mark.parametrize("name", CASES)
def test_a_graph_answers_as_its_task_does(name, backbone, tmp_path):
    task = load(HERE / name, backbone)
    samples = SAMPLES[json.loads((HERE / name / "answers.json").read_text())["samples"]]()
    graph, facts = export_task(task, tmp_path / "task.onnx")
    told = json.loads(facts.read_text())
    cases = [
        (task.model, graph, batch)
        for batch in batches(task.model, task.queries(samples))
        if not longer(batch, told["inputs"])
    ]
    assert max(differences(cases, tmp_path)) < 1e-4
    assert told["modality"] == task.tokenizer.name
    for _, _, batch in cases:
        assert list(told["inputs"]) == list(batch)
        for field, tensor in batch.items():
            assert told["inputs"][field]["dtype"] == str(tensor.dtype).removeprefix("torch.")
            assert told["inputs"][field]["shape"][0] is None


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_graph_says_which_part_and_why(name, backbone, tmp_path):
    with pytest.raises(ValueError, match=f"cannot be exported: .*{REFUSED[name]}"):
        export_task(load(HERE / name, backbone), tmp_path / "task.onnx")
    assert not list(tmp_path.iterdir())


def test_a_program_of_torch_answers_as_its_task_does(backbone, tmp_path):
    task = load(HERE / "version_2/image-norm", backbone)
    program, _ = export_task(task, tmp_path / "task.pt2", to="torch")
    samples = task.queries(SAMPLES["pictures"]())
    (batch,) = batches(task.model, samples)
    answers = torch.export.load(program).module()(*batch.values())
    np.testing.assert_allclose(answers["probabilities"].detach(), task.predict_proba(samples), atol=1e-4)


def test_tasks_share_one_file_of_the_backbone(backbone, tmp_path):
    names = ("image-norm", "tabular-frozen")
    tasks = [load(HERE / "version_2" / name, backbone) for name in names]
    written = [export_task(task, tmp_path / f"{task.tokenizer.name}.onnx", shared=True) for task in tasks]
    assert written[0][2] == written[1][2]
    weight = backbone.blocks[0].attn.qkv.weight.detach().numpy().tobytes()
    assert weight in written[0][2].read_bytes()
    cases = []
    for task, name, (graph, _, _) in zip(tasks, ("pictures", "table"), written, strict=True):
        assert weight not in graph.read_bytes()
        cases.append((task.model, graph, next(batches(task.model, task.queries(SAMPLES[name]())))))
    assert max(differences(cases, tmp_path)) < 1e-4


def test_another_suffix_is_refused(backbone, tmp_path):
    with pytest.raises(ValueError, match=r"another suffix than \.onnx"):
        export_task(load(HERE / "version_2/image-norm", backbone), tmp_path / "task.pt2")


def test_the_command_writes_graph_and_facts(tmp_path):
    place = HERE / "version_2/tabular-frozen/task"
    words = ["--to", "torch", "--out", str(tmp_path / "task.pt2"), "--backbone", str(HERE / "backbone")]
    main(["export", str(place), *words])
    assert {path.name for path in tmp_path.iterdir()} == {"task.pt2", "task.pt2.json"}
