"""ShapeNetPart: which part of a thing does each of its points belong to?

    python recipes/point_cloud_shapenetpart.py --data FOLDER --category Chair

The folder as it is published (``shapenetcore_partanno_segmentation_benchmark_v0_normal``), with its splits: text files
of x, y, z, normal and part, ``synsetoffset2category.txt`` and ``train_test_split``. The mean over classes counts all
points together, of one category or of all 50 parts; the published figure is a mean over shapes, and not the same. The
data is not at hand here: a test runs the recipe on a small folder of the same form, and no score of it on ShapeNetPart
is claimed.
"""

from pathlib import Path

import metatx
from metatx.evaluation.recipe import command, dataset, over_seeds
from metatx.evaluation.report import Report
from metatx.examples import Examples
from metatx.reading.point_cloud_sets import Parts, read_shapenet_part

LIST = "synsetoffset2category.txt"


def shapes(folder: Path, category: str | None) -> dict[str, Examples]:
    """Clouds with the part of each point by split, of one category or of all.

    Raises:
        ValueError: If there is no such category.
    """
    splits = {}
    for split, found in read_shapenet_part(folder / LIST).items():
        names = list(found.targets or ())
        if category is not None and category not in names:
            raise ValueError(f"{found.source} names no {category}; it has {', '.join(sorted(set(names)))}.")
        rows = [row for row, name in enumerate(names) if category in (None, name)]
        clouds = type(found.inputs)([found.inputs.paths[row] for row in rows])
        splits[split] = Examples(clouds, Parts(clouds), found.source, rows)
    return splits


def main(
    *,
    data: str | None = None,
    category: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = True,
    tune: str = "frozen",
    seeds: tuple[int, ...] = (0,),
    epochs: int = 20,
    batch_size: int = 16,
    lr: float = 2e-3,
    groups: int = 64,
    neighbours: int = 32,
    layers: int = 4,
    hidden: int = 128,
    baseline: bool = True,
    out: str | None = None,
) -> list[Report]:
    """Train a point cloud tokenizer and a head that labels points.

    Args:
        data: Folder with synsetoffset2category.txt.
        category: One kind of thing; all by default.
        backbone: What reads the clouds.
        checkpoint: File with the backbone's weights.
        pretrained: False for random weights in the same shape.
        tune: What of the backbone is trained too: frozen (nothing), norm, lora or full.
        seeds: One run each.
        epochs: Passes over the training split.
        batch_size: Clouds of a step.
        lr: Peak learning rate.
        groups: Neighbourhoods that become tokens.
        neighbours: Points of each.
        layers: Of the backbone, that the head reads.
        hidden: Width of the head's layers between.
        baseline: Whether to fit the baselines too.
        out: Folder for the tasks, one a seed; none are kept without it.
    """
    source = "shapenet.org (shapenetcore_partanno_segmentation_benchmark_v0_normal)"
    splits = shapes(dataset(data, "point_cloud/shapenetpart", source), category)
    frozen = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained)

    def one(seed: int) -> Report:
        return metatx.run(
            splits,
            "point_cloud",
            backbone=frozen,
            tune=tune,
            name=f"ShapeNetPart, {category or 'all categories'}",
            head="segmentation",
            tokenizer_options={"groups": groups, "neighbours": neighbours},
            head_options={"layers": min(layers, frozen.depth), "hidden": hidden},
            settings=metatx.TrainingSettings(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed),
            baseline=baseline and seed == seeds[0],
            out=out and Path(out) / f"seed{seed}",
        )

    return over_seeds(seeds, one)


if __name__ == "__main__":
    command(main)
