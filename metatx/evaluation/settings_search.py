"""Search for better settings of a task on the validation split, within a given time."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.backbone.base import Backbone, check_backbone
from metatx.data.arguments import target_name
from metatx.data.content_hash import source_content
from metatx.encoding.trainable import check_trains
from metatx.errors import DivergedError
from metatx.evaluation.budget import Plan, plan_for
from metatx.evaluation.search_report import FINISHED, Search, TrialRow
from metatx.evaluation.search_space import Options, Space, applied
from metatx.evaluation.splits import Parts, settled_parts, source_of, task_of
from metatx.examples import Examples
from metatx.progress import tell, told_as
from metatx.reading.csv_tables import Reading
from metatx.settings import TrainingSettings
from metatx.spec import AnySpec, TaskSpec
from metatx.task import Task
from metatx.training.checkpoint import decisive
from metatx.training.distributed import processes
from metatx.training.facts import differences

if TYPE_CHECKING:
    import optuna

__all__ = ["search_settings"]

JOURNAL = "trials.journal"
TRIALS = 8  # trials that the time should hold at least; where it does not, all train on fewer epochs and samples
WARM_UP = 0.25  # share of the epochs of a trial in which it is not pruned
COMPARED = 4  # trials that end before one is pruned, and before what they gave decides what is tried


class Watch:
    """Callback of a trial's training, which ends it when the median of the others is better, or the time is over.

    Args:
        trial: Trial of optuna; None only watches.
        metric: Name of the validation metric in the history.
        sign: 1 where a higher metric is better, else -1.
        deadline: Moment of ``time.monotonic`` at which the time is over.
    """

    def __init__(self, trial: "optuna.Trial | None", metric: str, sign: int, deadline: float) -> None:
        self.trial = trial
        self.metric = metric
        self.sign = sign
        self.deadline = deadline
        self.epochs = 0
        self.ended = ""

    def on_log(self, settings: Any, state: Any, control: Any, logs: Mapping[str, float]) -> None:
        """Note an epoch; end the training if it is no use."""
        self.epochs += 1
        value = logs[self.metric]
        if self.trial is None or self.epochs == state.num_train_epochs:
            return
        if math.isfinite(value):
            self.trial.report(value * self.sign, self.epochs)
        if self.epochs > WARM_UP * state.num_train_epochs and self.trial.should_prune():
            self.ended = f"pruned after epoch {self.epochs}"
        elif time.monotonic() > self.deadline:
            self.ended = f"out of time after epoch {self.epochs}"
        control.should_training_stop = control.should_training_stop or bool(self.ended)


class Searching:
    """One search: the data, which are read once, and the trials.

    Args:
        parts: Data by split, as ``settled_parts`` gives them.
        spec, settings: The default.
        backbone: Backbone of all trials.
        options: Arguments of ``task_of``.
        skip_bad: Leave out samples that cannot be used.
    """

    def __init__(
        self,
        parts: Parts,
        spec: TaskSpec,
        settings: TrainingSettings,
        backbone: Backbone,
        options: Mapping[str, Any],
        skip_bad: bool,
    ) -> None:
        self.parts = parts
        self.spec = spec
        self.settings = settings
        self.backbone = backbone
        self.options = options
        self.skip_bad = skip_bad

    def learned(self, spec: TaskSpec) -> tuple[Task, dict[str, Examples]]:
        """Task that has learned from the training split, and its examples; the test split is not among them."""
        task, examples, _ = task_of(self.parts, spec, self.backbone, seed=self.settings.seed, **self.options)
        task.model.learn(examples["train"], spec.seed or 0, self.skip_bad)
        return task, {split: part for split, part in examples.items() if split != "test"}

    def started(self, study: "optuna.Study", name: str, tiers: Sequence[str], seconds: float) -> Search:
        """Search with the trials and the plan of a study; a new plan lets one trial take a part of ``seconds``."""
        task, examples = self.learned(self.spec)
        space = Space.of(task, self.spec, self.settings, tiers)
        rows = _rows(study)
        if not rows:
            plan = plan_for(task, examples, self.settings, seconds / TRIALS, self.skip_bad)
            study.set_user_attr("plan", asdict(plan))
        metric = self.settings.metric or task.head.primary_metric
        return Search(
            data=name,
            metric=metric,
            higher_is_better=metric != "loss" and bool(task.head.metrics()[metric].higher_is_better),
            backbone=self.backbone.spec,
            seed=self.settings.seed,
            trials=rows,
            default=space.default,
            choices=space.choices,
            plan=Plan(**study.user_attrs["plan"]),
        )

    def measured(self, values: Options, watch: Watch, search: Search) -> dict[str, float]:
        """Train with the values of a trial; return the metrics on the validation split, none if it was ended."""
        spec, settings = applied(values, self.spec, self.settings)
        task, examples = self.learned(spec)
        settings = replace(settings.for_samples(len(examples["train"])), epochs=search.plan.epochs)
        encoded = {
            split: task.encode(part, split, augment=split == "train", skip_bad=self.skip_bad, cache=settings.cache)
            for split, part in search.plan.cut(examples, settings.seed).items()
        }
        task.fit(encoded["train"], encoded["validation"], settings=settings, callbacks=[watch])
        return {} if watch.ended else task.evaluate(encoded["validation"])


def search_settings(
    data: Any,
    modality: AnySpec,
    *,
    backbone: Backbone,
    settings: TrainingSettings | None = None,
    seconds: float = 600.0,
    trials: int | None = None,
    tiers: Sequence[str] = (),
    name: str = "",
    split_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    validation_share: float = 0.1,
    skip_bad_samples: bool = False,
    reading: Reading | None = None,
    out: str | Path | None = None,
    **choices: Any,
) -> Search:
    """Try settings of a task, and rank them by the metric on the validation split; the test split is not read.

    The first trial is the default, which is trained to its end in any case. Its rivals are chosen by a tree-structured
    Parzen estimator (Bergstra et al. 2011), and ended early where the median of the others is better at the same epoch.
    Learning rate, weight decay, tier and the options that head and tokenizers declare as ``tunable`` are tried; an
    option that the spec gives stays as it is. Where the time would not hold a few trials, all are trained on fewer
    epochs and samples, see ``metatx.evaluation.budget.plan_for``.

    Args:
        data, modality, name, split_column, validation, test, validation_share: The arguments of ``metatx.run``.
        backbone, skip_bad_samples, reading: The arguments of ``metatx.run``.
        settings: Settings of the training, the default.
        seconds: Seconds of all trials together, those of former calls with the same ``out`` too.
        trials: Largest number of trials; by default the time alone decides.
        tiers: Tiers of tuning to try beside that of the spec.
        out: Folder of ``trials.journal``, from which a call with the same arguments goes on, and ``trials.csv``.
        choices: Attributes of ``TaskSpec`` by name, as in ``Task.from_data``.

    Raises:
        ImportError: If optuna is missing.
        ValueError: If ``out`` holds something else or a search with other settings, there are several processes, the
            default cannot be trained, or as ``metatx.run``.
    """
    check_backbone(backbone)
    if not seconds > 0 or (trials is not None and trials < 1):
        raise ValueError(f"seconds is {seconds:g} and trials is {trials}; both must be more than 0.")
    if processes().num_processes > 1:
        raise ValueError("A search runs in one process; start it without accelerate launch or torchrun.")
    settings = settings or TrainingSettings()
    spec = TaskSpec.of(modality, **choices)
    spec = replace(spec, target=target_name(spec.target), seed=settings.seed if spec.seed is None else spec.seed)
    if backbone.writes:
        check_trains(spec)
    extra = {"validation": validation, "test": test}
    asked = {
        "data": name or source_of(data),
        "content of the data": [source_content(part)[:12] for part in (data, validation)],
        "task": {key: repr(value) for key, value in vars(spec).items() if key != "others"},
        "backbone": backbone.fingerprint,
        "tiers": list(tiers),
        "split_column": split_column,
        "validation_share": validation_share,
        "reading": asdict(reading) if reading else None,
        **decisive(settings),
    }
    study = _study(None if out is None else Path(out), json.loads(json.dumps(asked)))
    spec, parts = settled_parts(data, spec, split_column=split_column, reading=reading, **extra)
    options = {
        "given": {split for split, part in extra.items() if part is not None},
        "source": source_of(data),
        "validation_share": validation_share,
        "reading": reading,
    }
    searching = Searching(parts, spec, settings, backbone, options, skip_bad_samples)
    search = searching.started(study, name or source_of(data), tiers, seconds)
    while _is_due(search, seconds, trials):
        row = _tried(searching, study, search, seconds)
        search.trials.append(row)
        tell(f"{row} ({search.seconds:.0f} of {seconds:.0f} s; best: trial {search.best.number})")
        if out is not None:
            search.write(Path(out))
    return search


def _is_due(search: Search, seconds: float, trials: int | None) -> bool:
    """Return True if the default has not been tried, or neither time nor trials are spent."""
    if not search.has_default:
        return True
    return search.seconds < seconds and (trials is None or len(search.trials) < trials)


def _tried(searching: Searching, study: "optuna.Study", search: Search, seconds: float) -> TrialRow:
    """Train one trial and tell the study its result. Raises ValueError if the default fails."""
    from optuna.trial import TrialState

    first = not search.has_default
    space = Space(search.default, search.choices)
    study.sampler = _sampler(searching.settings.seed, len(study.trials))
    if first:
        study.enqueue_trial(space.default, skip_if_exists=False)
    trial = study.ask()
    values = space.suggested(trial)
    if first:
        values = dict(space.default)  # as it was given, and not as a float that went through a logarithm
    started = time.monotonic()
    deadline = started + seconds - search.seconds
    watch = Watch(None if first else trial, f"validation_{search.metric}", search.sign, deadline)
    why = ""
    metrics: dict[str, float] = {}
    try:
        with told_as(lambda line: line if first else None):
            metrics = searching.measured(values, watch, search)
        why = watch.ended
        if metrics and not math.isfinite(metrics[search.metric]):
            raise DivergedError(f"The {search.metric} of the validation split is not defined.")
    except ValueError as error:
        if first:
            study.tell(trial, state=TrialState.FAIL)
            raise
        metrics = {}
        why = f"failed: {error}"
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    row = TrialRow(
        number=len(search.trials),
        state=why or FINISHED,
        value=metrics.get(search.metric),
        loss=metrics.get("loss"),
        epochs=watch.epochs,
        seconds=time.monotonic() - started,
        values=values,
    )
    trial.set_user_attr("row", asdict(row))
    failed = TrialState.FAIL if why.startswith("failed") else TrialState.PRUNED
    if row.value is None:
        study.tell(trial, state=failed)
    else:
        study.tell(trial, row.value * search.sign)
    return row


def _rows(study: "optuna.Study") -> list[TrialRow]:
    """Rows of the trials that ended; those of a search that was killed, and its last trial, have none."""
    return [TrialRow(**trial.user_attrs["row"]) for trial in study.trials if "row" in trial.user_attrs]


def _sampler(seed: int, number: int) -> "optuna.samplers.BaseSampler":
    """Sampler of trial ``number``: its seed depends on the number, so that a search that goes on repeats nothing."""
    import optuna

    return optuna.samplers.TPESampler(n_startup_trials=COMPARED, seed=seed + number)


def _study(folder: Path | None, asked: Options) -> "optuna.Study":
    """Study in a folder, or in memory; trials that were running when it was killed have failed.

    Raises:
        ImportError: If optuna is missing.
        ValueError: If the folder holds something else, or a search with other settings.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ImportError("A search of settings needs optuna: pip install 'metatx[tune]'") from None
    storage = None
    if folder is not None:
        path = folder / JOURNAL
        if folder.exists() and not path.exists() and (folder.is_file() or any(folder.iterdir())):
            raise ValueError(f"{folder} holds something else than a search; give another --out.")
        folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name="metatx",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=COMPARED),
    )
    optuna.logging.set_verbosity(before)
    changed = differences(study.user_attrs["asked"], asked) if _rows(study) else []
    if changed:
        raise ValueError(f"{folder} is of a search with other settings: {'; '.join(changed)}. Give another --out.")
    study.set_user_attr("asked", asked)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study
