"""Speech Commands, end to end, on a few clips of three words for a few epochs."""

from dataclasses import replace

import audio_speech_commands
import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.recipes.common import check_run, real, train

WORDS = ("yes", "no", "stop")


@pytest.fixture
def folder(tmp_path):
    there = real("audio/speech_commands_v2_10")
    if there is None:
        return made(tmp_path)
    table = pd.read_csv(there / "metadata.csv")
    table = table[table.label_name.isin(WORDS)].groupby(["split", "label_name"]).head(14)
    for name in table.file_name:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(there / name)
    table.to_csv(tmp_path / "metadata.csv", index=False)
    return tmp_path


def made(folder):
    """A tone a word, in noise, by speakers of their own loudness."""
    rows = [
        (f"{split}/{word}/{i}.ogg", word, split, f"{split}{i}")
        for split in ("train", "test")
        for word in WORDS
        for i in range(24)
    ]
    for name, word, *_ in rows:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, tone(300 * (2 + WORDS.index(word)), len(name)), 16_000)
    pd.DataFrame(rows, columns=["file_name", "label_name", "split", "speaker"]).to_csv(folder / "metadata.csv")
    return folder


def tone(frequency, seed):
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(0.1, 0.5) * np.sin(frequency * np.arange(16_000) * 2 * np.pi / 16_000)
        + rng.normal(size=16_000) / 50
    )


def test_speech_commands(nano, folder, tmp_path):
    out = tmp_path / "out"
    report = train(audio_speech_commands.RECIPE, nano, folder, out, epochs=6, batch_size=6)
    check_run(report, out / "seed0", [str(path) for path in sorted(folder.glob("test/*/*.ogg"))[:6]])
    assert report.test["accuracy"] > 0.5


def test_speakers_are_held_out(folder):
    splits = replace(audio_speech_commands.RECIPE, validation_share=0.25).load(folder)
    table = pd.read_csv(folder / "metadata.csv")
    speaker = dict(zip([str(folder / name) for name in table.file_name], table.speaker, strict=True))
    train, held = ({speaker[name] for name in splits[split].file} for split in ("train", "validation"))
    assert train and held and not train & held
    assert set(splits["test"].file) == {str(folder / name) for name in table.file_name[table.split == "test"]}


def test_the_published_folder_with_its_lists(nano, tmp_path):
    for word in ("yes", "no", "_background_noise_"):
        (tmp_path / word).mkdir()
        for i in range(6):
            soundfile.write(tmp_path / word / f"0a{i}_nohash_0.wav", tone(300 * len(word), i), 16_000)
    (tmp_path / "validation_list.txt").write_text("yes/0a0_nohash_0.wav\nno/0a0_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/0a1_nohash_0.wav\nno/0a2_nohash_0.wav\n")
    recipe = audio_speech_commands.recipe(words="all")
    splits = recipe.read(tmp_path)
    assert {split: len(table) for split, table in splits.items()} == {"train": 8, "validation": 2, "test": 2}
    assert [name.removeprefix(f"{tmp_path}/") for name in splits["test"].file] == [
        "no/0a2_nohash_0.wav",
        "yes/0a1_nohash_0.wav",
    ]
    report = train(recipe, nano, tmp_path, epochs=1)
    assert report.data == "Speech Commands, all words" and set(report.task.head.classes) == {"yes", "no"}
