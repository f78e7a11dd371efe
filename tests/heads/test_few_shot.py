"""Prompts of few shots: picture, answer, picture, answer, picture, as the inputs of a sample in turn."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import metatx
from tests.backbone.language_models import write_model

NANO = metatx.load_backbone("nano")
WAY = {"backbone": "nano", "bridge": "grid", "side": 2}
COLOURS = {"red": (220, 30, 30), "blue": (30, 40, 220), "green": (30, 190, 40)}
PROMPT = "Picture: {first} {first_name}\nPicture: {second} {second_name}\nPicture: {photo}"
INPUTS = [
    metatx.Input(name="first", modality="image", through=WAY),
    metatx.Input(name="first_name", modality="text"),
    metatx.Input(name="second", modality="image", shares="first"),
    metatx.Input(name="second_name", modality="text"),
    metatx.Input(name="photo", modality="image", shares="first"),
]
SHOTS = ("first", "second")


def samples(count: int, seed: int) -> tuple[list[dict], list[str]]:
    """Two pictures of unlike colours with a made-up name each, and one like the first or the second; its name."""
    rng = np.random.default_rng(seed)
    rows = []
    names = []
    for _ in range(count):
        colours = rng.permutation(list(COLOURS))[:2].tolist()
        called = rng.permutation(["Bob", "Ann", "Tim"])[:2].tolist()
        asked = int(rng.integers(2))
        row: dict = {}
        for shot, colour, name in zip(SHOTS, colours, called, strict=True):
            row |= {shot: picture(colour, rng), f"{shot}_name": f"I know it. Answer: {name}"}
        rows.append({**row, "photo": picture(colours[asked], rng)})
        names.append(row[f"{SHOTS[asked]}_name"])
    return rows, names


def picture(colour: str, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.array(COLOURS[colour]) + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)


def task_on(folder: Path, data: tuple[list[dict], list[str]]) -> metatx.Task:
    options = {"prompt": PROMPT, "answer": r"Answer: (\w+)", "end": "\n", "max_new_tokens": 16}
    backbone = metatx.load_backbone(f"transformers:{folder}")
    return metatx.Task.from_data(
        backbone, INPUTS, data, head="generation", head_options=options, others=NANO, tune="frozen"
    )


def test_shots_stand_in_the_prompt_in_the_order_of_the_template(tmp_path) -> None:
    data = samples(3, 0)
    task = task_on(write_model(tmp_path, "llama", tie_word_embeddings=True), data)
    task.fit(data, epochs=1)
    batch = task.encode(data, "test").batch([0])[0]
    tokens = task.model.tokens(batch).embeddings
    words = task.backbone.stems["text"]
    row = data[0][0]

    def embedded(text: str) -> torch.Tensor:
        return words(torch.tensor(words.numbers(text)))

    length = 4  # tokens of a picture
    at = 0
    pictures = []
    for text in (
        *("Picture: ", None, f" {row['first_name']}\nPicture: ", None),
        *(f" {row['second_name']}\nPicture: ", None),
    ):
        if text is None:
            pictures.append(tokens[at : at + length])
            at += length
        else:
            expected = embedded(text)
            torch.testing.assert_close(tokens[at : at + len(expected)], expected, atol=1e-6, rtol=0)
            at += len(expected)
    assert at == len(tokens) and not torch.allclose(pictures[0], pictures[1])
    asked = int(row["second_name"] == data[1][0])
    like = pictures[asked]
    other = pictures[1 - asked]
    assert (pictures[2] - like).norm() < (pictures[2] - other).norm()


@pytest.mark.slow
def test_a_real_model_answers_in_the_way_of_the_shots() -> None:
    folder = Path(os.environ.get("METATX_WEIGHTS", "")) / "smollm2_135m"
    assert (folder / "config.json").is_file(), f"put transformers' folder of the model to {folder}"
    data = samples(32, 1)
    task = task_on(folder, data)
    test = samples(16, 2)
    task.fit(data, epochs=4, batch_size=8, lr=5e-3, precision="bf16")
    measured = task.evaluate(test)
    records = task.records(test[0][:4])
    assert measured["blank"] < 0.2, "the way of the shots is taken, so that an answer is found"
    assert measured["exact_match"] > 0.25, "one of the two names that stand in the prompt"
    assert all(record["prediction"] in record["text"] for record in records)
