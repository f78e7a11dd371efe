"""Samples and targets of the saved tasks, the same numbers in every version of NumPy.

Saved answers belong to these samples: add functions, never change what one gives. NumPy promises the same numbers for
ever of ``RandomState``, not of ``default_rng``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

COUNT = 8  # samples of each kind
HORIZON = 5  # steps to forecast
HEIGHT = 20  # pixels of a picture
WIDTH = 24


def rows() -> list[dict[str, Any]]:
    """Rows with a number, a flag, a date and a category, some of them missing."""
    random = np.random.RandomState(1)
    return [
        {
            "age": None if i == 3 else float(random.normal(40, 12)),
            "member": None if i == 5 else i % 3 == 0,
            "joined": f"2024-{1 + i:02}-{1 + 2 * i:02}",
            "city": None if i == 7 else ["Bern", "Lima", "Oslo"][i % 3],
        }
        for i in range(COUNT)
    ]


def table() -> pd.DataFrame:
    """Numbers and categories that decide the column ``kind``."""
    random = np.random.RandomState(2)
    frame = pd.DataFrame({"a": random.normal(size=24), "b": random.choice(["red", "blue"], 24)})
    frame.loc[4, "a"] = np.nan
    frame["kind"] = np.where((frame.a > 0) ^ (frame.b == "red"), "yes", "no")
    return frame


def hours() -> pd.DataFrame:
    """A table of two channels, one row an hour, one value missing."""
    random = np.random.RandomState(3)
    time = pd.date_range("2024-01-01", periods=60, freq="h")
    frame = pd.DataFrame({"date": time, "load": np.sin(np.arange(60) / 4), "wind": random.normal(9, 2, 60)})
    frame.loc[11, "wind"] = np.nan
    return frame


def series() -> list[np.ndarray]:
    """Two channels of 20 to 41 steps, one with a gap."""
    random = np.random.RandomState(4)
    samples = [3 * random.normal(size=(2, 20 + 3 * i)) + 5 for i in range(COUNT)]
    samples[1][0, 5:9] = np.nan
    return samples


def texts() -> list[str]:
    """Texts of one word to several windows of 16 tokens."""
    return [
        "so",
        "A small, quiet film.",
        "no \U0001f642!",
        "Is it raining?",
        "word after word " * 12,
        "The rain in Spain stays mainly in the plain.",
        "quiet, quiet rain",
        "A film after the rain",
    ]


def molecules() -> list[str]:
    """SMILES of one atom, of ions without a bond, of rings."""
    return ["CC(=O)Oc1ccccc1C(=O)O", "C", "[Na+].[Cl-]", "C1CC1", "C/C=C/C", "N[C@@H](C)C(=O)O", "CCO", "c1ccncc1"]


def graphs() -> list[dict[str, Any]]:
    """Rings of 3 to 9 nodes with numbers of nodes and edges, and one graph without an edge."""
    random = np.random.RandomState(5)
    rings = [
        {
            "edge_index": np.array([np.arange(n), (np.arange(n) + 1) % n]),
            "x": random.normal(size=(n, 3)),
            "edge_attr": random.normal(size=(n, 2)),
        }
        for n in range(3, 2 + COUNT)
    ]
    return [*rings, {"edge_index": np.zeros((2, 0), dtype=int), "x": random.normal(size=(2, 3))}]


def pictures() -> list[np.ndarray]:
    """Pictures of three channels and one size."""
    random = np.random.RandomState(6)
    return [random.randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8) for _ in range(COUNT)]


def grey_pictures() -> list[np.ndarray]:
    """Pictures of one channel, in 8 and 16 bits and two sizes."""
    random = np.random.RandomState(7)
    deep = [random.randint(0, 65_536, (HEIGHT, WIDTH)).astype(np.uint16) for _ in range(COUNT // 2)]
    return deep + [random.randint(0, 256, (17, 17)).astype(np.uint8) for _ in range(COUNT // 2)]


def films() -> list[np.ndarray]:
    """Clips of 3 to 10 frames."""
    random = np.random.RandomState(8)
    return [random.randint(0, 256, (3 + i, HEIGHT, WIDTH, 3)).astype(np.uint8) for i in range(COUNT)]


def spectra() -> list[np.ndarray]:
    """Spectra of 16 bands."""
    return list(np.random.RandomState(9).normal(5, 2, (COUNT, 16)))


def clips() -> list[np.ndarray]:
    """Sound at 16 kHz, a tone in noise, of 0.1 to 0.2 s."""
    random = np.random.RandomState(10)
    lengths = [1600 + 200 * i for i in range(COUNT)]
    return [0.1 * random.normal(size=n) + np.sin(np.arange(n) / random.uniform(2, 20)) / 2 for n in lengths]


def motions() -> list[np.ndarray]:
    """Six channels of 40 to 75 steps at 100 Hz."""
    random = np.random.RandomState(11)
    return [random.normal(size=(6, 40 + 5 * i)) for i in range(COUNT)]


def clouds() -> list[np.ndarray]:
    """Clouds of 30 to 44 points."""
    random = np.random.RandomState(12)
    return [random.normal(size=(30 + 2 * i, 3)) + 50 for i in range(COUNT)]


def classes() -> list[str]:
    """Three classes."""
    return [["cat", "dog", "eel"][i % 3] for i in range(COUNT)]


def numbers() -> list[float]:
    """Numbers around a thousand."""
    return (1000 + 50 * np.random.RandomState(13).normal(size=COUNT)).tolist()


def labels() -> list[list[str]]:
    """None to two of three labels."""
    return [[["cat", "dog"], ["eel"], [], ["cat"]][i % 4] for i in range(COUNT)]


def masks() -> list[np.ndarray]:
    """Masks of ``pictures``: three classes in stripes, a border without a class."""
    stripes = [np.tile((np.arange(WIDTH) + 3 * i) // 8 % 3, (HEIGHT, 1)).astype(np.uint8) for i in range(COUNT)]
    for mask in stripes:
        mask[0] = 255
    return stripes


def point_masks() -> list[np.ndarray]:
    """Masks of ``clouds``: the points on either side of a plane."""
    return [(cloud[:, 0] > 50).astype(np.uint8) for cloud in clouds()]


def boxes() -> list[dict[str, Any]]:
    """Objects of ``pictures``: one or two boxes, in the last picture none."""
    objects = []
    for i in range(COUNT):
        bbox = [[1.0 + i, 2.0, 9.0, 7.0], [4.0, 11.0, 8.0, 6.0]][: 1 + i % 2]
        objects.append({"bbox": bbox, "category": ["cat", "dog"][: len(bbox)], "width": WIDTH, "height": HEIGHT})
    objects[-1] |= {"bbox": [], "category": []}
    return objects


def futures() -> list[np.ndarray]:
    """Continuations of ``series``: two channels of five steps."""
    return list(3 * np.random.RandomState(14).normal(size=(COUNT, 2, HORIZON)) + 5)


SAMPLES: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        *(rows, table, hours, series, texts, molecules, graphs, pictures),
        *(grey_pictures, films, spectra, clips, motions, clouds),
    )
}
