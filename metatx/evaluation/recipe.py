"""Recipe: one data set as a task, from its folder to the numbers that others published."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from metatx.backbone.base import Backbone
from metatx.evaluation.compare import compare
from metatx.evaluation.comparison_report import Comparison
from metatx.evaluation.report import Report
from metatx.evaluation.run import run
from metatx.layers.folding import NO_STEM
from metatx.registry import lookup, option_names
from metatx.settings import TrainingSettings
from metatx.spec import TaskSpec
from metatx.training.distributed import processes

__all__ = ["Recipe", "dataset", "keywords", "over_seeds"]

OF_RUNS = ("tune", "adapter_options", "seed")  # choices that runs and comparisons set themselves


def _the_folder(folder: Path) -> Any:
    return folder


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data set and how a task of it is trained.

    Attributes:
        name: Name of the data in reports.
        place: Folder of the data, below the one that METATX_DATA names.
        source: Where the data can be had.
        spec: Choices that make the task. The head's ``layers`` are reduced on a backbone with fewer blocks.
        settings: Settings of the training; the runs' seeds replace the seed among them.
        read: Function from the folder to data, as ``metatx.run`` takes them; by default the folder itself. Its
            keyword-only arguments, which have defaults, are options of the command line.
        seeds: Seeds, one run each.
        split_column: Column that says train, validation or test.
        validation_share: Share of the training split that is held out where there is no validation split.
        group: Column of the training table; the rows that are held out share no value of it with those that stay.
        grid: Rows and columns of patches that images are resized to, whatever the backbone's patch size (it sets the
            tokenizer's option ``image_size``, of several inputs that of all that have it); one number for a square.
        published: Results of others: name to metrics.
        remarks: Function from a report and the data to text that is printed with the report.

    Example:
        >>> settings = metatx.TrainingSettings(epochs=3)
        >>> spec = metatx.TaskSpec(modality="tabular", target="kind")
        >>> recipe = metatx.Recipe(name="Sizes", place="tabular/sizes", source="a friend", spec=spec, settings=settings)
        >>> recipe.changed(lr=1e-3).settings.lr
        0.001
    """

    name: str
    place: str
    source: str
    spec: TaskSpec
    settings: TrainingSettings
    read: Callable[..., Any] = _the_folder
    seeds: tuple[int, ...] = (0, 1, 2)
    split_column: str | None = None
    validation_share: float = 0.1
    group: str | None = None
    grid: tuple[int, int] | int | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    remarks: Callable[[Report, Any], str] | None = None

    def changed(
        self,
        *,
        tokenizer_options: Mapping[str, Any] | None = None,
        head_options: Mapping[str, Any] | None = None,
        fusion_options: Mapping[str, Any] | None = None,
        adapter_options: Mapping[str, Any] | None = None,
        fusion: str | None = None,
        main: str | None = None,
        tune: str | None = None,
        grid: tuple[int, int] | int | None = None,
        **settings: Any,
    ) -> Self:
        """Return the recipe with other options of its parts, another fusion or tier, and other settings, each by name.

        Another fusion has none of the options of the recipe's.

        Raises:
            ValueError: If a setting is unknown, or out of its range.
        """
        same = fusion in (None, self.spec.fusion)
        spec = replace(
            self.spec,
            tokenizer_options=_with(self.spec.tokenizer_options, tokenizer_options or {}),
            head_options={**self.spec.head_options, **(head_options or {})},
            fusion_options={**(self.spec.fusion_options if same else {}), **(fusion_options or {})},
            adapter_options={**self.spec.adapter_options, **(adapter_options or {})},
            fusion=fusion or self.spec.fusion,
            main=main or self.spec.main,
            tune=tune or self.spec.tune,
        )
        changed = TrainingSettings.of(**{**vars(self.settings), **settings})
        return replace(self, spec=spec, settings=changed, grid=self.grid if grid is None else grid)

    def read_with(self, **options: Any) -> Self:
        """Return the recipe with options of its ``read``, each by its name; they stand in the name of the data."""
        shown = [f"{name} {value}" for name, value in options.items()]
        return replace(self, name=", ".join([self.name, *shown]), read=partial(self.read, **options))

    def spec_for(self, backbone: Backbone) -> TaskSpec:
        """Return the choices for one backbone: at most its number of layers, and images of ``grid`` patches."""
        tokenizer_options = dict(self.spec.tokenizer_options)
        head_options = dict(self.spec.head_options)
        if self.grid is not None:
            patch = (NO_STEM if backbone.stem is None else backbone.stem.config).patch_size
            size = patch * self.grid if isinstance(self.grid, int) else [patch * side for side in self.grid]
            sizes: dict[str, Any] = {"image_size": size}
            if self.spec.several:
                owners = {each.name: each.modality for each in self.spec.several if not each.shares}
                kinds = {name: lookup("tokenizers", modality) for name, modality in owners.items()}
                sizes = {name: sizes for name, kind in kinds.items() if "image_size" in option_names(kind)}
            tokenizer_options = _with(tokenizer_options, sizes)
        if "layers" in head_options:
            head_options["layers"] = min(head_options["layers"], backbone.depth)
        return replace(self.spec, tokenizer_options=tokenizer_options, head_options=head_options)

    def load(self, data: str | Path | None = None) -> Any:
        """Return the data, with a share of the groups of the training split as validation split where there is a group.

        Args:
            data: Folder of the data; by default ``place``, below the folder that METATX_DATA names.

        Raises:
            FileNotFoundError: If the data, or a file of them, are not there; says where they can be had.
            ValueError: If they are something else; likewise.
        """
        folder = dataset(data, self.place, self.source)
        try:
            parts = self.read(folder)
        except (OSError, StopIteration) as error:
            raise FileNotFoundError(
                f"{folder} does not hold {self.name} as the recipe reads it ({error or 'a file is missing'}). Get the "
                f"data from {self.source}; the recipe's function read, and its docstring, say how they are laid out."
            ) from None
        except ValueError as error:
            raise ValueError(f"{folder}: {str(error).rstrip('.')}; {self.name} is from {self.source}.") from None
        if self.read is _the_folder and folder.is_dir() and not any(folder.iterdir()):
            raise FileNotFoundError(f"{folder} is empty. Get the data from {self.source}.")
        return parts if self.group is None else _hold_out(parts, self.group, self.validation_share)

    def arguments(self, backbone: Backbone) -> dict[str, Any]:
        """Return the keyword arguments that ``metatx.run`` and ``metatx.compare`` share, for one backbone."""
        return {
            **keywords(self.spec_for(backbone)),
            "name": self.name,
            "split_column": self.split_column,
            "validation_share": 0 if self.group else self.validation_share,
        }

    def run(
        self,
        backbone: Backbone,
        *,
        data: str | Path | None = None,
        seeds: Sequence[int] | None = None,
        budget: float | None = None,
        baseline: bool = True,
        out: str | Path | None = None,
    ) -> list[Report]:
        """Train once a seed and print each report; the baselines are fitted with the first.

        Args:
            backbone: Backbone of the tasks.
            data: Folder of the data; by default ``place``, below the folder that METATX_DATA names.
            seeds: Seeds instead of the recipe's.
            budget: Seconds of training of a run, see ``metatx.run``.
            baseline: Fit the trivial and the classical baselines.
            out: Folder for the runs, ``seed0`` and so on; by default nothing is saved.

        Raises:
            FileNotFoundError: If the data do not exist; says where they can be had.
            ValueError: If ``metatx.run`` raises it.
        """
        chosen = self.seeds if seeds is None else seeds
        parts = self.load(data)

        def train(seed: int) -> Report:
            report = run(
                parts,
                self.spec.modality,
                **self.arguments(backbone),
                tune=self.spec.tune,
                adapter_options=dict(self.spec.adapter_options),
                backbone=backbone,
                settings=replace(self.settings, seed=seed),
                published={name: dict(metrics) for name, metrics in self.published.items()},
                budget=budget,
                baseline=baseline and seed == chosen[0],
                out=None if out is None else Path(out) / f"seed{seed}",
            )
            if self.remarks is not None and processes().is_main_process:
                print(self.remarks(report, parts))
            return report

        return over_seeds(chosen, train)

    def compare(
        self,
        backbone: Backbone,
        fusions: Sequence[str],
        *,
        data: str | Path | None = None,
        seeds: Sequence[int] | None = None,
        budget: float | None = None,
        baseline: bool = True,
        out: str | Path | None = None,
    ) -> Comparison:
        """Compare fusions of the inputs, each input alone and each left out, see ``metatx.compare``.

        Args:
            backbone: Pretrained backbone.
            fusions: Names of fusions, with options after a colon: ``"mid:at=4"``; ``"all"`` for every one.
            data, seeds, budget, baseline, out: The arguments of ``run``.
        """
        return compare(
            self.load(data),
            self.spec.modality,
            **self.arguments(backbone),
            backbone=backbone,
            settings=self.settings,
            seeds=self.seeds if seeds is None else seeds,
            fusions=fusions,
            budget=budget,
            baseline=baseline,
            out=out,
        )


