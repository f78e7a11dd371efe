"""Does the frozen backbone help? The same task with several backbones, beside the baselines."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from metatx.backbone.base import Backbone
from metatx.data.content_hash import source_content
from metatx.errors import DivergedError
from metatx.evaluation.comparison_report import Comparison, Trial
from metatx.evaluation.report import Report
from metatx.evaluation.run import run
from metatx.reading.csv_tables import Reading
from metatx.settings import TrainingSettings
from metatx.spec import TaskSpec
from metatx.training.checkpoint import RESUMABLE_CHANGES
from metatx.training.history import can_draw
from metatx.training.token_warmup import stem_of

__all__ = ["ALIGNED", "VARIANTS", "Variant", "compare"]


@dataclass(frozen=True)
class Variant:
    """One way to use a backbone.

    Attributes:
        name: In the table.
        backbone: What is made of the backbone that is compared.
        tune: What of it is trained, as ``Task.from_data``.
        aligned: Whether tokens are aligned first, by ``token_warmup_steps`` of the settings.
    """

    name: str
    backbone: Callable[[Backbone], Backbone]
    tune: str = "frozen"
    aligned: bool = False


def _as_it_is(backbone: Backbone) -> Backbone:
    return backbone


def _random(backbone: Backbone) -> Backbone:
    return backbone.randomised()


VARIANTS = (
    Variant("pretrained, frozen", _as_it_is),
    Variant("random, frozen", _random),
    Variant("no backbone", Backbone.without_blocks),
    Variant("LayerNorm tuned", _as_it_is, tune="norm"),
    Variant("LoRA", _as_it_is, tune="lora"),
)
OF_VARIANTS = ("tune", "adapter_options", "seed")  # choices of a spec that variants and seeds make
ALIGNED = Variant("aligned first", _as_it_is, aligned=True)


def compare(
    data: Any,
    modality: str | TaskSpec,
    *,
    backbone: Backbone,
    seeds: Sequence[int] = (0, 1, 2),
    settings: TrainingSettings | None = None,
    variants: Sequence[Variant] = VARIANTS,
    budget: float | None = None,
    name: str = "",
    split_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    validation_share: float = 0.1,
    baseline: bool = True,
    skip_bad_samples: bool = False,
    reading: Reading | None = None,
    out: str | Path | None = None,
    **choices: Any,
) -> Comparison:
    """Run every variant with every seed, all else equal; the baselines once, with the first run.

    "No backbone" keeps the tokenizer with the backbone's stem, its CLS token and its norms, and has no block. A head
    that reads several layers reads the tokens as often, so heads are the same throughout.
    A run whose loss diverges is noted, and the others go on.

    Args:
        data, spec, name, split_column, validation, test, validation_share: As of ``metatx.run``.
        skip_bad_samples, reading: Likewise.
        backbone: A pretrained backbone.
        seeds: Seeds of the runs, one each, of each variant.
        settings: Settings of the training; the seed among them is not used, ``token_warmup_steps`` only where a variant
            is aligned.
        variants: Ways to use the backbone that are compared; where ``token_warmup_steps`` is not 0, ``ALIGNED`` too.
        budget: Seconds of training. The first run of each kind of tuning measures a few steps and chooses how many
            epochs, at most those of ``settings``, of how many samples fit; all that tune alike then train on so many,
            those that tune more, whose steps are slower, on fewer. See ``plan_for``.
        baseline: Whether to fit the two baselines.
        out: Folder for ``comparison.json``, ``.md`` and ``.png``, brought up to date after each run. Where it holds
            the same comparison already, finished runs are not run again.
        choices: Attributes of ``TaskSpec`` by name, but for ``tune``, ``adapter_options`` and ``seed``.

    Raises:
        TypeError: If a choice is unknown.
        ValueError: If the spec says what variants and seeds do; if ``out`` holds something else, or a comparison with
            other settings; or as ``metatx.run``.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "kind": ["small", "small", "large", "large"] * 8})
        >>> options = {"target": "kind", "seeds": [0], "settings": metatx.TrainingSettings(epochs=1)}
        >>> comparison = metatx.compare(sizes, "tabular", backbone=metatx.load_backbone("nano"), **options)
        >>> [row.name for row in comparison.rows()][:3]
        ['pretrained, frozen', 'random, frozen', 'no backbone']
    """
    if not backbone.pretrained:
        raise ValueError("This backbone has random weights; give a pretrained one, the control is made of it.")
    settings = settings or TrainingSettings()
    spec = _compared(TaskSpec.of(modality, **choices))
    variants = _with_alignment(variants, settings.token_warmup_steps, backbone)
    folder = None if out is None else Path(out)
    drawn = folder is not None and can_draw("comparison.png")
    options: dict[str, Any] = {
        "name": name,
        "split_column": split_column,
        "validation": validation,
        "test": test,
        "validation_share": validation_share,
        "skip_bad_samples": skip_bad_samples,
    }
    asked = {
        "data": name or _source(data) or spec.modality,
        **{key: value for key, value in vars(spec).items() if key not in OF_VARIANTS},
        "backbone": backbone.spec,
        "fingerprint": backbone.fingerprint,
        **{key: value for key, value in options.items() if key != "name"},
        "validation": _source(validation),
        "test": _source(test),
        "budget": budget,
        "reading": asdict(reading) if reading else None,
        "content of the data": [source_content(part)[:12] for part in (data, validation, test)],
        **{
            key: value
            for key, value in vars(settings).items()
            if key not in (*RESUMABLE_CHANGES, "seed", "token_warmup_steps")
        },
    }
    found = _started(json.loads(json.dumps(asked)), folder)
    backbones = {variant.name: variant.backbone(backbone) for variant in variants}
    for seed in seeds:
        for variant in variants:
            steps = settings.token_warmup_steps if variant.aligned else 0
            if _is_finished(found, variant, seed, steps):
                continue
            try:
                report = run(
                    data,
                    replace(spec, tune=variant.tune),
                    backbone=backbones[variant.name],
                    settings=replace(settings, seed=seed, token_warmup_steps=steps),
                    budget=found.plans.get(variant.tune, budget),
                    baseline=baseline and not found.baselines,
                    reading=reading,
                    **options,
                )
            except DivergedError as error:
                found.trials.append(
                    Trial(
                        variant=variant.name,
                        seed=seed,
                        tune=variant.tune,
                        token_warmup_steps=steps,
                        diverged=str(error),
                    )
                )
            else:
                _add(found, variant, report, steps)
            if folder is not None:
                found.write(folder, drawn)
    return found


def _compared(spec: TaskSpec) -> TaskSpec:
    """The spec, if it leaves to the variants and seeds what they say. Raises ValueError."""
    plain = TaskSpec(modality=spec.modality)
    for name in OF_VARIANTS:
        if getattr(spec, name) != getattr(plain, name):
            raise ValueError(f"{name} is {getattr(spec, name)!r}; in a comparison variants and seeds say that.")
    return spec


def _with_alignment(variants: Sequence[Variant], steps: int, backbone: Backbone) -> Sequence[Variant]:
    """The variants, with ``ALIGNED`` where there are steps to align in and none is aligned."""
    aligned = [variant.name for variant in variants if variant.aligned]
    if aligned and not steps:
        raise ValueError(f"{aligned[0]!r} needs steps to align in; set token_warmup_steps, such as 200.")
    if not steps:
        return variants
    stem_of(backbone)
    return variants if aligned else [*variants, ALIGNED]


def _source(data: Any) -> str:
    """Its place; empty for what lies in memory."""
    return str(data) if isinstance(data, str | Path) else ""


def _started(asked: dict[str, Any], folder: Path | None) -> Comparison:
    """An empty comparison, or the one in ``folder``, if it is of the same things."""
    if folder is None or not folder.exists() or not any(folder.iterdir()):
        return Comparison(asked=asked)
    path = folder / "comparison.json"
    if not path.exists():
        raise ValueError(f"{folder} holds something else than a comparison; give another --out.")
    found = Comparison.read(path)
    found.asked.setdefault("content of the data", asked["content of the data"])  # older ones did not note it
    keys = {**found.asked, **asked}
    changed = [f"{k} {found.asked.get(k)} -> {asked.get(k)}" for k in keys if found.asked.get(k) != asked.get(k)]
    if changed:
        raise ValueError(f"{path} is of other settings ({', '.join(changed)}); give another --out.")
    return found


def _is_finished(found: Comparison, variant: Variant, seed: int, steps: int) -> bool:
    for trial in found.trials:
        if (trial.variant, trial.seed) == (variant.name, seed):
            if trial.tune != variant.tune:
                raise ValueError(
                    f"{variant.name!r} was run with tune {trial.tune}, not {variant.tune}; give another --out."
                )
            if trial.token_warmup_steps != steps:
                raise ValueError(
                    f"{variant.name!r} was run with token_warmup_steps {trial.token_warmup_steps}, not {steps}; "
                    "give another --out."
                )
            return True
    return False


def _add(found: Comparison, variant: Variant, report: Report, steps: int) -> None:
    head = report.task.head
    found.primary, found.test_split = head.primary_metric, report.test_split
    if report.plan is not None:
        found.plans[variant.tune] = report.plan
    found.higher_is_better = bool(head.metrics()[head.primary_metric].higher_is_better)
    found.baselines = found.baselines or report.baselines
    found.trials.append(
        Trial(
            variant=variant.name,
            seed=report.seed,
            tune=variant.tune,
            token_warmup_steps=steps,
            validation=report.validation,
            test=report.test,
            parameters=report.task.trainable_parameters,
            seconds=report.seconds,
        )
    )
