"""The benchmark of a GPU, on a CPU at a tiny size; times are not judged."""

import json

import pytest
import torch

from tests.recipes.common import RECIPES, imported


@pytest.fixture(scope="module")
def script():
    with imported("gpu", folder=RECIPES / "benchmarks") as [module]:
        yield module


def test_every_row_is_there(script, tmp_path) -> None:
    script.main(device="cpu", small=True, rounds=1, out=str(tmp_path / "gpu.json"))
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["good"] and content["device"] == "cpu"
    rows = {row["case"]: row["value"] for row in content["rows"]}
    for case in ("parity, bf16, mean", "nano, bf16, mixed lengths", "nano, 4 LoRA adapters in a pass"):
        assert rows[case] is not None
    assert all(rows[f"nano, training step, {tune}, bf16"] for tune in ("frozen", "lora", "full"))


def test_without_a_gpu_it_says_so(script, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="choose auto or cpu"):
        script.main()
    with pytest.raises(ValueError, match="add --small"):
        script.main(device="cpu")