def _with(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with changes; options of an input, which are a dict, are changed one by one."""
    changed = dict(options)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(changed.get(name), Mapping)
        changed[name] = {**changed[name], **value} if both else value
    return changed


def _hold_out(parts: Mapping[str, pd.DataFrame], group: str, share: float) -> dict[str, pd.DataFrame]:
    """Tables by split, with a share of the groups of the training table, drawn with a seed, as validation split."""
    train = parts["train"]
    groups = np.random.default_rng(0).permutation(sorted(set(train[group])))
    is_held = train[group].isin(groups[: round(share * len(groups))])
    return {**parts, "train": train[~is_held], "validation": train[is_held]} if is_held.any() else dict(parts)


def keywords(spec: TaskSpec) -> dict[str, Any]:
    """Return target, inputs, head, fusion and options as keyword arguments of ``Task.from_data`` and ``run``."""
    return {name: value for name, value in vars(spec).items() if name not in ("modality", *OF_RUNS)}


def dataset(given: str | Path | None, place: str, source: str) -> Path:
    """Folder of a data set: the given one, or ``place`` below the folder that METATX_DATA names (default ``data``).

    Raises:
        FileNotFoundError: If the folder does not exist; says where the data can be had.
    """
    path = Path(given) if given is not None else Path(os.environ.get("METATX_DATA", "data")) / place
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Get the data from {source}, and name its folder with --data.")
    return path


def over_seeds(seeds: Sequence[int], train: Callable[[int], Report]) -> list[Report]:
    """Run once a seed and print each report, and at the end mean and standard deviation over the seeds."""
    first = processes().is_main_process
    reports = []
    for seed in seeds:
        reports.append(train(seed))
        if first:
            print(reports[-1], end="\n\n", flush=True)
    if len(reports) > 1 and first:
        names = [name for name in reports[0].test if name != "loss"]
        values = {name: [report.test[name] for report in reports] for name in names}
        line = ", ".join(f"{name} {np.mean(runs):.4f} ± {np.std(runs, ddof=1):.4f}" for name, runs in values.items())
        print(f"{reports[0].data}, {len(seeds)} seeds, {reports[0].task.backbone.spec}: {line}", flush=True)
    return reports
