"""Does the frozen backbone help? On every data set at hand: it, random weights in its shape, no backbone, baselines.

    python recipes/transfer_report.py --budget 30 --out runs/transfer
    python recipes/transfer_report.py --only esol,japanese_vowels --backbone timm:vit_tiny_patch16_224 --checkpoint FILE

Data lie below the folder that METATX_DATA names; what is not there is left out. Variants of a data set share tokenizer,
head, seeds and budget, seconds of training of a run, which chooses epochs and samples: the same for all frozen ones,
fewer where more is tuned. In ``--out`` each data set has the folder of ``metatx compare``, beside ``transfer.md`` and
``transfer.png``. Run again, it goes on there.
"""

from pathlib import Path

from matplotlib.figure import Figure
from transfer_sets import chosen

import metatx
from metatx.cli.scripts import command
from metatx.evaluation.comparison_report import ROLES, Comparison, shown
from metatx.files import written_whole

BASE = "random, frozen"


def table(found: dict[str, Comparison]) -> str:
    """One row a data set, one column a variant or a kind of baseline."""
    variants = list(dict.fromkeys(row.name for comparison in found.values() for row in comparison.rows()))
    head = ["data", "metric", *variants, *ROLES, "trained for"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, comparison in found.items():
        rows = {row.name: str(row) for row in comparison.rows()}
        best = [comparison.baselines.get(role) for role in ROLES]
        cells = [
            f"[{comparison.asked['data']}]({name}/comparison.md)",
            f"{comparison.primary} {'↑' if comparison.higher_is_better else '↓'}",
            *(rows.get(variant, "") for variant in variants),
            *(shown(next(iter(some.values())).get(comparison.primary, float("nan"))) if some else "" for some in best),
            "; ".join(f"{tune}: {plan}" for tune, plan in comparison.plans.items())
            or f"{comparison.asked['epochs']} epochs",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def gains(comparison: Comparison) -> dict[str, tuple[float, float]]:
    """Error with random weights that goes, in percent, and its spread over the seeds, by variant.

    The error is the metric itself where lower is better, else what it lacks to 1.
    """
    rows = {row.name: row for row in comparison.rows()}
    error = {name: 1 - row.mean if comparison.higher_is_better else row.mean for name, row in rows.items()}
    base = error.pop(BASE, 0.0)
    gain = {name: (100 * (1 - value / base), 100 * rows[name].spread / base) for name, value in error.items() if base}
    return {name: pair for name, pair in gain.items() if pair[0] == pair[0]}  # not those that diverged


def plot(found: dict[str, Comparison], path: Path) -> None:
    """Gains over random weights, sorted by that of the first variant."""
    known = {comparison.asked["data"]: gain for comparison in found.values() if (gain := gains(comparison))}
    known = dict(sorted(known.items(), key=lambda item: -next(iter(item[1].values()))[0]))
    variants = list(dict.fromkeys(name for values in known.values() for name in values))
    figure = Figure(figsize=(8, 1.8 + 0.4 * len(known)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.3", linewidth=1)
    for number, variant in enumerate(variants):
        shift = 0.3 * (number / max(1, len(variants) - 1) - 0.5)
        points = [(*values[variant], place + shift) for place, values in enumerate(known.values()) if variant in values]
        values, spreads, places = zip(*points, strict=True)
        axes.errorbar(values, places, xerr=spreads, fmt="Dosv^"[number % 5], capsize=3, label=variant)
    axes.set_yticks(range(len(known)), list(known))
    axes.set_ylim(len(known) - 0.5, -0.5)
    axes.set_xlabel("error removed, in % of the error with random frozen weights (right of 0 is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def main(
    *,
    data: str | None = None,
    only: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    budget: float | None = 30.0,
    out: str = "runs/transfer",
) -> dict[str, Comparison]:
    """Compare on every data set, and show all in one table and one figure.

    Args:
        data: Folder of the data sets; by default the one that METATX_DATA names.
        only: Names of data sets, separated by commas; all by default.
        backbone: Name of a pretrained backbone.
        checkpoint: File with the backbone's weights.
        seeds: One run each, of each variant.
        budget: Seconds of training of a run; null for each data set's own number of epochs.
        out: Folder for all results; those already in it are not made again.
    """
    folder = Path(out)
    loaded = metatx.load_backbone(backbone, checkpoint=checkpoint)
    found = {}
    for name, recipe, place in chosen(only, data):
        found[name] = metatx.compare(
            recipe.read(place),
            recipe.spec.modality,
            **recipe.arguments(loaded),
            backbone=loaded,
            settings=recipe.settings,
            seeds=seeds,
            budget=budget,
            out=folder / name,
        )
        print(found[name], flush=True)
        how = f"{'' if budget is None else f'budget {budget:g} s of training a run, '}mean ± standard deviation"
        title = f"Backbone {loaded.spec}, seeds {', '.join(map(str, seeds))}; {how}."
        with written_whole(folder / "transfer.md") as temporary:
            temporary.write_text(f"{title}\n\n{table(found)}")
        plot(found, folder / "transfer.png")
    return found


if __name__ == "__main__":
    command(main)
