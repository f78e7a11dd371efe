"""The ``metatx`` command: every option comes from the signature of a function below."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from metatx.errors import Stopped
from metatx.serving.command import serve

__all__ = ["main"]


def train(
    data: str,
    *,
    modality: str,
    target: str | None = None,
    inputs: str | None = None,
    split_column: str | None = None,
    head: str | None = None,
    tokenizer: dict[str, Any] | None = None,
    validation: str | None = None,
    test: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    random_backbone: bool = False,
    tune: str = "frozen",
    adapter: dict[str, Any] | None = None,
    start: str | None = None,
    out: str | None = None,
    resume: bool = False,
    no_baseline: bool = False,
    skip_bad_samples: bool = False,
    head_options: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Fit a task, evaluate it beside two baselines, save it.

    Args:
        data: A table (csv, parquet, json, jsonl), a folder of splits or of classes, or hf:NAME.
        modality: What the data is; see "metatx list tokenizers".
        target: Column to predict; a usual name (label, target, class, y) is found by itself.
        inputs: Columns to read, separated by commas.
        split_column: Column that says train, validation or test.
        head: Kind of answer; inferred from the target. See "metatx list heads".
        tokenizer: Options of the tokenizer, each by its name: --tokenizer.patch_size 16.
        validation: Data of the validation split, where DATA has none.
        test: Data of the test split, where DATA has none.
        backbone: See "metatx list backbones".
        checkpoint: File with the backbone's weights.
        random_backbone: Seeded random weights in the backbone's shape: the control for every claim.
        tune: What of the backbone is trained too: frozen (nothing), norm (a LayerNorm of the task's own for each), lora
            (low-rank updates beside it), full (all of a copy, which no other task can share).
        adapter: Options of tune lora: --adapter.r 8, alpha, dropout, target_modules, use_dora, use_rslora.
        start: A frozen task, trained before: its tokenizer and head are where training starts (head first, then tune).
        out: Folder for the task and its numbers; runs/NAME of the data by default.
        resume: Go on from the checkpoint in --out.
        no_baseline: Leave out the trivial and the classical baseline.
        skip_bad_samples: Leave out samples that cannot be used, not stop.
        head_options: Options of the head, each by its name: --head.dropout 0.1.
        config: What was asked for, to be written beside the task.
        settings: Of the training, by name.
    """
    from metatx.experiment import run
    from metatx.processes import processes
    from metatx.settings import TrainingSettings
    from metatx.weights import load_backbone

    if resume and out is None:
        raise ValueError("--resume goes on with a run in a folder; name it with --out.")
    folder = out or _free_folder(data)
    report = run(
        data,
        modality,
        backbone=load_backbone(backbone, checkpoint=checkpoint, pretrained=not random_backbone),
        settings=TrainingSettings(**settings),
        target=target,
        inputs=_columns(inputs),
        split_column=split_column,
        validation=validation,
        test=test,
        head=head,
        tokenizer_options=tokenizer,
        head_options=head_options,
        tune=tune,
        adapter_options=adapter,
        start=start,
        out=folder,
        resume=resume,
        baseline=not no_baseline,
        skip_bad_samples=skip_bad_samples,
        config=config,
    )
    if processes().is_main_process:
        print(f"{report}\nsaved in {folder}")


