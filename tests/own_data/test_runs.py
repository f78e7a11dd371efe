"""Runs on people's own data: resumed, refused, skipped, split, cached and served, each as it should be."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import metatx
from metatx.cli import main
from metatx.disk.weight_files import unshared
from metatx.errors import TaskError
from metatx.evaluation.budget import Plan
from metatx.serving.catalog import Catalog, common_backbone
from metatx.settings import TrainingSettings
from metatx.training.loop import Training
from metatx.values import is_missing
from tests.conftest import waves

SHORT = {"epochs": 2, "batch_size": 16}


def rows(count: int = 60, labels=("cat", "dog")) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=count), "z": rng.normal(size=count)})
    table["label"] = [labels[i % len(labels)] for i in range(count)]
    return table


def run(backbone, table, out=None, *, epochs=2, **options):
    return metatx.run(
        table, "tabular", backbone=backbone, settings=TrainingSettings(epochs=epochs, batch_size=16), out=out,
        baseline=False, **options,
    )  # fmt: skip


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All that a folder holds, and when it was written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


# Resumed


@pytest.fixture(scope="module")
def killed(nano, tmp_path_factory):
    """The folder of a run that died after its first epoch."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    real = Training.measure

    def measure(training, data, progress):
        training.schedule.save(progress)
        if progress.epoch:
            raise MemoryError("killed")
        return real(training, data, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "measure", measure)
        with pytest.raises(MemoryError):
            run(nano, rows(), folder, config={"epochs": 2})
    return folder


