"""Answers in words on the command line, and over HTTP."""

import shlex

import pandas as pd
import pytest

import metatx
from metatx.cli import main
from tests.backbone.language_models import write_model


def _main(line) -> None:
    main(shlex.split(line))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("lm") / "llama", "llama", tie_word_embeddings=True)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "t.csv"
    rows = [{"id": at, "q": f"{at % 3} of", "a1": at % 3, "a2": f"number {at % 3}"} for at in range(30)]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_task_of_several_answers_is_trained_described_and_asked(model, table, tmp_path, capsys) -> None:
    line = f"--backbone transformers:{model} --head generation --target a1,a2 --epochs 1"
    options = "--head.soft-prompt 2 --head.prompt 'Say: {q}' --head.max-new-tokens 4"
    _main(f"train {table} --input q=text {line} {options} --out {tmp_path}/run")
    said = capsys.readouterr().out
    assert "constant answer" in said and "nearest sample's answer" in said and "cider" in said
    assert "trained on" in said and "128" in said
    task = metatx.Task.from_pretrained(tmp_path / "run/task")
    assert task.target == "a1,a2" and task.head.most == 4
    assert task.head.options["prompt"] == "Say: {q}"  # YAML would make an object of it
    _main(f"info {tmp_path}/run/task")
    assert "of at most 4 tokens" in capsys.readouterr().out
    _main(f"predict {tmp_path}/run/task {table} --out {tmp_path}/p.csv")
    answers = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert len(answers) == 30 and {"prediction", "ended"} <= set(answers.columns)
    assert answers.prediction.astype(str).tolist() == task.predict(str(table)).tolist()
    _main(f"evaluate {tmp_path}/run/task {table}")
    assert "nats_per_token" in capsys.readouterr().out


def test_a_backbone_that_writes_nothing_is_one_line(table, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        _main(f"train {table} --modality text --inputs q --head generation --target a2 --backbone nano")
    told = capsys.readouterr().err
    assert "needs a causal language model" in told and told.count("\n") == 1


def test_a_run_that_trains_nothing_is_refused_before_weights_and_data_are_read(tmp_path, capsys) -> None:
    line = f"train {tmp_path}/none.csv --modality text --inputs q --target a2 --backbone transformers:{tmp_path}/none"
    with pytest.raises(SystemExit, match="2"):
        _main(f"{line} --head generation")
    told = capsys.readouterr().err
    assert "nothing to train" in told and "--tune lora" in told and told.count("\n") == 1
    several = (
        f"train {tmp_path}/none.csv --input q=text --input p=text --target a2 --backbone transformers:{tmp_path}/none"
    )
    with pytest.raises(SystemExit, match="2"):
        _main(f"{several} --head generation")
    assert "nothing to train" in capsys.readouterr().err
    for more in ("--head.soft-prompt 2", "--tune lora", "--tokenizer.freeze-stem false"):
        with pytest.raises(SystemExit, match="2"):
            _main(f"{line} --head generation {more}")
        assert "nothing to train" not in capsys.readouterr().err


def test_a_model_without_its_output_layer_is_one_line(table, tmp_path, capsys) -> None:
    bare = write_model(tmp_path / "bare", "llama", tie_word_embeddings=False)
    backbone = f"--backbone transformers:{bare}"
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        _main(f"train {table} --modality text --inputs q --head generation --target a2 --tune lora {backbone}")
    told = capsys.readouterr().err
    assert "saved without its output layer" in told and told.count("\n") == 1
