"""``metatx picture``."""

from metatx.cli.indexing import conditions
from metatx.cli.lists import names_of

__all__ = ["picture"]


def picture(
    index: str,
    *,
    out: str,
    colour: str | None = None,
    among: str | None = None,
    where: list[str] | None = None,
    sample: int | None = None,
    centre: bool | None = None,
    seed: int = 0,
) -> None:
    """Draw an index as a map: near items are alike. A page shows thumbnails, neighbours and search, without a network.

    Vectors go through PCA and, below 20,000, t-SNE; how far the map can be believed is printed.

    Args:
        index: Folder of the index.
        out: File to write: .html, a page of its own, or .png.
        colour: Column that colours the points; by default the first of 2 to 20 different words.
        among: Modalities to draw, separated by commas; by default all.
        where: Conditions on columns of the items, each an option of its own, as for "metatx search".
        sample: Items to draw, at random; by default all.
        centre: Take off the mean of its modality from each vector; by default where several are drawn.
        seed: Seed of the sample, of t-SNE and of the choice of thumbnails.
    """
    from metatx.retrieval.index import Index

    names = names_of("--among", among) or None
    chosen = conditions(where or [])
    seen = Index.open(index).picture(
        out, colour=colour, among=names, where=chosen, sample=sample, centre=centre, seed=seed
    )
    print(f"{out}: {seen}")
