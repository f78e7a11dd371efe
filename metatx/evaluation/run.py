"""One run, from data to a saved task with its numbers: what ``metatx train`` and every recipe do."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.adapters.tiers import retuned
from metatx.baselines.described import baselines
from metatx.data.arguments import joined_target, paired_table, target_name
from metatx.data.holdout import with_each_class
from metatx.data.table_files import are_columns, as_dataset, text_columns
from metatx.data.tables import ALL, as_table, read_splits
from metatx.evaluation.budget import Plan, keep_plan, kept_plan, plan_for
from metatx.evaluation.report import Report
from metatx.examples import Examples, Subset
from metatx.files import written_whole
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.registry import all_options, lookup
from metatx.settings import TrainingSettings
from metatx.task import Task
from metatx.training.checkpoint import CHECKPOINT, check_checkpoint, decisive
from metatx.training.distributed import processes
from metatx.training.facts import facts_of
from metatx.training.history import can_draw, draw_curves

if TYPE_CHECKING:
    from metatx.backbone.vit import Backbone
    from metatx.tokenizer import Tokenizer

__all__ = ["run"]

HELD_FOR_TEST = 0.2  # of a table without any split
WORTH_KEEPING = (CHECKPOINT, "history.csv")  # of a run that failed


def run(
    data: Any,
    modality: str,
    *,
    backbone: "Backbone",
    settings: TrainingSettings | None = None,
    name: str = "",
    target: str | None = None,
    inputs: Sequence[str] | None = None,
    split_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    validation_share: float = 0.1,
    head: str | None = None,
    tokenizer_options: dict[str, Any] | None = None,
    head_options: dict[str, Any] | None = None,
    tune: str = "frozen",
    adapter_options: dict[str, Any] | None = None,
    start: Task | str | Path | None = None,
    published: dict[str, dict[str, float]] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    baseline: bool = True,
    skip_bad_samples: bool = False,
    budget: float | Plan | None = None,
    reading: Reading | None = None,
    config: dict[str, Any] | None = None,
) -> Report:
    """Fit, evaluate, set beside the baselines, save. Of several processes, the first does the last two for all.

    Args:
        data: As ``metatx.data.tables.read_splits``; or a dict of split to such.
        modality: Name of the tokenizer.
        backbone: What ``load_backbone`` gave.
        settings: Of the training.
        name: Of the data, in the report; its path where there is none.
        target, inputs, head, tokenizer_options, head_options, tune, adapter_options: As ``Task.from_data``.
        start: A trained, frozen task of this kind, or its folder: training goes on from its tokenizer and head, with
            its statistics and classes, see ``retuned``.
        split_column: Column that says train, validation or test.
        validation, test: Data of these splits, where ``data`` has none.
        validation_share: Of the training split, held out where there is no validation split; 0 trains on all of it
            and keeps the last weights.
        published: Results of others for the table: name to metrics.
        out: Folder for ``task/``, ``metrics.json``, ``history.csv``, ``curves.png``; None writes nothing.
        resume: Go on from the checkpoint in ``out``.
        baseline: Whether to fit the two baselines.
        skip_bad_samples: Leave out samples that cannot be used, not stop.
        budget: Seconds of training, by which epochs and samples are chosen, see ``plan_for``; or what was chosen for
            another run. Statistics and baselines are of the whole training split all the same.
        reading: How csv files are written, where that is detected wrong.
        config: What was asked for, in the caller's words; written as ``config.yaml``.

    Raises:
        ValueError: If ``out`` holds a run already and ``resume`` is off, ``start`` is another kind of task, or as
            ``Task.from_data`` and ``Task.fit``.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "kind": ["small", "small", "large", "large"] * 8})
        >>> options = {"target": "kind", "settings": metatx.TrainingSettings(epochs=10, lr=1e-2)}
        >>> report = metatx.run(sizes, "tabular", backbone=metatx.load_backbone("nano"), **options)
        >>> report.test["accuracy"]
        1.0
    """
    settings, target = settings or TrainingSettings(), target_name(target)
    folder = None if out is None else Path(out)
    if folder is not None and folder.is_file():
        raise ValueError(f"{folder} is a file; --out names a folder.")
    if folder is not None and folder.exists() and any(folder.iterdir()) and not resume:
        raise ValueError(f"{folder} holds a run already; give another --out, or --resume to go on with it.")
    state = processes()
    state.wait_for_everyone()  # all have looked before one writes
    first = state.is_main_process
    drawn = folder is not None and first and can_draw("curves.png")
    splits = _splits(data, lookup("tokenizers", modality), split_column, validation, test, target, reading)
    task = Task.build(
        backbone,
        modality,
        splits.get("train", splits.get(ALL)),
        target=target,
        inputs=inputs,
        head=head,
        tokenizer_options=tokenizer_options,
        head_options=head_options,
        tune=tune,
        adapter_options=adapter_options,
        seed=settings.seed,
    )
    task.reading = reading or task.reading
    source = str(data) if isinstance(data, str | Path) else "the data"
    given = {split for split, extra in (("validation", validation), ("test", test)) if extra is not None}
    splits = _measurable(splits, task.target, given, source)
    where = "test split" if "test" in splits else f"test: {HELD_FOR_TEST:.0%} held out"
    examples = _examples(splits, task, validation_share, settings.seed, source)
    started = time.perf_counter()
    if start is None:
        task.learn(examples["train"], settings.seed, skip_bad_samples)
    else:
        task = _begun(start, backbone, task, adapter_options, settings.seed)
    task.settings = settings
    asked = {"budget": budget, **decisive(settings)}
    plan = budget if isinstance(budget, Plan) else None
    if isinstance(budget, int | float):
        plan = kept_plan(folder, asked) if resume and folder is not None else None
        plan = plan or plan_for(task, examples, settings, budget, skip_bad_samples)
    whole = examples["train"]
    if plan is not None:
        settings = task.settings = replace(settings.for_samples(len(whole)), epochs=plan.epochs)
        examples = plan.cut(examples, settings.seed)
    encoded = {
        split: task.encode(part, split, augment=split == "train", skip_bad=skip_bad_samples)
        for split, part in examples.items()
    }
    if folder is not None and resume:
        facts = facts_of(task, encoded["train"], encoded.get("validation"))
        check_checkpoint(folder / CHECKPOINT, decisive(settings.for_samples(len(encoded["train"]))), facts)
        state.wait_for_everyone()  # all have looked before one writes
    with _gone_if_empty(folder, first):
        if folder is not None and first:
            _write_config(folder, config)
            if plan is not None and plan is not budget:
                keep_plan(folder, plan, asked)
        task.fit(encoded["train"], encoded.get("validation"), out=folder, resume=resume, **vars(settings))
    measured = {split: task.evaluate(part) for split, part in encoded.items() if split != "train"}
    report = Report(
        task,
        name or (str(data) if isinstance(data, str | Path) else modality),
        where,
        settings.seed,
        measured.get("validation", {}),
        measured["test"],
        time.perf_counter() - started,
        published=published or {},
        left_out=sum(len(part.bad) for part in encoded.values()),
        plan=plan,
    )
    if baseline and first:
        cut = examples["train"] is not whole
        known = task.encode(whole, "train", skip_bad=skip_bad_samples) if cut else encoded["train"]
        report.baselines = baselines(task.tokenizer, task.head, known.good, encoded["test"].good)
    if folder is not None and first:
        task.metrics, task.about = report.rows(), _about(name, data, where)
        task.save_pretrained(folder / "task")
        if drawn:
            draw_curves(task.history, task.head.primary_metric, folder / "curves.png")
        report.write(folder / "metrics.json")
    return report


def _begun(
    start: Task | str | Path, backbone: "Backbone", built: Task, adapter_options: dict[str, Any] | None, seed: int
) -> Task:
    """The task to start from, tuned as the one that was built for the data, if that has the same parts."""
    known = start if isinstance(start, Task) else Task.from_pretrained(start, backbone=backbone)
    if known.backbone.fingerprint != backbone.fingerprint:
        stands, asked_for = (b.spec if b.pretrained else f"{b.spec} at random" for b in (known.backbone, backbone))
        raise ValueError(f"The task to start from stands on {stands}, other weights than {asked_for}.")
    for part in ("tokenizer", "head"):
        has, asked = getattr(known, part), getattr(built, part)
        if has.name != asked.name:
            raise ValueError(f"The task to start from has the {part} {has.name}, not {asked.name}.")
        options = all_options(has)
        other = [name for name, value in asked.options.items() if json.dumps(options[name]) != json.dumps(value)]
        if other:
            found = ", ".join(f"{name} {json.dumps(options[name]):.40}" for name in other)
            raise ValueError(f"The {part} of the task to start from has {found}; leave that as it is.")
    if (known.inputs, known.target) != (built.inputs, built.target):
        raise ValueError(
            f"The task to start from reads {', '.join(known.inputs)} and predicts {known.target}, not "
            f"{', '.join(built.inputs)} and {built.target}."
        )
    return retuned(known, built.tune, adapter_options, seed)


def _about(name: str, data: Any, where: str) -> dict[str, str]:
    """What the card says of the data. Of a path only its last part, for cards are published."""
    if not isinstance(data, str | Path):
        return {"data": name, "split": where} if name else {}
    hub = str(data).removeprefix("hf:") if str(data).startswith("hf:") else None
    found = {"data": name or hub or Path(data).name, "split": where}
    return {**found, "dataset": hub} if hub else found


def _splits(
    data: Any,
    kind: "type[Tokenizer]",
    split_column: str | None,
    validation: Any,
    test: Any,
    target: str | None,
    reading: Reading | None,
) -> dict[str, Any]:
    """Tables (or pairs of samples and targets) by split, from wherever they were given."""
    from datasets import Dataset

    if isinstance(data, dict) and not are_columns(data):
        pairs = {name: part for name, part in data.items() if isinstance(part, tuple)}
        tables = {name: paired_table(part, kind.takes_row, target or "target") for name, part in pairs.items()}
        splits = data | {name: table[0] for name, table in tables.items() if table is not None}
    else:
        splits = read_splits(data, kind.suffixes, split_column, kind.readers, reading)
    known = splits.get("train", splits.get(ALL))
    reading = (reading or Reading()).also(text_columns(known) if isinstance(known, Dataset) else [])
    for split, extra in {"validation": validation, "test": test}.items():
        if extra is not None:
            splits[split] = as_table(extra, kind.suffixes, split, kind.readers, reading)
    if ALL in splits and ("validation" in splits or "test" in splits):
        splits["train"] = splits.pop(ALL)
    if "train" not in splits and ALL not in splits:
        raise ValueError(f"{data} has no train split; it has {', '.join(splits)}.")
    return {
        name: joined_target(part, target, strict=False) if isinstance(part, Dataset) else part
        for name, part in splits.items()
    }


def _measurable(splits: dict[str, Any], target: str | None, given: set[str], source: str) -> dict[str, Any]:
    """Splits without those that come with the training split and lack its target: nothing can be measured on them."""
    lacking = [
        split
        for split, part in splits.items()
        if split not in ("train", ALL, *given) and target not in (None, *getattr(part, "column_names", (target,)))
    ]
    for split in lacking:
        tell(
            f"{source}: its {split} split has no {target} and is left out; a part of the training split is held out in "
            "its place."
        )
    return {split: part for split, part in splits.items() if split not in lacking}


def _examples(
    splits: dict[str, Any], task: Task, validation_share: float, seed: int, source: str
) -> dict[str, Examples]:
    """All three splits; what is missing is held out of the training split."""
    whole = splits.get("train", splits.get(ALL))
    if not isinstance(whole, Examples):
        whole = Examples(*whole) if isinstance(whole, tuple) else as_dataset(whole)
    rows = {"train": np.arange(len(whole))}
    for split, share in {"test": HELD_FOR_TEST, "validation": validation_share}.items():
        if split not in splits and share:
            if len(rows["train"]) < 2:
                samples = "1 sample" if len(whole) == 1 else f"{len(whole)} samples"
                raise ValueError(
                    f"{source} has {samples}, too few to hold some out; give more, or the {split} split with --{split}."
                )
            kept, held = _hold_out(whole, rows["train"], task, share, seed)
            rows["train"], rows[split] = rows["train"][kept], rows["train"][held]
    examples = {split: task.examples(part, split) for split, part in splits.items() if split not in ("train", ALL)}
    for split, picked in rows.items():
        if len(rows) == 1:
            examples[split] = task.examples(whole, split)
        elif isinstance(whole, Examples):
            examples[split] = whole.select(picked)
        else:
            found = task.examples(whole.select(picked), split)
            # What a head makes of a table need not be its rows, as windows of a series are not.
            examples[split] = replace(found, source=source, rows=picked) if len(found) == len(picked) else found
    return examples


def _hold_out(whole: Any, rows: np.ndarray, task: Task, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``rows`` stay and which are held out, as positions in them."""
    if not isinstance(whole, Examples):
        return task.head.split(whole.select(rows), task.target, task.tokenizer, share, seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    held = max(1, round(share * len(rows)))
    targets = [] if whole.targets is None else Subset(whole.targets, rows)
    return with_each_class(order[held:], order[:held], targets, task.head.labels)


@contextmanager
def _gone_if_empty(folder: Path | None, first: bool) -> Iterator[None]:
    """A run that fails before its first checkpoint and its first epoch leaves no folder that was not there."""
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
    """Everything needed to run it again, for ``--config``."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        with written_whole(folder / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False))
