"""Everything that ships keeps its contract: one row of the tables per tokenizer and per head."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from metatx import TokenSequence, registry
from metatx.collate import collate
from metatx.stem import Stem, StemConfig
from metatx.testing import check_head, check_tokenizer

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class TokenizerRow:
    samples: list[Any]
    bad_samples: list[Any]
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])


@dataclass(frozen=True)
class HeadRow:
    targets: list[Any]
    bad_targets: list[Any]
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    prefixes: tuple[int, ...] = (1, 0)
    sequence: Callable[..., TokenSequence] | None = None
    features: Any = None


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
        ["", " \n", None, 3, np.nan, ["a", ""], ["a", "b", "c"], b"bytes", "nowhere.txt", "word " * 100_000],
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
            {"tokens": "slices", "slices": 3, "image_size": [32, 48], "augment": "both"},
            {"tokens": "both", "frames": 6, "tubelet_size": 3, "augment": "cut"},
            {"frames": 4, "freeze_stem": True, "augment": "flip"},
        ],
    ),
    "xray": TokenizerRow(
        grey_pictures(), BAD_PICTURES, [{}, {"augment": "strong", "photometric": "MONOCHROME1"}, {"image_size": 48}]
    ),
}


def behind_a_backbone(channels: str) -> Callable[[int, int, int], TokenSequence]:
    """What the time_series tokenizer gives for two channels, one of them with a gap, and tokens put in front."""

    def sequence(count: int, dim: int, prefix: int) -> TokenSequence:
        samples = [RNG.normal(size=(2, 40)) + RNG.normal() for _ in range(count)]
        for sample in samples[::3]:
            sample[1, :20] = np.nan
        tokenizer = registry.create("tokenizers", "time_series", dim, channels=channels).fit(samples)
        tokens = tokenizer(collate([tokenizer.encode(sample) for sample in samples]))
        longer = [torch.cat([torch.randn(prefix, dim), one]) for one in tokens.embeddings.split(tokens.lengths)]
        embeddings, lengths = torch.cat(longer).detach(), tuple(map(len, longer))
        return replace(tokens, embeddings=embeddings, lengths=lengths, prefix=prefix)

    return sequence


HEADS = {
    "classification": [
        HeadRow(
            ["cat", "dog", "eel"] * 6,
            ["cow", 1, ["cat"], np.nan],
            [{}, {"pooling": "mean", "hidden": 16, "dropout": 0.1}, {"label_smoothing": 0.1}, {"layers": 3}],
        ),
        HeadRow([True, False, False] * 5, ["True"], [{"pooling": "cls"}], prefixes=(1,)),
    ],
    "regression": [
        HeadRow(
            (1000 + 50 * RNG.normal(size=16)).tolist(),
            ["many", np.inf, np.nan],
            [{}, {"objective": "huber", "dropout": 0.1}, {"pooling": "both", "layers": 2}],
        )
    ],
    "forecasting": [
        HeadRow(
            list(RNG.normal(size=(12, 2, 5))),
            [np.zeros((2, 4)), np.full((2, 5), np.inf), "text"],
            [
                {"horizon": 5, "tokens": 4, **more}
                for more in ({}, {"linear": 8}, {"quantiles": [0.1, 0.5, 0.9], "dropout": 0.1})
            ],
            sequence=behind_a_backbone("separate"),
            features=RNG.normal(size=(12, 2, 20)),
        ),
        HeadRow(
            list(RNG.normal(size=(12, 2, 5))),
            [],
            [{"horizon": 5, "tokens": 4, "per_sequence": 2}],
            sequence=behind_a_backbone("mixed"),
            features=RNG.normal(size=(12, 2, 20)),
        ),
    ],
}


def _stem() -> Stem:
    torch.manual_seed(0)
    stem = Stem(48, StemConfig(patch_size=16, image_size=32)).requires_grad_(False)
    torch.nn.init.normal_(stem.positions, std=0.02)
    return stem


TOKENIZER_CASES = [(name, options) for name, row in TOKENIZERS.items() for options in row.options]
HEAD_CASES = [(name, row, options) for name, cases in HEADS.items() for row in cases for options in row.options]


@pytest.mark.parametrize(("kind", "table"), [("tokenizers", TOKENIZERS), ("heads", HEADS)])
def test_everything_that_ships_has_a_row(kind, table):
    assert sorted(table) == registry._shipped(kind)


@pytest.mark.parametrize(("name", "options"), TOKENIZER_CASES)
def test_tokenizer_keeps_the_contract(name, options):
    row = TOKENIZERS[name]
    cls = registry.lookup("tokenizers", name)
    check_tokenizer(cls, row.samples, bad_samples=row.bad_samples, options=options, stem=_stem())


@pytest.mark.parametrize(("name", "row", "options"), HEAD_CASES)
def test_head_keeps_the_contract(name, row, options):
    check_head(
        registry.lookup("heads", name),
        row.targets,
        options=options,
        bad_targets=row.bad_targets,
        prefixes=row.prefixes,
        sequence=row.sequence,
        features=row.features,
    )


@pytest.mark.parametrize("name", ["image", "infrared", "video", "xray"])
def test_a_tokenizer_of_its_own_stem_keeps_the_contract(name):
    samples = films() if name == "video" else pictures()
    check_tokenizer(registry.lookup("tokenizers", name), samples, options={"image_size": 32})


@pytest.mark.parametrize("options", [{}, {"directed": True}])
def test_a_tokenizer_of_graphs_as_arrays_keeps_the_contract(options):
    bad = [{}, "CCO", {**graphs()[0], "edge_index": [[0], [99]]}, {**graphs()[0], "x": np.full((3, 3), np.nan)}]
    check_tokenizer(registry.lookup("tokenizers", "graph"), graphs(), bad_samples=bad, options=options)
