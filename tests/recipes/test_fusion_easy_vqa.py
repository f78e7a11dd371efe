"""easy-VQA, end to end, on a few pictures."""

import fusion_easy_vqa
import numpy as np
import pandas as pd
from PIL import Image

from tests.recipes.common import check_run, real, train
from tests.recipes.fused import check_every_input_is_read

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
PICTURES = {"train": 12, "val": 4, "test": 6}


def few(folder):
    """A table of some pictures with their questions, in ``folder``; those of easy-VQA where they are at hand."""
    place = real("multimodal/easy_vqa")
    if place is not None:
        table = pd.read_csv(place / "easy_vqa.csv")
        first = [
            name for split, count in PICTURES.items() for name in table[table.split == split].image.unique()[:count]
        ]
        table = table[table.image.isin(first)]
        (folder / "images").symlink_to(place / "images")
    else:
        table = pd.DataFrame([row for split in PICTURES for row in _drawn(folder, split)])
    table.to_csv(folder / "easy_vqa.csv", index=False)
    return table


def _drawn(folder, split):
    """Rows about pictures of one colour each, which are drawn."""
    for number in range(PICTURES[split]):
        colour = list(COLOURS)[number % 2]
        name = f"{split}{number}.png"
        Image.fromarray(np.full((64, 64, 3), COLOURS[colour], dtype=np.uint8)).save(folder / name)
        asked = {f"is it {other}?": "yes" if other == colour else "no" for other in COLOURS}
        for question, answer in {**asked, "what is the colour?": colour}.items():
            yield {"image": name, "question": question, "answer": answer, "split": split}


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
