"""Run: from data to a saved task with its numbers, as in ``metatx train`` and every recipe."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from metatx.backbone.base import Backbone, check_backbone
from metatx.data.arguments import target_name
from metatx.encoding.trainable import check_trains
from metatx.errors import short
from metatx.evaluation.baselines import baselines
from metatx.evaluation.budget import Plan, keep_plan, kept_plan, plan_for
from metatx.evaluation.missing import measures_of_inputs, shares_missing
from metatx.evaluation.narrowing import narrowed, with_any_input
from metatx.evaluation.report import Report
from metatx.evaluation.splits import settled_parts, source_of, task_of
from metatx.examples import Examples
from metatx.files import written_whole
from metatx.inputs.inputs import Inputs
from metatx.reading.csv_tables import Reading
from metatx.registry import all_options
from metatx.settings import TrainingSettings
from metatx.spec import AnySpec, TaskSpec
from metatx.storage.folder import read
from metatx.storage.hub import task_folder
from metatx.task import Task
from metatx.training.checkpoint import CHECKPOINT, check_checkpoint, decisive
from metatx.training.distributed import processes
from metatx.training.facts import facts_of
from metatx.training.history import can_draw, draw_curves

__all__ = ["run"]

WORTH_KEEPING = (CHECKPOINT, "history.csv")  # files of a failed run for which its folder is kept


def run(
    data: Any,
    modality: AnySpec,
    *,
    backbone: Backbone,
    settings: TrainingSettings | None = None,
    name: str = "",
    split_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    validation_share: float = 0.1,
    start: Task | str | Path | None = None,
    published: dict[str, dict[str, float]] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    baseline: bool = True,
    skip_bad_samples: bool = False,
    budget: float | Plan | None = None,
    reading: Reading | None = None,
    config: dict[str, Any] | None = None,
    only: Sequence[str] = (),
    leave_out: bool = True,
    **choices: Any,
) -> Report:
    """Train a task on data, evaluate it, fit the baselines, and save everything.

    If there are several processes, only the first fits the baselines and saves.

    Args:
        data: Data as ``metatx.data.tables.read_splits`` takes them, or a dict of such data by split.
        modality: Name of the modality, or a ``TaskSpec``.
        backbone: Backbone from ``load_backbone``.
        settings: Settings of the training.
        name: Name of the data in the report; by default their path.
        split_column: Column that says train, validation or test.
        validation, test: Data of these splits, where ``data`` has none.
        validation_share: Share of the training split that is held out where there is no validation split. 0 trains on
            all of it and keeps the last weights.
        start: Trained, frozen task of the same kind, or its folder. Training goes on from its tokenizer and head, with
            its statistics and classes, see ``Task.retune``.
        published: Results of others for the table: metrics by name.
        out: Folder for ``task/``, ``metrics.json``, ``history.csv``, ``curves.png`` and, of several inputs,
            ``missing.png``; None writes nothing.
        resume: Go on from the checkpoint in ``out``.
        baseline: Fit the trivial and the classical baselines.
        skip_bad_samples: Leave out samples that cannot be used; by default they raise an error.
        budget: Seconds of training, from which epochs and samples are planned, see ``plan_for``; or the plan of another
            run. Statistics and baselines use the whole training split in any case.
        reading: Format of csv files, where the detected one is wrong.
        config: Options of the caller, written as ``config.yaml``.
        only: Names of the inputs that the task reads, of several; empty: all. Samples without any of them are left out.
        leave_out: Measure a task of several inputs with each of them left out too.
        choices: Attributes of ``TaskSpec`` by name, as in ``Task.from_data``.

    Raises:
        TypeError: If a choice is unknown.
        ValueError: If ``out`` holds a run already and ``resume`` is False, if ``start`` is another kind of task, or as
            ``Task.from_data`` and ``Task.fit``.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "kind": ["small", "small", "large", "large"] * 8})
        >>> options = {"target": "kind", "settings": metatx.TrainingSettings(epochs=10, lr=1e-2)}
        >>> report = metatx.run(sizes, "tabular", backbone=metatx.load_backbone("nano"), **options)
        >>> report.test["accuracy"]
        1.0
    """
    check_backbone(backbone)
    settings = settings or TrainingSettings()
    spec = TaskSpec.of(modality, **choices)
    seed = settings.seed if spec.seed is None else spec.seed
    spec = replace(spec, target=target_name(spec.target), seed=seed)
    if backbone.writes:
        check_trains(spec)
    folder = None if out is None else Path(out)
    _check_folder(folder, resume)
    state = processes()
    state.wait_for_everyone()  # all processes must check the folder before one writes
    first = state.is_main_process
    drawn = folder is not None and first and can_draw("curves.png")
    options: dict[str, Any] = {"split_column": split_column, "validation": validation, "test": test}
    spec, parts = settled_parts(data, spec, reading=reading, **options)
    if only:
        spec, parts = narrowed(spec, parts, only)
    task, examples, where = task_of(
        parts,
        spec,
        backbone,
        given={split for split, extra in (("validation", validation), ("test", test)) if extra is not None},
        source=source_of(data),
        validation_share=validation_share,
        seed=settings.seed,
        reading=reading,
    )
    if only:
        examples = {split: with_any_input(task.tokenizer, part, split) for split, part in examples.items()}
    whole = examples["train"]
    started = time.perf_counter()
    if start is None:
        task.model.learn(whole, seed, skip_bad_samples)
    else:
        task = _retuned(start, backbone, task, spec.adapter_options, seed)
    plan, asked = _plan(task, examples, settings, budget, folder if resume else None, skip_bad_samples)
    if plan is not None:
        settings = replace(settings.for_samples(len(whole)), epochs=plan.epochs)
        examples = plan.cut(examples, settings.seed)
    encoded = {
        split: task.encode(part, split, augment=split == "train", skip_bad=skip_bad_samples, cache=settings.cache)
        for split, part in examples.items()
    }
    if folder is not None and resume:
        facts = facts_of(task.model, encoded["train"], encoded.get("validation"), task.columns)
        check_checkpoint(folder / CHECKPOINT, decisive(settings.for_samples(len(encoded["train"]))), facts)
        state.wait_for_everyone()  # all processes must check the checkpoint before one writes
    with _removed_if_empty(folder, first):
        if folder is not None and first:
            _write_config(folder, config)
            if plan is not None and plan is not budget:
                keep_plan(folder, plan, asked)
        task.fit(encoded["train"], encoded.get("validation"), settings=settings, out=folder, resume=resume)
    measured = {split: task.evaluate(part) for split, part in encoded.items() if split != "train"}
    report = Report(
        task,
        name or (str(data) if isinstance(data, str | Path) else spec.said),
        where,
        settings.seed,
        measured.get("validation", {}),
        measured["test"],
        time.perf_counter() - started,
        published=published or {},
        left_out=sum(len(part.bad) for part in encoded.values()),
        plan=plan,
    )
    if leave_out and isinstance(task.tokenizer, Inputs) and len(task.tokenizer.inputs) > 1:
        shares = shares_missing(task.tokenizer, {split: part.good for split, part in encoded.items()})
        report.inputs, report.measured = measures_of_inputs(task.model, encoded["test"], task.settings, shares)
    if baseline and first:
        learned = encoded["train"]
        if examples["train"] is not whole:
            learned = task.encode(whole, "train", skip_bad=skip_bad_samples)
        report.baselines = baselines(task.tokenizer, task.head, learned.good, encoded["test"].good)
    if folder is not None and first:
        task.metrics = report.rows()
        task.about = _about(name, data, where)
        task.save_pretrained(folder / "task")
        if drawn:
            draw_curves(task.history, task.head.primary_metric, folder / "curves.png")
            if report.inputs:
                report.draw_missing(folder / "missing.png")
        report.write(folder / "metrics.json")
    return report


def _check_folder(folder: Path | None, resume: bool) -> None:
    """Refuse an output folder that holds a run, unless the run is resumed. Raises ValueError."""
    if folder is not None and folder.is_file():
        raise ValueError(f"{folder} is a file; --out names a folder.")
    if folder is not None and folder.exists() and any(folder.iterdir()) and not resume:
        raise ValueError(f"{folder} holds a run already; give another --out, or --resume to go on with it.")


def _plan(
    task: Task,
    examples: dict[str, Examples],
    settings: TrainingSettings,
    budget: float | Plan | None,
    resumed: Path | None,
    skip_bad: bool,
) -> tuple[Plan | None, dict[str, Any]]:
    """Plan that a budget allows, or that the resumed run has; and the budget and settings that it is made for."""
    asked = {"budget": budget, **decisive(settings)}
    if not isinstance(budget, int | float):
        return budget, asked
    plan = None if resumed is None else kept_plan(resumed, asked)
    return plan or plan_for(task, examples, settings, budget, skip_bad), asked


def _retuned(
    start: Task | str | Path, backbone: Backbone, built: Task, adapter_options: Mapping[str, Any], seed: int
) -> Task:
    """Task to start from, in the tier of the task built for the data. Raises ValueError if the two tasks differ."""
    others = {other.fingerprint: other for other in built.model.others}
    trained = start if isinstance(start, Task) else Task.of_record(*read(task_folder(start), backbone, others=others))
    if trained.backbone.fingerprint != backbone.fingerprint:
        specs = [b.spec if b.pretrained else f"{b.spec} at random" for b in (trained.backbone, backbone)]
        raise ValueError(f"The task to start from stands on {specs[0]}, other weights than {specs[1]}.")
    for part in ("tokenizer", "head", "fusion"):
        has = getattr(trained.model, part)
        asked = getattr(built.model, part)
        if asked is None:  # one input, as the tokenizers' names are equal
            continue
        if has.name != asked.name:
            raise ValueError(f"The task to start from has the {part} {has.name}, not {asked.name}.")
        options = {**all_options(has), **has.fitted}
        other = [name for name, value in asked.options.items() if json.dumps(options[name]) != json.dumps(value)]
        if other:
            values = ", ".join(f"{name} {short(options[name])}" for name in other)
            raise ValueError(f"The {part} of the task to start from has {values}; these options cannot be changed.")
    if (trained.inputs, trained.target) != (built.inputs, built.target):
        raise ValueError(
            f"The task to start from reads {', '.join(trained.inputs)} and predicts {trained.target}, not "
            f"{', '.join(built.inputs)} and {built.target}."
        )
    return trained.retune(built.tune, adapter_options, seed)


def _about(name: str, data: Any, where: str) -> dict[str, str]:
    """Facts of the data for the card; cards are published, so only the last part of a path is shown."""
    if not isinstance(data, str | Path):
        return {"data": name, "split": where} if name else {}
    hub = str(data).removeprefix("hf:") if str(data).startswith("hf:") else None
    about = {"data": name or hub or Path(data).name, "split": where}
    return {**about, "dataset": hub} if hub else about


@contextmanager
def _removed_if_empty(folder: Path | None, first: bool) -> Iterator[None]:
    """Remove a new folder if the run in it fails before its first checkpoint and its first epoch."""
    existed = folder is not None and folder.exists()
    new = folder is not None and first and not (existed and any(folder.iterdir()))
    try:
        yield
    except Exception:
        if folder is not None and new and not any((folder / name).exists() for name in WORTH_KEEPING):
            shutil.rmtree(folder, ignore_errors=True)
            if existed:
                folder.mkdir()
        raise


def _write_config(folder: Path, config: dict[str, Any] | None) -> None:
    """Write the options of the run as ``config.yaml``, which ``--config`` reads."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        with written_whole(folder / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False))
