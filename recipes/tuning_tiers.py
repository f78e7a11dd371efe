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
from transfer_sets import SETS, chosen

import metatx
from metatx.adapters.tiers import TIERS
from metatx.cli.scripts import command
from metatx.files import written_whole

NAMES = "adult,cifar10_subset,spsw_har,speech_commands_v2_10"
AGAIN = " again"
STAGES = (TIERS[0], f"{TIERS[0]}{AGAIN}", *TIERS[1:])
COLUMNS = ["tier", "score", "parameters trained", "seconds an epoch", "peak memory, MB", "trained for"]


def train(
    name: str,
    stage: str,
    seed: int,
    data: Path,
    backbone: str,
    checkpoint: str | None,
    tokenizer: dict[str, Any],
    precision: Literal["auto", "fp32", "bf16"],
    budget: float,
    out: Path,
) -> None:
    """One run, in ``out``."""
    loaded = metatx.load_backbone(backbone, checkpoint=checkpoint)
    recipe = SETS[name].changed(tokenizer_options=tokenizer, precision=precision, seed=seed)
    report = metatx.run(
        recipe.read(data),
        recipe.spec.modality,
        **recipe.arguments(loaded),
        backbone=loaded,
        settings=recipe.settings,
        tune=stage.removesuffix(AGAIN),
        start=None if stage == STAGES[0] else out.with_name(f"{STAGES[0]}-{seed}") / "task",
        budget=budget,
        baseline=False,
        out=out,
    )
    with written_whole(out / "plan.json") as temporary:
        temporary.write_text(json.dumps({**vars(report.plan), "plan": str(report.plan), "budget": budget}))


def measured(out: Path) -> dict[str, Any]:
    """Numbers that a finished run left in ``out``."""
    metrics, plan = (json.loads((out / name).read_text()) for name in ("metrics.json", "plan.json"))
    return {
        "metric": metrics["primary_metric"],
        "score": metrics["test"][metrics["primary_metric"]],
        "parameters": metrics["trainable_parameters"],
        # Of all samples, where the run saw some of them.
        "seconds": pd.read_csv(out / "history.csv")["seconds"].median() * plan["available"] / plan["samples"],
        "memory": metrics["peak_memory_mb"],
        "plan": plan["plan"],
    }


def row(stage: str, runs: list[dict[str, Any]]) -> str:
    """One line of the table: the mean over the seeds and their standard deviation, medians of what it cost."""
    scores = [run["score"] for run in runs]
    spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    seconds, memory = (statistics.median(run[key] for run in runs) for key in ("seconds", "memory"))
    cells = [stage, f"{statistics.mean(scores):.4f}{spread}", f"{runs[0]['parameters']:,}"]
    return f"| {' | '.join([*cells, f'{seconds:.1f}', f'{memory:,.0f}', runs[0]['plan']])} |"


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
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, _, source in chosen(only, data):
        changed = (tokenizer or {}).get(name, {})
        for seed in seeds:
            for stage in STAGES:
                place = folder / name / f"{stage.replace(' ', '_')}-{seed}"
                if not (place / "plan.json").exists():
                    shutil.rmtree(place, ignore_errors=True)  # a run that was killed
                    # Memory is that of a process, the most it ever had: so each run has its own.
                    job = (name, stage, seed, source, backbone, checkpoint, changed, precision, budget, place)
                    process = multiprocessing.get_context("spawn").Process(target=train, args=job)
                    process.start()
                    process.join()
                    if process.exitcode:
                        raise RuntimeError(f"The run in {place} failed; its error stands above.")
                found.setdefault(name, {}).setdefault(stage, []).append(measured(place))
        lines = [f"Backbone {backbone}, seeds {', '.join(map(str, seeds))}, {budget:g} s of training a run."]
        for done, tiers in found.items():
            metric = next(iter(tiers.values()))[0]["metric"]
            lines += ["", f"**{SETS[done].name}**, {metric}", "", f"| {' | '.join(COLUMNS)} |", "|---" * 6 + "|"]
            lines += [row(stage, runs) for stage, runs in tiers.items()]
        print("\n".join(lines), flush=True)
        with written_whole(folder / "tiers.md") as temporary:
            temporary.write_text("\n".join(lines) + "\n")
    return found


if __name__ == "__main__":
    command(main)
