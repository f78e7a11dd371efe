"""What a notebook shows of the objects that people hold says what they are."""

import numpy as np

import metatx
from tests.conftest import waves

NANO = "VisionTransformer('nano', dim=192, depth=6, num_parameters=2_719_296, pretrained=True, frozen=True)"


def test_a_backbone_says_its_name_shape_and_weights(nano):
    assert repr(nano) == NANO
    assert "pretrained=False" in repr(metatx.load_backbone("nano", pretrained=False))
    assert "frozen=False" in repr(nano.trainable_copy())


def test_a_pool_says_its_backbone_and_its_tasks(nano):
    pool = metatx.TaskPool(nano, memory_mb=200)
    pool.add("waves", metatx.Task.from_data(nano, "waves", waves(8)))
    assert repr(pool) == f"TaskPool({NANO}, tasks=['waves'], memory_mb=200)"


def test_an_index_says_its_folder_items_and_columns(tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    index = metatx.Index.build(tmp_path / "shop", None, {"image": vectors}, {"price": [1, 2, 3]})
    index.delete([0])
    place = str(tmp_path / "shop")
    assert repr(index) == f"Index({place!r}, items=2, width=3, modalities=['image'], columns=['price'])"


def test_a_task_of_several_inputs_says_the_modality_of_each(nano, table):
    spec = {"text": "text", "facts": metatx.Input(name="facts", modality="tabular", columns="a")}
    texts = table.assign(text=["one", "two"] * (len(table) // 2))
    task = metatx.Task.from_data(nano, spec, texts, target="kind")
    assert repr(task).startswith("Task(modality={'text': 'text', 'facts': 'tabular'}, head='classification'")
