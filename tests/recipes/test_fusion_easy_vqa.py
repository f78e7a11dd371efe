"""easy-VQA, end to end, on a few pictures."""

import fusion_easy_vqa
import numpy as np

from tests.recipes.coloured_questions import few
from tests.recipes.common import check_run, train
from tests.recipes.fused import check_every_input_is_read


def test_easy_vqa(nano, tmp_path, capsys):
    table = few(tmp_path)
    report = train(fusion_easy_vqa.RECIPE, nano, tmp_path, tmp_path / "out", epochs=30, batch_size=16, lr=5e-3)
    printed = capsys.readouterr().out
    assert "Accuracy by the kind of answer: yes or no 0." in printed or "yes or no 1." in printed
    closed = table[(table.split == "test") & table.answer.isin(["yes", "no"])]
    samples = [{"image": str(tmp_path / row.image), "question": row.question} for row in closed.itertuples()]
    right = np.mean(report.task.predict(samples) == closed.answer.to_numpy())
    assert f"yes or no {right:.4f}" in printed
    check_every_input_is_read(report.task, samples[:: len(samples) // 4])
    check_run(report, tmp_path / "out" / "seed0", samples[:4])


def test_words_train_on_request():
    frozen = {each.name: each.frozen for each in fusion_easy_vqa.recipe().spec.several}
    assert frozen == {"image": False, "question": True}
    assert not any(each.frozen for each in fusion_easy_vqa.recipe(frozen_words=False).spec.several)
