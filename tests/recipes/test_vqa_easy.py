"""easy-VQA through a language model, end to end, on a few pictures and a small model."""

import vqa_easy

import metatx
from tests.backbone.language_models import write_model
from tests.recipes.coloured_questions import few
from tests.recipes.common import check_run, train
from tests.recipes.fused import check_every_input_is_read

RECIPE = vqa_easy.recipe(bridge="resampler")


def test_a_language_model_reads_the_question(tmp_path):
    table = few(tmp_path)
    folder = write_model(tmp_path / "model", "llama")
    model = metatx.load_backbone(f"transformers:{folder}")
    report = train(RECIPE, model, tmp_path, tmp_path / "out", epochs=8, batch_size=16, lr=5e-3)
    asked = table[table.split == "test"]
    samples = [{"image": str(tmp_path / row.image), "question": row.question} for row in asked.itertuples()]
    check_every_input_is_read(report.task, samples[:: len(samples) // 4])
    check_run(report, tmp_path / "out" / "seed0", samples[:4])


def test_options_of_the_command_line(tmp_path):
    (photo, question) = vqa_easy.recipe(bridge="mlp", through="other", weights="file").spec.several
    assert dict(photo.through) == {"backbone": "other", "checkpoint": "file", "bridge": "mlp"}
    assert question.through is None and RECIPE.spec.main == "question"
    few(tmp_path)
    whole = vqa_easy.read(tmp_path, questions=0, validation=0)
    parts = vqa_easy.read(tmp_path, questions=5, validation=3)
    assert (len(parts["train"]), len(parts["validation"])) == (5, 3)
    assert len(parts["test"]) == len(whole["test"]) and len(whole["train"]) > 5
