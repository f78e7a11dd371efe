"""The command line: what it writes, what it prints, and one line with exit code 2 for what is wrong."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from metatx.cli import main

ECG = '''
import torch, metatx
from torch import nn

@metatx.register_tokenizer("ecg")
class ECGTokenizer(metatx.Tokenizer):
    """Twelve-lead ECG: one token per 0.1 s of signal."""
    def __init__(self, dim, leads=12, patch_size=50):
        super().__init__(dim)
        self.proj = nn.Conv1d(leads, dim, patch_size, patch_size)
    def encode(self, sample):
        return {"signal": torch.as_tensor(sample, dtype=torch.float32)}
    def forward(self, batch):
        return self.proj(batch["signal"]).transpose(1, 2)
'''


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """One trained run: its folder, and the data beside it."""
    folder = tmp_path_factory.mktemp("run")
    table.to_csv(folder / "kinds.csv", index=False)
    _main(f"train {folder}/kinds.csv --modality tabular --target kind --epochs 3 --lr 3e-3 --out {folder}/out")
    return folder


def _main(line):
    main(line.split())


def _fails(line, capsys):
    with pytest.raises(SystemExit) as caught:
        _main(line)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and not out
    assert err.startswith("metatx: ") and err.count("\n") == 1
    return err


def test_train_writes_all_it_promises(run):
    out = run / "out"
    assert {path.name for path in out.iterdir()} == {
        "task",
        "metrics.json",
        "config.yaml",
        "history.csv",
        "curves.png",
        "checkpoint.safetensors",
    }
    metrics = json.loads((out / "metrics.json").read_text())
    promised = "primary_metric validation test majority_or_naive baseline trainable_parameters backbone_parameters"
    assert set(promised.split()) <= set(metrics)
    assert {"backbone_fingerprint", "seconds", "peak_memory_mb", "seed", "versions"} <= set(metrics)
    assert metrics["majority_or_naive"]["name"] == "majority class" and "accuracy" in metrics["baseline"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_config_runs_it_again_to_the_same_numbers(run, capsys):
    _main(f"train --config {run}/out/config.yaml --out {run}/again")
    first, second = (json.loads((run / name / "metrics.json").read_text()) for name in ("out", "again"))
    assert first["test"] == second["test"] and first["baseline"] == second["baseline"]
    assert yaml.safe_load((run / "again" / "config.yaml").read_text())["epochs"] == 3


def test_the_table_shows_the_baselines(run, capsys):
    _main(f"train {run}/kinds.csv --modality tabular --target kind --epochs 1 --out {run}/shown")
    out = capsys.readouterr().out
    assert "test: 20% held out, seed 0, backbone nano" in out
    assert "gradient boosting (classical)" in out and "majority class (trivial)" in out
    _main(f"train {run}/kinds.csv --modality tabular --target kind --epochs 1 --no-baseline --out {run}/plain")
    assert "majority class" not in capsys.readouterr().out


def test_compare_writes_a_table_and_a_figure_and_goes_on(run, capsys):
    line = f"compare {run}/kinds.csv --modality tabular --target kind --epochs 1 --out {run}/compared --seeds"
    _main(f"{line} 0")
    out = capsys.readouterr().out
    assert "| pretrained, frozen |" in out and "| no backbone |" in out and "majority class (trivial)" in out
    folder = run / "compared"
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "comparison.md", "comparison.png"]
    assert (folder / "comparison.md").read_text() in out
    first = json.loads((folder / "comparison.json").read_text())["trials"]
    _main(f"{line} 0,1 --no-baseline")
    second = json.loads((folder / "comparison.json").read_text())["trials"]
    assert second[: len(first)] == first and [trial["seed"] for trial in second] == [0] * len(first) + [1] * len(first)
    capsys.readouterr()
    assert "epochs 1 -> 2" in _fails(f"{line} 0 --epochs 2", capsys)


def test_evaluate_predict_embed_info(run, capsys):
    task = f"{run}/out/task"
    _main(f"evaluate {task} {run}/kinds.csv")
    assert "accuracy " in capsys.readouterr().out
    _main(f"predict {task} {run}/kinds.csv --out {run}/answers.csv")
    rows = list(csv.DictReader((run / "answers.csv").open()))
    assert len(rows) == 240 and list(rows[0]) == ["row", "prediction", "p(no)", "p(yes)"]
    _main(f"predict {task} {run}/kinds.csv --out {run}/answers.jsonl")
    assert json.loads((run / "answers.jsonl").read_text().splitlines()[0])["prediction"] in ("yes", "no")
    _main(f"embed {task} {run}/kinds.csv --out {run}/vectors.npy")
    assert np.load(run / "vectors.npy").shape == (240, 192)
    _main(f"embed {task} {run}/kinds.csv")
    assert capsys.readouterr().out.count("\n") == 241
    _main(f"info {task}")
    shown = capsys.readouterr().out
    assert "backbone   nano" in shown and "predicts   kind" in shown and "majority class" in shown
    assert "note       Probabilities are not calibrated." in shown


def test_a_tuned_task_says_what_was_trained(run, capsys):
    line = f"train {run}/kinds.csv --modality tabular --target kind --epochs 1 --no-baseline --out {run}/tuned"
    _main(f"{line} --tune lora --adapter.r 4 --adapter.target_modules [mlp.fc1,attn.qkv] --layer-decay 0.8")
    metrics, plain = (json.loads((run / name / "metrics.json").read_text()) for name in ("tuned", "out"))
    adapted = 6 * 4 * ((192 + 768) + (192 + 576))
    assert metrics["trainable_parameters"] == plain["trainable_parameters"] + adapted
    assert metrics["backbone_fingerprint"] == plain["backbone_fingerprint"]
    assert metrics["tune"] == "lora" and metrics["adapter"]["target_modules"] == ["attn.qkv", "mlp.fc1"]
    assert "backbone nano, tune lora" in capsys.readouterr().out
    _main(f"info {run}/tuned/task")
    shown = capsys.readouterr().out
    assert "tune       lora, r 4, alpha 16" in shown and f"{metrics['trainable_parameters']:,} parameters" in shown
    _main(f"train --config {run}/tuned/config.yaml --out {run}/retuned")
    assert json.loads((run / "retuned" / "metrics.json").read_text())["test"] == metrics["test"]


def test_list_says_what_there_is(capsys):
    _main("list")
    out = capsys.readouterr().out
    for name in ("tokenizers:", "tabular", "image", "time_series", "classification", "forecasting", "nano"):
        assert name in out
    assert "pretrained" in next(line for line in out.splitlines() if line.strip().startswith("nano"))
    _main("list heads")
    out = capsys.readouterr().out
    assert "segmentation" in out and "tabular" not in out and "nano" not in out


def test_a_plugin_brings_a_modality(tmp_path, capsys):
    (tmp_path / "ecg.py").write_text(ECG)
    rng = np.random.default_rng(0)
    rows = [{"ecg": (rng.normal(size=(12, 100)) * (1 + i % 2)).tolist(), "label": "ab"[i % 2]} for i in range(60)]
    (tmp_path / "hearts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = f"{tmp_path}/hearts.jsonl"
    options = f"--plugin {tmp_path}/ecg.py --epochs 1 --tokenizer.patch_size 25"
    _main(f"train {data} --modality ecg {options} --out {tmp_path}/o")
    config = json.loads((tmp_path / "o" / "task" / "config.json").read_text())
    assert config["tokenizer"] == {"name": "ecg", "options": {"leads": 12, "patch_size": 25}, "fitted": {}}
    _main(f"predict {tmp_path}/o/task {data} --plugin {tmp_path}/ecg.py")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train {run}/none.csv --modality tabular", "none.csv does not exist"),
        ("train {run}/kinds.csv --modality tabluar", "Did you mean 'tabular'"),
        ("train {run}/kinds.csv --modality tabular", "The column to predict is not known"),
        ("train {run}/kinds.csv --modality tabular --target sort", "Unknown target column 'sort'"),
        ("train {run}/kinds.csv --modality tabular --target kind --out {run}/out", "holds a run already"),
        ("train {run}/kinds.csv --modality tabular --target kind --backbone nona", "nona"),
        ("train {run}/kinds.csv --modality tabular --target kind --epochs 0", "must be at least 1"),
        ("train {run}/kinds.csv --modality tabular --target kind --tokenizer.colour 3", "Unknown option"),
        ("train {run}/kinds.csv --modality tabular --target kind --tune lorra", "Did you mean 'lora'"),
        ("train {run}/kinds.csv --modality tabular --target kind --tune lora --adapter.rank 2", "Choices: r, alpha"),
        ("train {run}/kinds.csv --modality tabular --target kind --adapter.r 2", "r would need tune='lora'"),
        ("train {run}/kinds.csv --modality tabular --target kind --plugin {run}/no.py", "no.py does not exist"),
        ("compare {run}/kinds.csv --modality tabular --target kind --seeds 0,one", "--seeds is '0,one'"),
        ("compare {run}/kinds.csv --modality tabular --target kind --budget -1", "must be more than 0"),
        ("compare {run}/kinds.csv --modality tabular --target kind --out {run}/out", "holds something else"),
        ("compare {run}/kinds.csv --modality tabular --target kind --tensorboard", "tensorboard"),
        ("evaluate {run} {run}/kinds.csv", "is no task"),
        ("predict {run}/out/task {run}/none.csv", "none.csv does not exist"),
        (
            "predict {run}/out/task {run}/kinds.csv --out {run}/answers.xlsx",
            ".csv, .jsonl, .parquet, .png or .npy",
        ),
        ("embed {run}/out/task {run}/kinds.csv --out {run}/vectors.txt", ".csv, .jsonl, .parquet or .npy"),
        ("train {run}/kinds.csv", "modality"),
        ("trian", "trian"),
        ("info {run}/none", "does not exist"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(run, capsys, line, message):
    before = sorted(path.name for path in run.iterdir())
    assert message in _fails(line.format(run=run), capsys)
    assert sorted(path.name for path in run.iterdir()) == before, "nothing half-written"


def test_files_that_are_no_images_are_named_and_skipped(tmp_path, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("bright", 200)):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(level - 30, level + 30, (16, 16), dtype=np.uint8)).save(
                folder / f"{number}.png"
            )
    whole = (tmp_path / "data" / "dark" / "0.png").read_bytes()
    for number in range(5):
        content = b"no image" if number else whole[: len(whole) // 2]
        (tmp_path / "data" / "dark" / f"bad{number}.png").write_bytes(content)
    line = f"train {tmp_path}/data --modality image --epochs 2 --out {tmp_path}/out"
    message = _fails(line, capsys)
    assert "cannot be used" in message and "bad" in message and "--skip-bad-samples" in message
    assert not (tmp_path / "out").exists()
    _main(line + " --skip-bad-samples")
    assert "5 samples that could not be used were left out" in capsys.readouterr().out


def test_debug_shows_the_traceback(run):
    with pytest.raises(FileNotFoundError):
        _main(f"--debug train {run}/none.csv --modality tabular")


def test_resume_goes_on_with_a_finished_run_without_training_again(run, capsys):
    line = f"train {run}/kinds.csv --modality tabular --target kind --epochs 3 --lr 3e-3 --out {run}/out --resume"
    before = json.loads((run / "out" / "metrics.json").read_text())["test"]
    _main(line)
    assert json.loads((run / "out" / "metrics.json").read_text())["test"] == before


NANO_DOES_WITHOUT = (
    "timm",
    "torchvision",
    "datasets",
    "pandas",
    "transformers",
    "torch._dynamo",
    "metatx.backbone.zoo",
)


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import metatx", ("torch", "timm", "datasets", "numpy", "accelerate")),
        ("import metatx; metatx.load_backbone('nano')", NANO_DOES_WITHOUT),
    ],
)
def test_import_is_light(code, heavy):
    """Nothing beyond the standard library is imported by ``import metatx``, nothing slow by loading nano."""
    code = f"import sys; {code}; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, env=os.environ)
    assert found.stdout.strip() == "[]", found.stderr
