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
from metatx.cli.scripts import recipe_command
from metatx.examples import Examples
from metatx.reading.point_cloud_sets import Parts, read_shapenet_part


def read(folder: Path, *, category: str | None = None) -> dict[str, Examples]:
    """Clouds with the part of each point by split.

    Args:
        folder: Folder as it is published.
        category: Kind of thing, such as Chair; by default all.

    Raises:
        ValueError: If there is no such category.
    """
    splits = {}
    for split, found in read_shapenet_part(folder / "synsetoffset2category.txt").items():
        names = list(found.targets or ())
        if category is not None and category not in names:
            raise ValueError(f"{found.source} names no {category}; it has {', '.join(sorted(set(names)))}.")
        rows = [row for row, name in enumerate(names) if category in (None, name)]
        clouds = type(found.inputs)([found.inputs.paths[row] for row in rows])
        splits[split] = Examples(clouds, Parts(clouds), found.source, rows)
    return splits


RECIPE = metatx.Recipe(
    name="ShapeNetPart",
    place="point_cloud/shapenetpart",
    source="shapenet.org (shapenetcore_partanno_segmentation_benchmark_v0_normal)",
    read=read,
    spec=metatx.TaskSpec(modality="point_cloud", head="segmentation", head_options={"hidden": 128}),
    settings=metatx.TrainingSettings(epochs=20, batch_size=16, lr=2e-3),
    seeds=(0,),
)

if __name__ == "__main__":
    recipe_command(RECIPE)
