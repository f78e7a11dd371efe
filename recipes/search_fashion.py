r"""Search across modalities, end to end: index product photographs and names, search, measure, look at the map.

    python recipes/search_fashion.py --out runs/fashion
    python recipes/search_fashion.py --out runs/fashion --queries '["a silver watch","green flip flops"]' --k 20

nano's own alignment of image and text embeds the 700 pairs of the test split of Fashion Product Images; nothing is
trained and nothing is fetched. Writes ``shop.index``, which ``metatx search`` and ``metatx picture`` read;
``hits.html`` with the photographs that each query finds; ``map.html``, to walk through; and ``items.parquet`` for
Apple's embedding-atlas. Prints recall both ways beside chance.
"""

from pathlib import Path

import numpy as np
from pretrain_contrastive import SETS

import metatx
from metatx.cli.scripts import command
from metatx.data.tables import read_splits
from metatx.evaluation.recipe import dataset
from metatx.metrics.retrieval import chance_ranking, partner_ranking
from metatx.pretraining.alignment import Alignment
from metatx.retrieval.hits_page import Shown, shown_hits, write_hits

NAME = "fashion_products"
AT = (1, 5, 10)


def main(
    *,
    out: str,
    data: str | None = None,
    split: str = "test",
    alignment: str = "nano",
    queries: tuple[str, ...] = ("a red shoe", "a black watch", "blue jeans"),
    k: int = 10,
    colour: str = "masterCategory",
    seed: int = 0,
) -> dict[str, float]:
    """Index, search, measure and draw.

    Args:
        out: Folder for the index and the pages; an index that is there must be of the same items.
        data: Folder of a data set with columns image and text; by default looked up below METATX_DATA.
        split: Split whose pairs are indexed.
        alignment: Folder of an alignment of image and text, or nano.
        queries: Words to search pictures by.
        k: Number of hits of each.
        colour: Column that colours the map.
        seed: Seed of the map.
    """
    table = read_splits(dataset(data, f"image_text/{NAME}", SETS[NAME]), ())[split]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    towers = Alignment.from_pretrained(alignment)
    index = metatx.Index.build(
        folder / "shop.index", towers, {"image": "image", "text": "text"}, items=table, resume=True
    )
    print(f"{index.folder}: {len(index):,} items, {' and '.join(index.modalities)}")

    hits = index.search(list(queries), modality="text", among=["image"], k=k)
    shown = [shown_hits(index.snapshot, found) for found in hits]
    for words, found in zip(queries, shown, strict=True):
        print(f"{words}: {'; '.join(hit.columns['text'] for hit in found[:3])}")
    write_hits(folder / "hits.html", [Shown("text", words) for words in queries], shown, title="Fashion products")

    vectors = {modality: index.vectors(modality)[1] for modality in ("image", "text")}
    names = [row["text"] for row in index.rows(range(len(index)), ["text"])]
    numbers = np.unique(names, return_inverse=True)[1]  # articles of one name are partners of one another
    at = [number for number in AT if number < len(names)]
    lines = {
        f"{asked}_to_{answer}": partner_ranking(vectors[asked], vectors[answer], numbers, numbers, at)
        for asked, answer in (("image", "text"), ("text", "image"))
    }
    print(f"{len(names):,} pairs of the {split} split")
    for name, line in {**lines, "chance": chance_ranking(numbers, numbers, at)}.items():
        print(f"{name:<14}" + ", ".join(f"{measure} {value:.4g}" for measure, value in line.items()))
    measured = {f"{name}_{measure}": value for name, line in lines.items() for measure, value in line.items()}

    seen = index.picture(folder / "map.html", colour=colour, seed=seed)
    print(f"{folder / 'map.html'}: {seen}")
    index.export(folder / "items.parquet", places=seen.points)
    return {**measured, "trustworthiness": seen.trustworthiness, "kept": seen.kept}


if __name__ == "__main__":
    command(main)
