"""Tuning tiers, measured: score, parameters trained, seconds an epoch and peak memory of frozen, norm, lora and full.

    python recipes/tuning_tiers.py --budget 60 --out runs/tiers
    python recipes/tuning_tiers.py --backbone timm:vit_tiny_patch16_224 --checkpoint FILE --out runs/tiers_vit

Head first (LP-FT, Kumar et al. 2022, arXiv 2202.10054): norm, lora and full start from the tokenizer and head of the
frozen run of their seed, and train for as long again, as does "frozen again", for comparison. Each run has a process of
its own. A tier that is slower makes fewer passes, or sees fewer samples; one that is never better on a validation split
keeps what it started from. Data lie below the folder that METATX_DATA names. Run again, it goes on behind the last
finished run.
"""

import json
import multiprocessing
import shutil
import statistics
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from transfer_sets import chosen

import metatx
from metatx.adapters.tiers import TIERS
from metatx.cli.scripts import command
from metatx.evaluation.budget import Plan
from metatx.evaluation.comparison_report import Row
from metatx.files import written_whole

NAMES = "adult,cifar10_subset,spsw_har,speech_commands_v2_10"
AGAIN = " again"
STAGES = (TIERS[0], f"{TIERS[0]}{AGAIN}", *TIERS[1:])
COLUMNS = "| tier | score | parameters trained | seconds an epoch | peak memory, MB | trained for |"


def train(
    recipe: metatx.Recipe, stage: str, place: Path, backbone: str, checkpoint: str | None, budget: float, out: Path
) -> None:
    """Train one run, in ``out``."""
    loaded = metatx.load_backbone(backbone, checkpoint=checkpoint)
    metatx.run(
        recipe.read(place),
        recipe.spec.modality,
        **recipe.arguments(loaded),
        backbone=loaded,
        settings=recipe.settings,
        tune=stage.removesuffix(AGAIN),
        start=None if stage == STAGES[0] else out.with_name(f"{STAGES[0]}-{recipe.settings.seed}") / "task",
        budget=budget,
        baseline=False,
        out=out,
    )


def measured(out: Path) -> dict[str, Any]:
    """Numbers that a finished run left in ``out``; seconds are those of an epoch of all samples."""
    metrics = json.loads((out / "metrics.json").read_text())
    plan = Plan(**json.loads((out / "plan.json").read_text())["plan"])
    return {
        "metric": metrics["primary_metric"],
        "score": metrics["test"][metrics["primary_metric"]],
        "parameters": metrics["trainable_parameters"],
        "seconds": pd.read_csv(out / "history.csv")["seconds"].median() * plan.available / plan.samples,
        "memory": metrics["peak_memory_mb"],
        "plan": str(plan),
    }


def row(stage: str, runs: list[dict[str, Any]]) -> str:
    """One line of the table: the mean over the seeds and their standard deviation, medians of what it cost."""
    score = Row(name=stage, values=[run["score"] for run in runs])
    seconds, memory = (statistics.median(run[key] for run in runs) for key in ("seconds", "memory"))
    return f"| {stage} | {score} | {runs[0]['parameters']:,} | {seconds:.1f} | {memory:,.0f} | {runs[0]['plan']} |"


def main(
    *,
    data: str | None = None,
    only: str = NAMES,
    backbone: str = "nano",
    checkpoint: str | None = None,
    tokenizer: dict[str, dict[str, Any]] | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    seeds: tuple[int, ...] = (0, 1, 2),
    budget: float = 60.0,
    out: str = "runs/tiers",
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Train each tier on each data set, and show all in one table.

    Args:
        data: Folder of the data sets; by default the one that METATX_DATA names.
        only: Names of data sets, separated by commas.
        backbone: Name of a pretrained backbone.
        checkpoint: File with the backbone's weights.
        tokenizer: Options to change, by data set: ``'{"cifar10_subset": {"image_size": 112}}'``.
        precision: Precision of all runs; "auto" is bf16 where the hardware computes in it.
        seeds: One run each, of each tier.
        budget: Seconds of training of a run.
        out: Folder for all runs and for ``tiers.md``.
    """
    folder = Path(out)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    lines = [f"Backbone {backbone}, seeds {', '.join(map(str, seeds))}, {budget:g} s of training a run."]
    for name, recipe, place in chosen(only, data):
        changed = recipe.changed(tokenizer_options=(tokenizer or {}).get(name), precision=precision)
        runs: dict[str, list[dict[str, Any]]] = {stage: [] for stage in STAGES}
        for seed in seeds:
            for stage, of_stage in runs.items():
                part = folder / name / f"{stage.replace(' ', '_')}-{seed}"
                if not (part / "metrics.json").exists():
                    shutil.rmtree(part, ignore_errors=True)  # a run that was killed
                    # Memory is that of a process, the most it ever had: so each run has its own.
                    job = (changed.changed(seed=seed), stage, place, backbone, checkpoint, budget, part)
                    process = multiprocessing.get_context("spawn").Process(target=train, args=job)
                    process.start()
                    process.join()
                    if process.exitcode:
                        raise RuntimeError(f"The run in {part} failed; its error stands above.")
                of_stage.append(measured(part))
        results[name] = runs
        lines += ["", f"**{recipe.name}**, {runs[STAGES[0]][0]['metric']}", "", COLUMNS, "|---" * 6 + "|"]
        lines += [row(stage, of_stage) for stage, of_stage in runs.items()]
        print("\n".join(lines), flush=True)
        with written_whole(folder / "tiers.md") as temporary:
            temporary.write_text("\n".join(lines) + "\n")
    return results


if __name__ == "__main__":
    command(main)
