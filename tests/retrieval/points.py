"""Small points to draw: coloured pictures and their names."""

import numpy as np
from PIL import Image

from metatx.retrieval.previews import Points

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220)}


def coloured(count=60, **columns):
    """Pictures and names of ``count`` items of three colours: 2 * count vectors."""
    rng = np.random.default_rng(0)
    kinds = [list(COLOURS)[number % 3] for number in range(count)]
    names = [f"{kind} thing {number}" for number, kind in enumerate(kinds)]
    centres = {kind: 3 * rng.normal(size=16) for kind in COLOURS}
    vectors = np.stack([centres[kind] + rng.normal(size=16) for kind in kinds * 2])
    samples = [*(Image.new("RGB", (30, 20), COLOURS[kind]) for kind in kinds), *names]
    cells = {"name": names * 2, "kind": kinds * 2, "price": [float(n) / 4 for n in range(2 * count)], **columns}
    modalities = ["image"] * count + ["text"] * count
    return Points(vectors, modalities, cells, lambda rows: [samples[row] for row in rows])