def compare(
    data: str,
    *,
    modality: str,
    target: str | None = None,
    inputs: str | None = None,
    split_column: str | None = None,
    head: str | None = None,
    tokenizer: dict[str, Any] | None = None,
    validation: str | None = None,
    test: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    seeds: str = "0,1,2",
    budget: float | None = None,
    out: str | None = None,
    no_baseline: bool = False,
    skip_bad_samples: bool = False,
    head_options: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Show what the backbone brings: frozen, random, left out, its norms tuned, LoRA; and two baselines.

    Args:
        data: As in "metatx train".
        modality: What the data is; see "metatx list tokenizers".
        target: Column to predict; a usual name (label, target, class, y) is found by itself.
        inputs: Columns to read, separated by commas.
        split_column: Column that says train, validation or test.
        head: Kind of answer; inferred from the target. See "metatx list heads".
        tokenizer: Options of the tokenizer, each by its name: --tokenizer.patch_size 16.
        validation: Data of the validation split, where DATA has none.
        test: Data of the test split, where DATA has none.
        backbone: See "metatx list backbones".
        checkpoint: File with the backbone's weights.
        seeds: One run each, of each variant, separated by commas.
        budget: Seconds of training of a run. Epochs, at most --epochs, and samples are chosen to fit, once for all.
        out: Folder for the table, the figure and the numbers; runs/NAME of the data by default. The same comparison
            goes on there.
        no_baseline: Leave out the trivial and the classical baseline.
        skip_bad_samples: Leave out samples that cannot be used, not stop.
        head_options: Options of the head, each by its name: --head.dropout 0.1.
        settings: Of the training, by name.
    """
    from metatx.comparison import compare as compare_variants
    from metatx.settings import TrainingSettings
    from metatx.weights import load_backbone

    folder = out or _free_folder(data)
    comparison = compare_variants(
        data,
        modality,
        backbone=load_backbone(backbone, checkpoint=checkpoint),
        seeds=_seeds(seeds),
        # Given here, and so no options: every run has a seed of its own, and leaves nothing but its numbers.
        settings=TrainingSettings(seed=0, tensorboard=False, checkpoint_seconds=30.0, checkpoint_steps=0, **settings),
        budget=budget,
        target=target,
        inputs=_columns(inputs),
        split_column=split_column,
        validation=validation,
        test=test,
        head=head,
        tokenizer_options=tokenizer,
        head_options=head_options,
        baseline=not no_baseline,
        skip_bad_samples=skip_bad_samples,
        out=folder,
    )
    print(comparison)
    print(f"saved in {folder}")


def evaluate(
    task: str,
    data: str,
    *,
    backbone: str | None = None,
    checkpoint: str | None = None,
    skip_bad_samples: bool = False,
) -> None:
    """Measure a saved task on labelled data.

    Args:
        task: Folder of the task, or user/task on the Hugging Face hub.
        data: As in "metatx train"; its test split, where it is split.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.
        skip_bad_samples: Leave out samples that cannot be used, not stop.
    """
    metrics = _load(task, backbone, checkpoint).evaluate(data, skip_bad_samples=skip_bad_samples)
    for name, value in metrics.items():
        print(f"{name} {value:.6g}")


def predict(
    task: str,
    inputs: list[str],
    *,
    out: str | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Answer with a saved task: one row a sample.

    Args:
        task: Folder of the task, or user/task on the Hugging Face hub.
        inputs: Tables, files or folders of samples.
        out: File to write: .csv or .jsonl; .json (COCO) for boxes; a folder for masks; .png or .npy for the map of a
            scene of many bands. Without it the terminal, as csv.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.
    """
    from metatx.answers import write_answers

    write_answers(_load(task, backbone, checkpoint), inputs, out, sys.stdout)


def embed(
    task: str,
    inputs: list[str],
    *,
    out: str | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Embed samples with a saved task: vectors of the backbone's width.

    Args:
        task: Folder of the task, or user/task on the Hugging Face hub.
        inputs: Tables, files or folders of samples.
        out: File to write, .csv or .npy (an array, float32); without it the terminal, as csv.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.
    """
    import numpy as np

    from metatx.answers import check_ending, write_rows
    from metatx.files import written_whole

    check_ending(out, (".csv", ".npy"))
    loaded = _load(task, backbone, checkpoint)
    vectors = np.concatenate([loaded.embed(entry) for entry in inputs])
    if out and out.endswith(".npy"):
        with written_whole(Path(out)) as temporary, temporary.open("wb") as file:
            np.save(file, vectors)
    else:
        write_rows([dict(enumerate(vector)) for vector in vectors.tolist()], out, sys.stdout)


def list_(what: Literal["tokenizers", "heads", "backbones"] | None = None) -> None:
    """Say which tokenizers (modalities), heads and backbones there are.

    Args:
        what: One of the three; all where none is named.
    """
    from metatx.registry import lookup, names
    from metatx.weights import backbones

    for kind in ("tokenizers", "heads"):
        if what in (kind, None):
            print(f"{kind}:")
            for name in names(kind):
                print(f"  {name:<16}{_summary(lookup(kind, name))}")
    if what in ("backbones", None):
        print("backbones:")
        for name, line in backbones().items():
            print(f"  {name:<28}{line}")


def info(task: str) -> None:
    """Say what a saved task is: its parts, columns, backbone and numbers.

    Args:
        task: Folder of the task, or user/task on the Hugging Face hub.
    """
    from metatx.hub import task_folder
    from metatx.storage import describe

    backbone = (config := describe(task_folder(task)))["backbone"]
    print(f"{config['tokenizer']['name']} -> {config['head']['name']}, saved by metatx {config['metatx']}")
    print(f"backbone   {backbone['spec']}, fingerprint {backbone['fingerprint'][:16]}")
    print(f"tune       {config['tune']}" + "".join(f", {name} {v}" for name, v in (config["adapter"] or {}).items()))
    if "trainable_parameters" in config:
        print(f"trains     {config['trainable_parameters']:,} parameters")
    print(f"reads      {', '.join(config['inputs']) or 'raw samples'}")
    print(f"predicts   {config['target'] or 'what comes next'}")
    for part in ("tokenizer", "head"):
        print(f"{part:<11}{json.dumps(config[part]['options'])[:400]}")
    if config["head"].get("note"):
        print(f"{'note':<11}{config['head']['note']}")
    for model, metrics in config["metrics"].items():
        print(f"{model:<32}" + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


def quickstart(*, out: str = "runs/quickstart", seed: int = 0) -> None:
    """The tour: train three tasks of three modalities on one frozen backbone, then answer one mixed batch.

    Args:
        out: Folder for the three tasks; an older tour there is replaced.
        seed: Of weights, splits and order.
    """
    from metatx.quickstart import tour

    tour(Path(out), seed)


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "compare": compare,
    "evaluate": evaluate,
    "predict": predict,
    "embed": embed,
    "list": list_,
    "info": info,
    "serve": serve,
    "quickstart": quickstart,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors of the user's are one line on stderr and exit code 2."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    from jsonargparse import ArgumentError

    from metatx.parser import command_parser, spelled
    from metatx.registry import load_plugin

    parser = command_parser(COMMANDS)
    try:
        values = parser.parse_args(spelled([word for word in words if word != "--debug"])).as_dict()
        command = values["subcommand"]
        if command is None:
            parser.print_help()
            return
        chosen = values[command]
        plugin = chosen.pop("plugin")
        chosen.pop("config", None)
        if command == "serve":  # every replica imports it
            chosen["plugin"] = plugin
        elif plugin is not None:
            load_plugin(plugin)
        if command == "train":
            chosen["config"] = {"plugin": plugin, **{k: v for k, v in chosen.items() if k not in ("out", "resume")}}
        COMMANDS[command](**chosen)
    except (ArgumentError, ValueError, TypeError, OSError, ImportError) as error:
        if debug:
            raise
        print("metatx:", *str(error).split(), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        if debug:
            raise
        stopped = error if isinstance(error, Stopped) else Stopped("Interrupted.", signal.SIGINT, True)
        if stopped.first:
            print(f"metatx: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal)  # as a shell has it


def _load(task: str, backbone: str | None, checkpoint: str | None) -> Any:
    from metatx.task import Task
    from metatx.weights import load_backbone

    loaded = None if backbone is None else load_backbone(backbone, checkpoint=checkpoint)
    return Task.from_pretrained(task, backbone=loaded)


def _columns(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]


def _seeds(numbers: str) -> list[int]:
    try:
        return [int(number) for number in numbers.split(",")]
    except ValueError:
        raise ValueError(f"--seeds is {numbers!r}; give whole numbers separated by commas, such as 0,1,2.") from None


def _free_folder(data: str) -> str:
    """``runs/NAME``, numbered where that is taken."""
    stem = Path(data.removeprefix("hf:")).stem
    names = (f"runs/{stem}" if number == 1 else f"runs/{stem}-{number}" for number in range(1, 10_000))
    return next(name for name in names if not Path(name).exists())


def _summary(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
