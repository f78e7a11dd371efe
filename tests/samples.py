"""Small samples of every modality: the rows of the contract, which the tests of mixes and of the server read too."""

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metatx.backbone.stem import Stem, StemConfig
from metatx.registry import lookup

RNG = np.random.default_rng(0)


def shipped(kind: Literal["tokenizers", "heads"]) -> list[str]:
    """Names of the tokenizers or heads that ship: those of the files in their folder."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / kind).glob("*.py"))


def pooling_heads() -> list[str]:
    """Names of the heads that ship, without those whose answers a language model writes."""
    return [name for name in shipped("heads") if not lookup("heads", name).continues]


@dataclass(frozen=True)
class TokenizerRow:
    samples: list[Any]
    bad_samples: list[Any]
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])


def rows() -> list[dict[str, Any]]:
    """Rows with all types of column, each but the date with missing values."""
    hours = [datetime.datetime(2024, 1 + i % 12, 1 + i, i % 24, 30) for i in range(24)]
    return [
        {
            "age": None if i == 3 else float(RNG.normal(40, 12)),
            "member": None if i == 5 else i % 3 == 0,
            "joined": hours[i],
            "city": None if i == 7 else ["Bern", "Lima", "Oslo"][i % 3],
        }
        for i in range(24)
    ]


def series() -> list[np.ndarray]:
    """Two channels of 20 to 60 steps, some with gaps."""
    samples = [3 * RNG.normal(size=(2, length)) + 5 for length in (40, 40, 20, 60, 33)]
    samples[1][0, 5:9] = np.nan
    samples[4][1, :] = np.nan
    return samples


def texts() -> list[Any]:
    """Texts from one character to more than one sequence, and a pair."""
    return ["so", "A small, quiet film.", "no \U0001f642!", ("Is it raining?", "yes, it is"), "word after word " * 60]


def molecules() -> list[Any]:
    """SMILES of one atom, of ions without a bond, of rings."""
    return ["CC(=O)Oc1ccccc1C(=O)O", "C", "[Na+].[Cl-]", "C1CC1", "C/C=C/C", "N[C@@H](C)C(=O)O"]


def graphs(count: int = 5) -> list[dict[str, Any]]:
    """Rings with numbers of nodes and edges, and one graph with no edge."""
    rings = [
        {
            "edge_index": np.array([np.arange(n), (np.arange(n) + 1) % n]),
            "x": RNG.normal(size=(n, 3)),
            "edge_attr": RNG.normal(size=(n, 2)),
        }
        for n in range(3, 3 + count)
    ]
    return [*rings, {"edge_index": np.zeros((2, 0), dtype=int), "x": RNG.normal(size=(2, 3))}]


def pictures() -> list[np.ndarray]:
    return [RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(4)]


def grey_pictures() -> list[np.ndarray]:
    """Of both depths, and of floats, in sizes that differ."""
    counts = RNG.integers(0, 65_536, (40, 24), dtype=np.uint16)
    return [counts, RNG.integers(0, 256, (28, 28), dtype=np.uint8), RNG.random((9, 30)), counts[::2]]


BAD_PICTURES = [
    "nowhere.png",
    b"",
    b"no image",
    {"bytes": b"no image", "path": None},
    np.zeros((5, 5, 7)),
    np.zeros((0, 4)),
    np.full((8, 8), np.nan),
    np.full((8, 8), np.inf),
    3,
    None,
]


def clips() -> list[Any]:
    """Tones of 0.05 to 1.3 s in noise, in the forms that users have them."""
    lengths = (8000, 8000, 800, 20_800, 9_999)
    waves = [0.1 * RNG.normal(size=n) + np.sin(np.arange(n) / RNG.uniform(2, 20)) / 2 for n in lengths]
    return [*waves[:3], {"array": waves[3], "sampling_rate": 44_100}, np.int16(20_000 * np.stack([waves[4]] * 2) / 2)]


def windows() -> list[Any]:
    """Six channels of 40 to 130 steps, some with a sampling rate of their own."""
    arrays = [RNG.normal(size=(6, length)) + 9 * (RNG.random((6, 1)) > 0.5) for length in (100, 100, 40, 130, 90)]
    return [*arrays[:4], {"signal": arrays[4], "sampling_rate": 80.0}]


def clouds() -> list[Any]:
    """Five columns of 1 to 1500 points, far from the origin, and one cloud of equal points."""
    arrays = [RNG.normal(size=(count, 5)) + 50 for count in (60, 60, 1500, 20, 1)]
    return [*arrays[:3], {"points": arrays[3]}, arrays[4].tolist(), np.full((40, 5), 50.0)]


def films() -> list[Any]:
    """Clips of 1 to 20 frames, as arrays and as a list of pictures."""
    arrays = [RNG.integers(0, 256, (length, 40, 50, 3), dtype=np.uint8) for length in (16, 20, 5, 1)]
    return [*arrays, list(RNG.integers(0, 256, (9, 30, 30, 3), dtype=np.uint8))]


TOKENIZERS = {
    "audio": TokenizerRow(
        clips(),
        [
            "nowhere.wav",
            b"",
            b"no sound",
            {"bytes": b"no sound", "path": "a.mp3"},
            {"array": np.zeros(9), "sampling_rate": 1},
            np.zeros((2, 0)),
            np.zeros((2, 3, 4)),
            np.full(900, np.nan),
            np.full(900, 1e5),
            np.zeros(601 * 16_000),
            ["a", "b"],
            3,
        ],
        [{}, {"tokens": "patches", "window": 1.0}, {"tokens": "both", "augment": "none"}, {"augment": "light"}],
    ),
    "graph": TokenizerRow(
        molecules(),
        ["", "C1CC", "no molecule", None, 3, "C" * 2000, graphs()[0]],
        [{}, {"descriptors": False, "summary": 2}, {"identifiers": 3}],
    ),
    "image": TokenizerRow(
        pictures(),
        [
            "nowhere.png",
            b"no image",
            {"bytes": b"no image", "path": None},
            np.zeros((5, 5, 7)),
            np.full((8, 8, 3), np.nan),
            3,
        ],
        [{}, {"image_size": 48, "freeze_stem": False}, {"augment": "strong"}],
    ),
    "hyperspectral": TokenizerRow(
        list(RNG.normal(5, 2, (6, 30))),
        [np.ones(29), np.full(30, np.nan), np.full(30, np.inf), [], np.ones((2, 30)), "grass", None, {}],
        [{}, {"group_size": 5, "stride": 5, "augment": "strong"}, {"wavelengths": list(range(400, 700, 10))}],
    ),
    "infrared": TokenizerRow(
        grey_pictures(),
        BAD_PICTURES,
        [{}, {"image_size": [48, 16], "flips": "both", "normalize": "instance"}, {"freeze_stem": True}],
    ),
    "imu": TokenizerRow(
        windows(),
        [
            np.zeros((5, 90)),
            np.zeros((6, 9)),
            np.zeros((6, 0)),
            np.zeros((6, 20_001)),
            np.full((6, 90), np.nan),
            np.full((6, 90), np.inf),
            np.full((6, 90), 1e9),
            np.zeros((2, 3, 4)),
            {"signal": np.zeros((6, 90)), "sampling_rate": 0},
            {"acc": np.zeros((3, 90)), "gyro": np.zeros((3, 80))},
            "text",
            None,
        ],
        [{}, {"rotation": 30.0, "frame": 20}, {"sampling_rate": 50.0, "patch_size": 7, "width": 8}],
    ),
    "point_cloud": TokenizerRow(
        clouds(),
        [
            np.zeros((0, 5)),
            np.zeros((9, 2)),
            np.zeros(9),
            np.full((9, 5), np.nan),
            np.full((9, 5), np.inf),
            np.full((9, 5), 1e12),
            {"cloud": np.zeros((9, 5))},
            [["a", "b", "c"]],
            "nowhere.ply",
            3,
            None,
        ],
        [
            {"groups": 8},
            {"time": 4, "slices": 3, "normalize": "training", "augment": {"jitter": 0.01, "dropout": 0.5, "mirror": 1}},
            {"columns": [0, 1, 2], "slices": 1, "points": 50, "augment": {"rotation": 180.0, "scale": 0.1}},
        ],
    ),
    "tabular": TokenizerRow(
        rows(),
        [
            {**rows()[0], "age": "old"},
            {**rows()[0], "age": np.inf},
            {**rows()[0], "joined": "May"},
            {**rows()[0], "member": 7},
            {},
            [1, 2],
        ],
        [{}, {"bins": 4, "hide": 0.3}, {"columns": {"city": "ignore"}}],
    ),
    "text": TokenizerRow(
        texts(),
        ["", " \n", None, np.nan, ["a", ""], ["a", "b", "c"], b"bytes", Path("nowhere.txt"), "word " * 100_000],
        [{}, {"context": 16, "overlap": 4}, {"min_count": 2, "hide": 0.0}],
    ),
    "time_series": TokenizerRow(
        series(),
        [np.zeros((3, 40)), np.full((2, 40), np.nan), np.full((2, 40), np.inf), np.zeros((2, 0)), "text", None],
        [
            {},
            {"channels": "mixed"},
            {"lookback": 30, "patch_size": 8, "stride": 4},
            {"normalize": "training"},
        ],
    ),
    "video": TokenizerRow(
        films(),
        [
            "nowhere.mp4",
            b"",
            b"no film",
            {"bytes": b"no film", "path": "a.webm"},
            np.zeros((8, 8, 3)),
            np.zeros((0, 8, 8, 3), np.uint8),
            np.full((4, 8, 8, 3), np.nan),
            [],
            [1, 2],
            3,
            None,
        ],
        [
            {"frames": 8},
            {"tokens": "slices", "slices": 3, "image_size": [32, 48], "augment": ["flip", "crop", "reverse"]},
            {"tokens": "both", "frames": 6, "tubelet_size": 3, "augment": ["cut"]},
            {"frames": 4, "freeze_stem": True, "augment": ["flip"]},
        ],
    ),
    "xray": TokenizerRow(
        grey_pictures(), BAD_PICTURES, [{}, {"augment": "strong", "photometric": "MONOCHROME1"}, {"image_size": 48}]
    ),
}


def small_stem() -> Stem:
    torch.manual_seed(0)
    stem = Stem(48, StemConfig(patch_size=16, image_size=32)).requires_grad_(False)
    torch.nn.init.normal_(stem.positions, std=0.02)
    return stem


def objects(left: float = 8.0, name: Any = "cat", **more: Any) -> dict[str, Any]:
    """One box in a picture of 96 x 64 pixels."""
    return {"bbox": [[left, 20.0, 24.0, 16.0]], "category": [name], "width": 96, "height": 64, **more}


def halves(count, seed=0):
    """Pictures (48, 64), the left part dark, the right bright, and where: codes 3 and 8, a border of 255."""
    rng = np.random.default_rng(seed)
    pictures, masks = [], []
    for _ in range(count):
        at = int(rng.integers(16, 48))
        mask = np.where(np.arange(64) < at, 3, 8).astype(np.uint8)[None].repeat(48, 0)
        picture = np.where(mask == 3, 40, 200)[..., None] + rng.normal(size=(48, 64, 3)) * 10
        mask[:2] = 255
        pictures.append(picture.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return pictures, masks
