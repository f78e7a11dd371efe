"""Comparison of one task on several backbones and tiers, beside the baselines: does the frozen backbone help?"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from metatx.backbone.base import Backbone, check_backbone
from metatx.data.content_hash import source_content
from metatx.errors import DivergedError
from metatx.evaluation.comparison_report import Comparison, Trial
from metatx.evaluation.report import Report
from metatx.evaluation.run import run
from metatx.evaluation.variants import ALIGNED, VARIANTS, Variant, fusion_variants
from metatx.inputs.through import backbones_by_name
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.settings import TrainingSettings
from metatx.spec import AnySpec, TaskSpec
from metatx.training.checkpoint import RESUMABLE_CHANGES
from metatx.training.history import can_draw
from metatx.training.token_warmup import stem_of

__all__ = ["ALIGNED", "VARIANTS", "Variant", "compare"]

OF_VARIANTS = ("tune", "adapter_options", "seed")  # attributes of a spec that variants and seeds set
OF_FUSION = ("fusion", "fusion_options", "main")  # attributes of a spec with several inputs


def compare(
    data: Any,
    modality: AnySpec,
    *,
    backbone: Backbone,
    seeds: Sequence[int] = (0, 1, 2),
    settings: TrainingSettings | None = None,
    variants: Sequence[Variant] = VARIANTS,
    fusions: Sequence[str] = (),
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
    """Run every variant with every seed, all else equal; the baselines are fitted once, with the first run.

    The variant "no backbone" keeps the backbone's stem, CLS token and norms, and has no blocks. A head that reads
    several layers reads its tokens as many times, so that all variants have the same head. A run whose loss diverges
    is noted, and the others go on.

    With ``fusions``, a task of several inputs is compared with itself: each input alone, each left out (with the first
    fusion), and each fusion, beside it the same on random blocks and on none. The fusion that is best on the validation
    split is marked.

    Args:
        data, modality, name, split_column, validation, test, validation_share: The arguments of ``metatx.run``.
        skip_bad_samples, reading: The arguments of ``metatx.run``.
        backbone: Pretrained backbone.
        seeds: Seeds of each variant, one run each.
        settings: Settings of the training. The seed among them is not used; ``token_warmup_steps`` is used by aligned
            variants only.
        variants: Variants that are compared; if ``token_warmup_steps`` is not 0, ``ALIGNED`` is added.
        fusions: Fusions to compare in the place of ``variants``, by name; options follow a colon each:
            ``"late:product=64"``; ``"all"`` for every one.
        budget: Seconds of training of a run. The first run of each tier times a few steps and plans epochs, at most
            those of ``settings``, and samples; see ``plan_for``. All runs of the tier use this plan. Tiers with slower
            steps train on fewer samples.
        baseline: Fit the trivial and the classical baselines.
        out: Folder for ``comparison.json``, ``.md`` and ``.png``, which are updated after each run. If it holds the
            same comparison already, finished runs are not repeated.
        choices: Attributes of ``TaskSpec`` by name, except ``tune``, ``adapter_options`` and ``seed``.

    Raises:
        TypeError: If a choice is unknown.
        ValueError: If the spec sets ``tune``, ``adapter_options`` or ``seed``; if there are fusions but one input, or
            they have unknown options; if ``out`` holds something else or a comparison with other settings; or as
            ``metatx.run``.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "kind": ["small", "small", "large", "large"] * 8})
        >>> options = {"target": "kind", "seeds": [0], "settings": metatx.TrainingSettings(epochs=1)}
        >>> comparison = metatx.compare(sizes, "tabular", backbone=metatx.load_backbone("nano"), **options)
        >>> [row.name for row in comparison.rows()][:3]
        ['pretrained, frozen', 'random, frozen', 'no backbone']
    """
    check_backbone(backbone)
    if not backbone.pretrained:
        raise ValueError("This backbone has random weights; give a pretrained one, the control is made from it.")
    settings = settings or TrainingSettings()
    spec = _compared(TaskSpec.of(modality, **choices))
    if fusions:
        variants = fusion_variants(spec, fusions, backbone)
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
        "data": name or _source(data) or spec.said,
        **_choices(spec, bool(fusions)),
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
    comparison = _started(json.loads(json.dumps(asked)), folder)
    fused = [variant.name for variant in variants if variant.candidate]
    comparison.fusions = list(dict.fromkeys([*comparison.fusions, *fused]))
    backbones = {variant.name: variant.backbone(backbone) for variant in variants}
    wanted = [(seed, variant) for seed in dict.fromkeys(seeds) for variant in variants]
    steps_of = {variant.name: settings.token_warmup_steps if variant.aligned else 0 for variant in variants}
    left = [pair for pair in wanted if not _is_finished(comparison, pair[1], pair[0], steps_of[pair[1].name])]
    _tell_work(len(wanted), len(left), len(variants), folder)
    for number, (seed, variant) in enumerate(left, len(wanted) - len(left) + 1):
        steps = steps_of[variant.name]
        tell(f"Run {number} of {len(wanted)}: {variant.name}, seed {seed}.")
        try:
            report = run(
                data,
                variant.spec(spec),
                backbone=backbones[variant.name],
                settings=replace(settings, seed=seed, token_warmup_steps=steps),
                budget=comparison.plans.get(variant.plan or variant.tune, budget),
                only=variant.only,
                leave_out=False,
                baseline=baseline and not comparison.baselines and not variant.only,
                reading=reading,
                **options,
            )
        except DivergedError as error:
            comparison.trials.append(
                Trial(
                    variant=variant.name,
                    seed=seed,
                    tune=variant.tune,
                    plan=variant.plan,
                    token_warmup_steps=steps,
                    diverged=str(error),
                )
            )
        else:
            _add(comparison, variant, report, steps)
            if report.plan is not None:
                tell(f"{variant.name}, seed {seed}, was trained for {report.plan}, which its budget allows.")
        if folder is not None:
            comparison.write(folder, drawn)
    return comparison


def _tell_work(wanted: int, left: int, variants: int, folder: Path | None) -> None:
    """Report how many runs a comparison has, and how many of them are finished."""
    seeds = wanted // variants
    said = f"{variants} variant{'s' * (variants > 1)} with {seeds} seed{'s' * (seeds > 1)}"
    done = f"; {wanted - left} of them are in {folder} already, and are not repeated" if left < wanted else ""
    tell(f"{said}: {wanted} runs{done}.")


def _compared(spec: TaskSpec) -> TaskSpec:
    """Return the spec unless it sets what variants and seeds set. Raises ValueError if it does."""
    plain = TaskSpec(modality=spec.modality)
    for name in OF_VARIANTS:
        if getattr(spec, name) != getattr(plain, name):
            raise ValueError(f"{name} is {getattr(spec, name)!r}; in a comparison the variants and seeds set it.")
    return spec


def _choices(spec: TaskSpec, fusions: bool) -> dict[str, Any]:
    """Attributes of a spec that all variants share, as JSON."""
    skipped = OF_VARIANTS if spec.several else (*OF_VARIANTS, *OF_FUSION)
    choices = {key: value for key, value in vars(spec).items() if key not in (*skipped, "others")}
    if spec.others:
        choices["others"] = {name: other.fingerprint for name, other in backbones_by_name(spec.others).items()}
    if spec.several:
        choices["modality"] = [each.as_json() for each in spec.several]
    if fusions:
        del choices["fusion"]
    return choices


def _with_alignment(variants: Sequence[Variant], steps: int, backbone: Backbone) -> Sequence[Variant]:
    """Variants, with ``ALIGNED`` if there are warm-up steps and none of the variants is aligned."""
    aligned = [variant.name for variant in variants if variant.aligned]
    if aligned and not steps:
        raise ValueError(f"{aligned[0]!r} needs a token warm-up; set token_warmup_steps, such as 200.")
    if not steps:
        return variants
    stem_of(backbone)
    return variants if aligned else [*variants, ALIGNED]


def _source(data: Any) -> str:
    """Path or name of the data; empty for data in memory."""
    return str(data) if isinstance(data, str | Path) else ""


def _started(asked: dict[str, Any], folder: Path | None) -> Comparison:
    """Return the comparison in ``folder``, if it has the same settings, or an empty one. Raises ValueError."""
    if folder is None or not folder.exists() or not any(folder.iterdir()):
        return Comparison(asked=asked)
    path = folder / "comparison.json"
    if not path.exists():
        raise ValueError(f"{folder} holds something else than a comparison; give another --out.")
    comparison = Comparison.read(path)
    before = comparison.asked
    before.setdefault("content of the data", asked["content of the data"])  # older comparisons did not note it
    changed = [f"{k} {before.get(k)} -> {asked.get(k)}" for k in {**before, **asked} if before.get(k) != asked.get(k)]
    if changed:
        raise ValueError(f"{path} is of other settings ({', '.join(changed)}); give another --out.")
    return comparison


def _is_finished(comparison: Comparison, variant: Variant, seed: int, steps: int) -> bool:
    for trial in comparison.trials:
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


def _add(comparison: Comparison, variant: Variant, report: Report, steps: int) -> None:
    head = report.task.head
    comparison.primary = head.primary_metric
    comparison.test_split = report.test_split
    if report.plan is not None:
        comparison.plans[variant.plan or variant.tune] = report.plan
    comparison.higher_is_better = bool(head.metrics()[head.primary_metric].higher_is_better)
    comparison.baselines = comparison.baselines or report.baselines
    comparison.trials.append(
        Trial(
            variant=variant.name,
            seed=report.seed,
            tune=variant.tune,
            plan=variant.plan,
            token_warmup_steps=steps,
            validation=report.validation,
            test=report.test,
            parameters=report.task.trainable_parameters,
            seconds=report.seconds,
        )
    )
