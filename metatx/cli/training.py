"""``metatx train`` and ``metatx compare``."""

from pathlib import Path
from typing import Any

from metatx.reading.csv_tables import Reading

__all__ = ["compare", "train"]


def train(
    data: str,
    *,
    modality: str,
    target: str | None = None,
    inputs: str | None = None,
    split_column: str | None = None,
    csv: dict[str, Any] | None = None,
    head: str | None = None,
    tokenizer: dict[str, Any] | None = None,
    validation: str | None = None,
    test: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = True,
    tune: str = "frozen",
    adapter: dict[str, Any] | None = None,
    start: str | None = None,
    out: str | None = None,
    resume: bool = False,
    baseline: bool = True,
    skip_bad_samples: bool = False,
    budget: float | None = None,
    head_options: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Fit a task, evaluate it beside two baselines, save it.

    Args:
        data: A table (csv, parquet, json, jsonl), a folder of splits or of classes, or hf:NAME.
        modality: Kind of data, such as image; see "metatx list tokenizers".
        target: Column to predict; a usual name (label, target, class, y) is found by itself.
        inputs: Columns to read, separated by commas.
        split_column: Column that says train, validation or test.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        head: Kind of answer; inferred from the target. See "metatx list heads". Options by name: --head.dropout 0.1.
        tokenizer: Options of the tokenizer, each by its name: --tokenizer.patch-size 16.
        validation: Data of the validation split, where DATA has none.
        test: Data of the test split, where DATA has none.
        backbone: Name of the backbone; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        pretrained: Use the backbone's weights; false: random ones, always the same, as the control.
        tune: Part of the backbone that is trained too: frozen (none), norm (copies of its LayerNorms), lora (low-rank
            updates), full (a copy of all weights, which no other task can share).
        adapter: Options of tune lora: --adapter.r 8, alpha, dropout, target-modules, use-dora, use-rslora.
        start: Folder of a trained, frozen task; training starts from its tokenizer and head.
        out: Folder for the task and its numbers; runs/NAME of the data by default.
        resume: Go on from the checkpoint in --out.
        baseline: Fit the trivial and the classical baselines.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command.
        budget: Seconds of training. Epochs, at most --epochs, and samples are chosen to fit.
        head_options: Options of the head, each by its name: --head.dropout 0.1.
        config: Options to be written beside the task.
        settings: Settings of the training, by name.
    """
    from metatx.backbone.loading import load_backbone
    from metatx.evaluation.run import run
    from metatx.settings import TrainingSettings
    from metatx.spec import TaskSpec
    from metatx.training.distributed import processes

    spec = TaskSpec(
        modality=modality,
        target=target,
        inputs=inputs,
        head=head,
        tokenizer_options=tokenizer or {},
        head_options=head_options or {},
        tune=tune,
        adapter_options=adapter or {},
    )
    if resume and out is None:
        raise ValueError("--resume goes on with a run in a folder; name it with --out.")
    folder = out or _free_folder(data)
    report = run(
        data,
        spec,
        backbone=load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained),
        settings=TrainingSettings(**settings),
        split_column=split_column,
        reading=Reading.of(csv),
        validation=validation,
        test=test,
        start=start,
        out=folder,
        resume=resume,
        baseline=baseline,
        skip_bad_samples=skip_bad_samples,
        budget=budget,
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
    csv: dict[str, Any] | None = None,
    head: str | None = None,
    tokenizer: dict[str, Any] | None = None,
    validation: str | None = None,
    test: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    seeds: str = "0,1,2",
    budget: float | None = None,
    out: str | None = None,
    baseline: bool = True,
    skip_bad_samples: bool = False,
    head_options: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Show what the backbone brings: frozen, random, left out, its norms tuned, LoRA; and two baselines.

    Args:
        data: Data as in "metatx train".
        modality: Kind of data, such as image; see "metatx list tokenizers".
        target: Column to predict; a usual name (label, target, class, y) is found by itself.
        inputs: Columns to read, separated by commas.
        split_column: Column that says train, validation or test.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        head: Kind of answer; inferred from the target. See "metatx list heads". Options by name: --head.dropout 0.1.
        tokenizer: Options of the tokenizer, each by its name: --tokenizer.patch-size 16.
        validation: Data of the validation split, where DATA has none.
        test: Data of the test split, where DATA has none.
        backbone: Name of the backbone; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        seeds: One run each, of each variant, separated by commas.
        budget: Seconds of training of a run. Epochs, at most --epochs, and samples are chosen to fit, once for all.
        out: Folder for the table, the figure and the numbers; runs/NAME of the data by default. The same comparison
            goes on there.
        baseline: Fit the trivial and the classical baselines.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command.
        head_options: Options of the head, each by its name: --head.dropout 0.1.
        settings: Settings of the training, by name.
    """
    from metatx.backbone.loading import load_backbone
    from metatx.evaluation.compare import compare as compare_variants
    from metatx.settings import TrainingSettings
    from metatx.spec import TaskSpec

    spec = TaskSpec(
        modality=modality,
        target=target,
        inputs=inputs,
        head=head,
        tokenizer_options=tokenizer or {},
        head_options=head_options or {},
    )
    folder = out or _free_folder(data)
    comparison = compare_variants(
        data,
        spec,
        backbone=load_backbone(backbone, checkpoint=checkpoint),
        seeds=_seeds(seeds),
        # Fixed, and therefore no options: each run has its own seed, and writes no logs and no checkpoints.
        settings=TrainingSettings(seed=0, tensorboard=False, checkpoint_seconds=30.0, checkpoint_steps=0, **settings),
        budget=budget,
        split_column=split_column,
        reading=Reading.of(csv),
        validation=validation,
        test=test,
        baseline=baseline,
        skip_bad_samples=skip_bad_samples,
        out=folder,
    )
    print(comparison)
    print(f"saved in {folder}")


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
