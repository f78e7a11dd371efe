"""JSON for every tokenizer: a sample, or one SampleError; never a file, nor a word of what is on the disk."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from metatx import registry
from metatx.encoding.collate import collate
from metatx.errors import SampleError
from metatx.serving.arrays import with_arrays
from metatx.tokenizer import Tokenizer
from tests.samples import TOKENIZERS, graphs, small_stem

SUFFIXES = (".png", ".txt", ".wav", ".mp4", ".npz", ".ply", ".dcm", ".csv", ".mat", "")
GRAPH = {"edge_index": [[0, 1], [1, 2]]}
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "socket.connect")
SEEN: list[str] = []


def deep(levels: int, mark: str = "[]") -> Any:
    """Lists, or dicts, inside each other, as deep as the server's parser lets them be."""
    return orjson.loads(mark[:-1] * levels + "1" + mark[-1] * levels)


def named(paths: list[str]) -> list[Any]:
    """Files named in every form that a sample may have."""
    forms = [[path, [path], [path, path], {"path": path, "bytes": None}, {"bytes": path}] for path in paths]
    return [*(form for each in forms for form in each), {"points": paths[0]}, {**GRAPH, "x": paths[0]}]


HOSTILE = [
    *(
        None,
        True,
        1,
        -1,
        1.5,
        1e308,
        1e39,
        2**63 - 1,
        2**64 - 1,
        "",
        "a",
        " ",
        "\0",
        "file:///etc/passwd",
        "http://x/y.png",
    ),
    *(
        [],
        [[]],
        [[[]]],
        [[], []],
        [1],
        [[1]],
        [[[1]]],
        [[[[1]]]],
        [None],
        ["a"],
        [["a"]],
        [1, "a"],
        [1, [1]],
        [[1], [1, 2]],
    ),
    *({}, {"a": 1}, {"bytes": [1]}, {"bytes": 5}, {"bytes": [1], "path": [1]}, {"bytes": None, "path": None}),
    *({"path": 5}, {"array": [1], "sampling_rate": "x"}, {"array": "x", "sampling_rate": 16_000}),
    *({"array": [0.1] * 300, "sampling_rate": rate} for rate in (1e300, None, [1], -1, 0)),
    *({"points": {"points": {"points": 1}}}, {"points": None}, {"points": [[1, 2, 3]], "columns": [1]}),
    *({**GRAPH, "num_nodes": count} for count in (1e18, True, "3", [])),
    *({"edge_index": [[0, far], [1, 2]]} for far in (1e300, 1e15, "x", -1)),
    *(deep(levels) for levels in (63, 64, 65, 200, 1000)),
    *([[1e300, -1e300] * 48] * 2, [1e39] * 20, [1e38] * 20, [[3e38] * 96] * 2, [[2**63] * 96] * 2, [[True] * 40] * 2),
    *([["1"] * 40] * 2, [[[[1e308] * 3] * 4] * 4] * 4, [[[-1, 0, 0]] * 4] * 4, [[[2**62, 0, 0]] * 4] * 4),
    *({"sampling_rate": 1}, {"age": deep(500), "member": [], "joined": {}, "city": [1]}),
    *(dict.fromkeys(("age", "member", "joined", "city"), cell) for cell in (1e308, 1e19, "9" * 5_000, "1e999")),
]


@pytest.fixture(scope="module", autouse=True)
def watched() -> Iterator[None]:
    watching = True  # a hook cannot be taken away

    def told(event: str, args: tuple[Any, ...]) -> None:
        place = str(args[0]) if args else ""
        opened = event == "open" and not place.endswith((".py", ".pyc", ".so", ".gz"))
        if watching and (opened or event in STARTS):
            SEEN.append(f"{event} {place}")

    sys.addaudithook(told)
    yield
    watching = False


def fitted(name: str) -> list[Tokenizer]:
    """Of graphs two: one reads molecules."""
    row, cls = TOKENIZERS[name], registry.lookup("tokenizers", name)
    stem = {"stem": small_stem()} if cls.stem == "image" else {}
    found = []
    for samples in [row.samples, graphs()] if name == "graph" else [row.samples]:
        torch.manual_seed(0)
        found.append(cls(48, **row.options[0], **stem).learn(samples))
    return found


def answer(tokenizer: Tokenizer, value: Any) -> Any:
    """The encoded sample, or the message that refuses it; tokens that are not finite are a fault."""
    try:
        encoded = tokenizer.encode(tokenizer.from_json(value))
    except SampleError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return str(error)
    tokens = tokenizer(collate([encoded]))
    tokens = tokens[0] if isinstance(tokens, tuple) else getattr(tokens, "embeddings", tokens)
    assert tokens.isfinite().all()
    return {name: tensor.nan_to_num(0).tolist() for name, tensor in encoded.items()}


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_hostile_json_is_answered_the_same_whatever_is_on_the_disk(name: str, tmp_path: Path) -> None:
    files = [tmp_path / f"a{ending}" for ending in SUFFIXES]
    for tokenizer in fitted(name):
        with np.errstate(all="ignore"), torch.no_grad():
            answer(tokenizer, "words")  # what is loaded once is loaded now
            for file in files:
                file.unlink(missing_ok=True)
            asked = HOSTILE + named([str(file) for file in files])
            before = [answer(tokenizer, value) for value in asked]
            for file in files:
                file.write_text("1,2,3\n")
            SEEN.clear()
            for value, expected in zip(asked, before, strict=True):
                assert answer(tokenizer, value) == expected and SEEN == []


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_an_array_is_read_as_the_lists_that_hold_its_numbers(name: str) -> None:
    rng = np.random.default_rng(0)
    shapes = {(48,), (1, 48), (2, 48), (48, 3), (6, 48), (16, 16), (16, 16, 3), (4, 8, 8, 3)}
    shapes |= {sample.shape for sample in TOKENIZERS[name].samples if isinstance(sample, np.ndarray)}
    for tokenizer in fitted(name):
        read = 0
        for shape in shapes:
            for kind in ("u1", ">i8", "f8"):
                array = rng.integers(0, 100, shape).astype(kind)
                array = array / 100 if kind.startswith("f") else array
                listed = answer(tokenizer, array.tolist())
                assert answer(tokenizer, with_arrays(array)) == listed or isinstance(listed, str), (shape, kind)
                read += not isinstance(listed, str)
        assert read or name in ("graph", "tabular", "text")