THREE = ("cat", "dog", "eel")
OTHER = {
    "labels": (lambda: {"table": rows(labels=("no", "yes"))}, "the head's classes cat, dog -> no, yes"),
    "a third label": (lambda: {"table": rows(labels=THREE)}, "the head's classes cat, dog -> cat, dog, eel"),
    "rows": (lambda: {"table": rows(61)}, r"the training data 43 samples \(.*\) -> 4\d samples"),
    "values": (lambda: {"table": rows().assign(x=rows().x ** 3)}, r"the training data 43 samples .* -> 43 samples"),
    "scales": (lambda: {"table": rows().assign(x=1.0 + rows().x)}, "the tokenizer's schema with other values of x[.;]"),
    "targets": (lambda: {"table": rows().assign(label=rows().label[::-1].tolist())}, "the training data 43 samples"),
    "a head's option": (lambda: {"head_options": {"label_smoothing": 0.3}}, "label_smoothing 0.0 -> 0.3"),
    "a head's layer": (lambda: {"head_options": {"norm": "batch"}}, "the head's norm layer -> batch"),
    "inputs": (lambda: {"inputs": ["x"]}, "inputs x, z -> x"),
    "another backbone": (lambda: {"random": True}, r"backbone nano \(\w{12}\) -> nano with random weights \(\w{12}\)"),
    "tune": (lambda: {"tune": "norm"}, "tune frozen -> norm"),
    "settings": (lambda: {"epochs": 3}, "is of a run with other settings: epochs 2 -> 3"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER)
def test_another_run_does_not_resume_and_changes_nothing(nano, killed, what):
    made, message = OTHER[what]
    options = made()
    backbone = metatx.load_backbone("nano", pretrained=False) if options.pop("random", False) else nano
    before = files(killed)
    with pytest.raises(ValueError, match=message):
        run(backbone, options.pop("table", rows()), killed, resume=True, config={"epochs": 9}, **options)
    assert files(killed) == before


def test_a_tokenizers_options_and_validation_data_are_compared(nano, tmp_path):
    def fit(noise, held):
        task = metatx.Task.from_data(nano, "waves", waves(40), tokenizer_options={"noise": noise})
        return task.fit(waves(40), waves(20, seed=held), out=tmp_path / "run", resume=True, **SHORT)

    fit(0.0, 1)
    with pytest.raises(ValueError, match="the tokenizer's noise 0.0 -> 0.5"):
        fit(0.5, 1)
    with pytest.raises(ValueError, match=r"the validation data 20 samples .* -> 20 samples"):
        fit(0.0, 2)


def test_the_same_run_goes_on_to_the_same_numbers(nano, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "run")
    whole, resumed = run(nano, rows()), run(nano, rows(), folder, resume=True, config={"epochs": 2})
    assert resumed.test == whole.test
    assert (folder / "task").is_dir()


def _make_older(path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
    del state["facts"]
    save_file(load_file(path), path, metadata={"state": json.dumps(state)})


def test_an_older_checkpoint_is_taken_with_a_word(nano, tmp_path, caplog):
    path = tmp_path / "checkpoint.safetensors"
    task = metatx.Task.from_data(nano, "waves", waves(40)).fit(waves(40), out=tmp_path, **SHORT)
    _make_older(path)
    with caplog.at_level("INFO", "metatx"):
        again = metatx.Task.from_data(nano, "waves", waves(40)).fit(waves(40), out=tmp_path, resume=True, **SHORT)
    assert again.history == task.history
    assert "older metatx, which noted no data" in caplog.text
    _make_older(path)
    other = metatx.Task.from_data(nano, "waves", (waves(60)[0], ["a", "b", "c"] * 20))
    with pytest.raises(ValueError, match="is of a task with other weights"):
        other.fit((waves(60)[0], ["a", "b", "c"] * 20), out=tmp_path, resume=True, **SHORT)


# Refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer_options": {"nonsense": 1}}, "nonsense"),
        ({"target": "lable"}, "label"),
        ({"table": rows().assign(label=[None, *["a", "b"] * 29, "a"])}, "has no label"),
        ({"head_options": {"layers": 99}}, "layers"),
    ],
)
def test_a_refused_run_leaves_no_folder(nano, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(Training, "run", lambda *_: (_ for _ in ()).throw(ValueError("layers, label, nonsense")))
    out = tmp_path / "out"
    options = dict(options)
    with pytest.raises(ValueError, match=message):
        metatx.run(options.pop("table", rows()), "tabular", backbone=nano, out=out, config={"a": 1}, **options)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(ValueError, match="label"):
        metatx.run(rows(), "tabular", backbone=nano, out=out, config={"a": 1})
    assert not any(out.iterdir())


# Skipped

NOTHING = [None, np.nan, float("nan"), pd.NaT, pd.NA, np.datetime64("NaT"), "", "  ", torch.tensor(float("nan"))]


@pytest.mark.parametrize("value", NOTHING, ids=repr)
def test_what_says_nothing_is_missing(value):
    assert is_missing(value)


@pytest.mark.parametrize(
    "value", ["nan", "NA", "None", 0, 0.0, False, np.float32(1), [], [None], {}, np.ones(3)], ids=repr
)
def test_what_says_something_is_not(value):
    assert not is_missing(value)


HEADS = {
    "classification": [["a", "b"], *NOTHING],
    "regression": [[1.5, -2.5], *NOTHING, float("inf"), "n/a", [1.0]],
    "multilabel": [[["a"], ["a", "b"], []], *[n for n in NOTHING if not isinstance(n, str)], 5, [3]],
    "embedding": [["ann", "bob", "ann"], *NOTHING],
}


@pytest.mark.parametrize("head", HEADS)
def test_samples_without_a_target_are_named_or_skipped(nano, head):
    good, *bad = HEADS[head]
    samples = waves(24)[0]
    for value in bad:
        targets = [good[i % len(good)] for i in range(24)]
        targets[5] = targets[17] = value
        with pytest.raises(
            ValueError, match="2 of 24 samples cannot be used: the data, row 6: .*row 18: .*--skip-bad-sam"
        ):
            metatx.Task.from_data(nano, "waves", (samples, targets), head=head)
        task = metatx.Task.from_data(nano, "waves", (samples, targets), head=head, skip_bad_samples=True)
        with pytest.raises(ValueError, match="2 of 24 samples cannot be used: the data, row 6"):
            task.evaluate((samples, targets))
        kept = [i for i in range(24) if i not in (5, 17)]
        alone = [samples[i] for i in kept], [targets[i] for i in kept]
        assert task.evaluate((samples, targets), skip_bad_samples=True) == task.evaluate(alone)
        clean = metatx.Task.from_data(nano, "waves", alone, head=head)
        assert clean.head.fitted == task.head.fitted, "what is skipped teaches nothing"


def test_missing_labels_of_a_csv_are_skipped_in_every_split_and_counted(nano, tmp_path, capsys):
    table = rows(144)
    table.loc[table.index[::29], "label"] = None
    table.to_csv(tmp_path / "t.csv", index=False)
    words = ["train", f"{tmp_path}/t.csv", "--modality", "tabular", "--epochs", "1", "--no-baseline"]
    with pytest.raises(SystemExit):
        main([*words, "--out", f"{tmp_path}/a"])
    assert "has no label" in (said := capsys.readouterr().err) and "--skip-bad-samples" in said and "t.csv, row" in said
    assert not (tmp_path / "a").exists()
    report = run(nano, f"{tmp_path}/t.csv", epochs=1, skip_bad_samples=True)
    assert report.left_out == 5 and report.task.head.classes == ["cat", "dog"]


def test_head_is_found_though_targets_are_missing(nano):
    samples = waves(30)[0]
    for present, head in ((["a", "b"], "classification"), ([0.5, 1.5], "regression"), ([["a"], ["b"]], "multilabel")):
        for missing in (None, np.nan, pd.NaT):
            targets = [*[present[i % 2] for i in range(29)], missing]
            assert metatx.Task.from_data(nano, "waves", (samples, targets), skip_bad_samples=True).head.name == head
    with pytest.raises(ValueError, match="30 of 30 samples cannot be used.*No other is left"):
        metatx.Task.from_data(nano, "waves", (samples, [None] * 30), head="classification", skip_bad_samples=True)


# Split


def test_a_split_leaves_each_class_a_row_to_train_on(nano):
    table = rows(60).assign(label=[f"c{i // 3}" for i in range(60)])
    for seed in range(3):
        report = metatx.run(
            table, "tabular", backbone=nano, settings=TrainingSettings(epochs=1, seed=seed), baseline=False
        )
        assert len(report.task.head.classes) == 20


def test_pairs_and_lists_of_labels_keep_each_class_too(nano):
    samples, labels = waves(40)[0], [*(f"c{i // 2}" for i in range(8)), *["d", "e"] * 16]
    for targets, head in ((labels, "classification"), ([[label] for label in labels], "multilabel")):
        report = metatx.run(
            {"train": (samples, targets)}, "waves", backbone=nano, head=head, baseline=False,
            settings=TrainingSettings(epochs=1), validation_share=0.3,
        )  # fmt: skip
        assert report.task.head.classes == sorted(set(labels))


# Cached


class Pair(metatx.Tokenizer):
    """Two tensors in one memory, for each sample of one kind; slow enough to be kept."""

    def __init__(self, dim, gain=1.0):
        super().__init__(dim)
        self.proj = nn.Linear(4, dim)

    def encode(self, sample):
        if sample not in SHARED:
            SHARED[sample] = torch.full((2, 8), float(len(sample)))
        return {"x": SHARED[sample][:, :4], "y": SHARED[sample][:, 4:], "z": SHARED[sample][:1, :1].expand(3, 3)}

    def forward(self, batch):
        return self.proj(batch["x"])


SHARED: dict[str, torch.Tensor] = {}


def test_samples_that_are_one_tensor_are_kept_as_two(nano, tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    monkeypatch.setattr("metatx.encoding.encoded.WORTH", 0.0)
    metatx.register_tokenizer("pair")(Pair)
    data = [s for s in ("CCO", "CCCC") for _ in range(12)], ["a", "b"] * 12
    task = metatx.Task.from_data(nano, "pair", data)
    for _ in range(2):
        found = task.encode(data, "train")
        assert torch.equal(found.encoded(13)["x"], torch.full((2, 4), 4.0))
    assert len(list((tmp_path / "encoded").glob("*.safetensors"))) == 1


def test_the_same_molecule_twice_trains(nano, tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("metatx.encoding.encoded.WORTH", 0.0)
    smiles = ["C" * (i // 2 % 12 + 1) + "O" for i in range(48)]
    table = pd.DataFrame({"smiles": smiles, "y": [len(s) + 0.5 * (i % 2) for i, s in enumerate(smiles)]})
    metatx.run(table, "graph", backbone=nano, target="y", settings=TrainingSettings(epochs=1), baseline=False)
    assert list((tmp_path / "cache" / "encoded").glob("*.safetensors"))


def test_tensors_in_one_memory_are_written_apart(tmp_path):
    from safetensors.torch import load_file, save_file

    block = torch.arange(12.0).reshape(3, 4)
    views = {
        "a": block,
        "b": block,
        "row": block[1],
        "turned": block.T,
        "wide": block[:1].expand(5, 4),
        "none": block[:0],
    }
    save_file(unshared(views), tmp_path / "x")
    for name, tensor in load_file(tmp_path / "x").items():
        assert torch.equal(tensor, views[name])


def test_replaced_files_of_the_same_size_and_date_are_noticed(nano, tmp_path, monkeypatch):
    import soundfile

    monkeypatch.setenv("METATX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("metatx.encoding.encoded.WORTH", 0.0)
    places, labels = [str(tmp_path / f"{i}.wav") for i in range(12)], ["low", "high"] * 6

    def write(turned):
        for i, file in enumerate(places):
            tone = np.sin(np.arange(16000) * (0.02 if (i + turned) % 2 else 0.3))
            soundfile.write(file, 0.5 * tone, 16000)
            os.utime(file, (1.6e9, 1.6e9))

    write(0)
    task = metatx.Task.from_data(nano, "audio", (places, labels))
    before = task.encode((places, labels), "test").encoded(11)
    write(1)
    after = task.encode((places, labels), "test").encoded(11)
    fresh = task.tokenizer.encode(places[11])
    assert all(torch.equal(after[name], fresh[name]) for name in fresh)
    assert not all(torch.equal(after[name], before[name]) for name in fresh)


# Served


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    """A folder with a task of the random control, and its table."""
    folder = tmp_path_factory.mktemp("control")
    table = rows()
    table.to_csv(folder / "t.csv", index=False)
    words = f"train {folder}/t.csv --modality tabular --pretrained false --epochs 1 --no-baseline"
    main([*words.split(), "--out", f"{folder}/tasks/r"])
    return folder


def test_a_task_of_the_random_control_answers(control, capsys, nano):
    place, table = f"{control}/tasks/r/task", f"{control}/t.csv"
    for command in ("predict", "evaluate", "embed"):
        main([command, place, table])
    main(["info", place])
    assert "nano with random weights (the control)" in capsys.readouterr().out
    task = metatx.Task.from_pretrained(place)
    assert not task.backbone.pretrained
    words = f"train {table} --modality tabular --epochs 1 --no-baseline --start {place} --out {control}/more"
    with pytest.raises(SystemExit):
        main(words.split())
    assert "nano with random weights (the control)" in capsys.readouterr().err
    main([*words.split(), "--no-pretrained"])
    with pytest.raises(TaskError, match=r"nano with random weights \(the control\) \(\w{12}\), not on nano \("):
        metatx.Task.from_pretrained(place, backbone=nano)


def test_a_server_takes_the_backbone_that_all_its_tasks_name(control, nano, tmp_path):
    assert common_backbone(control / "tasks") == ("nano", False)
    catalog = Catalog(control / "tasks", metatx.TaskPool(metatx.load_backbone("nano", pretrained=False)))
    catalog.refresh()
    assert list(catalog.served) == ["r"]
    catalog = Catalog(control / "tasks", metatx.TaskPool(nano))
    catalog.refresh()
    assert "was trained on backbone nano with random weights" in catalog.refused["r"]
    mixed = shutil.copytree(control / "tasks", tmp_path / "mixed")
    task = metatx.Task.from_data(nano, "waves", waves(20))
    task.save_pretrained(mixed / "p")
    assert common_backbone(mixed) == ("nano", True)
    assert common_backbone(tmp_path) == ("nano", True)


def test_a_run_with_a_budget_goes_on_with_its_plan_whatever_the_clock_says_now(nano, tmp_path, monkeypatch):
    plans = iter([Plan(2, 40, 43), Plan(3, 30, 43)])
    monkeypatch.setattr("metatx.evaluation.run.plan_for", lambda *args: next(plans))
    whole = run(nano, rows(), tmp_path / "whole", budget=5.0).test
    again = run(nano, rows(), tmp_path / "whole", budget=5.0, resume=True)
    assert (again.test, again.plan) == (whole, Plan(2, 40, 43))
    before = files(tmp_path / "whole")
    with pytest.raises(ValueError, match="budget 5.0 -> 9.0"):
        run(nano, rows(), tmp_path / "whole", budget=9.0, resume=True)
    with pytest.raises(ValueError, match="epochs 2 -> 7"):
        run(nano, rows(), tmp_path / "whole", budget=5.0, epochs=7, resume=True)
    assert files(tmp_path / "whole") == before
